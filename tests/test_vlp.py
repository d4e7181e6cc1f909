"""Masked pretraining on words and regions, and fine-tuning, against NumPy."""
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny
import tiny_vlp as tv
from scipy.special import log_softmax, rel_entr
from sklearn.metrics import f1_score

from fipjax.algorithms import vlp
from fipjax.algorithms.base import State

MODELS = ('visualbert', 'vilbert')


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def many(n=4000):
    """A batch of `n` long texts."""
    batch = tv.batch(4)
    tile = lambda x: np.tile(x, (n // 4, *[1] * (x.ndim - 1)))  # noqa: E731
    return {**{k: tile(v) for k, v in batch.items()}, 'id': np.arange(n, dtype=np.int32)}


@functools.cache
def masked(objective='mmm', step=0, **switches):
    with jax.enable_x64(True):
        return jax.device_get(vlp.mask(tv.SETTINGS._replace(objective=objective, **switches), tiny.KEY, step, many()))


# --- Masks ------------------------------------------------------------------------------------------------------------

def test_shares_of_words():
    batch, hidden = many(), masked()
    plain = batch['token_mask'] & (batch['tokens'] > tv.SEP)
    assert not hidden.words[~plain].any()
    assert abs(hidden.words[plain].mean() - 0.15) < 0.01
    before, after = batch['tokens'][hidden.words], hidden.tokens[hidden.words]
    assert abs((after == tv.MASK).mean() - 0.8 - 0.1 / tv.VOCAB) < 0.03
    assert abs((after == before).mean() - 0.1 - 0.1 / tv.VOCAB) < 0.03
    changed = after[(after != tv.MASK) & (after != before)]
    assert set(changed) >= set(range(5, tv.VOCAB))
    np.testing.assert_array_equal(hidden.tokens[~hidden.words], batch['tokens'][~hidden.words])


def test_shares_of_regions():
    batch, hidden = many(), masked()
    there = batch['region_mask']
    assert not hidden.regions[~there].any()
    assert abs(hidden.regions[there].mean() - 0.15) < 0.01
    zero = (hidden.features == 0).all(-1)
    assert abs(zero[hidden.regions].mean() - 0.9) < 0.03
    np.testing.assert_array_equal(hidden.features[~hidden.regions], batch['features'][~hidden.regions])


def test_mlm_leaves_regions_alone_unless_told():
    hidden = masked('mlm')
    np.testing.assert_array_equal(hidden.features, many()['features'])
    assert not hidden.regions.any()
    public = masked('mlm', zero_regions=True)
    assert not public.regions.any()
    assert 0.1 < 1 - (public.features == many()['features']).all(-1)[many()['region_mask']].mean() < 0.17


def test_padded_regions_are_chosen_where_told():
    assert masked(padded_regions=True).regions[~many()['region_mask']].mean() > 0.1


def test_masks_are_decided_by_key_step_and_id_alone():
    batch = tv.batch(6)
    one = vlp.mask(tv.SETTINGS, tiny.KEY, 0, batch)
    turned = vlp.mask(tv.SETTINGS, tiny.KEY, 0, jax.tree.map(lambda x: x[::-1], batch))
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b[::-1]), one, turned)
    assert (masked().words != masked(step=1).words).any()
    other = vlp.mask(tv.SETTINGS, np.array([0, 4], np.uint32), 0, many())
    assert (other.words != masked().words).any()


# --- Losses on chosen positions ---------------------------------------------------------------------------------------

def loss_of(p, hidden, targets):
    logits = hidden @ p['kernel']
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
    return losses, logits.argmax(-1) == targets


@functools.partial(jax.jit, static_argnums=4)
def packed(p, hidden, targets, chosen, chunk):
    return jax.value_and_grad(lambda p, h: 3 * vlp.packed(loss_of, p, h, targets, chosen, chunk)[0], (0, 1))(p, hidden)


@pytest.mark.parametrize('chunk', [1, 4, 7, 40])
@pytest.mark.parametrize('share', [0.0, 0.2, 1.0])
def test_packed_is_the_sum_over_chosen_positions(chunk, share):
    rng = np.random.default_rng(1)
    hidden, p, targets = rng.normal(size=(19, 3)), {'kernel': rng.normal(size=(3, 5))}, rng.integers(0, 5, 19)
    chosen = rng.random(19) < share
    assert chosen.sum() == {0.0: 0, 1.0: 19}.get(share, chosen.sum())
    value, grads = packed(p, hidden, targets, chosen, chunk)

    def plain(p, hidden):
        return 3 * jnp.where(chosen, loss_of(p, hidden, targets)[0], 0).sum()

    expected = jax.value_and_grad(plain, (0, 1))(p, hidden)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12), (value, grads), expected)
    total, hits = vlp.packed(loss_of, p, hidden, targets, chosen, chunk)
    np.testing.assert_allclose(3 * total, value, rtol=1e-12)
    assert hits == ((hidden @ p['kernel']).argmax(-1) == targets)[chosen].sum()


