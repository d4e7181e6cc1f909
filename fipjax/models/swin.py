"""Swin Transformer's encoder (Liu et al., arXiv 2103.14030, sections 3.1 and 3.2) on patches embedded already.

Layers come in pairs: attention within windows, then within windows that are shifted by half their side, both pre-norm
and with a learned bias for each relative position. Between stages 2 x 2 tokens merge into one of twice the width.

Parameters: {'stage_<i>': {'blocks': {'plain', 'shifted'}, leaves [pairs, ...], 'merge': {...}}, 'norm': ...}; the last
stage has no 'merge'.
"""
from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from fipjax.errors import UserError
from fipjax.models import stack
from fipjax.models.transformer import MASKED, LayerNorm, Mlp, attend

EPSILON = 1e-5


def check(side: int, stages: int, window: int, patch: int) -> None:
    """Whether the grid can be halved and cut into windows in every stage.

    Args:
      side: of the first stage's grid of tokens.
      stages, window: as the variant has them.
      patch: pixels of a token's side, for the message.

    Raises:
      UserError: it cannot; names the stage and what would do.
    """
    for stage in range(stages):
        here, rest = divmod(side, 2 ** stage)
        if rest or here < 1 or (here > window and here % window):
            fits = window * 2 ** (stages - 1) * patch
            raise UserError(f'encoder.image_size is {side * patch}, {side} x {side} tokens of encoder.patch {patch}: '
                            f'in stage {stage + 1} of {stages} they do not fill windows of {window} x {window}; '
                            f'multiples of {fits} do')


def relative_positions(window: int) -> np.ndarray:
    """Which entry of the bias table two tokens of a window share, int [window^2, window^2].

    The entry is (dy + window - 1) * (2 window - 1) + dx + window - 1 for the token dy below and dx right of the other.
    """
    at = np.stack(np.divmod(np.arange(window * window), window), -1)
    offset = at[:, None] - at[None] + window - 1
    return offset[..., 0] * (2 * window - 1) + offset[..., 1]


def shift_bias(side: int, window: int, shift: int) -> np.ndarray:
    """MASKED between tokens that only the cyclic shift put into one window, else 0: [windows, window^2, window^2]."""
    # After the shift the last window holds tokens of both ends of the axis: the last `shift` ones wrapped around.
    band = np.digitize(np.arange(side), [side - window, side - shift])
    region = (3 * band[:, None] + band[None])[None, :, :, None]
    region = np.asarray(_windows(region, window))[..., 0]
    return np.where(region[:, :, None] == region[:, None, :], 0.0, MASKED)


def _windows(x, window):
    """[B, S, S, C] -> [B * windows, window^2, C]."""
    batch, side, _, width = x.shape
    n = side // window
    x = x.reshape(batch, n, window, n, window, width)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(-1, window * window, width)


def _grid(x, side, window):
    """The inverse of `_windows`."""
    n = side // window
    x = x.reshape(-1, n, n, window, window, x.shape[-1])
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(-1, side, side, x.shape[-1])


class WindowAttention(nn.Module):
    """Multi-head self-attention within windows, with a learned bias for each relative position.

    Attributes:
      heads: number of heads; divides the width.
      window: side of a window.
    """

    heads: int
    window: int

    @nn.compact
    def __call__(self, x, bias):
        """x [B * windows, window^2, D], bias [windows, window^2, window^2] or None -> the same shape as x."""
        rows, tokens, width = x.shape
        table = self.param('relative_bias', nn.initializers.normal(0.02), ((2 * self.window - 1) ** 2, self.heads))
        dense = lambda name: nn.Dense(width, name=name, kernel_init=nn.initializers.xavier_uniform())  # noqa: E731
        q, k, v = (dense(name)(x) for name in ('query', 'key', 'value'))
        every = table[relative_positions(self.window)].transpose(2, 0, 1)
        if bias is not None:
            q, k, v = (y.reshape(-1, len(bias), tokens, width) for y in (q, k, v))
            every = every + jnp.asarray(bias[:, None], every.dtype)
        out = attend(q, k, v, self.heads, every)
        return dense('out')(out.reshape(rows, tokens, width))


