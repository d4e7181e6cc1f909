"""The models of the wing 'vlp' behind one interface: VisualBERT and ViLBERT.

A batch is what `fipjax.data.vl.Source.take` gives. Regions that are not valid are made 0 before a model sees them, so
that nothing of them is left where no region is valid and attention has nowhere else to go.
"""
from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fipjax.errors import UserError
from fipjax.models import bert, stack, vilbert, visualbert


class Encoded(NamedTuple):
    """words [B, T, D], regions [B, R, V]: the last layer's states, also at positions that are not valid."""

    words: Any
    regions: Any


class Model(NamedTuple):
    """Pure functions of the parameters {'base', 'words', 'regions'}; 'base' is what fine-tuning goes on with.

    Attributes:
      init: key -> params, see fipjax.models.bert.fresh.
      encode: (base, batch) -> Encoded.
      pooled: (base, encoded, batch, pooler) -> [B, pooled_width]; pooler is one of POOLERS, which only VisualBERT
        tells apart.
      word_logits: (params, hidden [n, D]) -> [n, vocab]: linear, GELU, LayerNorm, then the product with the word
        embeddings (tied) or with a matrix of its own, and a bias.
      region_outputs: (params, hidden [n, V]) -> [n, region_outputs]: linear, GELU, LayerNorm, linear.
      pooled_width: of `pooled`.
    """

    init: Callable
    encode: Callable
    pooled: Callable
    word_logits: Callable
    region_outputs: Callable
    pooled_width: int


MODULES = {'visualbert': visualbert, 'vilbert': vilbert}
VARIANTS = {name: module.VARIANTS for name, module in MODULES.items()}
POOLERS = ('first', 'last_word')
SIZES = ('width', 'depth', 'heads')


def build(name: str, settings, *, vocab: int, features: int, region_outputs: int, length: int, tied: bool,
          compute: str = 'float32') -> Model:
    """The model that a config group asks for.

    Args:
      name: one of VARIANTS.
      settings: `variant`, see VARIANTS; `width`, `depth`, `heads`, where 0 is the variant's (they must be 0 for
        'vilbert'); `layers` and `remat`, see `fipjax.models.stack.run`.
      vocab: number of word pieces.
      features: numbers of a region.
      region_outputs: numbers that are predicted of a region.
      length: most word pieces of a text.
      tied: whether the decoder of words is the matrix of word embeddings.
      compute: what `encode`, `word_logits` and `region_outputs` compute in, see `fipjax.models.stack.computing`.

    Raises:
      UserError: an unknown model, variant or form of the layers; a negative size, or one that does not divide.
    """
    sizes = sizes_of(name, settings)
    module = MODULES[name]
    region_width = sizes.region_width if name == 'vilbert' else sizes.width
    own = {} if tied else {'decoder': bert.weights(vocab, sizes.width)}
    shapes = {'base': module.base_shapes(sizes, vocab, features, length),
              'words': {'transform': bert.transform_shapes(sizes.width), 'bias': bert.weights(vocab), **own},
              'regions': {'transform': bert.transform_shapes(region_width),
                          'linear': bert.linear_shapes(region_width, region_outputs)}}
    computing = functools.partial(stack.computing, compute)
    encode = computing(module.encoder(sizes, settings.layers, settings.remat))

    def word_logits(params, hidden):
        p = params['words']
        decoder = params['base']['embeddings']['words'] if tied else p['decoder']
        return bert.transform(p['transform'], hidden) @ decoder.T + p['bias']

    def outputs(params, hidden):
        return bert.linear(params['regions']['linear'], bert.transform(params['regions']['transform'], hidden))

    return Model(
        init=jax.jit(lambda key: bert.fresh(key, shapes, sizes.width)),
        encode=lambda base, batch: Encoded(*encode(base, _valid_alone(batch))),
        pooled=lambda base, encoded, batch, pooler: module.pooled(base, *encoded, batch, pooler),
        word_logits=computing(word_logits), region_outputs=computing(outputs),
        pooled_width=sizes.co_width if name == 'vilbert' else sizes.width)


def standardised(base, mean, deviation):
    """The base with its projection of regions seeing (features - mean) / deviation, as a change of its weights.

    Features of pictures have much in common; a fresh projection of what they have not is learned from sooner.

    Args:
      base: parameters; those of a fresh projection.
      mean, deviation: of the features, [F].
    """
    def changed(tree):
        if 'projection' not in tree:
            return {k: changed(v) if isinstance(v, dict) else v for k, v in tree.items()}
        kernel = tree['projection']['kernel'] / deviation[:, None]
        return {**tree, 'projection': {'kernel': kernel, 'bias': tree['projection']['bias'] - mean @ kernel}}
    return changed(base)


def sizes_of(name: str, settings):
    """What `build` makes of name and settings; raises the same errors."""
    _one_of('model', name, VARIANTS)
    _one_of('network.variant', settings.variant, VARIANTS[name])
    _one_of('network.layers', settings.layers, stack.LAYERS)
    sizes = VARIANTS[name][settings.variant]
    for key in SIZES:
        value = settings[key]
        if value < 0:
            raise UserError(f'network.{key} is {value}; allowed: 0 (as the variant has it) and above')
        if value and name == 'vilbert':
            raise UserError(f'network.{key} is {value}, but the sizes of ViLBERT are those of network.variant '
                            f'({", ".join(VARIANTS[name])}); it must be 0')
        sizes = sizes._replace(**{key: value or getattr(sizes, key)})
    if sizes.width % sizes.heads:
        raise UserError(f'network.width is {sizes.width}; it must be divisible by network.heads, {sizes.heads}')
    return sizes


def _valid_alone(batch):
    """The batch with regions of 0 where they are not valid."""
    valid = batch['region_mask'][:, :, None]
    return {**batch, **{k: jnp.where(valid, batch[k], 0) for k in ('features', 'boxes')}}


def _one_of(key, value, allowed):
    if value not in allowed:
        raise UserError(f'{key} is {value!r}; allowed: {", ".join(allowed)}')
