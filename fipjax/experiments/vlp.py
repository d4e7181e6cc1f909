"""Which pretraining fits a vision-language task: one pretraining (shared), fine-tuned on each task and fraction of it.

The test splits are read after every fine-tuning of every task is done, and by nothing before.
"""
from __future__ import annotations

import functools
import os
import pathlib
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from fipjax import checkpoint, optim, train
from fipjax.algorithms import vlp
from fipjax.algorithms.base import initial
from fipjax.analysis import runs
from fipjax.data import expected, region_files, vl, vl_sets
from fipjax.data import words as words_lib
from fipjax.errors import UserError
from fipjax.evaluators import classification, vl_baselines, vqa
from fipjax.experiments import base, pretrained
from fipjax.experiments.base import size
from fipjax.experiments.pretrained import INITIAL, PARAMETERS, PRETRAINED
from fipjax.models import predictors

SHARED = 'shared'


class Codes:
    """What a frozen base makes of a source, computed once."""

    def __init__(self, source, codes):
        self.ids, self.y, self.answers, self.codes = source.ids, source.y, source.answers, codes

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows) -> dict:
        """'id' int32 [B], 'code' [B, P], 'y' at `rows`."""
        return {'id': self.ids[rows], 'code': self.codes[rows], 'y': self.y[rows]}


class Parts(NamedTuple):
    """What fine-tuning on one task is made of: functions, the same with unrolled layers, head, optimiser."""

    algorithm: object
    counted: object
    head: object
    optimizer: object


