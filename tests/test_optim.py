"""The optimisers against AdamW, Adam with an L2 term and SGD written out in NumPy; layer-wise decay against tables."""
import math
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import vl_batches
from ml_collections import ConfigDict

from fipjax import optim
from fipjax.models import bert, swin, vit


def settings(**changes):
    return types.SimpleNamespace(**{'kind': 'adamw', 'learning_rate': 0.1, 'warmup_steps': 3, 'weight_decay': 0.05,
                                    'b2': 0.95, 'clip': 1.0, **changes})


def test_learning_rate_rises_linearly_and_falls_as_a_cosine_to_zero():
    rate = optim.learning_rate(settings(), 11)
    wanted = [0.1 * i / 3 for i in range(3)] + [0.05 * (1 + math.cos(math.pi * i / 8)) for i in range(9)]
    assert [float(rate(i)) for i in range(12)] == pytest.approx(wanted, abs=1e-7)


@pytest.mark.parametrize('steps', [1, 2, 3])
def test_schedules_shorter_than_the_warm_up_stay_finite(steps):
    values = [float(optim.learning_rate(settings(warmup_steps=100), steps)(i)) for i in range(steps + 1)]
    assert all(math.isfinite(v) and 0 <= v <= 0.1 * (1 + 1e-6) for v in values)
    assert max(values) == pytest.approx(0.1)


@pytest.mark.parametrize('kind, clip', [('adamw', 1.0), ('adamw', 0.0), ('adam', 1.0), ('sgd', 1.0), ('sgd', 0.0)])
def test_updates_by_hand(kind, clip):
    rng, s = np.random.default_rng(0), settings(kind=kind, clip=clip)
    params = {'w': rng.normal(size=(3, 2)), 'b': rng.normal(size=2)}
    optimizer = optim.make(s, 11)
    with jax.enable_x64(True):
        update = jax.jit(optimizer.update)
        mine, theirs, state = params, params, optimizer.init(params)
        m, v = ({k: np.zeros_like(x) for k, x in params.items()} for _ in range(2))
        for t in range(1, 5):
            g = {k: rng.normal(size=x.shape) * 2 for k, x in params.items()}
            changes, state = update(g, state, theirs)
            theirs = jax.tree.map(np.asarray, optax.apply_updates(theirs, changes))
            norm = math.sqrt(sum((x ** 2).sum() for x in g.values()))
            g = {k: x / max(norm, 1.0) for k, x in g.items()} if clip else g
            lr = [0.1 * i / 3 for i in range(3)] + [0.1]
            for k in params:
                decay = 0.05 * mine[k] if k == 'w' else 0  # biases are not decayed
                if kind != 'adamw':
                    g[k], decay = g[k] + decay, 0
                if kind == 'sgd':
                    step = m[k] = 0.9 * m[k] + g[k]
                else:
                    m[k] = 0.9 * m[k] + 0.1 * g[k]
                    v[k] = 0.95 * v[k] + 0.05 * g[k] ** 2
                    step = m[k] / (1 - 0.9 ** t) / (np.sqrt(v[k] / (1 - 0.95 ** t)) + 1e-8)
                mine = {**mine, k: mine[k] - lr[t - 1] * (step + decay)}
            for k in params:
                np.testing.assert_allclose(theirs[k], mine[k], rtol=1e-6)


@pytest.mark.parametrize('clip', [1.0, 0.0])
def test_the_state_of_adamw_is_optaxs_own(clip):
    """Checkpoints hold it."""
    params = {'w': jnp.ones((2, 3)), 'b': jnp.ones(3)}
    adamw = optax.adamw(lambda step: 0.1, mask=optim.decayed)
    wanted = optax.chain(optax.clip_by_global_norm(clip), adamw) if clip else adamw
    assert jax.tree.structure(optim.make(settings(clip=clip, layer_decay=1.0), 11).init(params)) \
        == jax.tree.structure(wanted.init(params))


def test_decay_is_for_matrices_only():
    params = {'kernel': np.zeros((2, 3)), 'bias': np.zeros(3), 'scale': np.zeros(1), 'table': np.zeros((1, 2, 3))}
    assert optim.decayed(params) == {'kernel': True, 'bias': False, 'scale': False, 'table': True}


@pytest.mark.parametrize('name', ['vit', 'bert', 'swin', 'visualbert', 'vilbert'])
def test_decay_is_for_matrices_of_stacked_layers_too(name):
    """A vector of each of several layers is no matrix."""
    found = {True: [], False: []}
    shapes = shapes_of(name)
    for (path, shape), yes in zip(jax.tree_util.tree_leaves_with_path(shapes), jax.tree.leaves(optim.decayed(shapes)),
                                  strict=True):
        stacked = any(k.key.endswith('blocks') for k in path)
        assert yes == (len(shape.shape) - stacked > 1), path
        found[yes].append(stacked)
    assert all({True, False} == set(stacked) for stacked in found.values())


