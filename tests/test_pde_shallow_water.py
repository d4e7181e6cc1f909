"""fipjax/data/pde/shallow_water.py against an exact dam break, and what it keeps."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq

from fipjax.data.pde import fields, shallow_water
from fipjax.errors import UserError

pytestmark = pytest.mark.usefixtures('float64')


def plane_dam(xi, left=2.0, right=1.0, g=1.0):
    """Height at x / t = xi behind a plane dam between two depths (J. J. Stoker, Water Waves)."""
    c = np.sqrt(g * left)
    h = brentq(lambda h: 2 * (c - np.sqrt(g * h)) - (h - right) * np.sqrt(g * (h + right) / (2 * h * right)),
               right, left)
    u = 2 * (c - np.sqrt(g * h))
    bore = h * u / (h - right)
    return np.select([xi < -c, xi < u - np.sqrt(g * h), xi < bore], [left, (2 * c - xi) ** 2 / (9 * g), h], right)


@pytest.mark.parametrize('axis', [0, 1])
def test_a_plane_dam_equals_the_exact_solution(axis):
    errors = []
    for n in (32, 64):
        x = fields.centres(-2.5, 2.5, n)
        h = np.broadcast_to(np.where(x < 0, 2.0, 1.0)[:, None], (n, n))
        q = np.asarray(shallow_water.solve(jnp.asarray(h if axis == 0 else h.T), 1.0, 2.0, 0.5, 1))[-1]
        found = q[0, :, 3] if axis == 0 else q[0, 3]
        np.testing.assert_allclose(q[2 - axis], 0, atol=1e-12)  # no momentum along the dam
        errors.append(np.abs(found - plane_dam(x / 0.5)).mean())
    assert errors[1] < 0.012 and errors[0] / errors[1] > 1.6, errors


def test_a_round_dam_stays_round_and_keeps_its_water():
    h = shallow_water.example(jax.random.key(0), 32, dict(shallow_water.TASK.parameters))['data'][..., 0]
    assert h.shape == (101, 32, 32) and set(np.unique(h[0])) == {1.0, 2.0}
    np.testing.assert_allclose(h.sum((1, 2)), h[0].sum(), rtol=1e-12)  # waves have not come to the boundary
    for other in (h[:, ::-1], h[:, :, ::-1], h.swapaxes(1, 2)):
        np.testing.assert_allclose(h, other, atol=1e-11)
    assert h[-1].max() < 1.5 and h.min() > 0.4


@pytest.mark.parametrize('points, discs', [(32, 7), (64, 24), (128, 81)])
def test_a_round_dam_has_few_different_initial_fields(points, discs):
    """The radii between 0.3 and 0.7 at which a cell is added; drawn ones find nearly all of them."""
    x = (np.arange(points) + 0.5) / points * 5 - 2.5
    r = np.hypot(x[:, None], x)
    assert len(np.unique(np.round(r[(r > 0.3) & (r < 0.7)], 9))) + 1 == discs
    keys = jax.random.split(jax.random.key(0), 2000)
    with jax.enable_x64(True):
        cells = jax.jit(jax.vmap(lambda k: (shallow_water.dam(k, points, 2.0) > 1.5).sum()))(keys)
    assert 0.95 * discs <= len(np.unique(cells)) <= discs


def test_boundaries_let_waves_out():
    h = jnp.asarray(np.where(np.hypot(*np.meshgrid(*[fields.centres(-2.5, 2.5, 16)] * 2)) < 1.5, 2.0, 1.0))
    q = np.asarray(shallow_water.solve(h, 1.0, 2.0, 10.0, 1))[-1]
    assert q[0].mean() < 1 < 1.25 < h.mean() and np.abs(q[0] - 1).max() < 0.15


def test_shallow_water_refuses_dry_ground():
    with pytest.raises(UserError, match='inner_height=9: 0.5 to 4'):
        shallow_water.check(64, {'inner_height': 9.0})
