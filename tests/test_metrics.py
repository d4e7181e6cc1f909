"""Metrics add as (sum, count)."""
import numpy as np
import pytest

from fipjax import metrics


def test_sums_and_counts_add_and_the_ratio_is_that_of_the_totals():
    batches = [{'loss': (np.float32(2.0), 4), 'accuracy': (1, 4)}, {'loss': (np.float32(9.0), 1), 'accuracy': (1, 1)}]
    total = None
    for b in batches:
        total = metrics.add(total, b)
    assert metrics.ratio(total) == pytest.approx({'loss': 11 / 5, 'accuracy': 2 / 5})  # not (0.5 + 9) / 2


def test_what_was_never_seen_is_left_out():
    total = metrics.add(metrics.add(None, {'a': (0.0, 0), 'b': (1.0, 2)}), {'a': (0.0, 0), 'b': (1.0, 2)})
    assert metrics.ratio(total) == {'b': 0.5}


def test_adding_is_in_float64():
    total = None
    for _ in range(3):
        total = metrics.add(total, {'a': (np.float32(2 ** 24), np.int32(1)), 'b': (np.float32(1), np.float32(2 ** 24))})
        total = metrics.add(total, {'a': (np.float32(1), np.int32(0)), 'b': (np.float32(0), np.float32(1))})
    assert float(total['a'][0]) == 3 * 2 ** 24 + 3 and float(total['b'][1]) == 3 * 2 ** 24 + 3
