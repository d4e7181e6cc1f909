"""Rows that are classes: what a row holds, draws by (seed, epoch, class) alone, padding, one read for each batch."""
import numpy as np
import pytest

from fipjax.data import pipeline
from fipjax.data.by_class import ByClass
from fipjax.errors import UserError

LABELS = np.array([2, 0, 2, 2, 0, 2, 4, 2, 2, 0])  # three of class 0, six of 2, one of 4, none of 1 and 3


class Source:
    """Examples whose values are their own numbers; counts what is read."""

    def __init__(self, lengths=False):
        self.lengths, self.reads = lengths, []

    def __len__(self):
        return len(LABELS)

    def take(self, rows):
        self.reads.append(np.asarray(rows))
        out = {'id': np.asarray(rows), 'x': np.asarray(rows, np.float32)[:, None] + np.array([1, 100], np.float32)}
        return {**out, 'length': np.asarray(rows, np.int32) + 1} if self.lengths else out


def make(source=None, **how):
    return ByClass(source or Source(), LABELS, 5, **{'epochs': 3, 'per_class': 4, 'devices': 2, 'seed': 1, **how})


def examples(batch, row):
    """Which examples a row of a batch shows."""
    return batch['x'][row, batch['valid'][row], 0].astype(int) - 1


def test_a_row_shows_examples_of_its_class_and_their_share():
    rows = make(per_class=10)
    assert (rows.rows, rows.samples, len(rows), rows.in_order) == (6, 6, 18, True)
    batch = rows.take(np.arange(6))
    assert batch['x'].shape == (6, 6, 2) and batch['x'].dtype == np.float32
    for c in range(5):
        np.testing.assert_array_equal(np.sort(examples(batch, c)), np.flatnonzero(LABELS == c))
    np.testing.assert_allclose(batch['weight'], [0.3, 0, 0.6, 0, 0.1, 0])
    assert batch['weight'].dtype == np.float32 and batch['id'].dtype == np.int32
    np.testing.assert_array_equal(batch['valid'].sum(1), [3, 0, 6, 0, 1, 0])
    assert not batch['x'][~batch['valid']].any()


def test_no_more_than_asked_and_none_twice():
    rows = make()
    batch = rows.take(np.arange(len(rows)))
    assert batch['valid'].sum(1).max() == rows.samples == 4
    for epoch in range(3):
        chosen = examples(batch, epoch * rows.rows + 2)
        assert len(set(chosen)) == 4 and (LABELS[chosen] == 2).all()
    np.testing.assert_allclose(batch['weight'][2::6], 0.6)  # the class's share, not the shown part's


def test_draws_depend_on_seed_epoch_and_class_alone():
    whole = make().take(np.arange(18))
    for row in (14, 2, 8, 14):  # in any order, again, alone or with others, on any number of devices
        alone = make().take([row])
        np.testing.assert_array_equal(alone['x'][0], whole['x'][row])
        epoch, c = divmod(row, 6)
        np.testing.assert_array_equal(make(devices=1).take([epoch * 5 + c])['x'][0], whole['x'][row])
    shown = lambda batch: [frozenset(examples(batch, r)) for r in (2, 8, 14)]  # noqa: E731
    assert len(set(shown(make(epochs=3).take(np.arange(18))))) > 1
    assert shown(whole) != shown(make(seed=2).take(np.arange(18)))


def test_a_batch_is_one_read_of_what_it_shows():
    source = Source(lengths=True)
    batch = make(source).take(np.arange(6))
    assert len(source.reads) == 1 and len(source.reads[0]) == 3 + 4 + 1
    there = batch['valid']
    np.testing.assert_array_equal(batch['length'][there], batch['x'][there][:, 0])
    assert batch['length'].dtype == np.int32 and not batch['length'][~there].any()
    empty = make(source).take([1, 5])  # a class without examples and a row of padding
    assert empty['x'].shape == (2, 4, 2) and not empty['x'].any() and not empty['valid'].any()
    assert not empty['weight'].any()


def test_the_pipeline_evaluates_it_and_splits_it_between_processes():
    rows = make()
    whole = list(pipeline.evaluation(rows, 6))
    assert len(whole) == 3 and all(b['mask'].all() for b in whole)
    halves = [list(pipeline.evaluation(rows, 6, process=p, processes=2)) for p in (0, 1)]
    for epoch, batch in enumerate(whole):
        for key, value in batch.items():
            np.testing.assert_array_equal(np.concatenate([halves[p][epoch][key] for p in (0, 1)]), value)


@pytest.mark.parametrize('labels,message', [
    (LABELS[:9], r'shape \(9,\).*each of the 10 examples'),
    (LABELS.astype(float), 'type float64'),
    (LABELS + 1, 'found 1 to 5; allowed: 0 to 4'),
    (LABELS - 1, 'found -1 to 3; allowed: 0 to 4'),
])
def test_wrong_labels(labels, message):
    with pytest.raises(UserError, match=message):
        ByClass(Source(), labels, 5, epochs=1)
