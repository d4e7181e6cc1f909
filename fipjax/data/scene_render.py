"""Synthetic scenes: 2 to 4 objects on a picture, drawn by NumPy, with exact boxes.

Objects stand in different cells of a 3 x 3 grid, moved about inside their cells, so none hides another. A scene is
keyed by (seed, name, id): the same whatever else is drawn with it. The knobs of `Visual` change how it looks.
"""
from __future__ import annotations

import zlib
from typing import NamedTuple

import numpy as np
import scipy.ndimage

from fipjax.errors import UserError

SHAPES = ('circle', 'square', 'triangle', 'diamond', 'star', 'cross', 'ring', 'oval')
COLOURS = ('red', 'orange', 'yellow', 'green', 'blue', 'purple', 'pink', 'brown')
SIZES = ('small', 'medium', 'large')
TEXTURES = ('plain', 'striped', 'dotted', 'checked')
MOST = 4  # objects
SIDE = 64  # pixels
RADII = np.array([0.072, 0.108, 0.15])  # of the sizes, as shares of the side; below half a cell
PATCH = 24  # pixels a side that one object is drawn in
RGB = np.array([[214, 30, 34], [245, 140, 20], [240, 220, 40], [30, 150, 50], [35, 70, 210], [120, 40, 160],
                [250, 130, 190], [110, 65, 30]], np.float32)
FADED = np.array([112, 98, 80], np.float32)  # what colours fade to in the far domain, by FADING
FADING = 0.6
SCRIBBLE = 40  # points of a scribble


class Visual(NamedTuple):
    """How pictures of a domain look; each knob alone, or all by `visual`.

    Attributes:
      palette: 0 clear colours on light grey .. 1 faded colours on dark.
      texture: probability that an object is not plain; part of the scene, so texts may say it.
      gradient: 0 even background .. 1 strong slope of brightness.
      noise: standard deviation, white = 1.
      blur: sigma of a Gaussian, pixels.
      clutter: scribbles behind the objects, 0..8.
    """

    palette: float = 0.0
    texture: float = 0.5
    gradient: float = 0.0
    noise: float = 0.01
    blur: float = 0.0
    clutter: int = 0


class Scenes(NamedTuple):
    """P scenes; objects beyond `count` are there but not shown.

    Attributes:
      shape, colour, size, texture: int [P, 4], places in SHAPES, COLOURS, SIZES, TEXTURES.
      centre: float [P, 4, 2], x and y as shares.
      count: int [P], 2..4.
      blur: float [P], sigma in pixels, on top of the domain's.
      style: float [P, 128] in [0, 1), what backgrounds and scribbles are made of.
      key: int [P, 3], (seed, name, id).
    """

    shape: np.ndarray
    colour: np.ndarray
    size: np.ndarray
    texture: np.ndarray
    centre: np.ndarray
    count: np.ndarray
    blur: np.ndarray
    style: np.ndarray
    key: np.ndarray


def visual(shift: float) -> Visual:
    """All knobs between the near domain (0) and the far one (1)."""
    if not 0 <= shift <= 1:
        raise UserError(f'visual shift is {shift}; allowed: 0..1')
    return Visual(shift, 0.5 + 0.3 * shift, shift, 0.01 + 0.05 * shift, 0.8 * shift, round(4 * shift))


def key_of(name: str) -> int:
    """A number for a name, the same on every machine."""
    return zlib.crc32(name.encode())


