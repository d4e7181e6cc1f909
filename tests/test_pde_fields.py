"""fipjax/data/pde/fields.py: grids, and the distribution of the random fields."""
import jax
import numpy as np
import pytest

from fipjax.data.pde import fields

pytestmark = pytest.mark.usefixtures('float64')


def test_grids():
    np.testing.assert_allclose(fields.centres(-1, 1, 4), [-0.75, -0.25, 0.25, 0.75])
    t = fields.times(2.0, 0.01)
    assert len(t) == 201 and t[-1] == pytest.approx(2) and len(fields.times(2.0, 0.01, 1)) == 202
    assert len(fields.times(0.3, 0.1)) == 4  # 0.3 / 0.1 is below 3


def draw(count, points=64, window=0.1, length=1.0, modes=4):
    x = fields.centres(0, length, points)
    keys = jax.random.split(jax.random.key(0), count)
    return x, np.asarray(jax.jit(jax.vmap(lambda k: fields.waves(k, x, length, modes, window)))(keys))


def test_fields_are_few_waves_and_a_constant():
    """Without window and absolute value, only wave numbers k and 2k of the drawn k are there, at most two of them."""
    _, u = draw(400, window=0.0)
    spectrum = np.abs(np.fft.rfft(u)) / u.shape[1]
    there = spectrum[:, 1:] > 1e-9
    plain = ~there[:, 8:].any(1)  # an absolute value has all wave numbers
    assert 0.8 < plain.mean() < 0.97
    counts = there[plain].sum(1)
    assert set(counts) == {1, 2} and abs((counts == 1).mean() - 0.25) < 0.08  # the same k twice: one in four
    assert set(np.flatnonzero(there[plain].any(0)) + 1) == {1, 2, 3, 4, 6, 8}
    assert (spectrum[plain, 0] > 1e-3).mean() > 0.95  # constants of the others
    assert (2 * spectrum[plain][:, 1:]).max() <= 1 and np.abs(u).max() <= 4


def test_windows_and_signs():
    x, u = draw(400, window=1.0, points=200)
    edge = (x < 0.05) | (x > 0.95)
    middle = (x > 0.5) & (x < 0.52)
    assert np.abs(u[:, edge]).max() < 2e-4 and np.abs(u[:, middle]).max(1).min() > 0
    _, u = draw(400, window=0.1, points=200)
    assert abs((np.abs(u[:, edge]).max(1) < 2e-4).mean() - 0.1) < 0.06
    assert abs((u.mean(1) > 0).mean() - 0.5) < 0.1


def test_a_key_is_a_function_of_x():
    key = jax.random.key(5)
    x = np.linspace(0, 1, 7)
    np.testing.assert_array_equal(fields.waves(key, x)[3], fields.waves(key, x[3:4])[0])
    np.testing.assert_allclose(fields.waves(key, x[:1]), fields.waves(key, x[-1:]), atol=1e-7)  # periodic
    np.testing.assert_allclose(fields.waves(key, 2 * x, 2.0, window=0.0), fields.waves(key, x, window=0.0), atol=1e-12)


def test_unit():
    u = np.asarray(fields.unit(np.array([3.0, -1.0, 1.0])))
    np.testing.assert_allclose(u, [1, 0, 0.5])
