"""Views of a signal as modalities, and the data source made of them.

`generate` (signals.py, denomae.py) makes noisy and clean baseband frames out of (seed, split, id); here they
become a constellation image, an I/Q sequence or a spectrogram. Input = the noisy view, target = the clean
view, so that a model trained on it also denoises.
"""
from __future__ import annotations

import functools

import numpy as np
import scipy.fft

from fipjax.data import denomae, signals
from fipjax.data.signals import CLASSES, Signal, matched_filter
from fipjax.errors import UserError

__all__ = ['CLASSES', 'NAMES', 'SPLITS', 'Signal', 'Source', 'check_modalities', 'constellation_image',
           'decode', 'generate', 'image_kernels', 'iq', 'matched_filter', 'raw_views', 'snap', 'spectrogram']

SPLITS = ('pretrain', 'train', 'validation', 'test')
NAMES = {'image': 'image', 'iq': 'sequence', 'spectrogram': 'image'}  # modality -> kind
EXTENT = 2.5  # half the width of a picture, in units of the root mean square amplitude
BLOCKS = (5, 25, 50)  # half width of the three kernels, in pixels of a picture of REFERENCE pixels
REFERENCE = 224
FLOOR_DB, TOP_DB = -30.0, 20.0  # of the spectrogram, against white noise of unit variance
CACHE = 2 ** 18  # pixels worked on at once: what stays in the cache of a core


def generate(signal: Signal, seed: int, ids: np.ndarray, split: int = 0) -> dict[str, np.ndarray]:
    """Examples `ids` [B] keyed by (seed, split, id) in the signal's mode.

    Returns 'noisy' and 'clean' complex64 [B, T], 'label' int32 [B] (id % number of classes), 'snr_db' float32
    [B]. T = signal.samples; mode 'denomae' has frames of two lengths, zero-padded, and adds 'length' int [B].
    """
    module = denomae if signal.mode == 'denomae' else signals
    return module.generate(signal, seed, ids, split)


# Views --------------------------------------------------------------------------------------------

def snap(points: np.ndarray, size: int, pad: int, extent: float = EXTENT) -> tuple[np.ndarray, ...]:
    """Pixels of complex points [B, S] on a square canvas of size + 2 pad: (rows, columns, inside), each [B,
    S].

    The picture, |Re|, |Im| < extent, is the canvas without its margin of `pad` pixels; row 0 is the largest
    Im.
    """
    scale = np.float32(size / (2 * extent))
    side = size + 2 * pad
    columns = np.floor((points.real + np.float32(extent)) * scale + np.float32(pad))
    rows = np.floor((np.float32(extent) - points.imag) * scale + np.float32(pad))
    inside = (columns >= 0) & (columns < side) & (rows >= 0) & (rows < side)
    return np.where(inside, rows, 0).astype(np.int64), np.where(inside, columns, 0).astype(np.int64), inside


@functools.cache
def image_kernels(size: int) -> tuple[tuple[int, float], ...]:
    """(half width, decay per pixel of distance) of the three kernels exp(-decay * distance) at a picture
    size.

    In the plane of the symbols they are the same at every size: those of the public generator (denomae.py) at
    224.
    """
    zoom = size / REFERENCE
    return tuple((max(1, round(b * zoom)), 5 / (b * np.sqrt(2) * zoom)) for b in BLOCKS)


@functools.cache
def _kernel_spectra(size: int) -> tuple[int, int, np.ndarray]:
    kernels = image_kernels(size)
    pad = max(half for half, _ in kernels)
    side = scipy.fft.next_fast_len(size + 2 * pad, real=True)
    spectra = []
    for half, decay in kernels:
        step = np.arange(-half, half + 1)
        kernel = np.zeros((side, side))
        kernel[np.ix_(step % side, step % side)] = np.exp(-decay * np.hypot(step[:, None], step))
        spectra.append(scipy.fft.rfft2(kernel).astype(np.complex64))
    return pad, side, np.stack(spectra)


