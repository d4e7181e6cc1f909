"""fipjax/data/pde/advection.py against its closed form."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fipjax.data.pde import advection, fields

pytestmark = pytest.mark.usefixtures('float64')


def test_advection_moves_at_beta():
    x = jnp.asarray(fields.centres(0, 1, 50))
    t = jnp.array([0.0, 0.5, 2.5])
    u = np.asarray(advection.solve(lambda x: jnp.exp(jnp.sin(2 * jnp.pi * x)), x, t, 0.4))
    np.testing.assert_allclose(u[1], np.roll(u[0], 10), rtol=1e-12)  # 0.2 is ten cells
    np.testing.assert_allclose(u[2], u[0], rtol=1e-12)  # once around
    example = advection.example(jax.random.key(1), 50, {'beta': 0.4})['tensor']
    assert example.shape == (201, 50)
    np.testing.assert_allclose(example[50], np.roll(example[0], 10), atol=1e-10)
