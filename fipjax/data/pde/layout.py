"""PDEBench's two HDF5 layouts, as its code writes them.

SINGLE, for what its JAX generators made: one float32 array a quantity for all examples, [n, t, x] or [n, t, x, y]
(Darcy's coefficient `nu` is [n, x, y]), not compressed; `x-coordinate`, `y-coordinate`, `t-coordinate` float32, the
last one longer than there are frames; the parameters are attributes of the file.
GROUPS, for what its NumPy and Clawpack generators made: a group a seed, '0000', '0001', ..., in it `data` float32
[t, x, c] or [t, x, y, c], `grid/x`, `grid/y`, `grid/t` float32, and the attribute `config`, a YAML text whose section
`sim` has the parameters. Compressed with lzf, but not for the shallow water.
Of ours: the attribute `fipjax` of the file, JSON, says how it was made, so that no one takes it for the official file.
"""
from __future__ import annotations

import json
import pathlib
from collections.abc import Iterable, Mapping

import numpy as np
import yaml

from fipjax.data.pde.task import GROUPS, Task

DIGITS = 4  # of a group's name; more would no longer sort by number
PLAIN = ('shallow_water',)  # groups that are not compressed


def write(path: pathlib.Path, task: Task, n: int, settings: Mapping, parts: Iterable[Mapping[str, np.ndarray]]) -> None:
    """Writes a whole file from parts {dataset: [rows, ...]}, whose rows together are n or more; the rest is dropped.

    Args:
      path: of the file, overwritten.
      task: whose file it is.
      n: examples.
      settings: seed, resolution and parameters, see `write.settings_of`.
      parts: in order; read once.
    """
    import h5py
    points, parameters = settings['resolution'], settings['parameters']
    with h5py.File(path, 'w') as file:
        file.attrs['fipjax'] = json.dumps({**settings, 'n': n}, sort_keys=True)
        coordinates = {name: np.asarray(value, np.float32)
                       for name, value in task.coordinates(points, parameters).items()}
        store = _groups if task.layout == GROUPS else _single
        start = 0
        add = store(file, task, n, settings, coordinates)
        for part in parts:
            stop = min(n, start + len(next(iter(part.values()))))
            add(start, {name: value[:stop - start] for name, value in part.items()})
            start = stop


def _single(file, task, n, settings, coordinates):
    for name, shape in task.shape(settings['resolution']).items():
        file.create_dataset(name, (n, *shape), np.float32)
    for name, value in coordinates.items():
        file.create_dataset(name, data=value)
    for name, parameter in task.attributes.items():
        file.attrs[name] = settings['parameters'][parameter]

    def add(start, part):
        for name, value in part.items():
            file[name][start:start + len(value)] = value

    return add


def _groups(file, task, n, settings, coordinates):
    how = {} if task.name in PLAIN else {'compression': 'lzf'}

    def add(start, part):
        for row, data in enumerate(part['data'], start):
            group = file.create_group(f'{row:0{DIGITS}d}')
            group.create_dataset('data', data=data, **how)
            for name, value in coordinates.items():
                group.create_dataset(name, data=value, **how)
            sim = {**settings['parameters'], 'xdim': settings['resolution'], 'seed': row}
            group.attrs['config'] = yaml.safe_dump({'name': task.name, 'sim': sim}, sort_keys=False)

    return add