def test_no_more_chunks_are_computed_than_are_chosen():
    seen = []

    def counting(p, hidden, targets):
        jax.debug.callback(lambda: seen.append(1))
        return loss_of(p, hidden, targets)

    rng = np.random.default_rng(1)
    arrays = {'kernel': rng.normal(size=(3, 5))}, rng.normal(size=(40, 3)), rng.integers(0, 5, 40)
    for count, chunks in ((0, 0), (1, 1), (8, 2), (9, 3)):
        seen.clear()
        jax.block_until_ready(vlp.packed(counting, *arrays, np.arange(40) < count, 4))
        jax.effects_barrier()
        assert len(seen) == chunks


def test_region_losses():
    rng = np.random.default_rng(2)
    output, target = rng.normal(size=(5, 6)), rng.dirichlet(np.ones(6), 5)
    target[0] = np.eye(6)[2]  # log 0
    kl = rel_entr(target, np.exp(log_softmax(output, 1))).sum(1)
    np.testing.assert_allclose(vlp.region_losses('kl', output, target), kl, rtol=1e-12)
    assert (kl > 0).all() and np.isclose(vlp.region_losses('kl', np.log(target[1:]), target[1:]), 0).all()
    np.testing.assert_allclose(vlp.region_losses('regression', output, target), ((output - target) ** 2).mean(1))
    gradient = jax.grad(lambda o: vlp.region_losses('kl', o, target).sum())(output)
    np.testing.assert_allclose(gradient, np.exp(log_softmax(output, 1)) - target, atol=1e-12)


# --- Pretraining ------------------------------------------------------------------------------------------------------

def plainly(params, batch, name, settings):
    """Loss (3) over all positions, without packing."""
    model = tv.model(name, True, tv.FEATURES if settings.region_loss == 'regression' else tv.CLASSES)
    hidden = vlp.mask(settings, tiny.KEY, 0, batch)
    seen = model.encode(params['base'], {**batch, 'tokens': hidden.tokens, 'features': hidden.features})
    log_p = jax.nn.log_softmax(model.word_logits(params, seen.words))
    each = -jnp.take_along_axis(log_p, batch['tokens'][..., None], -1)[..., 0]
    words = (each * hidden.words).sum() / max(hidden.words.sum(), 1)
    if settings.objective == 'mlm':
        return words
    target = batch['features'] if settings.region_loss == 'regression' else batch['classes']
    losses = vlp.region_losses(settings.region_loss, model.region_outputs(params, seen.regions), target)
    return words + (losses * hidden.regions).sum() / max(hidden.regions.sum(), 1)


@pytest.mark.parametrize('name', MODELS)
@pytest.mark.parametrize('objective, region_loss', [('mlm', 'kl'), ('mmm', 'kl'), ('mmm', 'regression')])
def test_a_step_has_loss_and_gradient_of_the_objective(name, objective, region_loss):
    settings = tv.SETTINGS._replace(objective=objective, region_loss=region_loss)
    made = tv.pretraining(name, objective=objective, region_loss=region_loss)
    params, batch = tv.params(name, True, tv.FEATURES if region_loss == 'regression' else tv.CLASSES), tv.batch(8, 3)
    hidden = vlp.mask(settings, tiny.KEY, 0, batch)
    assert hidden.words.any() and (hidden.regions.any() or objective == 'mlm')
    loss, gradient = jax.value_and_grad(plainly)(params, batch, name, settings)
    found, metrics = tiny.gradients(made, params, batch)
    assert tiny.relative(found, gradient) < 1e-10
    values = made.summarise(jax.device_get(metrics))
    np.testing.assert_allclose(values['loss'], loss, rtol=1e-10)
    assert metrics['words'][1] == hidden.words.sum()
    if objective == 'mmm':
        assert metrics['regions'][1] == hidden.regions.sum()
    evaluated = made.summarise(jax.device_get(made.eval_step(tiny.state(params), batch, psum=lambda x: x)))
    np.testing.assert_allclose(evaluated['loss'], loss, rtol=1e-10)


