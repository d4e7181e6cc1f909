"""The pretrained vision-language model: made once for all runs that fine-tune it, or only initialised.

It is a run of its own, in a folder named after the hash of its settings, with config, log, result, report and the
parameters before and after.
"""
from __future__ import annotations

import functools
import math
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from fipjax import checkpoint, optim, train, writer
from fipjax.algorithms import vlp
from fipjax.analysis import runs
from fipjax.data import blank, expected, vl, vl_sets
from fipjax.data import words as words_lib
from fipjax.errors import UserError
from fipjax.experiments import base, shared
from fipjax.experiments.base import size
from fipjax.models import published_vl
from fipjax.models import vl as models

PARAMETERS = 'parameters'
INITIAL, PRETRAINED = 'initial', 'pretrained'
MADE_OF = ('model', 'network', 'text', 'regions', 'sets', 'pretrain', 'seed', 'compute', 'init')
KIND = 'pretrained model'
SOME = 1000  # pictures that tell the scale of region features
VARIANCE_EPS = 1e-4  # of region features, so that constant ones stay constant


class Data(NamedTuple):
    """A pretraining set: its sources, widths of features and of region outputs, and what it is, for people."""

    train: Any
    validation: Any
    features: int
    outputs: int
    detector: str
    description: str


class Models(NamedTuple):
    """The model, and the same with unrolled layers and in float32 for counting FLOPs."""

    model: models.Model
    counted: models.Model


def settings(config: ConfigDict) -> ConfigDict:
    """What of a config of the wing 'vlp' makes its pretrained model: the config of that run."""
    groups = ('network', 'text', 'regions', 'sets', 'pretrain', 'checkpoint', 'parallel')
    given = {k: config[k].to_dict() for k in groups}
    given['pretrain'].pop('workdir', None)
    given['network'] |= {'layers': 'scan', 'remat': False}  # another way to compute the same
    for name in ('train', 'validation', 'test', 'ccg') if config.pretrain.data != 'ccg' else ():
        given['sets'].pop(name, None)  # of the tasks, and of another set
    if config.get('init', {}).get('checkpoint'):  # there is none in the config of a pretrained model without one
        given['init'] = config.init.to_dict()
    name = f'{config.name.partition(":")[0]}: {KIND}'
    return ConfigDict({'wing': 'pretrained', 'name': name, 'variant': '', 'model': config.model, 'seed': config.seed,
                       'compute': config.compute, 'threads': config.threads, 'log_every': config.log_every,
                       'eval_batch_size': config.eval_batch_size, **given})


def data(config: ConfigDict, tokenizer, progress: bool) -> Data | None:
    """The pretraining data; None where there is no pretraining.

    Raises:
      UserError: they are bad, lack what the objective needs, or do not fit `pretrain.workdir`.
    """
    p = config.pretrain
    if p.workdir:
        _check_tokenizer(pathlib.Path(p.workdir), tokenizer)
        shared.check(pathlib.Path(p.workdir), settings(config), MADE_OF, 'pretrain.workdir', KIND)
    if p.data == 'none':
        return None
    found = vl_sets.build_pretraining(p.data, config, progress)
    kl = p.objective == 'mmm' and p.region_loss == 'kl'
    if kl and found.regions.classes is None:
        raise UserError(f'pretrain.region_loss is kl, but {found.name} has no class distributions of a detector; use '
                        '--config.pretrain.region_loss=regression')
    sources = vl.pretraining(found, tokenizer, config.text.length, p.share * vl_sets.share(p.data),
                             p.mismatched_captions, config.sets.seed, p.inputs)
    features = found.regions.features.shape[-1]
    if vl_sets.is_own(p.data):
        expected.check_pictures(config, sources[0])
    return Data(*sources, features, found.regions.classes.shape[-1] if kl else features, found.regions.detector,
                found.description)


def expected_data(config: ConfigDict) -> Data:
    """As `data` of a folder or of TFDS, of zeros as `config.expected` has them."""
    e, p = config.expected, config.pretrain
    kl = p.objective == 'mmm' and p.region_loss == 'kl'
    if kl and not e.detector_classes:
        raise UserError('expected.detector_classes is 0, but pretrain.region_loss is kl; say how many there are, or '
                        'use --config.pretrain.region_loss=regression')
    examples = max(1, round(p.share * (e.pretrain_examples or p.batch_size)))
    source = blank.pictures(config, examples, e.detector_classes)
    source.inputs = p.inputs
    return Data(source, source, e.features, e.detector_classes if kl else e.features, '', 'as expected.* says')


def build(config: ConfigDict, tokenizer, features: int, outputs: int) -> Models:
    """The model of a config; raises UserError for sizes that do not fit, or a checkpoint.

    Args:
      config: of the wing 'vlp'.
      tokenizer: fipjax.data.words.Tokenizer.
      features: width of the region features.
      outputs: width of the region head's output.
    """
    make = functools.partial(models.build, config.model, vocab=tokenizer.size, features=features,
                             region_outputs=outputs, length=config.text.length, tied=config.pretrain.tied)
    unrolled = ConfigDict({**config.network.to_dict(), 'layers': 'unroll', 'remat': False})
    made = Models(make(config.network, compute=config.compute), make(unrolled))
    if config.init.sha256:  # without, a plan has no file
        published_vl.start(config, jax.eval_shape(made.model.init, jax.random.key(0)), tokenizer)
    return made


