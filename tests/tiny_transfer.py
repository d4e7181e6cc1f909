"""The small encoders, networks, parameters and batches that the tests of the transfer wing share."""
from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import numpy as np
import tiny
from ml_collections import ConfigDict

from fipjax import config as config_lib
from fipjax.algorithms import transfer
from fipjax.data import labelled
from fipjax.experiments import source as source_lib
from fipjax.models import encoders, swin

CLASSES = 3
SOURCE_CLASSES = 4
OUTPUTS = ('classes', 'multilabel', 'dense')
SHAPE = {'2d': (6, 6, 1), '1d': (11, 2)}  # pictures are resized to 8 x 8; the last of four chunks of 3 has 2 samples
SOURCE_SHAPE = (8, 8, 2)


class Case(NamedTuple):
    """What a test runs on: encoder family, 'lengths' are sequences of different length, output, form of the layers."""

    family: str = 'vit'
    kind: str = '2d'
    output: str = 'classes'
    layers: str = 'scan'
    remat: bool = True
    lengths: bool = False


@functools.cache
def encoder(family: str, layers: str, remat: bool) -> encoders.Encoder:
    """Two layers of 8 numbers a token; Swin: a plain and a shifted one of 4, and two more of 8 after merging."""
    if family == 'swin':
        init, apply = swin.build(4, 4, (2, 2), (1, 2), 2, layers, remat)
        return encoders.Encoder(init, apply, 4, 8, (4, 4), 8, 2, False, (2, 2))
    return encoders.build(ConfigDict({**config_lib.ENCODER, 'family': family, 'width': 8, 'depth': 2, 'heads': 2,
                                      'image_size': 8, 'patch': 4, 'layers': layers, 'remat': remat}))


def task(kind: str, output: str) -> labelled.Task:
    """A task on SHAPE[kind]: three classes or labels, or a field of two channels."""
    shape = {'classes': (), 'multilabel': (CLASSES,), 'dense': (*SHAPE[kind][:-1], 2)}[output]
    names = () if output == 'dense' else tuple('abc')
    return labelled.Task(kind, output, SHAPE[kind], shape, names, None, '')


@functools.cache
def network(case: Case) -> tuple[transfer.Network, object, dict]:
    """The target's network, e0, and what makes fresh parameters of both."""
    shared = encoder(case.family, case.layers, case.remat)
    made, fresh = source_lib.network(task(case.kind, case.output), shared, 3 if case.kind == '1d' else 0)
    wanted = labelled.Task('2d', 'classes', SOURCE_SHAPE, (), tuple('wxyz'), None, '')
    source, source_fresh = source_lib.network(wanted, shared, 0)
    return made, source.embed, {**fresh, 'source_embedder': source_fresh['embedder']}


@functools.cache
def _start(family, kind, output):
    with jax.enable_x64(False):
        fresh = network(Case(family, kind, output))[2]
        shapes = {k: jax.eval_shape(init, jax.random.key(0)) for k, init in fresh.items()}
    rng = np.random.default_rng(7)

    def draw(path, shape):
        name, x = path[-1].key, rng.normal(size=shape.shape)
        return 1 + 0.2 * x if name == 'scale' else 0.5 * x if name == 'kernel' else 0.2 * x

    return jax.tree_util.tree_map_with_path(draw, shapes)


def start(case: Case) -> dict:
    """Random float64 parameters, none of them 0 or 1: 'embedder', 'encoder', 'predictor', 'source_embedder'."""
    return jax.tree.map(np.copy, _start(*case[:3]))


def batch(case: Case, n: int = 6, padded: int = 0, seed: int = 0, first_id: int = 0) -> dict:
    """Target rows in float64; the last `padded` ones are noise with mask False."""
    rng = np.random.default_rng([seed, n])
    shape = (n, *task(case.kind, case.output).target_shape)
    y = {'classes': lambda: rng.integers(0, CLASSES, n).astype(np.int32),
         'multilabel': lambda: rng.integers(0, 2, shape).astype(np.float64),
         'dense': lambda: rng.normal(size=shape)}[case.output]()
    out = {'id': np.arange(first_id, first_id + n, dtype=np.int32), 'x': rng.normal(size=(n, *SHAPE[case.kind])),
           'y': y, 'mask': np.arange(n) < n - padded}
    if case.lengths:
        out['length'] = rng.integers(1, SHAPE[case.kind][0] + 1, n).astype(np.int32)
        out['x'] *= (np.arange(SHAPE[case.kind][0]) < out['length'][:, None])[..., None]
    return out


def with_source(target: dict, labels=(0, 1, 0, 0, 2, 1, 3, 0), seed: int = 0) -> dict:
    """A batch with source rows beside it. By default classes are uneven, and two of them have a single example."""
    rng = np.random.default_rng([seed, 5])
    own = {'x': rng.normal(size=(len(labels), *SOURCE_SHAPE)), 'y': np.asarray(labels, np.int32),
           'row': np.arange(len(labels), dtype=np.int32)}
    return {**target, 'source': own}


# --- The losses and the forward passes once more ---------------------------------------------------------------------

def losses(output: str, predicted, y) -> np.ndarray:
    """The loss of each example in NumPy, one number at a time."""
    out = []
    for p, t in zip(np.asarray(predicted), np.asarray(y), strict=True):
        if output == 'classes':
            out.append(np.log(sum(np.exp(v - p[t]) for v in p)))
        elif output == 'multilabel':
            chance = 1 / (1 + np.exp(-p))
            out.append(-np.mean([np.log(c if label else 1 - c) for c, label in zip(chance, t, strict=True)]))
        else:
            out.append(np.mean([(a - b) ** 2 for a, b in zip(p.ravel(), t.ravel(), strict=True)]))
    return np.array(out)


@functools.cache
def forward(case: Case):
    """(params, x, length) -> h(f(e(x))), compiled, without any function of fipjax.algorithms."""
    made = network(case)[0]

    def of(params, x, length):
        tokens, mask = made.embed(params['embedder'], {'x': x, 'length': length})
        return made.predict(params['predictor'], made.encode(params['encoder'], tokens, mask), mask)
    return jax.jit(of)


def real(batch: dict) -> dict:
    """The rows that are not padding, without 'mask' and 'source'."""
    return {k: v[batch['mask']] for k, v in batch.items() if k not in ('mask', 'source')}


def inner_loss(case: Case, params, batch) -> float:
    """L_inner (1) in NumPy, of the real rows."""
    rows = real(batch)
    return losses(case.output, forward(case)(params, rows['x'], rows.get('length')), rows['y']).mean()


def direction(params, rng, *parts):
    """Random numbers for the named parts of the parameters, zeros for the others."""
    return {k: jax.tree.map(lambda x, k=k: rng.normal(size=x.shape) * (k in parts), v) for k, v in params.items()}


def moved(params, along, step):
    """params + step * along."""
    return jax.tree.map(lambda x, d: x + step * d, params, along)


def dot(a, b) -> float:
    """Inner product of two trees of the same form."""
    return sum(float((np.asarray(x) * np.asarray(y)).sum())
               for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def gradients(algorithm, params, batch, trained):
    """What a step with `optax.sgd(1.0)` subtracts from the parameters, and its metrics as sum / count."""
    before = tiny.state(params)._replace(opt_state=tiny.SGD.init({k: params[k] for k in trained}))
    after, metrics = tiny.compiled(algorithm)(before, batch)
    lost = jax.tree.map(lambda a, b: np.asarray(a) - np.asarray(b), params, after.params)
    return lost, {k: float(s) / float(n) for k, (s, n) in jax.device_get(metrics).items()}
