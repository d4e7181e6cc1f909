"""A captioner: a language model that sees the regions of a picture and says one word piece after the other.

    memory = norm(projected features + projected boxes)                                    of each region
    x = words + positions;  x = x + self(norm(x));  x = x + cross(norm(x), memory);  x = x + mlp(norm(x))
    logits = norm(x) words^T + bias

A pre-norm transformer decoder (arXiv 1706.03762, section 3.1, norms as in arXiv 2002.04745) with the word embeddings
as output matrix. How the study (arXiv 2004.08744) made its generated captions is not public; this model is ours.
Weights start as those of the other models (fipjax.models.bert.fresh). No dropout.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fipjax.errors import UserError
from fipjax.models import bert, stack
from fipjax.models.transformer import MASKED, gelu
from fipjax.models.visualbert import Sizes

VARIANTS = {'cpu': Sizes(128, 3, 4), 'mini': Sizes(384, 6, 12), 'base': Sizes(768, 12, 12)}
BOX = 5  # numbers of a box: x1, y1, x2, y2, area
MLP_RATIO = 4


class Special(NamedTuple):
    """Word pieces with a meaning: the first of a caption, the one after its last, padding, and what is never said."""

    start: int
    end: int
    pad: int
    never: tuple[int, ...] = ()


class Captioner(NamedTuple):
    """Pure functions.

    Attributes:
      init: key -> params.
      logits: (params, batch) -> [B, T, vocab]: at position t those of word piece t + 1, given 'tokens' int [B, T] up to
        t and the regions ('features', 'boxes', 'region_mask').
      generate: (params, batch, key, temperature, length) -> tokens int32 [B, length], from start to end and then pad;
        the batch holds 'id' and regions. A temperature of 0 takes the most probable word piece, others divide the
        logits. Draws depend on (key, id, position) alone. No caption is empty; one that has no end is cut.
    """

    init: Callable
    logits: Callable
    generate: Callable


def build(settings, *, vocab: int, features: int, length: int, special: Special) -> Captioner:
    """The captioner that a config group asks for.

    Args:
      settings: `variant`, see VARIANTS; `width`, `depth`, `heads`, where 0 is the variant's; `layers` and `remat`, see
        `fipjax.models.stack.run`.
      vocab: number of word pieces.
      features: numbers of a region.
      length: most word pieces of a caption, start and end among them.
      special: see Special.

    Raises:
      UserError: an unknown variant or form of the layers; a negative size, or one that does not divide.
    """
    sizes = sizes_of(settings)
    shapes = _shapes(sizes, vocab, features, length)
    mute = (special.start, special.pad, *special.never)
    never, ends = np.isin(np.arange(vocab), mute), np.arange(vocab) == special.end

    def logits(params, batch):
        tokens = batch['tokens']
        memory, region_bias = _memory(params, batch)
        x = params['words'][tokens] + params['positions'][:tokens.shape[1]]
        seen = jnp.tril(jnp.ones((tokens.shape[1],) * 2, bool))
        bias = jnp.where(seen, 0, MASKED).astype(x.dtype)

        def layer(p, x):
            h = bert.norm(p['attention_norm'], x)
            x = x + _attend(p['attention'], sizes.heads, h, *_keys(p['attention'], sizes.heads, h), bias)
            return _rest(p, sizes.heads, x, *_keys(p['region_attention'], sizes.heads, memory), region_bias)

        return _logits(params, stack.run(layer, params['blocks'], x, settings.layers, settings.remat))

    def generate(params, batch, key, temperature: float, length: int):
        memory, region_bias = _memory(params, batch)
        blocks, rows = params['blocks'], len(memory)
        regions = jax.vmap(lambda p: _keys(p['region_attention'], sizes.heads, memory))(blocks)
        size = sizes.width // sizes.heads
        empty = jnp.zeros((sizes.depth, rows, length, sizes.heads, size), memory.dtype)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, batch['id'])

        def say(carry, t):
            """The word piece at t + 1 from the one at t; the keys and values of earlier ones are kept."""
            token, ended, cache = carry
            x = (params['words'][token] + params['positions'][t])[:, None]
            bias = jnp.where(jnp.arange(length) <= t, 0, MASKED).astype(x.dtype)[None]

            def layer(x, one):
                p, cache, regions = one
                h = bert.norm(p['attention_norm'], x)
                cache = jax.tree.map(lambda old, new: jax.lax.dynamic_update_slice_in_dim(old, new, t, 1), cache,
                                     _keys(p['attention'], sizes.heads, h))
                x = x + _attend(p['attention'], sizes.heads, h, *cache, bias)
                return _rest(p, sizes.heads, x, *regions, region_bias), cache

            x, cache = jax.lax.scan(layer, x, (blocks, cache, regions))
            scores = jnp.where(never | (ends & (t == 0)), -jnp.inf, _logits(params, x)[:, 0])
            if temperature:
                drawn = jax.vmap(lambda k, s: jax.random.categorical(jax.random.fold_in(k, t), s / temperature))
                token = drawn(keys, scores)
            else:
                token = scores.argmax(-1)
            token = jnp.where(ended, special.pad, token).astype(jnp.int32)
            return (token, ended | (token == special.end), cache), token

        first = jnp.full(rows, special.start, jnp.int32)
        _, said = jax.lax.scan(say, (first, jnp.zeros(rows, bool), (empty, empty)), jnp.arange(length - 1))
        return jnp.concatenate([first[:, None], said.T], 1)

    return Captioner(jax.jit(lambda key: bert.fresh(key, shapes, sizes.width)), logits, generate)


def sizes_of(settings) -> Sizes:
    """What `build` makes of its settings; raises the same errors."""
    for key, allowed in (('variant', VARIANTS), ('layers', stack.LAYERS)):
        if settings[key] not in allowed:
            raise UserError(f'network.{key} is {settings[key]!r}; allowed: {", ".join(allowed)}')
    sizes = VARIANTS[settings.variant]
    for key in sizes._fields:
        if settings[key] < 0:
            raise UserError(f'network.{key} is {settings[key]}; allowed: 0 (as the variant has it) and above')
        sizes = sizes._replace(**{key: settings[key] or getattr(sizes, key)})
    if sizes.width % sizes.heads:
        raise UserError(f'network.width is {sizes.width}; it must be divisible by network.heads, {sizes.heads}')
    return sizes


def _shapes(sizes, vocab, features, length):
    """Shapes of the parameters; those of 'blocks' with a leading axis [depth]."""
    width, hidden = sizes.width, MLP_RATIO * sizes.width
    attention = {name: bert.linear_shapes(width, width) for name in ('query', 'key', 'value', 'out')}
    block = {'attention': attention, 'region_attention': attention,
             **{f'{name}_norm': bert.norm_shapes(width) for name in ('attention', 'region', 'mlp')},
             'mlp': {'hidden': bert.linear_shapes(width, hidden), 'out': bert.linear_shapes(hidden, width)}}
    return {'words': bert.weights(vocab, width), 'positions': bert.weights(length, width),
            'regions': {'projection': bert.linear_shapes(features, width), 'location': bert.linear_shapes(BOX, width),
                        'norm': bert.norm_shapes(width)},
            'blocks': jax.tree.map(lambda s: bert.weights(sizes.depth, *s.shape), block),
            'norm': bert.norm_shapes(width), 'bias': bert.weights(vocab)}


def _memory(params, batch):
    """Regions as tokens [B, R, D], and what is added to the logits of each, [B, 1, 1, R]."""
    p, valid = params['regions'], batch['region_mask']
    features, boxes = (jnp.where(valid[..., None], batch[k], 0) for k in ('features', 'boxes'))
    memory = bert.norm(p['norm'], bert.linear(p['projection'], features) + bert.linear(p['location'], boxes))
    return memory, stack.key_bias(valid, memory, MASKED)[:, None, None]


def _keys(p, heads, x):
    """Keys and values of x [B, K, D], by head: twice [B, K, heads, size]."""
    return tuple(bert.linear(p[name], x).reshape(*x.shape[:2], heads, -1) for name in ('key', 'value'))


def _attend(p, heads, x, keys, values, bias):
    """Queries of x [B, Q, D] look at keys and values; bias is broadcast to [B, heads, Q, K]. [B, Q, D]."""
    queries = bert.linear(p['query'], x).reshape(*x.shape[:2], heads, -1)
    scores = jnp.einsum('bqhd,bkhd->bhqk', queries, keys) / np.sqrt(queries.shape[-1]).astype(x.dtype)
    out = jnp.einsum('bhqk,bkhd->bqhd', jax.nn.softmax(scores + bias, -1), values)
    return bert.linear(p['out'], out.reshape(x.shape))


def _rest(p, heads, x, keys, values, bias):
    """A layer after its self-attention: cross-attention to the regions, then the two linear layers."""
    x = x + _attend(p['region_attention'], heads, bert.norm(p['region_norm'], x), keys, values, bias)
    h = gelu(bert.linear(p['mlp']['hidden'], bert.norm(p['mlp_norm'], x)))
    return x + bert.linear(p['mlp']['out'], h)


def _logits(params, x):
    return bert.norm(params['norm'], x) @ params['words'].T + params['bias']
