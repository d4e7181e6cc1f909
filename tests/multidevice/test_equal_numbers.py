"""The same numbers on 1, 2 and 4 devices, with pmap and jit: metrics, gradients, updated parameters; in float64.

Batches have missing modalities and padded rows, so that devices differ in how much they have: the last of four has
padding only. Gradients are compared themselves, not only what Adam makes of them: Adam hides a wrong scale.
"""
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from common import OPTIMIZER, SETUPS, TOLERANCE, assert_close, parallel, plainly, train

from fipjax import metrics as metrics_lib
from fipjax.algorithms import finetune, importance
from fipjax.algorithms.base import Algorithm, initial, update
from fipjax.models import multimodal

NAMES = ('image', 'text')  # one modality of numbers and one of ids: enough, and quicker to compile than all
ALGORITHMS = {
    'fixed': lambda: tiny.pretraining(tiny.LEVERS, NAMES, optimizer=OPTIMIZER),
    'dirichlet': lambda: tiny.pretraining(tiny.DIRICHLET, NAMES, optimizer=OPTIMIZER),
    **{mode: functools.partial(tiny.finetuning, mode, OPTIMIZER) for mode in finetune.MODES},
    # Estimates at the second and the third step.
    **{method: functools.partial(tiny.estimating, method, NAMES, 1, optimizer=OPTIMIZER)
       for method in ('cosine', 'meta', 'ablation')},
}


def batches(name):
    """Three batches of 8: with padding, without, with padding."""
    labels = name in finetune.MODES
    out = [tiny.batch(8, seed, 10 * seed, missing=not labels, padded=padded, labels=labels)
           for seed, padded in ((0, 2), (1, 0), (2, 3))]
    keep = lambda x: {m: x[m] for m in NAMES} if isinstance(x, dict) else x  # noqa: E731
    out = [{k: keep(v) for k, v in b.items()} for b in out]
    if name in importance.METHODS:
        for b in out:
            b['downstream'] = {k: keep(v) for k, v in tiny.downstream().items()}
    return tiny.cast(out, np.float64)


def start(name, algorithm):
    params = {k: v if k == 'encoder' else {m: v[m] for m in NAMES} for k, v in tiny.params().items()}
    if name in finetune.MODES:
        head = algorithm.init(jax.random.key(0)).params['head']
        rng = np.random.default_rng(4)
        params = {**tiny.finetuning_start(), 'head': jax.tree.map(lambda x: rng.normal(0, 0.5, x.shape), head)}
    if name in importance.METHODS:
        params['importance'] = {**importance.start(len(NAMES)), 'z': np.array([0.1, -0.1])}
    params = tiny.cast(params, np.float64)
    trained = {k: v for k, v in params.items() if k not in ('statistics', 'code', 'importance')}
    trained = {'head': params['head']} if name in ('frozen', 'probe') else trained
    return initial(jax.random.wrap_key_data(tiny.KEY), params, trained, OPTIMIZER)


@functools.cache
def reference(name):
    """On one device without any mapping: the plain step."""
    algorithm = ALGORITHMS[name]()
    return plainly(algorithm, start(name, algorithm), batches(name))


@pytest.mark.parametrize('name', ALGORITHMS)
def test_all_setups_give_the_same_numbers(name):
    algorithm, wanted = ALGORITHMS[name](), reference(name)
    assert all(x.dtype == np.float64 for x in jax.tree.leaves(wanted[-1][2]) if x.dtype.kind == 'f')
    assert max(np.abs(x).max() for x in jax.tree.leaves(wanted[0][1])) > 1e-3
    if name in importance.METHODS:
        weights = [metrics['weight/image'][0] for metrics, _, _ in wanted]
        assert weights[0] != weights[1] != weights[2]
    # jit on one device is the reference. Fewer of the others for what is costly to compile.
    setups = {'dirichlet': (('pmap', 2), ('pmap', 4), ('jit', 4)), 'cosine': (('pmap', 2), ('pmap', 4), ('jit', 4)),
              'meta': (('pmap', 4),), 'ablation': (('pmap', 4),)}.get(name, SETUPS[1:])
    for mode, count in setups:
        assert_close(train(algorithm, start(name, algorithm), batches(name), parallel(mode, count)), wanted)


