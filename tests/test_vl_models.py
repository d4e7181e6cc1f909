"""What both models of words and regions promise: sizes, starts, padding, forms of the layers, errors."""
import functools

import jax
import numpy as np
import pytest
import tiny
import vl_batches

from fipjax.errors import UserError
from fipjax.models import stack, vl

NAMES = tuple(vl.VARIANTS)
BERT = {'vocab': 30522, 'features': 2048, 'length': 512}


@functools.cache
def small(name, layers='scan', remat=False):
    sizes = {'width': 8, 'depth': 2, 'heads': 2} if name == 'visualbert' else {}
    return vl_batches.model(name, layers=layers, remat=remat, **sizes)


@functools.cache
def start(name):
    return vl_batches.random_params(small(name))


@functools.cache
def encode(name):
    return jax.jit(small(name).encode)


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def shapes(name, **changes):
    return jax.eval_shape(vl_batches.model(name, **changes).init, jax.random.key(0))


def test_published_sizes():
    """Counts of the public code, less what it has and never uses."""
    # BertModel with pooler is 109.482 million; two segments and the projection of 2048 features on top of it.
    embeddings = count(shapes('visualbert', variant='base', **BERT)['base'])
    assert embeddings == 109_482_240 + 2 * 768 + 768 + 2049 * 768
    # MMF's ViLBERTBase is 246.7 million, of which the layers q_dense1 and q_dense2 of six co-attentions do nothing.
    unused = 6 * (1024 * 1025 + 1025 * 768)
    assert count(shapes('vilbert', variant='base', **BERT)['base']) + unused == pytest.approx(246.7e6, abs=0.05e6)
    minilm = 22_713_216 - 384 * 385  # without its pooler
    base = shapes('visualbert', variant='mini', vocab=30522, features=64, length=512)['base']
    assert count({k: base['embeddings'][k] for k in ('words', 'positions', 'segments', 'norm')}) \
        + count(base['blocks']) == minilm


@pytest.mark.parametrize('name, variant', [(n, v) for n in NAMES for v in vl.VARIANTS[n]])
def test_shapes_of_every_variant(name, variant):
    model, sizes = vl_batches.model(name, variant=variant), vl.VARIANTS[name][variant]
    params, batch = jax.eval_shape(model.init, jax.random.key(0)), vl_batches.batch()
    seen = jax.eval_shape(model.encode, params['base'], batch)
    width = getattr(sizes, 'region_width', sizes.width)
    assert seen.words.shape == (4, 7, sizes.width) and seen.regions.shape == (4, 4, width)
    for pooler in vl.POOLERS:
        pooled = jax.eval_shape(functools.partial(model.pooled, pooler=pooler), params['base'], seen, batch)
        assert pooled.shape == (4, model.pooled_width)
    for function, wide, outputs in ((model.word_logits, sizes.width, vl_batches.VOCAB),
                                    (model.region_outputs, width, vl_batches.OUTPUTS)):
        assert jax.eval_shape(function, params, jax.ShapeDtypeStruct((3, wide), np.float32)).shape == (3, outputs)
    assert set(params) == {'base', 'words', 'regions'}


@pytest.mark.parametrize('name', NAMES)
def test_start_is_that_of_bert(name):
    """Deviation 0.02 at width 768, and with 1 / sqrt(width); a cut at two deviations leaves 0.8796 of it."""
    most = 2 * 0.02 * (768 / vl.VARIANTS[name]['cpu'].width) ** 0.5
    model = vl_batches.model(name, tied=False)
    params = model.init(jax.random.key(1))
    drawn = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if path[-1].key in ('scale', 'bias'):
            assert (np.asarray(leaf) == (path[-1].key == 'scale')).all(), path
        else:
            drawn.append(np.asarray(leaf).ravel())
            assert len(drawn[-1]) < 2000 or abs(drawn[-1].std() / most - 0.4398) < 0.02, path
    everything = np.concatenate(drawn)
    assert 0.995 * most < np.abs(everything).max() < 1.0001 * most and abs(everything.mean()) < 0.005 * most
    assert len(np.unique(everything)) > 0.95 * len(everything)  # no two leaves or layers alike
    assert 'decoder' in params['words'] and 'decoder' not in shapes(name)['words']
    again, other = model.init(jax.random.key(1)), model.init(jax.random.key(2))
    assert tiny.relative(again, params) == 0 and tiny.relative(other, params) > 0.1


@pytest.mark.parametrize('name', NAMES)
def test_padding_changes_nothing(name, float64):
    batch, longer, base = vl_batches.batch(), vl_batches.batch(pad=1), start(name)['base']
    seen = encode(name)(base, batch)
    words, regions = batch['token_mask'], batch['region_mask']
    other = dict(longer)
    for key, mask in (('tokens', 'token_mask'), ('segments', 'token_mask'), ('features', 'region_mask'),
                      ('boxes', 'region_mask')):
        mask = longer[mask].reshape(longer[mask].shape + (1,) * (longer[key].ndim - 2))
        other[key] = np.where(mask, longer[key], 1)
    for padded in (longer, other):
        got = encode(name)(base, padded)
        np.testing.assert_allclose(got.words[:, :7][words], seen.words[words], atol=1e-12)
        np.testing.assert_allclose(got.regions[:, :4][regions], seen.regions[regions], atol=1e-12)
        for pooler in vl.POOLERS:
            np.testing.assert_allclose(small(name).pooled(base, got, padded, pooler),
                                       small(name).pooled(base, seen, batch, pooler), atol=1e-12)


