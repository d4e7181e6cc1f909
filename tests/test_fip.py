"""FIP: masks, losses, levers and gradients against independent computations in float64."""
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
import tiny

from fipjax import parallel
from fipjax.algorithms import fip
from fipjax.modality import Modality
from fipjax.models.transformer import MASKED

NAMES = tuple(tiny.MODALITIES)
BIG = {'a': Modality('a', 'image', (16, 16, 1), 4), 'b': Modality('b', 'sequence', (80, 1), 8),
       'c': Modality('c', 'tokens', (7,), 1, vocab=5)}  # 16, 10 and 7 tokens
BIG_RATIO = {'a': 0.75, 'b': 0.5, 'c': 0.2}


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


def relative(a, b):
    """Largest difference of two trees relative to the largest number in the second."""
    flat = lambda t: np.concatenate([np.ravel(np.asarray(x, np.float64)) for x in jax.tree.leaves(t)])  # noqa: E731
    a, b = flat(a), flat(b)
    assert a.shape == b.shape
    return np.max(np.abs(a - b)) / max(np.max(np.abs(b)), 1e-30)


def big_masks(masking='fixed', n=12, step=0, ids=None, present=None, key=tiny.KEY):
    settings = tiny.PLAIN._replace(mask_ratio=BIG_RATIO, masking=masking)
    ids = np.arange(n) if ids is None else np.asarray(ids)
    present = np.ones((len(ids), 3), bool) if present is None else np.asarray(present)
    sample = jax.jit(functools.partial(fip.sample_masks, BIG, settings))
    return jax.device_get(sample(key, step, ids, present))


# --- Masks ------------------------------------------------------------------------------------------------------------

def test_fixed_masks_show_exactly_the_ratio():
    assert fip.mask_counts(BIG, BIG_RATIO) == {'a': 4, 'b': 5, 'c': 6}
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
    keys = fip.example_keys(tiny.KEY, 0, np.arange(60))
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


# --- Losses -----------------------------------------------------------------------------------------------------------

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
    codes, valid = np.random.default_rng(0).normal(size=(3, 4, 2)), np.array([[1, 1, 1, 1], [0, 1, 0, 1], [0] * 4], bool)
    np.testing.assert_allclose(fip.pooled(codes, valid), [codes[0].mean(0), codes[1][[1, 3]].mean(0), [0, 0]])


def test_present_mask_joins_padding_and_missing():
    batch = {'mask': np.array([True, True, False]), 'present': {'image': np.array([True, False, True])}}
    got = fip.present_mask({'image': tiny.IMAGE, 'text': tiny.TEXT}, batch)  # without an entry: always there
    assert got.tolist() == [[True, True], [False, True], [False, False]]


# --- Attention --------------------------------------------------------------------------------------------------------

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


# --- The whole step against NumPy ---------------------------------------------------------------------------------------

DIRICHLET = tiny.LEVERS._replace(masking='dirichlet', normalise_targets=True)
CASES = {'levers': (tiny.LEVERS, {}), 'levers, missing': (tiny.LEVERS, {'missing': True, 'padded': 2}),
         'dirichlet': (DIRICHLET, {'missing': True, 'padded': 1})}


def float64_batch(**how):
    return tiny.cast(tiny.batch(6, **how), np.float64)


@functools.cache
def sampler(masking, ratios):
    settings = tiny.PLAIN._replace(masking=masking, mask_ratio=dict(ratios))
    return jax.jit(functools.partial(fip.sample_masks, tiny.MODALITIES, settings))


def masks_of(settings, batch, step):
    present = np.stack([batch['present'][m] & batch['mask'] for m in NAMES], 1)
    sample = sampler(settings.masking, tuple(settings.mask_ratio.items()))
    return np.asarray(sample(tiny.KEY, step, batch['id'], present).visible)


@pytest.mark.parametrize('case', CASES)
def test_metrics_and_loss_of_a_step_are_those_of_numpy(case, float64):
    settings, how = CASES[case]
    batch, parameters = float64_batch(**how), tiny.cast(tiny.params(), np.float64)
    algorithm = tiny.pretraining(settings)
    _, metrics = tiny.gradients(algorithm, parameters, batch, step=5)
    total, sums, _ = reference.fip(tiny.MODALITIES, settings, tiny.WIDTHS, parameters, batch,
                                   masks_of(settings, batch, 5))
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


