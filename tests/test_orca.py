"""ORCA: the distance against its definition in NumPy and SciPy, gradients, padding, one step against single calls."""
import functools
import subprocess
import sys

import jax
import numpy as np
import optax
import pytest
import tiny
from scipy import linalg, special

from fipjax import parallel
from fipjax.algorithms import orca
from fipjax.errors import UserError

CLASSES, LABELS, DIM = 3, 2, 4
# Other weights than 1, so that a test would see them exchanged or forgotten.
SETTINGS = {kind: orca.Settings(kind, entropic=0.5, feature_weight=1.5, label_weight=0.7, iterations=200)
            for kind in orca.LABEL_DISTANCES}
pytestmark = pytest.mark.filterwarnings('ignore:Matrix is singular')  # covariances of few samples
BOTH = pytest.mark.parametrize('kind', orca.LABEL_DISTANCES)


@functools.cache
def points():
    """Source of 3 uneven classes, the first larger and the last smaller than DIM; target of 2 labels; weights."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(CLASSES), (7, 5, 2))
    source = rng.normal(size=(14, DIM)) * 0.6 + rng.normal(size=(CLASSES, DIM))[labels] * 0.5
    target_labels = np.array([0, 1, 1, 0, 0, 1, 0, 0])
    target = rng.normal(size=(8, DIM)) * 0.5 + 0.4 + 0.3 * target_labels[:, None]
    mixed = rng.permutation(14)  # not sorted by class
    return source[mixed], labels[mixed], target, target_labels, rng.uniform(0.5, 2, 8)


# --- The definition, in NumPy ----------------------------------------------------------------------------------------

def entropic(cost, a, b, epsilon):
    """min <P, C> + epsilon KL(P | a b^T), by Sinkhorn in the log domain, as the primal value of the coupling."""
    f, g = np.zeros(len(a)), np.zeros(len(b))
    own = cost.shape == cost.T.shape and np.allclose(cost, cost.T) and np.array_equal(a, b)
    for _ in range(20000):
        old = f
        f = -epsilon * special.logsumexp((g[None, :] - cost) / epsilon, b=b[None, :], axis=1)
        if own:  # alternating updates take for ever where each point best goes to itself
            f = g = (f + old) / 2
        else:
            g = -epsilon * special.logsumexp((f[:, None] - cost) / epsilon, b=a[:, None], axis=0)
        if np.abs(f - old).max() < 1e-12:
            break
    plan = a[:, None] * b[None, :] * np.exp((f[:, None] + g[None, :] - cost) / epsilon)
    np.testing.assert_allclose(plan.sum(1), a, atol=1e-9)
    np.testing.assert_allclose(plan.sum(0), b, atol=1e-9)
    return (plan * cost).sum() + epsilon * special.rel_entr(plan, np.outer(a, b)).sum()


def pairwise(x, y):
    return np.array([[((u - v)**2).sum() for v in y] for u in x])


def uniform(x):
    return np.full(len(x), 1 / len(x))


def debiased(x, a, y, b, epsilon):
    return (entropic(pairwise(x, y), a, b, epsilon) - entropic(pairwise(x, x), a, a, epsilon) / 2
            - entropic(pairwise(y, y), b, b, epsilon) / 2)


def gaussian(x, a, y, b, epsilon):
    (m1, s1), (m2, s2) = ((w @ z, np.cov(z.T, aweights=w, ddof=0)) for z, w in ((x, a), (y, b)))
    root = linalg.sqrtm(s1)
    return ((m1 - m2)**2).sum() + np.trace(s1 + s2 - 2 * np.real(linalg.sqrtm(root @ s2 @ root)))


def reference(kind, x, labels_x, a, y, labels_y, b):
    """OTDD from its definition, every label distance and self term anew."""
    settings = SETTINGS[kind]
    w = {'exact': debiased, 'gaussian': gaussian}[kind]
    sets = [(z[labels == c], share[labels == c] / share[labels == c].sum())
            for z, labels, share in ((x, labels_x, a), (y, labels_y, b)) for c in range(labels.max() + 1)]
    table = np.array([[0.0 if i == j else w(*s, *t, settings.entropic) for j, t in enumerate(sets)]
                      for i, s in enumerate(sets)])
    offset = labels_x.max() + 1

    def term(p, labels_p, u, q, labels_q, v):
        cost = (settings.feature_weight * pairwise(p, q)
                + settings.label_weight * table[labels_p[:, None], labels_q[None, :]]) / 2
        return entropic(cost, u, v, settings.entropic)
    first, second = (x, labels_x, a), (y, labels_y + offset, b)
    return term(*first, *second) - (term(*first, *first) + term(*second, *second)) / 2


@functools.cache
def wanted(kind):
    source, labels, target, target_labels, weights = points()
    return reference(kind, source, labels, uniform(source), target, target_labels, weights / weights.sum())


# --- The functions under test, compiled once for each dtype ----------------------------------------------------------

@functools.cache
def side(kind, dtype=np.float64):
    source, labels, *_ = points()
    return orca.source_side(source.astype(dtype), labels, CLASSES, SETTINGS[kind])


@functools.cache
def general(kind):
    def value(features, source, labels, weights):
        return orca.otdd(source, features, labels, LABELS, weights, SETTINGS[kind])
    return jax.jit(jax.value_and_grad(value))


@functools.cache
def single(kind):
    def value(features, source, valid):
        return orca.class_otdd(source, features, valid, SETTINGS[kind])
    return jax.jit(jax.value_and_grad(value))


# --- Values ----------------------------------------------------------------------------------------------------------

@BOTH
def test_value_is_that_of_the_definition(kind, float64):
    _, _, target, labels, weights = points()
    value, _ = general(kind)(target, side(kind), labels, weights)
    assert float(value) == pytest.approx(wanted(kind), rel=1e-6)


@BOTH
def test_value_in_float32(kind):
    _, _, target, labels, weights = points()
    value, _ = general(kind)(*(np.asarray(x, np.float32) for x in (target,)), side(kind, np.float32), labels,
                             weights.astype(np.float32))
    assert value.dtype == np.float32
    assert float(value) == pytest.approx(wanted(kind), rel=1e-4)


@BOTH
def test_one_class_is_one_label(kind, float64):
    """The class form against the general form and against the definition."""
    source, labels, target, *_ = points()
    zeros = np.zeros(len(target), int)
    value = float(single(kind)(target, side(kind), np.ones(len(target), bool))[0])
    assert value == pytest.approx(reference(kind, source, labels, uniform(source), target, zeros, uniform(target)),
                                  rel=1e-6)
    same = jax.jit(lambda y, s: orca.otdd(s, y, zeros, 1, None, SETTINGS[kind]))(target, side(kind))
    assert value == pytest.approx(float(same), rel=1e-12)


@BOTH
def test_distance_to_itself_is_zero_and_to_others_is_not(kind, float64):
    source, labels, target, *_ = points()
    itself = jax.jit(lambda s, y: orca.otdd(s, y, labels, CLASSES, None, SETTINGS[kind]))
    assert itself(side(kind), source) == pytest.approx(0, abs=1e-8)
    assert itself(side(kind), source + 0.1) > 1e-3
    assert single(kind)(target, side(kind), np.ones(len(target), bool))[0] > 1e-2


@BOTH
def test_two_points_show_the_convention(kind, float64):
    """All of the source in one point, one sample at r: (lambda_x r^2 + lambda_y r^2) / 2; no root, no epsilon."""
    _, labels, *_ = points()
    source = orca.source_side(np.zeros((14, DIM)), labels, CLASSES, SETTINGS[kind])
    target = np.zeros((8, DIM))
    target[0, :2] = 3.0, 4.0
    assert float(single(kind)(target, source, np.arange(8) == 0)[0]) == pytest.approx((1.5 + 0.7) * 25 / 2, rel=1e-9)


@pytest.mark.parametrize('shape', [(4, 7), (7, 4), (5, 5)])
@pytest.mark.parametrize('rank', [2, 4])
def test_nuclear_norm_is_the_sum_of_singular_values(shape, rank, float64):
    rng = np.random.default_rng(3)
    x = rng.normal(size=(shape[0], rank)) @ rng.normal(size=(rank, shape[1]))
    value, gradient = jax.value_and_grad(orca.nuclear_norm)(x)
    u, s, v = np.linalg.svd(x, full_matrices=False)
    assert float(value) == pytest.approx(s.sum(), rel=1e-9)
    np.testing.assert_allclose(gradient, u[:, :rank] @ v[:rank], atol=1e-7)  # 0 off the range of x


# --- Gradients and padding -------------------------------------------------------------------------------------------

@BOTH
def test_gradient_is_that_of_finite_differences(kind, float64):
    _, _, target, labels, weights = points()
    source, rng = side(kind), np.random.default_rng(1)
    every = np.ones(len(target), bool)
    for function, given in ((general(kind), (source, labels, weights)), (single(kind), (source, every))):
        gradient = np.asarray(function(target, *given)[1])
        for direction in rng.normal(size=(3, *target.shape)):
            ahead, behind = (function(target + e * direction, *given)[0] for e in (1e-5, -1e-5))
            wanted_slope = float(ahead - behind) / 2e-5
            assert float((gradient * direction).sum()) == pytest.approx(wanted_slope, rel=1e-5, abs=1e-8)


@BOTH
def test_padding_changes_nothing(kind, float64):
    """Rows of padding, whatever they hold, are like rows that are not there."""
    _, _, target, labels, weights = points()
    more = np.concatenate([target, np.full((3, DIM), 1e3)])
    valid = np.arange(len(more)) < len(target)
    value, gradient = single(kind)(target, side(kind), valid[:len(target)])
    padded, of_padded = single(kind)(more, side(kind), valid)
    assert float(padded) == pytest.approx(float(value), rel=1e-10)
    np.testing.assert_allclose(of_padded, np.pad(gradient, ((0, 3), (0, 0))), atol=1e-8)
    value, gradient = general(kind)(target, side(kind), labels, weights)
    padded, of_padded = general(kind)(more, side(kind), np.pad(labels, (0, 3)), np.pad(weights, (0, 3)))
    assert float(padded) == pytest.approx(float(value), rel=1e-10)
    np.testing.assert_allclose(of_padded, np.pad(gradient, ((0, 3), (0, 0))), atol=1e-8)


# --- Computed once ---------------------------------------------------------------------------------------------------

@BOTH
def test_the_source_is_compared_with_itself_once(kind, monkeypatch):
    """Transport problems by shape: the one of the source with itself is solved in `source_side` alone."""
    source, labels, target, *_ = points()
    settings, solved, plain = SETTINGS[kind]._replace(iterations=3), [], orca.transport
    monkeypatch.setattr(orca, 'transport', lambda cost, *a, **k: (solved.append(cost.shape), plain(cost, *a, **k))[1])
    made = orca.source_side(source.astype(np.float32), labels, CLASSES, settings)
    assert solved.count((14, 14)) == 1
    solved.clear()
    jax.eval_shape(lambda y: orca.class_otdd(made, y, np.ones(8, bool), settings), target.astype(np.float32))
    largest = made.rows.shape[1]
    assert sorted(solved) == sorted([(14, 8), (8, 8)] + [(largest, 8), (8, 8)] * (kind == 'exact'))


def test_importing_loads_neither_ott_nor_sklearn():
    code = 'import sys, fipjax.algorithms.orca; print([m for m in ("ott", "sklearn", "flax") if m in sys.modules])'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == '[]'


# --- The algorithm ---------------------------------------------------------------------------------------------------

def embed(params, x, length):
    """[n, L, 2] -> [n, DIM], a mean over the samples that count."""
    tokens = x @ params['kernel'] + params['bias']
    there = np.ones(x.shape[:2]) if length is None else np.arange(x.shape[1])[None, :] < length[:, None]
    return (tokens * there[..., None]).sum(1) / there.sum(1, keepdims=True)


def start():
    rng = np.random.default_rng(4)
    return {'kernel': rng.normal(size=(2, DIM)), 'bias': rng.normal(size=DIM) * 0.1}


def classes():
    """4 rows: three classes of 8, 3 and 1 samples, and a row of padding with numbers in it."""
    rng = np.random.default_rng(5)
    return {'id': np.arange(4, dtype=np.int32), 'mask': np.array([True, True, True, False]),
            'x': rng.normal(size=(4, 8, 6, 2)), 'valid': np.arange(8) < np.array([8, 3, 1, 2])[:, None],
            'weight': np.array([0.5, 0.375, 0.125, 9.0]), 'length': rng.integers(2, 7, (4, 8)).astype(np.int32)}


@functools.cache
def algorithm(kind):
    return orca.make(embed, side(kind), SETTINGS[kind], tiny.SGD, start())


@pytest.mark.parametrize('length', [True, False])
def test_a_step_is_the_sum_of_single_calls(length, float64):
    batch = {k: v for k, v in classes().items() if length or k != 'length'}
    gradient, metrics = tiny.gradients(algorithm('gaussian'), {'embedder': start()}, batch)
    value, total = 0.0, jax.tree.map(np.zeros_like, start())
    for c in range(3):
        lengths = batch['length'][c] if length else None
        features, back = jax.vjp(lambda p, c=c, k=lengths: embed(p, batch['x'][c], k), start())
        alone, slope = single('gaussian')(features, side('gaussian'), batch['valid'][c])
        value += batch['weight'][c] * alone
        total = jax.tree.map(lambda t, g, c=c: t + batch['weight'][c] * g, total, back(slope)[0])
    assert float(metrics['loss'][0]) == pytest.approx(float(value), rel=1e-9)
    assert metrics['loss'][1] == 1
    assert tiny.relative(gradient['embedder'], total) < 1e-8
    assert float(metrics['grad_norm'][0]) == pytest.approx(float(optax.tree.norm(total)), rel=1e-8)


def test_padding_rows_have_no_influence_and_eval_agrees(float64):
    batch, params = classes(), {'embedder': start()}
    real = np.array([1, 1, 1, 0], bool)
    other = {**batch, 'x': batch['x'].copy(), 'weight': batch['weight'] * real,
             'valid': batch['valid'] & real[:, None]}
    other['x'][3], other['x'][2, 1:] = 1e2, -1e2
    (g1, m1), (g2, m2) = (tiny.gradients(algorithm('gaussian'), params, b) for b in (batch, other))
    assert tiny.relative(g1, g2) < 1e-9
    assert float(m1['loss'][0]) == pytest.approx(float(m2['loss'][0]), rel=1e-12)
    made = algorithm('gaussian')
    seen = jax.jit(functools.partial(made.eval_step, psum=parallel.identity))(tiny.state(params), batch)
    assert float(seen['loss'][0]) == pytest.approx(float(m1['loss'][0]), rel=1e-12)
    assert made.summarise(seen)['loss'] == pytest.approx(float(m1['loss'][0] / m1['loss'][1]))


def test_nothing_but_padding_moves_nothing(float64):
    batch = {**classes(), 'valid': np.zeros((4, 8), bool)}
    gradient, metrics = tiny.gradients(algorithm('gaussian'), {'embedder': start()}, batch)
    assert all((g == 0).all() for g in jax.tree.leaves(gradient))
    assert (float(metrics['loss'][0]), float(metrics['loss'][1])) == (0, 0)


def test_training_brings_the_embedder_to_the_source():
    """30 steps bring the distance well below its beginning; the state starts at the given parameters."""
    made = orca.make(embed, side('exact', np.float32), SETTINGS['exact'], optax.adam(0.05),
                     tiny.cast(start(), np.float32))
    state, losses = made.init(jax.random.key(0)), []
    np.testing.assert_array_equal(state.params['embedder']['bias'], start()['bias'].astype(np.float32))
    step, batch = tiny.compiled(made), tiny.cast(classes(), np.float32)
    for _ in range(30):
        state, metrics = step(state, batch)
        losses.append(made.summarise(jax.device_get(metrics))['loss'])
    assert losses[-1] < 0.7 * losses[0]
    assert int(state.step) == 30


# --- Labels and errors -----------------------------------------------------------------------------------------------

def test_pseudo_labels_find_clusters():
    rng = np.random.default_rng(6)
    true = rng.permutation(np.repeat(np.arange(4), 6))
    y = rng.normal(size=(4, 3, 5))[true] * 5 + rng.normal(size=(24, 3, 5)) * 0.01
    found = orca.pseudo_labels(y, k=4)
    assert found.dtype == np.int32
    assert len({(t, f) for t, f in zip(true, found, strict=True)}) == 4  # a renaming of the true ones
    np.testing.assert_array_equal(found, orca.pseudo_labels(y, k=4))
    few = orca.pseudo_labels(np.array([[0.0, 1], [1, 0], [0, 1]]), k=10)  # fewer values than clusters
    assert few[0] == few[2] != few[1] and few.max() == 1


@pytest.mark.parametrize('change,message', [
    ({'settings': orca.Settings('euclidean')}, "'euclidean'; allowed: gaussian, exact"),
    ({'labels': np.zeros(3, int)}, r'labels \(3,\)'),
    ({'features': np.zeros((4, 2, 2))}, r'shape \(4, 2, 2\)'),
    ({'labels': np.array([0, 0, 2, 2])}, 'no sample of 1; each of the 3 classes'),
    ({'labels': np.array([0, 1, 2, 3])}, 'labels up to 3'),
])
def test_what_the_source_cannot_be(change, message):
    given = {'features': np.zeros((4, 2)), 'labels': np.array([0, 1, 2, 2]), 'classes': 3,
             'settings': orca.Settings(), **change}
    with pytest.raises(UserError, match=message):
        orca.source_side(**given)
