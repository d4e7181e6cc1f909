"""CIFAR-100, cifar-100-python.tar.gz with pickles 'meta', 'train', 'test' {'data' uint8 [n, 3072], 'fine_labels'}."""
from __future__ import annotations

import pathlib
import tarfile
import zlib

import numpy as np

from fipjax.data import unpickle
from fipjax.data.builders import reading
from fipjax.data.builders.prepared import File, Opened, Task
from fipjax.errors import UserError

FILE, FOLDER, CLASSES = 'cifar-100-python.tar.gz', 'cifar-100-python', 100
TRAINING = 0.8  # of what is published as training; the rest, at its end, is validation


def open_files(manual_dir: pathlib.Path) -> Opened:
    """x [32, 32, 3] of 0..255, y 0..99. 40k / 10k / 10k examples. Nothing is unpacked: members are read in place."""
    path = manual_dir / FILE
    held = {name: _member(path, name) for name in ('train', 'test', 'meta')}
    names = held['meta'].get('fine_label_names')
    if not isinstance(names, list) or len(set(names)) != CLASSES or not all(isinstance(k, str) for k in names):
        raise UserError(f"{path}: meta: 'fine_label_names' must be {CLASSES} different names")
    parts = {split: _arrays(f'{path}: {split}', held[split]) for split in ('train', 'test')}
    x, y = parts.pop('train')
    n = int(TRAINING * len(x))
    parts = {'train': (x[:n], y[:n]), 'validation': (x[n:], y[n:]), **parts}
    return Opened({'x': ((32, 32, 3), np.uint8), 'y': ((), np.int64)},
                  {split: _rows(*part) for split, part in parts.items()}, tuple(names))


def _member(path, name):
    try:
        with tarfile.open(path) as tar, tar.extractfile(f'{FOLDER}/{name}') as f:
            held = unpickle.objects(f, f'{path}: {name}')
    except KeyError as e:
        raise UserError(f'{path}: no member {FOLDER}/{name}') from e
    except (tarfile.TarError, EOFError, OSError, zlib.error) as e:
        raise UserError(f'{path}: not a tar.gz file that can be read: {e}') from e
    if not isinstance(held, dict):
        raise UserError(f'{path}: {name}: expected a dictionary, found {type(held).__name__}')
    return held


def _arrays(where, held):
    missing = {'data', 'fine_labels'} - set(held)
    if missing:
        raise UserError(f'{where}: no {sorted(missing)[0]!r}; found {sorted(map(str, held))}')
    x, y = np.asarray(held['data']), np.asarray(held['fine_labels'])
    reading.check(f"{where}: 'data'", x.shape, x.dtype, (None, 3072), 'u')
    reading.check(f"{where}: 'fine_labels'", y.shape, y.dtype, (None,), 'iu')
    reading.same_length(where, data=x, fine_labels=y)
    return x, y


def _rows(x, y):
    def read(ids):
        for i in ids:
            yield {'x': np.ascontiguousarray(x[i].reshape(3, 32, 32).transpose(1, 2, 0)), 'y': int(y[i])}
    return reading.gather(np.arange(len(x)), read)


TASK = Task('nas_bench_360/cifar100', 'pictures of 32 x 32 -> 100 classes. Validation: the last fifth of training; '
            'ORCA trains on it too.', (File(FILE, '169 MB', 'https://www.cs.toronto.edu/~kriz/cifar.html',
                                       'eb9058c3a382ffc7106e4002c42a8d85'),), open_files)
