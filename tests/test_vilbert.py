"""ViLBERT: equal to MMF's, co-attention by loops, which stream sees which and when."""
import functools

import jax
import numpy as np
import pytest
import vl_batches

from fipjax.algorithms import vlp
from fipjax.models import vilbert, vl
from fipjax.models.convert import tables
from fipjax.models.convert import vilbert as convert

SIZES = vilbert.Sizes(width=16, depth=3, heads=4, region_width=12, rounds=2, region_heads=3, co_width=20, co_heads=5)


def read(state):
    return tables.read(convert.model(state), state, 'golden')[0]


@functools.cache
def model(tied=True, length=vl_batches.LENGTH, vocab=vl_batches.VOCAB, features=vl_batches.FEATURES):
    """A model whose widths all differ."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(vilbert.VARIANTS, 'cpu', SIZES)
        return vl_batches.model('vilbert', tied=tied, length=length, vocab=vocab, features=features)


@functools.cache
def start():
    """Random parameters, a batch, and what the model makes of it; all float64."""
    with jax.enable_x64(True):
        params, batch = vl_batches.random_params(model()), vl_batches.batch()
        return params, batch, encode()(params['base'], batch)


@functools.cache
def encode():
    return jax.jit(model().encode)


@pytest.mark.parametrize('wide', [True, False], ids=['float64', 'float32'])
def test_equal_to_mmf(wide):
    with jax.enable_x64(wide):
        batch, state, want = vl_batches.golden('vilbert', wide)
        close = functools.partial(np.testing.assert_allclose, rtol=0, atol=1e-10 if wide else 1e-5)
        params = read(state)
        seen = encode()(params['base'], batch)
        words, regions = batch['token_mask'], batch['region_mask']
        close(seen.words[words], want['words'][words])
        close(seen.regions[regions], want['regions'][regions])
        for made, head in ((model(), 'tied'), (model(tied=False), 'untied')):
            logits = made.word_logits(params, seen.words)
            close(logits[words], want[head][words])
            close(vl_batches.cross_entropy(logits, want['labels']), want[f'{head}_loss'])
            for pooler in vl.POOLERS:
                close(made.pooled(params['base'], seen, batch, pooler), want['pooled'])
        outputs = model().region_outputs(params, seen.regions)
        close(outputs[regions], want['region_outputs'][regions])
        losses = vlp.region_losses('kl', outputs[want['hidden']], want['classes'][want['hidden']])
        close(losses.mean(), want['region_loss'])


def test_converted_parameters_have_the_shapes_of_fresh_ones():
    params = read(vl_batches.golden('vilbert', False)[1])
    fresh = jax.eval_shape(model(tied=False, length=9, vocab=11, features=6).init, jax.random.key(0))
    assert jax.tree.map(np.shape, params) == jax.tree.map(lambda s: s.shape, fresh)


def attention_by_loops(p, queries, memory, valid, heads):
    """Attention of one example, queries [Q, D], memory [K, E]."""
    q, k, v = (x @ p[n]['kernel'] + p[n]['bias'] for n, x in (('query', queries), ('key', memory), ('value', memory)))
    size, mixed = q.shape[1] // heads, np.zeros(q.shape)
    for i in range(len(q)):
        for h in range(heads):
            part = slice(h * size, (h + 1) * size)
            scores = np.array([np.exp(q[i, part] @ k[j, part] / size ** 0.5) if valid[j] else 0 for j in range(len(k))])
            mixed[i, part] = sum(s * v[j, part] for j, s in enumerate(scores / scores.sum()))
    return mixed @ p['out']['kernel'] + p['out']['bias']


def normed(p, x):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12) * p['scale'] + p['bias']


@pytest.mark.parametrize('stream', ['text', 'region'])
def test_each_direction_of_co_attention_by_loops(stream, float64):
    params, batch, _ = start()
    p = jax.tree.map(lambda leaf: leaf[0], params['base']['co_blocks'])
    rng = np.random.default_rng(0)
    text, regions = rng.normal(size=(3, 7, 16)), rng.normal(size=(3, 4, 12))
    words, boxes = batch['token_mask'][:3], batch['region_mask'][:3]
    block, bias = vilbert.CoBlock(5, 20), lambda mask: np.where(mask, 0.0, -1e9)
    own, other, valid = (text, regions, boxes) if stream == 'text' else (regions, text, words)
    method = vilbert.CoBlock.to_text if stream == 'text' else vilbert.CoBlock.to_regions
    got = jax.jit(lambda p: block.apply({'params': p}, own, other, bias(valid), method=method))(p)
    both = jax.jit(lambda p: block.apply({'params': p}, text, regions, bias(words), bias(boxes)))(p)
    np.testing.assert_allclose(both[stream == 'region'], got, atol=1e-12)
    mlp = p[f'{stream}_mlp']
    for x, memory, there, out in zip(own, other, valid, got, strict=True):
        x = normed(p[f'{stream}_norm'], x + attention_by_loops(p[f'{stream}_attention'], x, memory, there, 5))
        hidden = np.asarray(jax.nn.gelu(x @ mlp['hidden']['kernel'] + mlp['hidden']['bias'], approximate=False))
        want = normed(p[f'{stream}_mlp_norm'], x + hidden @ mlp['out']['kernel'] + mlp['out']['bias'])
        np.testing.assert_allclose(out, want, atol=1e-10)


def without(params, *groups):
    """Parameters with co-attention outputs of zero, so that what comes from the other stream is lost."""
    co = dict(params['base']['co_blocks'])
    for group in groups:
        co[group] = {**co[group], 'out': jax.tree.map(np.zeros_like, co[group]['out'])}
    return {**params['base'], 'co_blocks': co}


@pytest.mark.parametrize('cut, stream, moved', [('text_attention', 'words', 'features'),
                                                ('region_attention', 'regions', 'tokens')])
def test_streams_meet_in_co_attention_alone(cut, stream, moved, float64):
    params, batch, plain = start()
    other = {**batch, moved: batch[moved] + batch['region_mask'][:, :, None] * 1.0 if moved == 'features'
             else (batch[moved] + 1) % vl_batches.VOCAB}
    change = np.abs(getattr(encode()(params['base'], other), stream) - getattr(plain, stream)).max((1, 2))
    there = batch['region_mask'].any(1) if moved == 'features' else np.ones(4, bool)
    assert ((change > 1e-3) == there).all() and (change[~there] == 0).all()
    # Both ways must be cut: the other stream brings back what it saw of this one, but that does not depend on itself.
    base = without(params, cut)
    np.testing.assert_array_equal(getattr(encode()(base, other), stream), getattr(encode()(base, batch), stream))


@pytest.mark.parametrize('stream, there', [('words', 'region'), ('regions', 'text')])
def test_gradient_goes_both_ways(stream, there, float64):
    """Along each direction of co-attention, against a difference quotient."""
    params, batch, _ = start()
    rng = np.random.default_rng(1)
    weight = rng.normal(size=getattr(start()[2], stream).shape)
    value = jax.jit(jax.value_and_grad(lambda base: (getattr(model().encode(base, batch), stream) * weight).sum()))
    group = 'region_embeddings' if there == 'region' else 'embeddings'
    grads = value(params['base'])[1]
    way = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), params['base'][group])
    step = 1e-6
    ends = [float(value({**params['base'], group: jax.tree.map(lambda p, d, s=s: p + s * step * d,
                                                               params['base'][group], way)})[0]) for s in (1, -1)]
    slope = sum(jax.tree.leaves(jax.tree.map(lambda g, d: (np.asarray(g) * d).sum(), grads[group], way)))
    assert slope == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-5) and abs(slope) > 1e-3


def test_rounds_are_those_of_the_public_ids(float64):
    """t_biattention_id (1, 2) and v_biattention_id (0, 1): layer after layer with the functions of one layer each."""
    params, batch, want = start()
    base, at = params['base'], lambda name, i: {'params': jax.tree.map(lambda p: p[i], params['base'][name])}
    text_bias, region_bias = (np.where(batch[k], 0.0, -1e9) for k in ('token_mask', 'region_mask'))
    e, r = base['embeddings'], base['region_embeddings']
    valid = batch['region_mask'][:, :, None]
    text = normed(e['norm'], e['words'][batch['tokens']] + e['positions'][:7] + e['segments'][batch['segments']])
    regions = normed(r['norm'], sum((batch[k] * valid) @ r[n]['kernel'] + r[n]['bias']
                                    for k, n in (('features', 'projection'), ('boxes', 'location'))))
    before = (0, 0)
    text_block, region_block, co = (jax.jit(block.apply) for block in vilbert._blocks(SIZES))
    for i, ids in enumerate(((1, 0), (2, 1), (3, 2))):
        for layer in range(before[0], ids[0]):
            text = text_block(at('text_blocks', layer), text, text_bias)
        for layer in range(before[1], ids[1]):
            regions = region_block(at('region_blocks', layer), regions, region_bias)
        if i < 2:
            text, regions = co(at('co_blocks', i), text, regions, text_bias, region_bias)
        before = ids
    np.testing.assert_allclose(text, want.words, atol=1e-10)
    np.testing.assert_allclose(regions, want.regions, atol=1e-10)
