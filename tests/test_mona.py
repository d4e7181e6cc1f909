"""MoNA's meta-gradient: all forms against each other and against differences of the objective; losses and their signs.

Differences of gradients are measured by the second term of (7), which is all that distinguishes MoNA from the warm-up
of the embedder, and not by the whole gradient, in which errors of the second term could hide.
"""
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny
import tiny_transfer as tt

from fipjax import parallel
from fipjax.algorithms import mona, transfer

SETTINGS = mona.Settings(lambda_=0.7, alpha=0.4, meta_gradient='mixed', predictor='trained', source_batch=8,
                         micro_batch=0)
TRAINED = ('embedder', 'predictor')
CASES = [tt.Case('vit'), tt.Case('vit', layers='unroll', remat=False),
         tt.Case('bert', '1d', 'dense', remat=False, lengths=True), tt.Case('swin', output='multilabel')]
UNEVEN, NO_PAIR = (0, 1, 0, 0, 2, 1, 3, 0), (0, 1, 2, 3, 4, 5, 6, 7)
name = lambda c: '-'.join([*c[:4], *['remat'] * c.remat, *['lengths'] * c.lengths])  # noqa: E731


@functools.cache
def compiled(case, settings):
    """The meta-gradient with lambda as an argument: at 0 it is the gradient of (1), from the same program."""
    network, source_embed, _ = tt.network(case)

    def of(params, batch, lambda_):
        return mona.meta_gradient(network, source_embed, settings._replace(lambda_=lambda_), params, batch,
                                  parallel.identity)
    return jax.jit(of)


def gradient(case, batch, lambda_=SETTINGS.lambda_, **changes):
    """Gradients and metrics of a form. The predictor's setting concerns `make` alone."""
    return jax.device_get(compiled(case, SETTINGS._replace(**changes))(tt.start(case), batch, lambda_))


def batch_of(case, labels=UNEVEN, padded=2):
    return tt.with_source(tt.batch(case, padded=padded), labels)


def second_term(case, batch, grads):
    """What a meta-gradient adds to the gradient of (1) in the embedder."""
    plain, _ = gradient(case, batch, 0.0)
    return jax.tree.map(np.subtract, grads['embedder'], plain['embedder'])


# --- The objective once more -----------------------------------------------------------------------------------------

@functools.cache
def _inner_gradient(case):
    """grad of the mean loss in theta_f; the loss written out, on real rows."""
    network = tt.network(case)[0]

    def loss(theta_f, params, x, y, length):
        tokens, mask = network.embed(params['embedder'], {'x': x, 'length': length})
        p = network.predict(params['predictor'], network.encode(theta_f, tokens, mask), mask)
        if case.output == 'classes':
            return (jnp.log(jnp.exp(p).sum(-1)) - p[jnp.arange(len(y)), y]).mean()
        if case.output == 'multilabel':
            return (jnp.log(1 + jnp.exp(p)) - y * p).mean()
        return ((p - y) ** 2).mean()
    return jax.jit(jax.grad(loss))


@functools.cache
def _source_features(case):
    network, source_embed, _ = tt.network(case)
    embed = lambda theta_e, x: source_embed(theta_e, {'x': x})[0]  # noqa: E731
    return jax.jit(lambda theta_e, theta_f, x: network.encode(theta_f, embed(theta_e, x), None).mean(1))


def outer_parts(z, labels):
    """(L_align, L_uniform) by loops over pairs."""
    z = [v / np.linalg.norm(v) for v in np.asarray(z)]
    pairs = [(i, j) for i in range(len(z)) for j in range(len(z)) if i != j]
    same = [((z[i] - z[j]) ** 2).sum() for i, j in pairs if labels[i] == labels[j]]
    spread = np.log(np.mean([np.exp(-2 * ((z[i] - z[j]) ** 2).sum()) for i, j in pairs]))
    return (np.mean(same) if same else 0.0), spread


def objective(case, params, batch):
    """L_outer' (6) and its parts (L_inner, L_align, L_uniform)."""
    rows = tt.real(batch)
    step = _inner_gradient(case)(params['encoder'], params, rows['x'], rows['y'], rows.get('length'))
    updated = jax.tree.map(lambda p, g: p - SETTINGS.alpha * np.asarray(g), params['encoder'], step)
    source = batch['source']
    parts = outer_parts(_source_features(case)(params['source_embedder'], updated, source['x']), source['y'])
    inner = tt.inner_loss(case, params, batch)
    return inner + SETTINGS.lambda_ * sum(parts), (inner, *parts)


