"""Writes a file of a task, batch by batch; the same call again goes on where it was stopped or killed.

Finished batches lie as NumPy files in the folder OUT.parts. When all are there, OUT is written from them under a
temporary name, renamed, and the folder removed: OUT is complete or not there. So twice the file's size is needed
on disk for a while. Example i is always computed in batch i // size by the same program, whatever n is.
"""
from __future__ import annotations

import json
import os
import pathlib
import shutil
import zipfile
from collections.abc import Iterator, Mapping

import numpy as np

from fipjax import bars
from fipjax.data.pde import layout, tasks
from fipjax.data.pde.task import GROUPS, Task
from fipjax.errors import UserError
from fipjax.writer import write_json

SETTINGS = 'settings.json'


def write(task: Task, n: int, out: str | os.PathLike, seed: int = 0, resolution: int | None = None,
          parameters: Mapping[str, float] | None = None, progress: bool = True) -> pathlib.Path:
    """Writes n examples to the file `out`.

    Args:
      task: of `tasks.TASKS`.
      n: examples, 1 or more; in a file of groups 10,000 at most.
      out: HDF5 file that is not there yet, in a folder that is.
      seed: 0 to 2^32 - 1.
      resolution: points a side; None: the task's own.
      parameters: all of them by name; None: the task's own.
      progress: whether to show a bar.

    Returns:
      The path of the file.

    Raises:
      UserError: wrong input; a folder of parts of other settings; not enough room; an example that is not finite.
    """
    parameters = dict(task.parameters if parameters is None else parameters)
    points = tasks.resolution_of(task, resolution, parameters)
    settings = {'task': task.name, 'seed': seed, 'resolution': points, 'parameters': parameters, 'batch': task.batch}
    out = pathlib.Path(out)
    folder = out.with_name(out.name + '.parts')
    _check(task, n, out, folder, settings)
    _room(task, n, points, out, folder)
    try:
        folder.mkdir(exist_ok=True)
        write_json(folder / SETTINGS, settings)
        _solve(task, n, folder, settings, progress)
        temporary = folder / 'whole.hdf5'
        layout.write(temporary, task, n, settings, _read(task, n, folder, progress))
        os.replace(temporary, out)
        shutil.rmtree(folder)
    except OSError as e:
        raise UserError(f'--out={out}: cannot be written: {e.strerror or e}. The same command goes on where it '
                        'stopped') from e
    return out


def _check(task, n, out, folder, settings):
    if n < 1:
        raise UserError(f'--n={n}: 1 or more examples')
    if task.layout == GROUPS and n > 10 ** layout.DIGITS:
        raise UserError(f'--n={n}: at most {10 ** layout.DIGITS} for {task.name}, whose groups have four digits')
    if not 0 <= settings['seed'] < 2 ** 32:
        raise UserError(f'--seed={settings["seed"]}: 0 to {2 ** 32 - 1}')
    if not out.name or out.is_dir():
        raise UserError(f'--out={out}: needs the name of a file, e.g. {task.file_name(settings["parameters"])}')
    if out.exists():
        raise UserError(f'--out={out}: exists and is not overwritten; remove it, or choose another name')
    if not out.absolute().parent.is_dir():
        raise UserError(f'--out={out}: no folder {out.parent}')
    if not os.access(out.absolute().parent, os.W_OK):
        raise UserError(f'--out={out}: folder {out.parent} cannot be written to')
    if folder.exists():
        try:
            before = json.loads((folder / SETTINGS).read_text())
        except (OSError, ValueError):
            if folder.is_dir() and all(p.name.startswith('.') for p in folder.iterdir()):  # killed just after mkdir
                return
            raise UserError(f'{folder}: in the way, and not of this command ({SETTINGS} is not there or damaged); '
                            'remove it, or choose another --out') from None
        different = [key for key in settings if before.get(key) != settings[key]]
        if different:
            old, new = (', '.join(f'{k}={values.get(k)}' for k in different) for values in (before, settings))
            raise UserError(f'{folder}: begun with {old} instead of {new}; give what was given before, remove the '
                            'folder, or choose another --out')


def _room(task, n, points, out, folder):
    needed = 2 * task.bytes_of(n, points)
    there = sum(p.stat().st_size for p in folder.iterdir()) if folder.exists() else 0
    free = shutil.disk_usage(out.absolute().parent).free + there
    if free < needed:
        raise UserError(f'--out={out}: {needed / 1e9:.3g} GB are needed for a while, twice the file; '
                        f'{free / 1e9:.3g} GB are free')


def _parts(task, n, folder):
    return [folder / f'{i:06d}.npz' for i in range(-(-n // task.batch))]


def _solve(task, n, folder, settings, progress):
    """Computes the batches that are not there."""
    paths = _parts(task, n, folder)
    run = tasks.solver(task, settings['seed'], settings['resolution'], settings['parameters'])
    there = sum(p.exists() for p in paths)
    with bars.bar(desc=f'pde: {task.name}', total=len(paths) * task.batch, initial=there * task.batch, unit='example',
                  show=progress) as bar:
        for i, path in enumerate(paths):
            if path.exists():
                continue
            found = run(np.arange(i * task.batch, (i + 1) * task.batch))
            _finite(task, i * task.batch, found, settings)
            temporary = path.with_suffix(f'.{os.getpid()}')
            with temporary.open('wb') as f:
                np.savez(f, **found)
                f.flush()
                os.fsync(f.fileno())
            os.replace(temporary, path)
            bar.update(task.batch)


def _finite(task, start, found, settings):
    for name, value in found.items():
        bad = np.flatnonzero(~np.isfinite(value).reshape(len(value), -1).all(1))
        if len(bad):
            made = ', '.join(f'{k}={settings[k]}' for k in ('seed', 'resolution', 'parameters'))
            raise UserError(f'{task.name}: {name} of example {start + bad[0]} is not finite with {made}: beyond what '
                            'the solver can do')


def _read(task, n, folder, progress) -> Iterator[Mapping[str, np.ndarray]]:
    for path in bars.bar(_parts(task, n, folder), desc='pde: file', unit='batch', show=progress):
        try:
            with np.load(path) as file:
                part = dict(file)
        except (ValueError, EOFError, zipfile.BadZipFile):
            path.unlink()
            raise UserError(f'{path}: damaged; removed. The same command again computes it anew') from None
        yield part
