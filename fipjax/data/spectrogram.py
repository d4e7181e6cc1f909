"""One-dimensional signals as small pictures: log power of short-time spectra, averaged to bins x frames."""
from __future__ import annotations

import numpy as np

from fipjax.errors import UserError

FLOOR = 1e-6  # of the largest power of an example: silence then is -60 dB and not minus infinity


def check(settings, key: str) -> None:
    """Raises UserError unless window, hop, bins and frames are whole numbers that go together."""
    for name, least in (('window', 2), ('hop', 1), ('bins', 1), ('frames', 1)):
        value = settings[name]
        if not isinstance(value, int) or value < least:
            raise UserError(f'{key}.spectrogram.{name} is {value!r}; expected a whole number of at least {least}')
    if settings.bins > settings.window // 2 + 1:
        raise UserError(f'{key}.spectrogram.bins is {settings.bins}; a window of {settings.window} samples has '
                        f'{settings.window // 2 + 1} frequencies')


def spectrogram(x: np.ndarray, settings, length=None) -> np.ndarray:
    """Log power in dB, channel by channel.

    Args:
      x: [n, L, C], real.
      settings: window (samples, Hann), hop (samples between windows), bins, frames.
      length: int [n], valid samples of each example, or None for L.

    Returns:
      float32 [n, bins, frames, C]; power is averaged over nearly equal groups of frequencies and of windows, then
      10 log10. The last window is filled up with zeros; examples of fewer windows than `frames` repeat some.
    """
    window, hop = settings.window, settings.hop
    taper = np.hanning(window + 1)[:-1]
    out = np.empty((len(x), settings.bins, settings.frames, x.shape[-1]), np.float32)
    for i, signal in enumerate(x):
        signal = np.asarray(signal[:len(signal) if length is None else length[i]], np.float64)
        count = 1 + max(0, -(-(len(signal) - window) // hop))
        signal = np.pad(signal, ((0, (count - 1) * hop + window - len(signal)), (0, 0)))
        frames = np.lib.stride_tricks.sliding_window_view(signal, window, axis=0)[::hop]  # [count, C, window]
        power = np.abs(np.fft.rfft(frames * taper)) ** 2  # [count, C, window // 2 + 1]
        power = _average(_average(power, 2, settings.bins), 0, settings.frames)
        floor = max(FLOOR * power.max(), np.finfo(np.float32).tiny)
        out[i] = 10 * np.log10(np.maximum(power, floor)).transpose(2, 0, 1)
    return out


def _average(x, axis, groups):
    """Means over [floor(i L / groups), floor((i + 1) L / groups)), each at least one long."""
    size = x.shape[axis]
    start = np.arange(groups) * size // groups
    end = np.maximum(np.arange(1, groups + 1) * size // groups, start + 1)
    total = np.insert(np.cumsum(x, axis), 0, 0, axis)
    shape = [1] * x.ndim
    shape[axis] = groups
    return (total.take(end, axis) - total.take(start, axis)) / (end - start).reshape(shape)
