"""Spectrograms against a plain discrete Fourier transform."""
import numpy as np
import pytest
from ml_collections import ConfigDict

from fipjax.data import spectrogram
from fipjax.errors import UserError


def settings(**changes):
    return ConfigDict({**dict(window=8, hop=3, bins=3, frames=2), **changes})


def slow(signal, s):
    """The definition in loops: signal [L] -> [bins, frames] in dB."""
    taper = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(s.window) / s.window)
    count = 1
    while (count - 1) * s.hop + s.window < len(signal):
        count += 1
    padded = np.append(signal, np.zeros(count * s.hop + s.window))
    half = s.window // 2 + 1
    matrix = np.exp(-2j * np.pi * np.outer(np.arange(half), np.arange(s.window)) / s.window)
    power = np.array([np.abs(matrix @ (taper * padded[t * s.hop:t * s.hop + s.window])) ** 2 for t in range(count)])

    def group(i, groups, size):
        return slice(i * size // groups, max((i + 1) * size // groups, i * size // groups + 1))
    out = np.array([[power[group(j, s.frames, count), group(i, s.bins, half)].mean() for j in range(s.frames)]
                    for i in range(s.bins)])
    return 10 * np.log10(np.maximum(out, 1e-6 * out.max()))


@pytest.mark.parametrize('length, changes', [(40, {}), (41, {}), (8, {}), (5, {}), (23, dict(bins=5, frames=7)),
                                             (30, dict(window=9, hop=9))])
def test_equals_the_definition(length, changes):
    x = np.random.default_rng(length).normal(size=(2, length, 1))
    found = spectrogram.spectrogram(x, settings(**changes))
    for i in range(2):
        np.testing.assert_allclose(found[i, :, :, 0], slow(x[i, :, 0], settings(**changes)), rtol=1e-5, atol=1e-4)
    assert found.dtype == np.float32


def test_channels_and_lengths():
    x = np.random.default_rng(0).normal(size=(3, 40, 2))
    length = np.array([40, 17, 9])
    found = spectrogram.spectrogram(x, settings(), length)
    for i, n in enumerate(length):
        alone = spectrogram.spectrogram(x[i:i + 1, :n], settings())
        np.testing.assert_array_equal(found[i], alone[0])
        for c in range(2):
            np.testing.assert_allclose(found[i, :, :, c], slow(x[i, :n, c], settings()), rtol=1e-5, atol=1e-4)


def test_silence_is_finite():
    found = spectrogram.spectrogram(np.zeros((1, 20, 1)), settings())
    assert np.isfinite(found).all()
    tone = np.cos(np.pi * np.arange(64))[None, :, None] * 1e4
    assert np.isclose(np.ptp(spectrogram.spectrogram(tone, settings(window=32, hop=16, bins=17))), 60, atol=1e-3)


@pytest.mark.parametrize('changes, words', [
    (dict(window=1), 'target.spectrogram.window is 1'), (dict(hop=0), 'hop is 0'), (dict(frames=2.5), 'frames is 2.5'),
    (dict(bins=6), 'bins is 6; a window of 8 samples has 5 frequencies')])
def test_refused(changes, words):
    with pytest.raises(UserError, match=words):
        spectrogram.check(settings(**changes), 'target')
