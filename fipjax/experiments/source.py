"""The source model (e0, f0, h0): trained once on the source data, shared by all runs that start from it.

It is a run of its own, in a folder named after the hash of its settings, with config, log, result and report; a run
that needs it takes it from there, makes it, or waits for the process that is making it.
"""
from __future__ import annotations

import pathlib
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from fipjax import checkpoint, optim, train
from fipjax.algorithms import transfer
from fipjax.data import labelled
from fipjax.errors import UserError
from fipjax.evaluators import baselines, scores
from fipjax.experiments import base, shared
from fipjax.experiments.base import size
from fipjax.models import embedders, encoders, predictors

PARAMETERS = 'parameters'  # folder of what train chose, beside checkpoints/


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
    given['source'].pop('workdir')
    # Another way to compute the same: source models are shared across it.
    given['encoder'] |= {'layers': 'scan', 'remat': False}
    return ConfigDict({'wing': 'source', 'name': f'{config.name}: source model', 'variant': '',
                       'seed': config.source.model_seed, 'threads': config.threads, 'log_every': config.log_every,
                       'eval_batch_size': config.eval_batch_size, **given})


def identity(config: ConfigDict) -> str:
    """Twelve hex digits that name a source model's settings."""
    return shared.identity(settings(config), ('encoder', 'source', 'embedder', 'seed'))


def network(task: labelled.Task, encoder: encoders.Encoder, chunk: int):
    """The network of a task on an encoder, with the functions that make fresh parameters.

    Args:
      task: what is to be learned.
      encoder: f.
      chunk: samples in a token of a 1d task, 0 to choose.

    Returns:
      transfer.Network, {'embedder': key -> params, 'encoder': ..., 'predictor': ...}.

    Raises:
      UserError: task and encoder do not fit, see models.embedders.choose.
    """
    embedder = embedders.choose(task.shape, encoder, chunk)
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
    splits = labelled.build(config.source, progress, 'source')
    if splits.task.output != 'classes':
        raise UserError(f'source: {splits.task.output} targets; a source model needs classes')
    if config.source.workdir:
        shared.check(pathlib.Path(config.source.workdir), settings(config), ('encoder', 'source'), 'source.workdir',
                     'source model')
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
    shared.obtain(path, wanted, lambda p: _Training(wanted, p, stopped, progress, splits).all(), stopped, progress,
                  'source model')
    encoder = encoders.build(config.encoder)
    made, _ = network(splits.task, encoder, wanted.embedder.chunk)
    return SourceModel(checkpoint.read_params(path / PARAMETERS), made, encoder, splits, path)


class _Training(base.Experiment):
    """Supervised training on the source data; validation chooses the step, the test split is read once."""

    def __init__(self, config, path, stopped, progress, splits):
        super().__init__(config, path, stopped, progress)
        self.splits = splits

    def stages(self) -> None:
        """See the class."""
        c, s, (train_, validation, test) = self.config, self.config.source, self.splits[1:]
        made, fresh = network(self.splits.task, encoders.build(c.encoder), c.embedder.chunk)
        keys = jax.random.split(jax.random.key(c.seed), len(fresh))
        start = {part: jax.device_get(init(k)) for (part, init), k in zip(fresh.items(), keys, strict=True)}
        algorithm = transfer.make(made, transfer.PARTS, optim.make(s.optimizer, s.steps), start)
        unrolled = encoders.build(ConfigDict({**c.encoder.to_dict(), 'layers': 'unroll'}))
        counted = transfer.make(network(self.splits.task, unrolled, c.embedder.chunk)[0], transfer.PARTS,
                                optim.make(s.optimizer, s.steps), start)
        fitted = self.fit(train.Stage('source', algorithm, train_, validation, s.steps, s.batch_size, s.eval_every,
                                      c.seed, 'accuracy', optim.learning_rate(s.optimizer, s.steps)), counted)
        checkpoint.save_params(self.path / PARAMETERS, fitted.params)
        logits = self.rows(lambda p, b: transfer.outputs(made, p, b), fitted.params, test)
        r, task = self.result, self.splits.task
        r['parameters'] = {k: size(v) for k, v in fitted.params.items()}
        r['metrics'] = {f'test/{k}': v for k, v in scores.score(task, logits, test.y).items()}
        r['metrics'] |= {f'validation/{k}': v for k, v in fitted.validation.items()} | {'selected_step': fitted.step}
        r |= {'target': task.description, 'test_examples': len(test), 'headline': ['test/error']}
        simple = baselines.simple(task, train_, validation, test)
        r['references'] = {name: {f'test/{k}': v for k, v in found.items()} for name, found in simple.items()}


def balanced(source, examples: int, seed: int) -> np.ndarray:
    """Rows of a source with classes, as many of each class as there are enough; int [min(examples, n)]."""
    rng = np.random.default_rng([seed, 80])
    order = rng.permutation(len(source))
    turn = np.empty(len(source), int)
    for k in range(len(source.classes)):
        mine = np.flatnonzero(source.y[order] == k)
        turn[mine] = np.arange(len(mine))
    return np.sort(order[np.argsort(turn, kind='stable')[:examples]])
