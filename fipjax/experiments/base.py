"""What all experiments share: a stage is fitted, timed and counted the same way, and a source read through a model."""
from __future__ import annotations

import datetime
import os
import pathlib
import platform
import subprocess
from typing import NamedTuple

import jax
import numpy as np

from fipjax import parallel as parallel_lib
from fipjax import train
from fipjax.algorithms.base import Algorithm
from fipjax.data import pipeline
from fipjax.writer import MetricsWriter


class Experiment:
    """One run: `all` returns what becomes result.json. Kinds of experiments have a method `stages` that fills `result`.

    Args:
      config: checked.
      path: of the workdir, claimed.
      stopped: () -> bool, asked between steps.
      progress: show progress bars.
    """

    def __init__(self, config, path, stopped, progress):
        self.config, self.path, self.stopped, self.progress = config, path, stopped, progress
        self._costs = {}
        self.parallel = parallel_lib.Parallel(config.parallel.mode)
        self.writer = MetricsWriter(path / 'metrics.jsonl')
        self.result = {
            'name': config.name, 'variant': config.variant, 'seed': config.seed, 'metrics': {}, 'trivial': {},
            'trivial_name': '', 'chance': None, 'ceiling': None, 'ceiling_reason': '', 'details': {}, 'pictures': [],
            'seconds': {}, 'steps_per_second': {}, 'host_share': {}, 'flops': {}, 'parameters': {}, **provenance(),
            'device': self.parallel.name}

    def all(self) -> dict:
        """Runs every stage; the result with its totals."""
        self.stages()
        self.result['seconds']['total'] = sum(self.result['seconds'].values())
        self.result['flops']['total'] = sum(v for k, v in self.result['flops'].items() if not k.endswith('_step'))
        return self.result

    def fit(self, stage: train.Stage, counted: Algorithm | None, observe=None) -> train.Result:
        """Trains a stage and notes its time, rate and FLOPs.

        Args:
          stage: what to train.
          counted: the algorithm with its layers unrolled, for counting FLOPs (a scanned body would count once); None
            where they cannot be counted.
          observe: as in train.fit.
        """
        c = self.config
        settings = train.Settings(c.log_every, c.checkpoint.every, c.checkpoint.keep, c.eval_batch_size,
                                  c.data.threads if 'data' in c else c.threads)
        fitted = train.fit(stage, self.parallel, settings, self.path / 'checkpoints' / stage.name, self.writer,
                           self.stopped, self.progress, observe)
        r = self.result
        if counted is not None:
            if counted.step not in self._costs:  # stages that share a step have batches of the same shape
                state = jax.eval_shape(counted.init, jax.random.key(0))
                self._costs[counted.step] = parallel_lib.flops(counted.step, state, train.first_batch(stage))
            cost = self._costs[counted.step]
            r['flops'] |= {f'{stage.name}_step': cost, stage.name: cost * stage.steps}
        r['seconds'][stage.name] = fitted.seconds
        r['steps_per_second'][stage.name] = stage.steps / fitted.seconds
        r['host_share'][stage.name] = fitted.host_seconds / fitted.seconds
        return fitted

    def rows(self, fn, params, source):
        """`fn(params, batch)` [n, ...] of a whole source in order, padding removed."""
        rows, params = self.parallel.rows(fn), self.parallel.place_state(params)
        share = dict(process=jax.process_index(), processes=jax.process_count())
        out = [rows(params, b) for b in pipeline.evaluation(source, self.config.eval_batch_size, **share)]
        return np.concatenate(out)[:len(source)]


class Planned(NamedTuple):
    """A stage as a plan looks at it.

    Attributes:
      stage: with data as they are or as they are expected.
      counted: the algorithm with unrolled layers, as `Experiment.fit` takes it; None where FLOPs cannot be counted.
      keys: config keys of the batch sizes, which devices must divide; the first is the stage's. () where batches are
        padded.
      known: whether the number of training examples is that of the data.
      times: how often the stage is run (learning rates).
      notes: what to know about its numbers, for people.
    """

    stage: train.Stage
    counted: Algorithm | None
    keys: tuple[str, ...] = ()
    known: bool = True
    times: int = 1
    notes: tuple[str, ...] = ()


class Dry:
    """Mixed into an experiment whose stages are made and not run: on one device, nothing is written."""

    def __init__(self, config, progress):
        Experiment.__init__(self, config, pathlib.Path(), lambda: False, progress)
        self.parallel = parallel_lib.Parallel(config.parallel.mode, jax.devices()[:1])

    def rows(self, fn, params, source):
        """Zeros in place of what Experiment.rows computes."""
        batch = {k: v for k, v in next(pipeline.evaluation(source, 1)).items() if k != 'meta'}
        found = jax.eval_shape(fn, params, batch)
        return np.zeros((len(source), *found.shape[1:]), found.dtype)


def zeros(init):
    """Host arrays of zeros as `init(key)` gives them."""
    return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), jax.eval_shape(init, jax.random.key(0)))


def size(tree) -> int:
    """How many numbers a tree of arrays holds."""
    return sum(int(np.prod(x.shape)) for x in jax.tree.leaves(tree))


def provenance() -> dict:
    """Commit of the code (with '(dirty)' if files differ from it), versions and date.

    Environment: FIPJAX_COMMIT names the commit where the code runs without its git folder.
    """
    root = pathlib.Path(__file__).parents[1]
    git = lambda *a: subprocess.run(['git', '-C', str(root), *a], capture_output=True, text=True)  # noqa: E731
    try:
        head, status = git('rev-parse', '--short', 'HEAD'), git('status', '--porcelain', '--untracked-files=no')
        commit = head.stdout.strip() + (' (dirty)' if status.stdout.strip() else '') if head.returncode == 0 else ''
    except FileNotFoundError:
        commit = ''
    from fipjax import __version__
    versions = {'fipjax': __version__, 'python': platform.python_version(), 'jax': jax.__version__,
                'numpy': np.__version__}
    return {'commit': commit or os.environ.get('FIPJAX_COMMIT') or 'not a git checkout', 'versions': versions,
            'date': datetime.date.today().isoformat()}
