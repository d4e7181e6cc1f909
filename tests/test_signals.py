"""The theory that the generator must hold: power, spectrum, symbol errors, noise, phase, and distinct
classes."""
import itertools
import math

import numpy as np
import pytest
import scipy.stats

from fipjax.data import signals
from fipjax.data.signals import CLASSES, Signal
from fipjax.errors import UserError

PLAIN = dict(phase=0.0, frequency=0.0, timing=0.0)
GOLDEN_WORDS = [[213000021201967259, 4455796210202625458], [6312158256571094726, 10634814581434429480]]


def frames(name, count, seed=0, **fields):
    return signals.generate(Signal(classes=(name,), **fields), seed, np.arange(count))


def receive(x):
    signal = Signal()
    return signals.matched_filter(x, signal.samples_per_symbol, signal.rolloff)


# Random words

def test_words_are_the_philox_stream_of_key_and_counter():
    words = signals.random_words(7, 2, np.array([5, 2 ** 31 - 2]), 9)
    for row, number in enumerate((5, 2 ** 31 - 2)):
        direct = np.random.Philox(key=[7, 2], counter=[0, 0, 0, number]).random_raw(9)
        np.testing.assert_array_equal(words[row], direct)


def test_words_never_change():
    words = signals.random_words(0, 0, np.array([0, 1]), 2)
    assert words.tolist() == GOLDEN_WORDS


def test_samples_never_change():
    """Change these numbers only on purpose: prepared data and published tables rest on them."""
    batch = signals.generate(Signal(symbols=16), 0, np.array([2, 3, 12]))
    np.testing.assert_allclose(batch['noisy'][:, 5], [1.750911 - 0.256927j, 5.490627 + 3.009021j,
                                                      -1.319815 - 1.971975j], atol=2e-5)
    np.testing.assert_allclose(batch['clean'][:, 5], [1.378806 + 0.070486j, 0.834222 + 0.879392j,
                                                      -0.576959 + 0.816773j], atol=2e-5)
    np.testing.assert_allclose(batch['snr_db'], [7.354277, -4.023585, -2.737488], atol=1e-5)


def test_gaussian_is_standard_complex_normal():
    z = signals.gaussian(signals.random_words(1, 0, np.arange(4), 5000)).ravel().astype(complex)
    for part in (z.real, z.imag):
        assert scipy.stats.kstest(part * math.sqrt(2), 'norm').pvalue > 1e-4
    assert abs(np.mean(z * z)) < 5 / math.sqrt(len(z))  # circular
    assert abs(np.mean(z.real * z.imag)) < 5 * 0.5 / math.sqrt(len(z))


def test_snr_is_uniform_or_from_the_grid():
    words = signals.random_words(0, 0, np.arange(4000), 1)[:, 0]
    drawn = signals.draw_snr(Signal(snr_db=(-4, 6)), words)
    assert scipy.stats.kstest(drawn, 'uniform', (-4, 10)).pvalue > 1e-4
    values, counts = np.unique(signals.draw_snr(Signal(snr_grid=(-10, 0, 5)), words), return_counts=True)
    assert values.tolist() == [-10, 0, 5]
    assert scipy.stats.chisquare(counts).pvalue > 1e-4


# Power, pulse, spectrum

@pytest.mark.parametrize('name', CLASSES)
@pytest.mark.parametrize('fields', [{}, {'multipath': 3}], ids=['default', 'multipath'])
def test_unit_power(name, fields):
    power = np.mean(np.abs(frames(name, 300, **fields)['clean'].astype(complex)) ** 2, axis=1)
    # the power of a linear frame is the mean of |a|^2 over its symbols; multipath adds the channel's
    standard_error = np.std(power) / math.sqrt(len(power))
    assert abs(np.mean(power) - 1) < 5 * standard_error + 1e-5
    assert standard_error < 0.03


@pytest.mark.parametrize('name', [c for c in CLASSES if c not in signals.CPM])
def test_alphabet_has_unit_power_and_distinct_points(name):
    points = signals.alphabet(name)
    assert np.mean(np.abs(points) ** 2) == pytest.approx(1, abs=1e-6)
    distance = np.abs(points[:, None] - points) + np.eye(len(points))
    assert distance.min() > 0.2


@pytest.mark.parametrize('rolloff', [0.0, 0.2, 0.35, 1.0])
@pytest.mark.parametrize('per_symbol', [2, 4, 8])
def test_pulse_is_band_limited_and_free_of_intersymbol_interference(rolloff, per_symbol):
    response = signals.root_raised_cosine(64, per_symbol, rolloff).astype(float)
    f = np.abs(signals.frequencies(64, per_symbol))
    assert np.all(response[f > (1 + rolloff) / 2 + 1e-6] < 1e-6)
    assert np.all(response[f < (1 - rolloff) / 2 - 1e-6] > 1 - 1e-6)
    both = np.fft.ifft(response ** 2).real * per_symbol
    expected = np.zeros(64)
    expected[0] = 1
    np.testing.assert_allclose(both[::per_symbol], expected, atol=1e-6)


