"""Random initial fields in one dimension, and grids (PDEBench's code).

    u0(x) = s g(x) | sum_{k=1}^K a_k sin(2 pi k c_k x / L + phi_k) |^{or not}

with a_k uniform in (0, 1), phi_k in (0, 2 pi), c_k how often k was drawn in two draws from 1..K: an amplitude whose
wave number was not drawn is a constant, one drawn twice has twice the wave number. With probability 0.1 the absolute
value is taken, s is a random sign, and with probability `window` g is a smooth window from x_L in (0.1, 0.45) to x_R
in (0.55, 0.9) with edges of width 0.01, else 1.
PDEBench's code divides by the distance of the outer cell centres instead of L, so that its waves miss periodicity by
one cell, and draws several of these from one random key. Here the waves are periodic and all draws independent.
"""
from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np


def centres(lower: float, upper: float, points: int) -> np.ndarray:
    """[points] centres of equal cells of (lower, upper), float64."""
    return lower + (np.arange(points) + 0.5) * ((upper - lower) / points)


def times(end: float, step: float, extra: int = 0) -> np.ndarray:
    """[frames + extra] times 0, step, ..., end, float64; PDEBench's single files list one time more than frames."""
    return np.arange(round(end / step) + 1 + extra) * step


def waves(key: jax.Array, x: jax.Array, length: float = 1.0, modes: int = 4, window: float = 0.1) -> jax.Array:
    """A random field at the points x (any shape); |u| <= modes. The same key gives the same function of x."""
    keys = jax.random.split(key, 7)
    wave = jnp.arange(1, modes + 1)
    drawn = jax.random.randint(keys[0], (2, 1), 1, modes + 1)
    count = (drawn == wave).sum(0)
    amplitude = jax.random.uniform(keys[1], (modes,))
    phase = 2 * jnp.pi * jax.random.uniform(keys[2], (modes,))
    u = (amplitude * jnp.sin(2 * jnp.pi / length * wave * count * x[..., None] + phase)).sum(-1)
    u = jnp.where(jax.random.bernoulli(keys[3], 0.1), jnp.abs(u), u)
    u = jnp.where(jax.random.bernoulli(keys[4], 0.5), u, -u)
    left, right = jax.random.uniform(keys[5], (2,)) * 0.35 + jnp.array([0.1, 0.55])
    inside = 0.5 * (jnp.tanh((x - left) / 0.01) - jnp.tanh((x - right) / 0.01))
    return jnp.where(jax.random.bernoulli(keys[6], window), u * inside, u)


def unit(u: jax.Array) -> jax.Array:
    """u shifted and scaled to [0, 1]."""
    u = u - u.min()
    return u / u.max()
