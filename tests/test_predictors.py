"""Predictors against loops in NumPy and against PyTorch."""
import math

import jax
import numpy as np
import pytest
from test_encoders import golden

from fipjax.errors import UserError
from fipjax.models import predictors

rng = np.random.default_rng(0)


def randomised(predictor):
    shapes = jax.eval_shape(predictor.init, jax.random.key(0))
    return jax.tree.map(lambda s: rng.normal(0, 0.5, s.shape), shapes)


def test_classification_sees_valid_tokens_only(float64):
    predictor = predictors.classification(4, 3)
    params, tokens = randomised(predictor), rng.normal(size=(3, 5, 4))
    count = np.array([5, 1, 0])
    mask = np.arange(5) < count[:, None]
    kernel, bias = params['linear']['kernel'], params['linear']['bias']
    wanted = [t[:n].sum(0) / max(n, 1) @ kernel + bias for t, n in zip(tokens, count)]
    np.testing.assert_allclose(predictor.apply(params, tokens, mask), wanted, rtol=1e-12)
    np.testing.assert_allclose(predictor.apply(params, tokens, None)[0], wanted[0], rtol=1e-12)
    assert predictors.mean_token(tokens, None).shape == (3, 4)


@pytest.mark.parametrize('shape', [(12, 12, 3), (5, 7, 1), (16, 3, 2), (4, 30, 5)])
def test_dense_pictures_are_those_of_pytorch(shape, float64):
    arrays, _ = golden('operations')
    predictor = predictors.dense_image(4, (3, 3), 12, shape)
    params = {'linear': {'kernel': arrays['kernel'], 'bias': arrays['bias']}}
    got = jax.jit(predictor.apply)(params, arrays['tokens'], None)
    assert got.shape == (2, *shape)
    np.testing.assert_allclose(got, arrays['field_{}_{}_{}'.format(*shape)], rtol=0, atol=1e-12)


def test_dense_pictures_of_224_pixels_have_3072_numbers_a_token():
    predictor = predictors.dense_image(8, (7, 7), 224, (16, 16, 1))
    shapes = jax.eval_shape(predictor.init, jax.random.key(0))
    assert shapes['linear']['kernel'].shape == (8, 3072)
    with pytest.raises(ValueError, match='no mask'):
        predictor.apply({}, np.zeros((1, 49, 8)), np.ones((1, 49), bool))


@pytest.mark.parametrize('size, out', [(7, 7), (8, 4), (7, 3), (3, 1), (3, 5), (2, 9)])
def test_pooling_by_loops(size, out):
    x = rng.normal(size=size)
    wanted = [np.mean([x[i] for i in range(size) if i >= o * size // out and i * out < (o + 1) * size])
              for o in range(out)]
    np.testing.assert_allclose(x @ predictors.pooling(size, out), wanted, rtol=1e-12)


@pytest.mark.parametrize('length', [12, 10])
def test_dense_sequences(length, float64):
    predictor = predictors.dense_sequence(5, 3, 4, (length, 2))
    params, tokens = randomised(predictor), rng.normal(size=(2, 3, 5))
    got = predictor.apply(params, tokens, None)
    assert got.shape == (2, length, 2)
    for b, i, k in np.ndindex(2, length, 2):
        column = i % 4 * 2 + k
        wanted = tokens[b, i // 4] @ params['linear']['kernel'][:, column] + params['linear']['bias'][column]
        np.testing.assert_allclose(got[b, i, k], wanted, rtol=1e-10)
    np.testing.assert_array_equal(predictor.apply(params, tokens, np.ones((2, 3), bool)), got)


def test_a_dense_target_longer_than_its_input_is_refused():
    with pytest.raises(UserError, match='y has 13 samples, but x only 3 chunks of 4'):
        predictors.dense_sequence(5, 3, 4, (13, 2))


def test_predictors_start_small_but_not_at_zero():
    params = predictors.classification(64, 100).init(jax.random.key(0))['linear']
    assert 0.018 < np.std(params['kernel']) < 0.022 and (np.asarray(params['bias']) == 0).all()


def test_answers_by_hand(float64):
    predictor = predictors.answers(6, 3)
    params, x = randomised(predictor), rng.normal(size=(4, 6))
    dense, norm, linear = params['transform']['dense'], params['transform']['norm'], params['linear']
    for row, got in zip(x, predictor.apply(params, x), strict=True):
        h = row @ dense['kernel'] + dense['bias']
        h = np.array([v * (1 + math.erf(v / 2 ** 0.5)) / 2 for v in h])
        h = (h - h.mean()) / np.sqrt(h.var() + 1e-12) * norm['scale'] + norm['bias']
        np.testing.assert_allclose(got, h @ linear['kernel'] + linear['bias'], rtol=1e-10)
    start = predictors.answers(768, 100).init(jax.random.key(0))
    assert np.asarray(start['transform']['norm']['scale']).tolist() == [1] * 768
    assert 0.016 < np.std(start['linear']['kernel']) < 0.019 and np.abs(start['linear']['kernel']).max() < 0.0401
    assert not np.asarray(start['linear']['bias']).any()
