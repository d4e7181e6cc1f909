"""Batches: order by seed, epochs, resuming, the parts of several processes, padding of the last one."""
import itertools

import numpy as np
import pytest
import tiny

from fipjax.data import pipeline
from fipjax.data.sources import ArraySource
from fipjax.errors import UserError


def source(n):
    return ArraySource({'sequence': tiny.SEQUENCE}, {
        'sequence': np.broadcast_to(np.arange(n, dtype=np.float32)[:, None, None], (n, 32, 2)),
        'label': np.arange(n) % 3}, ids=np.arange(n) + 100)


def ids(batches, count):
    return np.stack([b['id'] for b in itertools.islice(batches, count)])


def test_batches_hold_rows_that_belong_together():
    batch = next(pipeline.training(source(10), 4, seed=0))
    np.testing.assert_array_equal(batch['inputs']['sequence'][:, 0, 0] + 100, batch['id'])
    np.testing.assert_array_equal((batch['id'] - 100) % 3, batch['label'])
    assert batch['mask'].tolist() == [True] * 4


def test_order_is_fixed_by_the_seed():
    a, b, c = (ids(pipeline.training(source(20), 4, seed=s), 12) for s in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert (a != c).any()


@pytest.mark.parametrize('threads', [1, 3])
def test_order_does_not_depend_on_threads(threads):
    np.testing.assert_array_equal(ids(pipeline.training(source(20), 4, 1, threads=threads), 12),
                                  ids(pipeline.training(source(20), 4, 1, threads=2), 12))


def test_every_epoch_has_every_example_once_in_another_order():
    stream = ids(pipeline.training(source(10), 4, seed=0), 25).ravel()  # 10 epochs that do not end with batches
    epochs = stream.reshape(10, 10)
    for epoch in epochs:
        assert sorted(epoch) == list(range(100, 110))
    assert len({e.tobytes() for e in epochs}) == 10
    assert epochs[0].tolist() != list(range(100, 110))


def test_batches_larger_than_the_data():
    batches = ids(pipeline.training(source(3), 8, seed=0), 3)
    assert batches.shape == (3, 8)
    assert all(sorted(e) == [100, 101, 102] for e in batches.ravel().reshape(8, 3))


@pytest.mark.parametrize('taken', [0, 1, 7])
def test_resuming_goes_on_exactly(taken):
    whole, first = pipeline.training(source(10), 4, seed=5), pipeline.training(source(10), 4, seed=5)
    wanted = ids(whole, taken + 9)
    ids_before = [next(first)['id'] for _ in range(taken)]
    state = first.get_state()
    rest = [next(first)['id'] for _ in range(3)]  # further than the state
    again = pipeline.training(source(10), 4, seed=5)
    again.set_state(state)
    np.testing.assert_array_equal(np.array([*ids_before, *ids(again, 9)]), wanted)
    np.testing.assert_array_equal(rest, wanted[taken:taken + 3])


def test_processes_share_a_batch():
    whole = ids(pipeline.training(source(20), 6, seed=0), 8)
    parts = [ids(pipeline.training(source(20), 6, seed=0, process=p, processes=3), 8) for p in range(3)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)


def test_refusals():
    with pytest.raises(UserError, match='batch_size is 5 and not divisible by the 2 processes'):
        pipeline.training(source(9), 5, seed=0, processes=2)
    empty = source(1)
    empty.ids = empty.ids[:0]
    with pytest.raises(UserError, match='empty'):
        pipeline.training(empty, 5, seed=0)


@pytest.mark.parametrize('n, batch', [(10, 4), (8, 4), (3, 4), (1, 4)])
def test_evaluation_sees_every_example_once_and_marks_padding(n, batch):
    batches = list(pipeline.evaluation(source(n), batch))
    assert all(len(b['id']) == batch == len(b['mask']) for b in batches)
    got, mask = np.concatenate([b['id'] for b in batches]), np.concatenate([b['mask'] for b in batches])
    assert got[mask].tolist() == list(range(100, 100 + n))
    assert (got[~mask] == 99 + n).all() and mask[:n].all() and not mask[n:].any()
    assert len(batches) == -(-n // batch)


def test_evaluation_parts_of_processes_are_the_whole():
    whole = list(pipeline.evaluation(source(10), 4))
    parts = [list(pipeline.evaluation(source(10), 4, process=p, processes=2)) for p in range(2)]
    for b, *shares in zip(whole, *parts, strict=True):
        for key in ('id', 'mask'):
            np.testing.assert_array_equal(np.concatenate([s[key] for s in shares]), b[key])


def test_examples_beside_are_drawn_by_seed_and_batch_and_shared_by_processes():
    beside = pipeline.Beside('other', source(12), 4)
    given = [b['other'] for b in itertools.islice(pipeline.training(source(10), 4, seed=3, beside=beside), 8)]
    again = [b['other'] for b in itertools.islice(pipeline.training(source(10), 4, seed=3, beside=beside), 8)]
    for batch, same in zip(given, again, strict=True):
        assert len(set(batch['id'])) == 4 and set(batch['id']) <= set(range(100, 112))
        np.testing.assert_array_equal(batch['id'], same['id'])
        np.testing.assert_array_equal(batch['inputs']['sequence'][:, 0, 0] + 100, batch['id'])
        np.testing.assert_array_equal(batch['row'], np.arange(4))
    assert len({tuple(b['id']) for b in given}) > 4
    parts = [[b['other'] for b in itertools.islice(
        pipeline.training(source(10), 4, seed=3, beside=beside, process=p, processes=2), 8)] for p in (0, 1)]
    for whole, first, second in zip(given, *parts, strict=True):
        for key in ('id', 'row', 'label'):
            np.testing.assert_array_equal(whole[key], np.concatenate([first[key], second[key]]))


def test_examples_beside_go_on_where_they_were():
    make = lambda: pipeline.training(source(10), 4, seed=3, beside=pipeline.Beside('other', source(12), 4))  # noqa: E731
    one, two = make(), make()
    wanted = [next(one)['other']['id'] for _ in range(6)][3:]
    for _ in range(3):
        next(two)
    three = make()
    three.set_state(two.get_state())
    for ids_ in wanted:
        np.testing.assert_array_equal(next(three)['other']['id'], ids_)


def test_more_beside_than_there_are_is_refused():
    with pytest.raises(UserError, match='13 other examples are asked for in each batch, but there are only 12'):
        pipeline.training(source(10), 4, seed=3, beside=pipeline.Beside('other', source(12), 13))


def test_a_source_that_asks_for_it_is_read_in_order():
    ordered = source(10)
    ordered.in_order = True
    np.testing.assert_array_equal(ids(pipeline.training(ordered, 5, seed=3), 3).ravel(),
                                  np.r_[0:10, 0:5] + 100)
