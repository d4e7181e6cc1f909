"""FIP: masks, losses and gradients against independent computations in float64."""
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
import tiny

from fipjax.algorithms import base, fip
from fipjax.modality import Modality
from fipjax.models import predictors
from fipjax.models.transformer import MASKED

NAMES = tuple(tiny.MODALITIES)
BIG = {'a': Modality('a', 'image', (16, 16, 1), 4), 'b': Modality('b', 'sequence', (80, 1), 8),
       'c': Modality('c', 'tokens', (7,), 1, vocab=5)}  # 16, 10 and 7 tokens
BIG_RATIO = {'a': 0.75, 'b': 0.5, 'c': 0.2}


def big_masks(masking='fixed', n=12, step=0, ids=None, present=None, key=tiny.KEY):
    settings = tiny.PLAIN._replace(mask_ratio=BIG_RATIO, masking=masking)
    ids = np.arange(n) if ids is None else np.asarray(ids)
    present = np.ones((len(ids), 3), bool) if present is None else np.asarray(present)
    sample = jax.jit(functools.partial(fip.sample_masks, BIG, settings))
    return jax.device_get(sample(key, step, ids, present))


# --- Masks --------------------------------------------------------------------------------------------------

def test_fixed_masks_show_exactly_the_ratio():
    assert fip.mask_counts(BIG, BIG_RATIO) == {'a': 4, 'b': 5, 'c': 6}
    assert fip.mask_counts({'c': BIG['c']}, {'c': 0.4}) == {'c': 4}  # 2.8 of 7 are 3
    assert fip.mask_counts({'b': BIG['b']}, {'b': 0.95}) == {'b': 1}  # 9.5 rounds up to 10; one stays
    assert fip.mask_counts({'b': BIG['b']}, {'b': 0.0}) == {'b': 10}
    masks = big_masks()
    np.testing.assert_array_equal(masks.visible[:, :16].sum(1), 4)
    np.testing.assert_array_equal(masks.visible[:, 16:26].sum(1), 5)
    np.testing.assert_array_equal(masks.visible[:, 26:].sum(1), 6)
    assert masks.kept.shape == (12, 15)


def test_fixed_masks_ask_for_what_they_hide_and_nothing_else():
    masks = big_masks()
    start = 0
    for m, spec in BIG.items():
        for b in range(12):
            hidden = np.flatnonzero(~masks.visible[b, start:start + spec.tokens])
            np.testing.assert_array_equal(np.sort(masks.asked[m][b]), hidden)
            assert masks.lost[m][b].all()
        start += spec.tokens
    for b in range(12):  # what the encoder is given is what is visible
        np.testing.assert_array_equal(np.sort(masks.kept[b]), np.flatnonzero(masks.visible[b]))


def test_masks_are_decided_by_key_step_and_id_alone():
    all_rows = big_masks(ids=[5, 6, 7, 8])
    shuffled = big_masks(ids=[8, 100, 5])
    np.testing.assert_array_equal(shuffled.visible[0], all_rows.visible[3])
    np.testing.assert_array_equal(shuffled.visible[2], all_rows.visible[0])
    assert (all_rows.visible != big_masks(ids=[5, 6, 7, 8], step=1).visible).any(1).all()
    assert (all_rows.visible != big_masks(ids=[5, 6, 7, 8], key=tiny.KEY + np.uint32(1)).visible).any(1).all()
    assert len({row.tobytes() for row in big_masks(ids=range(50)).visible}) == 50


def test_every_token_is_masked_as_often_as_its_ratio_says():
    visible = big_masks(n=4000).visible.mean(0)
    for own, share in ((slice(0, 16), 4 / 16), (slice(16, 26), 5 / 10), (slice(26, 33), 6 / 7)):
        assert np.abs(visible[own] - share).max() < 5 * math.sqrt(share * (1 - share) / 4000)


@pytest.mark.parametrize('masking', ['fixed', 'dirichlet'])
def test_masks_of_missing_modalities_and_of_nothing(masking):
    present = [[True, False, True], [False, False, False], [False, True, False]]
    masks = big_masks(masking, ids=[1, 2, 3], present=present)
    for b, here in enumerate(present):
        for i, (m, own) in enumerate((('a', slice(0, 16)), ('b', slice(16, 26)), ('c', slice(26, 33)))):
            if here[i]:
                assert masks.visible[b, own].any()
                assert masks.lost[m][b].sum() == (~masks.visible[b, own]).sum()
            else:
                assert not masks.visible[b, own].any() and not masks.lost[m][b].any()
    assert masks.kept.shape == (3, 15)
    for row in masks.kept:
        assert len(set(row.tolist())) == 15 and row.min() >= 0 and row.max() < 33
    # What is visible is among what the encoder is given.
    assert all(set(np.flatnonzero(v)) <= set(k.tolist()) for v, k in zip(masks.visible, masks.kept, strict=True))


