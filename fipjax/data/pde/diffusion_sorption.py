"""Diffusion with sorption (PDEBench, appendix D):  R(u) u_t = D u_xx  on (0, 1), t in [0, 500].

    R(u) = 1 + c n_f (u + 1e-6)^(n_f - 1),   c = (1 - porosity) / porosity rho_s k_f   (Freundlich)
    u(0) = 1,   u(1) = -D u_x(1)

Initial condition: a constant, uniform in (0, 0.2).
With F(u) = u + c (u + 1e-6)^n_f, whose derivative is R, the equation is the conservation law F(u)_t = (D u_x)_x.
Scheme: finite volumes of order 2 with both conditions at the walls (PDEBench's code has them half a cell outside), and
in time the L-stable diagonally implicit Runge-Kutta method of two stages and order 2 (R. Alexander, SIAM J. Numer.
Anal. 14, 1977) with Newton's method and tridiagonal solves, so that F is conserved to the Newton tolerance. In
the first frame the steps grow from the jump at x = 0, t = 0. PDEBench: SciPy's RK45, tolerance 1e-3.
The config of PDEBench asks for 501 frames; its file has 101, 5 apart, which is what is written here.
ORCA's task, u0 -> u(t = 500): u0 is one number. Measured at 256 points, polynomials of degree 4 in sqrt(u0), fitted
to 96 examples, have an nRMSE of 1.7e-5 on 32 others.
"""
from __future__ import annotations

import jax
import jax.numpy as jnp

from fipjax.data.pde.fields import centres, times
from fipjax.data.pde.task import GROUPS, Task

END, STEP = 500.0, 5.0
SUBSTEPS, FIRST = 4, 32  # steps of a frame, and of the first one
NEWTON = 4


def sorbed(parameters) -> float:
    """c of the module's equations."""
    return (1 - parameters['porosity']) / parameters['porosity'] * parameters['rho_s'] * parameters['k_f']


def stored(u: jax.Array, parameters) -> jax.Array:
    """F(u), what is conserved, by cell; a straight line below u = 0, where rounding may lead."""
    above = jnp.maximum(u, 0.0)
    return above + sorbed(parameters) * (above + 1e-6) ** parameters['n_f'] + \
        retardation(jnp.zeros_like(u), parameters) * (u - above)


def retardation(u: jax.Array, parameters) -> jax.Array:
    """R(u)."""
    n_f = parameters['n_f']
    return 1 + sorbed(parameters) * n_f * (jnp.maximum(u, 0.0) + 1e-6) ** (n_f - 1)


def fluxes(u: jax.Array, D: float) -> jax.Array:
    """[points + 1]: D u_x at the faces of the cells of u [points], both walls included."""
    dx = 1 / u.shape[-1]
    left = D * (u[0] - 1) / (0.5 * dx)
    right = -u[-1] / (1 + 0.5 * dx / D)  # D u_x = -wall, and D (wall - u) / (dx / 2) = -wall
    return jnp.concatenate([left[None], D * (u[1:] - u[:-1]) / dx, right[None]])


def solve(u: jax.Array, parameters, step: float, count: int, substeps: int = SUBSTEPS, first: int = FIRST) -> jax.Array:
    """[count + 1, points]: frames from the field u [points], `step` apart in time."""
    points, D = u.shape[-1], parameters['D']
    dx = 1 / points
    gamma = 1 - 0.5 ** 0.5
    diagonal = jnp.full(points, 2 * D / dx ** 2)  # of -d(rate)/du
    diagonal = diagonal.at[0].set(3 * D / dx ** 2).at[-1].set(D / dx ** 2 + 1 / (dx + 0.5 * dx ** 2 / D))
    off = jnp.full(points, -D / dx ** 2)
    lower, upper = off.at[0].set(0.0), off.at[-1].set(0.0)

    def rate(u):
        return jnp.diff(fluxes(u, D)) / dx

    def stage(target, u, h):
        """The U with F(U) - h rate(U) = target, by Newton's method from u."""
        def newton(_, u):
            miss = stored(u, parameters) - h * rate(u) - target
            change = jax.lax.linalg.tridiagonal_solve(h * lower, retardation(u, parameters) + h * diagonal, h * upper,
                                                      miss[:, None])[:, 0]
            return u - change
        return jax.lax.fori_loop(0, NEWTON, newton, u)

    def one(u, dt):
        base = stored(u, parameters)
        middle = stage(base, u, gamma * dt)
        last = stage(base + (1 - gamma) * dt * rate(middle), middle, gamma * dt)
        return last, None

    graded = step * jnp.diff((jnp.arange(first + 1) / first) ** 3)
    sizes = jnp.full(substeps, step / substeps)
    begin, _ = jax.lax.scan(one, u, graded)

    def frame(u, _):
        u, _ = jax.lax.scan(one, u, sizes)
        return u, u

    _, rest = jax.lax.scan(frame, begin, length=count - 1)
    return jnp.concatenate([u[None], begin[None], rest])


def example(key, points, parameters):
    """{dataset: array} of one example, see `task.Task`."""
    u = jnp.full(points, 0.2 * jax.random.uniform(key))
    return {'data': solve(u, parameters, STEP, round(END / STEP))[..., None]}


TASK = Task(
    name='diffusion_sorption', equation='R(u) u_t = D u_xx with Freundlich sorption, u(0) = 1, u(1) = -D u_x(1)',
    parameters={'D': 5e-4, 'porosity': 0.29, 'rho_s': 2880.0, 'k_f': 3.5e-4, 'n_f': 0.874}, example=example,
    coordinates=lambda points, _: {'grid/x': centres(0, 1, points), 'grid/t': times(END, STEP)},
    layout=GROUPS, file='1D_diff-sorp_NA_NA.h5', attributes={},
    resolution=256, official=1024, examples=10000, batch=16, seconds=20, official_seconds=70,
    shape=lambda points: {'data': (101, points, 1)})
