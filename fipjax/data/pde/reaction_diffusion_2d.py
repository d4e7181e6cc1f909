"""FitzHugh-Nagumo reaction and diffusion in two dimensions (PDEBench, section D.9) on (-1, 1)^2, no flux through the walls.

    u_t = Du laplace(u) + u - u^3 - k - v
    v_t = Dv laplace(v) + u - v,          t in [0, 5]

Initial condition: u and v are independent standard normal numbers in every cell, so it changes with the resolution.
Space: the five-point Laplacian, as PDEBench's code: of white noise, there is nothing to be accurate about beyond it.
Cosine transforms diagonalise it with its no-flux walls. Time: diffusion exact, Runge-Kutta of order 4
(`integrate.lawson`). PDEBench: SciPy's RK45, tolerance 1e-3. Stored at [t, y, x, (u, v)].
"""
from __future__ import annotations

import jax
import jax.numpy as jnp
import jax.scipy.fft  # noqa: F401  not part of `import jax`

from fipjax.data.pde.fields import centres, times
from fipjax.data.pde.integrate import frames, lawson
from fipjax.data.pde.task import GROUPS, Task

END, STEP = 5.0, 0.05
LOWER, UPPER = -1.0, 1.0
SUBSTEPS = 4  # |u| < 5 at first, and -3 u^2 is the fastest rate


def reaction(u: jax.Array, v: jax.Array, k: float) -> jax.Array:
    """[2, ...] rates of u and v without diffusion."""
    return jnp.stack([u - u ** 3 - k - v, u - v])


def solve(uv: jax.Array, parameters, step: float, count: int, substeps: int = SUBSTEPS) -> jax.Array:
    """[count + 1, 2, n, n]: frames from the fields u, v [2, n, n], `step` apart in time."""
    n = uv.shape[-1]
    dx = (UPPER - LOWER) / n
    one = -(2 / dx * jnp.sin(0.5 * jnp.pi * jnp.arange(n) / n)) ** 2
    decay = jnp.array([parameters['Du'], parameters['Dv']])[:, None, None] * (one + one[:, None])

    def cosine(w):
        return jax.scipy.fft.dctn(w, axes=(1, 2), norm='ortho')

    def back(w):
        return jax.scipy.fft.idctn(w, axes=(1, 2), norm='ortho')

    def rate(w):
        return cosine(reaction(*back(w), parameters['k']))

    return frames(lambda w: lawson(rate, decay, w, step / substeps, substeps), cosine(uv), count, back)


def example(key, points, parameters):
    uv = jax.random.normal(key, (2, points, points))
    return {'data': jnp.moveaxis(solve(uv, parameters, STEP, round(END / STEP)), 1, -1)}


TASK = Task(
    name='reaction_diffusion_2d', equation='FitzHugh-Nagumo: u_t = Du lap u + u - u^3 - k - v, v_t = Dv lap v + u - v',
    parameters={'Du': 1e-3, 'Dv': 5e-3, 'k': 5e-3}, example=example,
    coordinates=lambda points, _: {'grid/x': centres(LOWER, UPPER, points), 'grid/y': centres(LOWER, UPPER, points),
                                   'grid/t': times(END, STEP)},
    layout=GROUPS, file='2D_diff-react_NA_NA.h5', attributes={},
    resolution=64, official=128, examples=1000, batch=4, seconds=20, official_seconds=200,
    shape=lambda points: {'data': (101, points, points, 2)})
