"""Fine-tuning: what each mode trains, the loss against NumPy, padding, the same head from either start."""
import functools

import jax
import numpy as np
import pytest
import reference
import tiny

from fipjax import parallel
from fipjax.algorithms import finetune
from fipjax.models import multimodal

MODES = ('full', 'frozen', 'probe')


def start(mode, dtype=np.float32):
    """Pretrained tokeniser and encoder and a head that is not at its zeros."""
    rng = np.random.default_rng(5)
    head = multimodal.head(16, tiny.CLASSES, 8 if mode == 'frozen' else 0)
    shapes = jax.eval_shape(head.init, jax.random.key(0))
    params = {**tiny.finetuning_start(),
              'head': jax.tree.map(lambda s: rng.normal(0, 0.5, s.shape), shapes)}
    return tiny.cast(params, dtype)


def labelled(dtype=np.float32, **how):
    batch = tiny.batch(6, labels=True, **how)
    return tiny.cast({'mask': batch['mask'], 'inputs': {'image': batch['inputs']['image']}, 'label': batch['label'],
                      'id': batch['id']}, dtype)


def forward(params, image):
    """Logits in NumPy."""
    out = []
    for tokens in reference.tokenize(params, tiny.IMAGE, image):
        code = reference.encode(params['encoder'], 2, tokens, np.ones(len(tokens))).mean(0)
        code = (code - params['code']['mean']) / params['code']['deviation']
        if 'hidden' in params['head']:
            h = reference.dense(params['head']['hidden'], code)
            code = h * 0.5 * (1 + reference.erf(h / np.sqrt(2)))
        out.append(reference.dense(params['head']['logits'], code))
    return np.array(out)


def loss_of(params, batch):
    rows = np.flatnonzero(batch['mask'])
    logits = forward(params, batch['inputs']['image'][rows])
    return np.mean([reference.cross_entropy(z, y) for z, y in zip(logits, batch['label'][rows], strict=True)])


@pytest.mark.parametrize('mode', MODES)
def test_loss_accuracy_and_gradient_are_those_of_numpy(mode, float64):
    batch, params = labelled(np.float64, padded=2), start(mode, np.float64)
    gradient, metrics = tiny.gradients(tiny.finetuning(mode), params, batch)
    metrics = jax.device_get(metrics)
    logits = forward(params, batch['inputs']['image'][:4])
    assert metrics['accuracy'] == ((logits.argmax(1) == batch['label'][:4]).sum(), 4)
    assert metrics['loss'][1] == 4
    assert metrics['loss'][0] / 4 == pytest.approx(loss_of(params, batch), rel=1e-6)  # positions are float32
    rng = np.random.default_rng(0)
    trained = ('tokenizers', 'encoder', 'head') if mode == 'full' else ('head',)
    for part in params:  # bit for bit
        moved = [bool((g != 0).any()) for g in jax.tree.leaves(gradient[part])]
        assert any(moved) == (part in trained)
        assert part in trained or not any(moved)
    for _ in range(2):
        direction = {k: jax.tree.map(lambda x, k=k: rng.normal(size=x.shape) * (k in trained), v)
                     for k, v in params.items()}
        moved = [loss_of(jax.tree.map(lambda x, d, e=e: x + e * d, params, direction), batch) for e in (1e-5, -1e-5)]
        exact = sum(float((g * d).sum()) for g, d in
                    zip(jax.tree.leaves(gradient), jax.tree.leaves(direction), strict=True))
        assert exact == pytest.approx((moved[0] - moved[1]) / 2e-5, rel=1e-5)


