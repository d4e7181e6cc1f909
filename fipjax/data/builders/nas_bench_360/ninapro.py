"""NinaPro DB5, electromyograms: ninapro_{train,val,test}.npy [n, 52, 16] and label_{train,val,test}.npy [n]."""
from __future__ import annotations

import pathlib

import numpy as np

from fipjax.data.builders import reading
from fipjax.data.builders.nas_bench_360.drive import DRIVE
from fipjax.data.builders.prepared import File, Opened, Task
from fipjax.errors import UserError

CLASSES = 18
SPLITS = {'train': 'train', 'validation': 'val', 'test': 'test'}


def open_files(manual_dir: pathlib.Path) -> Opened:
    """x [16, 52, 1]: electrodes x time; y a gesture, as stored 0..17. 2638 / 659 / 659 examples."""
    splits = {split: _split(manual_dir, name) for split, name in SPLITS.items()}
    return Opened({'x': ((16, 52, 1), np.float32), 'y': ((), np.int64)}, splits,
                  tuple(f'gesture {k}' for k in range(CLASSES)))


def _split(folder, name):
    x = reading.npy(folder / f'ninapro_{name}.npy', (None, 52, 16), 'fiu')
    y = reading.npy(folder / f'label_{name}.npy', (None,), 'iuf')
    n = reading.same_length(f'{folder}: {name}', x=x, y=y)
    if (y != np.round(y)).any():
        raise UserError(f'{folder}/label_{name}.npy has labels that are not whole')

    def read(ids):
        for i in ids:
            yield {'x': np.ascontiguousarray(x[i].T[..., None], np.float32), 'y': int(y[i])}
    return reading.gather(np.arange(n), read)


TASK = Task('nas_bench_360/ninapro', 'electromyograms of 16 channels as pictures of 16 x 52 -> 18 gestures. Splits as '
            'published; ORCA joins training and validation.',
            tuple(File(f'{prefix}_{name}.npy', size, DRIVE) for name in SPLITS.values()
                  for prefix, size in (('ninapro', 'about 15 MB for training'), ('label', 'small'))), open_files)
