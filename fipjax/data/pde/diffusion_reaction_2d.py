"""FitzHugh-Nagumo reaction and diffusion (PDEBench, appendix D) on (-1, 1)^2, no flux through the walls.

    u_t = Du laplace(u) + u - u^3 - k - v
    v_t = Dv laplace(v) + u - v,          t in [0, 5]

Initial condition: u and v are independent standard normal numbers in every cell, so it changes with the resolution.
Space: finite volumes with the five-point Laplacian, as PDEBench's code: of white noise, there is nothing to be accurate
about beyond it. Time: the classical Runge-Kutta method of order 4, in steps that the reaction needs up to 64 points a
side, and diffusion beyond. PDEBench: SciPy's RK45, tolerance 1e-3. Stored at [t, y, x, (u, v)].
"""
from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from fipjax.data.pde.fields import centres, times
from fipjax.data.pde.integrate import frames, lawson
from fipjax.data.pde.task import GROUPS, Task

END, STEP = 5.0, 0.05
LOWER, UPPER = -1.0, 1.0
LONGEST = 0.0125  # step: |u| < 5 at first, and -3 u^2 is the fastest rate
RESOLVED = 1.0  # step times fastest rate of diffusion, which white noise is full of; stable to 2.78


def reaction(u: jax.Array, v: jax.Array, k: float) -> jax.Array:
    """[2, ...] rates of u and v without diffusion."""
    return jnp.stack([u - u ** 3 - k - v, u - v])


def laplace(w: jax.Array, dx: float) -> jax.Array:
    """Five-point Laplacian over the last two axes of cell averages, without flux through the walls."""
    wide = jnp.pad(w, [(0, 0)] * (w.ndim - 2) + [(1, 1), (1, 1)], mode='edge')
    around = wide[..., 2:, 1:-1] + wide[..., :-2, 1:-1] + wide[..., 1:-1, 2:] + wide[..., 1:-1, :-2]
    return (around - 4 * w) / dx ** 2


def solve(uv: jax.Array, parameters, step: float, count: int, longest: float = LONGEST) -> jax.Array:
    """[count + 1, 2, n, n]: frames from the fields u, v [2, n, n], `step` apart in time."""
    dx = (UPPER - LOWER) / uv.shape[-1]
    fastest = 8 * max(parameters['Du'], parameters['Dv']) / dx ** 2
    substeps = math.ceil(step * max(1 / longest, fastest / RESOLVED) - 1e-9)
    spread = jnp.array([parameters['Du'], parameters['Dv']])[:, None, None]

    def rate(w):
        return spread * laplace(w, dx) + reaction(*w, parameters['k'])

    return frames(lambda w: lawson(rate, jnp.zeros(()), w, step / substeps, substeps), uv, count)


def example(key, points, parameters):
    """{dataset: array} of one example, see `task.Task`."""
    uv = jax.random.normal(key, (2, points, points))
    return {'data': jnp.moveaxis(solve(uv, parameters, STEP, round(END / STEP)), 1, -1)}


TASK = Task(
    name='diffusion_reaction_2d', equation='FitzHugh-Nagumo: u_t = Du lap u + u - u^3 - k - v, v_t = Dv lap v + u - v',
    parameters={'Du': 1e-3, 'Dv': 5e-3, 'k': 5e-3}, example=example,
    coordinates=lambda points, _: {'grid/x': centres(LOWER, UPPER, points), 'grid/y': centres(LOWER, UPPER, points),
                                   'grid/t': times(END, STEP)},
    layout=GROUPS, file='2D_diff-react_NA_NA.h5', attributes={},
    resolution=64, official=128, examples=1000, batch=4, seconds=70, official_seconds=160,
    shape=lambda points: {'data': (101, points, points, 2)})
