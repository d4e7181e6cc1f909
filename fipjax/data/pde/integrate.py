"""Steps in time that several equations share."""
from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp


def frames(step: Callable, state: jax.Array, count: int, show: Callable = lambda state: state) -> jax.Array:
    """[count + 1, ...]: `show` of `state` and of the `count` states after it; `step` goes from frame to frame."""
    def body(state, _):
        state = step(state)
        return state, show(state)

    _, rest = jax.lax.scan(body, state, length=count)
    return jnp.concatenate([show(state)[None], rest])


def lawson(rate: Callable, decay: jax.Array, state: jax.Array, step: float, count: int) -> jax.Array:
    """`count` steps of the classical Runge-Kutta method of order 4 on dv/dt = decay v + rate(v), the linear part exact.

    The method is applied to w = exp(-decay t) v (J. D. Lawson, SIAM J. Numer. Anal. 4, 1967), so `decay` <= 0 sets
    no limit on the step.
    """
    half = jnp.exp(0.5 * step * decay)
    whole = half * half

    def one(_, v):
        a = rate(v)
        b = rate(half * (v + 0.5 * step * a))
        c = rate(half * v + 0.5 * step * b)
        d = rate(whole * v + step * half * c)
        return whole * v + step / 6 * (whole * a + 2 * half * (b + c) + d)

    return jax.lax.fori_loop(0, count, one, state)


def slopes(left: jax.Array, centre: jax.Array, right: jax.Array) -> jax.Array:
    """Limited difference across a cell from three neighbours: monotonised central (van Leer, J. Comput. Phys. 1977)."""
    a, b = centre - left, right - centre
    size = jnp.minimum(2 * jnp.minimum(jnp.abs(a), jnp.abs(b)), 0.5 * jnp.abs(a + b))
    return jnp.where(a * b > 0, jnp.sign(a) * size, 0.0)
