"""Baseband signals with known labels: modulation, pulse shaping, channel, receiver, and the picture
primitives.

Pure numpy and scipy. Every frame is circular: its S symbols repeat with period S, so that the pulse is
applied exactly in the frequency domain, no symbol is special and the zero-intersymbol-interference property
holds to rounding. Only the phase of the continuous-phase classes does not close on itself: there the
receiver's filter touches the few symbols next to the ends of the frame.

Time is counted in symbols, frequency in cycles per symbol. SNR is Es/N0 in dB at the output of the matched
filter. Signals have unit mean power, hence Es = samples_per_symbol per symbol, and the complex noise of a
sample has variance samples_per_symbol / 10^(snr_db / 10).

Randomness is counter-based: the words of example `id` are those of Philox-4x64 with key (seed, split) and
counter (*, 0, 0, id). The stream of a numpy bit generator is guaranteed never to change, and everything above
it is done here, so an example depends on (seed, split, id) and the signal alone, whatever batch, process or
machine asks.
"""
from __future__ import annotations

import dataclasses
import functools
import math
import os

import numpy as np
import scipy.fft
import scipy.special

from fipjax.errors import UserError

CLASSES = ('OOK', '4ASK', 'BPSK', 'QPSK', 'OQPSK', 'pi/4-DQPSK', '8PSK', '16QAM', '64QAM', '16APSK', 'CPFSK',
           'GFSK', 'GMSK')
DENOMAE_CLASSES = ('OOK', '4ASK', '4PAM', '8ASK', '16PAM', 'OQPSK', 'DQPSK', 'CPFSK', 'GFSK', 'GMSK')
MODES = {'standard': CLASSES, 'denomae': DENOMAE_CLASSES}

# Continuous-phase classes: modulation index h and bandwidth-time product of the Gaussian filter (None =
# rectangular pulse of one symbol). CPFSK has h = 0.75 because h = 0.5 would be MSK, which differs from GMSK
# by the filter alone.
CPM = {'CPFSK': (0.75, None), 'GFSK': (0.35, 0.5), 'GMSK': (0.5, 0.3)}

HEADER = 16  # words of an example before its symbols: SNR, phase, frequency, timing, then one a multipath tap
MAX_TAPS = HEADER - 4
WORKERS = min(2, os.cpu_count() or 1)  # threads of a picture's FFTs
TAP_SPACING = 0.5  # symbols between two taps of the multipath channel


