"""The encoder layers of BERT (arXiv 1810.04805) and RoBERTa (arXiv 1907.11692), which differ in their embeddings only.

    h = norm(x + attention(x));  x = norm(h + mlp(h))

They take embeddings: words never get here. Parameters: {'blocks': leaves [depth, ...]}.
"""
from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from fipjax.models import stack
from fipjax.models.transformer import MASKED, Attention, Mlp

EPSILON = 1e-12


class Block(nn.Module):
    """One post-norm layer."""

    heads: int

    @nn.compact
    def __call__(self, x, key_bias):
        """x [B, N, D], key_bias [B, N] -> [B, N, D]."""
        x = stack.layer_norm('attention_norm', EPSILON)(x + Attention(self.heads, name='attention')(x, x, key_bias))
        return stack.layer_norm('mlp_norm', EPSILON)(x + Mlp(name='mlp')(x))


def build(width: int, depth: int, heads: int, layers: str, remat: bool) -> tuple[Callable, Callable]:
    """The encoder's functions; arguments and result as `fipjax.models.vit.build`."""
    block = Block(heads)

    def init(key):
        return {'blocks': stack.init(block, key, depth, jnp.zeros((1, 1, width)), jnp.zeros((1, 1)))}

    def apply(params, tokens, mask):
        bias = stack.key_bias(mask, tokens, MASKED)
        return stack.run(lambda p, x: block.apply({'params': p}, x, bias), params['blocks'], tokens, layers, remat)

    return jax.jit(init), apply
