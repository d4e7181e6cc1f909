"""The source model (e0, f0, h0): made once from the source data, shared by all runs that start from it.

Trained whole; or, with `init.checkpoint`, e0 and f0 out of a published checkpoint and h0 a linear probe on their frozen
features: logistic regression on the mean token, whose penalty validation chooses. It is a run of its own, in a folder
named after the hash of its settings, with config, log, result and report; a run that needs it takes it from there,
makes it, or waits for the process that is making it.
"""
from __future__ import annotations

import pathlib
import time
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from fipjax import checkpoint, optim, train, writer
from fipjax.algorithms import transfer
from fipjax.data import labelled
from fipjax.errors import UserError
from fipjax.evaluators import baselines, probe, scores
from fipjax.experiments import base, shared
from fipjax.experiments.base import size
from fipjax.models import embedders, encoders, predictors, published

PARAMETERS = 'parameters'  # folder of what train chose, beside checkpoints/
MADE_OF = ('encoder', 'source', 'embedder', 'seed', 'init', 'compute')


class SourceModel(NamedTuple):
    """A trained source model.

    Attributes:
      params: {'embedder' e0, 'encoder' f0, 'predictor' h0}, host arrays.
      network: its functions.
      encoder: the encoder's, see models.encoders.
      splits: the source data.
      workdir: where it is kept.
    """

    params: Any
    network: transfer.Network
    encoder: encoders.Encoder
    splits: labelled.Splits
    workdir: pathlib.Path


def settings(config: ConfigDict) -> ConfigDict:
    """What of a config of the wing 'mona' makes its source model: the config of that run."""
    given = {k: config[k].to_dict() for k in ('encoder', 'source', 'embedder', 'checkpoint', 'parallel')}
    for key in ('workdir', 'expected'):
        given['source'].pop(key)
    # Another way to compute the same: source models are shared across it.
    given['encoder'] |= {'layers': 'scan', 'remat': False}
    if config.init.checkpoint:
        given['init'] = config.init.to_dict()
    return ConfigDict({'wing': 'source', 'name': f'{config.name}: source model', 'variant': '',
                       'seed': config.source.model_seed, 'threads': config.threads, 'log_every': config.log_every,
                       'eval_batch_size': config.eval_batch_size, 'compute': config.compute, **given})


def identity(config: ConfigDict) -> str:
    """Twelve hex digits that name a source model's settings, see `shared.identity`."""
    return shared.identity(settings(config), MADE_OF)


def network(task: labelled.Task, encoder: encoders.Encoder, chunk: int, embedder: embedders.Embedder | None = None):
    """The network of a task on an encoder, with the functions that make fresh parameters.

    Args:
      task: what is to be learned.
      encoder: f.
      chunk: samples in a token of a 1d task, 0 to choose.
      embedder: instead of the one that suits task and encoder.

    Returns:
      transfer.Network, {'embedder': key -> params, 'encoder': ..., 'predictor': ...}.

    Raises:
      UserError: task and encoder do not fit, see models.embedders.choose.
    """
    embedder = embedder or embedders.choose(task, encoder, chunk)
    if task.output != 'dense':
        predictor = predictors.classification(encoder.width, len(task.classes))
    elif embedder.grid is None:
        predictor = predictors.dense_sequence(encoder.width, embedder.tokens, embedder.chunk, task.target_shape)
    else:
        predictor = predictors.dense_image(encoder.width, encoder.output_grid, encoder.image_size, task.target_shape)
    made = transfer.Network(lambda params, batch: embedder.apply(params, batch['x'], batch.get('length')),
                            encoder.apply, predictor.apply, task.output)
    return made, {'embedder': embedder.init, 'encoder': encoder.init, 'predictor': predictor.init}


def data(config: ConfigDict, progress: bool) -> labelled.Splits:
    """The source data; raises UserError where they are bad, have no classes, or do not fit `source.workdir`."""
    splits = labelled.build(config.source, progress, 'source', bool(config.init.checkpoint))
    if splits.task.output != 'classes':
        raise UserError(f'source: {splits.task.output} targets; a source model needs classes')
    # What does not fit is refused here, not when the source model's own run has begun.
    network(splits.task, encoders.build(config.encoder), config.embedder.chunk, published_embedder(config, splits.task))
    if config.source.workdir:
        shared.check(pathlib.Path(config.source.workdir), settings(config), ('encoder', 'source', 'compute', 'init'),
                     'source.workdir', 'source model')
    return splits


def obtain(config: ConfigDict, splits: labelled.Splits, folder: pathlib.Path, stopped, progress: bool) -> SourceModel:
    """The source model of a config: in `source.workdir`, or else in `folder`; trained if it is not there.

    Args:
      config: of the wing 'mona'.
      splits: from `data`.
      folder: of source models.
      stopped, progress: as for experiments.

    Raises:
      Interrupted: `stopped()` said so while it was trained or waited for.
    """
    wanted = settings(config)
    path = pathlib.Path(config.source.workdir or folder / f'source-{identity(config)}').absolute()
    kind = _Probe if config.init.checkpoint else _Training
    shared.obtain(path, wanted, lambda p: kind(wanted, p, stopped, progress, splits).all(), stopped, progress,
                  'source model')
    return load(config, path, splits)


