"""ViLBERT (arXiv 1908.02265): a stream of words and one of regions that look at each other in co-attention layers.

    words = norm(words + positions + segments);  regions = norm(projected features + projected boxes)

The first layers see words alone. Then come rounds, as many as there are layers of regions, each of one co-attention
layer, one layer of words and one of regions. MMF says the same by t_biattention_id = first, first + 1, ... and
v_biattention_id = 0, 1, ...: which layers a co-attention layer comes before. No dropout.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from fipjax.models import bert, stack
from fipjax.models.transformer import MASKED, Attention, LayerNorm, Mlp


class Sizes(NamedTuple):
    """Width, number of layers and heads of each, of words and of regions; inner width and heads of co-attention."""

    width: int
    depth: int
    heads: int
    region_width: int
    rounds: int
    region_heads: int
    co_width: int
    co_heads: int


VARIANTS = {'cpu': Sizes(32, 2, 2, 32, 1, 2, 32, 2), 'mini': Sizes(384, 6, 12, 256, 3, 8, 256, 8),
            'base': Sizes(768, 12, 12, 1024, 6, 8, 1024, 8)}
REGION_MLP = 1  # hidden over outer width


class CoBlock(nn.Module):
    """One co-attention layer: each stream's queries look at the other's keys and values.

    Both directions start from what came in: neither sees what the other made.
    """

    heads: int
    width: int

    def setup(self):
        """Parts of both directions."""
        self.text_attention = Attention(self.heads, self.width)
        self.text_norm, self.text_mlp_norm = _norm(), _norm()
        self.text_mlp = Mlp()
        self.region_attention = Attention(self.heads, self.width)
        self.region_norm, self.region_mlp_norm = _norm(), _norm()
        self.region_mlp = Mlp(REGION_MLP)

    def __call__(self, text, regions, text_bias, region_bias):
        """text [B, T, D], regions [B, R, V], biases of their keys [B, T] and [B, R] -> the same shapes."""
        return self.to_text(text, regions, region_bias), self.to_regions(regions, text, text_bias)

    def to_text(self, text, regions, region_bias):
        """Words look at regions: [B, T, D]."""
        text = self.text_norm(text + self.text_attention(text, regions, region_bias))
        return self.text_mlp_norm(text + self.text_mlp(text))

    def to_regions(self, regions, text, text_bias):
        """Regions look at words: [B, R, V]."""
        regions = self.region_norm(regions + self.region_attention(regions, text, text_bias))
        return self.region_mlp_norm(regions + self.region_mlp(regions))


def base_shapes(sizes: Sizes, vocab: int, features: int, length: int) -> dict:
    """Shapes of the base's parameters; arguments as `fipjax.models.vl.build`."""
    text, region = jnp.zeros((1, 1, sizes.width)), jnp.zeros((1, 1, sizes.region_width))
    bias = jnp.zeros((1, 1))

    def stacks(key):
        one, other, co = _blocks(sizes)
        return {'text_blocks': stack.init(one, key, sizes.depth, text, bias),
                'region_blocks': stack.init(other, key, sizes.rounds, region, bias),
                'co_blocks': stack.init(co, key, sizes.rounds, text, region, bias, bias)}

    return {'embeddings': bert.embedding_shapes(vocab, length, sizes.width),
            'region_embeddings': {'projection': bert.linear_shapes(features, sizes.region_width),
                                  'location': bert.linear_shapes(5, sizes.region_width),
                                  'norm': bert.norm_shapes(sizes.region_width)},
            **jax.eval_shape(stacks, jax.random.key(0)),
            'text_pooler': bert.linear_shapes(sizes.width, sizes.co_width),
            'region_pooler': bert.linear_shapes(sizes.region_width, sizes.co_width)}


def encoder(sizes: Sizes, layers: str, remat: bool) -> Callable:
    """(base, batch) -> states of words [B, T, D] and of regions [B, R, V]; arguments as `fipjax.models.vl.build`."""
    text_block, region_block, co_block = _blocks(sizes)
    first = sizes.depth - sizes.rounds

    def encode(base, batch):
        text = bert.norm(base['embeddings']['norm'], bert.embed(base['embeddings'], batch['tokens'],
                                                                batch['segments']))
        p = base['region_embeddings']
        regions = bert.linear(p['projection'], batch['features']) + bert.linear(p['location'], batch['boxes'])
        regions = bert.norm(p['norm'], regions)
        text_bias = stack.key_bias(batch['token_mask'], text, MASKED)
        region_bias = stack.key_bias(batch['region_mask'], regions, MASKED)

        def layer(p, x):
            return text_block.apply({'params': p}, x, text_bias)

        def one_round(p, both):
            text, regions = co_block.apply({'params': p['co']}, *both, text_bias, region_bias)
            return layer(p['text'], text), region_block.apply({'params': p['region']}, regions, region_bias)

        alone, rest = (jax.tree.map(lambda leaf, s=s: leaf[s], base['text_blocks'])
                       for s in (slice(first), slice(first, None)))
        text = stack.run(layer, alone, text, layers, remat) if first else text
        rounds = {'co': base['co_blocks'], 'text': rest, 'region': base['region_blocks']}
        return stack.run(one_round, rounds, (text, regions), layers, remat)

    return encode


def pooled(base, words, regions, batch, pooler: str):
    """One vector of each example: linear layers with ReLU on [CLS] and on the first region, multiplied: [B, co_width].

    Args:
      base: parameters.
      words, regions: [B, T, D], [B, R, V].
      batch, pooler: not looked at.
    """
    del batch, pooler
    text, region = bert.linear(base['text_pooler'], words[:, 0]), bert.linear(base['region_pooler'], regions[:, 0])
    return jax.nn.relu(text) * jax.nn.relu(region)


def _blocks(sizes):
    return (bert.Block(sizes.heads), bert.Block(sizes.region_heads, REGION_MLP),
            CoBlock(sizes.co_heads, sizes.co_width))


def _norm():
    return LayerNorm(bert.EPSILON)
