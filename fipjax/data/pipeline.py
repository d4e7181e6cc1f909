"""Batches from a source, with grain: order fixed by the seed, exact resume, the same for any number of processes.

Row numbers are shuffled and batched first and the source then takes a whole batch at once, which costs one vectorised
read instead of one Python call an example.
"""
from __future__ import annotations

from collections.abc import Iterator

import grain
import numpy as np

from fipjax.errors import UserError


def training(source, batch_size: int, seed: int, *, threads: int = 1, process: int = 0, processes: int = 1):
    """Endless iterator over shuffled batches; epochs run into each other, so every batch is full.

    Args:
      source: see fipjax.data.sources.
      batch_size: of all processes together.
      seed: of the order; each epoch has another order.
      threads: that read ahead.
      process, processes: this process gets its contiguous part of every batch.

    Returns:
      A grain iterator (Orbax saves and restores it) of dictionaries as `source.take` gives them, plus 'mask', all True.

    Raises:
      UserError: empty source or a batch size that the processes do not divide.
    """
    if len(source) == 0:
        raise UserError('the training split is empty')
    if batch_size % processes:
        raise UserError(f'batch_size is {batch_size} and not divisible by the {processes} processes')

    def take(rows):
        rows = _share(np.asarray(rows), process, processes)
        return {**source.take(rows), 'mask': np.ones(len(rows), bool)}

    dataset = grain.MapDataset.range(len(source)).seed(seed).shuffle().repeat(None).batch(batch_size).map(take)
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
