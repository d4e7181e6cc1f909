"""Reuse of a pretrained encoder in another modality: source model, stage 1 by method, stage 2, tests, source probe.

The test split is read after every stage of every number of labels is done, and by nothing before.
"""
from __future__ import annotations

import functools
import pathlib
import shutil
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from fipjax import checkpoint, optim, train
from fipjax.algorithms import mona, orca, transfer
from fipjax.algorithms.base import initial
from fipjax.analysis import discrepancy
from fipjax.data import by_class, labelled, pipeline
from fipjax.errors import UserError
from fipjax.evaluators import baselines, benchmark_scores, classification, probe, scores
from fipjax.experiments import base
from fipjax.experiments import source as source_lib
from fipjax.experiments.base import size
from fipjax.experiments.source import PARAMETERS
from fipjax.models import encoders
from fipjax.models.predictors import mean_token

SHARED = 'shared'


class Parts(NamedTuple):
    """What a stage is made of: functions, others to count (float32, nothing scanned), what changes, its optimiser."""

    algorithm: object
    counted: object
    trained: tuple[str, ...]
    optimizer: object


class Experiment(base.Experiment):
    """One method on one target, for each number of labels."""

    def __init__(self, config, path, stopped, progress, splits=None, shared=None):
        super().__init__(config, path, stopped, progress)
        began = time.monotonic()
        splits = labelled.build(config.target, progress) if splits is None else splits
        source_splits = source_lib.data(config, progress)
        self.prepare(splits, source_splits)
        if progress:
            print(f'target: {self.task.description}', flush=True)
        self.result |= {'target': self.task.description, 'method': config.transfer.method,
                        'test_examples': len(self.splits.test), 'references': {}, 'observed': []}
        self.result['seconds']['data'] = time.monotonic() - began
        folder = pathlib.Path(shared) if shared else path / SHARED
        self.source = source_lib.obtain(config, source_splits, folder, stopped, progress)
        self.probe_rows = {
            split: labelled.Selection(s, source_lib.balanced(s, config.probe[f'{split}_examples'], 0))
            for split, s in (('train', source_splits.train), ('test', source_splits.test))}

    def prepare(self, splits, source_splits) -> None:
        """All that needs no source model."""
        config = self.config
        self.splits, self.task = splits, splits.task
        self.subsets = {n: labelled.subset(splits.train, n, config.seed) for n in config.transfer.labels_per_class}
        self.encoder = encoders.build(config.encoder, config.compute)
        self.network, self.fresh = source_lib.network(self.task, self.encoder, config.embedder.chunk)
        unrolled = encoders.build(ConfigDict({**config.encoder.to_dict(), 'layers': 'unroll', 'remat': False}))
        self.counted, _ = source_lib.network(self.task, unrolled, config.embedder.chunk)
        self._check_sizes(source_splits)

    def _check_sizes(self, source):
        c, have, need = self.config, len(source.task.classes), len(self.task.classes)
        if c.discrepancy.distance != 'none' and self.task.output == 'classes' and have < need:
            raise UserError(f'discrepancy.distance is {c.discrepancy.distance!r}: the source has {have} classes and '
                            f'the target {need}; D needs at least as many in the source (--config.discrepancy.distance'
                            '=none leaves it out)')
        if c.transfer.method == 'mona' and c.mona.source_batch > len(source.train):
            raise UserError(f'mona.source_batch is {c.mona.source_batch}; the source has only {len(source.train)} '
                            'training examples')

    def stages(self) -> None:
        """See the class."""
        c, done = self.config, {}
        start = self.start()
        stage_1, stage_2 = self.parts(start)
        for n in c.transfer.labels_per_class:
            embedder = self._stage_1(stage_1, start, n) if stage_1 else start['embedder']
            self._discrepancy(embedder, n)
            done[n] = self._stage_2(stage_2, {**start, 'embedder': embedder}, n)
        self._probe()
        for n, params in done.items():
            self._test(params, n)
        names = self.result['metrics']
        self.result['headline'] = [m for k in (f'test/{scores.HEADLINE[self.task.output]}', 'source/probe_error',
                                               'source/discrepancy')
                                   for n in done for m in [f'{k}@{n}'] if m in names]
        self.result['parameters'] = {k: size(v) for k, v in done[c.transfer.labels_per_class[0]].items()}

    def parts(self, start) -> tuple[Parts | None, Parts]:
        """Of stage 1, if the method has one, and of stage 2; shared by all numbers of labels."""
        c = self.config
        return (self._stage_1_parts(start) if c.transfer.method in transfer.STAGE_1 else None,
                self._supervised(('embedder', 'predictor') if c.transfer.method == 'frozen' else transfer.PARTS,
                                 c.transfer.stage_2))

    def start(self) -> dict:
        """Fresh embedder and predictor by seed; the source model's encoder, or a fresh one."""
        keys = dict(zip(transfer.PARTS, jax.random.split(jax.random.key(self.config.seed), 3), strict=True))
        start = {k: jax.device_get(self.fresh[k](keys[k])) for k in ('embedder', 'predictor')}
        if self.config.transfer.method != 'scratch':
            return {**start, 'encoder': self.source.params['encoder']}
        # Folded once more: where the seeds agree, the key itself is what the source model started from.
        return {**start, 'encoder': jax.device_get(self.fresh['encoder'](jax.random.fold_in(keys['encoder'], 1)))}

    # --- Stage 1 ------------------------------------------------------------------------------------------------------

    def _supervised(self, trained, settings) -> Parts:
        optimizer = optim.tunable(settings.optimizer, settings.steps)
        make = functools.partial(transfer.make, trained=trained, optimizer=optimizer, start={})
        return Parts(make(self.network, micro_batch=settings.micro_batch), make(self.counted), trained, optimizer)

    def _stage_1_parts(self, start) -> Parts:
        c, settings = self.config, self.config.transfer.stage_1
        if c.transfer.method == 'embedder':
            return self._supervised(('embedder', 'predictor'), settings)
        optimizer = optim.tunable(settings.optimizer, settings.steps)
        if c.transfer.method == 'mona':
            how = mona.Settings(**c.mona.to_dict())
            # Counted without micro-batches: a scanned body would count once.
            made = [mona.make(network, self.source.network.embed, chosen, optimizer, start)
                    for network, chosen in ((self.network, how), (self.counted, how._replace(micro_batch=0)))]
            return Parts(*made, ('embedder', 'predictor') if c.mona.predictor == 'trained' else ('embedder',),
                         optimizer)
        chosen = orca.Settings(label_distance=c.orca.label_distance, entropic=c.orca.entropic)
        examples = labelled.Selection(self.source.splits.train, source_lib.balanced(
            self.source.splits.train, c.orca.source_examples, 0))
        embed = self.source.network.embed
        features = self.rows(lambda p, b: mean_token(*embed(p, b)), self.source.params['embedder'], examples)
        began = time.monotonic()
        side = orca.source_side(features, examples.y, len(examples.classes), chosen)
        jax.block_until_ready(side)
        self.result['seconds']['orca_source_side'] = time.monotonic() - began

        def embedding(params, x, length):
            return mean_token(*self.network.embed(params, {'x': x, 'length': length}))
        # Sinkhorn's loops cannot be counted by a cost analysis, so there is no count.
        return Parts(orca.make(embedding, side, chosen, optimizer, start['embedder']), None, ('embedder',), optimizer)

    def stage_1(self, parts: Parts, start, n):
        """Stage 1 with n labels a class, and the algorithm to count FLOPs of, or None."""
        c, s, subset = self.config, self.config.transfer.stage_1, self.subsets[n]
        params, validation, batch_size, beside = start, self.splits.validation, s.batch_size, None
        if c.transfer.method == 'mona':
            params = {**start, 'source_embedder': self.source.params['embedder']}
            beside = pipeline.Beside('source', self.source.splits.train, c.mona.source_batch)
        if c.transfer.method == 'orca':
            params = {'embedder': start['embedder']}
            # The clusters of validation targets are its own: they only shape a number in the log.
            subset, validation = (self._by_class(x, epochs) for x, epochs in ((subset, s.steps), (validation, 1)))
            batch_size = subset.rows
        return train.Stage(
            f'stage_1_{n}', _started(parts, params, s.optimizer.learning_rate), subset, validation, s.steps,
            batch_size, s.eval_every, c.seed, '', optim.learning_rate(s.optimizer, s.steps), beside), (
            parts.counted and _started(parts._replace(algorithm=parts.counted), params, 1.0))

    def _stage_1(self, parts: Parts, start, n):
        """The embedder that stage 1 hands on."""
        fitted = self.fit(*self.stage_1(parts, start, n))
        self.result['metrics'][f'stage_1/seconds@{n}'] = fitted.seconds
        return fitted.params['embedder']

    def _by_class(self, source, epochs):
        c, y = self.config, source.y
        if self.task.output != 'classes':
            y = orca.pseudo_labels(y, c.orca.clusters, c.seed)
        classes = len(self.task.classes) if self.task.output == 'classes' else int(y.max()) + 1
        return by_class.ByClass(source, y, classes, epochs, per_class=c.orca.per_class, devices=self.parallel.size,
                                seed=c.seed)

    # --- Stage 2 ------------------------------------------------------------------------------------------------------

    def stages_2(self, parts: Parts, start, n):
        """Stage 2 with n labels a class for each learning rate: (rate, stage, the algorithm to count FLOPs of)."""
        c, s = self.config, self.config.transfer.stage_2
        for i, rate in enumerate(s.learning_rates or (s.optimizer.learning_rate,)):
            name = f'stage_2_{n}' + (f'_rate{i}' if len(s.learning_rates) > 1 else '')
            settings = ConfigDict({**s.optimizer.to_dict(), 'learning_rate': rate})
            stage = train.Stage(name, _started(parts, start, rate), self.subsets[n], self.splits.validation, s.steps,
                                s.batch_size, s.eval_every, c.seed, transfer.SELECT[self.task.output],
                                optim.learning_rate(settings, s.steps))
            yield rate, stage, _started(parts._replace(algorithm=parts.counted), start, 1.0)

    def _stage_2(self, parts: Parts, start, n):
        """Parameters at the best step of the best learning rate by validation."""
        c, s, found = self.config, self.config.transfer.stage_2, {}
        metric = transfer.SELECT[self.task.output]
        wanted = {min(s.steps, round(share * s.steps / s.eval_every) * s.eval_every) for share in c.transfer.observed}
        for rate, stage, counted in self.stages_2(parts, start, n):
            keep = functools.partial(self._keep, stage.name, wanted)
            found[stage.name] = rate, self.fit(stage, counted, keep)
        best = max(found, key=lambda k: found[k][1].validation[metric])  # the first of equals
        rate, fitted = found[best]
        r = self.result
        r['metrics'] |= {f'validation/{k}@{n}': v for k, v in fitted.validation.items()}
        r['metrics'] |= {f'selected_step@{n}': fitted.step, f'selected_rate@{n}': rate}
        for name in found:
            if name != best and jax.process_index() == 0:
                shutil.rmtree(self.path / PARAMETERS / name, ignore_errors=True)
        r['observed'] += [{'labels': n, 'step': step, 'folder': f'{PARAMETERS}/{best}/{step}'}
                          for step in sorted(wanted)]
        checkpoint.save_params(self.path / PARAMETERS / f'chosen_{n}', fitted.params)
        return fitted.params

    def _keep(self, name, wanted, step, params):
        if step in wanted:
            (self.path / PARAMETERS / name).mkdir(parents=True, exist_ok=True)
            checkpoint.save_params(self.path / PARAMETERS / name / str(step), jax.device_get(params))

    # --- What is measured ---------------------------------------------------------------------------------------------

    def _test(self, params, n):
        c, task, test = self.config, self.task, self.splits.test
        predicted = self.rows(self._outputs, params, test)
        r = self.result

        def score(task, outputs, y):
            return scores.score(task, outputs, y) | benchmark_scores.of(c.target, task, outputs, y)

        r['metrics'] |= {f'test/{k}@{n}': v for k, v in score(task, predicted, test.y).items()}
        if task.output == 'classes':
            details = classification.evaluate(predicted, test.y, task.classes)
            r['details'][f'test/error@{n}'] = {k: details[k] for k in ('confusion', 'classes', 'count')}
        simple = baselines.simple(task, labelled.subset(self.splits.train, n, c.seed), self.splits.validation, test,
                                  score)
        for name, found in simple.items():
            r['references'].setdefault(name, {}).update({f'test/{k}@{n}': v for k, v in found.items()})

    @functools.cached_property
    def _outputs(self):
        return functools.partial(transfer.outputs, self.network)

    def _probe(self):
        """Error of a linear probe on source features, with the source embedder, at each observed step."""
        r = self.result
        for found in r['observed']:
            encoder = checkpoint.read_params(self.path / found['folder'])['encoder']
            found['probe_error'] = probe_error(self.source, encoder, self.probe_rows, self.rows)
        for n in self.config.transfer.labels_per_class:
            r['metrics'][f'source/probe_error@{n}'] = [o for o in r['observed'] if o['labels'] == n][-1]['probe_error']
        r['metrics']['source/probe_error_before'] = probe_error(self.source, self.source.params['encoder'],
                                                                self.probe_rows, self.rows)

    def _discrepancy(self, embedder, n):
        """D of the source model on target validation inputs through the embedder that stage 2 starts from."""
        distance = self.config.discrepancy.distance
        if distance == 'none':
            return
        labels = target_classes(self.task, self.splits.validation.y, self.config)
        probs = source_probabilities(self.source, self.network, embedder, self.splits.validation, self.rows)
        if probs.shape[1] < int(labels.max()) + 1:  # clusters of dense targets; classes were compared before
            return
        found = discrepancy.discrepancy(probs, labels, distance)
        self.result['metrics'][f'source/discrepancy@{n}'] = found.value
        self.result['details'][f'discrepancy@{n}'] = {'distance': distance, 'pairs': [list(p) for p in found.pairs]}


