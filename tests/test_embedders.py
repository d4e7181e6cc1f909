"""Embedders against loops in NumPy, and resizing against PyTorch."""
import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from test_encoders import golden

from fipjax import config as config_lib
from fipjax.data.labelled import Task
from fipjax.errors import UserError
from fipjax.models import embedders, encoders

rng = np.random.default_rng(0)


def encoder(family):
    return encoders.build(ConfigDict({**config_lib.ENCODER, 'family': family, 'remat': False}))


def task(shape, vocab=0):
    return Task({1: 'text', 2: '1d', 3: '2d'}[len(shape)], 'classes', shape, (), ('a', 'b'), None, '', vocab)


def randomised(embedder):
    """Parameters, none of them 0 or 1, of the forms that init makes."""
    shapes = jax.eval_shape(embedder.init, jax.random.key(0))
    return jax.tree.map(lambda s: rng.normal(0, 0.5, s.shape), shapes)


def embedded(params, pieces):
    """Linear, LayerNorm, positions: pieces [N, P] of one example -> [N, width]."""
    out = []
    for n, piece in enumerate(pieces):
        h = piece @ params['projection']['kernel'] + params['projection']['bias']
        h = (h - h.mean()) / np.sqrt(h.var() + 1e-5) * params['norm']['scale'] + params['norm']['bias']
        out.append(h + params['positions'][n] if 'positions' in params else h)
    return np.array(out)


def resized(x, size):
    """Bilinear interpolation pixel by pixel, coordinates at pixel centres and clamped to the picture: [H, W, C]."""
    def weights(n, i):
        at = min(max((i + 0.5) * n / size - 0.5, 0), n - 1)
        low = min(int(at), n - 1)
        high = min(low + 1, n - 1)
        return (low, 1 - (at - low)), (high, at - low)

    out = np.zeros((size, size, x.shape[-1]))
    for i, j in np.ndindex(size, size):
        out[i, j] = sum(a * b * x[y, u] for y, a in weights(x.shape[0], i) for u, b in weights(x.shape[1], j))
    return out


@pytest.mark.parametrize('shape, positions', [((8, 8, 2), True), ((5, 11, 3), False)])
def test_pictures(shape, positions, float64):
    embedder = embedders.image(shape, 8, 4, 8, positions)
    params, x = randomised(embedder), rng.normal(size=(2, *shape))
    assert ('positions' in params) == positions
    tokens, mask = jax.jit(embedder.apply)(params, x, None)
    wanted = []
    for picture in x:
        picture = resized(picture, 8)
        wanted.append(embedded(params, [picture[i:i + 4, j:j + 4].ravel() for i in (0, 4) for j in (0, 4)]))
    np.testing.assert_allclose(tokens, wanted, rtol=1e-9, atol=1e-11)
    assert mask is None and (embedder.tokens, embedder.grid, embedder.width) == (4, (2, 2), 8)
    with pytest.raises(ValueError, match='no length'):
        embedder.apply(params, x, np.array([3, 3]))


@pytest.mark.parametrize('size', [5, 6, 16])
def test_resizing_is_that_of_pytorch(size, float64):
    """Through an embedder of single pixels that LayerNorm leaves on a known scale."""
    arrays, _ = golden('operations')
    x = arrays['picture']
    for picture, wanted in zip(x, arrays[f'resized_{size}']):
        np.testing.assert_allclose(resized(picture, size), wanted, atol=1e-12)
    embedder = embedders.image(x.shape[1:], size, 1, 4, False)
    params = randomised(embedder)
    tokens, _ = embedder.apply(params, x, None)
    wanted = [embedded(params, p.reshape(-1, 2)) for p in arrays[f'resized_{size}']]
    np.testing.assert_allclose(tokens, wanted, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize('length, chunk, tokens', [(12, 4, 3), (10, 4, 3), (5, 5, 1), (5, 1, 5)])
def test_sequences(length, chunk, tokens, float64):
    embedder = embedders.sequence((length, 2), chunk, 6)
    params, x = randomised(embedder), rng.normal(size=(3, length, 2))
    apply = jax.jit(embedder.apply)
    got, mask = apply(params, x, None)
    assert mask is None and (embedder.tokens, embedder.grid, embedder.chunk) == (tokens, None, chunk)
    padded = np.concatenate([x, np.zeros((3, tokens * chunk - length, 2))], 1)
    wanted = [embedded(params, [p[i * chunk:(i + 1) * chunk].ravel() for i in range(tokens)]) for p in padded]
    np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-11)
    valid = np.array([0, 1, length])
    again, mask = apply(params, x, valid)
    np.testing.assert_array_equal(again, got)
    holds = [[any(t * chunk <= i < (t + 1) * chunk for i in range(n)) for t in range(tokens)] for n in valid]
    np.testing.assert_array_equal(mask, holds)