class Experiment(base.Experiment):
    """One pretraining, fine-tuned on every task of `finetune.tasks` with every fraction of its training examples."""

    def __init__(self, config, path, stopped, progress, shared=None):
        super().__init__(config, path, stopped, progress)
        began = time.monotonic()
        f = config.finetune
        self.tokenizer = words_lib.build(config.text.tokenizer, 'text.tokenizer')
        expected.check('expected', config.expected, {'vocab': self.tokenizer.size})
        self.prepare({name: self.task(name) for name in f.tasks}, pretrained.data(config, self.tokenizer, progress))
        folder = pathlib.Path(shared) if shared else path / SHARED
        if progress:
            for splits in self.tasks.values():
                print(f'task: {splits.task.description}', flush=True)
        self.result |= {'pretraining': self.found.description if self.found else 'none',
                        'mode': f.mode, 'inputs': f.inputs, 'references': {}, 'headline': [],
                        'tokenizer': self.tokenizer.record(),
                        'target': '; '.join(s.task.description for s in self.tasks.values()),
                        'test_examples': ', '.join(f'{k} {len(s.test)}' for k, s in self.tasks.items())}
        self.result['seconds']['data'] = time.monotonic() - began
        self.base = self._start(folder, stopped, progress)

    def task(self, name) -> vl.Splits:
        """The data of a task, as `expected` has them where they are one's own."""
        c = self.config
        splits = vl.task(vl_sets.build_task(name, c, self.progress), self.tokenizer, c.text.length, c.finetune.inputs)
        if vl_sets.is_own(name):
            expected.check_pictures(c, splits.train, splits.task.output, len(splits.task.classes))
        return splits

    def prepare(self, tasks, found) -> None:
        """All that needs no pretrained model. tasks: name -> splits; found: pretraining data or None."""
        c = self.config
        self.tasks = {vl_sets.label(name): splits for name, splits in tasks.items()}
        self.found = found
        self.width = self._width()
        outputs = found.outputs if found else self.width
        self.made = pretrained.build(c, self.tokenizer, self.width, outputs)
        self.model = self.made.model
        self.shares = {self.at(x): x for x in c.finetune.fractions}

    def _width(self):
        """Width of the region features, the same in all data."""
        known = {k: (s.train.regions.features.shape[-1], s.train.regions.detector) for k, s in self.tasks.items()}
        if self.found:
            known['pretrain.data'] = self.found.features, self.found.detector
        widths, names = zip(*known.values())
        if len(set(widths)) > 1 or len(set(names) - {''}) > 1:
            raise UserError('pretraining and tasks need region features of the same detector; found ' + '; '.join(
                f'{k}: {detector or "no name given"}, {region_files.wide(n)}' for k, (n, detector) in known.items()))
        return next(iter(known.values()))[0]

    def _start(self, folder, stopped, progress):
        """Parameters of the base that every fine-tuning starts from."""
        if self.found is None:
            first = next(iter(self.tasks.values())).train
            start = pretrained.start(self.config, self.made, first, self.tokenizer, self.path, folder, stopped,
                                     progress)['base']
            checkpoint.save_params(self.path / PARAMETERS / INITIAL, {'base': start})
            return start
        where = pretrained.obtain(self.config, self.found, self.made, self.tokenizer, folder, stopped, progress)
        result = runs.load_json(where / runs.RESULT)
        self.result['pretrained'] = os.path.relpath(where, self.path)  # so that both can be moved together
        for key in ('seconds', 'flops'):
            self.result[key]['pretrain'] = result[key]['pretrain']
        self.result['metrics'] |= {f'pretrain/{k}': v for k, v in result['metrics'].items()}
        return checkpoint.read_params(where / PARAMETERS / PRETRAINED)['base']

    @staticmethod
    def at(share: float) -> str:
        """A fraction as names have it."""
        return f'{100 * share:g}%'

    def stages(self) -> None:
        """See the class."""
        done = {}
        for name, splits in self.tasks.items():
            parts, coded = self.parts(splits)
            for at, share in self.shares.items():
                done[name, at] = self._finetune(parts, coded, name, at, share), parts
        for (name, at), (params, parts) in done.items():
            self._test(params, parts, name, at)
        by_fraction = sorted(done, key=lambda k: self.shares[k[1]])
        self.result['headline'] = [f'test/{name}/{vqa.HEADLINE[self.tasks[name].task.output]}@{at}'
                                   for at in self.shares for name, other in by_fraction if other == at]
        self.result['parameters'] = {k: size(v) for k, v in next(iter(done.values()))[0].items()}

    def parts(self, splits) -> tuple[Parts, vl.Splits]:
        """What fine-tuning on a task is made of, and the data as it sees them."""
        f, task = self.config.finetune, splits.task
        head = predictors.answers(self.model.pooled_width, len(task.classes))
        optimizer = optim.tunable(f.optimizer, f.steps)
        trained = ('base', 'head') if f.mode == 'full' else ('head',)
        if f.mode == 'frozen':
            of = lambda params, batch: head.apply(params['head'], batch['code'])  # noqa: E731
            logits = counted = of
        else:
            logits, counted = (vlp.logits(model, head, task.output) for model in (self.model, self.made.counted))
        make = functools.partial(vlp.finetune, output=task.output, trained=trained, optimizer=optimizer, start={})
        parts = Parts(make(logits, micro_batch=f.micro_batch), make(counted), head, optimizer)
        return parts, self._coded(splits) if f.mode == 'frozen' else splits

    def _coded(self, splits) -> vl.Splits:
        """Training and validation as codes of the frozen base; the test split is left alone."""
        pooled = functools.partial(_pooled, self.model, vlp.pooler(splits.task.output))
        made = [Codes(s, self.rows(pooled, {'base': self.base}, s)) for s in (splits.train, splits.validation)]
        return splits._replace(train=made[0], validation=made[1])

    def stages_of(self, parts, splits, name, at, share):
        """Fine-tuning for each learning rate that is tried: (rate, stage, the algorithm to count FLOPs of)."""
        c, f, task = self.config, self.config.finetune, splits.task
        examples = vl.subset(splits.train, share, c.seed)
        head = jax.device_get(parts.head.init(jax.random.fold_in(jax.random.key(c.seed), 1)))
        # Rare answers start as rare: hundreds of steps would go into that alone, at the rates of small models.
        head['linear']['bias'] = prior(task, examples.y)
        start = {'head': head, **({'base': self.base} if f.mode == 'full' else {})}
        for i, rate in enumerate(f.learning_rates or (f.optimizer.learning_rate,)):
            stage_name = f'{name}@{at}' + (f'_rate{i}' if len(f.learning_rates) > 1 else '')
            settings = ConfigDict({**f.optimizer.to_dict(), 'learning_rate': rate})
            stage = train.Stage(stage_name, _started(parts.algorithm, parts, start, rate, f.mode), examples,
                                splits.validation, f.steps, f.batch_size, f.eval_every, c.seed,
                                vqa.HEADLINE[task.output], optim.learning_rate(settings, f.steps))
            yield rate, stage, _started(parts.counted, parts, start, 1.0, f.mode)

    def _finetune(self, parts, splits, name, at, share):
        """Parameters at the best step of the best learning rate by validation."""
        f, metric = self.config.finetune, vqa.HEADLINE[splits.task.output]
        found = {rate: self.fit(stage, counted)
                 for rate, stage, counted in self.stages_of(parts, splits, name, at, share)}
        rate = max(found, key=lambda r: found[r].validation[metric])  # the first of equals
        fitted = found[rate]
        self.result['metrics'] |= {f'validation/{name}/{k}@{at}': v for k, v in fitted.validation.items()}
        self.result['metrics'] |= {f'selected_step/{name}@{at}': fitted.step, f'selected_rate/{name}@{at}': rate}
        params = {'base': self.base, **fitted.params}
        if f.mode == 'full':
            checkpoint.save_params(self.path / PARAMETERS / f'{name}@{at}', params)
        return params

    def _test(self, params, parts, name, at):
        splits, r = self.tasks[name], self.result
        task, test = splits.task, splits.test
        predicted = self.rows(_logits(self.model, parts.head, task.output), params, test)
        r['metrics'] |= {f'test/{name}/{k}@{at}': v
                         for k, v in vqa.score(task.output, task.classes, predicted, test.y).items()}
        if task.output == 'classes':
            details = classification.evaluate(predicted, test.y, task.classes)
            r['details'][f'test/{name}/accuracy@{at}'] = {k: details[k] for k in ('confusion', 'classes', 'count')}
        # What simple models reach is a matter of the task, whatever `finetune.inputs` lets this one see.
        whole = vl.subset(splits.train.whole(), self.shares[at], self.config.seed)
        simple = vl_baselines.simple(task, whole, splits.validation.whole(), test.whole(), self.tokenizer.size)
        for reference, found in simple.items():
            r['references'].setdefault(reference, {}).update({f'test/{name}/{k}@{at}': v for k, v in found.items()})


def prior(task, y) -> np.ndarray:
    """The logits of a model that knows how often each answer is right and nothing else, float32 [K]."""
    y = np.eye(len(task.classes))[y] if task.output == 'classes' else y
    share = (y.sum(0) + 1) / (len(y) + 2)  # Laplace's rule: nothing is certain
    return np.float32(np.log(share) if task.output == 'classes' else np.log(share / (1 - share)))


def _pooled(model, pooler, params, batch):
    return model.pooled(params['base'], model.encode(params['base'], batch), batch, pooler)


@functools.cache
def _logits(model, head, output):
    return vlp.logits(model, head, output)


def _started(algorithm, parts: Parts, params, rate, mode):
    """The algorithm from given parameters with a given learning rate."""
    trained = ('base', 'head') if mode == 'full' else ('head',)

    def init(key):
        whole = jax.tree.map(jnp.asarray, dict(params))
        state = initial(key, whole, {k: whole[k] for k in trained}, parts.optimizer)
        return state._replace(opt_state=optim.with_rate(state.opt_state, rate))
    return algorithm._replace(init=init)
