"""fipjax/data/pde/integrate.py against closed forms."""
import jax.numpy as jnp
import numpy as np
import pytest

from fipjax.data.pde import integrate

pytestmark = pytest.mark.usefixtures('float64')


def test_frames_are_the_state_and_what_follows():
    out = integrate.frames(lambda s: 2 * s, jnp.array([1.0, 3.0]), 3, lambda s: s + 0.5)
    np.testing.assert_allclose(out, [[1.5, 3.5], [2.5, 6.5], [4.5, 12.5], [8.5, 24.5]])


def test_lawson_is_of_order_four_and_not_limited_by_decay():
    """v' = d v - v^2 has the solution d / (1 - (1 - d / v0) exp(-d t))."""
    decay, start = jnp.array([-1.0, -3.0]), jnp.array([2.0, 1.5])
    exact = decay / (1 - (1 - decay / start) * jnp.exp(-decay))
    errors = [np.abs(integrate.lawson(lambda v: -v * v, decay, start, 1 / n, n) - exact).max() for n in (32, 64, 128)]
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert np.all((orders > 3.8) & (orders < 4.6)), orders
    stiff = integrate.lawson(lambda v: 0 * v, jnp.array([-1e6]), jnp.array([1.0]), 0.1, 3)
    assert stiff[0] == 0


def test_slopes():
    """Exact for straight lines, no more than twice either side, zero at extrema."""
    np.testing.assert_allclose(integrate.slopes(jnp.array(1.0), jnp.array(3.0), jnp.array(5.0)), 2)
    np.testing.assert_allclose(integrate.slopes(jnp.array(0.0), jnp.array(0.1), jnp.array(5.0)), 0.2)
    np.testing.assert_allclose(integrate.slopes(jnp.array(5.0), jnp.array(0.1), jnp.array(0.0)), -0.2)
    np.testing.assert_allclose(integrate.slopes(jnp.array(0.0), jnp.array(1.0), jnp.array(0.5)), 0)
