"""Spherical CIFAR-100: s2_cifar100.gz, a gzipped pickle {'train', 'test': {'images' [n, 3, 60, 60], 'labels' [n]}}."""
from __future__ import annotations

import gzip
import pathlib

import numpy as np

from fipjax.data import unpickle
from fipjax.data.builders import reading
from fipjax.data.builders.nas_bench_360.drive import DRIVE
from fipjax.data.builders.prepared import File, Opened, Task
from fipjax.errors import UserError

CLASSES = 100
TRAINING = 0.8  # of what is published as training; the rest, at its end, is validation


def open_files(manual_dir: pathlib.Path) -> Opened:
    """x [60, 60, 3] of 0..255, y 0..99. 40k / 10k / 10k examples.

    A pickle is in memory as a whole, here 650 MB of pictures and for a moment twice that.
    """
    path = manual_dir / 's2_cifar100.gz'
    with gzip.open(path) as f:
        held = unpickle.objects(f, path)
    parts = {}
    for split in ('train', 'test'):
        if not isinstance(held, dict) or not isinstance(held.get(split), dict):
            raise UserError(f"{path}: no dictionary {split!r}; expected {{'train', 'test'}}")
        for name in ('images', 'labels'):
            if not isinstance(held[split].get(name), np.ndarray):
                raise UserError(f'{path}: {split}: no array {name!r}; found {sorted(held[split])}')
        x, y = held[split]['images'], held[split]['labels']
        reading.check(f'{path}: {split} images', x.shape, x.dtype, (None, 3, 60, 60), 'uif')
        reading.check(f'{path}: {split} labels', y.shape, y.dtype, (None,), 'iu')
        reading.same_length(f'{path}: {split}', images=x, labels=y)
        parts[split] = x, y
    x, y = parts.pop('train')
    n = int(TRAINING * len(x))
    parts = {'train': (x[:n], y[:n]), 'validation': (x[n:], y[n:]), **parts}
    whole = all(x.dtype == np.uint8 for x, _ in parts.values())
    kind = np.uint8 if whole else np.float32
    return Opened({'x': ((60, 60, 3), kind), 'y': ((), np.int64)},
                  {split: _rows(*part, kind) for split, part in parts.items()}, tuple(map(str, range(CLASSES))))


def _rows(x, y, kind):
    def read(ids):
        for i in ids:
            yield {'x': np.ascontiguousarray(x[i].transpose(1, 2, 0), kind), 'y': int(y[i])}
    return reading.gather(np.arange(len(x)), read)


TASK = Task('nas_bench_360/spherical', 'pictures of CIFAR-100 projected on a sphere, 60 x 60 -> 100 classes. '
            'Validation: the last fifth of training; ORCA trains on it too.',
            (File('s2_cifar100.gz', '272 MB', DRIVE),), open_files)