def target_classes(task, y, config) -> np.ndarray:
    """Classes of targets, int [n]; clusters of them where they are dense or multilabel, as ORCA makes them."""
    return np.asarray(y) if task.output == 'classes' else orca.pseudo_labels(y, config.orca.clusters, 0)


def source_probabilities(source: source_lib.SourceModel, network, embedder, examples, rows) -> np.ndarray:
    """P(source class | x) of target inputs: h0(f0(e(x))) with a target embedder e. [n, Ks]."""
    return rows(_probabilities(source.network, network), {**source.params, 'embedder': embedder}, examples)


@functools.cache
def _probabilities(source, target):
    def of(params, batch):
        tokens, mask = target.embed(params['embedder'], batch)
        return jax.nn.softmax(source.predict(params['predictor'], target.encode(params['encoder'], tokens, mask), mask))
    return of


def source_features(source: source_lib.SourceModel, encoder, examples, rows) -> np.ndarray:
    """Mean tokens of source examples under an encoder, with the source embedder. [n, width]."""
    return rows(_features(source.network), {'embedder': source.params['embedder'], 'encoder': encoder}, examples)


@functools.cache
def _features(network):
    return lambda params, batch: transfer.features(network, params['embedder'], params['encoder'], batch)


def probe_error(source, encoder, examples, rows) -> float:
    """Error of a linear probe on source features; `examples` {'train', 'test'}: sources with y."""
    z = {split: source_features(source, encoder, s, rows) for split, s in examples.items()}
    return probe.linear_probe(z['train'], examples['train'].y, z['test'], examples['test'].y)


def _started(parts: Parts, params, rate):
    """The algorithm of `parts` from given parameters with a given learning rate."""
    def init(key):
        whole = jax.tree.map(jnp.asarray, dict(params))
        state = initial(key, whole, {k: whole[k] for k in parts.trained}, parts.optimizer)
        return state._replace(opt_state=optim.with_rate(state.opt_state, rate))
    return parts.algorithm._replace(init=init)
