"""Finished runs of the wing 'mona', opened again for analysis: their data, networks and the parameters they kept."""
from __future__ import annotations

import functools
import json
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict
from scipy.special import softmax

from fipjax import checkpoint
from fipjax import config as config_lib
from fipjax import parallel as parallel_lib
from fipjax.algorithms import transfer as transfer_lib
from fipjax.analysis import discrepancy
from fipjax.analysis.runs import CONFIG, RESULT, Run
from fipjax.data import labelled
from fipjax.errors import UserError
from fipjax.experiments import base, transfer
from fipjax.experiments import source as source_lib
from fipjax.experiments.source import PARAMETERS, SourceModel


class Match(NamedTuple):
    """A knowledge discrepancy between a source model and a target.

    Attributes:
      exact: the value that `experiments.transfer` reports, with its pairs; see fipjax.analysis.discrepancy.
      bound: with source probabilities renormalised among the matched classes, an upper bound.
      costs: float64 [Ks, Kt], the mean over samples of class j (weighted by its probability) of the loss of calling
        them source class i; NaN where no sample is of class j.
      source, target: names of the classes.
    """

    exact: discrepancy.Discrepancy
    bound: discrepancy.Discrepancy
    costs: np.ndarray
    source: tuple[str, ...]
    target: tuple[str, ...]


class Finished:
    """A finished run on one device.

    Attributes:
      run: what its workdir holds.
      config: of the run.
      splits: the target's.
      task: the target's.
      network: the target's functions.
      source: the source model.
    """

    def __init__(self, run: Run, config: ConfigDict, splits, network, source: SourceModel, parallel):
        self.run, self.config, self.splits, self.network, self.source = run, config, splits, network, source
        self.task, self.parallel = splits.task, parallel

    rows = base.Experiment.rows  # needs `config` and `parallel`

    @property
    def labels(self) -> tuple[int, ...]:
        """Numbers of labels a class that the run transferred with, 0 for all."""
        return tuple(self.config.transfer.labels_per_class)

    def observed(self, labels: int, step: int):
        """Parameters {'embedder', 'encoder', 'predictor'} that stage 2 had at an observed step; -1: at the last one.

        Raises:
          UserError: that step was not observed, or its parameters are not there.
        """
        found = {o['step']: o['folder'] for o in self.run.result['observed'] if o['labels'] == labels}
        wanted = max(found, default=step) if step < 0 else step
        if wanted not in found:
            raise UserError(f'{self.run.workdir}: parameters after step {wanted} of stage 2 with {labels} labels a '
                            f'class were not kept (transfer.observed); kept are those after {sorted(found)}')
        return checkpoint.read_params(self.run.workdir / found[wanted])

    def chosen(self, labels: int):
        """Parameters that validation chose; raises UserError where they are not there."""
        return checkpoint.read_params(self.run.workdir / PARAMETERS / f'chosen_{labels}')

    def match(self, labels: int, distance: str, against: str) -> Match:
        """Discrepancy on validation inputs through the embedder that stage 2 started from.

        Args:
          labels: number of labels a class of the transfer.
          distance: see fipjax.analysis.discrepancy.
          against: 'labels' (of dense and multilabel targets their clusters), or 'model': the class probabilities of the
            run's chosen model.

        Raises:
          UserError: 'model' for a target without classes, fewer source than target classes, parameters not kept.
        """
        examples, task = self.splits.validation, self.task
        if against == 'model':
            if task.output != 'classes':
                raise UserError(f'--against=model: {self.run.workdir} has a {task.output} target; only targets with '
                                'classes have class probabilities')
            logits = self.rows(_outputs(self.network), self.chosen(labels), examples)
            target = softmax(logits.astype(np.float64), 1)
        else:
            y = transfer.target_classes(task, examples.y, self.config)
            count = len(task.classes) if task.output == 'classes' else int(y.max()) + 1
            target = np.eye(count)[y]
        names = task.classes if task.output == 'classes' else tuple(f'cluster {k}' for k in range(target.shape[1]))
        embedder = self.observed(labels, 0)['embedder']
        probs = transfer.source_probabilities(self.source, self.network, embedder, examples, self.rows)
        exact = discrepancy.discrepancy(probs, target, distance)
        share = target.mean(0)
        costs = discrepancy.cost_matrix(probs, target, distance) / np.where(share > 0, share, np.nan)
        return Match(exact, discrepancy.renormalised(probs, target, distance), costs, self.source.splits.task.classes,
                     names)

    def source_features(self, encoder, examples: int):
        """(features [n, width], y int [n]) of at most `examples` source test examples, balanced by class."""
        test = self.source.splits.test
        chosen = labelled.Selection(test, source_lib.balanced(test, examples, 0))
        return transfer.source_features(self.source, encoder, chosen, self.rows), chosen.y


@functools.cache
def _outputs(network):
    return lambda params, batch: transfer_lib.outputs(network, params, batch)


def opened(found: Sequence[Run], splits: labelled.Splits | None = None) -> Iterator[Finished]:
    """The runs, one after the other; what runs share (data, source model, compiled programs) is loaded once.

    Args:
      found: finished runs of wing 'mona'.
      splits: of the target, for runs whose data were given in memory.

    Raises:
      UserError: the data or the source model of a run cannot be found or read, or do not fit.
    """
    known: dict[tuple, Any] = {}

    def once(make, *key):
        if key not in known:
            known[key] = make()
        return known[key]

    for run in found:
        config = config_of(run)
        text = {k: json.dumps(v, sort_keys=True) for k, v in run.config.items()}
        parallel = once(lambda mode=config.parallel.mode: parallel_lib.Parallel(mode, jax.devices()[:1]),
                        'parallel', config.parallel.mode)
        mine = splits or once(lambda c=config: labelled.build(c.target), 'target', text['target'])
        source_data = once(lambda c=config: source_lib.data(c, False), 'data', text['source'], text['init'])
        path = _source_path(run, config)
        model = once(lambda c=config, p=path, d=source_data: source_lib.load(c, p, d), 'source', path, text['encoder'])
        network = once(lambda c=config, s=mine, m=model: source_lib.network(s.task, m.encoder, c.embedder.chunk)[0],
                       'network', text['target'], text['encoder'], text['embedder'], text['compute'])
        yield Finished(run, config, mine, network, model, parallel)


def config_of(run: Run, base: Callable[[], ConfigDict] = config_lib.transfer_base) -> ConfigDict:
    """The config of a run as it had it; `base` gives all keys of its wing.

    Raises:
      UserError: it lacks some.
    """
    def tuples(value):
        if isinstance(value, dict):
            return {k: tuples(v) for k, v in value.items()}
        return tuple(value) if isinstance(value, list) else value
    missing = sorted(set(config_lib.keys(base())) - set(config_lib.keys(ConfigDict(run.config))))
    if missing:
        raise UserError(f'{run.workdir / CONFIG}: made by another version of fipjax, it lacks {", ".join(missing[:4])}')
    return ConfigDict(tuples(run.config))


def _source_path(run, config) -> pathlib.Path:
    """Where the source model of a run is: as given, or in the folder 'shared' of the run or of its comparison."""
    if config.source.workdir:
        places = [pathlib.Path(config.source.workdir)]
    else:
        name, workdir = f'source-{source_lib.identity(config)}', run.workdir.absolute()
        places = [folder / transfer.SHARED / name for folder in (workdir, workdir.parents[1])]
    for path in places:
        if (path / RESULT).exists():
            return path
    raise UserError(f'{run.workdir}: its source model is not there; looked in {", ".join(map(os.fspath, places))}')