# --- Exactness -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('case', CASES, ids=name)
def test_reverse_and_mixed_are_the_gradient_of_the_objective(case, float64):
    batch, params, rng = batch_of(case), tt.start(case), np.random.default_rng(1)
    (reverse, metrics), (mixed, other) = (gradient(case, batch, meta_gradient=m) for m in ('reverse', 'mixed'))
    term = second_term(case, batch, reverse)
    size = np.sqrt(tt.dot(term, term))
    assert size > 0.01 * np.sqrt(tt.dot(reverse['embedder'], reverse['embedder']))
    assert tiny.relative(second_term(case, batch, mixed), term) < 1e-9
    assert tiny.relative(mixed['predictor'], reverse['predictor']) < 1e-9
    assert tiny.relative(other, metrics) < 1e-9
    total, parts = objective(case, params, batch)
    for key, wanted in zip(('loss', 'loss/inner', 'loss/alignment', 'loss/uniformity'), (total, *parts), strict=True):
        assert metrics[key][0] / metrics[key][1] == pytest.approx(wanted, rel=1e-9)

    def difference(along, step=1e-4):
        """Central difference of fourth order."""
        f = [objective(case, tt.moved(params, along, k * step), batch) for k in (1, -1, 2, -2)]
        one = lambda v: (8 * (v[0] - v[1]) - (v[2] - v[3])) / (12 * step)  # noqa: E731
        return one([v[0] for v in f]), one([v[1][0] for v in f])

    for _ in range(3):
        along = tt.direction(params, rng, 'embedder')
        whole, inner = difference(along)
        length = np.sqrt(tt.dot(along['embedder'], along['embedder']))
        for grads in (reverse, mixed):
            assert abs(tt.dot(grads['embedder'], along['embedder']) - whole) < 1e-6 * size * length
        assert abs(tt.dot(term, along['embedder']) - (whole - inner)) < 1e-6 * size * length
    along = tt.direction(params, rng, 'predictor')  # it follows the inner loss alone
    for grads in (reverse, mixed):
        assert tt.dot(grads['predictor'], along['predictor']) == pytest.approx(difference(along)[1], rel=1e-6)


@pytest.mark.parametrize('meta_gradient', ['mixed', 'reverse'])
def test_a_batch_without_a_pair_of_a_class(meta_gradient, float64):
    case = CASES[0]
    batch, params = batch_of(case, NO_PAIR), tt.start(case)
    grads, metrics = gradient(case, batch, meta_gradient=meta_gradient)
    total, (_, align, _) = objective(case, params, batch)
    assert metrics['loss/alignment'] == (0, 1) and align == 0
    assert metrics['loss'][0] == pytest.approx(total, rel=1e-9)
    along = tt.direction(params, np.random.default_rng(2), 'embedder')
    ahead, behind = (objective(case, tt.moved(params, along, s), batch)[0] for s in (1e-5, -1e-5))
    assert tt.dot(grads['embedder'], along['embedder']) == pytest.approx((ahead - behind) / 2e-5, rel=1e-6)


def test_finite_differences_are_close(monkeypatch, float64):
    case = CASES[0]
    batch = batch_of(case)
    term = second_term(case, batch, gradient(case, batch)[0])

    def error(**how):
        near, _ = gradient(case, batch, meta_gradient='finite_difference', **how)
        return tiny.relative(second_term(case, batch, near), term)

    usual = error()
    monkeypatch.setattr(mona, 'STEP', mona.STEP / 100)
    fine = error(alpha=SETTINGS.alpha * (1 + 1e-15))  # another program, which sees the other step
    assert 0 < fine < 1e-5 and fine < 1e-3 * usual < 1e-5  # of second order


@pytest.mark.parametrize('case,micro', [(CASES[0], 1), (CASES[2], 2)], ids=['1', '2'])
def test_accumulation_gives_the_gradient_of_the_whole_batch(case, micro, float64):
    batch = batch_of(case)
    whole, accumulated = (gradient(case, batch, micro_batch=m) for m in (0, micro))
    terms = [second_term(case, batch, grads) for grads, _ in (accumulated, whole)]
    assert tiny.relative(*terms) < 1e-9
    assert tiny.relative(accumulated, whole) < 1e-9


def test_accumulation_keeps_memory_independent_of_the_batch(float64):
    """The source's features and their distances grow, and they are few."""
    case = CASES[0]
    network, source_embed, _ = tt.network(case)

    def temporary(n, micro):
        batch = tt.with_source(tt.batch(case, n), np.arange(n) % 5)
        settings = SETTINGS._replace(source_batch=n, micro_batch=micro)
        fn = functools.partial(mona.meta_gradient, network, source_embed, settings, psum=parallel.identity)
        return jax.jit(fn).lower(tt.start(case), batch).compile().memory_analysis().temp_size_in_bytes

    assert temporary(64, 8) <= 1.3 * temporary(8, 0)
    assert temporary(64, 0) > 2 * temporary(8, 0)


