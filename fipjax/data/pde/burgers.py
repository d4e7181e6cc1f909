"""Burgers' equation (PDEBench, appendix D):  u_t + (u^2 / 2)_x = (nu / pi) u_xx  on (0, 1), periodic, t in [0, 2].

Initial condition: `fields.waves`, so |u| <= 4. Scheme: Fourier, products without aliasing (2/3 rule), diffusion exact,
Runge-Kutta of order 4 (`integrate.lawson`). PDEBench marches a limited finite-volume scheme of order 2. Its files
before November 2023 were computed on (-1, 1) with twice the flux (its issue 51); this is today's form.
A Fourier scheme needs the shock resolved: thickness (nu / pi) / |u| against the cell. The grid of the solver is
the asked one, or that refined by a power of 2 to FEWEST and to 2 pi / nu points or more; MOST of them are the limit,
so nu >= 0.001, PDEBench's smallest, is allowed.
ORCA's task, u0 -> u(t = 2) at nu = 1: measured on 16 examples at 256 points, the target is a constant to the last
digit of float32, the mean of u0.
"""
from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from fipjax.data.pde.fields import centres, times, waves
from fipjax.data.pde.integrate import frames, lawson
from fipjax.data.pde.task import SINGLE, Task
from fipjax.errors import UserError

END, STEP = 2.0, 0.01
LARGEST = 4.0  # |u|, kept by the maximum principle
FEWEST, MOST = 128, 8192  # points of the solver


def refinement(points: int, nu: float) -> int:
    """Power of 2 by which the solver's grid is finer than the asked one.

    A jump of 4 makes a shock of thickness nu / pi, which then is two cells or more; most jumps are smaller.
    """
    needed = max(FEWEST, 2 * math.pi / nu)
    return 2 ** max(0, math.ceil(math.log2(needed / points)))


def solve(u: jax.Array, nu: float, step: float, count: int) -> jax.Array:
    """Frames from the field u [points] at the `points` of a uniform grid on (0, 1).

    Returns:
      [count + 1, points], `step` apart in time.
    """
    points = u.shape[-1]
    wave = jnp.arange(points // 2 + 1)
    k = 2 * jnp.pi * wave
    kept = wave < points / 3  # of a product of two kept waves, no alias falls on a kept wave
    substeps = math.ceil(step * LARGEST * points / 0.5)  # stable up to 1.35

    def rate(v):
        u = jnp.fft.irfft(jnp.where(kept, v, 0), points)
        return jnp.where(kept, -0.5j * k * jnp.fft.rfft(u * u), 0)

    decay = -nu / jnp.pi * k ** 2
    return frames(lambda v: lawson(rate, decay, v, step / substeps, substeps), jnp.fft.rfft(u), count,
                  lambda v: jnp.fft.irfft(v, points))


def example(key, points, parameters):
    """{dataset: array} of one example, see `task.Task`."""
    finer = refinement(points, parameters['nu'])
    # Every `finer`-th point of the solver's grid is a centre of the asked one.
    x = jnp.mod(0.5 / points + jnp.arange(points * finer) / (points * finer), 1.0)
    u = solve(waves(key, x), parameters['nu'], STEP, round(END / STEP))
    return {'tensor': u[:, ::finer]}


def check(points, parameters):
    """Raises UserError where these cannot be solved."""
    if points * refinement(points, parameters['nu']) > MOST:
        raise UserError(f'--parameter nu={parameters["nu"]:g}: shocks of burgers then need a grid of more than {MOST} '
                        f'points; the smallest nu is {2 * math.pi / MOST:.2g}')


TASK = Task(
    name='burgers', equation='u_t + (u^2/2)_x = (nu/pi) u_xx, periodic', parameters={'nu': 1.0}, example=example,
    coordinates=lambda points, _: {'x-coordinate': centres(0, 1, points), 't-coordinate': times(END, STEP, 1)},
    layout=SINGLE, file='1D_Burgers_Sols_Nu{nu}.hdf5', attributes={'Nu': 'nu'},
    resolution=256, official=1024, examples=10000, batch=16, seconds=12, official_seconds=50,
    shape=lambda points: {'tensor': (201, points)}, check=check)
