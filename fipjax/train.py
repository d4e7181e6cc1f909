"""THE loop: evaluate, save, next batch, step, log. All stages of all methods run through it.

The order matters. Evaluation and saving see the state before the next batch is drawn, so a checkpoint holds a state
and a data iterator that agree, and a run that is killed at any moment repeats exactly what it had not yet saved.
"""
from __future__ import annotations

import collections
import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

from fipjax import bars
from fipjax import metrics as metrics_lib
from fipjax.algorithms.base import Algorithm
from fipjax.checkpoint import Checkpoints
from fipjax.data import pipeline
from fipjax.errors import Interrupted, NonFinite
from fipjax.parallel import Parallel
from fipjax.writer import MetricsWriter

# Steps sent to the devices ahead of their results. Fake CPU devices abort the process when some 40 wait.
IN_FLIGHT = 4
AGREE_EVERY = 10  # steps after which several processes ask each other whether to stop


class Stage(NamedTuple):
    """One part of an experiment.

    Attributes:
      name: of its checkpoints and rows, e.g. 'pretrain'.
      algorithm: what to do.
      train: source of training examples.
      validation: source of validation examples.
      steps, batch_size, eval_every: of training; evaluation also happens before the first step and after the last.
      seed: of the initialisation and of the order of the data.
      select: name of the validation metric whose best step is used, larger is better; '' uses the last step.
      learning_rate: step -> learning rate, for the log.
      beside: examples of another source that every training batch brings along (pipeline.Beside), or None.
    """

    name: str
    algorithm: Algorithm
    train: Any
    validation: Any
    steps: int
    batch_size: int
    eval_every: int
    seed: int
    select: str
    learning_rate: Callable
    beside: Any = None


class Result(NamedTuple):
    """What a finished stage leaves.

    Attributes:
      params: host arrays, of the best step by validation or of the last.
      step: which step that was.
      validation: metrics on the validation split at that step.
      seconds: wall time of all processes that worked on it.
      host_seconds: of these, waiting for data on the host.
    """

    params: Any
    step: int
    validation: dict
    seconds: float
    host_seconds: float


class Settings(NamedTuple):
    """What the loop takes from the config: rows and checkpoints every so many steps, evaluation batch, threads."""

    log_every: int
    checkpoint_every: int
    keep: int
    eval_batch_size: int
    threads: int


def fit(stage: Stage, parallel: Parallel, settings: Settings, directory, writer: MetricsWriter,
        should_stop: Callable[[], bool] = lambda: False, progress: bool = True,
        observe: Callable[[int, Any], None] | None = None) -> Result:
    """Trains a stage, or goes on with it, or returns it if it is done.

    Args:
      stage: what to train.
      parallel: on which devices.
      settings: see Settings.
      directory: of the stage's checkpoints.
      writer: of metrics.jsonl; rewound to the checkpoint that is restored.
      should_stop: asked before each step; True saves and raises Interrupted. Of several processes one is enough.
      progress: show a progress bar on standard error.
      observe: called with (step, parameters on the devices) at each evaluation; what it does may be done again after
        a resume.

    Raises:
      NonFinite: a metric became NaN or infinite; names step, metric and the last good checkpoint.
      Interrupted: should_stop said so.
      UserError: no checkpoint of those there can be read.
    """
    algorithm, key = stage.algorithm, jax.random.key(stage.seed)
    share = dict(process=jax.process_index(), processes=jax.process_count())
    batches = pipeline.training(stage.train, stage.batch_size, stage.seed, threads=settings.threads,
                                beside=stage.beside, **share)
    checkpoints = Checkpoints(directory, settings.keep)
    evaluate = _Evaluator(stage, parallel, settings.eval_batch_size, share)

    shapes = jax.eval_shape(algorithm.init, key)
    restored = checkpoints.restore(_abstract(shapes, parallel, stage), batches)
    first = restored[0] if restored else 0
    if restored:
        saved = restored[1]
        state, best, clock = saved['state'], saved.get('best'), saved['clock']
        state = parallel.place_state(state)
    else:
        state = parallel.place_state(algorithm.init(key))
        best, clock = None, {'seconds': 0.0, 'host_seconds': 0.0}
    if first < stage.steps:  # of a stage that is done every row counts, and none is written again
        writer.rewind(stage.name, first)
    best = _Best(stage.select, best)
    clock = _Clock(clock)

    if first < stage.steps:
        step_fn = parallel.step(algorithm.step)
        log = _Log(stage, settings.log_every, writer, checkpoints, clock)
        bar = bars.bar(total=stage.steps, initial=first, desc=stage.name, unit='step', show=progress, leave=True)
        done = first
        while True:
            if done % stage.eval_every == 0 or done == stage.steps:
                log.drain()
                values = evaluate(state)
                log.check(done, values, 'validation loss')
                writer.write({'stage': stage.name, 'split': 'validation', 'step': done, **values,
                              'seconds': clock.seconds()})
                best.offer(done, values, state.params)
                if observe:
                    observe(done, state.params)
            stop = _agreed(should_stop, done, parallel.processes)
            if done > first and (done % settings.checkpoint_every == 0 or done == stage.steps or stop):
                log.drain()
                checkpoints.save(done, _saved(parallel.snapshot(state), best, clock), batches)
            if stop and done < stage.steps:
                checkpoints.close()
                bar.close()
                raise Interrupted(f'stopped by SIGTERM at step {done} of stage {stage.name}; saved, the same command '
                                  'goes on from there')
            if done == stage.steps:
                break
            with clock.host():
                batch = parallel.place_batch(next(batches))
            state, metrics = step_fn(state, batch)
            done += 1
            log.add(done, metrics)
            bar.update(1)
            if log.last:
                bar.set_postfix(loss=f'{log.last.get("loss", math.nan):.4f}', refresh=False)
        bar.close()
        checkpoints.wait()
    checkpoints.close()
    if not stage.select:
        values = evaluate(state)
        return Result(_to_host(state.params), stage.steps, values, clock.seconds(), clock.waited)
    values = evaluate(state._replace(params=parallel.place_state(best.params)))
    return Result(best.params, best.step, values, clock.seconds(), clock.waited)