@pytest.mark.parametrize('mode', MODES)
def test_padding_has_no_influence(mode, float64):
    batch, params = labelled(np.float64, padded=2), start(mode, np.float64)
    other = jax.tree.map(np.copy, batch)
    other['inputs']['image'][4:] = 1e3
    other['label'][4:] = (other['label'][4:] + 1) % 3
    (g1, m1), (g2, m2) = (tiny.gradients(tiny.finetuning(mode), params, b) for b in (batch, other))
    for a, b in zip(jax.tree.leaves((g1, m1)), jax.tree.leaves((g2, m2)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-15)


def test_a_batch_of_padding_moves_nothing():
    batch = labelled()
    batch['mask'] = np.zeros(6, bool)
    gradient, metrics = tiny.gradients(tiny.finetuning('probe'), start('probe'), batch)
    assert all((g == 0).all() for g in jax.tree.leaves(gradient))
    assert jax.device_get(metrics)['loss'] == (0, 0)


@pytest.mark.parametrize('mode', ['frozen', 'probe'])
def test_optimizer_state_and_decay_are_of_the_head_alone(mode):
    """AdamW with weight decay moves even weights without a gradient; those of the encoder must stay."""
    import optax
    algorithm = tiny.finetuning(mode, optax.adamw(0.1, weight_decay=0.5))
    before = algorithm.init(jax.random.key(0))
    assert all('head' in str(path) for path, x in jax.tree_util.tree_leaves_with_path(before.opt_state)
               if np.ndim(x))
    before = before._replace(params=start(mode))
    after, _ = jax.jit(functools.partial(algorithm.step, psum=parallel.identity))(before, labelled())
    for part in ('tokenizers', 'encoder', 'statistics', 'code'):
        for a, b in zip(jax.tree.leaves(after.params[part]), jax.tree.leaves(before.params[part]), strict=True):
            np.testing.assert_array_equal(a, b)
    assert int(after.step) == 1


@pytest.mark.parametrize('mode', ['full', 'frozen'])
def test_pretrained_and_scratch_start_with_the_same_head(mode):
    pretrained = tiny.finetuning(mode).init(jax.random.key(4))
    scratch = tiny.finetuning(mode, pretrained=False).init(jax.random.key(4))
    other = tiny.finetuning(mode).init(jax.random.key(5))
    same = lambda a, b: all((x == y).all() for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))  # noqa: E731
    assert same(pretrained.params['head'], scratch.params['head'])
    assert same(pretrained.params['encoder'], tiny.params()['encoder'])
    assert same(pretrained.params['tokenizers'], {'image': tiny.params()['tokenizers']['image']})
    assert same(pretrained.params['statistics'], {'image': tiny.params()['statistics']['image']})
    assert not same(pretrained.params['encoder'], scratch.params['encoder'])
    assert same(pretrained.params['head'], other.params['head']) == (mode == 'full')  # linear heads start at zero
    assert jax.tree.structure(pretrained) == jax.tree.structure(scratch)


def test_target_params_are_tokenizer_and_statistics_of_the_target_and_the_encoder():
    part = finetune.target_params(tiny.params(), 'sequence')
    assert set(part) == {'tokenizers', 'encoder', 'statistics'}
    assert set(part['tokenizers']) == set(part['statistics']) == {'sequence'}
    assert part['encoder'] is tiny.params()['encoder']


def test_statistics_of_codes_standardise_them():
    codes = np.random.default_rng(0).normal(2, 3, (50, 4))
    fixed = finetune.statistics(codes)
    standard = (codes - fixed['mean']) / fixed['deviation']
    np.testing.assert_allclose(standard.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(standard.std(0), 1, rtol=1e-6)
    assert (finetune.statistics(np.ones((5, 4)))['deviation'] > 0).all()  # equal codes: no division by zero


def test_eval_step_and_logits_agree_with_the_step():
    algorithm, params, batch = tiny.finetuning('full'), start('full'), labelled(padded=1)
    got = jax.jit(functools.partial(algorithm.eval_step, psum=parallel.identity))(tiny.state(params), batch)
    _, wanted = tiny.gradients(algorithm, params, batch)
    assert set(got) == {'loss', 'accuracy'}
    for k in got:
        np.testing.assert_allclose(got[k], wanted[k], rtol=1e-6)
    head = multimodal.head(16, tiny.CLASSES)
    logits = jax.jit(finetune.logits(tiny.model(('image',), ()), head, 'image'))(params, batch)
    np.testing.assert_allclose(logits, forward(tiny.cast(params, np.float64), batch['inputs']['image']), rtol=1e-4,
                               atol=1e-4)
