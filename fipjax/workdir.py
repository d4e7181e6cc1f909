"""A run's folder: one process at a time, one config for ever."""
from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pathlib
import socket

from ml_collections import ConfigDict

from fipjax import config as config_lib
from fipjax.errors import Busy, UserError
from fipjax.writer import write_atomically

# Settings that change how a run is carried out and not what comes out of it; a resumed run may have others.
FREE = ('checkpoint.every', 'checkpoint.keep', 'log_every', 'parallel.mode', 'data.threads', 'data.cache',
        'threads', 'plan', 'device_memory', 'init.checkpoint')  # init.sha256 says what is in it
EXPECTED = '.expected.'  # what data are checked for when they are read changes nothing either

STARTED = ('metrics.jsonl', 'checkpoints', 'result.json')  # one of these is there as soon as a run has done something


@contextlib.contextmanager
def claim(path: str | os.PathLike, config: ConfigDict):
    """Makes the folder, locks it for this process and writes config.json, or checks that it is the same.

    Of the processes of one run the first one does so for all.

    Yields:
      pathlib.Path of the folder.

    Raises:
      UserError: the folder cannot be written, or holds a run of another config (the first keys that differ are named).
      Busy: another process has the lock. The kernel frees it when a process dies, however it dies.
    """
    import jax  # here: check_config alone needs no JAX
    path = pathlib.Path(path).absolute()
    if jax.process_index() != 0:
        yield path
        return
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = (path / '.lock').open('a+')
    except OSError as e:
        raise UserError(f'--workdir={path}: cannot be written: {e.strerror}') from e
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            lock.seek(0)
            raise Busy(f'--workdir={path}: another process works in it ({lock.read().strip() or "unknown"}); wait for '
                       'it, stop it or choose another --workdir') from e
        except OSError as e:
            raise UserError(f'--workdir={path}: cannot be locked: {e.strerror}') from e
        lock.seek(0)
        lock.truncate()
        lock.write(f'process {os.getpid()} on {socket.gethostname()}')
        lock.flush()
        check_config(path, config)
        write_atomically(path / 'config.json', config_lib.to_json(config) + '\n')
        yield path


def check_config(path: pathlib.Path, config: ConfigDict) -> None:
    """Raises UserError if the folder holds a run of another config, or the config asks for a plan.

    One that ended before its first row is no run.
    """
    if config.get('plan'):
        raise UserError('plan is True: a plan runs nothing and has no folder; python -m fipjax.main prints it for one '
                        'config')
    file = path / 'config.json'
    if not file.exists() or not any((path / name).exists() for name in STARTED):
        return
    try:
        stored = dict(json.loads(file.read_text(encoding='utf-8')))
    except (ValueError, TypeError) as e:
        raise UserError(f'{file}: not valid JSON ({e}); choose another --workdir') from e
    changed = [d for d in config_lib.differences(stored, json.loads(config_lib.to_json(config)))
               if d.split(':')[0] not in FREE and EXPECTED not in f'.{d.split(":")[0]}']
    if changed:
        raise UserError(f'--workdir={path} holds a run of another config: {"; ".join(changed[:4])}'
                        f'{" ..." if len(changed) > 4 else ""} (stored != asked for); choose another --workdir')