@pytest.mark.parametrize('kind', optim.KINDS)
def test_a_rate_in_the_state_is_as_one_in_the_schedule(kind):
    settings = ConfigDict({'kind': kind, 'learning_rate': 1e-3, 'warmup_steps': 2, 'weight_decay': 0.1, 'b2': 0.99,
                           'clip': 0.5})
    params = {'w': jnp.linspace(-1.0, 1.0, 6).reshape(2, 3), 'b': jnp.ones(3)}
    tunable = optim.tunable(settings, 8)
    for rate in (1e-3, 3e-2):
        wanted = optim.make(ConfigDict({**settings.to_dict(), 'learning_rate': rate}), 8)
        ours, theirs = optim.with_rate(tunable.init(params), rate), wanted.init(params)
        p = q = params
        for step in range(5):
            grads = {k: jnp.sin(v * (step + 1)) for k, v in params.items()}
            change, ours = tunable.update(grads, ours, p)
            p = optax.apply_updates(p, change)
            change, theirs = wanted.update(grads, theirs, q)
            q = optax.apply_updates(q, change)
        for k in params:
            np.testing.assert_allclose(p[k], q[k], rtol=1e-6, atol=1e-8)
            assert np.abs(p[k] - params[k]).max() > rate / 10


# --- Layer-wise decay -------------------------------------------------------------------------------------------------

HOW = {'layers': 'scan', 'remat': False}
# From the names of a tree of parameters to the number of layers above, one for each layer that is stacked there.
ENDS = {'embedder': 0, 'predictor': 0}
ABOVE = {
    'vit': {**ENDS, 'embedder': 4, 'encoder/cls': 4, 'encoder/blocks': [3, 2, 1], 'encoder/norm': 0},
    'bert': {**ENDS, 'embedder': 3, 'encoder/blocks': [2, 1]},
    'swin': {**ENDS, 'embedder': 9, 'encoder/stage_0/blocks/plain': [8, 6], 'encoder/stage_0/blocks/shifted': [7, 5],
             'encoder/stage_0/merge': 5, 'encoder/stage_1/blocks/plain': [4], 'encoder/stage_1/blocks/shifted': [3],
             'encoder/stage_1/merge': 3, 'encoder/stage_2/blocks/plain': [2], 'encoder/stage_2/blocks/shifted': [1],
             'encoder/norm': 0},
    'no encoder': ENDS,
    'visualbert': {'base/embeddings': 3, 'base/blocks': [2, 1], 'base/pooler': 0, 'words': 0, 'regions': 0},
    'vilbert': {'base/embeddings': 7, 'base/region_embeddings': 4, 'base/text_blocks': [6, 5, 4, 3, 2, 1],
                'base/region_blocks': [3, 2, 1], 'base/co_blocks': [3, 2, 1], 'base/text_pooler': 0,
                'base/region_pooler': 0, 'words': 0, 'regions': 0},
    'head': {'head': 0}}


def shapes_of(name):
    """The trained parameters of a model by that name."""
    if name in ('visualbert', 'vilbert'):
        made = vl_batches.model(name, variant='cpu' if name == 'visualbert' else 'mini')
        return jax.eval_shape(made.init, jax.random.key(0))
    linear = {'linear': {'kernel': jax.ShapeDtypeStruct((3, 2), np.float32),
                         'bias': jax.ShapeDtypeStruct((2,), np.float32)}}
    if name == 'head':
        return {'head': linear}
    build = {'vit': lambda: vit.build(8, 3, 2, **HOW), 'bert': lambda: bert.build(8, 2, 2, **HOW),
             'swin': lambda: swin.build(8, 4, (4, 2, 2), (1, 2, 2), 2, **HOW)}
    own = {'encoder': jax.eval_shape(build[name]()[0], jax.random.key(0))} if name in build else {}
    if name == 'vit':
        own['encoder']['cls'] = jax.ShapeDtypeStruct((2, 8), np.float32)
    return {'embedder': linear, 'predictor': linear, **own}


@pytest.mark.parametrize('name', ABOVE)
def test_layers_above(name):
    shapes, unseen = shapes_of(name), set(ABOVE[name])
    for path, n in jax.tree_util.tree_leaves_with_path(optim.layers_above(shapes)):
        where = '/'.join(k.key for k in path)
        key, = (k for k in ABOVE[name] if where.startswith(f'{k}/') or where == k)
        np.testing.assert_array_equal(n.ravel(), np.ravel(ABOVE[name][key]), err_msg=where)
        unseen.discard(key)
    assert not unseen
    for n, leaf in zip(jax.tree.leaves(optim.layers_above(shapes)), jax.tree.leaves(shapes), strict=True):
        assert n.ndim == len(leaf.shape) and n.shape[1:] == (1,) * (n.ndim - 1)


@pytest.mark.parametrize('kind', optim.KINDS)
@pytest.mark.parametrize('form', [optim.make, optim.tunable])
def test_layer_decay_scales_the_whole_update(form, kind):
    rng, shapes = np.random.default_rng(0), shapes_of('swin')
    draw = lambda: jax.tree.map(lambda s: rng.normal(size=s.shape).astype(np.float32), shapes)  # noqa: E731
    params, grads = draw(), [draw() for _ in range(3)]
    plain, scaled = (form(ConfigDict({**vars(settings(kind=kind, weight_decay=0.5)), 'layer_decay': d}), 9)
                     for d in (1.0, 0.5))
    one, two = plain.init(params), scaled.init(params)
    for g in grads:
        wanted, one = plain.update(g, one, params)
        got, two = scaled.update(g, two, params)

    def check(path, got, wanted):
        where = '/'.join(k.key for k in path)
        key, = (k for k in ABOVE['swin'] if where.startswith(f'{k}/'))
        for i, n in enumerate(np.ravel(ABOVE['swin'][key])):
            part = slice(None) if np.ndim(ABOVE['swin'][key]) == 0 else i
            np.testing.assert_allclose(got[part], 0.5 ** n * wanted[part], rtol=1e-5, atol=1e-12)
        assert np.abs(got).max() > 0

    jax.tree_util.tree_map_with_path(check, got, wanted)
