"""DeepSEA: deepsea_filtered.npz with x_{train,val,test} [n, 1000, 4] (bases, one-hot) and y_* [n, 36] of 0 and 1."""
from __future__ import annotations

import pathlib

import numpy as np

from fipjax.data.builders import reading
from fipjax.data.builders.nas_bench_360.drive import DRIVE
from fipjax.data.builders.prepared import File, Opened, Task

SPLITS = {'train': 'train', 'validation': 'val', 'test': 'test'}


def open_files(manual_dir: pathlib.Path) -> Opened:
    """x [1000, 4], y [36] of 0 and 1. About 71k / 2.5k / 150k examples; members of the archive are read row by row."""
    path = manual_dir / 'deepsea_filtered.npz'
    members = {split: (reading.Member(path, f'x_{name}', (None, 1000, 4), 'fiub'),
                       reading.Member(path, f'y_{name}', (None, 36), 'fiub')) for split, name in SPLITS.items()}
    for name, (x, y) in members.items():
        reading.same_length(f'{path}: {name}', x=x, y=y)
    kind = np.float32 if any(x.dtype.kind == 'f' for x, _ in members.values()) else np.uint8
    return Opened({'x': ((1000, 4), kind), 'y': ((36,), np.uint8)},
                  {split: _rows(x, y, kind) for split, (x, y) in members.items()})


def _rows(x, y, kind):
    def read(ids):
        for i in ids:
            yield {'x': x.row(i).astype(kind), 'y': reading.as_bool(f'{y.where}, row {i}', y.row(i))}
    return reading.gather(np.arange(len(x)), read)


TASK = Task('nas_bench_360/deepsea', '1000 bases of DNA, one-hot -> 36 chromatin features. Splits as published; ORCA '
            'joins training and validation.', (File('deepsea_filtered.npz', '860 MB', DRIVE),), open_files)