@pytest.mark.parametrize('case', ['levers, missing', 'dirichlet'])
def test_gradient_is_that_of_the_loss_by_finite_differences(case, float64):
    settings, how = CASES[case]
    batch, parameters = float64_batch(**how), tiny.cast(tiny.params(), np.float64)
    gradient, metrics = tiny.gradients(tiny.pretraining(settings), parameters, batch, step=2)
    visible = masks_of(settings, batch, 2)
    loss = functools.partial(reference.fip, tiny.MODALITIES, settings, tiny.WIDTHS, batch=batch, visible=visible)
    teacher = loss(parameters)[2]  # a constant: stop_gradient
    rng = np.random.default_rng(0)
    for _ in range(3):
        direction = random_direction(rng, parameters)
        moved = [loss(jax.tree.map(lambda x, d, e=e: x + e * d, parameters, direction), teacher=teacher)[0]
                 for e in (1e-5, -1e-5)]
        numeric = (moved[0] - moved[1]) / 2e-5
        exact = sum(float((g * d).sum()) for g, d in
                    zip(jax.tree.leaves(gradient), jax.tree.leaves(direction), strict=True))
        assert exact == pytest.approx(numeric, rel=2e-5)
    total, count = jax.device_get(metrics['grad_norm'])
    assert count == 1 and total == pytest.approx(
        math.sqrt(sum(float((g ** 2).sum()) for g in jax.tree.leaves(gradient))), rel=1e-9)


def test_teacher_gets_no_gradient(float64):
    """Against the gradient that a loss with a moving teacher would have: the two must differ."""
    settings = tiny.LEVERS
    batch, parameters = float64_batch(), tiny.cast(tiny.params(), np.float64)
    gradient, _ = tiny.gradients(tiny.pretraining(settings), parameters, batch)
    loss = functools.partial(reference.fip, tiny.MODALITIES, settings, tiny.WIDTHS, batch=batch,
                             visible=masks_of(settings, batch, 0))
    rng = np.random.default_rng(0)
    direction = random_direction(rng, parameters)
    moved = [jax.tree.map(lambda x, d, e=e: x + e * d, parameters, direction) for e in (1e-5, -1e-5)]
    constant = loss(parameters)[2]
    stopped = (loss(moved[0], teacher=constant)[0] - loss(moved[1], teacher=constant)[0]) / 2e-5
    moving = (loss(moved[0])[0] - loss(moved[1])[0]) / 2e-5
    exact = sum(float((g * d).sum()) for g, d in zip(jax.tree.leaves(gradient), jax.tree.leaves(direction), strict=True))
    assert exact == pytest.approx(stopped, rel=2e-5)
    assert abs(exact - moving) > 1e-3 * abs(exact)


# --- Missing modalities and padding -------------------------------------------------------------------------------------

SETTINGS = {'fixed': tiny.LEVERS, 'dirichlet': DIRICHLET}


def predictions(settings, batch, names=NAMES):
    model, modalities = tiny.model(names), {m: tiny.MODALITIES[m] for m in names}
    run = jax.jit(functools.partial(fip.reconstruct, model, modalities, settings))
    return jax.device_get(run(tiny.cast(tiny.params(), np.float64), batch, tiny.KEY, 0))


@pytest.mark.parametrize('masking', SETTINGS)
def test_content_of_a_missing_modality_has_no_influence(masking, float64):
    settings = SETTINGS[masking]
    batch, parameters = float64_batch(missing=True), tiny.cast(tiny.params(), np.float64)
    other = jax.tree.map(np.copy, batch)
    rng, changed = np.random.default_rng(9), 0
    for m, here in batch['present'].items():
        for b in np.flatnonzero(~here):
            changed += 1
            garbage = rng.integers(0, 7, 6) if m == 'text' else rng.normal(0, 1e3, other['inputs'][m][b].shape)
            other['inputs'][m][b], other['targets'][m][b] = garbage, garbage
    assert changed > 4
    algorithm = tiny.pretraining(settings)
    (g1, m1), (g2, m2) = (tiny.gradients(algorithm, parameters, x) for x in (batch, other))
    assert relative(g1, g2) < 1e-13 and relative(m1, m2) < 1e-13
    a, b = predictions(settings, batch), predictions(settings, other)
    for m in NAMES:
        here = batch['present'][m]
        np.testing.assert_allclose(a.predicted[m][here], b.predicted[m][here], rtol=1e-11, atol=1e-12)


def test_missing_equals_not_having_the_modality(float64):
    """A batch in which 'text' is missing everywhere gives what a model without 'text' gives."""
    settings = tiny.LEVERS
    batch, parameters = float64_batch(), tiny.cast(tiny.params(), np.float64)
    batch['present']['text'] = np.zeros(6, bool)
    gradient, metrics = tiny.gradients(tiny.pretraining(settings), parameters, batch)
    names = ('image', 'sequence')
    without = {k: {m: parameters[k][m] for m in names} if k != 'encoder' else parameters[k] for k in parameters}
    gradient2, metrics2 = tiny.gradients(tiny.pretraining(settings, names), without, batch)
    for k in ('tokenizers', 'decoders'):
        assert relative({m: gradient[k][m] for m in names}, gradient2[k]) < 1e-11
        assert all((leaf == 0).all() for leaf in jax.tree.leaves(gradient[k]['text']))
    assert relative(gradient['encoder'], gradient2['encoder']) < 1e-11
    assert relative({k: metrics[k] for k in ('loss/image', 'loss/sequence', 'consistency')},
                    {k: metrics2[k] for k in ('loss/image', 'loss/sequence', 'consistency')}) < 1e-12
    metrics, metrics2 = jax.device_get((metrics, metrics2))
    assert metrics['loss/text'] == (0, 0)
    summary = tiny.pretraining(settings).summarise(metrics)
    assert 'loss/text' not in summary
    assert summary['loss'] == pytest.approx(tiny.pretraining(settings, names).summarise(metrics2)['loss'], rel=1e-6)


