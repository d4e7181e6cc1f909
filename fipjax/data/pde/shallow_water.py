"""Shallow water over flat ground (PDEBench, appendix D) on (-2.5, 2.5)^2, open boundaries, t in [0, 1].

    h_t + (h u)_x + (h v)_y = 0
    (h u)_t + (h u^2 + g h^2 / 2)_x + (h u v)_y = 0,     (h v)_t likewise

Initial condition: a round dam breaks. h is inner_height within the radius r and 1 outside, at rest; r is uniform in
(0.3, 0.7). Scheme: finite volumes of order 2 in space (limited slopes of h, hu, hv; HLL flux: A. Harten, P. Lax and
B. van Leer, SIAM Review 25, 1983) and time (Heun's method); beyond the boundary the outer cell goes on. PDEBench:
Clawpack, Roe's solver with the same limiter. Only h is stored, at [t, x, y]. The step follows from the fastest signal
there can be: |u| + c <= 2 sqrt(g h_max) by the Riemann invariants of the plane dam.
Of an example, one number is random, and cells are in the dam or not: on n x n points there are 7 (n = 32), 24 (64) or
81 (128, PDEBench's) different initial fields, so that nearly every test example is in the training split too.
"""
from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from fipjax.data.pde.fields import centres, times
from fipjax.data.pde.integrate import frames, slopes
from fipjax.data.pde.task import GROUPS, Task
from fipjax.errors import UserError

END, STEP = 1.0, 0.01
LOWER, UPPER = -2.5, 2.5
CFL = 0.4


def hll(left: jax.Array, right: jax.Array, g: float) -> jax.Array:
    """[3, ...] fluxes along the first momentum between the states `left` and `right` of h, hu, hv."""
    def one(q):
        h, m, n = q
        u = m / h
        return u, jnp.sqrt(g * h), jnp.stack([m, m * u + 0.5 * g * h * h, n * u])

    (u_left, c_left, f_left), (u_right, c_right, f_right) = one(left), one(right)
    slow = jnp.minimum(jnp.minimum(u_left - c_left, u_right - c_right), 0.0)
    fast = jnp.maximum(jnp.maximum(u_left + c_left, u_right + c_right), 0.0)
    return (fast * f_left - slow * f_right + slow * fast * (right - left)) / (fast - slow)


def along(q: jax.Array, g: float, dx: float) -> jax.Array:
    """The part of dq/dt, q [3, n, m] of h, hu, hv, that comes from the fluxes along the first axis."""
    wide = jnp.pad(q, ((0, 0), (2, 2), (0, 0)), mode='edge')
    half = 0.5 * slopes(wide[:, :-2], wide[:, 1:-1], wide[:, 2:])
    inner = wide[:, 1:-1]
    flux = hll((inner + half)[:, :-1], (inner - half)[:, 1:], g)
    return -(flux[:, 1:] - flux[:, :-1]) / dx


def rate(q: jax.Array, g: float, dx: float) -> jax.Array:
    """dq/dt of the cell averages q [3, n, n] of h, hu, hv."""
    turned = q[jnp.array([0, 2, 1])].swapaxes(1, 2)
    return along(q, g, dx) + along(turned, g, dx).swapaxes(1, 2)[jnp.array([0, 2, 1])]


def solve(h: jax.Array, g: float, highest: float, step: float, count: int) -> jax.Array:
    """Frames from heights h [n, n] <= highest on the square, at rest.

    Returns:
      [count + 1, 3, n, n] of h, hu, hv, `step` apart in time.
    """
    dx = (UPPER - LOWER) / h.shape[-1]
    substeps = math.ceil(step * 2 * math.sqrt(g * highest) / (CFL * dx))
    dt = step / substeps

    def one(_, q):
        half = q + dt * rate(q, g, dx)
        return 0.5 * (q + half + dt * rate(half, g, dx))

    return frames(lambda q: jax.lax.fori_loop(0, substeps, one, q), jnp.stack([h, 0 * h, 0 * h]), count)


def dam(key, points, inner_height):
    """h at t=0, [points, points]."""
    x = jnp.asarray(centres(LOWER, UPPER, points))
    radius = jax.random.uniform(key, minval=0.3, maxval=0.7)
    return jnp.where(jnp.hypot(x[:, None], x) <= radius, inner_height, 1.0)


def example(key, points, parameters):
    """{dataset: array} of one example, see `task.Task`."""
    h = dam(key, points, parameters['inner_height'])
    q = solve(h, parameters['gravity'], max(parameters['inner_height'], 1.0), STEP, round(END / STEP))
    return {'data': q[:, 0, ..., None]}


def check(points, parameters):
    """Raises UserError where these cannot be solved."""
    if not 0.5 <= parameters['inner_height'] <= 4:
        raise UserError(f'--parameter inner_height={parameters["inner_height"]:g}: 0.5 to 4 (beyond, ground may fall '
                        'dry, for which the scheme is not made)')


TASK = Task(
    name='shallow_water', equation='shallow water in 2D, round dam break, open boundaries',
    parameters={'gravity': 1.0, 'inner_height': 2.0}, example=example,
    coordinates=lambda points, _: {'grid/x': centres(LOWER, UPPER, points), 'grid/y': centres(LOWER, UPPER, points),
                                   'grid/t': times(END, STEP)},
    layout=GROUPS, file='2D_rdb_NA_NA.h5', attributes={},
    resolution=64, official=128, examples=1000, batch=4, seconds=50, official_seconds=400,
    shape=lambda points: {'data': (101, points, points, 1)}, check=check)
