"""Masked autoencoder over several modalities: tokenisers, one shared encoder, a cross-attention decoder each.

Flax stays behind `build`, which returns pure functions of a nested dict of parameters:

    params = {'tokenizers': {m: ...}, 'encoder': ..., 'decoders': {m: ...}, 'statistics': {m: ...}}

The statistics, mean and deviation of each channel, are not trained. They are in params so that an encoder that is
saved, loaded and fine-tuned elsewhere goes on seeing inputs on the scale that it was trained on.
"""
from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from fipjax.errors import UserError
from fipjax.modality import Modality, patchify
from fipjax.models.transformer import CrossDecoder, Encoder, gelu, sincos_positions


class Model(NamedTuple):
    """Pure functions of the parameters; B examples, N tokens of a modality, K tokens given, Q tokens asked for.

    Attributes:
      init: (key, statistics or None) -> params; see `statistics` for what they are, None leaves data as they come.
      tokenize: (params, name, x [B, *shape]) -> [B, N, dim], positions and modality embedding added.
      encode: (params, tokens [B, K, dim], key_bias [B, K]) -> [B, K, dim].
      decode: (params, name, where int [B, Q], memory [B, K, dim], key_bias [B, K]) -> [B, Q, D], predictions of the
        tokens at the positions `where` (of kind 'tokens': logits over the vocabulary).
    """

    init: Callable
    tokenize: Callable
    encode: Callable
    decode: Callable


class Tokenizer(nn.Module):
    """Tokens of one modality: linear patch embedding or id embedding, plus positions, plus a modality embedding."""

    modality: Modality
    dim: int

    @nn.compact
    def __call__(self, x):
        """x [B, *shape] -> [B, N, dim]."""
        if self.modality.kind == 'tokens':
            x = nn.Embed(self.modality.vocab, self.dim, name='embedding')(x)
        else:
            init = nn.initializers.xavier_uniform()
            x = nn.Dense(self.dim, kernel_init=init, name='embedding')(patchify(self.modality, x))
        positions = jnp.asarray(sincos_positions(self.modality.grid, self.dim), x.dtype)
        return x + positions + self.param('modality', nn.initializers.normal(0.02), (self.dim,))


class Decoder(nn.Module):
    """Mask tokens with positions ask the encoder's tokens for the content of one modality."""

    modality: Modality
    dim: int
    depth: int
    heads: int
    mlp_ratio: int

    @nn.compact
    def __call__(self, where, memory, key_bias):
        """where int [B, Q], memory [B, K, E], key_bias [B, K] -> [B, Q, D]."""
        positions = jnp.asarray(sincos_positions(self.modality.grid, self.dim), memory.dtype)
        queries = self.param('mask_token', nn.initializers.normal(0.02), (self.dim,)) + positions[where]
        blocks = CrossDecoder(self.depth, self.heads, self.modality.token_dim, self.mlp_ratio, name='blocks')
        return blocks(queries, memory, key_bias)