@pytest.mark.parametrize('name', ['fixed', 'full'])
def test_evaluation_gives_the_same_numbers(name):
    algorithm = ALGORITHMS[name]()
    state, wanted = start(name, algorithm), None
    for mode, count in (('jit', 1), ('pmap', 4), ('jit', 4)):
        where = parallel(mode, count)
        evaluate, total = where.eval_step(algorithm.eval_step), None
        for batch in batches(name):
            total = metrics_lib.add(total, jax.device_get(evaluate(where.place_state(state), where.place_batch(batch))))
        wanted = wanted or total
        assert total['loss/image' if name == 'fixed' else 'loss'][1] > 10
        for k in wanted:
            np.testing.assert_allclose(total[k], wanted[k], rtol=TOLERANCE)


def test_predictions_come_back_in_order_on_any_number_of_devices():
    model, params = tiny.model(('image',), ()), start('full', ALGORITHMS['full']()).params
    head, batch = multimodal.head(16, tiny.CLASSES), batches('full')[0]
    wanted = None
    for mode, count in SETUPS[:1] + SETUPS[2:]:
        where = parallel(mode, count)
        got = where.rows(finetune.logits(model, head, 'image'))(where.place_state(params), batch)
        assert type(got) is np.ndarray and got.shape == (8, tiny.CLASSES)
        wanted = got if wanted is None else wanted
        np.testing.assert_allclose(got, wanted, rtol=TOLERANCE)
    assert len(np.unique(wanted[:6], axis=0)) == 6  # rows differ, so their order is tested


# --- The tests above would see the usual mistakes -----------------------------------------------------------

def line(idiom) -> Algorithm:
    """Least squares by one of the ways to write a data-parallel step."""

    def error(params, batch):
        x, y = batch['x'], batch['y']
        return jnp.where(batch['mask'], (x @ params['w'] - y) ** 2, 0).sum(), batch['mask'].sum()

    def step(state, batch, *, psum):
        _, n = error(state.params, batch)
        if idiom == 'right':
            total = psum(n)
            grads = psum(jax.grad(lambda p: error(p, batch)[0] / total)(state.params))
        elif idiom == 'grad of a reduced loss':
            total = psum(n)
            grads = jax.grad(lambda p: psum(error(p, batch)[0]) / total)(state.params)
        elif idiom == 'reduced twice':
            total = psum(n)
            grads = psum(jax.grad(lambda p: psum(error(p, batch)[0]) / total)(state.params))
        else:  # 'average of averages'
            devices = psum(jnp.ones(()))
            grads = psum(jax.grad(lambda p: error(p, batch)[0] / jnp.maximum(n, 1) / devices)(state.params))
        loss, n = psum(error(state.params, batch))
        state, _ = update(OPTIMIZER, state, state.params, grads)
        return state, {'loss': (loss, n)}

    return Algorithm(None, step, None, None)


@pytest.mark.parametrize('idiom', ['right', 'grad of a reduced loss', 'reduced twice', 'average of averages'])
def test_wrong_ways_to_write_a_step_do_not_pass(idiom):
    rng, w = np.random.default_rng(0), np.ones(3)
    given = [{'x': rng.normal(size=(8, 3)), 'y': rng.normal(size=8), 'mask': np.arange(8) < n} for n in (6, 8, 5)]
    state = initial(jax.random.key(0), {'w': w}, {'w': w}, OPTIMIZER)
    wanted = train(line('right'), state, given, parallel('jit', 1))
    residual = given[0]['x'][:6] @ w - given[0]['y'][:6]
    np.testing.assert_allclose(wanted[0][1]['w'], 2 * given[0]['x'][:6].T @ residual / 6, rtol=1e-9)
    if idiom != 'average of averages':  # jit sees the whole batch: there the others are right too
        assert_close(train(line(idiom), state, given, parallel('jit', 4)), wanted)
    got = train(line(idiom), state, given, parallel('pmap', 4))
    if idiom == 'right':
        assert_close(got, wanted)
    else:
        with pytest.raises(AssertionError):
            assert_close(got, wanted)