@dataclasses.dataclass(frozen=True)
class Signal:
    """What is sent and through which channel. Numbers of one example are drawn uniformly in the given ranges.

    classes: names out of `MODES[mode]`; empty = all of them.
    snr_db: (low, high) of Es/N0 in dB. snr_grid: values to draw from instead (for test sets), None = the
    range. symbols: per example. samples_per_symbol: at least 2. rolloff: of the root raised cosine, in [0,
    1]. phase: largest |carrier phase| in the middle of the frame, in radians; pi = unknown phase.
    frequency: largest |carrier frequency offset|, cycles per symbol. timing: largest |timing offset|,
    symbols. multipath: number of echoes, each half a symbol later than the one before, with complex Gaussian
    gains of standard deviation decay^k for echo k; the channel is scaled to unit energy. 0 = no multipath.
    mode: 'standard', or 'denomae' (see denomae.py), which reads only classes, snr_db and snr_grid.

    The defaults leave the pictures legible: the carrier is roughly locked, as after a coarse synchroniser.
    Raises UserError naming the config key.
    """

    classes: tuple[str, ...] = ()
    snr_db: tuple[float, float] = (-10.0, 10.0)
    snr_grid: tuple[float, ...] | None = None
    symbols: int = 512
    samples_per_symbol: int = 4
    rolloff: float = 0.35
    phase: float = 0.25
    frequency: float = 1e-4
    timing: float = 0.1
    multipath: int = 0
    decay: float = 0.4
    mode: str = 'standard'

    def __post_init__(self):
        if self.mode not in MODES:
            _refuse('mode', self.mode, f'one of {tuple(MODES)}')
        known = MODES[self.mode]
        if isinstance(self.classes, str) or any(name not in known for name in self.classes):
            _refuse('classes', self.classes, f'a tuple of names out of {known}, empty for all of them')
        if len(set(self.classes)) < len(self.classes):
            _refuse('classes', self.classes, 'each name once')
        object.__setattr__(self, 'classes', tuple(self.classes) or known)
        if not _numbers(self.snr_db) or len(self.snr_db) != 2 or self.snr_db[0] > self.snr_db[1]:
            _refuse('snr_db', self.snr_db, 'two finite numbers (low, high) in dB with low <= high')
        object.__setattr__(self, 'snr_db', tuple(float(v) for v in self.snr_db))
        if self.snr_grid is not None:
            if not _numbers(self.snr_grid) or not len(self.snr_grid):
                _refuse('snr_grid', self.snr_grid, 'None or a tuple of at least one finite number in dB')
            object.__setattr__(self, 'snr_grid', tuple(float(v) for v in self.snr_grid))
        for name, low, high in (('symbols', 8, 1 << 20), ('samples_per_symbol', 2, 64),
                                ('multipath', 0, MAX_TAPS)):
            value = getattr(self, name)
            whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
            if not whole or not low <= value <= high:
                _refuse(name, value, f'an integer from {low} to {high}')
        for name, low, high in (('rolloff', 0, 1), ('phase', 0, math.pi), ('frequency', 0, 0.5),
                                ('timing', 0, 0.5), ('decay', 0, 1)):
            value = getattr(self, name)
            if not _numbers((value,)) or not low <= value <= high:
                _refuse(name, value, f'a number from {low} to {high:.6g}')
        if self.mode == 'denomae':
            for field in dataclasses.fields(self):
                value = getattr(self, field.name)
                if field.name not in ('classes', 'snr_db', 'snr_grid', 'mode') and value != field.default:
                    _refuse(field.name, value, f"the default {field.default!r}: mode 'denomae' ignores it")

    @property
    def samples(self) -> int:
        """Length T of a frame of the standard mode, in samples."""
        return self.symbols * self.samples_per_symbol


def _numbers(values) -> bool:
    try:
        return all(not isinstance(v, (bool, str)) and math.isfinite(v) for v in values)
    except TypeError:
        return False


def _refuse(field: str, value, allowed: str):
    raise UserError(f'data.signal.{field}: {value!r} is not allowed; expected {allowed}.')


# Random words -------------------------------------------------------------------------------------

def random_words(seed: int, split: int, ids: np.ndarray, count: int) -> np.ndarray:
    """The first `count` 64-bit words of every example: ids [B] -> uint64 [B, count]."""
    generator = np.random.Philox(key=0)
    state = generator.state
    state['state']['key'] = np.array([seed, split], np.uint64)
    words = np.empty((len(ids), count), np.uint64)
    for row, number in enumerate(ids):
        state['state']['counter'] = np.array([0, 0, 0, number], np.uint64)
        generator.state = state
        words[row] = generator.random_raw(count)
    return words


def uniform(words: np.ndarray, low: float = 0.0, high: float = 1.0) -> np.ndarray:
    """Uniform float64 in [low, high) from uint64 words of any shape (their upper 53 bits)."""
    return low + (high - low) * ((words >> np.uint64(11)) * 2.0 ** -53)


def gaussian(words: np.ndarray) -> np.ndarray:
    """Circular complex64 Gaussian of unit variance, one from each uint64 word (Box and Muller 1958)."""
    halves = words.astype('<u8', copy=False).view('<u4').reshape(*words.shape, 2)
    first = (halves[..., 1] >> np.uint32(9)).view(np.int32).astype(np.float32)  # 23 bits
    second = (halves[..., 0] >> np.uint32(8)).view(np.int32).astype(np.float32)  # 24 bits
    angle = second * np.float32(2 * np.pi * 2.0 ** -24)
    radius = np.sqrt(-np.log((first + np.float32(0.5)) * np.float32(2.0 ** -23)))
    return polar(angle, radius)


