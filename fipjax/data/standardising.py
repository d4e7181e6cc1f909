"""Mean and deviation by channel, and x made by them: float64 sums over parts, so that copies stay small."""
from __future__ import annotations

import numpy as np

from fipjax.errors import UserError

CHUNK, CHUNK_VALUES = 256, 2**24  # examples and numbers converted at once, at most
SAMPLE = 2**28  # bytes of x that statistics are taken of where x is too large for memory
SMALL = 1e-6  # a channel that deviates less, by its mean, is constant: dividing by that would blow up rounding


def sample(rows, x):
    """As many of the rows int [n], evenly spread, as SAMPLE bytes of x hold, at least one; x [N, ...] or Stored."""
    most = max(1, SAMPLE // (x.dtype.itemsize * int(np.prod(x.shape[1:]))))
    return rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).round().astype(int)]


def _parts(x):
    """Slices of a few examples each, which together are all."""
    step = max(1, min(CHUNK, CHUNK_VALUES // max(1, x[:1].size)))
    return (slice(start, start + step) for start in range(0, len(x), step))


def check_finite(what, x, length, ids=None):
    """Raises UserError for NaN or infinity, padding aside.

    Args:
      what: names x, for the message.
      x: [n, ...]; with length, [n, L, C].
      length: int [n], valid samples, or None.
      ids: int [n], by which the message names an example; None for 0, 1, 2, ...
    """
    if x.dtype.kind != 'f':
        return
    bad = np.zeros(len(x), bool)
    for part in _parts(x):
        good = np.isfinite(x[part])
        if length is not None:
            good |= ~_valid(x, length[part])
        bad[part] = ~good.reshape(len(good), -1).all(1)
    if bad.any():
        first = int(np.argmax(bad) if ids is None else ids[np.argmax(bad)])
        raise UserError(f'{what} has NaN or infinity in {int(bad.sum())} examples, the first is {first}')


def pixels(x, where):
    """What makes pixels numbers from 0 to 1, in the form of `statistics`.

    Raises:
      UserError: they are no integers of 0 to 255 and no numbers of 0 to 1.
    """
    most, least = x.max(), x.min()
    whole = x.dtype.kind in 'iu'
    if least < 0 or most > (255 if whole else 1):
        raise UserError(f'{where}: x goes from {least} to {most}; a checkpoint of pictures wants pixels, integers of '
                        '0 to 255 or numbers of 0 to 1')
    return {'mean': 0.0, 'deviation': 255.0 if whole else 1.0}


def statistics(x, length):
    """Mean and deviation by channel, the last axis, over what is no padding; {'mean', 'deviation'} float64 [C].

    Args:
      x: [n, ..., C]; with length, [n, L, C].
      length: int [n], valid samples, or None.

    Returns:
      with deviation 1 where a channel is constant up to SMALL.
    """
    axes = tuple(range(x.ndim - 1))

    def total(of):
        out = 0.0
        for part in _parts(x):
            valid = True if length is None else _valid(x, length[part])
            out = out + np.where(valid, of(x[part].astype(np.float64)), 0.0).sum(axes)
        return out

    count = x[..., 0].size if length is None else length.sum()
    mean = total(lambda v: v) / count
    deviation = np.sqrt(total(lambda v: (v - mean) ** 2) / count)
    constant = deviation <= np.maximum(SMALL * np.abs(mean), np.finfo(np.float32).tiny)
    return {'mean': mean, 'deviation': np.where(constant, 1.0, deviation)}


def scaled(x, length, scale):
    """(x - mean) / deviation, float32, zero where there is padding; arguments as `statistics` takes and gives them."""
    out = np.empty(x.shape, np.float32)
    for part in _parts(x):
        values = (x[part].astype(np.float64) - scale['mean']) / scale['deviation']
        out[part] = values if length is None else np.where(_valid(x, length[part]), values, 0.0)
    return out


def _valid(x, length):
    return (np.arange(x.shape[1]) < length[:, None])[..., None]