def test_without_the_outer_loss_it_is_the_warm_up_of_the_embedder(float64):
    case = CASES[0]
    batch, params = batch_of(case), tt.start(case)
    params.pop('source_embedder')
    target = {k: v for k, v in batch.items() if k != 'source'}
    wanted, _ = tt.gradients(transfer.make(tt.network(case)[0], TRAINED, tiny.SGD, {}), params, target, TRAINED)
    wanted = {k: wanted[k] for k in TRAINED}
    assert tiny.relative(gradient(case, batch, meta_gradient='first_order')[0], wanted) < 1e-10
    for form in ('mixed', 'reverse', 'finite_difference'):
        assert tiny.relative(gradient(case, batch, 0.0, meta_gradient=form)[0], wanted) < 1e-10


@pytest.mark.parametrize('meta_gradient', ['mixed', 'reverse'])
def test_padding_has_no_influence(meta_gradient, float64):
    case = CASES[0]
    batch = batch_of(case)
    other = {**batch, 'x': batch['x'].copy(), 'y': 1 - batch['y'] % 2}
    other['x'][4:], other['y'][:4] = 1e2, batch['y'][:4]
    one, two = (gradient(case, b, meta_gradient=meta_gradient) for b in (batch, other))
    assert tiny.relative(two, one) < 1e-10


# --- Shares of a batch -----------------------------------------------------------------------------------------------

def shared(batch, count, rng=None):
    """A batch cut into the shares of `count` devices; with rng, its source rows are dealt out in another order."""
    source = batch['source']
    if rng is not None:
        order = rng.permutation(len(source['row']))
        source = {k: v[order] for k, v in source.items()}
    return jax.tree.map(lambda v: v.reshape(count, -1, *v.shape[1:]), {**batch, 'source': source})


@pytest.mark.parametrize('meta_gradient', ['mixed', 'reverse'])
def test_shares_add_up_to_the_whole_batch(meta_gradient, float64):
    """jax.vmap stands in for devices: `psum` adds over its axis as over theirs."""
    case = CASES[0]
    network, source_embed, _ = tt.network(case)
    batch, psum = batch_of(case, padded=3), functools.partial(jax.lax.psum, axis_name='share')
    whole = gradient(case, batch, meta_gradient=meta_gradient)
    fn = functools.partial(mona.meta_gradient, network, source_embed, SETTINGS._replace(meta_gradient=meta_gradient),
                           psum=psum)
    mapped = jax.jit(jax.vmap(fn, in_axes=(None, 0), axis_name='share'))
    # The second share has padding alone.
    for given in (shared(batch, 2), shared(batch, 2, np.random.default_rng(0))):
        got = mapped(tt.start(case), given)
        for share in (0, 1):
            assert tiny.relative(jax.tree.map(lambda x, i=share: x[i], got), whole) < 1e-9


def test_gather_puts_rows_in_their_places(float64):
    rng = np.random.default_rng(0)
    x, order = rng.normal(size=(6, 3)), rng.permutation(6)
    psum = functools.partial(jax.lax.psum, axis_name='share')
    gathered = jax.vmap(lambda v, row: mona.gather(psum, v, row, 6), axis_name='share')(
        x[order].reshape(3, 2, 3), order.reshape(3, 2))
    for share in gathered:
        np.testing.assert_array_equal(share, x)
    labels = np.array([3, 1, 2, 0], np.int32)
    got = mona.gather(parallel.identity, labels, np.arange(4), 4)
    assert got.dtype == np.int32
    np.testing.assert_array_equal(got, labels)


# --- Losses ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('labels', [UNEVEN, NO_PAIR, (0,) * 8, (0, 0, 0, 0, 0, 0, 0, 1)])
def test_losses_are_those_of_loops_over_pairs(labels, float64):
    z = np.random.default_rng(0).normal(size=(8, 5)) * np.arange(1, 9)[:, None]  # of any length
    total, parts = mona.outer_loss(z, np.array(labels))
    np.testing.assert_allclose([float(v) for v in parts], outer_parts(z, labels), rtol=1e-10, atol=1e-12)
    assert float(total) == pytest.approx(float(sum(parts)), rel=1e-12)


@pytest.mark.parametrize('z,align,uniform', [
    (np.tile([0.6, 0.8], (4, 1)), 0, 0),             # all equal
    (np.eye(4), 2, -4),                              # orthonormal
    (np.array([[1.0, 0], [-1, 0]]), 4, -8),          # opposite
    (np.array([[3.0, 0], [0, 0.1]]), 2, -4),         # their length does not count
    (np.array([[1.0, 0], [0, 1], [-1, 0]]), 8 / 3, np.log((2 * np.exp(-4) + np.exp(-8)) / 3)),
    (np.array([[1.0, 0]]), 0, 0)], ids=['equal', 'orthonormal', 'opposite', 'length', 'three', 'one'])