class Block(nn.Module):
    """One pre-norm layer on a grid of tokens, its windows shifted by `shift`."""

    heads: int
    window: int
    shift: int
    mlp_ratio: int = 4
    epsilon: float = EPSILON
    tanh: bool = False

    @nn.compact
    def __call__(self, x):
        """x [B, S, S, D] -> the same shape."""
        side = x.shape[1]
        h = LayerNorm(self.epsilon, name='attention_norm')(x)
        h = _windows(jnp.roll(h, (-self.shift, -self.shift), (1, 2)), self.window)
        bias = shift_bias(side, self.window, self.shift) if self.shift else None
        h = _grid(WindowAttention(self.heads, self.window, name='attention')(h, bias), side, self.window)
        x = x + jnp.roll(h, (self.shift, self.shift), (1, 2))
        return x + Mlp(self.mlp_ratio, self.tanh, name='mlp')(LayerNorm(self.epsilon, name='mlp_norm')(x))


class Pair(nn.Module):
    """A layer with plain windows and one with shifted windows; attributes as those of Block."""

    heads: int
    window: int
    shift: int
    mlp_ratio: int = 4
    epsilon: float = EPSILON
    tanh: bool = False

    @nn.compact
    def __call__(self, x):
        """x [B, S, S, D] -> the same shape."""
        how = self.mlp_ratio, self.epsilon, self.tanh
        x = Block(self.heads, self.window, 0, *how, name='plain')(x)
        return Block(self.heads, self.window, self.shift, *how, name='shifted')(x)


class Merge(nn.Module):
    """2 x 2 tokens, one after the other by columns, LayerNorm, linear to twice the width."""

    epsilon: float = EPSILON

    @nn.compact
    def __call__(self, x):
        """x [B, S, S, D] -> [B, S/2, S/2, 2 D]."""
        width = x.shape[-1]
        x = jnp.concatenate([x[:, i::2, j::2] for j in (0, 1) for i in (0, 1)], -1)
        init = nn.initializers.xavier_uniform()
        return nn.Dense(2 * width, use_bias=False, kernel_init=init, name='reduction')(
            LayerNorm(self.epsilon, name='norm')(x))


def build(side: int, embed: int, depths: tuple[int, ...], heads: tuple[int, ...], window: int, layers: str,
          remat: bool, mlp_ratio: int = 4, epsilon: float = EPSILON, tanh: bool = False) -> tuple[Callable, Callable]:
    """The encoder's functions.

    Args:
      side: rows, and columns, of the grid that the tokens form; see `check`.
      embed: width of the first stage.
      depths: layers of each stage, even numbers.
      heads: heads of each stage.
      window: side of a window; where a stage's grid is not larger, all of it is one window and nothing is shifted.
      layers, remat: see `fipjax.models.stack.run`; remat computes a pair of layers again.
      mlp_ratio, epsilon, tanh: see `fipjax.models.vit.build`.

    Returns:
      init (key -> params) and apply ((params, tokens [B, side^2, embed], None) -> [B, N', embed * 2^(stages - 1)]).
    """
    stages = []
    for i, (depth, n) in enumerate(zip(depths, heads, strict=True)):
        here = side >> i
        size = min(window, here)
        pair = Pair(n, size, size // 2 if here > size else 0, mlp_ratio, epsilon, tanh)
        stages.append((f'stage_{i}', pair, depth // 2, (1, here, here, embed << i)))
    merge, norm = Merge(epsilon), LayerNorm(epsilon, name='norm')

    def init(key):
        params = {}
        for i, (name, pair, depth, shape) in enumerate(stages):
            own, between = jax.random.split(jax.random.fold_in(key, i))
            params[name] = {'blocks': stack.init(pair, own, depth, jnp.zeros(shape))}
            if i + 1 < len(stages):
                params[name]['merge'] = merge.init(between, jnp.zeros(shape))['params']
        return {**params, 'norm': norm.init(key, jnp.zeros((1, embed << (len(stages) - 1))))['params']}

    def apply(params, tokens, mask):
        if mask is not None:
            raise ValueError('the tokens of a grid have no mask')
        x = tokens.reshape(len(tokens), side, side, embed)
        for name, pair, *_ in stages:
            x = stack.run(lambda p, x, pair=pair: pair.apply({'params': p}, x), params[name]['blocks'], x, layers,
                          remat)
            if 'merge' in params[name]:
                x = merge.apply({'params': params[name]['merge']}, x)
        return norm.apply({'params': params['norm']}, x.reshape(len(x), -1, x.shape[-1]))

    return jax.jit(init), apply