def test_pulse_equals_its_closed_form_in_time():
    beta, per_symbol, symbols = 0.35, 4, 256
    t = np.arange(1, 10 * per_symbol) / per_symbol
    t = t[np.abs(4 * beta * t - 1) > 1e-6]
    exact = ((np.sin(np.pi * t * (1 - beta)) + 4 * beta * t * np.cos(np.pi * t * (1 + beta)))
             / (np.pi * t * (1 - (4 * beta * t) ** 2)))
    pulse = np.fft.ifft(signals.root_raised_cosine(symbols, per_symbol, beta)).real * per_symbol
    np.testing.assert_allclose(pulse[np.rint(t * per_symbol).astype(int)], exact, atol=1e-4)
    assert pulse[0] == pytest.approx(1 - beta + 4 * beta / np.pi, abs=1e-4)


def test_spectrum_of_a_linear_class_is_the_raised_cosine():
    signal = Signal(classes=('16QAM',), **PLAIN)
    x = signals.generate(signal, 0, np.arange(400))['clean']
    density = np.mean(np.abs(np.fft.fft(x)) ** 2, axis=0)
    f = np.abs(signals.frequencies(signal.symbols, signal.samples_per_symbol))
    inside = f < (1 - signal.rolloff) / 2
    level = density[inside].mean()
    beta = signal.rolloff
    expected = np.where(f < (1 - beta) / 2, 1, 0.5 * (1 + np.cos(np.pi / beta * (f - (1 - beta) / 2))))
    expected[f > (1 + beta) / 2] = 0
    smooth = np.convolve(density / level - expected, np.ones(16) / 16, 'same')
    assert np.abs(smooth).max() < 5 / math.sqrt(16 * 400)
    assert density[f > (1 + beta) / 2 + 1e-6].max() < 1e-8 * level


# Modulation

def test_matched_filter_returns_the_points():
    for name in ('OOK', '16QAM', '16APSK', 'pi/4-DQPSK'):
        y = receive(frames(name, 4, **PLAIN)['clean'])
        distance = np.abs(y[..., None] - signals.alphabet(name)).min(axis=-1)
        assert distance.max() < 1e-4


def test_every_point_is_equally_likely():
    y = receive(frames('64QAM', 100, **PLAIN)['clean'])
    nearest = np.abs(y[..., None] - signals.alphabet('64QAM')).argmin(axis=-1)
    assert scipy.stats.chisquare(np.bincount(nearest.ravel(), minlength=64)).pvalue > 1e-4


def test_pi4_dqpsk_turns_by_odd_multiples_of_pi_4():
    y = receive(frames('pi/4-DQPSK', 4, **PLAIN)['clean'])
    turn = np.angle(y[:, 1:] * np.conj(y[:, :-1])) / (np.pi / 4)
    np.testing.assert_allclose(np.abs(turn) % 2, 1, atol=1e-3)


def test_oqpsk_quadrature_lags_half_a_symbol():
    x = frames('OQPSK', 4, **PLAIN)['clean']
    half = Signal().samples_per_symbol // 2
    for branch, delay in ((x.real, 0), (x.imag, half)):
        y = receive(np.roll(branch, -delay, axis=1).astype(np.complex64))
        np.testing.assert_allclose(np.abs(y.real), math.sqrt(0.5), atol=1e-4)


@pytest.mark.parametrize('name', signals.CPM)
def test_continuous_phase_against_numerical_integration(name):
    """Frequency pulses built on a fine grid by convolution, integrated by the trapezium rule."""
    index, bt = signals.CPM[name]
    rng = np.random.default_rng(0)
    data, delay, per_symbol, fine = rng.integers(0, 256, (1, 24), dtype=np.uint8), 0.3, 4, 400
    bits = 2.0 * (data[0] & 1) - 1
    frequency = np.repeat(np.tile(bits, 3), fine) * index / 2  # three periods, the middle one is the frame
    if bt is not None:
        width = math.sqrt(math.log(2)) / (2 * math.pi * bt) * fine
        kernel = np.exp(-0.5 * (np.arange(-6 * int(width), 6 * int(width) + 1) / width) ** 2)
        frequency = np.convolve(frequency, kernel / kernel.sum(), 'same')
    phase = np.concatenate([[0], np.cumsum(frequency) / fine * 2 * np.pi])
    at = 24 * fine + np.rint((np.arange(24 * per_symbol) / per_symbol - delay) * fine).astype(int)
    ours = signals.continuous_phase(name, data, per_symbol, np.array([delay]))[0]
    turned = ours * np.exp(-1j * phase[at])
    np.testing.assert_allclose(turned * np.conj(turned[0]), 1, atol=0.02)
    np.testing.assert_allclose(np.abs(ours), 1, atol=1e-5)