def symbol_bytes(words: np.ndarray, count: int) -> np.ndarray:
    """uint64 [B, n] -> uint8 [B, count], count <= 8 n. All alphabets have 2^k letters, so `% size` stays
    uniform."""
    return words.astype('<u8', copy=False).view(np.uint8).reshape(len(words), -1)[:, :count]


def draw_snr(signal: Signal, words: np.ndarray) -> np.ndarray:
    """float32 [B] in dB from uint64 [B]: uniform in `snr_db`, or out of `snr_grid`."""
    if signal.snr_grid is None:
        return uniform(words, *signal.snr_db).astype(np.float32)
    grid = np.asarray(signal.snr_grid, np.float32)
    return grid[(uniform(words) * len(grid)).astype(np.int64)]


def polar(angle: np.ndarray, radius=None) -> np.ndarray:
    """complex64 radius * exp(j angle) of float32 angles in radians."""
    out = np.empty(angle.shape, np.complex64)
    np.cos(angle, out=out.real)
    np.sin(angle, out=out.imag)
    return out if radius is None else np.multiply(out, radius, out=out)


# Modulation ---------------------------------------------------------------------------------------

@functools.cache
def alphabet(name: str) -> np.ndarray:
    """The points of a linear class, complex64, of unit mean power. 16APSK: rings 4 + 12, radii 1 : 2.85
    (DVB-S2)."""
    def ring(count, radius=1.0, turn=0.5):
        return radius * np.exp(2j * np.pi * (np.arange(count) + turn) / count)

    def square(side):
        axis = np.arange(1 - side, side, 2)
        return (axis[:, None] + 1j * axis).ravel()

    points = {
        'OOK': lambda: np.array([0, 1]), '4ASK': lambda: np.array([-3, -1, 1, 3]),
        'BPSK': lambda: np.array([-1, 1]), 'QPSK': lambda: ring(4), 'OQPSK': lambda: ring(4),
        'pi/4-DQPSK': lambda: ring(8, turn=0.0), '8PSK': lambda: ring(8, turn=0.0),
        '16QAM': lambda: square(4), '64QAM': lambda: square(8),
        '16APSK': lambda: np.concatenate([ring(4), ring(12, 2.85)]),
    }[name]().astype(np.complex128)
    return (points / np.sqrt(np.mean(np.abs(points) ** 2))).astype(np.complex64)


def map_symbols(name: str, data: np.ndarray) -> np.ndarray:
    """uint8 [B, S] random bytes -> complex64 [B, S] points of a linear class."""
    if name == 'pi/4-DQPSK':  # every step turns by an odd multiple of pi/4, so the two QPSK grids alternate
        return alphabet(name)[np.cumsum(2 * (data % 4).astype(np.int64) + 1, axis=1) % 8]
    return alphabet(name)[data % len(alphabet(name))]


@functools.lru_cache(maxsize=32)
def frequencies(symbols: int, per_symbol: int) -> np.ndarray:
    """float32 [T]: the frequency of every bin of a frame, cycles per symbol."""
    return np.fft.fftfreq(symbols * per_symbol, 1 / per_symbol).astype(np.float32)


@functools.lru_cache(maxsize=32)
def root_raised_cosine(symbols: int, per_symbol: int, rolloff: float) -> np.ndarray:
    """float32 [T]: frequency response of the pulse, 1 at zero frequency (Proakis, Digital Communications,
    9.2)."""
    f = np.abs(np.fft.fftfreq(symbols * per_symbol, 1 / per_symbol))
    if rolloff == 0:  # half of the power at the band edge keeps the Nyquist criterion
        return np.sqrt(np.where(f < 0.5, 1.0, np.where(f == 0.5, 0.5, 0.0))).astype(np.float32)
    ramp = np.clip((f - (1 - rolloff) / 2) / rolloff, 0, 1)
    return np.sqrt(0.5 * (1 + np.cos(np.pi * ramp))).astype(np.float32)


def shape_spectrum(points: np.ndarray, per_symbol: int, rolloff: float) -> np.ndarray:
    """complex64 [B, S] symbols -> complex64 [B, T]: spectrum of the shaped signal of unit power."""
    spectrum = scipy.fft.fft(points, axis=-1)
    pulse = root_raised_cosine(points.shape[1], per_symbol, rolloff) * np.float32(per_symbol)
    return np.tile(spectrum, (1, per_symbol)) * pulse


