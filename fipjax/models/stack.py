"""Layers that share one program: parameters stacked along a leading axis, run by a scan or by a Python loop.

`jax.lax.scan` compiles one layer whatever the depth, and with `jax.checkpoint` around it keeps only the input of each
layer for the backward pass. The loop compiles every layer and is what `cost_analysis()` counts in full.
"""
from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

LAYERS = ('scan', 'unroll')
COMPUTE = ('float32', 'bfloat16')


def init(module: nn.Module, key, depth: int, *inputs) -> dict:
    """Parameters of `depth` layers of the same form.

    Args:
      module: one layer.
      key: randomness; each layer has its own.
      depth: number of layers.
      *inputs: what one layer is called with; only their shapes count.

    Returns:
      The layer's parameters, each leaf with a leading axis [depth, ...].
    """
    return jax.vmap(lambda k: module.init(k, *inputs)['params'])(jax.random.split(key, depth))


def run(layer: Callable, params, x, layers: str, remat: bool):
    """x through all layers.

    Args:
      layer: (parameters of one layer, x) -> x of the same shapes and dtypes.
      params: stacked parameters, leaves [depth, ...].
      x: an array, or a tree of arrays.
      layers: 'scan' or 'unroll'; the same numbers.
      remat: whether the backward pass computes the inside of each layer again instead of keeping it.
    """
    depth = len(jax.tree.leaves(params)[0])
    step = layer
    if remat:
        # Twice: each derivative takes one away, so a gradient of a gradient (MoNA) keeps no more than a gradient does.
        # The compiler cannot merge what a loop computes again with its first time, so barriers against that would only
        # cost time. A loop of one turn is none to the compiler.
        inner = jax.checkpoint(layer, prevent_cse=False)
        step = jax.checkpoint(inner, prevent_cse=layers != 'scan' or depth == 1)
    if layers == 'scan':
        return jax.lax.scan(lambda carry, p: (step(p, carry), None), x, params)[0]
    leaves, tree = jax.tree.flatten(params)
    # Split at once: the derivative is one concatenation; that of slices adds up as many arrays, each nearly all zeros.
    for own in zip(*(jax.lax.split(p, [1] * depth) for p in leaves), strict=True):
        x = step(tree.unflatten(p[0] for p in own), x)
    return x


def computing(compute: str, fn: Callable) -> Callable:
    """fn with all floating-point numbers it is given as `compute`, and what it returns as float32 again.

    So do the derivatives: parameters and their gradients stay float32. 'float32' is fn as it is.

    Args:
      compute: one of COMPUTE.
      fn: a function of trees of arrays.
    """
    if compute == 'float32':
        return fn

    def cast(tree, dtype):
        return jax.tree.map(lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree)

    return lambda *inputs: cast(fn(*cast(inputs, jnp.dtype(compute))), jnp.float32)


def key_bias(mask, tokens, masked: float):
    """What is added to the attention logits of each key, [B, N] in the dtype of tokens: 0, or `masked` if not valid.

    Args:
      mask: bool [B, N], or None if all are valid.
      tokens: [B, N, C].
      masked: the large negative number.
    """
    zeros = jnp.zeros(tokens.shape[:2], tokens.dtype)
    return zeros if mask is None else jnp.where(mask, zeros, jnp.asarray(masked, tokens.dtype))