def webster(shares, total, most):
    """Hands out one seat after the other to the largest quotient p_m / (seats + 1/2), none beyond `most`."""
    seats = [0] * len(shares)
    for _ in range(min(total, sum(n for n, p in zip(most, shares, strict=True) if p > 0))):
        quotients = [p / (s + 0.5) if s < n else -1.0 for p, s, n in zip(shares, seats, most, strict=True)]
        seats[int(np.argmax(quotients))] += 1
    return seats


@pytest.mark.parametrize('present', [(True, True, True), (True, False, True), (False, True, False)])
def test_dirichlet_shares_are_apportioned_by_webster(present):
    sizes, budget = [16, 10, 7], 15
    masks = big_masks('dirichlet', n=60, present=[present] * 60)
    seats = np.stack([masks.visible[:, a:b].sum(1) for a, b in ((0, 16), (16, 26), (26, 33))], 1)
    keys = base.example_keys(tiny.KEY, 0, np.arange(60))
    for b in range(60):
        gamma = np.asarray(jax.random.gamma(jax.random.fold_in(keys[b], 3), 1.0, (3,)), np.float64) + 1e-6
        gamma = np.where(present, gamma, 0)
        assert seats[b].tolist() == webster(gamma / gamma.sum(), budget, sizes)
    assert (seats.sum(1) == min(budget, sum(n for n, p in zip(sizes, present, strict=True) if p))).all()


def test_dirichlet_is_symmetric_uniform_over_the_simplex_and_follows_alpha():
    equal = {m: Modality(m, 'sequence', (40, 1), 1) for m in 'abc'}
    settings = tiny.PLAIN._replace(masking='dirichlet', mask_ratio=dict.fromkeys('abc', 0.75))  # 30 of 120 visible

    def shares(alpha):
        sample = jax.jit(functools.partial(fip.sample_masks, equal, settings._replace(dirichlet_alpha=alpha)))
        visible = jax.device_get(sample(tiny.KEY, 0, np.arange(3000), np.ones((3000, 3), bool))).visible
        return visible.reshape(3000, 3, 40).sum(2) / 30

    one, concentrated = shares(1.0), shares(100.0)
    assert np.allclose(one.sum(1), 1)
    # Variance of a share under Dirichlet(alpha, alpha, alpha): (1/3)(2/3) / (3 alpha + 1); rounding adds < 1/12/30^2.
    assert np.abs(one.mean(0) - 1 / 3).max() < 5 * math.sqrt(2 / 9 / 4 / 3000)
    assert np.abs(one.var(0) - 2 / 9 / 4).max() < 0.06 * 2 / 9 / 4
    assert np.abs(concentrated.var(0) - 2 / 9 / 301).max() < 0.3 * 2 / 9 / 301


def test_random_ranks_are_a_permutation():
    ranks = fip.random_ranks(jax.random.key(0), 9)
    assert sorted(ranks.tolist()) == list(range(9))


# --- Losses -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('counts', [{'a': 4, 'b': 2, 'c': 10}, {'a': 0, 'b': 2, 'c': 10}, {'a': 0, 'b': 0, 'c': 3},
                                    {'a': 4, 'b': 0, 'c': 0}, {'a': 0, 'b': 0, 'c': 0}])
def test_weighted_loss_is_equation_2(counts, float64):
    losses, weights = {'a': 0.7, 'b': 1.9, 'c': 0.2}, {'a': 3.0, 'b': 1.0, 'c': 0.5}
    seen = [m for m in counts if counts[m]]
    wanted = sum(weights[m] * losses[m] for m in seen) / sum(weights[m] for m in seen) if seen else 0.0
    got = fip.weighted_loss({m: losses[m] if counts[m] else math.nan for m in counts}, counts, weights)
    assert float(got) == pytest.approx(wanted, rel=1e-12)
    # The same through the coefficients of the summed errors.
    coefficients = fip.loss_coefficients(counts, weights)
    assert float(sum(coefficients[m] * losses[m] * counts[m] for m in counts)) == pytest.approx(wanted, rel=1e-12)
    assert all(float(coefficients[m]) == 0 for m in counts if not counts[m])


def test_weighted_loss_of_modalities_without_weight_is_zero_and_not_nan():
    assert float(fip.weighted_loss({'a': 2.0, 'b': 3.0}, {'a': 0, 'b': 4}, {'a': 1.0, 'b': 0.0})) == 0.0