def start(config: ConfigDict, made: Models, seen, tokenizer, path: pathlib.Path, folder: pathlib.Path, stopped,
          progress: bool) -> dict:
    """Parameters before the model sees a picture, host arrays: fresh ones by seed, with what `init.checkpoint` has.

    With `text.start=texts`: all of the base, and the head of words where it is tied, of a model pretrained by MLM on
    generated texts alone, a shared run of its own; as BERT is to the study.

    Args:
      seen: source of the pictures that training begins with; their features set the scale of the regions' projection
        where it is fresh.
      path: workdir of the run that starts, for shared.REPORT.

    Raises:
      UserError: the checkpoint does not fit, see fipjax.models.published_vl.start.
    """
    params = jax.device_get(made.model.init(jax.random.key(config.seed)))
    projected = False
    if config.get('init', {}).get('checkpoint'):
        params, projected, report = published_vl.start(config, params, tokenizer)
        writer.write_atomically(path / shared.REPORT, report + '\n')
    elif config.text.start == 'texts':
        params |= _texts(config, made, tokenizer, folder, stopped, progress)
    if seen.inputs != 'text' and not projected:
        some = np.unique(seen.picture)[:SOME]
        features = seen.regions.features[some]
        valid = np.arange(features.shape[1]) < seen.regions.count[some, None]
        features = features[valid].astype(np.float64)
        moments = features.mean(0), np.sqrt(features.var(0) + VARIANCE_EPS)
        params['base'] = models.standardised(params['base'], *map(np.float32, moments))
    return params


def _texts(config, made, tokenizer, folder, stopped, progress):
    """What a model of texts alone hands on; made if it is not there."""
    c = texts_config(config)
    where = obtain(c, data(c, tokenizer, progress), made, tokenizer, folder, stopped, progress)
    known = checkpoint.read_params(where / PARAMETERS / PRETRAINED)
    return {k: known[k] for k in ('base', *(('words',) if config.pretrain.tied else ()))}


def texts_config(config: ConfigDict) -> ConfigDict:
    """The config of the model of texts alone that `text.start=texts` begins with."""
    c = config.copy_and_resolve_references()
    c.unlock()
    c.update({'pretrain': {
        **config.pretrain.to_dict(), 'data': 'texts', 'objective': 'mlm', 'inputs': 'text', 'share': 1.0, 'workdir': '',
        'mismatched_captions': False, 'zero_regions': False, 'padded_regions': False, 'steps': config.text.steps,
        'eval_every': config.text.steps}})
    c.text.start = ''
    return c


def obtain(config: ConfigDict, found: Data, made: Models, tokenizer, folder: pathlib.Path, stopped,
           progress: bool) -> pathlib.Path:
    """Workdir of the pretrained model of a config: `pretrain.workdir`, or in `folder`; trained if it is not there.

    Raises:
      Interrupted: `stopped()` said so while it was trained or waited for.
    """
    wanted = settings(config)
    path = pathlib.Path(config.pretrain.workdir or folder / f'pretrained-{shared.identity(wanted, MADE_OF)}').absolute()
    shared.obtain(path, wanted, lambda p: _Training(wanted, p, stopped, progress, found, made, tokenizer, folder).all(),
                  stopped, progress, KIND)
    return path


def _check_tokenizer(path, tokenizer):
    if (path / runs.RESULT).exists():
        stored = runs.load_json(path / runs.RESULT).get('tokenizer', {})
        words_lib.check(tokenizer, stored, f'pretrain.workdir={path}')


def stage(config: ConfigDict, found: Data, made: Models, tokenizer, first):
    """What pretrains a model.

    Args:
      config: with the groups `pretrain`, `seed`.
      first: parameters before the first step; those of regions are not used in MLM.

    Returns:
      train.Stage, the algorithm to count FLOPs of.
    """
    c, p, t = config, config.pretrain, tokenizer
    chosen = vlp.Settings(p.objective, p.region_loss, t.size, t.mask, (t.pad, t.cls, t.sep, t.mask),
                          p.zero_regions, p.padded_regions)
    optimizer = optim.make(p.optimizer, p.steps)
    first = {k: v for k, v in first.items() if p.objective == 'mmm' or k != 'regions'}
    make = functools.partial(vlp.make, settings=chosen, optimizer=optimizer,
                             start=lambda key: jax.tree.map(jnp.asarray, first))
    algorithm = make(made.model, micro_batch=p.micro_batch)
    wanted = train.Stage('pretrain', algorithm, found.train, found.validation, p.steps, p.batch_size, p.eval_every,
                         c.seed, '', optim.learning_rate(p.optimizer, p.steps))
    # So that the one chunk that is counted is what is chosen on average.
    batch = train.first_batch(wanted)
    chunks = tuple(max(1, math.ceil(vlp.RATE * np.sum(batch[k]))) for k in ('token_mask', 'region_mask'))
    return wanted, make(made.counted, chunks=chunks)


class _Training(base.Experiment):
    """Masked pretraining for a fixed number of steps; the last step is what is used, as in the study."""

    def __init__(self, config, path, stopped, progress, found, made, tokenizer, folder):
        super().__init__(config, path, stopped, progress)
        self.found, self.made, self.tokenizer, self.folder = found, made, tokenizer, folder

    def stages(self) -> None:
        """See the class."""
        found, t = self.found, self.tokenizer
        first = start(self.config, self.made, found.train, t, self.path, self.folder, self.stopped,
                      self.progress)
        checkpoint.save_params(self.path / PARAMETERS / INITIAL, {'base': first['base']})
        fitted = self.fit(*stage(self.config, found, self.made, t, first))
        checkpoint.save_params(self.path / PARAMETERS / PRETRAINED, fitted.params)
        r = self.result
        r['parameters'] = {k: size(v) for k, v in fitted.params.items()}
        r['metrics'] = {f'validation/{k}': v for k, v in fitted.validation.items()}
        r |= {'headline': [f'validation/{k}' for k in ('words', 'word_accuracy', 'regions') if k in fitted.validation],
              'target': found.description, 'test_examples': 0,
              'tokenizer': t.record()}
