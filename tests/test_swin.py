"""Swin's windows by brute force: who is whose neighbour, who may look at whom."""
import itertools

import jax
import numpy as np
import pytest

from fipjax.models import swin


@pytest.mark.parametrize('window', [1, 2, 3])
def test_relative_positions_name_the_offset(window):
    got = swin.relative_positions(window)
    tokens = list(itertools.product(range(window), repeat=2))
    offsets = {}
    for (i, (y, x)), (j, (v, u)) in itertools.product(enumerate(tokens), repeat=2):
        offsets.setdefault((y - v, x - u), set()).add(got[i, j])
    assert all(len(v) == 1 for v in offsets.values())  # an entry for each offset
    entries = [next(iter(offsets[o])) for o in sorted(offsets)]
    assert entries == list(range((2 * window - 1) ** 2))  # in the order of the offsets


@pytest.mark.parametrize('side, window', [(4, 2), (9, 3), (8, 4)])
def test_shifted_windows_join_neighbours_only(side, window):
    shift = window // 2
    at = np.stack(np.meshgrid(range(side), range(side), indexing='ij'), -1)[None]
    shifted = swin._windows(np.roll(at, (-shift, -shift), (1, 2)), window)
    bias = swin.shift_bias(side, window, shift)
    assert bias.shape == ((side // window) ** 2, window ** 2, window ** 2)
    for w, tokens in enumerate(shifted):
        for (i, a), (j, b) in itertools.product(enumerate(tokens), repeat=2):
            # Both in one window of the grid that is laid `shift` further: neighbours, not across the border.
            together = ((a + window - shift) // window == (b + window - shift) // window).all()
            assert (bias[w, i, j] == 0) == together


def test_windows_and_back():
    x = np.arange(2 * 6 * 6 * 3).reshape(2, 6, 6, 3)
    windows = swin._windows(x, 3)
    assert windows.shape == (8, 9, 3)
    np.testing.assert_array_equal(windows[1], x[0, :3, 3:].reshape(9, 3))
    np.testing.assert_array_equal(swin._grid(windows, 6, 3), x)


def test_a_grid_takes_no_mask():
    init, apply = swin.build(2, 4, (2,), (1,), 2, 'scan', False)
    params = jax.eval_shape(init, jax.random.key(0))
    with pytest.raises(ValueError, match='no mask'):
        apply(params, np.zeros((1, 4, 4)), np.ones((1, 4), bool))