def phase_pulse(time: np.ndarray, bt: float | None) -> np.ndarray:
    """Share (0 to 1) of its turn that a continuous-phase symbol starting at 0 has made at `time` (symbols).

    bt = None: rectangular frequency pulse of one symbol. Otherwise that rectangle filtered by a Gaussian of
    bandwidth-time product bt (Murota and Hirade 1981), integrated in closed form.
    """
    if bt is None:
        return np.clip(time, 0, 1)
    width = math.sqrt(math.log(2)) / (2 * math.pi * bt)

    def ramp(t):
        bell = np.exp(-0.5 * (t / width) ** 2) / math.sqrt(2 * math.pi)
        return t * scipy.special.ndtr(t / width) + width * bell

    return ramp(time) - ramp(time - 1)


def continuous_phase(name: str, data: np.ndarray, per_symbol: int, delay: np.ndarray) -> np.ndarray:
    """Binary continuous-phase signal: uint8 [B, S], delay [B] (symbols, |delay| <= 0.5) -> complex64 [B, T].

    phase(t) = pi h sum_k b_k q(t - k) with b_k = +-1 and q from `phase_pulse`; pulses that reach over the
    ends come from the circular continuation of the data. The phase starts at zero, up to the overlap of the
    pulses.
    """
    index, bt = CPM[name]
    bits = 2 * (data & 1).astype(np.int64) - 1
    within = np.arange(per_symbol) / per_symbol - delay[:, None]  # [B, per_symbol]
    reach = 3  # symbols in which a pulse with |delay| <= 0.5 is neither 0 nor 1 to rounding
    done = np.cumsum(np.roll(bits, reach + 1, axis=1), axis=1)  # older symbols have made their whole turn
    done -= bits[:, -reach - 1:].sum(axis=1, keepdims=True)  # those before the frame do not count
    phase = np.repeat(((done * index) % 2.0)[:, :, None].astype(np.float32), per_symbol, axis=2)
    for age in range(-reach, reach + 1):
        pulse = (index * phase_pulse(within + age, bt)).astype(np.float32)
        phase += np.roll(bits, age, axis=1)[:, :, None].astype(np.float32) * pulse[:, None, :]
    return polar(phase.reshape(len(data), -1) * np.float32(np.pi))


# Channel and receiver -----------------------------------------------------------------------------

def echoes(f: np.ndarray, words: np.ndarray, decay: float) -> np.ndarray:
    """Frequency response complex64 [B, T] of the multipath channel; words uint64 [B, taps], f [T]."""
    taps = words.shape[1]
    gains = gaussian(words) * np.float32(decay) ** np.arange(1, taps + 1, dtype=np.float32)
    scale = 1 / np.sqrt(1 + np.sum(np.abs(gains) ** 2, axis=1, keepdims=True))
    response = np.ones((len(words), len(f)), np.complex64)
    for k in range(taps):
        response += gains[:, k, None] * polar(np.float32(-2 * np.pi * TAP_SPACING * (k + 1)) * f)
    return response * scale


