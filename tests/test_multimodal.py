"""The masked autoencoder's functions against NumPy, and what they must not depend on."""
import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
import tiny

from fipjax.algorithms import fip
from fipjax.errors import UserError
from fipjax.models import multimodal
from fipjax.models.transformer import MASKED

NAMES = tuple(tiny.MODALITIES)


@pytest.fixture
def parameters(float64):
    return tiny.cast(tiny.params(), np.float64)


def test_tokenizers_of_each_kind(parameters):
    batch, model = tiny.cast(tiny.batch(3), np.float64), tiny.model()
    for m, spec in tiny.MODALITIES.items():
        got = jax.jit(model.tokenize, static_argnums=1)(parameters, m, batch['inputs'][m])
        np.testing.assert_allclose(got, reference.tokenize(parameters, spec, batch['inputs'][m]),
                                   rtol=1e-6, atol=1e-6)  # positions are float32


def test_decoders_of_each_kind(parameters):
    rng, decode = np.random.default_rng(0), jax.jit(tiny.model().decode, static_argnums=1)
    memory, where = rng.normal(size=(2, 5, 16)), np.array([[3, 0], [1, 2]])
    for m, spec in tiny.MODALITIES.items():
        got = decode(parameters, m, where, memory, np.zeros((2, 5)))
        wanted = [reference.decode(parameters['decoders'][m], spec, 2, w, x)
                  for w, x in zip(where, memory, strict=True)]
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


def test_encoder_does_not_see_masked_content_and_predictions_do_not_depend_on_it(parameters):
    batch = tiny.cast(tiny.batch(3), np.float64)
    run = jax.jit(functools.partial(fip.reconstruct, tiny.model(), tiny.MODALITIES, tiny.LEVERS))
    first = jax.device_get(run(parameters, batch, tiny.KEY, 0))
    visible = first.masks.visible
    assert not visible.all() and visible.any()
    other, start = jax.tree.map(np.copy, batch), 0
    for m, spec in tiny.MODALITIES.items():
        own = visible[:, start:start + spec.tokens]
        start += spec.tokens
        cells = own if m == 'text' else own[..., None]
        tokens = reference.tokens_of(spec, batch['inputs'][m])
        changed = np.where(cells, tokens, (tokens + 1) % 7 if m == 'text' else tokens * 5 - 3)
        assert (changed != tokens).any()
        if m == 'image':  # put the patches back by hand
            for n in range(spec.tokens):
                i, j = divmod(n, 2)
                other['inputs'][m][:, i * 4:i * 4 + 4, j * 4:j * 4 + 4] = changed[:, n].reshape(3, 4, 4, 2)
        else:
            other['inputs'][m] = changed.reshape(batch['inputs'][m].shape)
    second = jax.device_get(run(parameters, other, tiny.KEY, 0))
    np.testing.assert_array_equal(first.memory, second.memory)
    for m in NAMES:
        np.testing.assert_array_equal(first.predicted[m], second.predicted[m])
    # And visible content does matter.
    other['inputs']['image'] = batch['inputs']['image'] * 2
    assert np.abs(jax.device_get(run(parameters, other, tiny.KEY, 0)).memory - first.memory).max() > 1e-3


def test_order_of_the_kept_tokens_does_not_matter(parameters):
    rng, model = np.random.default_rng(0), tiny.model()
    encode, decode = jax.jit(model.encode), jax.jit(model.decode, static_argnums=1)
    x, bias = rng.normal(size=(2, 6, 16)), np.where(rng.random((2, 6)) < 0.3, MASKED, rng.normal(size=(2, 6)))
    bias[:, 0] = 0
    order = rng.permutation(6)
    plain, permuted = encode(parameters, x, bias), encode(parameters, x[:, order], bias[:, order])
    np.testing.assert_allclose(plain[:, order], permuted, rtol=1e-10, atol=1e-12)
    where = np.array([[0, 3], [1, 1]])
    np.testing.assert_allclose(decode(parameters, 'image', where, plain, bias),
                               decode(parameters, 'image', where, plain[:, order], bias[:, order]), rtol=1e-9,
                               atol=1e-11)


