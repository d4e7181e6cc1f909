"""Satellite, series of pixels: satellite_{train,test}.npy, each a pickled dictionary {'data' [n, 46], 'label' [n]}."""
from __future__ import annotations

import pathlib

import numpy as np

from fipjax.data import unpickle
from fipjax.data.builders import reading
from fipjax.data.builders.nas_bench_360.drive import DRIVE
from fipjax.data.builders.prepared import File, Opened, Task
from fipjax.errors import UserError

LENGTH, CLASSES = 46, 24


def open_files(manual_dir: pathlib.Path) -> Opened:
    """x [46, 1], y 0..23 (stored as 1..24). As many examples as test has, the last of training, are validation.

    The benchmark's code also divides each series by its own deviation, ORCA's does not; neither is done here. A pickle
    is in memory as a whole: 322 MB of training.
    """
    x, y = _read(manual_dir / 'satellite_train.npy')
    test = _read(manual_dir / 'satellite_test.npy')
    n = len(x) - len(test[0])
    if n < 1:
        raise UserError(f'{manual_dir}: satellite_train.npy has {len(x)} examples and satellite_test.npy '
                        f'{len(test[0])}; training must have more, since as many are for validation')
    parts = {'train': (x[:n], y[:n]), 'validation': (x[n:], y[n:]), 'test': test}
    return Opened({'x': ((LENGTH, 1), np.float32), 'y': ((), np.int64)},
                  {split: _rows(*part) for split, part in parts.items()},
                  tuple(f'class {k + 1}' for k in range(CLASSES)))


def _read(path):
    held = unpickle.npy(path)
    if not isinstance(held, dict) or not {'data', 'label'} <= set(held):
        found = sorted(held) if isinstance(held, dict) else type(held).__name__
        raise UserError(f"{path}: expected one dictionary with 'data' and 'label'; found {found}")
    x, y = np.asarray(held['data']), np.asarray(held['label'])
    reading.check(f"{path}: 'data'", x.shape, x.dtype, (None, LENGTH), 'fiu')
    reading.check(f"{path}: 'label'", y.shape, y.dtype, (None,), 'iu')
    reading.same_length(str(path), data=x, label=y)
    if y.min() < 1 or y.max() > CLASSES:
        raise UserError(f"{path}: 'label' goes from {y.min()} to {y.max()}; expected 1..{CLASSES}")
    return x, y


def _rows(x, y):
    def read(ids):
        for i in ids:
            yield {'x': x[i, :, None].astype(np.float32), 'y': int(y[i]) - 1}
    return reading.gather(np.arange(len(x)), read)


TASK = Task('nas_bench_360/satellite', 'series of 46 satellite measurements of a pixel -> 24 land covers. Validation: '
            'the last of training, as many as test has; ORCA trains on both.',
            (File('satellite_train.npy', '322 MB', DRIVE), File('satellite_test.npy', '35 MB', DRIVE)), open_files)
