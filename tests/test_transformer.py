"""Transformer parts against NumPy in float64."""
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
import tiny

from fipjax.models import transformer
from fipjax.models.transformer import MASKED

rng = np.random.default_rng(0)
pytestmark = pytest.mark.usefixtures('float64')


def prepared(module, *inputs):
    """Random parameters of a module, none of them 0 or 1, and its compiled function."""
    shapes = jax.eval_shape(module.init, jax.random.key(0), *inputs)['params']
    params = jax.tree.map(lambda s: rng.normal(0, 0.4, s.shape), shapes)
    return params, functools.partial(jax.jit(lambda p, *x: module.apply({'params': p}, *x)), params)


@pytest.mark.parametrize('grid, dim', [((5,), 8), ((2, 3), 8), ((3, 2), 16)])
def test_positions_have_the_closed_form(grid, dim):
    got = transformer.sincos_positions(grid, dim)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, reference.positions(grid, dim), atol=1e-6)
    assert len(np.unique(got, axis=0)) == len(got)


def test_attention_with_biased_and_masked_keys():
    queries, memory = rng.normal(size=(2, 3, 8)), rng.normal(size=(2, 5, 6))
    count = np.array([[1, 2, 3, 1, 1], [1, 0, 0.5, 1, 0]])
    bias = np.where(count > 0, np.log(np.maximum(count, 1e-30)), MASKED)
    params, apply = prepared(transformer.Attention(2), queries, memory, bias)
    wanted = [reference.attention(params, 2, q, m, c) for q, m, c in zip(queries, memory, count, strict=True)]
    np.testing.assert_allclose(apply(queries, memory, bias), wanted, rtol=1e-9, atol=1e-12)


def test_encoder_of_two_blocks():
    x = rng.normal(size=(2, 4, 8))
    params, apply = prepared(transformer.Encoder(2, 2, 2), x, np.zeros((2, 4)))
    wanted = [reference.encode(params, 2, example, np.ones(4)) for example in x]
    np.testing.assert_allclose(apply(x, np.zeros((2, 4))), wanted, rtol=1e-9, atol=1e-11)
    # Tokens behind masked keys are as if they were not there.
    bias = np.array([[0, 0, 0, MASKED], [0, MASKED, 0, MASKED]])
    got = apply(x, bias)
    np.testing.assert_allclose(got[0, :3], reference.encode(params, 2, x[0, :3], np.ones(3)), rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(got[1, [0, 2]], reference.encode(params, 2, x[1, [0, 2]], np.ones(2)), rtol=1e-9,
                               atol=1e-11)
    # All keys masked: no NaN.
    assert np.isfinite(apply(x, np.full((2, 4), MASKED))).all()


def test_decoder_of_two_blocks_answers_each_query_alone():
    x, memory = rng.normal(size=(2, 3, 8)), rng.normal(size=(2, 4, 6))
    params, apply = prepared(transformer.CrossDecoder(2, 2, 5, 2), x, memory, np.zeros((2, 4)))
    got = apply(x, memory, np.zeros((2, 4)))
    assert got.shape == (2, 3, 5)
    table = {'mask_token': np.zeros(8), 'blocks': params}
    for b in range(2):
        for q in range(3):
            # The reference adds positions of a grid; here the query itself is the mask token at position 0.
            own = {**table, 'mask_token': x[b, q] - reference.positions(tiny.SEQUENCE.grid, 8)[0]}
            np.testing.assert_allclose(got[b, q], reference.decode(own, tiny.SEQUENCE, 2, [0], memory[b])[0],
                                       rtol=1e-9, atol=1e-11)


def test_gelu_and_its_two_derivatives_have_the_closed_form():
    x = np.linspace(-8, 8, 161)
    density = np.exp(-x * x / 2) / np.sqrt(2 * np.pi)
    below = np.array([0.5 * math.erfc(-y / math.sqrt(2)) for y in x])
    once = jax.grad(transformer.gelu)
    expected = x * below, below + x * density, (2 - x * x) * density
    for f, y in zip((transformer.gelu, once, jax.grad(once)), expected, strict=True):
        np.testing.assert_allclose(jax.vmap(f)(x), y, atol=1e-13)
    half = jnp.asarray(x, jnp.bfloat16)
    below = np.array([0.5 * math.erfc(-y / math.sqrt(2)) for y in np.float64(half)])
    assert transformer.gelu(half).dtype == jnp.bfloat16
    # Its own rounding is all that half the precision costs.
    np.testing.assert_allclose(np.float64(transformer.gelu(half)), np.float64(half) * below, rtol=2 ** -8, atol=1e-6)


def test_mlp_uses_the_exact_gelu():
    x = rng.normal(size=(3, 8)) * 2
    params, apply = prepared(transformer.Mlp(2), x)
    np.testing.assert_allclose(apply(x), reference.mlp(params, x), rtol=1e-10, atol=1e-12)


def test_attention_has_the_derivatives_of_softmax():
    """First derivatives against jax.nn.softmax, second ones along a direction, with a row of masked keys."""
    q, k, v = (jnp.asarray(rng.normal(size=(2, n, 6))) * 3 for n in (3, 5, 5))
    bias = jnp.asarray(rng.normal(size=(2, 1, 1, 5))).at[0, ..., 2:].set(MASKED)
    head = jnp.asarray(rng.normal(size=(2, 3, 6)))

    def plain(q, k, v, bias):
        q, k, v = (x.reshape(2, -1, 2, 3) for x in (q, k, v))
        weights = jax.nn.softmax(jnp.einsum('bqhd,bkhd->bhqk', q, k) / np.sqrt(3) + bias)
        return jnp.einsum('bhqk,bkhd->bqhd', weights, v).reshape(2, 3, 6)

    both = [jax.grad(lambda *x, f=f: jnp.sum(jnp.sin(f(*x)) * head), (0, 1, 2, 3))
            for f in (plain, lambda q, k, v, bias: transformer.attend(q, k, v, 2, bias))]
    given = q, k, v, bias
    for wanted, got in zip(*(jax.jvp(f, given, tuple(jnp.cos(x) for x in given)) for f in both), strict=True):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(b, a, rtol=1e-9, atol=1e-11), wanted, got)


