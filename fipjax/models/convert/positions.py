"""Position tables of published weights for other lengths and grids than those they were trained with."""
from __future__ import annotations

import numpy as np

from fipjax.errors import UserError

A = -0.75  # of the cubic convolution kernel (Keys 1981), as in PyTorch


def resize(positions, grid: tuple[int, int]):
    """Positions of a square grid of patches for another grid: bicubic, half-pixel centres, edges repeated.

    As PyTorch's interpolate(mode='bicubic', align_corners=False) without antialiasing, with which `transformers`
    resizes those of ViT and DINOv2.

    Args:
      positions: [n * n, width].
      grid: rows and columns wanted.

    Returns:
      [rows * columns, width] in the dtype of positions.

    Raises:
      UserError: positions that are not of a square grid.
    """
    positions = np.asarray(positions)
    side = round(len(positions) ** 0.5)
    if side * side != len(positions):
        raise UserError(f'{len(positions)} positions of patches are not those of a square grid')
    if grid == (side, side):
        return positions
    table = positions.reshape(side, side, -1).astype(np.float64)
    table = np.einsum('yr,xc,rcd->yxd', *(weights(side, n) for n in grid), table)
    return table.reshape(-1, positions.shape[1]).astype(positions.dtype)


def weights(size: int, out: int) -> np.ndarray:
    """What each of `size` entries counts in each of `out`, float64 [out, size]; rows add up to 1."""
    at = (np.arange(out) + 0.5) * size / out - 0.5
    matrix = np.zeros((out, size))
    for offset in (-1, 0, 1, 2):
        there = np.floor(at) + offset
        np.add.at(matrix, (np.arange(out), np.clip(there, 0, size - 1).astype(int)), _cubic(np.abs(at - there)))
    return matrix


def _cubic(x):
    near = (A + 2) * x ** 3 - (A + 3) * x ** 2 + 1
    far = A * x ** 3 - 5 * A * x ** 2 + 8 * A * x - 4 * A
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


def first(positions, length: int, key: str = 'length'):
    """Positions of the first `length` tokens of a sequence, [length, width].

    Args:
      positions: [n, width], those of real tokens only (RoBERTa's begin two rows later).
      length: tokens wanted.
      key: the config key that asks, for messages.

    Raises:
      UserError: more than there are.
    """
    if length > len(positions):
        raise UserError(f'{key} is {length}, but the checkpoint has positions for {len(positions)} tokens')
    return positions[:length]
