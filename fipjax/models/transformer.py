"""Transformer parts: attention with an additive bias on the keys, blocks, sine-cosine positions."""
from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

MASKED = -1e9  # added to the logits of keys that must not be seen; finite, so that no row of weights is NaN


def sincos_positions(grid: tuple[int, ...], dim: int) -> np.ndarray:
    """Fixed positions for a 1-D or 2-D grid of tokens (arXiv 1706.03762, section 3.5; 2-D as in MAE).

    Args:
      grid: tokens along each axis.
      dim: width; divisible by 2 * len(grid).

    Returns:
      float32 [prod(grid), dim]: the parts of dim for each axis one after the other, sines then cosines.
    """
    part = dim // len(grid)
    frequency = 10000.0 ** (-np.arange(part // 2) / (part / 2))
    coordinates = np.stack(np.meshgrid(*[np.arange(n) for n in grid], indexing='ij'), -1).reshape(-1, len(grid))
    angles = [coordinates[:, i:i + 1] * frequency for i in range(len(grid))]
    return np.concatenate([f(a) for a in angles for f in (np.sin, np.cos)], axis=1).astype(np.float32)


def gelu(x):
    """The exact GELU, x * Phi(x), any shape; Phi from erf, which XLA's CPU code has cheaper than jax.nn.gelu's erfc."""
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))  # 1 + erf cancels where x is far below 0
    return (wide * (0.5 + 0.5 * jax.lax.erf(wide * np.sqrt(0.5).astype(wide.dtype)))).astype(x.dtype)


def attend(queries, keys, values, heads: int, bias):
    """softmax(q k^T / sqrt(d) + bias) v in each head, d the width of one; exponentials and sums in float32 at least.

    Heads go before tokens once, so that the products and their derivatives are plain batches of matrices. The sum of
    the softmax divides what is behind the product with v: no pass over [Q, K] for it, forward or backward.

    Args:
      queries: [..., Q, D].
      keys, values: [..., K, D].
      heads: divides D.
      bias: broadcast to the logits, [..., heads, Q, K].

    Returns:
      [..., Q, D].
    """
    q, k, v = (x.reshape(*x.shape[:-1], heads, -1).swapaxes(-3, -2) for x in (queries, keys, values))
    wide = jnp.promote_types(q.dtype, jnp.float32)
    logits = jnp.matmul(q / np.sqrt(q.shape[-1]).astype(q.dtype), k.swapaxes(-2, -1), preferred_element_type=wide)
    logits += bias.astype(wide)
    weights = jnp.exp(logits - jax.lax.stop_gradient(logits.max(-1, keepdims=True)))
    out = jnp.matmul(weights.astype(v.dtype), v, preferred_element_type=wide) / weights.sum(-1, keepdims=True)
    return out.astype(v.dtype).swapaxes(-3, -2).reshape(queries.shape)


class Attention(nn.Module):
    """Multi-head attention; self-attention when queries and memory are the same array.

    Attributes:
      heads: number of heads; must divide the inner width.
      width: inner width, of all heads together; 0: that of the queries.
    """

    heads: int
    width: int = 0

    @nn.compact
    def __call__(self, queries, memory, key_bias):
        """queries [B, Q, D], memory [B, K, E], key_bias [B, K] added to the logits of each key -> [B, Q, D]."""
        inner = self.width or queries.shape[-1]
        dense = lambda n, width: nn.Dense(width, name=n, kernel_init=nn.initializers.xavier_uniform())  # noqa: E731
        q, k, v = (dense(n, inner)(x) for n, x in (('query', queries), ('key', memory), ('value', memory)))
        out = attend(q, k, v, self.heads, key_bias[:, None, None, :])
        return dense('out', queries.shape[-1])(out)


class Mlp(nn.Module):
    """Two layers with a GELU between, exact or (`tanh`) approximated; hidden width is ratio times the input's."""

    ratio: int = 4
    tanh: bool = False

    @nn.compact
    def __call__(self, x):
        """[..., D] -> [..., D]."""
        init = nn.initializers.xavier_uniform()
        h = nn.Dense(self.ratio * x.shape[-1], kernel_init=init, name='hidden')(x)
        return nn.Dense(x.shape[-1], kernel_init=init, name='out')(jax.nn.gelu(h) if self.tanh else gelu(h))


class LayerNorm(nn.Module):
    """(x - mean) / sqrt(variance + epsilon) * scale + bias over the last axis (arXiv 1607.06450).

    The variance is the mean square of what the mean was taken from: mean square less squared mean cancels where epsilon
    is tiny. Scale comes last: XLA's CPU code keeps scale / sqrt(...) at the size of x for the backward pass.

    Attributes:
      epsilon: ViT's and MAE's, unless a published model has another.
    """

    epsilon: float = 1e-6

    @nn.compact
    def __call__(self, x):
        """[..., D] -> [..., D], statistics in float32 at least."""
        scale = self.param('scale', nn.initializers.ones, x.shape[-1:])
        bias = self.param('bias', nn.initializers.zeros, x.shape[-1:])
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        centred = wide - wide.mean(-1, keepdims=True)
        normal = centred * jax.lax.rsqrt((centred * centred).mean(-1, keepdims=True) + self.epsilon)
        return (normal * scale + bias).astype(x.dtype)


class Encoder(nn.Module):
    """Pre-norm ViT encoder (arXiv 2010.11929) on tokens that are embedded already; final LayerNorm included."""

    depth: int
    heads: int
    mlp_ratio: int = 4

    @nn.compact
    def __call__(self, x, key_bias):
        """x [B, K, D], key_bias [B, K] -> [B, K, D]."""
        for i in range(self.depth):
            h = LayerNorm(name=f'attention_norm_{i}')(x)
            x = x + Attention(self.heads, name=f'attention_{i}')(h, h, key_bias)
            x = x + Mlp(self.mlp_ratio, name=f'mlp_{i}')(LayerNorm(name=f'mlp_norm_{i}')(x))
        return LayerNorm(name='norm')(x)


class CrossDecoder(nn.Module):
    """Queries look at the encoder's tokens only, never at each other: cost grows with the queries asked for.

    The decoder of CrossMAE (arXiv 2401.14391) without self-attention; one of these for each modality.
    """

    depth: int
    heads: int
    out_dim: int
    mlp_ratio: int = 4

    @nn.compact
    def __call__(self, x, memory, key_bias):
        """x [B, Q, D'], memory [B, K, D], key_bias [B, K] -> [B, Q, out_dim]."""
        memory = nn.Dense(x.shape[-1], name='memory')(memory)
        for i in range(self.depth):
            h = LayerNorm(name=f'attention_norm_{i}')(x)
            x = x + Attention(self.heads, name=f'attention_{i}')(h, memory, key_bias)
            x = x + Mlp(self.mlp_ratio, name=f'mlp_{i}')(LayerNorm(name=f'mlp_norm_{i}')(x))
        return nn.Dense(self.out_dim, name='prediction')(LayerNorm(name='norm')(x))
