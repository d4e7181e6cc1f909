"""fipjax/data/pde/darcy.py against a sparse direct solve, a made-up solution and its balance."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pde_checks import far, orders, peers
from scipy import integrate as quadrature
from scipy import special

from fipjax.data.pde import darcy, fields

pytestmark = pytest.mark.usefixtures('float64')


def test_darcy_equals_a_sparse_direct_solve():
    found = darcy.example(jax.random.key(3), 16, {'beta': 0.1})
    a = np.asarray(found['nu'])
    assert set(np.unique(a)) == {0.1, 1.0} and found['tensor'].shape == (1, 16, 16)
    assert far(found['tensor'][0], peers.darcy(a, 0.1)) < 1e-9


def test_darcy_is_of_order_two_for_a_smooth_coefficient():
    """Made to measure: u = sin(pi x) sin(2 pi y), a = 1 + x / 2, source = -div(a grad u)."""
    errors = []
    for n in (8, 16, 32):
        x, y = np.meshgrid(*[fields.centres(0, 1, n)] * 2, indexing='ij')
        u = np.sin(np.pi * x) * np.sin(2 * np.pi * y)
        source = (1 + x / 2) * 5 * np.pi ** 2 * u - 0.5 * np.pi * np.cos(np.pi * x) * np.sin(2 * np.pi * y)
        errors.append(np.abs(darcy.solve(jnp.asarray(1 + x / 2), jnp.asarray(source)) - u).max())
    assert np.all(np.abs(orders(errors) - 2) < 0.15) and errors[-1] < 5e-3, errors


def test_darcy_flows_out_what_the_source_gives():
    found = darcy.example(jax.random.key(3), 16, {'beta': 0.1})
    a, u = np.asarray(found['nu']), np.asarray(found['tensor'][0])
    out = sum(2 * 16 * (a * u)[side].sum() / 16 for side in (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]))
    assert out == pytest.approx(0.1, rel=1e-9)


def test_sine_transform_diagonalises_and_inverts():
    u = np.random.default_rng(0).normal(size=(8, 8))
    np.testing.assert_allclose(darcy.sine(darcy.sine(jnp.asarray(u)), inverse=True), u, atol=1e-13)
    x = fields.centres(0, 1, 8)
    wave = np.sin(3 * np.pi * x)[:, None] * np.sin(8 * np.pi * x)
    hit = np.abs(np.asarray(darcy.sine(jnp.asarray(wave)))) > 1e-12
    assert np.argwhere(hit).tolist() == [[2, 7]]


def test_the_threshold_is_the_mean_of_the_bumps():
    def line(s):
        """Double integral over (0, 1)^2 of exp(-(x - y)^2 / s)."""
        return np.sqrt(np.pi * s) * special.erf(s ** -0.5) - s * (1 - np.exp(-1 / s))

    mean = darcy.BUMPS * quadrature.quad(lambda s: line(s) ** 2, 0, darcy.WIDEST)[0] / darcy.WIDEST
    assert pytest.approx(mean, rel=1e-6) == darcy.THRESHOLD
    x, y = np.meshgrid(*[fields.centres(0, 1, 8)] * 2)
    many = jax.vmap(lambda k: darcy.bumps(k, x, y))(jax.random.split(jax.random.key(0), 2000))
    assert many.mean() == pytest.approx(mean, rel=0.03)
