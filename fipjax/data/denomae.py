"""Compatibility mode: the public DenoMAE constellation generator, quirks included.

Use it to compare with published tables and for nothing else. Two pairs of its ten classes have one
distribution, so every table made with it carries `CEILING` and `CEILING_REASON`. The quirks, each on purpose:

 * one sample per symbol and no pulse shaping, except GMSK, which has eight samples per symbol;
 * amplitudes are not normalised: mean power from 0.5 (OOK) to 85 (16PAM), so scale alone separates most
   classes, and 80 % of the noisy 8ASK symbols and 95 % of the 16PAM symbols fall outside the picture;
 * OQPSK has no offset: it is QPSK of radius exp(pi / 4) = 2.193; DQPSK has no differential coding: it is
   QPSK;
 * 4ASK equals 4PAM (but for 1e-4 j added to the first symbol of 4ASK) and CPFSK equals GFSK, both {+j, -j};
 * GMSK bits are 0 and 1, not -1 and 1, so the phase only advances; its filter is a Hamming-windowed sinc;
 * SNR is that of a sample: noise variance = mean |s|^2 / 10^(SNR / 10), with the frame's own mean;
 * a point is counted to the nearest corner of a pixel, but its distance is measured to the pixel's centre.

Deviation: the random numbers are ours (keyed by example), hence the same distribution, not the same draws.
"""
from __future__ import annotations

import concurrent.futures
import functools
import math

import numpy as np
import scipy.fft

from fipjax.data import signals

SYMBOLS = 1024
GMSK_SAMPLES = 8  # per symbol
LONG = SYMBOLS * GMSK_SAMPLES
EXTENT, REFERENCE, BLOCKS, PAD = 2.5, 224, (5, 25, 50), 100
PHASE_STD = 1e-4  # radians: of every sample, and of the drift a sample of every frame

TWINS = (('4ASK', '4PAM'), ('CPFSK', 'GFSK'))
CEILING = 0.8
CEILING_REASON = ('The public generator draws 4ASK and 4PAM from one distribution, and CPFSK and GFSK from '
                  'another one: no classifier can tell the members of a pair apart, so the expected accuracy '
                  'on its 10 balanced classes is at most (6 + 2 x 1) / 10 = 80 %.')


def ceiling(classes: tuple[str, ...]) -> tuple[float | None, str]:
    """(largest expected accuracy over these balanced classes, why); (None, '') if none of them coincide."""
    lost = sum(set(pair) <= set(classes) for pair in TWINS)
    if not lost:
        return None, ''
    if len(classes) == len(signals.DENOMAE_CLASSES):
        return CEILING, CEILING_REASON
    pairs = ' and '.join('/'.join(pair) for pair in TWINS if set(pair) <= set(classes))
    bound = (len(classes) - lost) / len(classes)
    return bound, (f'{pairs} have one distribution in the public generator, so the expected accuracy on '
                   f'these {len(classes)} balanced classes is at most {100 * bound:.1f} %.')


@functools.cache
def alphabet(name: str) -> np.ndarray:
    """Points of a class (all but GMSK), complex128, not normalised."""
    pam = {'OOK': [0, 1], '4ASK': [-3, -1, 1, 3], '4PAM': [-3, -1, 1, 3], '8ASK': range(-7, 8, 2),
           '16PAM': range(-15, 16, 2)}
    if name in pam:
        return np.array(pam[name], np.complex128)
    turns = np.array([1, 1j, -1, -1j])
    return {'OQPSK': math.exp(math.pi / 4) * turns, 'DQPSK': turns, 'CPFSK': turns[1::2],
            'GFSK': turns[1::2]}[name]


def gmsk(bits: np.ndarray) -> np.ndarray:
    """bits {0, 1} [B, S] -> complex128 [B, 8 S]: exp(j pi / 2 times the running sum of the filtered bits)."""
    time = np.arange(-4, 4 + 1 / GMSK_SAMPLES, 1 / GMSK_SAMPLES)
    taps = np.sinc(time) * np.hamming(len(time))
    taps /= taps.sum()
    held = np.repeat(bits.astype(np.float64), GMSK_SAMPLES, axis=1)
    size, half = held.shape[1], len(taps) // 2
    length = scipy.fft.next_fast_len(size + len(taps) - 1, real=True)
    spectrum = scipy.fft.rfft(held, length) * scipy.fft.rfft(taps, length)
    filtered = scipy.fft.irfft(spectrum, length)[:, half:half + size]
    return np.exp(0.5j * np.pi * np.cumsum(filtered, axis=1))


