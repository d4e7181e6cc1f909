"""Training a captioner: the loss and its gradient against NumPy, padding, shards, and that it learns."""
import functools

import jax
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from fipjax import parallel
from fipjax.algorithms import captioning
from fipjax.models import captioner

VOCAB, LENGTH, PAD, START, END = 9, 6, 0, 1, 2
SETTINGS = ConfigDict({'variant': 'cpu', 'width': 16, 'depth': 1, 'heads': 2, 'layers': 'scan', 'remat': False})


@functools.cache
def model():
    return captioner.build(SETTINGS, vocab=VOCAB, features=4, length=LENGTH, special=captioner.Special(START, END, PAD))


def batch(n=6, dtype=np.float64, seed=0):
    """Captions of 1 to 4 words, with start and end; the last row is padding."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(3, VOCAB, (n, LENGTH))
    size = 3 + np.arange(n) % 4
    tokens[:, 0], tokens[np.arange(n), size - 1] = START, END
    valid = np.arange(LENGTH) < size[:, None]
    return {'id': np.arange(n, dtype=np.int32), 'tokens': np.where(valid, tokens, PAD).astype(np.int32),
            'token_mask': valid, 'features': rng.normal(size=(n, 2, 4)).astype(dtype),
            'boxes': rng.random((n, 2, 5)).astype(dtype), 'region_mask': np.ones((n, 2), bool),
            'mask': np.arange(n) < n - 1}


def params(dtype=np.float64):
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(model().init, jax.random.key(0))
    return jax.tree.map(lambda s: rng.normal(0, 0.3, s.shape).astype(dtype), shapes)


@functools.cache
def algorithm(rate=1.0):
    return captioning.make(model().logits, model().init, optax.sgd(rate))


@functools.cache
def step(rate=1.0):
    return jax.jit(functools.partial(algorithm(rate).step, psum=parallel.identity))


def state(p, rate=1.0):
    return algorithm(rate).init(jax.random.key(0))._replace(params=p)


def by_loops(p, b):
    """Sum of losses, hits and number of predicted word pieces."""
    scores = np.asarray(jax.jit(model().logits)(p, b), np.float64)
    loss = hits = n = 0
    for row in np.flatnonzero(b['mask']):
        for t in range(LENGTH - 1):
            if b['token_mask'][row, t + 1]:
                z, word = scores[row, t], b['tokens'][row, t + 1]
                loss += np.log(np.exp(z).sum()) - z[word]
                hits += z.argmax() == word
                n += 1
    return loss, hits, n


def test_loss_and_accuracy_are_those_of_loops(float64):
    p, b = params(), batch()
    loss, hits, n = by_loops(p, b)
    assert n == (3 + np.arange(5) % 4 - 1).sum()  # every word and the end, not the start
    _, metrics = step()(state(p), b)
    for got in (metrics, jax.jit(functools.partial(algorithm().eval_step, psum=parallel.identity))(state(p), b)):
        assert float(got['loss'][0]) == pytest.approx(loss, rel=1e-10)
        assert [int(x) for x in (got['loss'][1], *got['accuracy'])] == [n, hits, n]
    assert algorithm().summarise(jax.device_get(metrics))['loss'] == pytest.approx(loss / n)


def test_a_step_follows_the_gradient_of_the_mean_over_words(float64):
    p, b = params(), batch()
    moved = step()(state(p), b)[0].params
    gradient = jax.tree.map(lambda before, after: before - after, p, moved)  # learning rate 1
    rng = np.random.default_rng(1)
    direction = jax.tree.map(lambda x: rng.normal(size=x.shape), p)
    mean = lambda e: np.divide(*by_loops(jax.tree.map(lambda x, d: x + e * d, p, direction), b)[::2])  # noqa: E731
    exact = sum(float((g * d).sum()) for g, d in
                zip(jax.tree.leaves(gradient), jax.tree.leaves(direction), strict=True))
    assert exact == pytest.approx((mean(1e-5) - mean(-1e-5)) / 2e-5, rel=1e-6)


def test_padding_has_no_influence(float64):
    p, b = params(), batch()
    junk = {**b, 'tokens': np.where(b['token_mask'] & b['mask'][:, None], b['tokens'], 5),
            'features': np.where(b['mask'][:, None, None], b['features'], 7.0)}
    for x, y in zip(*(jax.tree.leaves(step()(state(p), x)) for x in (b, junk)), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-12, atol=1e-14)


def test_shards_with_other_numbers_of_words_make_the_same_step(float64):
    """Rows that are dealt to two programs which add up what they send: no mean of means."""
    p, b = params(), batch()
    wanted, metrics = step()(state(p), b)
    halves = jax.tree.map(lambda x: x.reshape(2, 3, *x.shape[1:]), b)
    shared = jax.vmap(functools.partial(algorithm().step, psum=lambda tree: jax.lax.psum(tree, 'shard')), (None, 0),
                      axis_name='shard')
    got, other = jax.jit(shared)(state(p), halves)
    counts = (halves['token_mask'][:, :, 1:] & halves['mask'][..., None]).sum((1, 2))
    assert counts[0] != counts[1]
    for x, y in zip(jax.tree.leaves((got.params, other)), jax.tree.leaves((wanted.params, metrics)), strict=True):
        np.testing.assert_allclose(x[0], y, rtol=1e-9, atol=1e-12)


def test_a_batch_of_padding_moves_nothing():
    p = params(np.float32)
    after, metrics = step()(state(p), batch(dtype=np.float32) | {'mask': np.zeros(6, bool)})
    for x, y in zip(jax.tree.leaves(after.params), jax.tree.leaves(p), strict=True):
        np.testing.assert_array_equal(x, y)
    assert [float(x) for x in metrics['loss']] == [0, 0]


def test_it_learns_to_say_what_it_sees():
    """Captions that only the picture tells: the number of the feature that is on, said as a word, twice."""
    n = 6
    b = batch(n, np.float32)
    on = np.arange(n) % 4
    b |= {'features': np.eye(4, dtype=np.float32)[on][:, None].repeat(2, 1), 'mask': np.ones(n, bool),
          'tokens': np.stack([np.full(n, START), 4 + on, 4 + on, np.full(n, END), *[np.full(n, PAD)] * 2], 1),
          'token_mask': np.arange(LENGTH) < np.full((n, 1), 4)}
    made = captioning.make(model().logits, model().init, optax.adam(0.01))
    at = jax.jit(functools.partial(made.step, psum=parallel.identity))
    now = made.init(jax.random.key(0))
    for _ in range(60):
        now, metrics = at(now, b)
    assert made.summarise(jax.device_get(metrics))['accuracy'] == 1
    said = jax.jit(lambda p: model().generate(p, b, jax.random.key(0), 0.0, LENGTH))(now.params)
    np.testing.assert_array_equal(said, b['tokens'])
    shuffled = {**b, 'features': np.roll(b['features'], 1, 0)}  # another picture: another caption
    assert (np.asarray(model().generate(now.params, shuffled, jax.random.key(0), 0.0, LENGTH))[:, 1]
            != b['tokens'][:, 1]).all()