def test_a_constant_signal_gives_finite_tokens_and_gradients():
    embedder = embedders.sequence((8, 1), 4, 6)
    params, x = embedder.init(jax.random.key(0)), np.zeros((2, 8, 1), np.float32)
    value = lambda p: (embedder.apply(p, x, None)[0] ** 2).sum()  # noqa: E731
    result, gradient = jax.value_and_grad(value)(params)
    assert np.isfinite(result) and all(np.isfinite(g).all() for g in jax.tree.leaves(gradient))


@pytest.mark.parametrize('family, shape, chunk, wanted', [
    ('vit', (28, 20, 1), 0, (64, (8, 8), 64, 0)), ('bert', (32, 32, 3), 0, (64, (8, 8), 64, 0)),
    ('swin', (16, 16, 2), 0, (256, (16, 16), 24, 0)), ('vit', (400, 8), 0, (58, None, 64, 7)),
    ('bert', (64, 1), 0, (64, None, 64, 1)), ('bert', (65, 1), 0, (33, None, 64, 2)),
    ('vit', (400, 8), 100, (4, None, 64, 100)), ('vit', (30, 1), 0, (30, None, 64, 1)),
])
def test_chosen_by_rank(family, shape, chunk, wanted):
    to = encoder(family)
    chosen = embedders.choose(task(shape), to, chunk)
    assert (chosen.tokens, chosen.grid, chosen.width, chosen.chunk) == wanted
    params = jax.eval_shape(chosen.init, jax.random.key(0))
    assert ('positions' in params) == (family != 'swin')
    tokens, mask = jax.eval_shape(chosen.apply, params, jax.ShapeDtypeStruct((2, *shape), np.float32), None)
    assert tokens.shape == (2, chosen.tokens, to.token_width) and mask is None


def test_what_does_not_fit_is_refused():
    with pytest.raises(UserError, match=r'encoder.family.*16 x 16.*\(400, 8\).*use encoder.family vit or bert'):
        embedders.choose(task((400, 8)), encoder('swin'), 0)
    with pytest.raises(UserError, match=r'encoder.family.*x is text with shape \(9,\); use encoder.family vit or bert'):
        embedders.choose(task((9,), 50), encoder('swin'), 0)
    for chunk in (-1, 401):
        with pytest.raises(UserError, match=rf'chunk is {chunk}; allowed: 1..400'):
            embedders.choose(task((400, 8)), encoder('vit'), chunk)


@pytest.mark.parametrize('epsilon', [1e-12, 0.3])
def test_texts(epsilon, float64):
    embedder = embedders.text(7, 5, 64, epsilon)
    if epsilon == 1e-12:  # BERT's
        embedder = embedders.choose(task((5,), 7), encoder('bert'), 4)  # chunk is for signals
    assert (embedder.tokens, embedder.grid, embedder.width, embedder.chunk) == (5, None, 64, 0)
    params = randomised(embedder)
    assert jax.tree.map(np.shape, params) == {'words': (7, 64), 'positions': (5, 64), 'segments': (2, 64),
                                              'norm': {'scale': (64,), 'bias': (64,)}}
    x = np.array([[2, 6, 0, 3, 1], [5, 5, 4, 0, 0]], np.int32)
    tokens, mask = jax.jit(embedder.apply)(params, x, None)
    assert mask is None
    for i, j in np.ndindex(2, 5):
        h = params['words'][x[i, j]] + params['positions'][j] + params['segments'][0]
        h = (h - h.mean()) / np.sqrt(h.var() + epsilon) * params['norm']['scale'] + params['norm']['bias']
        np.testing.assert_allclose(tokens[i, j], h, rtol=1e-9, atol=1e-11)
    again, mask = jax.jit(embedder.apply)(params, x, np.array([5, 2]))
    np.testing.assert_allclose(again, tokens, rtol=1e-9, atol=1e-11)
    np.testing.assert_array_equal(mask, [[True] * 5, [True, True, False, False, False]])


def test_texts_start_as_bert_does():
    params = embedders.text(900, 8, 192).init(jax.random.key(3))
    np.testing.assert_array_equal(params['norm']['scale'], np.ones(192))
    np.testing.assert_array_equal(params['norm']['bias'], np.zeros(192))
    # Normal numbers of 0.02 at width 768 and twice that at a quarter of it, cut at two deviations (0.8796 is left).
    for name in ('words', 'positions', 'segments'):
        assert np.abs(params[name]).max() <= 0.08
    assert np.std(params['words']) == pytest.approx(0.04 * 0.8796, rel=0.01)
