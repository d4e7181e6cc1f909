"""The trivial baseline: pooling, choice on validation, constant answers."""
import numpy as np
import pytest
from sklearn.linear_model import RidgeClassifier
from sklearn.preprocessing import StandardScaler

from fipjax.evaluators import trivial


def test_pooling_is_a_block_mean():
    x = np.random.default_rng(0).normal(size=(3, 28, 42, 2))
    expected = x.reshape(3, 14, 2, 14, 3, 2).mean((2, 4)).reshape(3, -1)
    np.testing.assert_allclose(trivial.features(x), expected)


def test_uneven_groups_cover_everything_once():
    x = np.arange(10.0)[None]
    pooled = trivial.pool_axis(x, 1, 4)  # groups 0-1, 2-4, 5-6, 7-9
    np.testing.assert_allclose(pooled, [[0.5, 3.0, 5.5, 8.0]])
    np.testing.assert_allclose(trivial.pool_axis(x, 1, 20), x)


def test_sequences_keep_mean_and_power():
    x = np.random.default_rng(0).normal(size=(2, 128, 2))
    found = trivial.features(x)
    blocks = x.reshape(2, 64, 2, 2)
    expected = np.concatenate([blocks.mean(2), np.sqrt((blocks ** 2).mean(2))], 1).reshape(2, -1)
    np.testing.assert_allclose(found, expected)


def test_token_counts():
    found = trivial.features(np.asarray([[0, 2, 2, 9]]), vocab=3)
    np.testing.assert_array_equal(found, [[1, 0, 2]])


def splits(seed=0, n=60):
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(3):
        y = rng.integers(0, 3, n)
        x = rng.normal(size=(n, 16, 16, 1)) + y[:, None, None, None] * np.linspace(0, 0.6, 16)[:, None, None]
        out += [x.astype(np.float32), y]
    return out


def test_alpha_is_chosen_on_validation():
    train_x, train_y, validation_x, validation_y, test_x, test_y = splits()
    found = trivial.ridge(*splits(), ('a', 'b', 'c'))
    scaler = StandardScaler().fit(trivial.features(train_x))
    best = {}
    for alpha in trivial.ALPHAS:
        model = RidgeClassifier(alpha=alpha).fit(scaler.transform(trivial.features(train_x)), train_y)
        best[alpha] = [model.score(scaler.transform(trivial.features(x)), y)
                       for x, y in ((validation_x, validation_y), (test_x, test_y))]
    assert found['validation_accuracy'] == max(score for score, _ in best.values())
    assert [found['validation_accuracy'], found['test_accuracy']] == best[found['alpha']]
    assert found['test_accuracy'] > 0.6 > found['chance']
    assert found['name'] == 'ridge on pooled pixels'


def test_test_labels_do_not_reach_the_choice():
    data = splits()
    first = trivial.ridge(*data, ('a', 'b', 'c'))
    data[5] = np.roll(data[5], 7)
    second = trivial.ridge(*data, ('a', 'b', 'c'))
    assert first['alpha'] == second['alpha'] and first['validation_accuracy'] == second['validation_accuracy']
    assert first['test_accuracy'] != second['test_accuracy']


def test_majority_class_breaks_ties_on_validation():
    assert trivial.majority(np.asarray([0, 0, 1]), np.asarray([1, 1]), 3) == 0
    assert trivial.majority(np.asarray([0, 1, 2]), np.asarray([1, 2, 2]), 3) == 2
    assert trivial.majority(np.asarray([2, 1]), np.asarray([0]), 3) == 1


def test_a_single_training_class_is_answered_constantly():
    data = splits()
    data[1] = np.full_like(data[1], 2)
    found = trivial.ridge(*data, ('a', 'b', 'c'))
    assert found['alpha'] is None and found['name'] == 'constant class'
    assert found['test_accuracy'] == found['chance'] == np.mean(data[5] == 2)


def test_empty_split_is_named():
    data = splits()
    data[2], data[3] = data[2][:0], data[3][:0]
    with pytest.raises(ValueError, match='validation split is empty'):
        trivial.ridge(*data, ('a', 'b', 'c'))


def test_unknown_shape_is_named():
    with pytest.raises(ValueError, match=r'\(2, 3\) of float64'):
        trivial.features(np.zeros((2, 3)))