@pytest.mark.parametrize('masking', SETTINGS)
def test_rows_with_nothing_and_padded_rows_have_no_influence(masking, float64):
    settings = SETTINGS[masking]
    algorithm, parameters = tiny.pretraining(settings), tiny.cast(tiny.params(), np.float64)
    whole = float64_batch(padded=2)
    for m in NAMES:
        whole['present'][m][1] = False  # example 1 has no modality at all
    gradient, metrics = tiny.gradients(algorithm, parameters, whole)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(jax.device_get((gradient, metrics))))
    few = jax.tree.map(lambda x: x[[0, 2, 3, 1, 1, 1]], whole)  # the same examples among other padding
    few['mask'] = np.arange(6) < 3
    gradient2, metrics2 = tiny.gradients(algorithm, parameters, few)
    assert relative(gradient, gradient2) < 1e-12 and relative(metrics, metrics2) < 1e-12


def test_a_batch_of_nothing_moves_nothing():
    batch = tiny.batch(6)
    batch['mask'] = np.zeros(6, bool)
    gradient, metrics = tiny.gradients(tiny.pretraining(tiny.LEVERS), tiny.params(), batch)
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(gradient))
    assert tiny.pretraining(tiny.LEVERS).summarise(jax.device_get(metrics))['loss'] == 0


# --- Levers, each alone -------------------------------------------------------------------------------------------------

def lever(name):
    change = {'mask_ratio': {**tiny.PLAIN.mask_ratio, 'image': 0.75},
              'loss_weight': {**tiny.PLAIN.loss_weight, 'image': 3.0},
              'attention_bias': {**tiny.PLAIN.attention_bias, 'image': 2.0}, 'consistency': 0.3}
    return tiny.PLAIN._replace(**{name: change[name]})


@pytest.fixture(scope='module')
def plain():
    batch = tiny.batch(6)
    return batch, *tiny.gradients(tiny.pretraining(), tiny.params(), batch)


@pytest.mark.parametrize('name', ['mask_ratio', 'loss_weight', 'attention_bias', 'consistency'])
def test_each_lever_changes_what_it_should_and_nothing_else(name, plain):
    batch, gradient, metrics = plain
    settings = lever(name)
    gradient2, metrics2 = tiny.gradients(tiny.pretraining(settings), tiny.params(), batch)
    masks, masks2 = masks_of(tiny.PLAIN, batch, 0), masks_of(settings, batch, 0)
    assert relative(gradient2, gradient) > 1e-4
    if name == 'mask_ratio':
        assert (masks2[:, :4].sum(1) == 1).all() and (masks[:, :4].sum(1) == 2).all()
        np.testing.assert_array_equal(masks[:, 4:], masks2[:, 4:])
        assert (masks2[:, :4] <= masks[:, :4]).all()  # the order of the tokens is the same, fewer are shown
        return
    np.testing.assert_array_equal(masks, masks2)
    losses = {k: v for k, v in metrics.items() if k.startswith('loss/')}
    same = relative({k: metrics2[k] for k in losses}, losses) < 1e-6
    assert same == (name != 'attention_bias')
    assert ('consistency' in metrics2) == (name == 'consistency')
    if name == 'loss_weight':  # w = (3, 1, 1): the target's decoder gets 3/5 instead of 1/3, the others 1/5
        for m, factor in (('image', 9 / 5), ('sequence', 3 / 5), ('text', 3 / 5)):
            scaled = jax.tree.map(lambda g, f=factor: g * f, gradient['decoders'][m])
            assert relative(gradient2['decoders'][m], scaled) < 1e-5
    if name == 'consistency':  # the decoders do not see it
        assert relative(gradient2['decoders'], gradient['decoders']) < 1e-5


