"""The transfer wing gives the same numbers on 1, 2 and 4 devices, with pmap and jit, in float64.

Batches have padded rows: the last of four devices has padding only. Source examples have uneven classes, whose pairs
lie on different devices. ORCA's rows are classes, padded to a multiple of the devices.
"""
import functools

import jax
import numpy as np
import pytest
import tiny
import tiny_transfer as tt
from common import OPTIMIZER, SETUPS, TOLERANCE, assert_close, parallel, plainly, train

from fipjax import metrics as metrics_lib
from fipjax.algorithms import mona, orca, transfer
from fipjax.algorithms.base import initial
from fipjax.data import by_class, pipeline
from fipjax.models.predictors import mean_token

CASE = tt.Case('bert', '1d', lengths=True)
SETTINGS = mona.Settings(lambda_=0.7, alpha=0.4, meta_gradient='mixed', predictor='trained', source_batch=8,
                         micro_batch=0)
FORMS = {'mixed': {}, 'reverse': {'meta_gradient': 'reverse'}, 'micro_batch': {'micro_batch': 2},
         'finite_difference': {'meta_gradient': 'finite_difference'}}
STAGES = {'embedder': ('embedder', 'predictor'), 'finetune': transfer.PARTS}  # 'frozen' trains what 'embedder' trains


@functools.cache
def algorithm(name):
    """A method's stage, and which parts of the parameters it trains."""
    network, source_embed, _ = tt.network(CASE)
    if name in STAGES:
        return transfer.make(network, STAGES[name], OPTIMIZER, {}), STAGES[name]
    return mona.make(network, source_embed, SETTINGS._replace(**FORMS[name]), OPTIMIZER, {}), STAGES['embedder']


def batches(name):
    """Three batches of 8: with padding, without, with padding; the second without a pair of a class in the source."""
    out = [tt.batch(CASE, 8, padded, seed, 10 * seed) for seed, padded in ((0, 2), (1, 0), (2, 3))]
    if name in STAGES:
        return out
    labels = ((0, 1, 0, 0, 2, 1, 3, 0), tuple(range(8)), (2, 2, 2, 2, 2, 2, 2, 1))
    return [tt.with_source(b, y, seed) for seed, (b, y) in enumerate(zip(out, labels, strict=True))]


def start(name):
    params, (_, trained) = tt.start(CASE), algorithm(name)
    if name in STAGES:
        params.pop('source_embedder')
    return initial(jax.random.wrap_key_data(tiny.KEY), params, {k: params[k] for k in trained}, OPTIMIZER)


@functools.cache
def reference(name):
    """On one device without any mapping."""
    return plainly(algorithm(name)[0], start(name), batches(name))


@pytest.mark.parametrize('name', [*FORMS, *STAGES])
def test_all_setups_give_the_same_numbers(name):
    made, wanted = algorithm(name)[0], reference(name)
    assert all(x.dtype == np.float64 for x in jax.tree.leaves(wanted[-1][2]))
    assert max(np.abs(x).max() for x in jax.tree.leaves(wanted[0][1])) > 1e-3
    # Where the step takes long to compile, once is enough for all, and these for the others.
    few = name in FORMS and name != 'mixed'
    for mode, count in SETUPS[1:] if not few else (('pmap', 2), ('pmap', 4), ('jit', 4)):
        assert_close(train(made, start(name), batches(name), parallel(mode, count)), wanted)


def test_reverse_and_mixed_agree_on_four_devices():
    """By the second term of (7), in which alone they differ."""
    network, source_embed, _ = tt.network(CASE)
    first = mona.make(network, source_embed, SETTINGS._replace(meta_gradient='first_order'), OPTIMIZER, {})
    for mode in ('pmap', 'jit'):
        where = parallel(mode, 4)
        one = lambda made, where=where: train(made, start('mixed'), batches('mixed')[:1], where)[0]  # noqa: E731
        (plain_metrics, plain, _), *forms = map(one, (first, algorithm('mixed')[0], algorithm('reverse')[0]))
        mixed, reverse = (jax.tree.map(np.subtract, g['embedder'], plain['embedder']) for _, g, _ in forms)
        assert tiny.relative(mixed, plain['embedder']) > 0.01
        assert tiny.relative(reverse, mixed) < 1e-9
        assert tiny.relative(forms[1][1], forms[0][1]) < 1e-9
        for metrics, *_ in forms:
            metrics.pop('grad_norm')
            assert tiny.relative(metrics, {k: plain_metrics[k] for k in metrics}) < 1e-9


@pytest.mark.parametrize('name', ['mixed', 'finetune'])
def test_evaluation_gives_the_same_numbers(name):
    made, wanted = algorithm(name)[0], None
    state = start(name)
    for mode, count in (('jit', 1), ('pmap', 4), ('jit', 4)):
        where = parallel(mode, count)
        evaluate, total = where.eval_step(made.eval_step), None
        for batch in batches('finetune'):
            total = metrics_lib.add(total, jax.device_get(evaluate(where.place_state(state), where.place_batch(batch))))
        wanted = wanted or total
        assert total['loss'][1] == 19
        for k in wanted:
            np.testing.assert_allclose(total[k], wanted[k], rtol=TOLERANCE)


# --- ORCA ------------------------------------------------------------------------------------------------------------

@functools.cache
def orca_stage():
    network, source_embed, _ = tt.network(CASE)
    rng, settings = np.random.default_rng(6), orca.Settings('gaussian', iterations=30)
    params, labels = tt.start(CASE), np.arange(12) % tt.SOURCE_CLASSES
    tokens, _ = source_embed(params['source_embedder'], {'x': rng.normal(size=(12, *tt.SOURCE_SHAPE))})
    side = orca.source_side(np.asarray(tokens.mean(1)), labels, tt.SOURCE_CLASSES, settings)

    def embed(params, x, length):
        return mean_token(*network.embed(params, {'x': x, 'length': length}))
    return orca.make(embed, side, settings, OPTIMIZER, params['embedder'])


class Rows(dict):
    """A source of examples in memory: what ByClass reads of one."""

    def __len__(self):
        return len(self['x'])

    def take(self, rows):
        return {k: self[k][rows] for k in ('x', 'length')}


def classes(devices):
    """Two epochs of three classes of 8, 4 and 1 examples."""
    rows = tt.batch(CASE, 13)
    labels = np.repeat(np.arange(3), (8, 4, 1))
    rows = by_class.ByClass(Rows(rows), labels, 3, 2, per_class=5, devices=devices)
    batches = pipeline.training(rows, rows.rows, 0)
    return [tiny.cast(next(batches), np.float64) for _ in range(2)]


def test_orca_gives_the_same_numbers():
    made = orca_stage()
    begin = lambda: made.init(jax.random.wrap_key_data(tiny.KEY))  # noqa: E731
    wanted = plainly(made, begin(), classes(1))
    assert all(x.dtype == np.float64 for x in jax.tree.leaves(wanted[-1][2]))
    assert max(np.abs(x).max() for x in jax.tree.leaves(wanted[0][1])) > 1e-3
    for mode, count in (('jit', 1), ('pmap', 2), ('pmap', 4), ('jit', 4)):
        given = classes(count)
        assert len(given[0]['mask']) == {1: 3, 2: 4, 4: 4}[count]
        assert_close(train(made, begin(), given, parallel(mode, count)), wanted)
