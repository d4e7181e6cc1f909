"""Models that several runs share: each is a run of its own, made by the first process that needs it."""
from __future__ import annotations

import hashlib
import json
import os
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence

import jax
from ml_collections import ConfigDict

from fipjax import config as config_lib
from fipjax.analysis import report, runs
from fipjax.errors import Busy, Interrupted, UserError
from fipjax.workdir import FREE, claim
from fipjax.writer import write_json

POLL_SECONDS = 2.0
REPORT = 'checkpoint.txt'  # what became of each tensor of init.checkpoint
# What it means that a key is not there, which came later: models of before keep their names.
ABSENT = {'compute': 'float32', 'kind': 'adamw', 'layer_decay': 1.0}


def plain(settings: Mapping) -> dict:
    """Nested settings without those that have the value of ABSENT, and without another way to compute the same."""
    return {k: plain(v) if isinstance(v, Mapping) else v for k, v in settings.items()
            if k != 'micro_batch' and (k not in ABSENT or v != ABSENT[k])}


def identity(settings: ConfigDict, keys: Sequence[str]) -> str:
    """Twelve hex digits that name a model by the settings at `keys`; of a checkpoint's path, what lies there."""
    names = plain({k: v for k, v in settings.to_dict().items() if k in keys})
    if 'init' in names:
        names['init']['checkpoint'] = ''
    return hashlib.sha256(json.dumps(names, sort_keys=True).encode()).hexdigest()[:12]


def obtain(path: pathlib.Path, settings: ConfigDict, train: Callable[[pathlib.Path], dict], stopped, progress: bool,
           what: str) -> None:
    """Returns when the model at `path` is there: made here, or by the process that is making it.

    Args:
      path: its workdir.
      settings: its config.
      train: makes it in the workdir given and returns its result.json.
      stopped, progress: as for experiments.
      what: its name for people.

    Raises:
      Interrupted: `stopped()` said so while it was trained or waited for.
    """
    while not (path / runs.RESULT).exists():
        try:
            with claim(path, settings):
                if not (path / runs.RESULT).exists():
                    if progress:
                        print(f'training a {what} in {path}', flush=True)
                    result = train(path)
                    if jax.process_index() == 0:
                        write_json(path / runs.RESULT, result)
                        report.write_run_report(path)
        except Busy:
            if stopped():
                raise Interrupted(f'stopped by SIGTERM while another process made {path}') from None
            time.sleep(POLL_SECONDS)


def check(path: pathlib.Path, settings: ConfigDict, keys: Sequence[str], key: str, what: str) -> None:
    """Raises UserError where the folder that config key `key` names holds something else than this model."""
    if not (path / runs.CONFIG).exists():
        return
    stored = runs.load_json(path / runs.CONFIG)
    if stored.get('wing') != settings.wing:
        raise UserError(f'{key}: {os.fspath(path)!r} is a run of wing {stored.get("wing")!r}, not a {what}')
    asked = json.loads(config_lib.to_json(settings))
    both = [{k: s[k] for k in keys if k in s} for s in (stored, asked)]
    real = {d.split(':')[0] for d in config_lib.differences(*map(plain, both))}
    differ = [d for d in config_lib.differences(*both) if d.split(':')[0] in real and d.split(':')[0] not in FREE]
    if differ:
        raise UserError(f'{key}: {os.fspath(path)!r} holds another {what}: {"; ".join(differ[:3])} '
                        '(stored != asked for)')