def features(x, y):
    """Per frame statistics [frames, features] with power against every pair: moments, cyclic moments,
    transitions."""
    step = y[:, 1:] * np.conj(y[:, :-1])
    r = np.abs(y)
    near = x[:, 1:] * np.conj(x[:, :-1])
    columns = [np.mean(r ** p, axis=1) for p in (1, 4, 6)]
    columns += [np.abs(np.mean(y ** p, axis=1)) for p in (1, 2, 4, 8)]
    columns += [np.abs(np.mean(step ** p, axis=1)) for p in (1, 2, 4)]
    columns += [np.mean(y.real ** 4, axis=1), np.mean(y.imag ** 4, axis=1), np.abs(np.mean(near, axis=1)),
                np.std(np.abs(x), axis=1), np.abs(np.mean(near ** 2, axis=1))]
    return np.stack(columns, axis=1)


def smallest_p(a, b):
    """Two-sample Kolmogorov-Smirnov over all features, Bonferroni corrected."""
    return min(1.0, min(scipy.stats.ks_2samp(u, v).pvalue for u, v in zip(a.T, b.T)) * a.shape[1])


@pytest.fixture(scope='module')
def class_features():
    table = {}
    for name in CLASSES:
        for seed in (0, 1):
            x = frames(name, 60, seed, symbols=1024, snr_grid=(25.0,), **PLAIN)['noisy']
            table[name, seed] = features(x, receive(x))
    return table


@pytest.mark.parametrize('pair', list(itertools.combinations(CLASSES, 2)), ids='-'.join)
def test_no_two_classes_have_one_distribution(class_features, pair):
    assert smallest_p(class_features[pair[0], 0], class_features[pair[1], 0]) < 1e-8


@pytest.mark.parametrize('name', CLASSES)
def test_that_statistic_accepts_a_class_against_itself(class_features, name):
    assert smallest_p(class_features[name, 0], class_features[name, 1]) > 1e-3


# Channel

@pytest.mark.parametrize('snr_db', [0.0, 4.0, 8.0])
def test_symbol_error_rate_of_qpsk(snr_db):
    """Through the whole chain, against 2 Q - Q^2 with Q = Q(sqrt(Es / N0)) (Proakis, Digital Communications,
    4.3)."""
    batch = frames('QPSK', 200, snr_grid=(snr_db,), **PLAIN)
    sent, received = receive(batch['clean']), receive(batch['noisy'])
    np.testing.assert_allclose(np.abs(sent.real), math.sqrt(0.5), atol=1e-4)
    wrong = (np.sign(sent.real) != np.sign(received.real)) | (np.sign(sent.imag) != np.sign(received.imag))
    q = scipy.stats.norm.sf(math.sqrt(10 ** (snr_db / 10)))
    expected = 2 * q - q * q
    assert abs(wrong.mean() - expected) < 4 * math.sqrt(expected * (1 - expected) / wrong.size)


def test_noise_at_the_matched_filter_is_white_with_the_stated_variance():
    batch = frames('GMSK', 200, snr_grid=(-3.0,))
    noise = (receive(batch['noisy']) - receive(batch['clean'])).astype(complex)
    variance = 10 ** 0.3
    assert np.mean(np.abs(noise) ** 2) == pytest.approx(variance, rel=5 / math.sqrt(noise.size))
    assert abs(np.mean(noise[:, 1:] * np.conj(noise[:, :-1]))) < 5 * variance / math.sqrt(noise.size)


