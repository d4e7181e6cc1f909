"""The parts of BERT (arXiv 1810.04805): encoder layers, embeddings of word pieces, the transform of its heads.

    h = norm(x + attention(x));  x = norm(h + mlp(h))

RoBERTa (arXiv 1907.11692) has the same layers. `build` is the encoder of the transfer wing, which takes embeddings:
words never get there. Its parameters: {'blocks': leaves [depth, ...]}. Nothing here has dropout.
"""
from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from fipjax.models import stack
from fipjax.models.transformer import MASKED, Attention, LayerNorm, Mlp, gelu

EPSILON = 1e-12
DEVIATION, AT_WIDTH = 0.02, 768  # of weights at the start, BERT-base's; narrower models need larger ones to learn


class Block(nn.Module):
    """One post-norm layer; attributes as `fipjax.models.vit.build` says."""

    heads: int
    mlp_ratio: int = 4
    epsilon: float = EPSILON
    tanh: bool = False

    @nn.compact
    def __call__(self, x, key_bias):
        """x [B, N, D], key_bias [B, N] -> [B, N, D]."""
        norm = lambda name: LayerNorm(self.epsilon, name=name)  # noqa: E731
        x = norm('attention_norm')(x + Attention(self.heads, name='attention')(x, x, key_bias))
        return norm('mlp_norm')(x + Mlp(self.mlp_ratio, self.tanh, name='mlp')(x))


class Transform(nn.Module):
    """What the heads have before their last layer: linear of the same width, exact GELU, LayerNorm."""

    @nn.compact
    def __call__(self, x):
        """[..., D] -> [..., D]."""
        x = gelu(nn.Dense(x.shape[-1], name='dense')(x))
        return LayerNorm(EPSILON, name='norm')(x)


def build(width: int, depth: int, heads: int, layers: str, remat: bool, mlp_ratio: int = 4, epsilon: float = EPSILON,
          tanh: bool = False) -> tuple[Callable, Callable]:
    """The encoder's functions; arguments and result as `fipjax.models.vit.build`."""
    block = Block(heads, mlp_ratio, epsilon, tanh)

    def init(key):
        return {'blocks': stack.init(block, key, depth, jnp.zeros((1, 1, width)), jnp.zeros((1, 1)))}

    def apply(params, tokens, mask):
        bias = stack.key_bias(mask, tokens, MASKED)
        return stack.run(lambda p, x: block.apply({'params': p}, x, bias), params['blocks'], tokens, layers, remat)

    return jax.jit(init), apply


def embed(params, tokens, segments):
    """Words, positions and segments added up, not yet normalised.

    Args:
      params: 'words' [vocab, D], 'positions' [length, D], 'segments' [2, D].
      tokens, segments: int [B, T], T <= length.

    Returns:
      [B, T, D].
    """
    return params['words'][tokens] + params['positions'][:tokens.shape[1]] + params['segments'][segments]


def linear(params, x):
    """x @ kernel + bias."""
    return x @ params['kernel'] + params['bias']


def norm(params, x):
    """LayerNorm with BERT's epsilon."""
    return LayerNorm(EPSILON).apply({'params': params}, x)


def transform(params, x):
    """`Transform` as a function."""
    return Transform().apply({'params': params}, x)


def fresh(key, shapes, width: int):
    """Parameters to start from: scales 1, biases 0, all else normal numbers, cut at two deviations.

    Args:
      key: randomness; each leaf has its own.
      shapes: tree of arrays or of shapes with dtypes, leaves named 'scale' and 'bias' where they are that.
      width: of the model; the deviation is 0.02 at 768 (BERT-base) and goes with 1 / sqrt(width).
    """
    deviation = DEVIATION * (AT_WIDTH / width) ** 0.5
    leaves, tree = jax.tree_util.tree_flatten_with_path(shapes)

    def draw(path, leaf, key):
        if path[-1].key in ('scale', 'bias'):
            return jnp.full(leaf.shape, path[-1].key == 'scale', leaf.dtype)
        return deviation * jax.random.truncated_normal(key, -2, 2, leaf.shape, leaf.dtype)

    keys = jax.random.split(key, len(leaves))
    return tree.unflatten([draw(path, leaf, k) for (path, leaf), k in zip(leaves, keys, strict=True)])


def weights(*shape) -> jax.ShapeDtypeStruct:
    """The shape of an array for `fresh`."""
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def linear_shapes(width: int, outputs: int) -> dict:
    """Shapes of what `linear` takes."""
    return {'kernel': weights(width, outputs), 'bias': weights(outputs)}


def norm_shapes(width: int) -> dict:
    """Shapes of what `norm` takes."""
    return {'scale': weights(width), 'bias': weights(width)}


def transform_shapes(width: int) -> dict:
    """Shapes of what `transform` takes."""
    return {'dense': linear_shapes(width, width), 'norm': norm_shapes(width)}


def embedding_shapes(vocab: int, length: int, width: int) -> dict:
    """Shapes of what `embed` takes, and 'norm'."""
    return {'words': weights(vocab, width), 'positions': weights(length, width), 'segments': weights(2, width),
            'norm': norm_shapes(width)}