def generate(signal: Signal, seed: int, ids: np.ndarray, split: int = 0) -> dict[str, np.ndarray]:
    """Examples `ids` [B] (non-negative) of the standard mode, keyed by (seed, split, id).

    Returns 'noisy' and 'clean' complex64 [B, T] (clean = after the channel, before the noise), 'label' int32
    [B] = id % number of classes, 'snr_db' float32 [B].
    """
    ids = np.asarray(ids, np.int64)
    symbols, per_symbol, total = signal.symbols, signal.samples_per_symbol, signal.samples
    start = HEADER + -(-symbols // 8)
    words = random_words(seed, split, ids, start + total)
    data = symbol_bytes(words[:, HEADER:start], symbols)
    label = (ids % len(signal.classes)).astype(np.int32)
    snr_db = draw_snr(signal, words[:, 0])
    phase, frequency, delay = (uniform(words[:, 1 + i], -limit, limit)
                               for i, limit in enumerate((signal.phase, signal.frequency, signal.timing)))
    f = frequencies(symbols, per_symbol)
    clean = np.empty((len(ids), total), np.complex64)
    for number, name in enumerate(signal.classes):
        rows = np.flatnonzero(label == number)
        if not len(rows):
            continue
        if name in CPM:
            clean[rows] = continuous_phase(name, data[rows], per_symbol, delay[rows])
            continue
        points = map_symbols(name, data[rows])
        if name == 'OQPSK':  # the quadrature branch lags half a symbol
            spectrum = shape_spectrum(points.real.astype(np.complex64), per_symbol, signal.rolloff)
            lag = 1j * polar(np.float32(-np.pi) * f)
            spectrum += lag * shape_spectrum(points.imag.astype(np.complex64), per_symbol, signal.rolloff)
        else:
            spectrum = shape_spectrum(points, per_symbol, signal.rolloff)
        if signal.timing:
            spectrum *= polar((-2 * np.pi * delay[rows, None]).astype(np.float32) * f)
        clean[rows] = scipy.fft.ifft(spectrum, axis=-1)
    if signal.multipath:
        response = echoes(f, words[:, 4:4 + signal.multipath], signal.decay)
        clean = scipy.fft.ifft(scipy.fft.fft(clean, axis=-1) * response, axis=-1)
    if signal.phase or signal.frequency:
        time = (np.arange(total, dtype=np.float32) - np.float32(total / 2)) / np.float32(per_symbol)
        turn = (2 * np.pi * frequency[:, None]).astype(np.float32) * time
        clean *= polar(turn + phase[:, None].astype(np.float32))
    sigma = np.sqrt(per_symbol / 10 ** (snr_db.astype(np.float64) / 10)).astype(np.float32)
    noisy = gaussian(words[:, start:])
    noisy *= sigma[:, None]
    noisy += clean
    return {'noisy': noisy, 'clean': clean, 'label': label, 'snr_db': snr_db}


def matched_filter(x: np.ndarray, per_symbol: int, rolloff: float) -> np.ndarray:
    """The receiver's front end, the same for every class: complex64 [B, T] -> symbol-rate samples [B, T /
    per_symbol].

    Root-raised-cosine filter, then every per_symbol-th sample. On a linear class without offsets it returns
    the transmitted points plus noise of variance 1 / 10^(snr_db / 10).
    """
    symbols = x.shape[-1] // per_symbol
    spectrum = scipy.fft.fft(x, axis=-1) * root_raised_cosine(symbols, per_symbol, rolloff)
    # decimation aliases the spectrum
    folded = spectrum.reshape(*x.shape[:-1], per_symbol, symbols).sum(axis=-2)
    return scipy.fft.ifft(folded, axis=-1) * np.float32(1 / per_symbol)


# Picture primitives, shared by constellation.py and denomae.py ------------------------------------

def histogram(rows: np.ndarray, columns: np.ndarray, keep: np.ndarray, side: int) -> np.ndarray:
    """Integer positions [B, S] and a mask [B, S] -> float32 [B, side, side] counts of the kept points."""
    batch = np.broadcast_to(np.arange(len(rows))[:, None], rows.shape)
    flat = ((batch * side + rows) * side + columns)[keep]
    counts = np.bincount(flat, minlength=len(rows) * side * side)
    return counts.astype(np.float32).reshape(len(rows), side, side)


def to_bytes(blurred: np.ndarray, largest: float | None = None) -> np.ndarray:
    """float32 [..., H, W] -> uint8: over its largest value (or the given one), times 255, rounded down; else
    black."""
    largest = blurred.max(axis=(-2, -1), keepdims=True) if largest is None else np.float32(largest)
    scale = np.float32(255) / np.maximum(largest, np.float32(1e-5)) * (largest > 1e-5)
    # a thousandth of a level keeps the maximum itself from falling to the level below by rounding
    return np.clip(blurred * scale.astype(np.float32) + np.float32(1e-3), 0, 255).astype(np.uint8)
