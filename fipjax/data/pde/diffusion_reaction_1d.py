"""Reaction and diffusion in one dimension (PDEBench, appendix D):  u_t = nu u_xx + rho u (1 - u)  on (0, 1), periodic,
t in [0, 1].

Initial condition: `fields.waves`, scaled to [0, 1]. Scheme: Strang splitting, order 2 in time: half a step of the
logistic equation in closed form, a step of diffusion exact in Fourier space, half a step of the logistic equation.
Both parts keep [0, 1] where diffusion is resolved. PDEBench splits likewise, with explicit diffusion of order 2.
ORCA's task, u0 -> u(t = 0.29): measured on 256 examples at 256 points, the constant that logistic growth makes of the
mean of u0 has an nRMSE of 0.0017.
"""
from __future__ import annotations

import jax
import jax.numpy as jnp

from fipjax.data.pde.fields import centres, times, unit, waves
from fipjax.data.pde.integrate import frames
from fipjax.data.pde.task import SINGLE, Task

END, STEP, SUBSTEPS = 1.0, 0.01, 20


def logistic(u: jax.Array, amount: float) -> jax.Array:
    """u after u' = u (1 - u) for the time `amount`."""
    growth = jnp.exp(amount)
    return u * growth / (1 + u * (growth - 1))


def solve(u: jax.Array, nu: float, rho: float, step: float, count: int, substeps: int = SUBSTEPS) -> jax.Array:
    """[count + 1, points]: frames from the field u [points] on (0, 1), `step` apart in time."""
    points, dt = u.shape[-1], step / substeps
    decay = jnp.exp(-nu * dt * (2 * jnp.pi * jnp.arange(points // 2 + 1)) ** 2)

    def one(_, u):
        u = logistic(u, 0.5 * rho * dt)
        u = jnp.fft.irfft(decay * jnp.fft.rfft(u), points)
        return logistic(u, 0.5 * rho * dt)

    return frames(lambda u: jax.lax.fori_loop(0, substeps, one, u), u, count)


def example(key, points, parameters):
    """{dataset: array} of one example, see `task.Task`."""
    u = unit(waves(key, jnp.asarray(centres(0, 1, points))))
    return {'tensor': solve(u, parameters['nu'], parameters['rho'], STEP, round(END / STEP))}


TASK = Task(
    name='diffusion_reaction_1d', equation='u_t = nu u_xx + rho u (1 - u), periodic',
    parameters={'nu': 0.5, 'rho': 1.0}, example=example,
    coordinates=lambda points, _: {'x-coordinate': centres(0, 1, points), 't-coordinate': times(END, STEP, 1)},
    layout=SINGLE, file='ReacDiff_Nu{nu}_Rho{rho}.hdf5', attributes={'Nu': 'nu', 'rho': 'rho'},
    resolution=256, official=1024, examples=10000, batch=16, seconds=2, official_seconds=2,
    shape=lambda points: {'tensor': (101, points)})