def first_batch(stage: Stage) -> dict:
    """The first training batch of a stage, of all processes together; for its shapes."""
    return next(pipeline.training(stage.train, stage.batch_size, stage.seed, beside=stage.beside))


def _agreed(should_stop, done, processes) -> bool:
    """Whether any process is to stop. They must all stop at the same step, so several ask each other now and then."""
    if processes == 1:
        return should_stop()
    return done % AGREE_EVERY == 0 and bool(multihost_utils.process_allgather(np.array(should_stop())).any())


def _to_host(tree):
    # np.array, not np.asarray: on CPU the latter is a view of a buffer that the next step donates.
    return jax.tree.map(lambda x: np.array(x), tree)


def _saved(state, best, clock):
    tree = {'state': state, 'clock': {'seconds': np.array(clock.seconds()), 'host_seconds': np.array(clock.waited)}}
    return {**tree, 'best': best.tree()} if best.select else tree


def _abstract(shapes, parallel, stage):
    """Shapes and shardings of what `_saved` makes; what the host keeps is restored as host arrays."""
    host = lambda x: np.empty(x.shape, x.dtype)  # noqa: E731
    tree = {'state': parallel.abstract(shapes), 'clock': {'seconds': np.array(0.0), 'host_seconds': np.array(0.0)}}
    if stage.select:
        tree['best'] = {'params': jax.tree.map(host, shapes.params), 'step': np.array(0), 'value': np.array(0.0)}
    return tree


class _Clock:
    """Seconds of this and earlier processes, and the part of them spent waiting for data."""

    def __init__(self, saved):
        self._before, self.waited = float(saved['seconds']), float(saved['host_seconds'])
        self._start, self._entered = time.monotonic(), 0.0

    def seconds(self) -> float:
        return self._before + time.monotonic() - self._start

    def host(self):
        return self

    def __enter__(self):
        self._entered = time.monotonic()

    def __exit__(self, *_):
        self.waited += time.monotonic() - self._entered


class _Best:
    """The parameters with the best validation metric; the first of equals."""

    def __init__(self, select, saved):
        self.select = select
        self.params, self.step, self.value = ((saved['params'], int(saved['step']), float(saved['value'])) if saved
                                              else (None, 0, -math.inf))

    def offer(self, step, values, params):
        if self.select and values[self.select] > self.value:
            self.params, self.step, self.value = _to_host(params), step, values[self.select]

    def tree(self):
        return {'params': self.params, 'step': np.array(self.step), 'value': np.array(self.value)}


class _Evaluator:
    """Validation metrics of a state; compiled at the first call."""

    def __init__(self, stage, parallel, batch_size, share):
        self.stage, self.parallel, self.share = stage, parallel, share
        # No larger than the split: its padding would cost as much as examples do.
        self.batch_size = min(batch_size, -(-len(stage.validation) // parallel.size) * parallel.size)
        self.fn = parallel.eval_step(stage.algorithm.eval_step)

    def __call__(self, state) -> dict:
        total = None
        for batch in pipeline.evaluation(self.stage.validation, self.batch_size, **self.share):
            total = metrics_lib.add(total, jax.device_get(self.fn(state, self.parallel.place_batch(batch))))
        return self.stage.algorithm.summarise(total)


class _Log:
    """Fetches metrics a few steps late, so that devices need not wait, checks each step and writes some."""

    def __init__(self, stage, every, writer, checkpoints, clock):
        self.stage, self.every, self.writer, self.checkpoints, self.clock = stage, every, writer, checkpoints, clock
        self.waiting, self.last = collections.deque(), {}
        self.before = None

    def add(self, step, metrics):
        self.waiting.append((step, metrics))
        while len(self.waiting) > IN_FLIGHT:
            self._take()

    def drain(self):
        while self.waiting:
            self._take()

    def _take(self):
        step, metrics = self.waiting.popleft()
        values = self.stage.algorithm.summarise(jax.device_get(metrics))
        self.check(step, values, 'loss')
        if step % self.every == 0 or step == self.stage.steps:
            now, before = time.monotonic(), self.before
            # The first row of a process has no rate: its time is mostly compilation.
            rate = {'steps_per_second': (step - before[1]) / max(now - before[0], 1e-9)} if before else {}
            self.before, self.last = (now, step), values
            self.writer.write({'stage': self.stage.name, 'split': 'train', 'step': step, **values,
                               'lr': float(self.stage.learning_rate(step - 1)), 'seconds': self.clock.seconds(),
                               **rate})

    def check(self, step, values, what):
        bad = [k for k, v in values.items() if not math.isfinite(v)]
        if not bad:
            return
        self.checkpoints.close()
        good = self.checkpoints.steps()
        where = f'{self.checkpoints.directory / str(good[-1])}' if good else 'none was saved yet'
        parts = [k.split('/', 1)[1] for k in bad if '/' in k]
        raise NonFinite(f'stage {self.stage.name}: {what} is not finite at step {step} '
                        f'(modality: {", ".join(parts) or "none in particular"}; {", ".join(bad)}); '
                        f'last good checkpoint: {where}. Try a smaller learning rate or look at the data.')
