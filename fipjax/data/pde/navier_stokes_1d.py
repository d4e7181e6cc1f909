"""Compressible Navier-Stokes equations in one dimension (PDEBench, appendix D) on (-1, 1), periodic, t in [0, 1].

    rho_t + (rho v)_x = 0
    (rho v)_t + (rho v^2 + p - tau)_x = 0
    E_t + ((E + p) v - v tau)_x = 0,     E = p / (GAMMA - 1) + rho v^2 / 2,   GAMMA = 5/3
    tau = mu rho v_x,                    mu = 4/3 eta + zeta

There is no conduction of heat, and viscosity is proportional to density: so PDEBench's code, which calls it not
realistic but fast. Initial conditions: density, pressure and velocity are `fields.waves` of 3 wave numbers, windowed
with probability 0.5; density is scaled to m unit(u) + b with m and b log-uniform in (1, 10), pressure in (10, 100).
Scheme: finite volumes of order 2 in space (limited slopes of rho, v, p; HLLC flux: E. F. Toro, M. Spruce and
W. Speares, Shock Waves 4, 1994; central viscous flux) and in time (Heun's method). Steps follow the fastest signal
and the viscous limit, which goes with the square of the cell: with eta = zeta = 0.1 it rules beyond 100 points,
and 1024 points take some 130,000 steps.
Mass, momentum and energy are conserved to rounding.
"""
from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from fipjax.data.pde.fields import centres, times, unit, waves
from fipjax.data.pde.integrate import frames, slopes
from fipjax.data.pde.task import SINGLE, Task

END, STEP = 1.0, 0.01
LOWER, UPPER = -1.0, 1.0
GAMMA = 5 / 3
CFL = 0.4


def conserved(w: jax.Array) -> jax.Array:
    """[3, ...] density, momentum, energy from density, velocity, pressure."""
    density, velocity, pressure = w
    return jnp.stack([density, density * velocity, pressure / (GAMMA - 1) + 0.5 * density * velocity ** 2])


def primitive(q: jax.Array) -> jax.Array:
    """The inverse of `conserved`."""
    density, momentum, energy = q
    velocity = momentum / density
    return jnp.stack([density, velocity, (GAMMA - 1) * (energy - 0.5 * momentum * velocity)])


def hllc(left: jax.Array, right: jax.Array) -> jax.Array:
    """[3, ...] fluxes of mass, momentum, energy between the states `left` and `right` of density, velocity, pressure.

    Toro, "Riemann Solvers and Numerical Methods for Fluid Dynamics", section 10.4; the outer speeds are Davis's.
    """
    c_left, c_right = (jnp.sqrt(GAMMA * w[2] / w[0]) for w in (left, right))
    slow = jnp.minimum(left[1] - c_left, right[1] - c_right)
    fast = jnp.maximum(left[1] + c_left, right[1] + c_right)
    m_left, m_right = left[0] * (slow - left[1]), right[0] * (fast - right[1])
    contact = (right[2] - left[2] + m_left * left[1] - m_right * right[1]) / (m_left - m_right)

    def side(w, outer, mass):
        """Flux beyond the outer wave, and between it and the contact."""
        density, velocity, pressure = w
        q = conserved(w)
        flux = jnp.stack([q[1], q[1] * velocity + pressure, (q[2] + pressure) * velocity])
        between = mass / (outer - contact) * jnp.stack([
            jnp.ones_like(contact), contact, q[2] / density + (contact - velocity) * (contact + pressure / mass)])
        return flux, flux + outer * (between - q)

    (f_left, f_left_star), (f_right, f_right_star) = side(left, slow, m_left), side(right, fast, m_right)
    return jnp.where(slow >= 0, f_left, jnp.where(contact >= 0, f_left_star,
                                                  jnp.where(fast > 0, f_right_star, f_right)))


def rate(q: jax.Array, mu: float, dx: float) -> jax.Array:
    """dq/dt of the conserved cell averages q [3, points]."""
    w = primitive(q)
    before, after = jnp.roll(w, 1, -1), jnp.roll(w, -1, -1)
    half = 0.5 * slopes(before, w, after)
    safe = ((w - jnp.abs(half))[jnp.array([0, 2])] > 0).all(0)  # density and pressure stay positive at the faces
    half = jnp.where(safe, half, 0.0)
    flux = hllc(w + half, jnp.roll(w - half, -1, -1))  # at the right face of each cell
    tau = mu * 0.5 * (w[0] + after[0]) * (after[1] - w[1]) / dx
    flux = flux - jnp.stack([jnp.zeros_like(tau), tau, tau * 0.5 * (w[1] + after[1])])
    return -(flux - jnp.roll(flux, 1, -1)) / dx


def solve(w: jax.Array, mu: float, step: float, count: int, length: float = UPPER - LOWER) -> jax.Array:
    """Frames from density, velocity, pressure w [3, points] on a periodic interval of that length.

    Returns:
      [count + 1, 3, points], `step` apart in time.
    """
    dx = length / w.shape[-1]

    def one(carry):
        q, rest = carry
        density, velocity, pressure = primitive(q)
        speed = (jnp.abs(velocity) + jnp.sqrt(GAMMA * pressure / density)).max()
        limit = CFL / (speed / dx + 2 * mu / dx ** 2)
        dt = rest / jnp.ceil(rest / limit)
        half = q + dt * rate(q, mu, dx)
        return 0.5 * (q + half + dt * rate(half, mu, dx)), rest - dt

    def frame(q):
        return jax.lax.while_loop(lambda carry: carry[1] > 1e-9 * step, one, (q, jnp.asarray(step, q.dtype)))[0]

    return frames(frame, conserved(w), count, primitive)


def example(key, points, parameters):
    """{dataset: array} of one example, see `task.Task`."""
    x = jnp.asarray(centres(LOWER, UPPER, points))
    keys = jax.random.split(key, 4)
    density, pressure, velocity = (waves(k, x, UPPER - LOWER, modes=3, window=0.5) for k in keys[:3])
    scale = jnp.exp(math.log(10) * jax.random.uniform(keys[3], (4,)))
    density = scale[0] * unit(density) + scale[1]
    pressure = 10 * (scale[2] * unit(pressure) + scale[3])
    mu = 4 / 3 * parameters['eta'] + parameters['zeta']
    w = solve(jnp.stack([density, velocity, pressure]), mu, STEP, round(END / STEP))
    return {'density': w[:, 0], 'pressure': w[:, 2], 'Vx': w[:, 1]}


TASK = Task(
    name='navier_stokes_1d', equation='compressible Navier-Stokes in 1D, GAMMA = 5/3, periodic',
    parameters={'eta': 0.1, 'zeta': 0.1}, example=example,
    coordinates=lambda points, _: {'x-coordinate': centres(LOWER, UPPER, points), 't-coordinate': times(END, STEP, 1)},
    layout=SINGLE, file='1D_CFD_Rand_Eta{eta}_Zeta{zeta}_periodic_Train.hdf5',
    attributes={'eta': 'eta', 'zeta': 'zeta'},
    resolution=128, official=1024, examples=10000, batch=16, seconds=13, official_seconds=18000,
    shape=lambda points: {'density': (101, points), 'pressure': (101, points), 'Vx': (101, points)})
