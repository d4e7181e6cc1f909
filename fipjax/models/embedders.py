"""Embedders of the transfer wing: a picture or a signal becomes tokens of the width that an encoder wants.

Parameters: {'projection': {'kernel', 'bias'}, 'norm': {'scale', 'bias'}} and, where they are learned, 'positions'
[N, width], which start as sines and cosines: beside tokens of unit variance small random ones would not be seen.
Both forms are linear projection, LayerNorm, positions (MoNA, arXiv 2406.18864, section 5; ORCA, arXiv 2302.05738,
section 3.1).
"""
from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from fipjax.errors import UserError
from fipjax.models import stack
from fipjax.models.encoders import Encoder
from fipjax.models.transformer import sincos_positions

EPSILON = 1e-5
MOST_TOKENS = 64  # of a sequence whose chunk nobody chose


class Embedder(NamedTuple):
    """Pure functions of the parameters, and what comes out.

    Attributes:
      init: key -> params.
      apply: (params, x [B, *shape], length int [B] or None) -> (tokens [B, N, width], mask bool [B, N] or None).
        `length` counts the valid samples of each sequence, beyond which x is zero; pictures have none.
      tokens: N.
      grid: rows and columns that the tokens of a picture form; None for a sequence.
      width: of the tokens.
      chunk: samples in each token of a sequence; 0 for a picture.
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

    @nn.compact
    def __call__(self, pieces):
        """pieces [B, N, P] -> [B, N, width]."""
        init = nn.initializers.xavier_uniform()
        x = nn.Dense(self.width, kernel_init=init, name='projection')(pieces)
        x = stack.layer_norm('norm', EPSILON)(x)
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
    channels, side = shape[-1], size // patch
    module = _Tokens(width, (side, side), positions)

    def apply(params, x, length):
        if length is not None:
            raise ValueError('pictures have no length')
        x = jax.image.resize(x, (len(x), size, size, channels), 'linear', antialias=False)
        x = x.reshape(-1, side, patch, side, patch, channels).transpose(0, 1, 3, 2, 4, 5)
        return module.apply({'params': params}, x.reshape(-1, side * side, patch * patch * channels)), None

    init = _init(module, side * side, patch * patch * channels)
    return Embedder(init, apply, side * side, (side, side), width, 0)


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


def choose(task_shape: tuple[int, ...], encoder: Encoder, chunk: int) -> Embedder:
    """The embedder between a task and an encoder.

    Args:
      task_shape: of one x, (H, W, C) or (L, C).
      encoder: whose tokens are wanted.
      chunk: samples in a token of a sequence; 0: as few as give at most 64 tokens.

    Raises:
      UserError: a sequence for an encoder that needs a grid; a chunk longer than the sequence or negative.
    """
    if len(task_shape) == 3:
        return image(task_shape, encoder.image_size, encoder.patch, encoder.token_width, encoder.positions)
    if encoder.grid is not None:
        rows, columns = encoder.grid
        raise UserError(f'encoder.family is one whose tokens must form a grid of {rows} x {columns} (Swin), but the '
                        f'target is 1d with shape {tuple(task_shape)}; use encoder.family vit or bert, or view the '
                        'target as 2d')
    if not 0 <= chunk <= task_shape[0]:
        raise UserError(f'chunk is {chunk}; allowed: 1..{task_shape[0]}, the length of the sequences, or 0 to choose')
    return sequence(task_shape, chunk or -(-task_shape[0] // MOST_TOKENS), encoder.token_width)


def _init(module, tokens, pieces):
    return jax.jit(lambda key: module.init(key, jnp.zeros((1, tokens, pieces)))['params'])
