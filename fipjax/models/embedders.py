"""Embedders of the transfer wing: a picture, a signal or a text becomes tokens of the width that an encoder wants.

Parameters: {'projection': {'kernel', 'bias'}, 'norm': {'scale', 'bias'}} and, where they are learned, 'positions'
[N, width], which start as sines and cosines: beside tokens of unit variance small random ones would not be seen.
Both forms are linear projection, LayerNorm, positions (MoNA, arXiv 2406.18864, section 5; ORCA, arXiv 2302.05738,
section 3.1). Word pieces are embedded as BERT does, with its parameters.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from fipjax.errors import UserError
from fipjax.models import bert
from fipjax.models.encoders import Encoder
from fipjax.models.transformer import LayerNorm, sincos_positions

EPSILON = 1e-5
MOST_TOKENS = 64  # of a sequence whose chunk nobody chose


class Embedder(NamedTuple):
    """Pure functions of the parameters, and what comes out.

    Attributes:
      init: key -> params.
      apply: (params, x [B, *shape], length int [B] or None) -> (tokens [B, N, width], mask bool [B, N] or None).
        `length` counts the valid samples of each sequence, beyond which x is zero, or word pieces; pictures have none.
      tokens: N.
      grid: rows and columns that the tokens of a picture form; None for a sequence or a text.
      width: of the tokens.
      chunk: samples in each token of a sequence; 0 for a picture or a text.
    """

    init: Callable
    apply: Callable
    tokens: int
    grid: tuple[int, int] | None
    width: int
    chunk: int


class _Tokens(nn.Module):
    width: int
    grid: tuple[int, ...]
    positions: bool
    norm: bool = True

    @nn.compact
    def __call__(self, pieces):
        """pieces [B, N, P] -> [B, N, width]."""
        init = nn.initializers.xavier_uniform()
        x = nn.Dense(self.width, kernel_init=init, name='projection')(pieces)
        if self.norm:
            x = LayerNorm(EPSILON, name='norm')(x)
        if self.positions:
            x = x + self.param('positions', lambda _: jnp.asarray(sincos_positions(self.grid, self.width)))
        return x


def image(shape: tuple[int, int, int], size: int, patch: int, width: int, positions: bool) -> Embedder:
    """Pictures: bilinear resize (half-pixel centres, no antialiasing), square patches, linear, LayerNorm.

    Args:
      shape: (H, W, C) of one picture.
      size: side of the square that it is resized to; divisible by patch.
      patch: side of a patch.
      width: of the tokens.
      positions: whether learned positions are added.
    """
    def resize(x):
        return jax.image.resize(x, (len(x), size, size, shape[-1]), 'linear', antialias=False)

    return patches(resize, size // patch, patch, shape[-1], width, positions, True)


def patches(prepare: Callable, side: int, patch: int, channels: int, width: int, positions: bool,
            norm: bool) -> Embedder:
    """Pictures: square patches, linear; LayerNorm and learned positions where they are wanted.

    Args:
      prepare: x -> [B, side * patch, side * patch, channels].
      side: rows, and columns, of patches.
      patch: side of a patch.
      channels: of what `prepare` gives.
      width: of the tokens.
      positions, norm: whether learned positions are added, and LayerNorm comes before them.
    """
    tokens, numbers = side * side, patch * patch * channels
    module = _Tokens(width, (side, side), positions, norm)

    def apply(params, x, length):
        if length is not None:
            raise ValueError('pictures have no length')
        x = prepare(x).reshape(-1, side, patch, side, patch, channels).transpose(0, 1, 3, 2, 4, 5)
        return module.apply({'params': params}, x.reshape(-1, tokens, numbers)), None

    return Embedder(_init(module, tokens, numbers), apply, tokens, (side, side), width, 0)


def sequence(shape: tuple[int, int], chunk: int, width: int) -> Embedder:
    """Signals: chunks of `chunk` samples, zeros after the last one, linear, LayerNorm, learned positions.

    Args:
      shape: (L, C) of one signal.
      chunk: samples in a token.
      width: of the tokens.

    With `length` given, a token is valid if its chunk holds at least one valid sample; without, mask is None.
    """
    samples, channels = shape
    tokens = -(-samples // chunk)
    module = _Tokens(width, (tokens,), True)

    def apply(params, x, length):
        x = jnp.pad(x, ((0, 0), (0, tokens * chunk - samples), (0, 0)))
        x = module.apply({'params': params}, x.reshape(-1, tokens, chunk * channels))
        return x, None if length is None else jnp.arange(tokens) * chunk < length[:, None]

    return Embedder(_init(module, tokens, chunk * channels), apply, tokens, None, width, chunk)


def text(vocab: int, length: int, width: int, epsilon: float = bert.EPSILON) -> Embedder:
    """Texts: word pieces, positions and the first segment added up, LayerNorm, as BERT does (arXiv 1810.04805).

    Args:
      vocab: number of word pieces; x is int [B, length].
      length: most word pieces of a text.
      width: of the tokens.
      epsilon: of the LayerNorm.

    Parameters: those of `fipjax.models.bert.embedding_shapes`.
    """
    shapes = bert.embedding_shapes(vocab, length, width)

    def apply(params, x, length):
        tokens = bert.embed(params, x, jnp.zeros_like(x))
        tokens = LayerNorm(epsilon).apply({'params': params['norm']}, tokens)
        return tokens, None if length is None else jnp.arange(x.shape[1]) < length[:, None]

    return Embedder(jax.jit(lambda key: bert.fresh(key, shapes, width)), apply, length, None, width, 0)


def choose(task, encoder: Encoder, chunk: int) -> Embedder:
    """The embedder between a task and an encoder.

    Args:
      task: fipjax.data.labelled.Task; its kind, shape and vocab say what x is.
      encoder: whose tokens are wanted.
      chunk: samples in a token of a sequence; 0: as few as give at most 64 tokens.

    Raises:
      UserError: a sequence or a text for an encoder that needs a grid; a chunk longer than the sequence or negative.
    """
    if task.kind == '2d':
        return image(task.shape, encoder.image_size, encoder.patch, encoder.token_width, encoder.positions)
    if encoder.grid is not None:
        rows, columns = encoder.grid
        raise UserError(f'encoder.family is one whose tokens must form a grid of {rows} x {columns} (Swin), but '
                        f'x is {task.kind} with shape {tuple(task.shape)}; use encoder.family vit or bert, or view '
                        'signals as 2d')
    if task.kind == 'text':
        return text(task.vocab, task.shape[0], encoder.token_width)
    if not 0 <= chunk <= task.shape[0]:
        raise UserError(f'chunk is {chunk}; allowed: 1..{task.shape[0]}, the length of the sequences, or 0 to choose')
    return sequence(task.shape, chunk or -(-task.shape[0] // MOST_TOKENS), encoder.token_width)


def _init(module, tokens, pieces):
    return jax.jit(lambda key: module.init(key, jnp.zeros((1, tokens, pieces)))['params'])