def test_token_error_of_each_kind(float64):
    rng = np.random.default_rng(0)
    for spec in tiny.MODALITIES.values():
        predicted = rng.normal(size=(2, 3, spec.token_dim))
        if spec.kind == 'tokens':
            tokens = rng.integers(0, spec.vocab, (2, 3))
            wanted = [[reference.cross_entropy(p, t) for p, t in zip(*row, strict=True)]
                      for row in zip(predicted, tokens, strict=True)]
        else:
            tokens = rng.normal(size=predicted.shape)
            wanted = [[np.mean([(x - y) ** 2 for x, y in zip(p, t, strict=True)]) for p, t in zip(*row, strict=True)]
                      for row in zip(predicted, tokens, strict=True)]
        np.testing.assert_allclose(fip.token_error(spec, predicted, tokens), wanted, rtol=1e-12)


def test_true_tokens_are_the_asked_ones_of_the_clean_target_by_channel_or_patch(float64):
    batch, parameters = tiny.cast(tiny.batch(3), np.float64), tiny.cast(tiny.params(), np.float64)
    asked = np.array([[3, 0], [1, 2], [2, 3]])
    for normalised in (False, True):
        settings = tiny.PLAIN._replace(normalise_targets=normalised)
        for m, spec in tiny.MODALITIES.items():
            clean = batch['targets'][m]
            tokens = reference.tokens_of(spec, clean if normalised else
                                         reference.standardise(parameters, spec, clean, 'target'))
            wanted = np.stack([t[a] for t, a in zip(tokens, asked, strict=True)])
            if normalised and spec.kind != 'tokens':
                wanted = (wanted - wanted.mean(-1, keepdims=True)) / np.sqrt(wanted.var(-1, keepdims=True) + 1e-6)
            got = fip.true_tokens(spec, settings, parameters, batch, asked)
            np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-12)


