"""fipjax/data/pde/diffusion_reaction_2d.py against SciPy and closed forms of diffusion."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pde_checks import far, orders, peers

from fipjax.data.pde import diffusion_reaction_2d, fields

pytestmark = pytest.mark.usefixtures('float64')


REACTION = dict(diffusion_reaction_2d.TASK.parameters)


def test_diffusion_reaction_2d_equals_scipy_in_order_four():
    start = np.random.default_rng(0).normal(size=(2, 8, 8))
    exact = peers.march(peers.diffusion_reaction_2d(8, **REACTION), start, [0.05, 0.25], 'DOP853', 1e-11)
    errors = np.array([[far(u[i], e) for i, e in zip((1, 5), exact)]
                       for u in (diffusion_reaction_2d.solve(jnp.asarray(start), REACTION, 0.05, 5, 0.05 / n)
                                 for n in (4, 8, 16))])
    assert errors[0].max() < 2e-6 and np.all(np.abs(orders(errors[:, 1]) - 4) < 0.5), errors


def test_diffusion_reaction_2d_keeps_the_mean_of_what_does_not_react(monkeypatch):
    """Diffusion alone conserves both, and decays a cosine of either axis at the rate of the five-point Laplacian."""
    monkeypatch.setattr(diffusion_reaction_2d, 'reaction', lambda u, v, k: 0 * jnp.stack([u, v]))
    x = fields.centres(-1, 1, 16)
    wave = np.cos(3 * np.pi * (x + 1) / 2)
    start = np.stack([np.broadcast_to(0.5 + wave[:, None], (16, 16)), np.broadcast_to(wave, (16, 16))])
    u = np.asarray(diffusion_reaction_2d.solve(jnp.asarray(start), REACTION, 1.0, 2))
    np.testing.assert_allclose(u.mean((2, 3)), [[0.5, 0]] * 3, atol=1e-13)
    rate = (2 / 0.125 * np.sin(3 * np.pi / 32)) ** 2
    np.testing.assert_allclose(u[2, 1, 0], wave * np.exp(-2 * REACTION['Dv'] * rate), atol=1e-10)
    np.testing.assert_allclose(u[2, 0, :, 0], 0.5 + wave * np.exp(-2 * REACTION['Du'] * rate), atol=1e-10)


def test_steps_follow_diffusion_on_fine_grids():
    """White noise on 64 cells a side, where diffusion is faster than the reaction: no step may be unstable."""
    start = jax.random.normal(jax.random.key(0), (2, 64, 64))
    strong = {'Du': 0.02, 'Dv': 0.02, 'k': 5e-3}
    u = np.asarray(diffusion_reaction_2d.solve(start, strong, 0.05, 1))
    finer = np.asarray(diffusion_reaction_2d.solve(start, strong, 0.05, 1, 0.05 / 400))
    assert np.abs(u[1] - finer[1]).max() < 1e-3 and np.abs(u[1]).max() < 0.7 * np.abs(u[0]).max()
