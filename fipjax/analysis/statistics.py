"""Intervals for tables and pictures: shares of right answers, means over seeds, paired differences."""
from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from scipy import stats


class Mean(NamedTuple):
    """A mean over seeds; `half` is half the width of its interval, None where there is one seed only."""
    mean: float
    half: float | None
    n: int


class Difference(NamedTuple):
    """A mean difference over shared seeds; `half` and `p` (two-sided) are None with fewer than two pairs."""
    mean: float
    half: float | None
    p: float | None
    n: int


def wilson(correct, count, confidence: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's score interval of a binomial share, element by element.

    Wilson, J. Am. Stat. Assoc. 22 (1927), 209-212: with z the normal quantile, p = correct / count and
    n = count, the interval is (p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n). It stays in [0, 1].

    Args:
        correct: right answers, any shape, each in [0, count].
        count: trials, same shape; 0 gives the uninformative interval [0, 1].
        confidence: coverage in (0, 1).
    Returns:
        (low, high), float64, the shape of `count`.
    Raises:
        ValueError: if an element of `correct` lies outside [0, count].
    """
    correct = np.asarray(correct, np.float64)
    count = np.asarray(count, np.float64)
    if np.any(correct < 0) or np.any(correct > count):
        raise ValueError('wilson: correct must lie between 0 and count')
    z = stats.norm.ppf(0.5 + confidence / 2)
    n = np.maximum(count, 1)
    p = correct / n
    centre = p + z * z / (2 * n)
    half = z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # At p = 0 and p = 1 the exact bound is 0 or 1; rounding would leave 1e-17.
    low = np.where((count == 0) | (correct == 0), 0.0, (centre - half) / scale)
    high = np.where((count == 0) | (correct == count), 1.0, (centre + half) / scale)
    return low, high


def _half_width(values: np.ndarray, confidence: float) -> float:
    quantile = stats.t.ppf(0.5 + confidence / 2, len(values) - 1)
    return float(quantile * values.std(ddof=1) / np.sqrt(len(values)))


def mean_interval(values: Iterable[float], confidence: float = 0.95) -> Mean:
    """Mean and half width of Student's t interval over independent seeds.

    Args:
        values: one number a seed, at least one.
        confidence: coverage in (0, 1).
    Raises:
        ValueError: if there are no values.
    """
    array = np.asarray(list(values), np.float64)
    if array.size == 0:
        raise ValueError('mean_interval: no values')
    half = _half_width(array, confidence) if array.size > 1 else None
    return Mean(float(array.mean()), half, int(array.size))


def paired_difference(ours: Mapping[int, float], baseline: Mapping[int, float],
                      confidence: float = 0.95) -> Difference | None:
    """Mean of ours - baseline over the seeds that both have, with the paired t interval and p-value.

    Pairing by seed takes out what the two share: the labelled subset, the test set, the start.

    Args:
        ours, baseline: value by seed.
        confidence: coverage in (0, 1).
    Returns:
        None where no seed is shared. Where all differences are equal the interval has no width and p is 1 for
        a difference of zero, else 0.
    """
    seeds = sorted(set(ours) & set(baseline))
    if not seeds:
        return None
    values = np.asarray([ours[s] - baseline[s] for s in seeds], np.float64)
    mean = float(values.mean())
    if len(seeds) == 1:
        return Difference(mean, None, None, 1)
    if np.ptp(values) == 0:
        return Difference(mean, 0.0, 1.0 if mean == 0 else 0.0, len(seeds))
    p = float(stats.ttest_1samp(values, 0.0).pvalue)
    return Difference(mean, _half_width(values, confidence), p, len(seeds))
