"""fipjax/data/pde/diffusion_reaction_1d.py against closed forms and SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pde_checks import far, orders, peers

from fipjax.data.pde import diffusion_reaction_1d, fields

pytestmark = pytest.mark.usefixtures('float64')


def test_diffusion_reaction_1d_is_exact_without_diffusion_or_shape():
    u = np.asarray(diffusion_reaction_1d.solve(jnp.full(16, 0.2), 0.5, 3.0, 0.1, 2))
    for frame, t in enumerate((0, 0.1, 0.2)):
        np.testing.assert_allclose(u[frame], 0.2 / (0.2 + 0.8 * np.exp(-3 * t)), rtol=1e-12)
    ends = diffusion_reaction_1d.logistic(jnp.array([0.0, 1.0]), 2.0)
    np.testing.assert_array_equal(ends, [0, 1])


def test_diffusion_reaction_1d_equals_scipy_in_order_two():
    start = np.asarray(fields.unit(fields.waves(jax.random.key(3), jnp.asarray(fields.centres(0, 1, 32)), window=0.0)))
    exact = peers.march(peers.diffusion_reaction_1d(32, 0.1, 5.0), start, [0.1, 0.2])
    errors = [far(diffusion_reaction_1d.solve(jnp.asarray(start), 0.1, 5.0, 0.1, 2, n)[1:], exact)
              for n in (10, 20, 40)]
    assert np.all(np.abs(orders(errors) - 2) < 0.1) and errors[-1] < 1e-4
    assert far(diffusion_reaction_1d.solve(jnp.asarray(start), 0.1, 5.0, 0.01, 20)[10::10], exact) < 1e-5
