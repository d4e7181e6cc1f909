"""The compatibility mode: pictures against the loop form, and each quirk that the documentation names."""
import math

import numpy as np
import pytest
import scipy.stats

from fipjax.data import denomae
from fipjax.data.signals import DENOMAE_CLASSES, Signal


def frames(name, count, seed=0, **fields):
    batch = denomae.generate(Signal(mode='denomae', classes=(name,), **fields), seed, np.arange(count))
    longest = batch['length'][0]
    return {**batch, 'noisy': batch['noisy'][:, :longest], 'clean': batch['clean'][:, :longest]}


POWER = {'OOK': 0.5, '4ASK': 5, '4PAM': 5, '8ASK': 21, '16PAM': 85, 'OQPSK': math.exp(math.pi / 2),
         'DQPSK': 1, 'CPFSK': 1, 'GFSK': 1, 'GMSK': 1}


@pytest.mark.parametrize('name', DENOMAE_CLASSES)
def test_power_is_not_normalised(name):
    power = np.mean(np.abs(frames(name, 40)['clean'].astype(complex)) ** 2, axis=1)
    standard_error = np.std(power) / math.sqrt(40)
    assert abs(np.mean(power) - POWER[name]) < 5 * standard_error + 1e-3
    assert standard_error < 0.03 * POWER[name]


@pytest.mark.parametrize('name, share', [('8ASK', 0.20), ('16PAM', 0.05)])
def test_most_points_of_the_large_alphabets_fall_outside_the_picture(name, share):
    x = frames(name, 40, snr_grid=(2.0,))['noisy']
    inside = np.mean((np.abs(x.real) < denomae.EXTENT) & (np.abs(x.imag) < denomae.EXTENT))
    assert inside == pytest.approx(share, abs=0.015)


def test_noise_follows_the_power_of_the_frame():
    batch = frames('16PAM', 40, snr_grid=(3.0,))
    noise = np.mean(np.abs(batch['noisy'] - batch['clean']) ** 2, axis=1)
    ratio = np.mean(np.abs(batch['clean']) ** 2, axis=1) / noise
    assert np.mean(10 * np.log10(ratio)) == pytest.approx(3.0, abs=0.1)


def test_phase_noise_and_drift():
    batch = frames('DQPSK', 400)
    fourth = np.angle(batch['clean'].astype(complex) ** 4) / 4
    n = np.arange(denomae.SYMBOLS)
    drift = fourth @ n / (n @ n)
    assert np.std(drift) == pytest.approx(denomae.PHASE_STD, rel=5 / math.sqrt(800) + 0.02)
    assert np.std(fourth - drift[:, None] * n) == pytest.approx(denomae.PHASE_STD, rel=0.02)


def test_4ask_starts_with_a_mark():
    first = [np.mean(frames(name, 4000)['clean'][:, 0].imag) for name in ('4ASK', '4PAM')]
    noise = 5 * math.sqrt(5) * denomae.PHASE_STD / math.sqrt(4000)
    assert first[0] == pytest.approx(1e-4, abs=noise) and first[1] == pytest.approx(0, abs=noise)


def test_gmsk_is_the_written_convolution_and_only_advances():
    bits = np.random.default_rng(0).integers(0, 2, (2, 64))
    t = np.linspace(-4, 4, 65)
    g = np.sinc(t) * np.hamming(65)
    for row, ours in zip(bits, denomae.gmsk(bits)):
        f = np.convolve(np.repeat(row, 8), g / g.sum(), 'same')
        np.testing.assert_allclose(ours, np.exp(1j * np.pi / 2 * np.cumsum(f)), atol=1e-9)
    turn = np.unwrap(np.angle(frames('GMSK', 4)['clean']), axis=1)
    assert np.all(turn[:, -1] > 1024 * 8 * np.pi / 2 * 0.4)


def moments(name, seed):
    x = frames(name, 80, seed, snr_grid=(10.0,))['noisy']
    x = x[:, ::denomae.GMSK_SAMPLES] if name == 'GMSK' else x
    columns = [np.mean(np.abs(x) ** p, axis=1) for p in (1, 2, 4)]
    columns += [np.mean((x ** p).real, axis=1) for p in (1, 2, 4)]
    columns += [np.abs(np.mean(x[:, 1:] * np.conj(x[:, :-1]), axis=1))]
    return columns