def constellation_image(points: np.ndarray, size: int, extent: float = EXTENT) -> np.ndarray:
    """Symbol-rate points complex [B, S] -> uint8 [B, size, size, 3].

    Each point is moved to the centre of its pixel and spreads as exp(-decay * distance) over a square block;
    the three channels have narrow, middle and wide kernels. Each channel is divided by its largest value in
    the picture, times 255, rounded down. A picture that no point reaches is black. Points outside count as
    far as their blocks reach in.
    """
    pad, side, spectra = _kernel_spectra(size)
    out = np.empty((len(points), size, size, 3), np.uint8)
    chunk = max(2, CACHE // side ** 2)
    for start in range(0, len(points), chunk):
        part = points[start:start + chunk]
        rows, columns, inside = snap(part, size, pad, extent)
        counts = signals.histogram(rows, columns, inside, side)
        spectrum = scipy.fft.rfft2(counts, workers=signals.WORKERS)
        for channel in range(3):
            product = spectrum * spectra[channel]
            half = scipy.fft.ifft(product, axis=1, workers=signals.WORKERS)[:, pad:pad + size]
            blurred = scipy.fft.irfft(half, side, axis=2, workers=signals.WORKERS)[:, :, pad:pad + size]
            out[start:start + chunk, :, :, channel] = signals.to_bytes(blurred)
    return out


def iq(x: np.ndarray, length: int) -> np.ndarray:
    """The first `length` samples of complex [B, T] as float32 [B, length, 2] (in-phase, quadrature),
    unscaled."""
    return np.ascontiguousarray(x[:, :length], np.complex64).view(np.float32).reshape(len(x), length, 2)


def spectrogram(x: np.ndarray, size: int) -> np.ndarray:
    """Complex frames [B, T], T >= size -> float32 [B, size (frequency, from negative), size (time), 1] in
    [-1, 1].

    Log power of `size` Hann windows of `size` samples that start every T / size samples, the last ones
    continuing at the start of the frame. FLOOR_DB and below is -1, TOP_DB and above is 1, 0 dB = white noise
    of unit variance.
    """
    total = x.shape[1]
    window = np.hanning(size + 1)[:-1]
    window = (window / np.sqrt(np.sum(window ** 2))).astype(np.float32)
    index = (np.arange(size) * total // size)[:, None] + np.arange(size)
    out = np.empty((len(x), size, size, 1), np.float32)
    chunk = max(2, CACHE // size ** 2)
    for start in range(0, len(x), chunk):
        part = x[start:start + chunk]
        spectrum = scipy.fft.fft(part[:, index % total] * window, axis=-1, workers=signals.WORKERS)
        power = np.square(spectrum.real) + np.square(spectrum.imag)
        decibel = np.float32(10) * np.log10(power + np.float32(10 ** (FLOOR_DB / 10 - 1)))
        scaled = (decibel - np.float32(FLOOR_DB)) * np.float32(2 / (TOP_DB - FLOOR_DB)) - np.float32(1)
        centred = np.fft.fftshift(np.clip(scaled, -1, 1), axes=-1)
        out[start:start + chunk, :, :, 0] = centred.transpose(0, 2, 1)
    return out


def raw_views(signal: Signal, batch: dict, which: str, modalities: dict) -> dict[str, np.ndarray]:
    """Views of batch[which] ('noisy' or 'clean') as they are stored: uint8 images, float32 otherwise.

    `decode` turns them into model input.
    """
    standard = signal.mode == 'standard'
    x = batch[which]
    even = x if standard else denomae.symbol_rate(batch, which)  # GMSK of that mode has longer frames
    views = {}
    for name, modality in modalities.items():
        size = modality.shape[0]
        if name == 'iq':
            views[name] = iq(even, size)
        elif name == 'spectrogram':
            views[name] = spectrogram(even, size)
        elif standard:
            points = matched_filter(x, signal.samples_per_symbol, signal.rolloff)
            views[name] = constellation_image(points, size)
        else:
            views[name] = denomae.render(x, batch['length'], size)
    return views


def decode(name: str, array: np.ndarray) -> np.ndarray:
    """A stored view -> float32 model input: images from 0..255 to [-1, 1], everything else unchanged."""
    if name == 'image':
        return np.asarray(array, np.float32) * np.float32(2 / 255) - np.float32(1)
    return np.asarray(array, np.float32)


# Source -------------------------------------------------------------------------------------------

def check_modalities(signal: Signal, modalities: dict):
    """Raises UserError, naming the modality, where it cannot be a view of the signal."""
    total = signal.samples if signal.mode == 'standard' else denomae.SYMBOLS
    if not modalities:
        raise UserError(f'data.modalities: empty; expected some of {tuple(NAMES)}.')
    for key, modality in modalities.items():
        where, shape = f'data.modalities: modality {key!r}', tuple(modality.shape)
        if key not in NAMES:
            raise UserError(f'{where} is not a view of a signal; expected some of {tuple(NAMES)}.')
        if modality.kind != NAMES[key]:
            raise UserError(f'{where} has kind {modality.kind!r}; expected {NAMES[key]!r}.')
        if key == 'iq':
            good = len(shape) == 2 and shape[1] == 2 and 1 <= shape[0] <= total
            expected = f'(L, 2), L <= {total}'
        elif key == 'image':
            good = len(shape) == 3 and shape[0] == shape[1] >= 8 and shape[2] == 3
            expected = '(size, size, 3), size >= 8'
        else:
            good = len(shape) == 3 and shape[0] == shape[1] and 8 <= shape[0] <= total and shape[2] == 1
            expected = f'(size, size, 1), 8 <= size <= {total}'
        if not good:
            raise UserError(f'{where} has shape {shape}; expected {expected}.')


class Source:
    """`size` examples of one split, made when asked for.

    Example `row` is keyed by (seed, split, row): a split does not change when another one, or itself, grows,
    and two splits share no random number. Its 'id' is id_offset + row, unique over the splits of an
    experiment. `ceiling` is the accuracy that no classifier exceeds on average because classes coincide
    (None: no such bound), `ceiling_reason` says why. Raises UserError for modalities that are not views of
    the signal, for an unknown split and for sizes, seeds or ids out of range.
    """

    def __init__(self, signal: Signal, modalities: dict, size: int, seed: int, split: str,
                 id_offset: int = 0):
        if split not in SPLITS:
            raise UserError(f'split: {split!r} is unknown; expected one of {SPLITS}.')
        if size < 0 or id_offset < 0 or id_offset + size > 2 ** 31 - 1:
            raise UserError(f'data: {size} examples of split {split!r} from id {id_offset} on do not fit; '
                            f'expected a size of at least 0 and ids below {2 ** 31 - 1}.')
        if not 0 <= seed < 2 ** 63:
            raise UserError(f'data.seed: {seed} is not allowed; expected an integer from 0 to 2^63 - 1.')
        check_modalities(signal, modalities)
        self.signal, self.modalities, self.seed, self.split = signal, dict(modalities), int(seed), split
        self.classes = signal.classes
        self.id_offset, self._size = int(id_offset), int(size)
        self.ceiling, self.ceiling_reason = (None, '')
        if signal.mode == 'denomae':
            self.ceiling, self.ceiling_reason = denomae.ceiling(signal.classes)

    def __len__(self) -> int:
        return self._size

    def raw(self, rows) -> dict:
        """As `take`, before `decode`: 'id', 'label', 'snr_db', 'inputs', 'targets' (what the TFDS builder
        stores)."""
        rows = np.asarray(rows, np.int64).reshape(-1)
        if len(rows) and not (0 <= rows.min() and rows.max() < self._size):
            raise IndexError(f'rows {rows.min()}..{rows.max()} of a source of {self._size} examples')
        batch = generate(self.signal, self.seed, rows, SPLITS.index(self.split))
        return {'id': (rows + self.id_offset).astype(np.int32), 'label': batch['label'],
                'snr_db': batch['snr_db'],
                'inputs': raw_views(self.signal, batch, 'noisy', self.modalities),
                'targets': raw_views(self.signal, batch, 'clean', self.modalities)}

    def take(self, rows) -> dict:
        """Examples at rows [B]: 'id' int32 [B], 'inputs' and 'targets' {modality: float32 [B, *shape]},
        'present' {modality: bool [B]}, 'label' int32 [B], 'meta' {'snr_db': float32 [B]}."""
        raw = self.raw(rows)
        return {'id': raw['id'], 'label': raw['label'], 'meta': {'snr_db': raw['snr_db']},
                'inputs': {m: decode(m, view) for m, view in raw['inputs'].items()},
                'targets': {m: decode(m, view) for m, view in raw['targets'].items()},
                'present': {m: np.ones(len(raw['id']), bool) for m in self.modalities}}
