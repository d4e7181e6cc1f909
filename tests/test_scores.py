"""Metrics of transfer against computations of their own, on the whole split at once."""
import numpy as np
import pytest

from fipjax.data.labelled import Task
from fipjax.evaluators import scores


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def classes(k=4):
    return Task('1d', 'classes', (8, 1), (), tuple('abcdefgh'[:k]), None, '')


def multilabel(k=3):
    return Task('1d', 'multilabel', (8, 1), (k,), tuple('abcdefgh'[:k]), None, '')


def dense(shape, mean=0.0, deviation=1.0):
    scale = {'mean': np.full(shape[-1], mean, np.float32), 'deviation': np.full(shape[-1], deviation, np.float32)}
    return Task('2d', 'dense', (6, 6, 1), shape, (), scale, '')


def area(score, holds):
    """Probability that an example that holds is ranked above one that does not; ties count half."""
    above, below = score[holds][:, None], score[~holds][None]
    return ((above > below) + 0.5 * (above == below)).mean()


def average_precision(score, holds):
    """Sum over thresholds, highest first, of the gain in recall times the precision there."""
    out, before = 0.0, 0.0
    for threshold in np.unique(score)[::-1]:
        taken = score >= threshold
        recall = holds[taken].sum() / holds.sum()
        out, before = out + (recall - before) * holds[taken].mean(), recall
    return out


def test_classes(rng):
    logits = rng.normal(size=(50, 4))
    y = rng.integers(0, 3, 50)  # the last class never occurs
    found = scores.score(classes(), logits, y)
    assert list(found) == ['error', 'macro_f1', 'auroc', 'cross_entropy'] and next(iter(found)) == scores.HEADLINE[
        'classes']
    predicted = logits.argmax(1)
    f1 = []
    for k in range(4):
        hit = ((predicted == k) & (y == k)).sum()
        f1.append(2 * hit / ((predicted == k).sum() + (y == k).sum()))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = {'error': np.mean([a != b for a, b in zip(predicted, y)]), 'macro_f1': np.mean(f1),
                'auroc': np.mean([area(p[:, k], y == k) for k in range(3)]),
                'cross_entropy': np.mean([-np.log(p[i, k]) for i, k in enumerate(y)])}
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-12, err_msg=name)


def test_large_logits_do_not_saturate():
    logits = np.array([[5000.0, 0, 0], [0, 4000, 0], [3000, 2000, 0], [0, 0, 1]])
    y = np.array([0, 1, 1, 2])
    found = scores.score(classes(3), logits, y)
    assert found['auroc'] == pytest.approx(np.mean([area(s, y == k) for k, s in enumerate(
        [np.array([0, -4000, 0, -2]), np.array([-5000, 0, -1000, -2]), np.array([-5000, -4000, -3000, 0])])]))
    assert found['cross_entropy'] == pytest.approx((1000 + np.log(np.exp(-1) * 2 + 1)) / 4)


def test_macro_f1_of_classes_that_never_occur():
    assert scores.macro_f1(np.array([0, 0, 1]), np.array([0, 0, 1])) == 1
    assert scores.macro_f1(np.array([0, 0, 2]), np.array([0, 0, 1])) == pytest.approx(1 / 3)


def test_auroc_leaves_out_what_is_undefined():
    y = np.array([0, 0, 1])
    assert scores.auroc(np.eye(3)[[0, 0, 1]], y) == 1
    assert scores.auroc(np.array([[0.3, 0.1], [0.2, 0.9]]), np.array([[1, 0], [1, 1]])) == 1  # the first always holds
    assert np.isnan(scores.auroc(np.zeros((3, 2)), np.zeros(3, int)))


def test_multilabel(rng):
    logits = np.round(rng.normal(size=(60, 4)), 1)  # with ties
    y = (rng.random((60, 4)) < [0.5, 0.1, 0.9, 0]).astype(np.float32)
    found = scores.score(multilabel(4), logits, y)
    assert list(found) == ['map', 'auroc'] and scores.HEADLINE['multilabel'] == 'map'
    assert found['map'] == pytest.approx(np.mean([average_precision(logits[:, k], y[:, k] > 0) for k in range(3)]))
    assert found['auroc'] == pytest.approx(np.mean([area(logits[:, k], y[:, k] > 0) for k in range(3)]))
    assert np.isnan(scores.mean_average_precision(logits, np.zeros((60, 4))))


