"""Checkpoints with Orbax: state and data iterator saved together, checked by sha256 before they are used.

One directory a stage: `<step>/` (Orbax) and `<step>.sha256.json` (size and hash of each file of it). Orbax makes a
step visible only when it is complete; the hashes find what is damaged later.
"""
from __future__ import annotations

import hashlib
import json
import logging
import pathlib
import shutil

import jax
import numpy as np
from jax.experimental import multihost_utils
from orbax.checkpoint import v1 as ocp

from fipjax.errors import UserError
from fipjax.writer import write_json

for _name in ('orbax', 'absl'):
    logging.getLogger(_name).addFilter(lambda r: not (r.levelno <= logging.WARNING and 'orbax' in r.pathname))

UNREADABLE = (ValueError, OSError, KeyError, ocp.errors.InvalidLayoutError)  # what Orbax raises on damaged files


class Checkpoints:
    """Saves and restores one stage.

    Args:
      directory: of the stage; made if absent.
      keep: how many of the newest steps stay.
      warn: called with a text when a damaged checkpoint is passed over.
    """

    def __init__(self, directory: pathlib.Path, keep: int = 2, warn=print):
        self.directory = pathlib.Path(directory).absolute()
        self.directory.mkdir(parents=True, exist_ok=True)
        self.warn, self.keep, self._pending, self._orbax = warn, keep, None, None

    def _checkpointer(self):
        if self._orbax is None:
            self._orbax = ocp.training.Checkpointer(
                self.directory, cleanup_tmp_directories=True,
                preservation_policy=ocp.training.preservation_policies.LatestN(self.keep))
        return self._orbax

    def steps(self) -> list[int]:
        """Complete steps on disk, oldest first."""
        return sorted(int(p.name) for p in self.directory.iterdir() if p.is_dir() and p.name.isdigit())

    def save(self, step: int, state, iterator) -> None:
        """Starts saving in the background; does nothing if this step is there. Call `wait` before the process ends."""
        self.wait()
        if step in self.steps():
            return
        self._pending = step, self._checkpointer().save_checkpointables_async(
            step, dict(state=state, data=iterator), force=True)

    def wait(self) -> None:
        """Returns when the save under way is complete and its hashes are written."""
        if self._pending is None:
            return
        (step, response), self._pending = self._pending, None
        if response is not None:
            response.result()
        if jax.process_index() == 0:
            write_json(self._hashes(step), _hash_files(self.directory / str(step)))
            for old in self.directory.glob('*.sha256.json'):
                if int(old.name.split('.')[0]) not in self.steps():
                    old.unlink()

    def restore(self, abstract_state, iterator):
        """The newest sound checkpoint as (step, state), or None if there is none; sets `iterator`.

        A damaged one is named, moved to `damaged-<step>` and the one before is used.

        Raises:
          UserError: there are checkpoints and none of them can be read.
        """
        steps = self.steps()
        _meet('checkpoints listed')
        for step in reversed(steps):
            problem = self._problem(step)
            if problem is None:
                try:
                    loaded = self._checkpointer().load_checkpointables(step, dict(state=abstract_state, data=iterator))
                    return step, loaded['state']
                except UNREADABLE as e:
                    problem = _first_line(e)
            self._set_aside(step, problem)
        if steps or any(self.directory.glob('damaged-*')):
            raise UserError(f'{self.directory}: none of the checkpoints can be read (they are kept as damaged-*); '
                            'choose another --workdir, or delete this one to start again')
        return None

    def _set_aside(self, step, problem):
        self.close()
        aside = self.directory / f'damaged-{step}'
        _meet(f'checkpoint {step} is damaged')
        if jax.process_index() == 0:
            shutil.rmtree(aside, ignore_errors=True)
            (self.directory / str(step)).rename(aside)
            self._hashes(step).unlink(missing_ok=True)
        _meet(f'checkpoint {step} is set aside')
        self.warn(f'checkpoint {self.directory / str(step)} is damaged ({problem}); it is kept as {aside.name}, '
                  'the one before it is used')

    def _hashes(self, step):
        return self.directory / f'{step}.sha256.json'

    def _problem(self, step) -> str | None:
        return _differs(self.directory / str(step), self._hashes(step))

    def close(self) -> None:
        """Waits and lets go of Orbax's threads."""
        self.wait()
        if self._orbax is not None:
            self._orbax.close()
            self._orbax = None


