"""Finetune-informed pretraining: pretrain once on all modalities, then fine-tune and test for each number of labels."""
from __future__ import annotations

import functools
import time
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from fipjax import checkpoint, optim, train
from fipjax import config as config_lib
from fipjax import parallel as parallel_lib
from fipjax.algorithms import estimated, finetune, fip, importance
from fipjax.algorithms.base import Algorithm
from fipjax.data import downstream, expected, pipeline, sources
from fipjax.evaluators import classification, reconstruction, trivial
from fipjax.experiments import base
from fipjax.experiments.base import size
from fipjax.modality import Modality, patchify, unpatchify
from fipjax.models import multimodal


class Pretraining(NamedTuple):
    """What pretraining is made of: model, resolved FIP settings, the modalities it sees, the algorithm."""

    model: multimodal.Model
    settings: fip.Settings
    modalities: dict[str, Modality]
    algorithm: Algorithm


def pretraining(config: ConfigDict, statistics=None, labelled: LabelledExamples | None = None, *,
                estimates: bool = True) -> Pretraining:
    """Builds the pretraining that a validated config asks for.

    Args:
      config: checked.
      statistics: of the data, as from data_statistics.
      labelled: as from labelled_examples.
      estimates: False leaves weights that the config wants estimated at 1.
    """
    f, every = config.pretrain.fip, sources.modalities_of(config.data)
    names = config.pretrain.modalities or tuple(every)
    modalities = {m: every[m] for m in every if m in names}
    resolve = functools.partial(config_lib.by_modality, modalities=tuple(modalities), target=f.target)
    weights = resolve(f.loss_weight) if f.weights == 'prior' else dict.fromkeys(modalities, 1.0)
    settings = fip.Settings(f.target, f.masking, f.dirichlet_alpha, resolve(f.mask_ratio), weights,
                            resolve(f.attention_bias), f.consistency, f.normalise_targets)
    model = multimodal.build(modalities, config.model, resolve(f.decoder_depth))
    optimizer = optim.make(config.pretrain.optimizer, config.pretrain.steps)
    estimator = None
    if f.weights == 'estimated' and estimates:
        how = importance.Settings(**{k: f.downstream[k] for k in importance.Settings._fields})
        classes, examples = (len(labelled.classes), labelled.beside.batch_size) if labelled else (0, 0)
        estimator = estimated.Estimator(how, model, modalities, f.target, classes, examples)
    algorithm = fip.make(model, modalities, settings, optimizer, statistics, estimator)
    return Pretraining(model, settings, modalities, algorithm)


class LabelledExamples(NamedTuple):
    """What weights are estimated from: names of the classes, and the examples that every batch brings along."""

    classes: tuple[str, ...]
    beside: pipeline.Beside


def labelled_examples(config: ConfigDict, splits, devices: int) -> LabelledExamples | None:
    """The labelled examples of a config whose weights are estimated from some, else None; errors as downstream.build.

    No more travel than a batch has, so that the cost of an estimate is bounded whatever their number.
    """
    f = config.pretrain.fip
    if f.weights != 'estimated' or f.downstream.method not in importance.LABELLED:
        return None
    return beside(config, *downstream.build(f.downstream, splits, config.data, config.seed, devices))


def beside(config: ConfigDict, found: downstream.Labelled, classes) -> LabelledExamples:
    """The labelled examples of a config, as every batch brings them along."""
    many = min(len(found), config.pretrain.batch_size)
    return LabelledExamples(classes, pipeline.Beside(estimated.ENTRY, found, many))


def estimate_flops(parts: Pretraining, batch, step: float) -> float:
    """FLOPs of one estimate of the weights on a batch as it comes from the pipeline; 0 where there is none.

    Args:
      parts: with what it needs of the data; step: FLOPs of a step without estimate.
    """
    state = jax.eval_shape(parts.algorithm.init, jax.random.key(0))
    return parallel_lib.flops(parts.algorithm.step, state, batch) - step


def data_statistics(source, examples: int = 2000) -> dict:
    """Channel statistics of the first examples of a source where they are present, for models.multimodal."""
    batch, out = source.take(np.arange(min(examples, len(source)))), {}
    for m, spec in source.modalities.items():
        here = batch['present'][m]
        given = (batch['inputs'][m][here], batch['targets'][m][here]) if here.any() else (None, None)
        out[m] = multimodal.statistics(spec, *given)
    return out


def empty_batch(modalities, size: int) -> dict:
    """A batch of zeros with the shapes and types of one of pretraining."""
    values = {m: np.zeros((size, *s.shape), np.int32 if s.kind == 'tokens' else np.float32)
              for m, s in modalities.items()}
    rows = np.zeros(size, np.int32)
    return {'id': rows, 'mask': rows == 0, 'inputs': values, 'targets': values,
            'present': {m: rows == 0 for m in values}}


