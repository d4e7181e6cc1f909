"""fipjax/data/pde/navier_stokes_1d.py against exact flows and SciPy, and what it conserves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pde_checks import far, orders, peers
from scipy.optimize import brentq

from fipjax.data.pde import fields, navier_stokes_1d

pytestmark = pytest.mark.usefixtures('float64')


def entropy_wave(points, t):
    """Cell averages on (-1, 1) of the density 1 + 0.2 sin(pi (x - t)), which velocity 1 and pressure 1 carry along."""
    x = np.linspace(-1, 1, points + 1)
    return np.diff(x - 0.2 / np.pi * np.cos(np.pi * (x - t))) * points / 2


def compressible(w, mu, end, frames=1):
    return np.asarray(navier_stokes_1d.solve(jnp.asarray(w), mu, end / frames, frames))


def test_a_wave_of_density_is_carried_in_order_two():
    errors = [np.abs(compressible([entropy_wave(n, 0), np.ones(n), np.ones(n)], 0.0, 0.5)[-1, 0]
                     - entropy_wave(n, 0.5)).mean() for n in (16, 32, 64)]
    assert np.all(orders(errors) > 1.7) and errors[-1] < 5e-4, errors


def test_viscous_sound_equals_fourier_and_scipy():
    """Fields of all three kinds; both viscous terms matter at this mu."""
    errors = []
    for n in (32, 64):
        x = fields.centres(-1, 1, n)
        w = np.stack([2 + 0.3 * np.sin(np.pi * x), 0.4 * np.cos(np.pi * x), 3 + 0.5 * np.sin(2 * np.pi * x)])
        q = np.asarray(navier_stokes_1d.conserved(w))
        exact = peers.march(peers.compressible(n, 0.2), q, [0.1], rtol=1e-7)[-1]
        mine = np.asarray(navier_stokes_1d.conserved(compressible(w, 0.2, 0.1)[-1]))
        errors.append([far(a, b) for a, b in zip(mine, exact)])
        calm = np.asarray(navier_stokes_1d.conserved(compressible(w, 0.0, 0.1)[-1]))
        assert far(calm[1], exact[1]) > 10 * errors[-1][1]  # without viscosity it is another field
    errors = np.array(errors)
    assert np.all(errors[0] / errors[1] > 2.7) and errors[1].max() < 1e-3, errors  # 4 but for clipped extrema


def test_mass_momentum_and_energy_are_conserved():
    found = navier_stokes_1d.example(jax.random.key(4), 16, {'eta': 0.1, 'zeta': 0.1})
    w = np.stack([found['density'], found['Vx'], found['pressure']])
    total = np.asarray(navier_stokes_1d.conserved(w)).sum(-1)
    np.testing.assert_allclose(total, np.repeat(total[:, :1], 101, 1), rtol=1e-11, atol=1e-11)
    assert w[0].min() > 0 and w[2].min() > 0
    assert 1 <= w[0, 0].min() and w[0, 0].max() <= 20 and 10 <= w[2, 0].min() and w[2, 0].max() <= 200


def shock_tube(xi, left, right, gamma=5 / 3):
    """Density, velocity, pressure at x / t = xi: a rarefaction to the left, a shock to the right (Toro, chapter 4)."""
    (dl, ul, pl), (dr, ur, pr) = left, right
    cl = np.sqrt(gamma * pl / dl)

    def after(p):
        """Velocities behind the rarefaction and behind the shock at pressure p."""
        fan = ul - 2 * cl / (gamma - 1) * ((p / pl) ** ((gamma - 1) / (2 * gamma)) - 1)
        return fan, ur + (p - pr) * np.sqrt(2 / dr / ((gamma + 1) * p + (gamma - 1) * pr))

    p = brentq(lambda p: np.subtract(*after(p)), pr, pl)
    u = after(p)[1]
    d_fan = dl * (p / pl) ** (1 / gamma)
    ratio = (gamma - 1) / (gamma + 1)
    d_shock = dr * (p / pr + ratio) / (ratio * p / pr + 1)
    shock = (d_shock * u - dr * ur) / (d_shock - dr)
    v = 2 / (gamma + 1) * (cl + (gamma - 1) / 2 * ul + xi)
    c = v - xi
    inside = np.stack([dl * (c / cl) ** (2 / (gamma - 1)), v, pl * (c / cl) ** (2 * gamma / (gamma - 1))])
    states = [np.array(left)[:, None], inside, np.array([d_fan, u, p])[:, None], np.array([d_shock, u, p])[:, None],
              np.array(right)[:, None]]
    where = np.digitize(xi, [ul - cl, u - np.sqrt(gamma * p / d_fan), u, shock])
    return np.select([where == i for i in range(5)], [np.broadcast_to(s, (3, len(xi))) for s in states])


def test_a_shock_tube_equals_the_exact_solution():
    """Sod's states: high pressure in the middle of the interval, so that both ends of it make a tube."""
    errors = []
    for n in (64, 256):
        x = fields.centres(-1, 1, n)
        w = np.where(np.abs(x) < 0.5, np.array([1.0, 0.0, 1.0])[:, None], np.array([0.125, 0.0, 0.1])[:, None])
        found = compressible(w, 0.0, 0.15)[-1]
        part = x > 0  # the right tube; nothing has come from the left one
        exact = shock_tube((x[part] - 0.5) / 0.15, (1.0, 0.0, 1.0), (0.125, 0.0, 0.1))
        errors.append(np.abs(found[:, part] - exact).mean(1))
        np.testing.assert_allclose(found[0], found[0, ::-1], atol=1e-12)
    assert errors[1].max() < 0.01 and np.all(errors[0] / errors[1] > 2.3), errors


def test_hllc_is_consistent_and_upwind():
    w = jnp.array([1.3, 0.2, 2.0])[:, None]
    energy = 2.0 / (2 / 3) + 0.5 * 1.3 * 0.04
    np.testing.assert_allclose(navier_stokes_1d.hllc(w, w)[:, 0], [0.26, 0.052 + 2, (energy + 2) * 0.2], rtol=1e-12)
    fast, faster = jnp.array([1.0, 5.0, 1.0])[:, None], jnp.array([2.0, 6.0, 3.0])[:, None]
    np.testing.assert_allclose(navier_stokes_1d.hllc(fast, faster), navier_stokes_1d.hllc(fast, fast))
    mirror = jnp.array([1.0, -1.0, 1.0])[:, None]
    np.testing.assert_allclose(navier_stokes_1d.hllc(faster * mirror, fast * mirror),
                               navier_stokes_1d.hllc(fast, faster) * -mirror)
    contact = jnp.array([[1.0, 9.0], [0.5, 0.5], [2.0, 2.0]])  # moves right: density of the left
    np.testing.assert_allclose(navier_stokes_1d.hllc(contact[:, :1], contact[:, 1:])[0, 0], 0.5, rtol=1e-12)