@pytest.mark.parametrize('name', NAMES)
def test_without_valid_regions_nothing_of_the_picture_is_left(name, float64):
    base, batch = start(name)['base'], vl_batches.batch()
    blind = {**batch, 'region_mask': batch['region_mask'] & False}
    other = {**blind, 'features': blind['features'] + 3, 'boxes': blind['boxes'] * 2}
    for pooler in vl.POOLERS:
        one, two = (small(name).pooled(base, encode(name)(base, b), b, pooler) for b in (blind, other))
        np.testing.assert_array_equal(one, two)
        assert np.isfinite(one).all() and np.abs(one).max() > 0


@pytest.mark.parametrize('name', NAMES)
def test_scanned_unrolled_and_rematerialised_layers_are_equal(name, float64):
    base, batch = start(name)['base'], vl_batches.batch()
    seen = encode(name)(base, batch)
    rng = np.random.default_rng(2)
    ways = [rng.normal(size=x.shape) for x in seen]
    results = []
    for layers, remat in (('scan', False), ('scan', True), ('unroll', False)):
        model = small(name, layers, remat)

        def value(base, model=model):
            return sum((x * w).sum() for x, w in zip(model.encode(base, batch), ways, strict=True))

        program = jax.make_jaxpr(value)(base)
        assert ('scan' in {str(e.primitive) for e in program.eqns}) == (layers == 'scan')
        assert ('remat' in str(program) or 'checkpoint' in str(program)) == remat
        results.append(jax.jit(jax.value_and_grad(value))(base))
    for other in results[1:]:
        assert tiny.relative(other, results[0]) < 1e-10
    # Every layer counts, but for the bias of the keys, which the softmax does not see, and the poolers.
    for path, g in jax.tree_util.tree_leaves_with_path(results[0][1]):
        at = jax.tree_util.keystr(path)
        if 'blocks' in at and not at.endswith("['key']['bias']"):
            assert (np.abs(g).reshape(len(g), -1).max(1) > 1e-6).all(), at


@pytest.mark.parametrize('name', NAMES)
def test_the_tied_decoder_is_the_word_embeddings(name, float64):
    params = start(name)
    hidden = np.random.default_rng(0).normal(size=(3, params['base']['embeddings']['words'].shape[1]))
    own = {**params, 'words': {**params['words'], 'decoder': params['base']['embeddings']['words']}}
    untied = vl_batches.model(name, tied=False) if name == 'vilbert' else \
        vl_batches.model(name, tied=False, width=8, depth=2, heads=2)
    tied = small(name).word_logits(params, hidden)
    np.testing.assert_array_equal(tied, untied.word_logits(own, hidden))
    unlike = {**own, 'words': {**own['words'], 'decoder': own['words']['decoder'] + 1}}
    assert np.abs(untied.word_logits(unlike, hidden) - tied).max() > 0.1


@pytest.mark.parametrize('name', NAMES)
def test_standardised_base_sees_features_less_their_mean_by_their_deviation(name, float64):
    rng, base = np.random.default_rng(4), start(name)['base']
    batch = jax.tree.map(lambda x: x[:3], vl_batches.batch())  # every picture has a region
    mean, deviation = rng.normal(size=vl_batches.FEATURES), rng.uniform(0.3, 3, vl_batches.FEATURES)
    changed = vl.standardised(base, mean, deviation)
    seen = encode(name)(changed, batch)
    wanted = encode(name)(base, {**batch, 'features': (batch['features'] - mean) / deviation})
    words, regions = batch['token_mask'], batch['region_mask']
    np.testing.assert_allclose(seen.words[words], wanted.words[words], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(seen.regions[regions], wanted.regions[regions], rtol=1e-12, atol=1e-12)
    assert tiny.relative(encode(name)(base, batch), seen) > 1e-3

    group = 'embeddings' if name == 'visualbert' else 'region_embeddings'
    old, new = (tree[group]['projection'] for tree in (base, changed))
    features = batch['features'].reshape(-1, vl_batches.FEATURES)
    np.testing.assert_allclose(features @ new['kernel'] + new['bias'],
                               (features - mean) / deviation @ old['kernel'] + old['bias'], rtol=1e-12, atol=1e-12)
    back = {**changed, group: {**changed[group], 'projection': old}}
    assert jax.tree.all(jax.tree.map(lambda a, b: a is b, back, base))  # nothing else is changed, and base is not


@pytest.mark.parametrize('name, changes, said', [
    ('lxmert', {}, "^model is 'lxmert'; allowed: visualbert, vilbert"),
    ('visualbert', {'variant': 'huge'}, "network.variant is 'huge'; allowed: cpu, mini, base"),
    ('visualbert', {'layers': 'loop'}, f"network.layers is 'loop'; allowed: {', '.join(stack.LAYERS)}"),
    ('visualbert', {'width': 31}, 'network.width is 31; it must be divisible by network.heads, 2'),
    ('visualbert', {'depth': -1}, 'network.depth is -1; allowed: 0'),
    ('vilbert', {'heads': 2}, 'network.heads is 2, but the sizes of ViLBERT are those of network.variant'),
])
def test_wrong_settings_are_named(name, changes, said):
    with pytest.raises(UserError, match=said):
        vl_batches.model(name, **changes)


def test_sizes_that_are_given_replace_the_variants():
    base = shapes('visualbert', width=12, depth=3, heads=2)['base']
    assert base['blocks']['mlp']['hidden']['kernel'].shape == (3, 12, 48)
    assert vl.sizes_of('visualbert', vl_batches.settings(depth=1)) == vl.VARIANTS['visualbert']['cpu']._replace(depth=1)
