"""How a checkpoint wants its pictures: preprocessor_config.json as settings, and as a function of pixels from 0 to 1.

Resize with the file's filter, cut out the centre where it says so, then (x - mean) / deviation by channel. Filters
reach further where a picture shrinks, as Pillow's do; Pillow rounds to 8 bits in between, which is not done here.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from fipjax.errors import UserError

FILE = 'preprocessor_config.json'
FILTERS = {0: 'nearest', 1: 'lanczos3', 2: 'linear', 3: 'cubic'}  # Pillow's numbers
IMAGENET = {'mean': (0.485, 0.456, 0.406), 'deviation': (0.229, 0.224, 0.225)}  # where no file says another
NAMES = {'mean': 'image_mean', 'deviation': 'image_std'}


def settings(config: Mapping, channels: int, where: str) -> dict:
    """What preprocessor_config.json asks for.

    Args:
      config: its content; {}: bilinear, ImageNet's mean and deviation.
      channels: that the checkpoint embeds.
      where: the checkpoint, for messages.

    Returns:
      'mean', 'deviation' [channels] of values from 0 to 1; 'filter', one of FILTERS; 'enlarge', the side that pictures
      are resized to over the side that is cut out of them; 'aspect', whether they keep the ratio of their sides.

    Raises:
      UserError: an unknown filter, size, mean or deviation.
    """
    if config.get('resample', 2) not in FILTERS:
        raise UserError(f'{where}: resample in {FILE} is {config["resample"]!r}; allowed: '
                        f'{", ".join(map(str, FILTERS))}')
    found = {k: _statistics(config, k, channels, where) for k in NAMES}
    return {**found, 'filter': FILTERS[config.get('resample', 2)], **_cut(config, where)}


def preparation(wanted: Mapping, side: int, channels: int) -> Callable:
    """The function pixels [B, H, W, C] -> what patches are cut from, [B, side, side, number of means].

    Args:
      wanted: `settings`.
      side: of the square that the encoder sees.
      channels: C; one channel is repeated.

    Raises:
      UserError: channels that do not fit.
    """
    mean, deviation = np.array(wanted['mean']), np.array(wanted['deviation'])
    if channels not in (1, len(mean)):
        raise UserError(f'the checkpoint embeds pictures of {len(mean)} channels; the source data have {channels}')
    shortest, method = round(wanted['enlarge'] * side), wanted['filter']

    def prepare(x):
        rows, columns = (max(shortest, round(n * shortest / min(x.shape[1:3]))) if wanted['aspect'] else shortest
                         for n in x.shape[1:3])
        x = jax.image.resize(x, (len(x), rows, columns, channels), method, antialias=method != 'nearest')
        top, left = (rows - side) // 2, (columns - side) // 2
        x = jnp.broadcast_to(x[:, top:top + side, left:left + side], (len(x), side, side, len(mean)))
        return (x - mean.astype(x.dtype)) / deviation.astype(x.dtype)

    return prepare


def _statistics(config, key, channels, where):
    if not config.get('do_normalize', True):
        return (float(key == 'deviation'),) * channels
    given = config.get(NAMES[key], IMAGENET[key])
    ok = isinstance(given, list | tuple) and len(given) == channels and all(
        isinstance(v, int | float) and np.isfinite(v) and (v > 0 or key == 'mean') for v in given)
    if not ok:
        raise UserError(f'{where}: {NAMES[key]} in {FILE} is {given!r}; allowed: {channels} numbers'
                        f'{" above 0" if key == "deviation" else ""}')
    return tuple(float(v) for v in given)


def _cut(config, where):
    """'enlarge' and 'aspect'."""
    if not config.get('do_center_crop'):
        return {'enlarge': 1.0, 'aspect': False}
    size, crop = config.get('size'), config.get('crop_size')
    aspect = isinstance(size, Mapping) and 'shortest_edge' in size
    sides = [s.get('shortest_edge', s.get('height')) if isinstance(s, Mapping) else s for s in (size, crop)]
    if not all(isinstance(s, int) and s > 0 for s in sides) or sides[0] < sides[1]:
        raise UserError(f'{where}: {FILE} cuts out {crop!r} of {size!r}; what is read is a side, of at most the '
                        'shortest edge')
    return {'enlarge': sides[0] / sides[1], 'aspect': aspect}
