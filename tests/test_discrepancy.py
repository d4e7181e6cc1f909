"""Knowledge discrepancy: costs by loops, values against all subsets and permutations, the bound, bad input."""
import itertools

import numpy as np
import pytest

from fipjax.analysis import discrepancy
from fipjax.errors import UserError

SIZES = [(2, 2), (3, 1), (4, 3), (5, 2), (5, 5)]


def given(source, classes, soft, seed=0, n=30):
    """Probabilities that say something of the target: p [n, Ks] and int [n] or [n, Kt]."""
    rng = np.random.default_rng([seed, source, classes])
    y = np.append(rng.integers(0, classes, n - 1), classes - 1)
    logits = rng.normal(size=(n, source)) + 2 * rng.normal(size=(classes, source))[y]
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return p, rng.dirichlet(np.ones(classes), n) if soft else y


def losses(p, distance):
    """l(i, x) one number at a time."""
    out = np.zeros(p.shape)
    for x, row in enumerate(p):
        for i, value in enumerate(row):
            out[x, i] = {'error': float(i != list(row).index(max(row))), 'probability': 1 - value,
                         'cross_entropy': -np.log(value)}[distance]
    return out


def shares(target):
    return target if target.ndim == 2 else np.array([[float(j == y) for j in range(target.max() + 1)] for y in target])


def every_match(p, target, distance, inside):
    """value of each ordered choice of source classes for the target classes; `inside` renormalises p."""
    q = shares(target)
    for chosen in itertools.permutations(range(p.shape[1]), q.shape[1]):
        kept = p[:, list(chosen)]
        loss = losses(kept / kept.sum(1, keepdims=True) if inside else p, distance)
        names = range(len(chosen)) if inside else chosen
        yield float(np.mean(sum(q[:, j] * loss[:, i] for j, i in enumerate(names)))), chosen


@pytest.mark.parametrize('distance', discrepancy.DISTANCES)
@pytest.mark.parametrize('soft', [False, True])
def test_cost_is_the_mean_over_samples(distance, soft):
    p, target = given(4, 3, soft)
    loss, q = losses(p, distance), shares(target)
    wanted = [[np.mean([q[x, j] * loss[x, i] for x in range(len(p))]) for j in range(3)] for i in range(4)]
    np.testing.assert_allclose(discrepancy.cost_matrix(p, target, distance), wanted, rtol=1e-12)


@pytest.mark.parametrize('distance', discrepancy.DISTANCES)
@pytest.mark.parametrize('source,classes', SIZES)
@pytest.mark.parametrize('soft', [False, True])
def test_value_is_the_least_of_all_subsets_and_permutations(distance, source, classes, soft):
    p, target = given(source, classes, soft)
    found = discrepancy.discrepancy(p, target, distance)
    values = {chosen: value for value, chosen in every_match(p, target, distance, inside=False)}
    assert found.value == pytest.approx(min(values.values()), rel=1e-12)
    assert found.exact
    assert [j for _, j in found.pairs] == list(range(classes))
    assert values[tuple(i for i, _ in found.pairs)] == pytest.approx(found.value, rel=1e-12)


@pytest.mark.parametrize('distance', discrepancy.DISTANCES)
@pytest.mark.parametrize('source,classes', SIZES)
@pytest.mark.parametrize('soft', [False, True])
def test_renormalised_is_an_upper_bound_that_its_match_attains(distance, source, classes, soft):
    for seed in range(3):
        p, target = given(source, classes, soft, seed)
        found = discrepancy.renormalised(p, target, distance)
        values = {chosen: value for value, chosen in every_match(p, target, distance, inside=True)}
        assert values[tuple(i for i, _ in found.pairs)] == pytest.approx(found.value, rel=1e-12)
        assert found.value >= min(values.values()) - 1e-12
        assert found.exact == (source == classes)
        if found.exact:
            assert found.value == pytest.approx(min(values.values()), rel=1e-12)
        # No exchange of one class for another is better, whatever the bijection.
        chosen = {i for i, _ in found.pairs}
        near = [v for match, v in values.items() if len(chosen - set(match)) <= 1]
        assert found.value == pytest.approx(min(near), rel=1e-12)


def test_the_search_leaves_its_start():
    """Class 2 is seldom probable, so the additive match does without it; beside class 0 it names every sample."""
    p = np.array([[0.6, 0.4, 0.0]] * 6 + [[0.15, 0.1, 0.75]] + [[0.15, 0.8, 0.05]] * 3)
    target = np.array([0] * 6 + [1] * 4)
    assert discrepancy.discrepancy(p, target, 'cross_entropy').pairs == ((0, 0), (1, 1))
    found = discrepancy.renormalised(p, target, 'cross_entropy')
    assert found.pairs == ((0, 0), (2, 1))
    # By hand: the six are certain; then 0.75 of 0.9, and three times 0.05 of 0.2.
    assert found.value == pytest.approx(-(np.log(0.75 / 0.9) + 3 * np.log(0.05 / 0.2)) / 10)


def test_perfect_and_hopeless_sources():
    y = np.array([0, 1, 2, 0, 1, 2])
    perfect = np.eye(4)[np.array([3, 0, 2])[y]]
    for distance in discrepancy.DISTANCES:
        for function in (discrepancy.discrepancy, discrepancy.renormalised):
            found = function(perfect, y, distance)
            assert found.value == 0
            assert found.pairs == ((3, 0), (0, 1), (2, 2))
    hopeless = np.full((6, 3), 1 / 3)
    assert discrepancy.discrepancy(hopeless, y, 'probability').value == pytest.approx(2 / 3)
    assert discrepancy.discrepancy(hopeless, y, 'cross_entropy').value == pytest.approx(np.log(3))
    assert discrepancy.discrepancy(hopeless, y, 'error').value == pytest.approx(2 / 3)  # ties: always the first


def test_a_sample_that_gives_the_chosen_classes_nothing():
    p, y = np.array([[1.0, 0, 0], [0, 0.5, 0.5], [0, 0.5, 0.5]]), np.array([0, 1, 1])
    for distance in discrepancy.DISTANCES:
        assert np.isfinite(discrepancy.renormalised(p, y, distance).value)


@pytest.mark.parametrize('change,message', [
    ({'distance': 'kl'}, "'kl'; allowed: error, probability, cross_entropy"),
    ({'source_probs': np.full((4, 2), 0.5)}, 'source has 2 classes and the target 3'),
    ({'target': np.full((4, 4), 0.25)}, 'source has 3 classes and the target 4'),
    ({'target': np.zeros(3, int)}, r'\(4, 3\) and target \(3,\)'),
    ({'source_probs': np.zeros((0, 3)), 'target': np.zeros(0, int)}, 'n at least 1'),
    ({'target': np.array([0.0, 1, 2, 0])}, 'float64'),
    ({'target': np.array([-1, 1, 2, 0])}, 'from -1'),
    ({'source_probs': np.full((4, 3), np.nan)}, 'source_probs: row 0'),
    ({'source_probs': np.array([[0.5, 0.5, 0]] * 3 + [[1, 1, -1]])}, 'source_probs: row 3'),
    ({'target': np.full((4, 3), 0.5)}, 'target: row 0'),
])
def test_what_is_refused(change, message):
    arguments = {'source_probs': np.full((4, 3), 1 / 3), 'target': np.array([0, 1, 2, 0]), 'distance': 'error',
                 **change}
    for function in (discrepancy.cost_matrix, discrepancy.discrepancy, discrepancy.renormalised):
        with pytest.raises(UserError, match=message):
            function(**arguments)