def _frames(name: str, words: np.ndarray, snr_db: np.ndarray, samples: int) -> tuple[np.ndarray, np.ndarray]:
    """(noisy, clean) complex128 [B, samples] of one class from the words after the first one."""
    data = signals.symbol_bytes(words[:, 1:1 + SYMBOLS // 8], SYMBOLS)
    drift = signals.gaussian(words[:, :1]).real * math.sqrt(2)
    noise = signals.gaussian(words[:, 1 + SYMBOLS // 8:1 + SYMBOLS // 8 + samples])
    jitter = signals.gaussian(words[:, 1 + SYMBOLS // 8 + samples:]).real * math.sqrt(2)
    if name == 'GMSK':
        clean = gmsk(data & 1)
    else:
        points = alphabet(name)
        clean = points[data % len(points)]
        if name == '4ASK':
            clean[:, 0] += 1e-4j
    clean = clean * np.exp(1j * PHASE_STD * (jitter + drift * np.arange(samples)))
    power = np.mean(np.abs(clean) ** 2, axis=1, keepdims=True)
    return clean + noise * np.sqrt(power / 10 ** (snr_db.astype(np.float64)[:, None] / 10)), clean


def generate(signal: signals.Signal, seed: int, ids: np.ndarray, split: int = 0) -> dict[str, np.ndarray]:
    """Examples `ids` [B] keyed by (seed, split, id).

    Returns 'noisy' and 'clean' complex64 [B, T], T = LONG with GMSK among the classes, else SYMBOLS; zero
    from sample 'length' [B] on (SYMBOLS, for GMSK LONG); 'label' int32 [B] = id % number of classes, 'snr_db'
    float32 [B]. 'clean' has the phase noise.
    """
    ids = np.asarray(ids, np.int64)
    label = (ids % len(signal.classes)).astype(np.int32)
    snr_db = np.empty(len(ids), np.float32)
    length = np.full(len(ids), SYMBOLS)
    total = LONG if 'GMSK' in signal.classes else SYMBOLS
    noisy, clean = (np.zeros((len(ids), total), np.complex64) for _ in range(2))
    for number, name in enumerate(signal.classes):
        rows = np.flatnonzero(label == number)
        if not len(rows):
            continue
        samples = LONG if name == 'GMSK' else SYMBOLS
        words = signals.random_words(seed, split, ids[rows], 2 + SYMBOLS // 8 + 2 * samples)
        snr_db[rows] = signals.draw_snr(signal, words[:, 0])
        length[rows] = samples
        noisy[rows, :samples], clean[rows, :samples] = _frames(name, words[:, 1:], snr_db[rows], samples)
    return {'noisy': noisy, 'clean': clean, 'label': label, 'snr_db': snr_db, 'length': length}


def symbol_rate(batch: dict, which: str) -> np.ndarray:
    """complex64 [B, SYMBOLS] of batch[which]: GMSK frames are thinned to one sample a symbol."""
    x = batch[which]
    if x.shape[1] == SYMBOLS:
        return x
    return np.where((batch['length'] == LONG)[:, None], x[:, ::GMSK_SAMPLES], x[:, :SYMBOLS])


# Pictures -----------------------------------------------------------------------------------------

@functools.cache
def geometry(size: int) -> tuple[float, int, float, tuple[int, ...]]:
    """(pixel d, margin in pixels, half width E of the canvas, half widths of the blocks) of a picture.

    At 224 these are the public generator's; other sizes keep the plane and scale the pixels.
    """
    zoom = size / REFERENCE
    pixel, margin = 2 * EXTENT / size, math.ceil(PAD * zoom)
    return pixel, margin, EXTENT + margin * pixel, tuple(max(1, round(b * zoom)) for b in BLOCKS)


def decays(size: int) -> tuple[float, ...]:
    """Per unit of distance in the plane: (5 / b) / (d sqrt 2) with b and d at the size of reference."""
    return tuple((5 / b) / (2 * EXTENT / REFERENCE * math.sqrt(2)) for b in BLOCKS)


def render_loop(points: np.ndarray, size: int = REFERENCE) -> np.ndarray:
    """One picture by definition: complex [S] -> uint8 [size, size, 3]; a loop over points and kernels.

    Oracle of the tests and the slow side of benchmarks/generator.py.
    """
    pixel, margin, edge, blocks = geometry(size)
    side = size + 2 * margin
    canvas = np.zeros((3, side, side))
    x = -edge + pixel / 2 + pixel * np.arange(side)
    y = edge - pixel / 2 - pixel * np.arange(side)
    for point in points:
        row, column = int(np.rint((edge - point.imag) / pixel)), int(np.rint((edge + point.real) / pixel))
        for channel, (half, decay) in enumerate(zip(blocks, decays(size))):
            if min(row, column) - half <= 0 or max(row, column) + half >= side:
                continue
            rows, columns = slice(row - half, row + half + 1), slice(column - half, column + half + 1)
            distance = np.sqrt((x[columns] - point.real) ** 2 + (y[rows, None] - point.imag) ** 2)
            canvas[channel, rows, columns] += np.exp(-decay * distance)
    top = canvas.max(axis=(1, 2), keepdims=True)
    levels = np.floor(255 * np.divide(canvas, top, out=np.zeros_like(canvas), where=top > 0))
    return levels[:, margin:margin + size, margin:margin + size].transpose(1, 2, 0).astype(np.uint8)


@functools.cache
def _kernel_spectrum(size: int, channel: int) -> tuple[int, np.ndarray]:
    """(FFT length, spectrum) of a wide kernel; long enough that no block wraps onto a pixel where a point can
    lie."""
    pixel, margin, _, blocks = geometry(size)
    half = blocks[channel]
    length = scipy.fft.next_fast_len(size + 2 * margin - half - 1, real=True)
    step = np.arange(-half, half + 1)
    kernel = np.zeros((length, length))
    distance = pixel * np.hypot(step[:, None] + 0.5, step + 0.5)  # from a corner to the centres of the pixels
    kernel[np.ix_(step % length, step % length)] = np.exp(-decays(size)[channel] * distance)
    return length, scipy.fft.rfft2(kernel).astype(np.complex64)


def _narrow(along: np.ndarray, down: np.ndarray, half: int, decay: float, side: int) -> np.ndarray:
    """Exact sum of narrow kernels: positions in pixels, float64 [S], decay per pixel -> float32 [side,
    side]."""
    step = np.arange(-half, half + 1)
    rows, columns = np.rint(down), np.rint(along)
    dy, dx = (np.square((place + 0.5 - exact)[:, None] + step).astype(np.float32)
              for place, exact in ((rows, down), (columns, along)))
    centre = (rows * side + columns).astype(np.intp)
    block = (step[:, None] * side + step).ravel()
    total = np.zeros(side * side, np.float32)
    for start in range(0, len(along), 256):  # small enough to stay in the cache
        part = slice(start, start + 256)
        weight = dy[part, :, None] + dx[part, None, :]
        np.sqrt(weight, out=weight)
        weight *= np.float32(-decay)
        np.exp(weight, out=weight)
        np.add.at(total, (centre[part, None] + block).ravel(), weight.ravel())
    return total.reshape(side, side)


def _render_one(points: np.ndarray, size: int) -> np.ndarray:
    pixel, margin, edge, blocks = geometry(size)
    side = size + 2 * margin
    along = (edge + points.real.astype(np.float64)) / pixel
    down = (edge - points.imag.astype(np.float64)) / pixel
    columns, rows = np.rint(along), np.rint(down)
    low, high = np.minimum(rows, columns), np.maximum(rows, columns)
    out = np.empty((size, size, 3), np.uint8)
    for channel, half in enumerate(blocks):
        keep = (low - half > 0) & (high + half < side)
        if channel == 0:
            first = 0
            blurred = _narrow(along[keep], down[keep], half, decays(size)[0] * pixel, side)
            largest = blurred.max()
        else:
            first = half + 1  # no kept point has a smaller row or column
            length, kernel = _kernel_spectrum(size, channel)
            place = ((rows[keep] - first) * length + columns[keep] - first).astype(np.intp)
            counts = np.zeros(length * length, np.float32)
            np.add.at(counts, place, np.float32(1))
            spectrum = scipy.fft.rfft2(counts.reshape(length, length))
            spectrum *= kernel
            blurred = scipy.fft.irfft2(spectrum, (length, length), overwrite_x=True)
            largest = blurred[:side - 2 * half - 1, :side - 2 * half - 1].max()  # it lies between kept points
        inner = slice(margin - first, margin - first + size)
        out[:, :, channel] = signals.to_bytes(blurred[inner, inner], largest)
    return out


def render(points: np.ndarray, length: np.ndarray, size: int = REFERENCE) -> np.ndarray:
    """Pictures, fast: complex [B, T], of which the first length [B] count -> uint8 [B, size, size, 3].

    The narrow kernel is summed exactly; the two wide ones are a histogram convolved by FFT, which moves a
    point to the corner of the pixel it is counted to. A channel without a point is black (the public
    generator divides 0 by 0 there).
    """
    out = np.empty((len(points), size, size, 3), np.uint8)

    def one(row):
        out[row] = _render_one(points[row, :length[row]], size)

    with concurrent.futures.ThreadPoolExecutor(signals.WORKERS) as pool:
        list(pool.map(one, range(len(points))))
    return out
