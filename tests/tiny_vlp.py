"""The small vision-language models, batches and configs that the tests share."""
from __future__ import annotations

import functools

import jax
import numpy as np
import tiny

from fipjax import config as config_lib
from fipjax.algorithms import vlp
from fipjax.models import predictors, vl

VOCAB, LENGTH, REGIONS, FEATURES, CLASSES, ANSWERS = 23, 7, 4, 5, 6, 4
PAD, CLS, SEP, MASK, UNK = range(5)
SIZES = {'visualbert': {'width': 8, 'depth': 2, 'heads': 2}, 'vilbert': {'width': 0, 'depth': 0, 'heads': 0}}
SETTINGS = vlp.Settings('mmm', 'kl', VOCAB, MASK, (PAD, CLS, SEP, MASK))


@functools.cache
def model(name='visualbert', tied=True, outputs=CLASSES, compute='float32'):
    """A model at the smallest size there is of it."""
    settings = config_lib.vlp_base().network.copy_and_resolve_references()
    settings.unlock()
    settings.update(SIZES[name])
    return vl.build(name, settings, vocab=VOCAB, features=FEATURES, region_outputs=outputs, length=LENGTH, tied=tied,
                    compute=compute)


@functools.cache
def params(name='visualbert', tied=True, outputs=CLASSES):
    """Its parameters, moved off their small start; float64, host."""
    rng = np.random.default_rng(0)
    with jax.enable_x64(False):
        return jax.tree.map(lambda x: np.asarray(x, np.float64) + rng.normal(0, 0.3, x.shape),
                            model(name, tied, outputs).init(jax.random.key(0)))


def batch(n=6, seed=0, padded=0, first_id=0):
    """A batch of `n` rows, the last `padded` of them padding; texts and pictures of different lengths; float64."""
    rng = np.random.default_rng([seed, n])
    words, regions = rng.integers(1, LENGTH - 2, n), rng.integers(1, REGIONS + 1, n)
    tokens = np.full((n, LENGTH), PAD, np.int32)
    for row, count in zip(tokens, words):
        row[:count + 2] = [CLS, *rng.integers(5, VOCAB, count), SEP]
    mask, region_mask = (np.arange(k) < c[:, None] for k, c in ((LENGTH, words + 2), (REGIONS, regions)))
    corner = rng.uniform(0, 0.5, (n, REGIONS, 2))
    boxes = np.concatenate([corner, corner + 0.4, np.full((n, REGIONS, 1), 0.16)], -1)
    classes = rng.dirichlet(np.ones(CLASSES), (n, REGIONS))
    out = {'id': first_id + np.arange(n, dtype=np.int32), 'tokens': tokens, 'token_mask': mask,
           'segments': np.zeros_like(tokens), 'region_mask': region_mask,
           'features': rng.normal(size=(n, REGIONS, FEATURES)) * region_mask[..., None],
           'boxes': boxes * region_mask[..., None], 'classes': classes * region_mask[..., None]}
    return {**out, 'mask': np.arange(n) < n - padded}


def targets(output, n=6, seed=0):
    """What a task asks for: scores, classes or labels of `n` rows; float64 where they are numbers."""
    rng = np.random.default_rng([seed, 9])
    if output == 'classes':
        return rng.integers(0, ANSWERS, n).astype(np.int32)
    if output == 'labels':
        return rng.integers(0, 2, (n, ANSWERS)).astype(np.float64)
    return rng.choice([0, 0, 0.3, 0.6, 1.0], (n, ANSWERS)) * (np.arange(ANSWERS) > 0)


@functools.cache
def pretraining(name='visualbert', optimizer=tiny.SGD, **changes):
    """Pretraining as an algorithm that starts from `params`."""
    settings = SETTINGS._replace(**changes)
    outputs = FEATURES if settings.region_loss == 'regression' else CLASSES
    start = params(name, True, outputs)
    return vlp.make(model(name, True, outputs), settings, optimizer, lambda key: start)


@functools.cache
def head():
    """The head of a task."""
    return predictors.answers(model().pooled_width, ANSWERS)


def config(**changes):
    """A config of a few steps on generated scenes; `changes` are dotted keys with __ for the dot."""
    c = config_lib.vlp_base()
    c.name = 'tiny_vlp'
    c.network.update({'width': 8, 'depth': 1, 'heads': 2})
    c.text.length, c.text.steps = 14, 3
    c.regions.features = 'frozen'
    c.sets.update({'coco': 60, 'cc': 40, 'vqa': 60, 'train': 24, 'validation': 12, 'test': 12})
    for stage in (c.pretrain, c.finetune):
        stage.steps, stage.batch_size, stage.eval_every = 4, 8, 2
        stage.optimizer.warmup_steps = 1
    c.finetune.tasks = ('vqa', 'entailment')
    c.checkpoint.every, c.log_every, c.eval_batch_size = 2, 1, 16
    for key, value in changes.items():
        group, _, leaf = key.replace('__', '.').rpartition('.')
        (config_lib.get(c, group) if group else c)[leaf] = value
    return c