def test_carrier_phase_and_frequency():
    limits = dict(phase=0.5, frequency=1e-3)
    plain = frames('8PSK', 64, timing=0.0, phase=0.0, frequency=0.0)['clean']
    turned = frames('8PSK', 64, timing=0.0, **limits)['clean']
    signal = Signal()
    angle = np.unwrap(np.angle(turned.astype(complex) * np.conj(plain)), axis=1)
    middle = angle[:, signal.samples // 2]
    slope = (angle[:, -1] - angle[:, 0]) / (signal.samples - 1) * signal.samples_per_symbol / (2 * np.pi)
    assert scipy.stats.kstest(middle, 'uniform', (-0.5, 1.0)).pvalue > 1e-4
    assert scipy.stats.kstest(slope, 'uniform', (-1e-3, 2e-3)).pvalue > 1e-4
    line = middle[:, None] + 2 * np.pi * slope[:, None] * (np.arange(signal.samples) - signal.samples / 2) / 4
    np.testing.assert_allclose(angle, line, atol=1e-3)


@pytest.mark.parametrize('name', ['16QAM', 'GMSK'])
def test_timing_offset_is_a_delay(name):
    plain = frames(name, 16, symbols=64, **PLAIN)['clean']
    late = frames(name, 16, symbols=64, phase=0.0, frequency=0.0, timing=0.5)['clean']
    words = signals.random_words(0, 0, np.arange(16), 4)
    delay = (words[:, 3] / 2.0 ** 64 - 0.5)
    f = np.fft.fftfreq(256, 0.25)
    shifted = np.fft.ifft(np.fft.fft(plain) * np.exp(-2j * np.pi * delay[:, None] * f))
    keep = slice(None) if name == '16QAM' else slice(40, -40)  # a phase that does not close rings at the ends
    np.testing.assert_allclose(late[:, keep], shifted[:, keep], atol=1e-3 if name == '16QAM' else 0.03)


def test_multipath_is_echoes_of_unit_energy_half_a_symbol_apart():
    plain = frames('GFSK', 200, symbols=32, **PLAIN)['clean']
    heard = frames('GFSK', 200, symbols=32, multipath=3, decay=0.5, **PLAIN)['clean']
    impulse = np.fft.ifft(np.fft.fft(heard.astype(complex)) / np.fft.fft(plain.astype(complex)))
    np.testing.assert_allclose(np.sum(np.abs(impulse) ** 2, axis=1), 1, atol=1e-3)
    np.testing.assert_allclose(np.delete(impulse, [0, 2, 4, 6], axis=1), 0, atol=1e-3)
    gain = np.mean(np.abs(impulse[:, [2, 4, 6]] / impulse[:, :1]) ** 2, axis=0)
    expected = 0.5 ** (2 * np.arange(1, 4))
    assert np.all(np.abs(gain / expected - 1) < 5 / math.sqrt(200))


# Keys

def test_an_example_does_not_depend_on_its_batch():
    signal = Signal(multipath=2)
    alone = signals.generate(signal, 3, np.array([29]), 1)
    among = signals.generate(signal, 3, np.array([4, 3, 29, 16, 0, 42]), 1)
    for key in ('label', 'snr_db'):
        np.testing.assert_array_equal(alone[key][0], among[key][2])
    for key in ('noisy', 'clean'):  # SciPy 1.18 transforms several rows at once in another order: equal to rounding
        np.testing.assert_allclose(alone[key][0], among[key][2], rtol=0, atol=1e-5)


def test_seed_split_and_id_each_change_the_sample():
    signal = Signal(classes=('QPSK',))
    base = signals.generate(signal, 0, np.array([1]), 0)['noisy']
    for seed, number, split in ((1, 1, 0), (0, 2, 0), (0, 1, 1)):
        other = signals.generate(signal, seed, np.array([number]), split)['noisy']
        assert abs(np.vdot(base, other)) < 0.2 * np.linalg.norm(base) * np.linalg.norm(other)


def test_symbols_do_not_depend_on_the_channel():
    a = frames('16QAM', 3, **PLAIN)
    b = frames('16QAM', 3, snr_db=(20, 30), **PLAIN)
    np.testing.assert_array_equal(a['clean'], b['clean'])
    assert not np.array_equal(a['snr_db'], b['snr_db'])


def test_labels_are_balanced():
    label = signals.generate(Signal(symbols=8), 0, np.arange(39))['label']
    assert np.bincount(label).tolist() == [3] * 13


# Bad input

@pytest.mark.parametrize('field, value', [
    ('mode', 'radioml'), ('classes', ('QPSK', '5PSK')), ('classes', 'QPSK'), ('classes', ('QPSK', 'QPSK')),
    ('snr_db', (5, -5)), ('snr_db', (1,)), ('snr_db', (0, math.nan)), ('snr_db', 3), ('snr_grid', ()),
    ('snr_grid', ('a',)), ('symbols', 0), ('symbols', 2.5), ('samples_per_symbol', 1), ('rolloff', 1.5),
    ('phase', -1), ('phase', 4), ('frequency', math.inf), ('timing', 0.6), ('multipath', 13),
    ('decay', None)])
def test_bad_fields_are_named(field, value):
    with pytest.raises(UserError, match=rf'data\.signal\.{field}: .*expected') as error:
        Signal(**{field: value})
    assert repr(value) in str(error.value)


def test_denomae_mode_refuses_fields_that_it_would_ignore():
    with pytest.raises(UserError, match=r'data\.signal\.symbols'):
        Signal(mode='denomae', symbols=128)
    with pytest.raises(UserError, match=r'data\.signal\.classes'):
        Signal(mode='denomae', classes=('64QAM',))


def test_lists_become_tuples():
    signal = Signal(classes=['QPSK', 'OOK'], snr_db=[0, 1], snr_grid=[2, 3])
    assert (signal.classes, signal.snr_db, signal.snr_grid) == (('QPSK', 'OOK'), (0.0, 1.0), (2.0, 3.0))
    assert Signal().classes == CLASSES
