"""Features of regions against loops over pixels."""
import numpy as np
import pytest

from fipjax.data import regions
from fipjax.errors import UserError


def test_grid_boxes():
    found = regions.grid_boxes(2, 4)
    assert found.dtype == np.float32 and found.shape == (9, 4)
    np.testing.assert_array_equal(found[0], [0, 0, 1, 1])
    np.testing.assert_array_equal(found[1], [0, 0, 0.25, 0.5])
    np.testing.assert_array_equal(found[2], [0.25, 0, 0.5, 0.5])  # row by row
    np.testing.assert_array_equal(found[8], [0.75, 0.5, 1, 1])
    areas = (found[1:, 2:] - found[1:, :2]).prod(-1)
    assert areas.sum() == 1
    with pytest.raises(UserError, match='grid of 0 x 3'):
        regions.grid_boxes(0, 3)


def slow_crop(picture, box, size):
    """Mean over the area of each cell, pixel by pixel."""
    height, width, _ = picture.shape
    x1, y1, x2, y2 = box * [width, height, width, height]
    out = np.zeros((size, size, 3))
    for i in range(size):
        for j in range(size):
            top, bottom = y1 + (y2 - y1) * i / size, y1 + (y2 - y1) * (i + 1) / size
            left, right = x1 + (x2 - x1) * j / size, x1 + (x2 - x1) * (j + 1) / size
            area = 0.0
            for row in range(height):
                for column in range(width):
                    part = (max(0, min(bottom, row + 1) - max(top, row))
                            * max(0, min(right, column + 1) - max(left, column)))
                    out[i, j] += part * (picture[row, column] / 127.5 - 1)
                    area += part
            out[i, j] /= area
    return out


@pytest.fixture(scope='module')
def pictures():
    return np.random.default_rng(0).integers(0, 256, (3, 9, 12, 3), np.uint8)


BOXES = np.array([[0, 0, 1, 1], [0.1, 0.2, 0.35, 0.9], [0.5, 0.5, 0.51, 0.52]])


def test_crops(pictures, monkeypatch):
    boxes = np.broadcast_to(BOXES, (3, 3, 4))
    found = regions.crops(pictures, boxes, 4)
    assert found.shape == (3, 3, 4, 4, 3) and found.dtype == np.float32
    for p in range(3):
        for r in range(3):
            np.testing.assert_allclose(found[p, r], slow_crop(pictures[p], BOXES[r], 4), atol=1e-5)
    monkeypatch.setattr(regions, 'AT_ONCE', 1)  # one picture at a time
    np.testing.assert_allclose(regions.crops(pictures, boxes, 4), found, atol=1e-6)


def test_black_and_white():
    both = np.stack([np.zeros((6, 6, 3), np.uint8), np.full((6, 6, 3), 255, np.uint8)])
    found = regions.regions_of_pictures(both, np.broadcast_to(BOXES, (2, 3, 4)), np.array([3, 3]), 'crops')
    np.testing.assert_allclose(found[0], -1, atol=1e-6)
    np.testing.assert_allclose(found[1], 1, atol=1e-6)


def slow_frozen(x):
    """Two convolutions, stride 2, in loops; one row and one column of zeros at the end."""
    for kernel in regions._frozen_kernels():
        side, inner = x.shape[0], x.shape[2]
        padded = np.zeros((side + 1, side + 1, inner))
        padded[:side, :side] = x
        y = np.zeros((side // 2, side // 2, kernel.shape[1]))
        weights = kernel.reshape(3, 3, inner, -1)
        for i in range(side // 2):
            for j in range(side // 2):
                for a in range(3):
                    for b in range(3):
                        y[i, j] += padded[2 * i + a, 2 * j + b] @ weights[a, b]
        x = np.maximum(y, 0)
    return np.concatenate([x.mean((0, 1)), x.max((0, 1))])


def test_frozen(pictures):
    boxes = np.broadcast_to(BOXES, (3, 3, 4))
    found = regions.regions_of_pictures(pictures, boxes, np.array([3, 1, 2]), 'frozen')
    assert found.shape == (3, 3, 64) and found.dtype == np.float32
    crops = regions.crops(pictures, boxes, 16)
    for p, r in ((0, 0), (0, 2), (2, 1)):
        np.testing.assert_allclose(found[p, r], slow_frozen(crops[p, r].astype(float)), rtol=1e-4, atol=1e-5)
    assert not found[1, 1:].any() and not found[2, 2].any() and found[1, 0].any()


def test_frozen_weights_never_change():
    first, second = regions._frozen_kernels()
    np.testing.assert_allclose([first[0, 0], second[-1, -1]], GOLDEN, rtol=1e-6)
    for kernel in (first, second):
        np.testing.assert_allclose(kernel.std(), np.sqrt(2 / len(kernel)), rtol=0.1)


GOLDEN = (0.06271348, 0.1092996)


def test_beyond_count(pictures):
    found = regions.regions_of_pictures(pictures, np.broadcast_to(BOXES, (3, 3, 4)), np.array([1, 3, 2]), 'crops')
    assert found.shape == (3, 3, 192)
    assert [int(abs(x).sum(-1).astype(bool).sum()) for x in found] == [1, 3, 2]


@pytest.mark.parametrize('pictures, boxes, count, kind, words', [
    (np.zeros((2, 4, 4, 3), np.uint8), np.zeros((2, 1, 4)), np.ones(2), 'fc6', "'fc6'; allowed: crops, frozen"),
    (np.zeros((2, 4, 4, 3)), np.zeros((2, 1, 4)), np.ones(2), 'crops', r'float64 \[2, 4, 4, 3\]; expected uint8'),
    (np.zeros((2, 4, 4), np.uint8), np.zeros((2, 1, 4)), np.ones(2), 'crops', 'expected uint8'),
    (np.zeros((2, 4, 4, 3), np.uint8), np.zeros((3, 1, 4)), np.ones(2), 'crops', r'boxes \[3, 1, 4\]'),
    (np.zeros((2, 4, 4, 3), np.uint8), np.zeros((2, 1, 4)), np.ones(3), 'crops', r'count \[3\] of 2 pictures'),
])
def test_refused(pictures, boxes, count, kind, words):
    with pytest.raises(UserError, match=words):
        regions.regions_of_pictures(pictures, boxes, count, kind)


def test_boxes_that_all_pictures_share_may_be_broadcast():
    rng = np.random.default_rng(3)
    pictures, boxes = rng.integers(0, 256, (5, 12, 9, 3), np.uint8), regions.grid_boxes(2, 3)
    shared = np.broadcast_to(boxes, (5, *boxes.shape))
    np.testing.assert_array_equal(regions.crops(pictures, shared, 4), regions.crops(pictures, shared.copy(), 4))
