"""Intervals against scipy and hand computation."""
import numpy as np
import pytest
from scipy import stats

from fipjax.analysis import statistics


@pytest.mark.parametrize('correct,count', [(0, 10), (10, 10), (3, 7), (50, 200), (1, 1), (1999, 2000)])
@pytest.mark.parametrize('confidence', [0.9, 0.95])
def test_wilson_is_scipys(correct, count, confidence):
    expected = stats.binomtest(correct, count).proportion_ci(confidence, method='wilson')
    low, high = statistics.wilson(correct, count, confidence)
    np.testing.assert_allclose([low, high], [expected.low, expected.high], atol=1e-12)


def test_wilson_of_arrays_and_of_nothing():
    low, high = statistics.wilson([1, 0], [4, 0])
    assert low.shape == (2,)
    assert (low[1], high[1]) == (0, 1)
    assert 0 < low[0] < 0.25 < high[0] < 1


def test_wilson_refuses_more_right_than_asked():
    with pytest.raises(ValueError, match='between 0 and count'):
        statistics.wilson(5, 4)


def test_mean_interval_by_hand():
    # 1, 2, 3: sd 1, standard error 1/sqrt(3), t(0.975; 2) = 4.302652729911275
    found = statistics.mean_interval([1.0, 2.0, 3.0])
    assert found.mean == pytest.approx(2) and found.n == 3
    assert found.half == pytest.approx(4.302652729911275 / np.sqrt(3))


def test_mean_of_one_seed_has_no_interval():
    assert statistics.mean_interval([0.3]) == (0.3, None, 1)
    with pytest.raises(ValueError):
        statistics.mean_interval([])


def test_paired_difference_is_the_paired_t_test():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 6))
    found = statistics.paired_difference(dict(enumerate(a)), dict(enumerate(b)))
    expected = stats.ttest_rel(a, b)
    interval = expected.confidence_interval(0.95)
    assert found.n == 6
    assert found.mean == pytest.approx(np.mean(a - b))
    assert found.p == pytest.approx(expected.pvalue)
    np.testing.assert_allclose([found.mean - found.half, found.mean + found.half], list(interval))


def test_paired_difference_uses_shared_seeds_only():
    ours = {0: 1.0, 1: 5.0, 2: 3.0}
    baseline = {1: 4.0, 2: 1.0, 7: 100.0}
    found = statistics.paired_difference(ours, baseline)
    assert found.n == 2 and found.mean == pytest.approx(1.5)
    assert statistics.paired_difference({0: 1.0}, {1: 1.0}) is None
    assert statistics.paired_difference({0: 1.0}, {0: 3.0}) == (-2.0, None, None, 1)


def test_paired_difference_without_spread():
    assert statistics.paired_difference({0: 1.0, 1: 1.0}, {0: 1.0, 1: 1.0}) == (0.0, 0.0, 1.0, 2)
    assert statistics.paired_difference({0: 3.0, 1: 3.0}, {0: 1.0, 1: 1.0}) == (2.0, 0.0, 0.0, 2)