def test_dense_in_units_of_the_data(rng):
    shape = (5, 4, 3)
    mean, deviation = np.array([1.0, -2, 0], np.float32), np.array([2.0, 0.5, 10], np.float32)
    task = dense(shape)._replace(scale={'mean': mean, 'deviation': deviation})
    y, p = rng.normal(size=(7, *shape)), rng.normal(size=(7, *shape))
    found = scores.score(task, p, y)
    assert list(found) == ['relative_l2', 'nrmse', 'mae'] and scores.HEADLINE['dense'] == 'relative_l2'
    y, p = y * deviation + mean, p * deviation + mean
    ratios = [np.sqrt(((a - b) ** 2).sum()) / np.sqrt((b ** 2).sum()) for a, b in zip(p, y)]
    assert found['relative_l2'] == pytest.approx(np.mean(ratios))
    ratios = [np.sqrt(((a[..., c] - b[..., c]) ** 2).mean()) / np.sqrt((b[..., c] ** 2).mean())
              for a, b in zip(p, y) for c in range(3)]
    assert found['nrmse'] == pytest.approx(np.mean(ratios))
    assert found['mae'] == pytest.approx(np.mean([abs(a - b) for a, b in zip(p.ravel(), y.ravel())]))


def test_with_one_channel_both_relative_errors_are_one(rng):
    y, p = rng.normal(size=(7, 9, 1)), rng.normal(size=(7, 9, 1))
    found = scores.score(dense((9, 1), 2.0, 3.0), p, y)
    assert found['nrmse'] == pytest.approx(found['relative_l2'])


def test_targets_of_zero_are_left_out():
    y, p = np.zeros((2, 4, 1)), np.ones((2, 4, 1))
    y[1] = 2
    assert scores.relative_l2(p, y) == scores.nrmse(p, y) == 0.5
    assert np.isnan(scores.relative_l2(p[:1], y[:1]))


def test_the_whole_split_is_not_the_mean_of_its_parts(rng):
    logits, y = rng.normal(size=(40, 4)), rng.integers(0, 4, 40)
    whole = scores.score(classes(), logits, y)
    parts = [scores.score(classes(), logits[s:s + 10], y[s:s + 10]) for s in range(0, 40, 10)]
    for name in ('auroc', 'macro_f1'):
        assert abs(whole[name] - np.mean([p[name] for p in parts])) > 1e-3


def test_directions():
    perfect = {'classes': (classes(), 9 * np.eye(4), np.arange(4)), 'dense': (dense((4, 1)), np.ones((3, 4, 1)),
               np.ones((3, 4, 1))), 'multilabel': (multilabel(), np.eye(3), np.eye(3))}
    worst = {'classes': -9 * np.eye(4), 'dense': -np.ones((3, 4, 1)), 'multilabel': -np.eye(3)}
    for output, (task, outputs, y) in perfect.items():
        best, bad = scores.score(task, outputs, y), scores.score(task, worst[output], y)
        for name in best:
            assert (best[name] < bad[name]) == (name in scores.LOWER_IS_BETTER), name


@pytest.mark.parametrize('task, outputs, y', [
    (classes(), np.zeros((5, 3)), np.zeros(5, int)), (classes(), np.zeros((4, 4)), np.zeros(5, int)),
    (multilabel(), np.zeros((5, 4)), np.zeros((5, 3))), (dense((4, 1)), np.zeros((5, 4, 2)), np.zeros((5, 4, 1))),
    (classes(), np.zeros((0, 4)), np.zeros(0, int))])
def test_outputs_of_another_shape(task, outputs, y):
    with pytest.raises(ValueError, match='score: outputs have shape'):
        scores.score(task, outputs, y)