def test_token_count_of_the_encoder_is_that_of_visible_tokens():
    """Masked tokens cost nothing: only K = sum of the visible counts enter the encoder."""
    run = functools.partial(fip.reconstruct, tiny.model(), tiny.MODALITIES, tiny.LEVERS)
    out = jax.eval_shape(run, tiny.params(), tiny.batch(3), tiny.KEY, 0)
    assert out.memory.shape == (3, 1 + 2 + 4, 16) and out.tokens.shape == (3, 14, 16)
    assert {m: p.shape for m, p in out.predicted.items()} == {
        'image': (3, 3, 32), 'sequence': (3, 2, 16), 'text': (3, 2, 7)}


def test_head_starts_with_equal_logits_and_is_linear_or_has_a_hidden_layer():
    rng = np.random.default_rng(0)
    linear, deep = multimodal.head(16, 3), multimodal.head(16, 3, hidden=5)
    assert {k: v.shape for k, v in linear.init(jax.random.key(0))['logits'].items()} == {
        'kernel': (16, 3), 'bias': (3,)}
    code = rng.normal(size=(2, 16)).astype(np.float32)
    assert (linear.apply(linear.init(jax.random.key(0)), code) == 0).all()
    params = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), deep.init(jax.random.key(0)))
    h = reference.dense(params['hidden'], code)
    wanted = reference.dense(params['logits'], h * 0.5 * (1 + reference.erf(h / np.sqrt(2))))
    np.testing.assert_allclose(deep.apply(params, jnp.asarray(code)), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('changes, key', [(dict(dim=18), 'model.dim'), (dict(heads=3), 'model.dim'),
                                          (dict(decoder_dim=10), 'model.decoder_dim')])
def test_widths_that_do_not_divide_are_refused(changes, key):
    with pytest.raises(UserError, match=key):
        multimodal.build(tiny.MODALITIES, types.SimpleNamespace(**{**vars(tiny.WIDTHS), **changes}), tiny.DEPTHS)


def test_modalities_of_the_same_shape_start_differently():
    spec = {'a': tiny.SEQUENCE, 'b': tiny.SEQUENCE}
    init = multimodal.build(spec, tiny.WIDTHS, {}).init(jax.random.key(0))
    a, b = init['tokenizers']['a'], init['tokenizers']['b']
    assert (a['embedding']['kernel'] != b['embedding']['kernel']).any() and (a['modality'] != b['modality']).any()


def test_statistics_are_those_of_each_channel_and_the_scale_comes_back():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(5, 32, 2)) * [3, 1] + [1, 7]
    clean = np.stack([x[..., 0], np.full((5, 32), 4.0)], -1)  # a constant channel keeps its scale
    got = multimodal.statistics(tiny.SEQUENCE, x, clean)
    np.testing.assert_allclose(got['input']['mean'], [x[..., c].mean() for c in (0, 1)], rtol=1e-6)
    np.testing.assert_allclose(got['input']['deviation'], [x[..., c].std() for c in (0, 1)], rtol=1e-6)
    np.testing.assert_allclose(got['target']['mean'], [x[..., 0].mean(), 4], rtol=1e-6)
    np.testing.assert_allclose(got['target']['deviation'], [x[..., 0].std(), 1], rtol=1e-6)
    standard = multimodal.standardise(x, got['input'])
    np.testing.assert_allclose(standard.reshape(-1, 2).mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(standard.reshape(-1, 2).std(0), 1, rtol=1e-6)
    np.testing.assert_allclose(multimodal.restore_scale(standard, got['input']), x, rtol=1e-6)
    assert multimodal.statistics(tiny.TEXT) == {'input': {}, 'target': {}}
    given = {'sequence': got}
    params = multimodal.build({'sequence': tiny.SEQUENCE}, tiny.WIDTHS, {}).init(jax.random.key(0), given)
    jax.tree.map(np.testing.assert_array_equal, params['statistics'], given)
