"""An experiment is a chain of stages: pretrain once, then fine-tune and test for each number of labels."""
from __future__ import annotations

import contextlib
import datetime
import functools
import os
import pathlib
import platform
import signal
import subprocess
import threading
import time
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from fipjax import checkpoint, optim, train, validation
from fipjax import config as config_lib
from fipjax import parallel as parallel_lib
from fipjax.algorithms import finetune, fip
from fipjax.algorithms.base import Algorithm
from fipjax.analysis import report, runs
from fipjax.data import pipeline, sources
from fipjax.evaluators import classification, reconstruction, trivial
from fipjax.modality import Modality, patchify, unpatchify
from fipjax.models import multimodal
from fipjax.workdir import claim
from fipjax.writer import MetricsWriter, write_json


class Pretraining(NamedTuple):
    """What pretraining is made of: model, resolved FIP settings, the modalities it sees, the algorithm."""

    model: multimodal.Model
    settings: fip.Settings
    modalities: dict[str, Modality]
    algorithm: Algorithm


def pretraining(config: ConfigDict, statistics=None) -> Pretraining:
    """Builds the pretraining that a validated config asks for; `statistics` of the data as from data_statistics."""
    f, every = config.pretrain.fip, sources.modalities_of(config.data)
    names = config.pretrain.modalities or tuple(every)
    modalities = {m: every[m] for m in every if m in names}
    resolve = functools.partial(config_lib.by_modality, modalities=tuple(modalities), target=f.target)
    weights = resolve(f.loss_weight) if f.weights == 'prior' else dict.fromkeys(modalities, 1.0)
    settings = fip.Settings(f.target, f.masking, f.dirichlet_alpha, resolve(f.mask_ratio), weights,
                            resolve(f.attention_bias), f.consistency, f.normalise_targets)
    model = multimodal.build(modalities, config.model, resolve(f.decoder_depth))
    optimizer = optim.make(config.pretrain.optimizer, config.pretrain.steps)
    return Pretraining(model, settings, modalities, fip.make(model, modalities, settings, optimizer, statistics))


def data_statistics(source, examples: int = 2000) -> dict:
    """Channel statistics of the first examples of a source where they are present, for models.multimodal."""
    batch, out = source.take(np.arange(min(examples, len(source)))), {}
    for m, spec in source.modalities.items():
        here = batch['present'][m]
        given = (batch['inputs'][m][here], batch['targets'][m][here]) if here.any() else (None, None)
        out[m] = multimodal.statistics(spec, *given)
    return out


def pretraining_flops(config: ConfigDict) -> float:
    """FLOPs of one pretraining step on a whole batch (forward, backward and update); nothing is compiled or run."""
    parts = pretraining(config)
    empty = {m: np.zeros((config.pretrain.batch_size, *s.shape), np.int32 if s.kind == 'tokens' else np.float32)
             for m, s in parts.modalities.items()}
    rows = np.zeros(config.pretrain.batch_size, np.int32)
    batch = {'id': rows, 'mask': rows == 0, 'inputs': empty, 'targets': empty,
             'present': {m: rows == 0 for m in empty}}
    state = jax.eval_shape(parts.algorithm.init, jax.random.key(0))
    return parallel_lib.flops(parts.algorithm.step, state, batch)


def steps_for_flops(config: ConfigDict, reference: ConfigDict) -> int:
    """Steps of `config` that cost what the whole pretraining of `reference` costs; for compute-matched controls."""
    total = pretraining_flops(reference) * reference.pretrain.steps
    return max(1, round(total / pretraining_flops(config)))


def run(config: ConfigDict, workdir: str | os.PathLike, *, progress: bool = True,
        splits: sources.Splits | None = None) -> dict:
    """Runs an experiment, or goes on with it, or returns the result that is there.

    Args:
      config: see fipjax.config; validated here.
      workdir: folder of config.json, metrics.jsonl, result.json, checkpoints/ and report.html.
      progress: show progress bars on standard error.
      splits: own data in memory (fipjax.data.sources.from_arrays) instead of what config.data names.

    Returns:
      The content of result.json.

    Raises:
      UserError (and its kinds Busy, NonFinite): bad config, data or workdir, a non-finite loss.
      Interrupted: SIGTERM arrived; everything is saved.
    """
    validation.validate(config, jax.device_count())
    with claim(workdir, config) as path, _stop_on_sigterm() as stopped:
        if (path / 'result.json').exists():
            return runs.load_json(path / 'result.json')
        began = time.monotonic()
        splits = sources.build(config.data, progress) if splits is None else splits
        data_seconds = time.monotonic() - began
        labels = sources.labels_of(splits.train)
        sources.check_labels(labels, splits.train.classes, 'training labels')
        for n in config.finetune.labels_per_class:
            sources.labelled_subset(splits.train, labels, n, config.seed)
        result = _Run(config, path, splits, labels, stopped, progress).all()
        result['seconds'] = {'data': data_seconds, **result['seconds']}
        result['seconds']['total'] += data_seconds
        if jax.process_index() == 0:
            write_json(path / 'result.json', result)
            report.write_run_report(path)
        return result


