"""Regions of pictures: features of boxes without a detector, and a grid of boxes where nobody knows the objects.

Region 0 of a picture is always the whole picture (ViLBERT's convention, arXiv 1908.02265, section 3.1). Two kinds of
features, both float32:

    'crops'   the crop averaged to 8 x 8 x 3, in [-1, 1]: 192 numbers
    'frozen'  a convolutional encoder with random weights that never change, on the crop averaged to 16 x 16 x 3: two
              layers of 3 x 3 with stride 2 and ReLU (16 and 32 channels, He's scale, seed 2004), then mean and maximum
              over the picture: 64 numbers
"""
from __future__ import annotations

import functools

import numpy as np

from fipjax.errors import UserError

WIDTHS = {'crops': 192, 'frozen': 64}
CROP, FROZEN_CROP, CHANNELS = 8, 16, (3, 16, 32)
AT_ONCE = 2 ** 24  # numbers in the largest array between, so that memory stays small whatever the size of pictures


def grid_boxes(rows: int, columns: int) -> np.ndarray:
    """The whole picture and then the cells of a grid, row by row: float32 [1 + rows * columns, 4], shares."""
    if rows < 1 or columns < 1:
        raise UserError(f'grid of {rows} x {columns} regions; rows and columns must be 1 or more')
    y, x = np.mgrid[:rows, :columns].reshape(2, -1)
    cells = np.stack([x / columns, y / rows, (x + 1) / columns, (y + 1) / rows], 1)
    return np.concatenate([[[0, 0, 1, 1]], cells]).astype(np.float32)


def crops(pictures: np.ndarray, boxes: np.ndarray, size: int) -> np.ndarray:
    """Crops averaged to squares: each of the size x size cells is the mean over its area, with shares of pixels.

    Args:
      pictures: uint8 [P, H, W, 3].
      boxes: [P, R, 4] x1, y1, x2, y2 as shares of width and height; a box without area gives zeros.
      size: cells a side.

    Returns:
      float32 [P, R, size, size, 3] in [-1, 1].
    """
    height, width = pictures.shape[1:3]
    out = np.empty((*boxes.shape[:2], size, size, 3), np.float32)
    step = max(1, AT_ONCE // (boxes.shape[1] * size * width * 3))
    for start in range(0, len(pictures), step):
        part = slice(start, start + step)
        # A grid is one set of boxes, broadcast: its weights are made once.
        mine = boxes[:1] if boxes.strides[0] == 0 else boxes[part]
        across = _cells(mine[:, :, 0], mine[:, :, 2], width, size)
        down = _cells(mine[:, :, 1], mine[:, :, 3], height, size)
        x = pictures[part].astype(np.float32).reshape(-1, height, width * 3) * np.float32(2 / 255) - 1
        rows = down.reshape(len(mine), -1, height) @ x
        rows = rows.reshape(-1, boxes.shape[1], size, width, 3).swapaxes(2, 3)  # [p, R, width, size (down), 3]
        cells = across @ rows.reshape(*rows.shape[:3], size * 3)
        out[part] = cells.reshape(*cells.shape[:3], size, 3).swapaxes(2, 3)
    return out


def _cells(low, high, pixels, size):
    """Weights [P, R, size, pixels] of pixels in the cells between two ends given as shares; each row sums to 1."""
    low, high = np.asarray(low, np.float64)[..., None] * pixels, np.asarray(high, np.float64)[..., None] * pixels
    edge = low + (high - low) * np.arange(size + 1) / size
    pixel = np.arange(pixels)
    covered = np.minimum(edge[..., 1:, None], pixel + 1) - np.maximum(edge[..., :-1, None], pixel)
    covered = np.maximum(covered, 0)
    return (covered / np.maximum(covered.sum(-1, keepdims=True), 1e-12)).astype(np.float32)


@functools.cache
def _frozen_kernels() -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(2004)
    return tuple((rng.standard_normal((9 * inner, outer)) * np.sqrt(2 / (9 * inner))).astype(np.float32)
                 for inner, outer in zip(CHANNELS[:-1], CHANNELS[1:]))


def frozen(x: np.ndarray) -> np.ndarray:
    """The encoder of 'frozen' features: float32 [n, 16, 16, 3] in [-1, 1] -> [n, 64]."""
    for kernel in _frozen_kernels():
        padded = np.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)))  # stride 2 on an even side needs one row after the last
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))[:, ::2, ::2]
        windows = np.moveaxis(windows, 3, -1)  # [n, rows, columns, 3, 3, channels]
        x = np.maximum(windows.reshape(*windows.shape[:3], -1) @ kernel, 0)
    return np.concatenate([x.mean((1, 2)), x.max((1, 2))], -1)


def regions_of_pictures(pictures: np.ndarray, boxes: np.ndarray, count: np.ndarray, features: str) -> np.ndarray:
    """Features of boxes: float32 [P, R, F], see this module's docstring; those beyond `count` are 0.

    Args:
      pictures: uint8 [P, H, W, 3].
      boxes: [P, R, 4] x1, y1, x2, y2 as shares.
      count: int [P], valid boxes of each picture.
      features: 'crops' or 'frozen'.

    Raises:
      UserError: unknown features, pictures or boxes of another form.
    """
    if features not in WIDTHS:
        raise UserError(f"region features are {features!r}; allowed: {', '.join(WIDTHS)}")
    if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[-1] != 3:
        raise UserError(f'pictures are {pictures.dtype} {list(pictures.shape)}; expected uint8 [P, H, W, 3]')
    if boxes.shape != (len(pictures), boxes.shape[1], 4) or np.shape(count) != (len(pictures),):
        raise UserError(f'boxes {list(boxes.shape)} and count {list(np.shape(count))} of {len(pictures)} pictures; '
                        f'expected [P, R, 4] and [P]')
    valid = np.arange(boxes.shape[1]) < np.asarray(count)[:, None]
    if features == 'crops':
        out = crops(pictures, boxes, CROP).reshape(*boxes.shape[:2], -1)
        return np.where(valid[..., None], out, 0)
    out = np.zeros((*boxes.shape[:2], WIDTHS['frozen']), np.float32)
    for start in range(0, len(pictures), 256):
        part = slice(start, start + 256)
        out[part][valid[part]] = frozen(crops(pictures[part], boxes[part], FROZEN_CROP)[valid[part]])
    return out
