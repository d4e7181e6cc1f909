"""fipjax/data/pde/burgers.py against the Cole-Hopf solution and SciPy, and what it conserves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pde_checks import far, peers

from fipjax.data.pde import burgers, fields
from fipjax.errors import UserError

pytestmark = pytest.mark.usefixtures('float64')


def cole_hopf(x, t, nu):
    """Burgers' solution with viscosity v = nu / pi from phi = 1 + a exp(-v k^2 t) cos(k x): u = -2 v phi_x / phi."""
    v, k, a = nu / np.pi, 2 * np.pi, 0.9
    size = a * np.exp(-v * k * k * t)
    return 2 * v * k * size * np.sin(k * x) / (1 + size * np.cos(k * x))


def test_burgers_equals_the_cole_hopf_solution():
    x = fields.centres(0, 1, 64)
    u = np.asarray(burgers.solve(jnp.asarray(cole_hopf(x, 0, 0.2)), 0.2, 0.1, 3))
    for frame, t in enumerate((0, 0.1, 0.2, 0.3)):
        np.testing.assert_allclose(u[frame], cole_hopf(x, t, 0.2), atol=2e-8)


def test_burgers_equals_scipy_and_conserves_the_mean():
    x = fields.centres(0, 1, 64)
    start = np.asarray(fields.waves(jax.random.key(3), jnp.asarray(x), window=0.0))
    u = np.asarray(burgers.solve(jnp.asarray(start), 0.1, 0.02, 2))
    assert far(u[1:], peers.march(peers.burgers(64, 0.1), start, [0.02, 0.04])) < 1e-6
    np.testing.assert_allclose(u.mean(1), u[0].mean(), atol=1e-13)
    energy = (u ** 2).sum(1)
    assert np.all(np.diff(energy) < 0)


def test_burgers_solves_on_a_finer_grid_where_shocks_need_one():
    assert burgers.refinement(128, 1.0) == 1 and burgers.refinement(16, 1.0) == 8
    assert burgers.refinement(1024, 0.001) == 8 and burgers.refinement(1024, 0.01) == 1
    key = jax.random.key(0)
    coarse, fine = (np.asarray(burgers.example(key, n, {'nu': 0.05})['tensor'])[20] for n in (16, 64))
    # The centres of 16 cells are among the faces of 64, so compare through the Fourier series of the fine one.
    modes = np.fft.rfft(fine) / 64
    x = fields.centres(0, 1, 16) - fields.centres(0, 1, 64)[0]
    again = np.real(modes[0] + 2 * (modes[1:-1] * np.exp(2j * np.pi * x[:, None] * np.arange(1, 32))).sum(1))
    np.testing.assert_allclose(coarse, again, atol=2e-3)
    burgers.check(1024, {'nu': 0.001})
    with pytest.raises(UserError, match='nu=0.0001: .* more than 8192'):
        burgers.check(1024, {'nu': 0.0001})
