"""Training on (1): losses against NumPy, gradients against central differences, what each method trains, padding."""
import functools

import jax
import numpy as np
import pytest
import tiny
import tiny_transfer as tt

from fipjax.algorithms import supervised, transfer

CASES = [tt.Case('vit', '2d', 'classes'), tt.Case('bert', '1d', 'multilabel', lengths=True),
         tt.Case('vit', '2d', 'dense', remat=False), tt.Case('bert', '1d', 'dense', remat=False)]
TRAINED = {'scratch': transfer.PARTS, 'finetune': transfer.PARTS, 'frozen': ('embedder', 'predictor'),
           'embedder': ('embedder', 'predictor')}
name = lambda case: '-'.join(case[:3])  # noqa: E731


@functools.cache
def algorithm(case, trained):
    return transfer.make(tt.network(case)[0], trained, tiny.SGD, {})


def start(case):
    return {k: v for k, v in tt.start(case).items() if k != 'source_embedder'}


@pytest.mark.parametrize('output', tt.OUTPUTS)
def test_losses_are_those_of_numpy(output, float64):
    rng = np.random.default_rng(0)
    shape = {'classes': (5, 4), 'multilabel': (5, 4), 'dense': (5, 3, 4, 2)}[output]
    predicted = rng.normal(0, 3, shape)
    y = {'classes': rng.integers(0, 4, 5), 'multilabel': rng.integers(0, 2, shape).astype(float),
         'dense': rng.normal(size=shape)}[output]
    np.testing.assert_allclose(transfer.losses(output, predicted, y), tt.losses(output, predicted, y), rtol=1e-12)


def test_losses_of_certain_predictions_are_finite():
    far = np.array([[-200.0, 200.0]], np.float32)
    assert transfer.losses('classes', far, np.array([0]))[0] == 400
    assert transfer.losses('multilabel', far, np.array([[1.0, 0.0]], np.float32))[0] == 200


@pytest.mark.parametrize('case', CASES, ids=name)
def test_metrics_and_gradient_are_those_of_the_definition(case, float64):
    params, batch = start(case), tt.batch(case, padded=2)
    gradient, metrics = tt.gradients(algorithm(case, transfer.PARTS), params, batch, transfer.PARTS)
    loss = functools.partial(tt.inner_loss, case, batch=batch)
    assert metrics['loss'] == pytest.approx(loss(params), rel=1e-12)
    if case.output == 'classes':
        rows = tt.real(batch)
        hits = np.asarray(tt.forward(case)(params, rows['x'], None)).argmax(1) == rows['y']
        assert metrics['accuracy'] == hits.mean() and set(metrics) == {'loss', 'accuracy', 'grad_norm'}
    else:
        assert metrics['score'] == -metrics['loss'] and set(metrics) == {'loss', 'score', 'grad_norm'}
    assert metrics['grad_norm'] == pytest.approx(np.sqrt(tt.dot(gradient, gradient)), rel=1e-9)
    rng = np.random.default_rng(0)
    for part in transfer.PARTS:
        along = tt.direction(params, rng, part)
        ahead, behind = (loss(tt.moved(params, along, s)) for s in (1e-5, -1e-5))
        assert tt.dot(gradient, along) == pytest.approx((ahead - behind) / 2e-5, rel=1e-5, abs=1e-9)
        assert np.sqrt(tt.dot(gradient[part], gradient[part])) > 1e-3


@pytest.mark.parametrize('trained', sorted(set(TRAINED.values())), ids='+'.join)
def test_methods_train_their_parts_and_nothing_else(trained, float64):
    case = CASES[0]
    params, batch = start(case), tt.batch(case)
    some, _ = tt.gradients(algorithm(case, trained), params, batch, trained)
    whole, _ = tt.gradients(algorithm(case, transfer.PARTS), params, batch, transfer.PARTS)
    for part in transfer.PARTS:
        if part in trained:
            assert tiny.relative(some[part], whole[part]) < 1e-10
        else:
            assert all((g == 0).all() for g in jax.tree.leaves(some[part]))  # bit for bit
    assert set(TRAINED) | {'orca', 'mona'} == set(transfer.METHODS)


@pytest.mark.parametrize('case', CASES[:3], ids=name)
def test_padding_has_no_influence(case, float64):
    params, batch = start(case), tt.batch(case, padded=2)
    other = {**batch, 'x': batch['x'].copy(), 'y': batch['y'].copy()}
    other['x'][4:], other['y'][4:] = 1e3, 1
    step = functools.partial(tt.gradients, algorithm(case, transfer.PARTS), params, trained=transfer.PARTS)
    assert tiny.relative(step(other), step(batch)) < 1e-12


