"""VisualBERT (arXiv 1908.03557): one BERT over words and regions together, as MMF has it.

    x = norm([words + positions + segments; projected features + region segment 0 + region position 0])

then BERT's layers over both. Boxes are not seen, and all regions have segment 0 and position 0: so MMF, where other
code takes segment 1. No dropout.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fipjax.models import bert, stack
from fipjax.models.transformer import MASKED


class Sizes(NamedTuple):
    """Width, number of layers, heads of each."""

    width: int
    depth: int
    heads: int


VARIANTS = {'cpu': Sizes(32, 2, 2), 'mini': Sizes(384, 6, 12), 'base': Sizes(768, 12, 12)}


def base_shapes(sizes: Sizes, vocab: int, features: int, length: int) -> dict:
    """Shapes of the base's parameters; arguments as `fipjax.models.vl.build`."""
    width = sizes.width
    block = bert.Block(sizes.heads)
    blocks = jax.eval_shape(lambda: stack.init(block, jax.random.key(0), sizes.depth, jnp.zeros((1, 1, width)),
                                               jnp.zeros((1, 1))))
    embeddings = {**bert.embedding_shapes(vocab, length, width), 'projection': bert.linear_shapes(features, width),
                  'region_segments': bert.weights(2, width), 'region_position': bert.weights(width)}
    return {'embeddings': embeddings, 'blocks': blocks, 'pooler': bert.linear_shapes(width, width)}


def encoder(sizes: Sizes, layers: str, remat: bool) -> Callable:
    """(base, batch) -> states of words [B, T, D] and of regions [B, R, D]; arguments as `fipjax.models.vl.build`."""
    block = bert.Block(sizes.heads)

    def encode(base, batch):
        p, length = base['embeddings'], batch['tokens'].shape[1]
        regions = bert.linear(p['projection'], batch['features']) + p['region_segments'][0] + p['region_position']
        x = jnp.concatenate([bert.embed(p, batch['tokens'], batch['segments']), regions], 1)
        x = bert.norm(p['norm'], x)
        bias = stack.key_bias(jnp.concatenate([batch['token_mask'], batch['region_mask']], 1), x, MASKED)
        x = stack.run(lambda p, x: block.apply({'params': p}, x, bias), base['blocks'], x, layers, remat)
        return x[:, :length], x[:, length:]

    return encode


def pooled(base, words, regions, batch, pooler: str):
    """One vector of each example, [B, D].

    Args:
      base: parameters.
      words: [B, T, D].
      regions: not looked at.
      batch: 'token_mask' bool [B, T].
      pooler: 'first': tanh of a linear layer on [CLS]; 'last_word': the last word piece before the final [SEP] as it
        is, MMF's strategy 'vqa'.
    """
    del regions
    if pooler == 'first':
        return jnp.tanh(bert.linear(base['pooler'], words[:, 0]))
    last = batch['token_mask'].sum(1) - 2
    return jnp.take_along_axis(words, last[:, None, None], 1)[:, 0]
