"""Linear advection (PDEBench, appendix D):  u_t + beta u_x = 0  on (0, 1), periodic, t in [0, 2].

Initial condition: `fields.waves`. The solution is u0(x - beta t), evaluated as a formula, so there is no scheme and no
error; PDEBench marches a limited finite-volume scheme of order 2. Values are at cell centres. PDEBench's files
before August 2023 move at 2 beta (its issue 46); this one moves at beta.
"""
from __future__ import annotations

import jax
import jax.numpy as jnp

from fipjax.data.pde.fields import centres, times, waves
from fipjax.data.pde.task import SINGLE, Task

END, STEP = 2.0, 0.01


def solve(initial, x: jax.Array, t: jax.Array, beta: float) -> jax.Array:
    """[len(t), len(x)]: the function `initial` of x in (0, 1), carried along for the times t."""
    return initial(jnp.mod(x - beta * t[:, None], 1.0))


def example(key, points, parameters):
    """{dataset: array} of one example, see `task.Task`."""
    x, t = jnp.asarray(centres(0, 1, points)), jnp.asarray(times(END, STEP))
    return {'tensor': solve(lambda at: waves(key, at), x, t, parameters['beta'])}


TASK = Task(
    name='advection', equation='u_t + beta u_x = 0, periodic', parameters={'beta': 0.4}, example=example,
    coordinates=lambda points, _: {'x-coordinate': centres(0, 1, points), 't-coordinate': times(END, STEP, 1)},
    layout=SINGLE, file='1D_Advection_Sols_beta{beta}.hdf5', attributes={'beta': 'beta'},
    resolution=256, official=1024, examples=10000, batch=16, seconds=2, official_seconds=4,
    shape=lambda points: {'tensor': (201, points)})