def test_decoder_depth_changes_the_target_decoder_alone():
    shapes = lambda depths: jax.eval_shape(tiny.model(NAMES, tuple(depths.items())).init, jax.random.key(0))  # noqa: E731
    plain, deep = shapes({'image': 1, 'sequence': 1, 'text': 1}), shapes({'image': 3, 'sequence': 1, 'text': 1})
    for a, b in ((plain['encoder'], deep['encoder']), (plain['tokenizers'], deep['tokenizers']),
                 (plain['decoders']['sequence'], deep['decoders']['sequence'])):
        assert a == b
    assert set(deep['decoders']['image']['blocks']) - set(plain['decoders']['image']['blocks']) == {
        f'{part}_{i}' for part in ('attention', 'attention_norm', 'mlp', 'mlp_norm') for i in (1, 2)}
    assert masks_of(tiny.PLAIN, tiny.batch(2), 0).shape == (2, 14)


def test_init_of_encoder_and_tokenizers_does_not_depend_on_the_decoders():
    deep = dict(tiny.DEPTHS, image=1)
    a = tiny.model().init(jax.random.key(1))
    b = tiny.model(NAMES, tuple(deep.items())).init(jax.random.key(1))
    for part in ('encoder', 'tokenizers', 'statistics'):
        assert all((x == y).all() for x, y in zip(jax.tree.leaves(a[part]), jax.tree.leaves(b[part]), strict=True))


def test_consistency_of_one_modality_is_switched_off():
    algorithm = tiny.pretraining(tiny.LEVERS, ('image',))
    before = tiny.state({k: {'image': v['image']} if k != 'encoder' else v for k, v in tiny.params().items()})
    _, metrics = jax.eval_shape(functools.partial(algorithm.step, psum=parallel.identity), before, tiny.batch(6))
    assert set(metrics) == {'loss/image', 'grad_norm'}


# --- The algorithm ------------------------------------------------------------------------------------------------------

def test_eval_step_is_the_step_without_the_update_at_masks_of_step_0():
    algorithm, batch = tiny.pretraining(tiny.LEVERS), tiny.batch(6, missing=True)
    evaluate = jax.jit(functools.partial(algorithm.eval_step, psum=parallel.identity))
    got = evaluate(tiny.state(tiny.params(), step=7), batch)
    _, wanted = tiny.gradients(algorithm, tiny.params(), batch, step=0)
    assert set(got) == set(wanted) - {'grad_norm'}
    assert relative(got, {k: wanted[k] for k in got}) < 1e-6


def test_step_counts_and_changes_every_parameter_but_not_the_statistics():
    algorithm = tiny.pretraining(tiny.LEVERS)
    before = tiny.state(tiny.params(), step=4)
    after, _ = tiny.compiled(algorithm)(before, tiny.batch(6))
    assert int(after.step) == 5
    changed = jax.tree.map(lambda a, b: bool((np.asarray(a) != b).any()), after.params, before.params)
    assert not any(jax.tree.leaves(changed.pop('statistics')))
    # A bias added to all keys alike cancels in the softmax: its gradient is rounding error.
    assert all(v for k, v in jax.tree_util.tree_leaves_with_path(changed) if "'key'" not in str(k))


def test_summarise_adds_over_batches_and_does_not_average_averages():
    algorithm = tiny.pretraining()
    one = {f'loss/{m}': (np.float64(s), np.float64(n)) for m, s, n in
           (('image', 8.0, 4), ('sequence', 3.0, 1), ('text', 0.0, 0))}
    assert algorithm.summarise(one)['loss'] == pytest.approx((2 + 3) / 2)
    assert set(algorithm.summarise(one)) == {'loss', 'loss/image', 'loss/sequence'}


# Loss of the first step of two variants, float32. Change them only together with a change that is meant to change
# the numbers of a training from its first step on (initialisation, masks, model, loss), and say so in the commit.
GOLDEN = {
    'uniform': {'loss': 2.21755147, 'grad_norm': 1.84538829, 'loss/image': 2.03346507, 'loss/sequence': 2.1428345,
                'loss/text': 2.47635481},
    'levers': {'loss': 2.09158658, 'consistency': 0.49036976, 'grad_norm': 1.71996129, 'loss/image': 1.80438614,
               'loss/sequence': 2.15542746, 'loss/text': 2.36310911},
}


@pytest.mark.parametrize('variant', GOLDEN)
def test_golden_first_step(variant):
    """Float32, as a run computes it; the first step of a run with seed 0."""
    algorithm = tiny.pretraining(tiny.PLAIN if variant == 'uniform' else tiny.LEVERS)
    _, metrics = tiny.compiled(algorithm)(algorithm.init(jax.random.key(0)), tiny.batch(6))
    got = algorithm.summarise(jax.device_get(metrics))
    assert got == pytest.approx(GOLDEN[variant], rel=1e-5), (
        f'the first step has other numbers than before: {got}. If that is meant, change GOLDEN and say why.')


def test_masked_logits_vanish():
    for dtype in (np.float32, np.float64):
        assert np.exp(np.asarray(MASKED, dtype)) == 0 and np.isfinite(np.asarray(MASKED, dtype))