class _Run:
    """The stages of one run, one after the other."""

    def __init__(self, config, path, splits, labels, stopped, progress):
        self.config, self.path, self.splits, self.labels = config, path, splits, labels
        self.stopped, self.progress = stopped, progress
        self.parallel = parallel_lib.Parallel(config.parallel.mode)
        self.target = config.pretrain.fip.target
        self.writer = MetricsWriter(path / 'metrics.jsonl')
        self.statistics = data_statistics(splits.pretrain)
        self.result = {
            'name': config.name, 'variant': config.variant, 'seed': config.seed, 'target': self.target,
            'metrics': {}, 'trivial': {}, 'trivial_name': '', 'chance': None, 'ceiling': splits.ceiling,
            'ceiling_reason': splits.ceiling_reason, 'test_examples': len(splits.test), 'details': {}, 'pictures': [],
            'seconds': {}, 'steps_per_second': {}, 'host_share': {}, 'flops': {}, 'parameters': {}, **provenance(),
            'device': self.parallel.name}

    def all(self) -> dict:
        encoder = self._pretrain()
        for labels_per_class in self.config.finetune.labels_per_class:
            self._finetune(encoder, labels_per_class)
        self.result['seconds']['total'] = sum(self.result['seconds'].values())
        self.result['flops']['total'] = sum(v for k, v in self.result['flops'].items() if not k.endswith('_step'))
        return self.result

    def _fit(self, stage: train.Stage) -> train.Result:
        c = self.config
        settings = train.Settings(c.log_every, c.checkpoint.every, c.checkpoint.keep, c.eval_batch_size,
                                  c.data.threads)
        fitted = train.fit(stage, self.parallel, settings, self.path / 'checkpoints' / stage.name, self.writer,
                           self.stopped.is_set, self.progress)
        batch = next(pipeline.evaluation(stage.train, stage.batch_size))
        state = jax.eval_shape(stage.algorithm.init, jax.random.key(0))
        cost = parallel_lib.flops(stage.algorithm.step, state, batch)
        r = self.result
        r['flops'] |= {f'{stage.name}_step': cost, stage.name: cost * stage.steps}
        r['seconds'][stage.name] = fitted.seconds
        r['steps_per_second'][stage.name] = stage.steps / fitted.seconds
        r['host_share'][stage.name] = fitted.host_seconds / fitted.seconds
        return fitted

    def _pretrain(self):
        """Parameters of tokeniser and encoder of the target, or None."""
        c = self.config
        if c.finetune.encoder_from:
            return finetune.target_params(checkpoint.load_params(c.finetune.encoder_from), self.target)
        if c.pretrain.algorithm == 'none':
            return None
        parts = pretraining(c, {m: self.statistics[m] for m in c.pretrain.modalities or self.statistics})
        view = functools.partial(_keep, names=tuple(parts.modalities))
        fitted = self._fit(train.Stage(
            'pretrain', parts.algorithm, view(self.splits.pretrain), view(self.splits.validation), c.pretrain.steps,
            c.pretrain.batch_size, c.pretrain.eval_every, c.seed, '',
            optim.learning_rate(c.pretrain.optimizer, c.pretrain.steps)))
        self.result['metrics'] |= {f'pretrain/{k}': v for k, v in fitted.validation.items()}
        self.result['parameters'] |= {k: _size(v) for k, v in fitted.params.items()}
        self.result['pictures'] += self._reconstructions(parts, fitted.params)
        return finetune.target_params(fitted.params, self.target)

    def _finetune(self, encoder, labels_per_class):
        c, f, tag = self.config, self.config.finetune, f'@{labels_per_class}'
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
        codes = self._rows(finetune.code(model, self.target), encoder, data['train'])
        algorithm = finetune.make(model, head, self.target, f.mode, optim.make(f.optimizer, f.steps),
                                  {**encoder, 'code': finetune.statistics(codes)})
        fitted = self._fit(train.Stage(
            f'finetune_{labels_per_class}', algorithm, data['train'], data['validation'], f.steps, f.batch_size,
            f.eval_every, c.seed, 'accuracy', optim.learning_rate(f.optimizer, f.steps)))
        r = self.result
        r['parameters'] |= {k: _size(v) for k, v in fitted.params.items()}
        r['metrics'] |= {f'validation/{k}{tag}': v for k, v in fitted.validation.items()}
        r['metrics'][f'selected_step{tag}'] = fitted.step

        logits = self._rows(finetune.logits(model, head, self.target), fitted.params, data['test'])
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

    def _rows(self, fn, params, source):
        """`fn(params, batch)` [n, ...] of a whole source in order, padding removed."""
        rows, params = self.parallel.rows(fn), self.parallel.place_state(params)
        share = dict(process=jax.process_index(), processes=jax.process_count())
        out = [rows(params, b) for b in pipeline.evaluation(source, self.config.eval_batch_size, **share)]
        return np.concatenate(out)[:len(source)]

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


def _size(tree) -> int:
    return sum(int(np.prod(x.shape)) for x in jax.tree.leaves(tree))


def provenance() -> dict:
    """Commit of the code (with '(dirty)' if files differ from it), versions and date.

    Environment: FIPJAX_COMMIT names the commit where the code runs without its git folder.
    """
    root = pathlib.Path(__file__).parent
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
