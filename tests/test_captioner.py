"""The captioner: logits against NumPy loops, what it may see, decoding with and without kept keys, sizes."""
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from ml_collections import ConfigDict

from fipjax.errors import UserError
from fipjax.models import captioner

VOCAB, FEATURES, LENGTH, WIDTH, HEADS = 11, 3, 7, 8, 2
START, END, PAD, NEVER = 1, 2, 0, (3, 4)
SPECIAL = captioner.Special(START, END, PAD, NEVER)


def settings(**changes):
    return {'variant': 'cpu', 'width': WIDTH, 'depth': 2, 'heads': HEADS, 'layers': 'scan', 'remat': False, **changes}


@functools.cache
def model(layers='scan', remat=False, **changes):
    return captioner.build(ConfigDict(settings(layers=layers, remat=remat, **changes)), vocab=VOCAB, features=FEATURES,
                           length=LENGTH, special=SPECIAL)


def params(dtype=np.float64, scale=0.5):
    """Parameters away from their start, so that every one of them counts."""
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda s: rng.normal(0, scale, s.shape).astype(dtype),
                        jax.eval_shape(model().init, jax.random.key(0)))


def batch(n=3, dtype=np.float64, seed=1):
    rng = np.random.default_rng(seed)
    count = np.arange(n) % 3 + 1
    words = rng.integers(5, VOCAB, (n, LENGTH))
    words[:, 0] = START
    return {'id': np.arange(n, dtype=np.int32), 'tokens': words.astype(np.int32),
            'features': rng.normal(size=(n, 3, FEATURES)).astype(dtype),
            'boxes': rng.random((n, 3, 5)).astype(dtype), 'region_mask': np.arange(3) < count[:, None]}


def norm(p, x):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12) * p['scale'] + p['bias']


def by_loops(p, tokens, features, boxes):
    """Logits [T, vocab] of one caption and the valid regions of its picture: one position after the other."""
    memory = norm(p['regions']['norm'], reference.dense(p['regions']['projection'], features)
                  + reference.dense(p['regions']['location'], boxes))
    x = p['words'][tokens] + p['positions'][:len(tokens)]
    for i in range(2):
        b = jax.tree.map(lambda leaf, i=i: leaf[i], p['blocks'])
        h = norm(b['attention_norm'], x)
        x = x + np.concatenate([reference.attention(b['attention'], HEADS, h[t:t + 1], h[:t + 1], np.ones(t + 1))
                                for t in range(len(tokens))])
        x = x + reference.attention(b['region_attention'], HEADS, norm(b['region_norm'], x), memory,
                                    np.ones(len(memory)))
        x = x + reference.mlp(b['mlp'], norm(b['mlp_norm'], x))
    return norm(p['norm'], x) @ p['words'].T + p['bias']


def logits(made, p, b):
    return jax.jit(made.logits)(p, b)


def test_logits_are_those_of_loops(float64):
    p, b = params(), batch()
    got = logits(model(), p, b)
    for row in range(3):
        valid = b['region_mask'][row]
        wanted = by_loops(p, b['tokens'][row], b['features'][row][valid], b['boxes'][row][valid])
        np.testing.assert_allclose(got[row], wanted, rtol=1e-9, atol=1e-9)


def test_what_is_not_valid_or_comes_later_is_not_seen(float64):
    p, b = params(), batch()
    before = logits(model(), p, b)
    later = {**b, 'tokens': np.where(np.arange(LENGTH) > 3, 5, b['tokens'])}
    np.testing.assert_allclose(logits(model(), p, later)[:, :4], before[:, :4], rtol=1e-12)
    assert np.abs(logits(model(), p, later)[:, 4:] - before[:, 4:]).max() > 1e-3
    hidden = ~b['region_mask'][..., None]
    junk = {**b, **{k: np.where(hidden, np.nan, b[k]) for k in ('features', 'boxes')}}
    np.testing.assert_array_equal(logits(model(), p, junk), before)
    for key in ('features', 'boxes'):
        assert np.abs(logits(model(), p, {**b, key: b[key] + 1 * (np.arange(3) == 0)[:, None]}) - before).max() > 1e-3


@pytest.mark.parametrize('layers, remat', [('unroll', False), ('scan', True)])
def test_layers_in_other_forms_give_the_same_numbers(float64, layers, remat):
    p, b = params(), batch()
    value = lambda made: jax.jit(jax.value_and_grad(lambda p: jnp.sin(made.logits(p, b)).sum()))(p)  # noqa: E731
    one, other = value(model()), value(model(layers, remat))
    for x, y in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-8, atol=1e-10)
    assert all((np.abs(g) > 0).any() for g in jax.tree.leaves(one[1]))


@functools.cache
def generator(temperature, length=LENGTH):
    return jax.jit(lambda p, b, seed: model().generate(p, b, jax.random.key(seed), temperature, length))