def pretraining_flops(config: ConfigDict) -> float:
    """FLOPs of one pretraining step on a whole batch (forward, backward and update); nothing is compiled or run."""
    parts = pretraining(config, estimates=False)
    batch = empty_batch(parts.modalities, config.pretrain.batch_size)
    state = jax.eval_shape(parts.algorithm.init, jax.random.key(0))
    return parallel_lib.flops(parts.algorithm.step, state, batch)


def steps_for_flops(config: ConfigDict, reference: ConfigDict) -> int:
    """Steps of `config` that cost what the whole pretraining of `reference` costs; for compute-matched controls."""
    total = pretraining_flops(reference) * reference.pretrain.steps
    return max(1, round(total / pretraining_flops(config)))


class Experiment(base.Experiment):
    """Pretrain once, then fine-tune and test for each number of labels."""

    def __init__(self, config, path, stopped, progress, splits=None):
        super().__init__(config, path, stopped, progress)
        began = time.monotonic()
        self.prepare(sources.build(config.data, progress) if splits is None else splits)
        self.result |= {'target': self.target, 'ceiling': self.splits.ceiling,
                        'ceiling_reason': self.splits.ceiling_reason, 'test_examples': len(self.splits.test)}
        self.result['seconds']['data'] = time.monotonic() - began
        if self.pretrains():
            self.labelled = labelled_examples(config, self.splits, self.parallel.size)

    def prepare(self, splits) -> None:
        """All that depends on the data and trains nothing, but for labels that estimate weights."""
        c = self.config
        self.splits, self.target, self.labelled = splits, c.pretrain.fip.target, None
        self.labels = sources.labels_of(splits.train)
        sources.check_labels(self.labels, splits.train.classes, 'training labels')
        expected.check('data.expected', c.data.expected, {'classes': len(splits.train.classes),
                                                          'examples': len(splits.pretrain)})
        for n in c.finetune.labels_per_class:
            sources.labelled_subset(splits.train, self.labels, n, c.seed)
        self.statistics = data_statistics(splits.pretrain)

    def pretrains(self) -> bool:
        """Whether the run has a pretraining of its own."""
        return self.config.pretrain.algorithm == 'fip' and not self.config.finetune.encoder_from

    def stages(self) -> None:
        """See the class."""
        encoder = self._pretrain()
        for labels_per_class in self.config.finetune.labels_per_class:
            self._finetune(encoder, labels_per_class)

    def _pretrain(self):
        """Parameters of tokeniser and encoder of the target, or None."""
        c = self.config
        if c.finetune.encoder_from:
            return finetune.target_params(checkpoint.load_params(c.finetune.encoder_from), self.target)
        if c.pretrain.algorithm == 'none':
            return None
        parts, stage, counted = self.pretraining_stage()
        fitted = self.fit(stage, counted)
        if c.pretrain.fip.weights == 'estimated':
            cost = estimate_flops(parts, train.first_batch(stage), self.result['flops']['pretrain_step'])
            times = (c.pretrain.steps - 1) // c.pretrain.fip.downstream.every
            self.result['flops'] |= {'estimates_step': cost, 'estimates': cost * times}
        self.result['metrics'] |= {f'pretrain/{k}': v for k, v in fitted.validation.items()}
        self.result['parameters'] |= {k: size(v) for k, v in fitted.params.items()}
        self.result['pictures'] += self._reconstructions(parts, fitted.params)
        return finetune.target_params(fitted.params, self.target)

    def pretraining_stage(self):
        """What pretraining is made of, its stage, and the algorithm to count FLOPs of: without estimates."""
        c = self.config
        statistics = {m: self.statistics[m] for m in c.pretrain.modalities or self.statistics}
        parts = pretraining(c, statistics, self.labelled)
        view = functools.partial(_keep, names=tuple(parts.modalities))
        stage = train.Stage(
            'pretrain', parts.algorithm, view(self.splits.pretrain), view(self.splits.validation), c.pretrain.steps,
            c.pretrain.batch_size, c.pretrain.eval_every, c.seed, '',
            optim.learning_rate(c.pretrain.optimizer, c.pretrain.steps), self.labelled and self.labelled.beside)
        return parts, stage, pretraining(c, statistics, estimates=False).algorithm

    def finetuning_stage(self, encoder, labels_per_class):
        """(model, head), {'train', 'validation', 'test': sources}, the stage; `encoder` may be None."""
        c, f = self.config, self.config.finetune
        modality = {self.target: sources.modalities_of(c.data)[self.target]}
        classes = self.splits.train.classes
        model = multimodal.build(modality, c.model, {})
        head = multimodal.head(c.model.dim, len(classes), f.hidden if f.mode == 'frozen' else 0)
        subset = sources.labelled_subset(self.splits.train, self.labels, labels_per_class, c.seed)
        data = {k: _keep(s, (self.target,)) for k, s in
                (('train', subset), ('validation', self.splits.validation), ('test', self.splits.test))}
        if encoder is None:
            encoder = finetune.target_params(model.init(jax.random.key(c.seed), {
                self.target: self.statistics[self.target]}), self.target)
        codes = self.rows(finetune.code(model, self.target), encoder, data['train'])
        algorithm = finetune.make(model, head, self.target, f.mode, optim.make(f.optimizer, f.steps),
                                  {**encoder, 'code': finetune.statistics(codes)})
        return (model, head), data, train.Stage(
            f'finetune_{labels_per_class}', algorithm, data['train'], data['validation'], f.steps, f.batch_size,
            f.eval_every, c.seed, 'accuracy', optim.learning_rate(f.optimizer, f.steps))

    def _finetune(self, encoder, labels_per_class):
        tag, classes = f'@{labels_per_class}', self.splits.train.classes
        (model, head), data, stage = self.finetuning_stage(encoder, labels_per_class)
        fitted = self.fit(stage, stage.algorithm)
        r = self.result
        r['parameters'] |= {k: size(v) for k, v in fitted.params.items()}
        r['metrics'] |= {f'validation/{k}{tag}': v for k, v in fitted.validation.items()}
        r['metrics'][f'selected_step{tag}'] = fitted.step

        logits = self.rows(finetune.logits(model, head, self.target), fitted.params, data['test'])
        labels, meta = sources.labels_of(data['test']), _meta(data['test'])
        by = ('snr_db', meta['snr_db']) if 'snr_db' in meta else None
        details = classification.evaluate(logits, labels, classes, by)
        r['metrics'] |= {f'test/accuracy{tag}': details.pop('accuracy'),
                         f'test/cross_entropy{tag}': details.pop('cross_entropy')}
        r['details'][f'test/accuracy{tag}'] = details
        simple = trivial.ridge(*_arrays(data['train'], self.target), *_arrays(data['validation'], self.target),
                               *_arrays(data['test'], self.target), classes)
        r['trivial'][f'test/accuracy{tag}'] = simple['test_accuracy']
        r['trivial_name'], r['chance'] = simple['name'], simple['chance']

    def _reconstructions(self, parts: Pretraining, params) -> list[dict]:
        """Panels of a few validation examples, one for each modality."""
        source = _keep(self.splits.validation, tuple(parts.modalities))
        batch = source.take(np.arange(min(4, len(source))))
        names = [source.classes[k] for k in batch['label']] if 'label' in batch else None
        if names and 'snr_db' in batch['meta']:
            names = [f'{n}, {s:.0f} dB' for n, s in zip(names, batch['meta']['snr_db'], strict=True)]
        given = {k: v for k, v in batch.items() if k != 'meta'} | {'mask': np.ones(len(batch['id']), bool)}
        fixed = jax.random.key_data(jax.random.key(self.config.seed))
        done = jax.device_get(jax.jit(functools.partial(
            fip.reconstruct, parts.model, parts.modalities, parts.settings))(params, given, fixed, 0))
        out, start = [], 0
        for m, spec in parts.modalities.items():
            tokens = np.zeros((len(given['id']), spec.tokens, spec.token_dim), np.float32)
            np.put_along_axis(tokens, done.masks.asked[m][..., None], done.predicted[m], axis=1)
            if spec.kind != 'tokens' and not parts.settings.normalise_targets:
                shown = multimodal.restore_scale(unpatchify(spec, tokens), params['statistics'][m]['target'])
                tokens = np.asarray(patchify(spec, shown))
            out.append(reconstruction.panel(spec, batch['targets'][m], batch['inputs'][m], tokens,
                                            done.masks.visible[:, start:start + spec.tokens], names=names,
                                            normalised=parts.settings.normalise_targets))
            start += spec.tokens
        return out


def _keep(source, names):
    return sources.Subset(source, np.arange(len(source)), names)


def _arrays(source, target):
    parts = [source.take(np.arange(s, min(s + 512, len(source)))) for s in range(0, len(source), 512)]
    return np.concatenate([p['inputs'][target] for p in parts]), np.concatenate([p['label'] for p in parts])


def _meta(source):
    parts = [source.take(np.arange(s, min(s + 512, len(source))))['meta'] for s in range(0, len(source), 512)]
    return {k: np.concatenate([m[k] for m in parts]) for k in parts[0]}
