"""Models that several runs share: each is a run of its own, made by the first process that needs it."""
from __future__ import annotations

import hashlib
import json
import os
import pathlib
import time
from collections.abc import Callable, Sequence

import jax
from ml_collections import ConfigDict

from fipjax import config as config_lib
from fipjax.analysis import report, runs
from fipjax.errors import Busy, Interrupted, UserError
from fipjax.workdir import claim
from fipjax.writer import write_json

POLL_SECONDS = 2.0


def identity(settings: ConfigDict, keys: Sequence[str]) -> str:
    """Twelve hex digits that name a model by the settings at `keys`."""
    names = {k: v for k, v in settings.to_dict().items() if k in keys}
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
    differ = config_lib.differences({k: stored.get(k) for k in keys}, {k: asked[k] for k in keys})
    if differ:
        raise UserError(f'{key}: {os.fspath(path)!r} holds another {what}: {"; ".join(differ[:3])} '
                        '(stored != asked for)')
