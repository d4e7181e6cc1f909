"""Darcy flow: piececonst_r421_N1024_smooth{1,2}.mat with 'coeff' and 'sol' [1024, 421, 421]."""
from __future__ import annotations

import pathlib

import numpy as np

from fipjax.data.builders import matfile, reading
from fipjax.data.builders.nas_bench_360.drive import DRIVE
from fipjax.data.builders.prepared import File, Opened, Task
from fipjax.errors import UserError

STEP = 5  # every fifth point of 421: 85
TRAINING, VALIDATION, TEST = 900, 100, 100


def open_files(manual_dir: pathlib.Path) -> Opened:
    """x [85, 85, 3]: coefficient and the two coordinates in [0, 1]; y [85, 85, 1]: pressure. 900 / 100 / 100 examples.

    Training and validation are the first thousand of smooth1, test the first hundred of smooth2. The arrays of 1.5 GB
    are read plane by plane. ORCA trains on the thousand; it and the benchmark standardise every point by itself.
    """
    first, second = (manual_dir / f'piececonst_r421_N1024_smooth{k}.mat' for k in (1, 2))
    x, y = (_thinned(first, name, TRAINING + VALIDATION) for name in ('coeff', 'sol'))
    test = tuple(_thinned(second, name, TEST) for name in ('coeff', 'sol'))
    shapes = {a.shape[1:] for a in (x, y, *test)}
    if len(shapes) > 1:
        raise UserError(f'{manual_dir}: coeff and sol have different grids: {sorted(shapes)} (every {STEP}th point)')
    size = x.shape[1:]
    parts = {'train': (x[:TRAINING], y[:TRAINING]), 'validation': (x[TRAINING:], y[TRAINING:]), 'test': test}
    return Opened({'x': ((*size, 3), np.float32), 'y': ((*size, 1), np.float32)},
                  {split: _rows(*part) for split, part in parts.items()})


def _thinned(path, name, n):
    shape, planes = matfile.planes(path, name)
    if shape[0] < n or shape[1] != shape[2]:
        raise UserError(f'{path}: {name} has shape {list(shape)}; expected [n, s, s], n at least {n}')
    kept = [np.ascontiguousarray(plane[:n, ::STEP], np.float32) for k, plane in enumerate(planes) if k % STEP == 0]
    return np.stack(kept, -1)


def _rows(x, y):
    axes = (np.linspace(0, 1, n) for n in x.shape[:0:-1])
    grid = np.stack(np.meshgrid(*axes), -1).astype(np.float32)

    def read(ids):
        for i in ids:
            yield {'x': np.concatenate((x[i, ..., None], grid), -1), 'y': y[i, ..., None]}
    return reading.gather(np.arange(len(x)), read)


TASK = Task('nas_bench_360/darcy', 'diffusion coefficient on 85 x 85 of 421 x 421 points -> steady pressure. Training '
            'and validation: the first 900 and the next 100 of smooth1, test: the first 100 of smooth2.',
            tuple(File(f'piececonst_r421_N1024_smooth{k}.mat', '1.6 GB', DRIVE) for k in (1, 2)), open_files)