def test_attention_bears_large_logits():
    q = jnp.asarray([[[1e4, 0.0]]])
    k = jnp.asarray([[[1e4, 0.0], [0.0, 1.0]]])
    out = transformer.attend(q, k, jnp.asarray([[[2.0, 3.0], [5.0, 7.0]]]), 1, jnp.zeros((1, 1, 1, 2)))
    np.testing.assert_allclose(out, [[[2.0, 3.0]]])


@pytest.mark.parametrize('epsilon, offset', [(1e-6, 0), (1e-12, 1e6)])
def test_layer_norm_has_the_closed_form(epsilon, offset):
    """The value, and its derivative d (scale * z) with z' = (g - mean g - z mean(g z)) / deviation."""
    x = rng.normal(size=(3, 7)) + offset
    params, apply = prepared(transformer.LayerNorm(epsilon), x)
    deviation = np.sqrt(x.var(-1, keepdims=True) + epsilon)
    z = (x - x.mean(-1, keepdims=True)) / deviation
    np.testing.assert_allclose(apply(x), z * params['scale'] + params['bias'], rtol=1e-8, atol=1e-8)
    g = rng.normal(size=x.shape)
    got = jax.grad(lambda x: jnp.sum(apply(x) * g))(x)
    g = g * params['scale']
    wanted = (g - g.mean(-1, keepdims=True) - z * (g * z).mean(-1, keepdims=True)) / deviation
    np.testing.assert_allclose(got, wanted, rtol=1e-7, atol=1e-7)


def test_layer_norm_of_half_precision_has_statistics_in_single():
    x = jnp.asarray(rng.normal(size=(4, 64)) + 3, jnp.bfloat16)
    got = transformer.LayerNorm().apply({'params': {'scale': jnp.ones(64, x.dtype), 'bias': jnp.zeros(64, x.dtype)}}, x)
    assert got.dtype == jnp.bfloat16
    exact = np.float64(x)
    exact = (exact - exact.mean(-1, keepdims=True)) / np.sqrt(exact.var(-1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(np.float64(got), exact, rtol=2 ** -8, atol=1e-5)
