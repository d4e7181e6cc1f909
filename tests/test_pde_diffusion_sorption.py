"""fipjax/data/pde/diffusion_sorption.py against SciPy, its steady state and its balance."""
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pde_checks import far, orders, peers
from scipy import integrate as quadrature

from fipjax.data.pde import diffusion_sorption, fields

pytestmark = pytest.mark.usefixtures('float64')


SORPTION = dict(diffusion_sorption.TASK.parameters)


@functools.cache
def sorption(points):
    """(times, SciPy's fields) from u = 0.1."""
    times = [5.0, 10.0, 50.0]
    return times, peers.march(peers.diffusion_sorption(points, **SORPTION), np.full(points, 0.1), times, 'BDF', 1e-10,
                              jac_sparsity=peers.tridiagonal(points))


def sorbing(points, frames, *steps):
    run = jax.jit(lambda u: diffusion_sorption.solve(u, SORPTION, 5.0, frames, *steps))
    return np.asarray(run(jnp.full(points, 0.1)))


def test_sorption_equals_scipy_in_order_two():
    times, exact = sorption(24)
    errors = np.array([[far(u[round(t / 5)], e) for t, e in zip(times, exact)]
                       for u in (sorbing(24, 10, n, 8 * n) for n in (2, 4, 8))])
    assert errors[1, 0] < 2e-4 and errors[1, 2] < 3e-5
    assert np.all(np.abs(orders(errors[:, 2]) - 2) < 0.2), errors


def test_sorption_balances_what_flows_in_with_what_is_stored():
    """d/dt sum F dx = flux(1) - flux(0), integrated by fine steps."""
    u = sorbing(24, 40, 32, 32)
    stored = np.asarray(diffusion_sorption.stored(jnp.asarray(u), SORPTION)).mean(1)
    flux = np.asarray(jax.vmap(lambda u: diffusion_sorption.fluxes(u, SORPTION['D']))(jnp.asarray(u)))
    inflow = flux[:, -1] - flux[:, 0]
    late = slice(20, 41)  # where the flux is smooth in time
    gained = quadrature.simpson(inflow[late], dx=5.0)
    assert gained == pytest.approx(stored[40] - stored[20], rel=1e-5)
    assert stored[40] > 1.05 * stored[20] and np.all(u > 0) and np.all(u < 1)


def test_sorption_comes_to_the_straight_line_between_its_walls():
    """Steady: u = 1 - s x with D s = 1 - s."""
    slope = 1 / (1 + SORPTION['D'])
    u = np.asarray(diffusion_sorption.solve(jnp.full(16, 0.1), SORPTION, 1e5, 4))[-1]
    np.testing.assert_allclose(u, 1 - slope * fields.centres(0, 1, 16), atol=1e-6)


def test_what_is_stored_has_the_retardation_as_its_derivative():
    u = jnp.array([-1e-3, 1e-4, 0.3])
    slope = jax.vmap(jax.grad(lambda u: diffusion_sorption.stored(u, SORPTION)))(u)
    np.testing.assert_allclose(slope, diffusion_sorption.retardation(u, SORPTION), rtol=1e-12)