def draw(seed: int, name: str, ids: np.ndarray, texture: float = 0.5) -> Scenes:
    """Scenes keyed by (seed, name, id).

    Objects of a scene repeat the shape (0.25) or the colour (0.2) of the first one, so that there is something to
    count; all else is even.

    Args:
      seed: whole number.
      name: of the data set and its split.
      ids: int [P].
      texture: probability that an object is not plain.
    """
    key = np.stack([np.full(len(ids), seed), np.full(len(ids), key_of(name)), np.asarray(ids)], 1).astype(np.int64)
    u = np.stack([np.random.default_rng(k).random(192) for k in key]) if len(key) else np.zeros((0, 192))
    count = 2 + (u[:, 0] * (MOST - 1)).astype(int)
    kind, colour, size, dull, pattern, repeat = u[:, 1:1 + 6 * MOST].reshape(-1, 6, MOST).swapaxes(0, 1)
    shape, colour, size = (kind * len(SHAPES)).astype(int), (colour * len(COLOURS)).astype(int), (size * 3).astype(int)
    shape = np.where(repeat < 0.25, shape[:, :1], shape)
    colour = np.where((repeat >= 0.25) & (repeat < 0.45), colour[:, :1], colour)
    surface = np.where(dull < texture, 1 + (pattern * 3).astype(int), 0)
    cell = np.argsort(u[:, 37:46], 1)[:, :MOST]
    room = (1 / 6 - 1.2 / SIDE - RADII[size])[..., None] * (2 * u[:, 46:46 + 2 * MOST].reshape(-1, MOST, 2) - 1)
    centre = (np.stack([cell % 3, cell // 3], -1) + 0.5) / 3 + room
    return Scenes(shape, colour, size, surface, centre, count, np.zeros(len(key)), u[:, 64:], key)


def _inside(shape: int, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Whether points lie in a shape; u to the right and v down, in units of the object's radius."""
    wide, high, radius = abs(u), abs(v), np.hypot(u, v)
    name = SHAPES[shape]
    if name == 'circle':
        return radius <= 1
    if name == 'square':
        return np.maximum(wide, high) <= 0.9
    if name == 'triangle':
        return (v <= 0.85) & (wide <= (v + 1) * 0.54)
    if name == 'diamond':
        return wide / 0.75 + high <= 1
    if name == 'star':
        fifth = 2 * np.pi / 5
        angle = abs((np.arctan2(u, -v) / fifth + 0.5) % 1 - 0.5) * fifth  # from the nearest tip, 0..36 degrees
        return 0.636 * radius * np.sin(angle) + 0.2645 * (radius * np.cos(angle) - 1) <= 0
    if name == 'cross':
        return (np.minimum(wide, high) <= 0.34) & (np.maximum(wide, high) <= 1)
    if name == 'ring':
        return (radius <= 1) & (radius >= 0.5)
    return np.hypot(u, v / 0.6) <= 1


def _light(texture: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Which points have the texture's second tone; texture [n, 1, 1], u and v [n, PATCH, PATCH]."""
    striped = np.floor(v / 0.4) % 2 == 0
    dotted = np.hypot((u / 0.66 + 0.5) % 1 - 0.5, (v / 0.66 + 0.5) % 1 - 0.5) < 0.33
    checked = (np.floor(u / 0.5) + np.floor(v / 0.5)) % 2 == 0
    return np.choose(texture, [np.zeros_like(striped), striped, dotted, checked])


def _patches(scenes: Scenes):
    """Objects [n] that are shown: (picture, slot) [n], rows and columns [n, PATCH], u, v, mask [n, PATCH, PATCH]."""
    picture, slot = np.nonzero(np.arange(MOST) < scenes.count[:, None])
    centre = scenes.centre[picture, slot] * SIDE
    radius = RADII[scenes.size[picture, slot]] * SIDE
    corner = np.clip(np.floor(centre - PATCH / 2), 0, SIDE - PATCH).astype(int)
    step = np.arange(PATCH)
    columns, rows = corner[:, :1] + step, corner[:, 1:] + step
    u = ((columns + 0.5 - centre[:, :1]) / radius[:, None]).astype(np.float32)[:, None, :]
    v = ((rows + 0.5 - centre[:, 1:]) / radius[:, None]).astype(np.float32)[:, :, None]
    u, v = np.broadcast_arrays(u, v)
    mask, shape = np.zeros(u.shape, bool), scenes.shape[picture, slot]
    for k in range(len(SHAPES)):
        mine = shape == k
        mask[mine] = _inside(k, u[mine], v[mine])
    return picture, slot, rows, columns, u, v, mask


def render(scenes: Scenes, look: Visual, at_once: int = 256) -> tuple[np.ndarray, np.ndarray]:
    """Pictures uint8 [P, 64, 64, 3] and boxes float32 [P, 4, 4] as shares, exact to the pixel (before blur), else 0."""
    parts = [_render(Scenes(*(x[k:k + at_once] for x in scenes)), look) for k in range(0, len(scenes.count), at_once)]
    return tuple(np.concatenate(x) for x in zip(*parts))


def _render(scenes, look):
    out = _background(scenes, look)
    picture, slot, rows, columns, u, v, mask = _patches(scenes)
    dim = 1 - 0.35 * look.palette * scenes.style[picture, 2, None]
    colour = RGB[scenes.colour[picture, slot]] * (1 - FADING * look.palette) + FADED * FADING * look.palette
    tone = (colour * dim).astype(np.float32)
    second = tone * 0.45 + np.where(tone.mean(-1, keepdims=True) > 140, 10, 130)
    light = _light(scenes.texture[picture, slot, None, None], u, v)
    shading = (1 - 0.1 * (u + v))[..., None]  # lit from the upper left
    pixels = np.where(light[..., None], second[:, None, None], tone[:, None, None]) * shading
    where = np.nonzero(mask)
    out[picture[where[0]], rows[where[0], where[1]], columns[where[0], where[2]]] = pixels[where]
    sigma = np.hypot(scenes.blur, look.blur)
    for value in np.unique(sigma[sigma > 0]):
        mine = sigma == value
        out[mine] = scipy.ndimage.gaussian_filter(out[mine], (0, value, value, 0), mode='nearest')
    if look.noise:
        for x, key in zip(out, scenes.key):
            rng = np.random.default_rng([*key, 1])
            x += 255 * look.noise * rng.standard_normal(x.shape, np.float32)
    return np.clip(np.round(out), 0, 255).astype(np.uint8), _boxes(scenes, picture, slot, rows, columns, mask)


def _boxes(scenes, picture, slot, rows, columns, mask):
    boxes = np.zeros((len(scenes.count), MOST, 4), np.float32)
    across, down = mask.any(1), mask.any(2)
    x1, y1 = columns[:, 0] + across.argmax(1), rows[:, 0] + down.argmax(1)
    x2, y2 = columns[:, -1] + 1 - across[:, ::-1].argmax(1), rows[:, -1] + 1 - down[:, ::-1].argmax(1)
    boxes[picture, slot] = np.stack([x1, y1, x2, y2], 1) / SIDE
    return boxes


def _background(scenes, look):
    """Float32 [P, 64, 64, 3]: an even tone, or a slope, with scribbles."""
    style = scenes.style.astype(np.float32)
    level = (1 - look.palette) * (205 + 40 * style[:, 0]) + look.palette * (45 + 50 * style[:, 0])
    tint = 1 + 0.1 * (style[:, 3:6] - 0.5)
    slope = np.linspace(-1, 1, SIDE, dtype=np.float32) * np.float32(60 * look.gradient)
    angle = 2 * np.pi * style[:, 1]
    across, down = np.cos(angle)[:, None, None] * slope[None, None, :], np.sin(angle)[:, None, None] * slope[:, None]
    out = (level[:, None, None] + across + down)[..., None] * tint[:, None, None]
    first = np.arange(len(out))[:, None]
    t = np.linspace(0, 1, SCRIBBLE, dtype=np.float32)
    for k in range(look.clutter):
        x0, y0, x1, y1, x2, y2, tone = style[:, 8 + 7 * k:15 + 7 * k].T[..., None]
        x, y = ((1 - t) ** 2 * a + 2 * t * (1 - t) * b + t ** 2 * c for a, b, c in ((x0, x1, x2), (y0, y1, y2)))
        rows, columns = ((z * SIDE).astype(int).clip(0, SIDE - 1) for z in (y, x))
        out[first, rows, columns] = (90 + 130 * tone)[..., None] * tint[:, None]
    return out