def test_losses_in_closed_form(z, align, uniform, float64):
    _, parts = mona.outer_loss(z, np.zeros(len(z), int))
    np.testing.assert_allclose([float(v) for v in parts], (align, uniform), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize('z', [np.ones((4, 3)), np.zeros((4, 3)), np.array([[1.0, 2.0]])], ids=['equal', '0', 'one'])
def test_losses_have_finite_gradients(z):
    grads = jax.grad(lambda z: mona.outer_loss(z, jnp.zeros(len(z), int))[0])(z)
    assert np.isfinite(grads).all()


def test_plus_signs_pull_a_class_together_and_spread_all(float64):
    """Minus signs, which some summaries print, would do the contrary."""
    z, labels = np.random.default_rng(3).normal(size=(8, 4)), np.array(UNEVEN)
    norm = lambda z: z / np.linalg.norm(z, axis=1, keepdims=True)  # noqa: E731
    align, uniform = (jax.grad(lambda z, k=k: mona.outer_loss(z, labels)[1][k])(z) for k in (0, 1))

    def spread(z, same):
        """Mean distance of pairs: of one class, or of all."""
        z = norm(z)
        return np.mean([((z[i] - z[j]) ** 2).sum() for i in range(8) for j in range(i)
                        if labels[i] == labels[j] or not same])

    assert spread(z - 0.1 * align, True) < spread(z, True) < spread(z + 0.1 * align, True)
    assert spread(z - 0.1 * uniform, False) > spread(z, False) > spread(z + 0.1 * uniform, False)


@pytest.mark.parametrize('meta_gradient', ['mixed', 'reverse'])
def test_a_step_lowers_the_outer_loss_after_the_inner_update(meta_gradient, float64):
    """The embedder moves along the second term alone, so that the inner loss cannot be what falls."""
    case = CASES[0]
    batch, params = batch_of(case), tt.start(case)
    grads, _ = gradient(case, batch, meta_gradient=meta_gradient)
    term = second_term(case, batch, grads)
    along = {k: term if k == 'embedder' else jax.tree.map(np.zeros_like, v) for k, v in params.items()}
    step = 1e-3 / np.sqrt(tt.dot(term, term))
    outer = [sum(objective(case, tt.moved(params, along, s), batch)[1][1:]) for s in (-step, 0, step)]
    assert outer[0] < outer[1] < outer[2]


# --- The algorithm ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('predictor,form', [('trained', 'mixed'), ('fixed', 'first_order')])
def test_a_step_moves_what_is_trained_by_the_meta_gradient(predictor, form, float64):
    case = CASES[0]
    network, source_embed, _ = tt.network(case)
    batch, params = batch_of(case), tt.start(case)
    trained = TRAINED if predictor == 'trained' else TRAINED[:1]
    settings = SETTINGS._replace(predictor=predictor, meta_gradient=form)
    made = mona.make(network, source_embed, settings, tiny.SGD, {})
    moved, metrics = tt.gradients(made, params, batch, trained)
    wanted, parts = gradient(case, batch, meta_gradient=form)
    for part in params:
        if part in trained:
            assert tiny.relative(moved[part], wanted[part]) < 1e-9
        else:
            assert all((g == 0).all() for g in jax.tree.leaves(moved[part]))  # bit for bit
    assert set(metrics) == {*parts, 'grad_norm'} and 'accuracy' in metrics
    assert metrics['grad_norm'] == pytest.approx(np.sqrt(sum(tt.dot(wanted[k], wanted[k]) for k in trained)), rel=1e-9)
    state = mona.make(network, source_embed, settings, optax.adam(1e-3), params).init(jax.random.key(0))
    assert set(state.opt_state[0].mu) == set(trained)
    jax.tree.map(np.testing.assert_array_equal, state.params, params)


def test_validation_is_the_inner_loss(float64):
    case = CASES[0]
    network, source_embed, _ = tt.network(case)
    made = mona.make(network, source_embed, SETTINGS, tiny.SGD, {})
    params, batch = tt.start(case), tt.batch(case, padded=2)
    metrics = jax.device_get(jax.jit(functools.partial(made.eval_step, psum=parallel.identity))(
        tiny.state(params), batch))
    assert metrics['loss'][1] == 4
    assert made.summarise(metrics)['loss'] == pytest.approx(tt.inner_loss(case, params, batch), rel=1e-9)


def test_float32():
    case = CASES[0]
    batch, params = tiny.cast(batch_of(case), np.float32), tiny.cast(tt.start(case), np.float32)
    with jax.enable_x64(True):
        wanted, _ = gradient(case, batch_of(case))
    grads, _ = compiled(case, SETTINGS)(params, batch, SETTINGS.lambda_)
    assert all(g.dtype == np.float32 for g in jax.tree.leaves(grads))
    assert tiny.relative(grads, wanted) < 1e-4
