"""Estimators of importance against closed forms, finite differences and scikit-learn; in float64."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import Ridge

from fipjax.algorithms import importance as im
from fipjax.parallel import identity

KEY = np.array([0, 3], np.uint32)
SETTINGS = im.Settings('cosine', every=5, rate=0.5, floor=0.0, temperature=1.0, penalty=0.1, alpha=0.3)
pytestmark = pytest.mark.usefixtures('float64')


def flat(g, m=None):
    """Modality m of a tree of gradients, or a whole tree, as one vector."""
    return np.concatenate([np.ravel(x if m is None else x[m]) for x in jax.tree.leaves(g)])


def theta():
    rng = np.random.default_rng(0)
    return {'a': jnp.asarray(rng.normal(size=(3, 2))), 'b': jnp.asarray(rng.normal(size=4))}


def losses(t):
    """Three losses of theta, none of them quadratic."""
    return jnp.stack([jnp.sin(t['a']).sum() + (t['b'] ** 3).sum(), jnp.exp(t['a'] / 3).mean() * t['b'].sum(),
                      jnp.tanh(t['b'] @ jnp.arange(4.0)) + (t['a'] ** 4).mean()])


def rows(n=30, classes=3, width=5, seed=0):
    """Codes that say something about the labels, one-hot targets, which rows are fitted to and which asked."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    x = rng.normal(size=(n, width)) * np.array([1, 10, 0.1, 1, 3])[:width] + labels[:, None]
    fitted = rng.random(n) < 0.5
    asked = ~fitted & (np.arange(n) < n - 3)
    return x, np.eye(classes)[labels], fitted, asked


def independent_error(x, targets, fitted, asked, penalty):
    """What `held_out` says, by scikit-learn."""
    mean, scale = x[fitted].mean(0), np.sqrt(x[fitted].var(0) + 1e-6)
    z = (x - mean) / scale
    model = Ridge(alpha=penalty * fitted.sum()).fit(z[fitted], targets[fitted])
    return ((model.predict(z[asked]) - targets[asked]) ** 2).sum(1).mean()


def task(x, targets, fitted, asked, code=None, without=None):
    return im.Task(jnp.asarray(targets), jnp.asarray(fitted), jnp.asarray(asked), code or (lambda t: x), without)


# --- Halves and probe -------------------------------------------------------------------------------------------------

def test_each_class_is_halved_and_padding_is_in_neither_half():
    labels, valid = np.repeat([0, 1, 2], [5, 4, 3]), np.arange(12) < 11  # of the last class two are real
    fitted = np.asarray(im.halves(KEY, 0, np.arange(12), labels, valid))
    assert [fitted[labels == k].sum() for k in range(3)] == [3, 2, 1] and not fitted[11]


def test_halves_go_by_id_and_step():
    labels, ids, all_rows = np.repeat([0, 1], 20), np.arange(40), np.ones(40, bool)
    order = np.random.default_rng(1).permutation(40)
    one = np.asarray(im.halves(KEY, 7, ids, labels, all_rows))
    np.testing.assert_array_equal(im.halves(KEY, 7, ids[order], labels[order], all_rows), one[order])
    other = np.asarray(im.halves(KEY, 8, ids, labels, all_rows))
    assert 8 < (one != other).sum() < 32
    many = np.mean([im.halves(KEY, s, ids, labels, all_rows) for s in range(200)], 0)
    assert np.abs(many - 0.5).max() < 0.15  # no row is preferred


def test_the_probe_is_ridge_regression_on_standardised_codes():
    x, targets, fitted, asked = rows()
    for penalty in (0.01, 1.0):
        t = task(x, targets, fitted, asked)
        found = im.held_out(t.code, None, t, penalty, identity)(None)
        np.testing.assert_allclose(found, independent_error(x, targets, fitted, asked, penalty), rtol=1e-8)


def test_the_probe_of_rows_on_several_devices_is_that_of_all():
    x, targets, fitted, asked = rows()
    shard = lambda v: v.reshape(3, 10, *v.shape[1:])  # noqa: E731
    psum = lambda tree: jax.lax.psum(tree, 'd')  # noqa: E731

    def one(x, targets, fitted, asked):
        t = im.Task(targets, fitted, asked, lambda t: x, None)
        return psum(im.held_out(t.code, None, t, 0.1, psum)(None))

    found = jax.vmap(one, axis_name='d')(*(shard(v) for v in (x, targets, fitted, asked)))
    np.testing.assert_allclose(found, independent_error(x, targets, fitted, asked, 0.1), rtol=1e-8)


