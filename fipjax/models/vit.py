"""The Vision Transformer's encoder (Dosovitskiy et al., arXiv 2010.11929, section 3.1) on tokens embedded already.

    h = x + attention(norm(x));  x = h + mlp(norm(h));  after the last layer one more norm

Parameters: {'blocks': leaves [depth, ...], 'norm': ...} and, in a converted checkpoint, 'cls' [k, width], the class
token and others of its kind with their positions added. Where they are there, the tokens see them, and they are not
returned.
"""
from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from fipjax.models import stack
from fipjax.models.transformer import MASKED, Attention, LayerNorm, Mlp

EPSILON = 1e-12


class Block(nn.Module):
    """One pre-norm layer; attributes as `build` says."""

    heads: int
    mlp_ratio: int = 4
    epsilon: float = EPSILON
    tanh: bool = False

    @nn.compact
    def __call__(self, x, key_bias):
        """x [B, N, D], key_bias [B, N] -> [B, N, D]."""
        h = LayerNorm(self.epsilon, name='attention_norm')(x)
        x = x + Attention(self.heads, name='attention')(h, h, key_bias)
        return x + Mlp(self.mlp_ratio, self.tanh, name='mlp')(LayerNorm(self.epsilon, name='mlp_norm')(x))


def build(width: int, depth: int, heads: int, layers: str, remat: bool, mlp_ratio: int = 4, epsilon: float = EPSILON,
          tanh: bool = False) -> tuple[Callable, Callable]:
    """The encoder's functions.

    Args:
      width: of the tokens; divisible by heads.
      depth, heads: number of layers, and of heads in each.
      layers, remat: see `fipjax.models.stack.run`.
      mlp_ratio: width of the MLP's hidden layer over that of the tokens.
      epsilon: of all LayerNorms.
      tanh: whether GELU is approximated by tanh.

    Returns:
      init (key -> params) and apply ((params, tokens [B, N, width], mask bool [B, N] or None) -> [B, N, width]).
    """
    block, norm = Block(heads, mlp_ratio, epsilon, tanh), LayerNorm(epsilon, name='norm')

    def init(key):
        x = jnp.zeros((1, 1, width))
        blocks = stack.init(block, key, depth, x, jnp.zeros((1, 1)))
        return {'blocks': blocks, 'norm': norm.init(key, x)['params']}

    def apply(params, tokens, mask):
        bias = stack.key_bias(mask, tokens, MASKED)
        if 'cls' in params:
            first = params['cls'].astype(tokens.dtype)
            tokens = jnp.concatenate([jnp.broadcast_to(first, (len(tokens), *first.shape)), tokens], 1)
            bias = jnp.pad(bias, ((0, 0), (len(first), 0)))
        tokens = stack.run(lambda p, x: block.apply({'params': p}, x, bias), params['blocks'], tokens, layers, remat)
        tokens = norm.apply({'params': params['norm']}, tokens)
        return tokens[:, len(params['cls']):] if 'cls' in params else tokens

    return jax.jit(init), apply
