"""Predictors: an encoder's tokens become classes, labels or fields, one vector of an example becomes answers.

Parameters: {'linear': {'kernel', 'bias'}}; of `answers` also 'transform'. Kernels start as normal numbers of deviation
0.02: zeros would give what is below no gradient at the first step. Source: MoNA (arXiv 2406.18864), section 5, after
ORCA (arXiv 2302.05738); the head of answers: MMF's classifier.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from fipjax.errors import UserError
from fipjax.models import bert

COLOURS = 3  # channels of the picture that the dense predictor makes before pooling


class Predictor(NamedTuple):
    """init: key -> params; apply: (params, tokens [B, N', width], mask bool [B, N'] or None) -> output."""

    init: Callable
    apply: Callable


def mean_token(tokens, mask):
    """Mean over the valid tokens; 0 where none is valid.

    Args:
      tokens: [B, N, D].
      mask: bool [B, N], or None if all are valid.

    Returns:
      [B, D].
    """
    if mask is None:
        return tokens.mean(1)
    count = jnp.maximum(mask.sum(1, keepdims=True), 1).astype(tokens.dtype)
    return jnp.where(mask[:, :, None], tokens, 0).sum(1) / count


def classification(width: int, outputs: int) -> Predictor:
    """Mean over the valid tokens, then linear to [B, outputs]: logits of classes or of labels."""
    init, linear = _linear(width, outputs)
    return Predictor(init, lambda params, tokens, mask: linear(params, mean_token(tokens, mask)))


def answers(width: int, outputs: int) -> Predictor:
    """Head on a vector: linear, GELU, LayerNorm, linear. apply: (params, x [B, width]) -> logits [B, outputs]."""
    shapes = {'transform': bert.transform_shapes(width), 'linear': bert.linear_shapes(width, outputs)}

    def apply(params, x):
        return bert.linear(params['linear'], bert.transform(params['transform'], x))

    return Predictor(jax.jit(lambda key: bert.fresh(key, shapes, width)), apply)


def dense_image(width: int, grid: tuple[int, int], size: int, shape: tuple[int, int, int]) -> Predictor:
    """Each token becomes a square of a picture, which is pooled to the field's shape.

    Linear to (size / g)^2 * 3 (7 x 7 tokens of a picture of 224: 3072), pixel shuffle to size x size x 3, average over
    channels 3 -> K, average over pixels to H x W. Both averages are adaptive, see `pooling`.

    Args:
      width: of the tokens.
      grid: (g, g), rows and columns of the tokens.
      size: side of the encoder's picture; divisible by g.
      shape: (H, W, K) of the field.

    Returns:
      A predictor with output [B, H, W, K].
    """
    side = grid[0]
    scale = size // side
    height, breadth, channels = shape
    init, linear = _linear(width, scale * scale * COLOURS)
    bins = [pooling(n, m) for n, m in ((size, height), (size, breadth), (COLOURS, channels))]

    def apply(params, tokens, mask):
        if mask is not None:
            raise ValueError('tokens of pictures have no mask')
        x = linear(params, tokens).reshape(-1, side, side, COLOURS, scale, scale)
        x = x.transpose(0, 1, 4, 2, 5, 3).reshape(-1, size, size, COLOURS)
        for axis, matrix in enumerate(bins, 1):
            x = jnp.moveaxis(jnp.moveaxis(x, axis, -1) @ jnp.asarray(matrix, x.dtype), -1, axis)
        return x

    return Predictor(init, apply)


def dense_sequence(width: int, tokens: int, chunk: int, shape: tuple[int, int]) -> Predictor:
    """Each token becomes its chunk of the output: linear to chunk * K, one chunk after the other, cropped to L.

    Args:
      width: of the tokens.
      tokens, chunk: as the embedder has them.
      shape: (L, K) of the output.

    Raises:
      UserError: L is longer than what the tokens cover.
    """
    length, channels = shape
    if length > tokens * chunk:
        raise UserError(f'y has {length} samples, but x only {tokens} chunks of {chunk}; a dense 1d target must not be '
                        'longer than its input')
    init, linear = _linear(width, chunk * channels)

    def apply(params, x, mask):
        del mask  # outputs beyond a sequence's end are there, for the loss to leave out
        return linear(params, x).reshape(-1, tokens * chunk, channels)[:, :length]

    return Predictor(init, apply)


def pooling(size: int, out: int) -> np.ndarray:
    """Adaptive average pooling of one axis as a matrix, float64 [size, out].

    Output o is the mean of the inputs from floor(o size / out) to before ceil((o + 1) size / out), so bins overlap
    where size is no multiple of out, and inputs repeat where out is larger.
    """
    matrix = np.zeros((size, out))
    for o in range(out):
        first, last = o * size // out, -(-(o + 1) * size // out)
        matrix[first:last, o] = 1 / (last - first)
    return matrix


def _linear(width, outputs):
    module = nn.Dense(outputs, kernel_init=nn.initializers.normal(0.02))

    def init(key):
        return {'linear': module.init(key, jnp.zeros((1, width)))['params']}

    return jax.jit(init), lambda params, x: module.apply({'params': params['linear']}, x)