@pytest.mark.parametrize('micro', [1, 2, 6])
def test_micro_batches_give_the_numbers_of_the_whole_batch(micro, float64):
    case = tt.Case('bert', '1d', 'multilabel', lengths=True)
    params, batch = start(case), tt.batch(case, padded=3)  # of three micro-batches of 2 one has padding alone
    made = transfer.make(tt.network(case)[0], transfer.PARTS, tiny.SGD, {}, micro_batch=micro)
    wanted = tt.gradients(algorithm(case, transfer.PARTS), params, batch, transfer.PARTS)
    assert tiny.relative(tt.gradients(made, params, batch, transfer.PARTS), wanted) < 1e-12


def test_a_batch_of_padding_moves_nothing(float64):
    case = CASES[0]
    before = tiny.state(start(case))
    after, metrics = tiny.compiled(algorithm(case, transfer.PARTS))(before, tt.batch(case, padded=6))
    assert metrics['loss'] == (0, 0) and metrics['accuracy'] == (0, 0)
    jax.tree.map(np.testing.assert_array_equal, after.params, before.params)


def test_samples_beyond_the_length_have_no_influence(float64):
    case = tt.Case('bert', '1d', 'classes', lengths=True)
    params, batch = start(case), tt.batch(case)
    batch['length'][:] = np.array([3, 6, 9, 11, 5, 1])
    made = tt.network(case)[0]
    z = np.asarray(transfer.features(made, params['embedder'], params['encoder'], batch))
    assert z.shape == (6, 8)
    for row in (0, 1, 2):  # lengths that end with a chunk: what lies beyond is in tokens of its own
        other = {**batch, 'x': batch['x'].copy()}
        other['x'][row, batch['length'][row]:] = 7
        np.testing.assert_allclose(transfer.features(made, params['embedder'], params['encoder'], other), z,
                                   rtol=1e-10)
    full = {**batch, 'length': np.full(6, 11, np.int32)}
    assert np.abs(transfer.features(made, params['embedder'], params['encoder'], full) - z)[[0, 1, 2, 4, 5]].min() > 0


def test_evaluation_adds_up_over_batches(float64):
    case = CASES[0]
    made, params = algorithm(case, transfer.PARTS), start(case)
    whole = tt.batch(case)
    parts = [jax.tree.map(lambda x, rows=rows: x[rows], whole) for rows in (slice(0, 4), slice(2, 6))]
    parts[1]['mask'] = np.arange(4) >= 2
    evaluate = jax.jit(functools.partial(made.eval_step, psum=lambda x: x))
    one = evaluate(tiny.state(params), whole)
    two = jax.tree.map(lambda a, b: a + b, *(evaluate(tiny.state(params), p) for p in parts))
    assert one['loss'][1] == 6
    assert tiny.relative(two, one) < 1e-12
    assert made.summarise(jax.device_get(one))['loss'] == pytest.approx(tt.inner_loss(case, params, whole), rel=1e-12)


def test_init_takes_the_start_and_an_optimiser_for_what_is_trained():
    case = CASES[0]
    given = tiny.cast(start(case), np.float32)
    made = transfer.make(tt.network(case)[0], ('embedder', 'predictor'), tiny.optax.adam(1e-3), given)
    state = made.init(jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, state.params, given)
    assert set(state.opt_state[0].mu) == {'embedder', 'predictor'}


def test_supervised_takes_any_sums(float64):
    def sums(params, batch):
        error = (batch['x'] @ params['w'] + params['b'] - batch['y']) ** 2
        return {'loss': (jax.numpy.where(batch['mask'], error, 0).sum(), batch['mask'].sum())}

    rng = np.random.default_rng(0)
    x, y, mask = rng.normal(size=(5, 2)), rng.normal(size=5), np.arange(5) < 4
    params = {'w': np.array([1.0, -2.0]), 'b': np.array(0.5)}
    made = supervised.make(lambda key: params, sums, ('w',), tiny.SGD)
    gradient, metrics = tt.gradients(made, params, {'x': x, 'y': y, 'mask': mask}, ('w',))
    residual = (x @ params['w'] + 0.5 - y)[:4]
    np.testing.assert_allclose(gradient['w'], 2 * x[:4].T @ residual / 4, rtol=1e-12)
    assert gradient['b'] == 0 and metrics['loss'] == pytest.approx((residual ** 2).mean(), rel=1e-12)