def test_the_gradient_leaves_the_probe_as_it_is():
    x, targets, fitted, asked = rows()
    code = lambda t: jnp.tanh(x @ t)  # noqa: E731
    t = task(x, targets, fitted, asked, code)
    at = jnp.asarray(np.random.default_rng(2).normal(size=(5, 4)) / 4)
    loss = im.held_out(code, at, t, 0.1, identity)
    probe = im.fit_probe(code(at), t.targets, t.fitted, 0.1, identity)
    step = 1e-6 * jnp.asarray(np.random.default_rng(3).normal(size=(5, 4)))
    ahead, behind = (im.probe_error(probe, code(at + s), t.targets)[asked].mean() for s in (step, -step))
    np.testing.assert_allclose(im.inner(jax.grad(loss)(at), step), (ahead - behind) / 2, rtol=1e-6)


# --- Scores -----------------------------------------------------------------------------------------------------------

def test_gradients_of_all_modalities_are_those_of_each():
    values, g = im.gradients(losses, theta())
    np.testing.assert_allclose(values, losses(theta()))
    for m in range(3):
        np.testing.assert_allclose(flat(g, m), flat(jax.grad(lambda t, m=m: losses(t)[m])(theta())), rtol=1e-12)


def test_cosine_and_dot():
    g = im.gradients(losses, theta())[1]
    target = jax.tree.map(lambda x: jnp.sin(5 * x), theta())
    vectors, t = [flat(g, m) for m in range(3)], flat(target)
    lengths = [np.linalg.norm(v) for v in vectors]
    products = np.array([v @ t for v in vectors])
    np.testing.assert_allclose(im.norms(g), lengths, rtol=1e-12)
    np.testing.assert_allclose(im.cosine(g, target), products / lengths / np.linalg.norm(t), rtol=1e-12)
    np.testing.assert_allclose(im.dot(g, target), products / np.mean(lengths) / np.linalg.norm(t), rtol=1e-12)
    assert np.ptp(np.sign(products)) == 2  # one pulls the other way


def test_a_modality_without_gradient_scores_zero():
    g = jax.tree.map(lambda x: x.at[1].set(0.0), im.gradients(losses, theta())[1])
    assert im.cosine(g, theta())[1] == 0 and np.isfinite(im.cosine(g, theta())).all()


@pytest.mark.parametrize('alpha', [0.01, 0.7])
def test_the_meta_gradient_is_that_of_finite_differences(alpha):
    g = im.gradients(losses, theta())[1]
    loss = lambda t: jnp.log1p((t['a'] ** 2).sum()) * jnp.cos(t['b']).sum()  # noqa: E731
    w = np.array([0.5, 2.0, 0.3])

    def after(w):
        moved = jax.tree.map(lambda p, x: p - alpha * np.tensordot(w / w.sum(), x, 1), theta(), g)
        return loss(moved), moved

    numeric = [(after(w + e)[0] - after(w - e)[0]) / 2e-5 for e in 1e-5 * np.eye(3)]
    there = flat(jax.grad(loss)(after(w)[1]))
    size = alpha * np.mean(im.norms(g)) * np.linalg.norm(there)
    found = im.meta(g, jnp.asarray(w), theta(), alpha, loss, identity)
    np.testing.assert_allclose(found, -np.array(numeric) / size, rtol=1e-6, atol=1e-9)
    assert abs(found @ w) < 1e-9  # only shares matter
    by_hand = np.array([flat(g, m) @ there for m in range(3)])  # dot products at the place where the step leads
    np.testing.assert_allclose(found, alpha * (by_hand - by_hand @ w / w.sum()) / w.sum() / size, rtol=1e-9)


def test_ablation_is_what_a_probe_loses():
    x, targets, fitted, asked = rows(60, seed=4)
    noise = np.random.default_rng(5).normal(size=(60, 2))
    parts = [noise, x[:, :3], x[:, 3:]]

    def without(m):
        return jnp.asarray(np.concatenate([p for i, p in enumerate(parts) if i != m], 1))

    found = im.ablation(task(x, targets, fitted, asked, without=without), identity, 3, 0.1)
    errors = [independent_error(np.asarray(without(m)), targets, fitted, asked, 0.1) for m in (-1, 0, 1, 2)]
    constant = ((targets[asked] - targets[fitted].mean(0)) ** 2).sum(1).mean()
    np.testing.assert_allclose(found, (np.array(errors[1:]) - errors[0]) / constant, rtol=1e-7)
    assert np.argmin(found) == 0


# --- Weights ----------------------------------------------------------------------------------------------------------