def _first_line(error: Exception) -> str:
    return f'{type(error).__name__}: {(str(error).splitlines() or [""])[0]}'


def _meet(where: str) -> None:
    """Waits for the other processes, if there are any: before and after one of them moves files."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(where)


def _differs(folder: pathlib.Path, hashes: pathlib.Path) -> str | None:
    """What is wrong with the files of a folder; None if they are as written (or the process died before hashing)."""
    if not hashes.exists():
        return None
    try:
        wanted = dict(json.loads(hashes.read_text()))
    except (ValueError, TypeError):  # also bytes that are no text, and JSON that is no mapping
        return f'{hashes.name} does not hold hashes'
    found = _hash_files(folder)
    for name in sorted(set(wanted) | set(found)):
        if name not in found:
            return f'{name} is missing'
        if name in wanted and wanted[name] != found[name]:
            return f'{name} has {found[name][0]} bytes and another hash; written were {wanted[name][0]} bytes'
    return None


def _hash_files(directory: pathlib.Path) -> dict[str, list]:
    out = {}
    for path in sorted(p for p in directory.rglob('*') if p.is_file()):
        with path.open('rb') as f:
            out[str(path.relative_to(directory))] = [path.stat().st_size, hashlib.file_digest(f, 'sha256').hexdigest()]
    return out


def load_params(workdir: str | pathlib.Path, stage: str = 'pretrain'):
    """Parameters of a finished or running stage of another run, as host arrays (a nested dict).

    Args:
      workdir: the other run's workdir.
      stage: its stage, e.g. 'pretrain'.

    Raises:
      UserError: no such checkpoint, or the newest one is damaged.
    """
    directory = pathlib.Path(workdir).absolute() / 'checkpoints' / stage
    checkpoints = Checkpoints(directory) if directory.is_dir() else None
    steps = checkpoints.steps() if checkpoints else []
    if not steps:
        raise UserError(f'{directory}: no checkpoint there; expected the workdir of a run with a stage {stage!r}')
    problem, loaded = checkpoints._problem(steps[-1]), None
    if problem is None:
        try:
            saved = ocp.checkpointables_metadata(directory / str(steps[-1])).metadata['state']
            # Host arrays: the devices of the other run need not be here.
            host = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), saved, is_leaf=lambda x: hasattr(x, 'dtype'))
            loaded = ocp.load_checkpointables(directory / str(steps[-1]), dict(state=host))
        except UNREADABLE as e:
            problem = _first_line(e)
    if problem is not None:
        raise UserError(f'{directory / str(steps[-1])}: the checkpoint is damaged ({problem})')
    return loaded['state']['state']['params']


def save_params(path: str | pathlib.Path, params) -> None:
    """Keeps parameters (a nested dict) in a folder of their own, complete or not at all; replaces what is there."""
    path = pathlib.Path(path).absolute()
    ocp.save_checkpointables(path, dict(params=params), overwrite=True)
    if jax.process_index() == 0:
        write_json(path.with_name(f'{path.name}.sha256.json'), _hash_files(path))


def read_params(path: str | pathlib.Path):
    """What `save_params` kept, as host arrays (a nested dict).

    Raises:
      UserError: nothing there, or damaged.
    """
    path = pathlib.Path(path).absolute()
    if not path.is_dir():
        raise UserError(f'{path}: no parameters there')
    problem = _differs(path, path.with_name(f'{path.name}.sha256.json'))
    if problem is None:
        try:
            saved = ocp.checkpointables_metadata(path).metadata['params']
            host = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), saved, is_leaf=lambda x: hasattr(x, 'dtype'))
            return ocp.load_checkpointables(path, dict(params=host))['params']
        except UNREADABLE as e:
            problem = _first_line(e)
    raise UserError(f'{path}: the parameters are damaged ({problem})')