def load(config: ConfigDict, path: pathlib.Path, splits: labelled.Splits) -> SourceModel:
    """The source model that lies at `path`; `config` of the wing 'mona' or of the source model itself."""
    encoder = encoders.build(config.encoder, config.compute)
    made, _ = network(splits.task, encoder, config.embedder.chunk, published_embedder(config, splits.task))
    return SourceModel(checkpoint.read_params(path / PARAMETERS), made, encoder, splits, path)


def published_embedder(config, task) -> embedders.Embedder | None:
    """e0's functions where it is a published checkpoint's."""
    return published.embedder(config, task) if 'init' in config and config.init.checkpoint else None


def stage(config: ConfigDict, splits: labelled.Splits, start=None):
    """What trains a source model.

    Args:
      config: as from `settings`.
      splits: the source data.
      start: parameters before the first step; fresh ones by seed without.

    Returns:
      train.Stage, the same algorithm with unrolled layers for counting FLOPs, the network.
    """
    c, s = config, config.source
    made, fresh = network(splits.task, encoders.build(c.encoder, c.compute), c.embedder.chunk)
    if start is None:
        keys = jax.random.split(jax.random.key(c.seed), len(fresh))
        start = {part: jax.device_get(init(k)) for (part, init), k in zip(fresh.items(), keys, strict=True)}
    algorithm = transfer.make(made, transfer.PARTS, optim.make(s.optimizer, s.steps), start, s.micro_batch)
    unrolled = encoders.build(ConfigDict({**c.encoder.to_dict(), 'layers': 'unroll'}))
    counted = transfer.make(network(splits.task, unrolled, c.embedder.chunk)[0], transfer.PARTS,
                            optim.make(s.optimizer, s.steps), start)
    return train.Stage('source', algorithm, splits.train, splits.validation, s.steps, s.batch_size, s.eval_every,
                       c.seed, 'accuracy', optim.learning_rate(s.optimizer, s.steps)), counted, made


class _Training(base.Experiment):
    """Supervised training on the source data; validation chooses the step, the test split is read once."""

    def __init__(self, config, path, stopped, progress, splits):
        super().__init__(config, path, stopped, progress)
        self.splits = splits

    def stages(self) -> None:
        """See the class."""
        wanted, counted, made = stage(self.config, self.splits)
        fitted = self.fit(wanted, counted)
        self._finish(made, fitted.params,
                     {f'validation/{k}': v for k, v in fitted.validation.items()} | {'selected_step': fitted.step})

    def _finish(self, made, params, chosen):
        """Keeps the parameters, and tests them: the test split is read here and nowhere before."""
        train_, validation, test = self.splits[1:]
        checkpoint.save_params(self.path / PARAMETERS, params)
        logits = self.rows(lambda p, b: transfer.outputs(made, p, b), params, test)
        r, task = self.result, self.splits.task
        r['parameters'] = {k: size(v) for k, v in params.items()}
        r['metrics'] = {f'test/{k}': v for k, v in scores.score(task, logits, test.y).items()} | chosen
        r |= {'target': task.description, 'test_examples': len(test), 'headline': ['test/error']}
        simple = baselines.simple(task, train_, validation, test)
        r['references'] = {name: {f'test/{k}': v for k, v in found.items()} for name, found in simple.items()}


class _Probe(_Training):
    """e0 and f0 as published, h0 fitted on their features; validation chooses the penalty."""

    def stages(self) -> None:
        """See the class."""
        c, task, (train_, validation, _) = self.config, self.splits.task, self.splits[1:]
        encoder = encoders.build(c.encoder, c.compute)
        made, _ = network(task, encoder, 0, published.embedder(c, task))
        e0, f0, report = published.parameters(c, task)
        writer.write_atomically(self.path / shared.REPORT, report + '\n')
        began = time.monotonic()
        z = [self.rows(lambda p, b: transfer.features(made, p['embedder'], p['encoder'], b),
                       {'embedder': e0, 'encoder': f0}, split) for split in (train_, validation)]
        found = probe.fit(z[0], train_.y, z[1], validation.y)
        seconds = self.result['seconds']['source'] = time.monotonic() - began
        self.writer.write({'stage': 'source', 'split': 'validation', 'step': 0, 'accuracy': 1 - found.error,
                           'seconds': seconds})
        h0 = {'linear': {'kernel': found.kernel, 'bias': found.bias}}
        self._finish(made, {'embedder': e0, 'encoder': f0, 'predictor': h0},
                     {'validation/accuracy': 1 - found.error, 'selected_penalty': found.penalty})


def balanced(source, examples: int, seed: int) -> np.ndarray:
    """Rows of a source with classes, as many of each class as there are enough; int [min(examples, n)]."""
    rng = np.random.default_rng([seed, 80])
    order = rng.permutation(len(source))
    turn = np.empty(len(source), int)
    for k in range(len(source.classes)):
        mine = np.flatnonzero(source.y[order] == k)
        turn[mine] = np.arange(len(mine))
    return np.sort(order[np.argsort(turn, kind='stable')[:examples]])