def build(modalities: Mapping[str, Modality], settings, decoder_depth: Mapping[str, int]) -> Model:
    """The model's functions.

    Args:
      modalities: name -> Modality.
      settings: dim, depth, heads, mlp_ratio, decoder_dim, decoder_heads (config.model).
      decoder_depth: name -> blocks of that modality's decoder, lever 3 of FIP; {} builds no decoders.

    Raises:
      UserError: a width that its heads or the 2-D positions do not divide.
    """
    for key, width, heads in (('model.dim', settings.dim, settings.heads),
                              ('model.decoder_dim', settings.decoder_dim, settings.decoder_heads)):
        if width % heads or width % 4:
            raise UserError(f'{key} is {width}; it must be divisible by 4 (2-D positions) and by its {heads} heads')
    tokenizers = {m: Tokenizer(spec, settings.dim) for m, spec in modalities.items()}
    encoder = Encoder(settings.depth, settings.heads, settings.mlp_ratio)
    decoders = {m: Decoder(modalities[m], settings.decoder_dim, depth, settings.decoder_heads, settings.mlp_ratio)
                for m, depth in decoder_depth.items()}

    def init(key, given=None):
        keys = lambda part: {m: jax.random.fold_in(jax.random.fold_in(key, part), i)  # noqa: E731
                             for i, m in enumerate(modalities)}
        memory, bias = jnp.zeros((1, 1, settings.dim)), jnp.zeros((1, 1))
        empty = {m: jnp.zeros((1, *s.shape), jnp.int32 if s.kind == 'tokens' else jnp.float32)
                 for m, s in modalities.items()}
        return {
            'tokenizers': {m: t.init(keys(0)[m], empty[m])['params'] for m, t in tokenizers.items()},
            'encoder': encoder.init(jax.random.fold_in(key, 1), memory, bias)['params'],
            'decoders': {m: d.init(keys(2)[m], jnp.zeros((1, 1), jnp.int32), memory, bias)['params']
                         for m, d in decoders.items()},
            'statistics': {m: given[m] if given else statistics(s) for m, s in modalities.items()}}

    def tokenize(params, name, x):
        if modalities[name].kind != 'tokens':
            x = standardise(x, jax.lax.stop_gradient(params['statistics'][name]['input']))
        return tokenizers[name].apply({'params': params['tokenizers'][name]}, x)

    def encode(params, tokens, key_bias):
        return encoder.apply({'params': params['encoder']}, tokens, key_bias)

    def decode(params, name, where, memory, key_bias):
        return decoders[name].apply({'params': params['decoders'][name]}, where, memory, key_bias)

    return Model(jax.jit(init), tokenize, encode, decode)


def statistics(modality: Modality, inputs=None, targets=None) -> dict:
    """Mean and deviation of each channel of inputs and targets, {'input' | 'target': {'mean', 'deviation'}}, each [C].

    Args:
      modality: whose channels are the last axis; kind 'tokens' has none and gets empty dictionaries.
      inputs, targets: float [n, *shape], examples to measure; without them mean 0 and deviation 1.
    """
    if modality.kind == 'tokens':
        return {'input': {}, 'target': {}}
    channels = modality.shape[-1]

    def of(x):
        if x is None:
            return {'mean': np.zeros(channels, np.float32), 'deviation': np.ones(channels, np.float32)}
        flat = np.asarray(x, np.float64).reshape(-1, channels)
        deviation = flat.std(0)
        # A constant channel carries nothing; dividing by its deviation would only blow up rounding.
        deviation = np.where(deviation > 1e-6, deviation, 1.0)
        return {'mean': flat.mean(0).astype(np.float32), 'deviation': deviation.astype(np.float32)}
    return {'input': of(inputs), 'target': of(targets)}


def standardise(x, given):
    """(x - mean) / deviation by channel. x [B, *shape]; given {'mean', 'deviation'}, each [C]."""
    return (x - given['mean']) / given['deviation']


def restore_scale(x, given):
    """The inverse of `standardise`."""
    return x * given['deviation'] + given['mean']


class Head(NamedTuple):
    """A classification head: init(key) -> params; apply(params, code [B, dim]) -> logits [B, classes]."""

    init: Callable
    apply: Callable


class _Classifier(nn.Module):
    classes: int
    hidden: int

    @nn.compact
    def __call__(self, code):
        if self.hidden:
            code = gelu(nn.Dense(self.hidden, name='hidden')(code))
        # Zero at the start: every class is equally likely and the first gradient is that of the codes alone.
        return nn.Dense(self.classes, kernel_init=nn.initializers.zeros, name='logits')(code)


def head(dim: int, classes: int, hidden: int = 0) -> Head:
    """A linear classifier, or one with a hidden layer of GELU units.

    Args:
      dim: width of the code.
      classes: number of classes K.
      hidden: units of the hidden layer; 0 for a linear classifier.
    """
    module = _Classifier(classes, hidden)
    init = functools.partial(lambda key: module.init(key, jnp.zeros((1, dim)))['params'])
    return Head(init, lambda params, code: module.apply({'params': params}, code))