def allowed(scores, t):
    scores = np.array(scores)
    scores[[START, PAD, *NEVER]] = -np.inf
    if t == 0:
        scores[END] = -np.inf
    return scores


def test_greedy_captions_are_those_of_whole_passes(float64):
    """Word by word, the best of the logits of all words before it: kept keys and positions change nothing."""
    p, b = params(), batch(12)
    p['bias'][END] += 4  # so that some captions end early
    p['bias'][list(NEVER)] += 50
    said = np.asarray(generator(0.0)(p, b, 0))
    for row in range(12):
        valid = b['region_mask'][row]
        words = [START]
        while len(words) < LENGTH and words[-1] != END:
            scores = by_loops(p, np.array(words), b['features'][row][valid], b['boxes'][row][valid])[-1]
            words.append(int(allowed(scores, len(words) - 1).argmax()))
        assert said[row].tolist() == words + [PAD] * (LENGTH - len(words))
    lengths = (said != PAD).sum(1)
    assert said.dtype == np.int32 and (lengths > 2).all() and (lengths < LENGTH).any()


def test_no_caption_is_empty_and_one_without_end_is_cut():
    p, b = params(np.float32), batch(4, np.float32)
    p['bias'][END] = 1e3
    said = np.asarray(generator(0.0)(p, b, 0))
    assert (said[:, 1] > 4).all() and (said[:, 2] == END).all() and (said[:, 3:] == PAD).all()
    p['bias'][END] = -1e3
    assert (np.asarray(generator(0.0)(p, b, 0))[:, 1:] > 4).all()


def test_draws_depend_on_key_id_and_position_alone():
    p, b = params(np.float32), batch(6, np.float32)
    p['bias'][END] = -1e3
    said = np.asarray(generator(1.0)(p, b, 0))
    order = np.array([4, 1, 5, 0, 2, 3])
    np.testing.assert_array_equal(generator(1.0)(p, {k: v[order] for k, v in b.items()}, 0), said[order])
    assert (np.asarray(generator(1.0)(p, b, 1)) != said).any()
    same = {k: np.repeat(v[:1], 64, 0) for k, v in b.items()} | {'id': np.arange(64, dtype=np.int32)}
    many = np.asarray(generator(1.0)(p, same, 0))
    assert len(np.unique(many[:, 1])) > 1
    assert (many[:, 1] != many[:, 2]).any()  # positions have keys of their own


@pytest.mark.parametrize('temperature', [0.5, 2.0])
def test_words_are_drawn_from_the_softmax(temperature):
    n = 4000
    p = params(np.float32, 0.3)
    b = {k: np.repeat(v[:1], n, 0) for k, v in batch(1, np.float32).items()} | {'id': np.arange(n, dtype=np.int32)}
    said = np.asarray(generator(temperature, 2)(p, b, 3))[:, 1]
    scores = allowed(by_loops(jax.tree.map(np.float64, p), np.array([START]), b['features'][0][:1],
                              b['boxes'][0][:1])[0], 0) / temperature
    wanted = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
    shares = np.bincount(said, minlength=VOCAB) / n
    np.testing.assert_array_less(np.abs(shares - wanted), 5 * np.sqrt(wanted * (1 - wanted) / n) + 1e-9)


def test_sizes_and_start():
    shapes = jax.eval_shape(captioner.build(ConfigDict(settings(width=0, depth=0, heads=0)), vocab=100, features=192,
                                            length=24, special=SPECIAL).init, jax.random.key(0))
    d, hidden = 128, 512
    layer = 8 * (d * d + d) + 3 * 2 * d + d * hidden + hidden + hidden * d + d
    regions = 192 * d + d + 5 * d + d + 2 * d
    assert sum(s.size for s in jax.tree.leaves(shapes)) == 100 * d + 24 * d + regions + 3 * layer + 2 * d + 100
    assert {s.shape[0] for s in jax.tree.leaves(shapes['blocks'])} == {3}
    start = model().init(jax.random.key(0))
    assert (start['norm']['scale'] == 1).all() and (start['blocks']['mlp']['hidden']['bias'] == 0).all()
    deviation = 0.02 * (768 / WIDTH) ** 0.5
    for leaf in (start['words'], start['blocks']['attention']['query']['kernel']):
        assert 0.7 * deviation < leaf.std() < deviation and np.abs(leaf).max() <= 2.0001 * deviation


@pytest.mark.parametrize('changes, text', [
    ({'variant': 'huge'}, "network.variant is 'huge'; allowed: cpu, mini, base"),
    ({'layers': 'loop'}, "network.layers is 'loop'; allowed: scan, unroll"),
    ({'depth': -1}, 'network.depth is -1'), ({'heads': 3}, 'network.width is 8; .* network.heads, 3')])
def test_wrong_settings_are_named(changes, text):
    with pytest.raises(UserError, match=text):
        captioner.sizes_of(ConfigDict(settings(**changes)))
