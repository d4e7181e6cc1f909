"""Position tables for other grids and lengths: equal to PyTorch, and what a bicubic kernel must keep."""
import pathlib

import numpy as np
import pytest

from fipjax.errors import UserError
from fipjax.models.convert import positions

with np.load(pathlib.Path(__file__).parent / 'golden' / 'positions.npz') as file:
    GOLDEN = dict(file)


@pytest.mark.parametrize('name', [k for k in GOLDEN if k.startswith(('grid', 'vit'))])
def test_equal_to_pytorch(name):
    grid = tuple(map(int, name.split('_')[1:]))
    resized = positions.resize(GOLDEN['table'].astype(np.float64), grid)
    np.testing.assert_allclose(resized, GOLDEN[name], rtol=0, atol=1e-12)


def test_same_grid_is_left_as_it_is_and_dtypes_stay():
    table = GOLDEN['table']
    assert positions.resize(table, (5, 5)) is table
    assert table.dtype == positions.resize(table, (3, 4)).dtype == np.float32


@pytest.mark.parametrize('size, out', [(5, 3), (5, 12), (37, 16), (1, 4)])
def test_constants_stay_and_lines_inside_do(size, out):
    matrix = positions.weights(size, out)
    np.testing.assert_allclose(matrix.sum(1), 1, atol=1e-12)
    at = (np.arange(out) + 0.5) * size / out - 0.5
    inside = (at >= 1) & (at <= size - 2)
    # The kernel of a = -0.75 does not keep lines exactly, that of -0.5 does; both keep points of the old grid.
    on_grid = np.isclose(at, np.round(at)) & inside
    np.testing.assert_allclose((matrix @ np.arange(size))[on_grid], at[on_grid], atol=1e-12)
    assert np.abs((matrix @ np.arange(size))[inside] - at[inside]).max(initial=0) < 0.1


def test_truncation():
    table = np.arange(12.0).reshape(6, 2)
    np.testing.assert_array_equal(positions.first(table, 4), table[:4])
    with pytest.raises(UserError, match='embedder.length is 7, but the checkpoint has positions for 6 tokens'):
        positions.first(table, 7, 'embedder.length')


def test_no_square_grid():
    with pytest.raises(UserError, match='6 positions of patches are not those of a square grid'):
        positions.resize(np.zeros((6, 2)), (3, 3))
