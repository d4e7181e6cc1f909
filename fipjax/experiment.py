"""Runs an experiment in a workdir: checked, claimed by one process, resumable, stopped by SIGTERM, with a report."""
from __future__ import annotations

import contextlib
import os
import signal
import threading

import jax
from ml_collections import ConfigDict

from fipjax import validation
from fipjax.analysis import report, runs
from fipjax.errors import Interrupted
from fipjax.workdir import claim
from fipjax.writer import write_json


def run(config: ConfigDict, workdir: str | os.PathLike, *, progress: bool = True, splits=None,
        shared: str | os.PathLike | None = None) -> dict:
    """Runs an experiment, or goes on with it, or returns the result that is there.

    Args:
      config: see fipjax.config; validated here.
      workdir: folder of config.json, metrics.jsonl, result.json, checkpoints/ and report.html.
      progress: show progress bars on standard error.
      splits: data in memory instead of what the config names: fipjax.data.arrays.from_arrays for wing 'fip', the
        target's fipjax.data.labelled.Splits for wing 'mona'; the other wings take none.
      shared: folder of what several runs share (pretrained source models); inside the workdir without it.

    Returns:
      The content of result.json.

    Raises:
      UserError (and its kinds Busy, NonFinite): bad config, data or workdir, a non-finite loss.
      Interrupted: SIGTERM arrived; everything is saved, result.json too if the run was at its end.
    """
    validation.validate(config, jax.device_count())
    with claim(workdir, config) as path, _stop_on_sigterm() as stopped:
        if (path / 'result.json').exists():
            return runs.load_json(path / 'result.json')
        # Imported here: each wing brings its own models and libraries.
        if config.wing == 'fip':
            from fipjax.experiments import fip
            experiment = fip.Experiment(config, path, stopped.is_set, progress, splits)
        elif config.wing == 'vlp':
            from fipjax.experiments import vlp
            experiment = vlp.Experiment(config, path, stopped.is_set, progress, shared)
        elif config.wing == 'caption':
            from fipjax.experiments import caption
            experiment = caption.Experiment(config, path, stopped.is_set, progress)
        else:
            from fipjax.experiments import transfer
            experiment = transfer.Experiment(config, path, stopped.is_set, progress, splits, shared)
        result = experiment.all()
        if jax.process_index() == 0:
            write_json(path / 'result.json', result)
            report.write_run_report(path)
        if stopped.is_set():  # too late for this run, but what follows it in a comparison must not begin
            raise Interrupted(f'stopped by SIGTERM; the run in {path} is done')
        return result


@contextlib.contextmanager
def _stop_on_sigterm():
    """An event that SIGTERM sets; the handler before is put back at the end. Outside the main thread it never sets."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    before = signal.signal(signal.SIGTERM, lambda *_: event.set())
    try:
        yield event
    finally:
        signal.signal(signal.SIGTERM, before)
