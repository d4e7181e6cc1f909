"""Batches from a source, with grain: order fixed by the seed, exact resume, the same for any number of processes.

Row numbers are shuffled and batched first and the source then takes a whole batch at once, which costs one vectorised
read instead of one Python call an example.
"""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import grain
import numpy as np

from fipjax.errors import UserError


class Beside(NamedTuple):
    """Examples of another source that every training batch brings along.

    Attributes:
      name: of the entry in the batch; holds what `source.take` gives and 'row' int32, positions in the whole batch.
      source: where they come from.
      batch_size: of all processes together.
    """

    name: str
    source: Any
    batch_size: int


def training(source, batch_size: int, seed: int, *, threads: int = 1, process: int = 0, processes: int = 1,
             beside: Beside | None = None):
    """Endless iterator over shuffled batches; epochs run into each other, so every batch is full.

    A source with the attribute `in_order` is not shuffled.

    Args:
      source: see fipjax.data.sources.
      batch_size: of all processes together.
      seed: of the order; each epoch has another order.
      threads: that read ahead.
      process, processes: this process gets its contiguous part of every batch.
      beside: drawn anew for each batch, without replacement, by seed and number of the batch.

    Returns:
      A grain iterator (Orbax saves and restores it) of dictionaries as `source.take` gives them, plus 'mask', all True.

    Raises:
      UserError: empty source, a batch size that the processes do not divide, or fewer examples beside than asked for.
    """
    if len(source) == 0:
        raise UserError('the training split is empty')
    for n in (batch_size, *([beside.batch_size] if beside else [])):
        if n % processes:
            raise UserError(f'batch_size is {n} and not divisible by the {processes} processes')
    if beside and beside.batch_size > len(beside.source):
        raise UserError(f'{beside.batch_size} {beside.name} examples are asked for in each batch, but there are only '
                        f'{len(beside.source)}')

    def take(number, rows):
        rows = _share(np.asarray(rows), process, processes)
        batch = {**source.take(rows), 'mask': np.ones(len(rows), bool)}
        if beside:
            drawn = np.random.default_rng([seed, 31, number]).choice(len(beside.source), beside.batch_size, False)
            places = _share(np.arange(beside.batch_size, dtype=np.int32), process, processes)
            batch[beside.name] = {**beside.source.take(drawn[places]), 'row': places}
        return batch

    dataset = grain.MapDataset.range(len(source)).seed(seed)
    dataset = dataset if getattr(source, 'in_order', False) else dataset.shuffle()
    dataset = dataset.repeat(None).batch(batch_size).map_with_index(take)
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)
    return iter(dataset.to_iter_dataset(options))


def evaluation(source, batch_size: int, *, process: int = 0, processes: int = 1) -> Iterator[dict]:
    """Every example once, in order. The last batch is padded with copies of a row; 'mask' is False there."""
    for start in range(0, len(source), batch_size):
        rows = np.arange(start, start + batch_size)
        mask = rows < len(source)
        rows, mask = (_share(x, process, processes) for x in (np.minimum(rows, len(source) - 1), mask))
        yield {**source.take(rows), 'mask': mask}


def _share(rows, process, processes):
    """The contiguous part of a batch that one process reads, so that the parts laid end to end are the batch."""
    n = len(rows) // processes
    return rows[process * n:(process + 1) * n]