def test_consistency_is_one_minus_cosine_with_a_constant_teacher(float64):
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(2, 5, 8))
    wanted = [1 - reference.unit(x) @ reference.unit(y) for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(fip.consistency(a, b), wanted, rtol=1e-9)
    student, teacher = jax.grad(lambda x, y: fip.consistency(x, y).sum(), argnums=(0, 1))(jnp.array(a), jnp.array(b))
    assert np.abs(student).max() > 0.01 and (np.asarray(teacher) == 0).all()


def test_pooled_is_the_mean_of_valid_tokens(float64):
    codes = np.random.default_rng(0).normal(size=(3, 4, 2))
    valid = np.array([[1, 1, 1, 1], [0, 1, 0, 1], [0, 0, 0, 0]], bool)
    wanted = [codes[0].mean(0), codes[1][[1, 3]].mean(0), [0, 0]]
    np.testing.assert_allclose(predictors.mean_token(codes, valid), wanted)


def test_present_mask_joins_padding_and_missing():
    batch = {'mask': np.array([True, True, False]), 'present': {'image': np.array([True, False, True])}}
    got = fip.present_mask({'image': tiny.IMAGE, 'text': tiny.TEXT}, batch)  # without an entry: always there
    assert got.tolist() == [[True, True], [False, True], [False, False]]


# --- Attention ----------------------------------------------------------------------------------------------

@pytest.mark.parametrize('times', [2, 3])
def test_attention_bias_equals_duplicating_the_keys(times, float64):
    parameters = tiny.cast(tiny.params(), np.float64)
    batch = tiny.cast(tiny.batch(2), np.float64)
    model, encode = tiny.model(), jax.jit(tiny.model().encode)
    joined = jax.jit(lambda p, x: jnp.concatenate([model.tokenize(p, m, x[m]) for m in NAMES], 1))(
        parameters, batch['inputs'])
    bias = fip.attention_log_bias(tiny.MODALITIES, {'image': 1.0, 'sequence': float(times), 'text': 1.0})
    np.testing.assert_allclose(bias, [0] * 4 + [math.log(times)] * 4 + [0] * 6, rtol=1e-6)
    # float64 logs here, so that the comparison is as sharp as the equation.
    exact = np.repeat([0.0, math.log(times), 0.0], [4, 4, 6])
    counted = encode(parameters, joined, np.tile(exact, (2, 1)))
    copies = np.concatenate([joined] + [joined[:, 4:8]] * (times - 1), 1)
    duplicated = encode(parameters, copies, np.zeros(copies.shape[:2]))[:, :14]
    np.testing.assert_allclose(counted, duplicated, rtol=1e-10, atol=1e-11)
    plain = encode(parameters, joined, np.zeros((2, 14)))
    assert np.abs(plain - duplicated).max() > 1e-3


# --- The whole step against NumPy ---------------------------------------------------------------------------

CASES = {'levers': (tiny.LEVERS, {}), 'levers, missing': (tiny.LEVERS, {'missing': True, 'padded': 2}),
         'dirichlet': (tiny.DIRICHLET, {'missing': True, 'padded': 1})}


@pytest.mark.parametrize('case', CASES)
def test_metrics_and_loss_of_a_step_are_those_of_numpy(case, float64):
    settings, how = CASES[case]
    batch, parameters = tiny.float64_batch(**how), tiny.cast(tiny.params(), np.float64)
    algorithm = tiny.pretraining(settings)
    _, metrics = tiny.gradients(algorithm, parameters, batch, step=5)
    total, sums, _ = reference.fip(tiny.MODALITIES, settings, tiny.WIDTHS, parameters, batch,
                                   tiny.masks_of(settings, batch, 5))
    metrics = jax.device_get(metrics)
    for m in NAMES:
        np.testing.assert_allclose(metrics[f'loss/{m}'], sums[m], rtol=1e-6)  # 1e-6: log a_m is float32
    assert ('consistency' in metrics) == (settings.consistency > 0)
    if settings.consistency:
        np.testing.assert_allclose(metrics['consistency'], sums['consistency'], rtol=1e-6)
    summary = algorithm.summarise(metrics)
    assert summary['loss'] == pytest.approx(total, rel=1e-6)
    for m in NAMES:
        assert summary[f'loss/{m}'] == pytest.approx(sums[m][0] / sums[m][1], rel=1e-6)


def random_direction(rng, parameters):
    """In the space of what is trained: not along the statistics of the data."""
    return {k: jax.tree.map(lambda x, k=k: rng.normal(size=x.shape) * (k != 'statistics'), v)
            for k, v in parameters.items()}


def inner(a, b):
    return sum(float((x * y).sum()) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


@pytest.mark.parametrize('case', ['levers, missing', 'dirichlet'])
def test_gradient_is_that_of_the_loss_by_finite_differences(case, float64):
    settings, how = CASES[case]
    batch, parameters = tiny.float64_batch(**how), tiny.cast(tiny.params(), np.float64)
    gradient, metrics = tiny.gradients(tiny.pretraining(settings), parameters, batch, step=2)
    visible = tiny.masks_of(settings, batch, 2)
    loss = functools.partial(reference.fip, tiny.MODALITIES, settings, tiny.WIDTHS, batch=batch, visible=visible)
    teacher = loss(parameters)[2]  # a constant: stop_gradient
    rng = np.random.default_rng(0)
    for _ in range(3):
        direction = random_direction(rng, parameters)
        moved = [loss(jax.tree.map(lambda x, d, e=e: x + e * d, parameters, direction), teacher=teacher)[0]
                 for e in (1e-5, -1e-5)]
        numeric = (moved[0] - moved[1]) / 2e-5
        exact = inner(gradient, direction)
        assert exact == pytest.approx(numeric, rel=2e-5)
    total, count = jax.device_get(metrics['grad_norm'])
    assert count == 1 and total == pytest.approx(
        math.sqrt(sum(float((g ** 2).sum()) for g in jax.tree.leaves(gradient))), rel=1e-9)


def test_teacher_gets_no_gradient(float64):
    """Against the gradient that a loss with a moving teacher would have: the two must differ."""
    settings = tiny.LEVERS
    batch, parameters = tiny.float64_batch(), tiny.cast(tiny.params(), np.float64)
    gradient, _ = tiny.gradients(tiny.pretraining(settings), parameters, batch)
    loss = functools.partial(reference.fip, tiny.MODALITIES, settings, tiny.WIDTHS, batch=batch,
                             visible=tiny.masks_of(settings, batch, 0))
    rng = np.random.default_rng(0)
    direction = random_direction(rng, parameters)
    moved = [jax.tree.map(lambda x, d, e=e: x + e * d, parameters, direction) for e in (1e-5, -1e-5)]
    constant = loss(parameters)[2]
    stopped = (loss(moved[0], teacher=constant)[0] - loss(moved[1], teacher=constant)[0]) / 2e-5
    moving = (loss(moved[0])[0] - loss(moved[1])[0]) / 2e-5
    exact = inner(gradient, direction)
    assert exact == pytest.approx(stopped, rel=2e-5)
    assert abs(exact - moving) > 1e-3 * abs(exact)


def test_masked_logits_vanish():
    for dtype in (np.float32, np.float64):
        assert np.exp(np.asarray(MASKED, dtype)) == 0 and np.isfinite(np.asarray(MASKED, dtype))
