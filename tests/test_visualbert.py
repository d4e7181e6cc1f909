"""VisualBERT: equal to transformers, by hand from its description, what it sees and what it does not."""
import functools

import jax
import numpy as np
import pytest
import vl_batches

from fipjax.models.convert import tables
from fipjax.models.convert import visualbert as convert


def read(state):
    return tables.read(convert.model(state), state, 'golden')[0]


@functools.cache
def model(tied=True, **changes):
    return vl_batches.model('visualbert', width=16, depth=3, heads=4, tied=tied, **changes)


@pytest.mark.parametrize('wide', [True, False], ids=['float64', 'float32'])
def test_equal_to_transformers(wide):
    with jax.enable_x64(wide):
        batch, state, want = vl_batches.golden('visualbert', wide)
        close = functools.partial(np.testing.assert_allclose, rtol=0 if wide else 1e-6,
                                  atol=1e-10 if wide else 1e-5)
        params = read(state)
        for made, head in ((model(), 'tied'), (model(tied=False), 'untied')):
            seen = jax.jit(made.encode)(params['base'], batch)
            logits = made.word_logits(params, seen.words)
            close(logits[batch['token_mask']], want[head][batch['token_mask']])
            close(vl_batches.cross_entropy(logits, want['labels']), want[f'{head}_loss'])
        close(seen.words[batch['token_mask']], want['words'][batch['token_mask']])
        close(seen.regions[batch['region_mask']], want['regions'][batch['region_mask']])
        close(made.pooled(params['base'], seen, batch, 'first'), want['pooled'])
        last = made.pooled(params['base'], seen, batch, 'last_word')
        # What stands before the final [SEP]: texts of 7, 4 and 3 pieces.
        close(last, np.stack([want['words'][0, 5], want['words'][1, 2], want['words'][2, 1]]))


def test_converted_parameters_have_the_shapes_of_fresh_ones():
    params = read(vl_batches.golden('visualbert', False)[1])
    made = vl_batches.model('visualbert', width=16, depth=3, heads=4, tied=False, vocab=11, features=6, length=9)
    fresh = jax.eval_shape(made.init, jax.random.key(0))
    assert jax.tree.map(np.shape, params) == jax.tree.map(lambda s: s.shape, {k: fresh[k] for k in ('base', 'words')})


def test_segment_and_position_of_regions_and_no_boxes(float64):
    params, batch = vl_batches.random_params(model()), vl_batches.batch()
    base, encode = params['base'], jax.jit(model().encode)
    plain = encode(base, batch).words
    e = base['embeddings']
    shift = np.linspace(-1, 1, 16)
    moved = {**e, 'region_position': e['region_position'] + shift,
             'projection': {**e['projection'], 'bias': e['projection']['bias'] - shift}}
    np.testing.assert_allclose(encode({**base, 'embeddings': moved}, batch).words, plain, atol=1e-12)
    other = {**e, 'region_segments': e['region_segments'] + np.array([[0], [5.0]])}  # segment 1 is nobody's
    np.testing.assert_array_equal(encode({**base, 'embeddings': other}, batch).words, plain)
    np.testing.assert_array_equal(encode(base, {**batch, 'boxes': batch['boxes'] * 0}).words, plain)
    far = encode(base, {**batch, 'features': batch['features'] + batch['region_mask'][:, :, None]})
    assert (np.abs(far.words - plain).max((1, 2)) > 1e-4).tolist() == [True, True, True, False]  # no region there