def test_weights():
    kept = im.start(3)
    np.testing.assert_allclose(im.weights(kept, SETTINGS), 1)
    kept['z'] = jnp.array([0.0, 1.0, 3.0])
    for floor in (0.0, 0.2):
        for temperature in (0.5, 1.0, 4.0):
            s = SETTINGS._replace(floor=floor, temperature=temperature)
            e = np.exp(np.array([0, 1, 3]) / temperature)
            np.testing.assert_allclose(im.weights(kept, s), 3 * (1 - floor) * e / e.sum() + floor, rtol=1e-7)
            assert abs(im.weights(kept, s).sum() - 3) < 1e-6 and im.weights(kept, s).min() >= floor
    kept['z'] = jnp.array([0.0, 0.0, 1e4])
    np.testing.assert_allclose(im.weights(kept, SETTINGS._replace(floor=0.1)), [0.1, 0.1, 2.8], rtol=1e-6)


def run(method, steps, shown=None, **changes):
    """`steps` updates with losses fixed, each after two observations; the weights and what is kept, after each."""
    s, kept, out = SETTINGS._replace(method=method, **changes), im.start(3), []
    x, targets, fitted, asked = rows()
    code = lambda t: jnp.tanh(x[:, :3] @ t['a'])  # noqa: E731
    t = task(x, targets, fitted, asked, code, lambda m: x if m < 0 else np.delete(x, m, 1))
    for i in range(steps):
        for value in (shown[i] if shown else losses(theta()),) * 2:
            kept = im.observe(kept, jnp.asarray(value), jnp.full(3, 4))
        kept = im.update(kept, s, losses, theta(), t if method in im.LABELLED else None, identity)
        out.append((np.asarray(im.weights(kept, s)), kept))
    return out


@pytest.mark.parametrize('method', im.LABELLED)
def test_labelled_methods_are_exponentiated_gradients_of_their_scores(method):
    out = run(method, 3)
    w = np.ones(3)
    for found, kept in out:
        w = w * np.exp(SETTINGS.rate * np.asarray(kept['score']))
        np.testing.assert_allclose(found, 3 * w / w.sum(), rtol=1e-6)
        assert np.ptp(kept['score']) > 1e-3 and not kept['sum'].any()
    assert out[-1][1]['updates'] == 3


def test_uncertainty_steps_down_its_objective_and_ends_where_weights_are_inverse_losses():
    shown = [np.array([0.5, 2.0, 4.0])] * 200
    out = run('uncertainty', 200, shown, rate=0.2)
    z = out[4][1]['z']
    step = (out[5][1]['z'] - z) / 0.2
    objective = lambda z: (jnp.exp(z) * shown[0] - z).sum()  # noqa: E731
    np.testing.assert_allclose(step, -jax.grad(objective)(z), rtol=1e-4)
    np.testing.assert_allclose(out[-1][0], 3 / shown[0] / (1 / shown[0]).sum(), rtol=1e-4)


def test_dwa():
    shown = [np.array(v) for v in ([1.0, 2.0, 4.0], [0.5, 2.0, 3.0], [0.4, 1.0, 3.0])]
    out = run('dwa', 3, shown, temperature=2.0)
    np.testing.assert_allclose(out[0][0], 1)
    for i in (1, 2):
        e = np.exp(shown[i] / shown[i - 1] / 2)
        np.testing.assert_allclose(out[i][0], 3 * e / e.sum(), rtol=1e-6)


def test_gradnorm_steps_down_its_objective():
    lengths, w, ratio = np.array([1.0, 3.0, 0.2]), np.array([0.5, 1.0, 1.5]), np.array([0.5, 1.0, 0.9])
    wanted = (w * lengths).mean() * (ratio / ratio.mean()) ** 1.5  # a constant for the gradient, as in the paper
    objective = lambda w: np.abs(w * lengths - wanted).sum()  # noqa: E731
    numeric = [(objective(w + e) - objective(w - e)) / 2e-6 for e in 1e-6 * np.eye(3)]
    np.testing.assert_allclose(im.gradnorm(lengths, w, ratio), -np.array(numeric) / lengths.mean(), rtol=1e-6)
    out = run('gradnorm', 1, [np.ones(3)])  # through `update`: at the first estimate all ratios are 1
    expected = im.gradnorm(im.norms(im.gradients(losses, theta())[1]), np.ones(3), np.ones(3))
    np.testing.assert_allclose(out[0][1]['score'], expected, rtol=1e-6)


def test_losses_of_modalities_that_were_not_seen_do_not_count():
    kept = im.observe(im.start(3), jnp.array([1.0, jnp.nan, 3.0]), jnp.array([2, 0, 1]))
    kept = im.observe(kept, jnp.array([2.0, 5.0, 1.0]), jnp.array([2, 1, 1]))
    assert kept['sum'].tolist() == [3, 5, 4] and kept['count'].tolist() == [2, 1, 2]
    kept = im.update(kept, SETTINGS._replace(method='dwa'), None, None, None, identity)
    assert kept['last'].tolist() == [1.5, 5, 2]