@pytest.mark.parametrize('objective', vlp.OBJECTIVES)
@pytest.mark.parametrize('micro', [1, 2])
def test_micro_batches_give_the_numbers_of_the_whole_batch(objective, micro):
    """Their counts of chosen words and regions differ, and padding fills the last ones."""
    settings = tv.SETTINGS._replace(objective=objective)
    params, batch = tv.params(), tv.batch(8, 3, padded=3)
    chosen = vlp.mask(settings, tiny.KEY, 0, batch).words.reshape(-1, micro * tv.LENGTH).sum(1)
    assert len(set(chosen.tolist())) > 1
    made = vlp.make(tv.model(), settings, tiny.SGD, None, micro_batch=micro)
    found, wanted = (tiny.gradients(m, params, batch) for m in (made, tv.pretraining(objective=objective)))
    assert tiny.relative(found, wanted) < 1e-12


def test_nothing_chosen_is_zero_loss():
    batch = tv.batch(3)
    batch = {**batch, 'tokens': np.where(batch['tokens'] > tv.SEP, tv.SEP, batch['tokens']),
             'region_mask': np.zeros_like(batch['region_mask'])}
    gradient, metrics = tiny.gradients(tv.pretraining(), tv.params(), batch)
    assert tv.pretraining().summarise(jax.device_get(metrics))['loss'] == 0
    assert all(not x.any() for x in jax.tree.leaves(gradient))


def test_padded_rows_change_nothing():
    batch = tv.batch(6)
    longer = jax.tree.map(lambda x: np.concatenate([x, x[:2]]), batch)
    longer['mask'][6:] = False
    one, two = (tiny.gradients(tv.pretraining(), tv.params(), b)[0] for b in (batch, longer))
    assert tiny.relative(two, one) < 1e-10


def test_padded_regions_dilute():
    batch = tv.batch(40)
    made = [tv.pretraining(padded_regions=p) for p in (False, True)]
    few, all_ = (jax.device_get(tiny.gradients(m, tv.params(), batch)[1])['regions'] for m in made)
    assert all_[1] > few[1] and np.isclose(all_[0], few[0])  # their targets are zero, and so are their losses


def test_pretraining_learns():
    made = tv.pretraining(optimizer=optax.adam(0.02))
    state = State(np.int32(0), tiny.KEY, tv.params(), optax.adam(0.02).init(tv.params()))
    batch, losses = tv.batch(8), []
    for _ in range(40):
        losses.append(made.summarise(jax.device_get(made.eval_step(state, batch, psum=lambda x: x)))['loss'])
        state, _ = tiny.compiled(made)(state, batch)
    assert np.mean(losses[-5:]) < 0.8 * losses[0]


# --- Fine-tuning ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('output', ['answers', 'classes', 'labels'])
def test_loss_and_metric_of_tasks(output):
    rng = np.random.default_rng(3)
    scores, y, mask = rng.normal(size=(9, tv.ANSWERS)), tv.targets(output, 9), np.arange(9) < 7
    found = vlp.task_sums(output, scores, {'y': y, 'mask': mask})
    s, t = scores[:7], y[:7]
    if output == 'classes':
        loss, metric = -log_softmax(s, 1)[np.arange(7), t].sum(), (s.argmax(1) == t).mean()
    else:
        p = 1 / (1 + np.exp(-s))
        loss = -(t * np.log(p) + (1 - t) * np.log(1 - p)).sum()
        metric = t[np.arange(7), 1 + s[:, 1:].argmax(1)].mean() if output == 'answers' else f1_score(
            t, s > 0, average='micro')
    np.testing.assert_allclose(found.pop('loss')[0], loss, rtol=1e-10)
    (total, count), = found.values()
    np.testing.assert_allclose(total / count, metric, rtol=1e-12)


@pytest.mark.parametrize('name', MODELS)
@pytest.mark.parametrize('mode', vlp.MODES)
def test_fine_tuning_changes_what_it_should(name, mode):
    model, output = tv.model(name), 'answers'
    head = tv.head() if name == 'visualbert' else tv.predictors.answers(model.pooled_width, tv.ANSWERS)
    with jax.enable_x64(False):
        start = {'base': tv.params(name)['base'], 'head': tiny.cast(head.init(jax.random.key(1)), np.float64)}
    trained = ('base', 'head') if mode == 'full' else ('head',)
    made = vlp.finetune(vlp.logits(model, head, output), output, trained, tiny.SGD, start)
    batch = {**tv.batch(6), 'y': tv.targets(output)}
    state = made.init(jax.random.key(0))
    after, metrics = tiny.compiled(made)(state, batch)
    moved = jax.tree.map(lambda a, b: bool((np.asarray(a) != np.asarray(b)).any()), after.params, state.params)
    assert any(jax.tree.leaves(moved['head']))
    assert any(jax.tree.leaves(moved['base'])) == (mode == 'full')
    assert set(metrics) == {'loss', 'soft_accuracy', 'grad_norm'}


def test_what_the_head_sees():
    assert [vlp.pooler(o) for o in ('answers', 'classes', 'labels')] == ['last_word', 'first', 'first']
