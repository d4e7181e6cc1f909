"""Cosmic rays in pictures of the Hubble telescope: cosmic/{train,test}_dirs.npy, lists of .npy files [2 or 3, H, W].

Each holds the picture, the mask of rays and, as a third, the mask of pixels to ignore (deepCR, arXiv 1907.09500).
"""
from __future__ import annotations

import pathlib

import numpy as np

from fipjax.data import unpickle
from fipjax.data.builders import reading
from fipjax.data.builders.nas_bench_360 import places
from fipjax.data.builders.nas_bench_360.drive import DRIVE
from fipjax.data.builders.prepared import File, Opened, Task
from fipjax.errors import UserError

CROP = slice(64, 192)
TRAINING = 0.9  # of the published training list; the rest, at its end, is validation


def open_files(manual_dir: pathlib.Path) -> Opened:
    """x, y, ignore [128, 128, 1]: rows and columns 64 to 191 of picture, mask of rays, mask of what does not count.

    group is the folder, an exposure. 4347 / 483 / 420 examples. Nothing is added to the sky; ORCA adds a random share
    of it, to test pictures too.
    """
    lists = {name: _list(manual_dir, name) for name in ('train', 'test')}
    n = int(TRAINING * len(lists['train']))
    parts = {'train': lists['train'][:n], 'validation': lists['train'][n:], 'test': lists['test']}
    shape = (128, 128, 1)
    return Opened({'x': (shape, np.float32), 'y': (shape, np.uint8), 'ignore': (shape, np.uint8), 'group': ((), str)},
                  {split: reading.gather(np.array(files, object), _read) for split, files in parts.items()})


def _list(manual_dir, name):
    path = manual_dir / 'cosmic' / f'{name}_dirs.npy'
    held = unpickle.npy(path)
    if np.ndim(held) != 1 or not all(isinstance(k, str) for k in held):
        raise UserError(f'{path}: expected a list of names of files')
    return places.resolve(held, manual_dir, str(path))


def _read(files):
    for path in files:
        held = reading.npy(path, (None, None, None), 'fiu')
        if held.shape[0] not in (2, 3) or min(held.shape[1:]) < CROP.stop:
            raise UserError(f'{path} has shape {list(held.shape)}; expected [2 or 3, H, W], both at least {CROP.stop}')
        image, mask, *ignore = (np.asarray(layer[CROP, CROP])[..., None] for layer in held)
        mask = reading.as_bool(f'{path}: mask', mask)
        ignore = reading.as_bool(f'{path}: ignore', ignore[0]) if ignore else np.zeros_like(mask)
        yield {'x': image.astype(np.float32), 'y': mask, 'ignore': ignore, 'group': '/'.join(path.parent.parts[-2:])}


TASK = Task('nas_bench_360/cosmic', 'pictures of a telescope, 128 x 128 -> which pixels a cosmic ray has hit. '
            'Validation: the last tenth of the training list; ORCA trains on it too.',
            (File('cosmic', '8.5 GB unpacked: train_dirs.npy, test_dirs.npy and the folders that they list '
                  '(deepCR.ACS-WFC.train.tar 6.5 GB, .test.tar 2 GB)', DRIVE),), open_files)