def smallest_p(first, second):
    a, b = moments(first, 0), moments(second, 1)
    return min(1.0, min(scipy.stats.ks_2samp(u, v).pvalue for u, v in zip(a, b)) * len(a))


@pytest.mark.parametrize('pair', denomae.TWINS, ids='-'.join)
def test_twins_have_one_distribution(pair):
    assert smallest_p(*pair) > 1e-3


def test_everything_else_differs_hence_the_ceiling():
    distinct = [name for name in DENOMAE_CLASSES if name not in [pair[1] for pair in denomae.TWINS]]
    for i, first in enumerate(distinct):
        for second in distinct[i + 1:]:
            assert smallest_p(first, second) < 1e-8, (first, second)
    assert denomae.CEILING == len(distinct) / len(DENOMAE_CLASSES)


def test_ceiling_of_some_classes():
    assert denomae.ceiling(DENOMAE_CLASSES) == (0.8, denomae.CEILING_REASON)
    assert denomae.ceiling(('OOK', '4ASK', 'GMSK')) == (None, '')
    bound, reason = denomae.ceiling(('OOK', '4ASK', '4PAM'))
    assert bound == pytest.approx(2 / 3) and '4ASK/4PAM' in reason and '66.7 %' in reason


# Pictures

@pytest.mark.parametrize('name', ['OOK', '8ASK', 'OQPSK'])
def test_picture_against_the_loop(name):
    x = frames(name, 2, seed=3)['noisy']
    ours = denomae.render(x, np.array([1024, 1024]))
    assert ours.shape == (2, 224, 224, 3) and ours.dtype == np.uint8
    error = np.abs(denomae.render_loop(x[0].astype(complex)) - ours[0].astype(float)).mean(axis=(0, 1))
    # the narrow kernel is exact, the wide ones are those of a histogram of pixels
    assert error[0] < 0.01 and error[1] < 2 and error[2] < 2


@pytest.mark.parametrize('size', [32, 56, 224])
def test_picture_is_the_loop_of_points_at_pixel_corners(size):
    pixel, _, edge, _ = denomae.geometry(size)
    x = frames('4PAM', 1)['noisy'][0, :300].astype(complex)
    corner = (np.rint((edge + x.real) / pixel) * pixel - edge
              + 1j * (edge - np.rint((edge - x.imag) / pixel) * pixel))
    ours = denomae.render(corner[None], np.array([300]), size)[0].astype(int)
    difference = np.abs(ours - denomae.render_loop(corner, size))
    assert difference.max() <= 1 and difference.mean() < 0.01


def test_blocks_that_reach_the_rim_are_dropped():
    """At 224: 424 pixels; the wide block needs 50 pixels on either side, strictly."""
    pixel, _, edge, _ = denomae.geometry(224)
    assert (pixel, edge) == (pytest.approx(5 / 224), pytest.approx(2.5 + 100 * 5 / 224))
    for row, kept in ((50, False), (51, True), (373, True), (374, False)):
        point = np.array([1j * (edge - row * pixel)])
        for picture in (denomae.render(point[None], np.array([1]))[0], denomae.render_loop(point)):
            assert picture[:, :, 2].any() == kept, row


def test_only_the_first_samples_count():
    x = frames('OQPSK', 1)['noisy']
    padded = np.concatenate([x, np.zeros((1, 500), np.complex64)], axis=1)
    length = np.array([1024])
    np.testing.assert_array_equal(denomae.render(padded, length, 48), denomae.render(x, length, 48))


def test_no_point_is_a_black_picture():
    far = np.full((1, 4), 100 + 100j)
    assert not denomae.render(far, np.array([4]), 32).any()
    assert not denomae.render_loop(far[0], 32).any()


def test_lengths_and_symbol_rate():
    batch = denomae.generate(Signal(mode='denomae', classes=('GMSK', 'OOK')), 0, np.arange(4))
    assert batch['length'].tolist() == [8192, 1024, 8192, 1024]
    assert not batch['noisy'][1, 1024:].any()
    even = denomae.symbol_rate(batch, 'clean')
    short = denomae.generate(Signal(mode='denomae', classes=('OOK',)), 0, np.arange(2))
    assert denomae.symbol_rate(short, 'clean').shape == short['clean'].shape == (2, 1024)
    np.testing.assert_array_equal(even[0], batch['clean'][0, ::8])
    np.testing.assert_array_equal(even[1], batch['clean'][1, :1024])
