"""Recorded radio frames as a data source: RadioML 2016.10a and 2018.01A, and SigMF recordings.

    RadioML 2016.10a   RML2016.10a_dict.pkl, a pickle of Python 2: {(modulation, SNR in dB): float32 [n, 2, T]}, read by
                       fipjax.data.unpickle, which runs nothing
    RadioML 2018.01A   HDF5 with X float32 [n, T, 2], Y one-hot [n, 24], Z SNR in dB [n, 1]; frames stay in the file
    SigMF              a folder of NAME.sigmf-meta (JSON) and NAME.sigmf-data (samples); each annotation with a
                       'core:label' is cut into frames of T samples, 'snr_db' may stand beside the label

Each frame is scaled to unit mean power: what is recorded has no level of its own. Its views are those of generated
signals (fipjax.data.constellation), the picture drawn from the samples as they are, since nothing says where symbols
begin. There is no clean version, so pretraining predicts the recording.
"""
from __future__ import annotations

import json
import pathlib

import numpy as np

from fipjax import bars
from fipjax.data import constellation, unpickle
from fipjax.data.sources import SPLITS, Splits, in_memory
from fipjax.errors import UserError

# Order of the columns of Y in 2018.01A; that of the file classes-fixed.json that goes with it.
CLASSES_2018 = ('OOK', '4ASK', '8ASK', 'BPSK', 'QPSK', '8PSK', '16PSK', '32PSK', '16APSK', '32APSK', '64APSK',
                '128APSK', '16QAM', '32QAM', '64QAM', '128QAM', '256QAM', 'AM-SSB-WC', 'AM-SSB-SC', 'AM-DSB-WC',
                'AM-DSB-SC', 'FM', 'GMSK', 'OQPSK')
CHUNK = 65536  # rows of labels read at once
# SigMF: 'core:datatype' without its byte order -> type of a component, and what stands for an amplitude of 1.
DATATYPES = {'cf32': ('f4', 1.0), 'cf64': ('f8', 1.0), 'ci8': ('i1', 2.0 ** 7), 'ci16': ('i2', 2.0 ** 15),
             'ci32': ('i4', 2.0 ** 31), 'cu8': ('u1', 2.0 ** 7), 'cu16': ('u2', 2.0 ** 15)}


class Frames:
    """n frames of T samples.

    Args:
      classes: names.
      label: int [n]; snr_db: float [n], NaN where unknown.
      samples: T.
      read: rows int [B] -> complex [B, T].
      where: for messages.
      group: int [n], frames of one recording, which no split shares with another; None if each is of its own.
    """

    def __init__(self, classes, label, snr_db, samples, read, where, group=None):
        self.classes, self.label = tuple(classes), np.asarray(label, np.int32)
        self.group = np.arange(len(self.label)) if group is None else np.asarray(group)
        self.snr_db, self.samples, self.read, self.where = np.asarray(snr_db, np.float32), samples, read, where


class Source:
    """Some frames as modalities; see fipjax.data.sources for what `take` returns."""

    def __init__(self, frames: Frames, rows, modalities, classes, label):
        self.frames, self.rows = frames, np.asarray(rows)
        self.modalities, self.classes = dict(modalities), tuple(classes)
        self.label = np.asarray(label, np.int32)

    def __len__(self) -> int:
        return len(self.rows)

    def raw(self, rows) -> dict:
        """As `take`, pictures as uint8."""
        mine = self.rows[rows]
        x = np.asarray(self.frames.read(mine), np.complex64)
        if not np.isfinite(x).all():
            bad = mine[~np.isfinite(x).all(1)][0]
            raise UserError(f'{self.frames.where}: frame {bad} has NaN or infinity')
        power = np.sqrt(np.mean(np.abs(x) ** 2, axis=1, keepdims=True))
        x = x / np.maximum(power, np.finfo(np.float32).tiny)
        views = {m: {'iq': lambda n: constellation.iq(x, n), 'spectrogram': lambda n: constellation.spectrogram(x, n),
                     'image': lambda n: constellation.constellation_image(x, n)}[m](spec.shape[0])
                 for m, spec in self.modalities.items()}
        present = {m: np.ones(len(mine), bool) for m in views}
        return {'id': mine.astype(np.int32), 'inputs': views, 'targets': views, 'present': present,
                'label': self.label[rows], 'meta': {'snr_db': self.frames.snr_db[mine]}}

    def take(self, rows) -> dict:
        """The examples at `rows` int [B]."""
        out = self.raw(np.asarray(rows))
        views = {m: constellation.decode(m, v) for m, v in out['inputs'].items()}
        return {**out, 'inputs': views, 'targets': views}


def build(data, modalities, progress: bool = True) -> Splits:
    """The four splits, drawn by data.seed, each with nearly equal shares of every class and SNR.

    Args:
      data: config.data; `path` is the file or folder, data.*_examples the sizes, data.signal.classes the classes used
        (() all), data.signal.snr_db the range of SNRs.
      modalities: name -> Modality, some of 'iq', 'image' and 'spectrogram'. Frames of SigMF are as long as 'iq'.

    Raises:
      UserError: a file that is not of one of these formats, or damaged; unknown classes; too few frames.
    """
    frames = open_frames(data.path, modalities['iq'].shape[0] if 'iq' in modalities else 0, progress)
    _check_views(frames, modalities)
    wanted = tuple(data.signal.classes) or frames.classes
    unknown = [name for name in wanted if name not in frames.classes]
    if unknown:
        raise UserError(f'data.signal.classes: {unknown[0]!r} is not in {data.path}; it has '
                        f'{", ".join(frames.classes)}')
    index = np.full(len(frames.classes), -1)
    index[[frames.classes.index(name) for name in wanted]] = np.arange(len(wanted))
    low, high = data.signal.snr_db
    used = np.flatnonzero((index[frames.label] >= 0) & ~((frames.snr_db < low) | (frames.snr_db > high)))
    sizes = {s: data[f'{s}_examples'] for s in SPLITS}
    parts = _drawn(frames, used, sizes.values(), data.seed)
    if parts is None:
        raise UserError(f'data.*_examples are {", ".join(f"{s} {n}" for s, n in sizes.items())}; each must be at least '
                        f'1, and {data.path} has {len(used)} frames with these classes and SNRs, of '
                        f'{len(np.unique(frames.group[used]))} recordings that are not split')
    out = {split: Source(frames, rows, modalities, wanted, index[frames.label[rows]])
           for split, rows in zip(sizes, parts, strict=True)}
    return Splits(**{s: in_memory(source, progress, s) if data.cache else source for s, source in out.items()})


def _drawn(frames, used, sizes, seed):
    """Rows of each split, sorted, since files are read from front to back; None if there are too few."""
    _, first, group = np.unique(frames.group[used], return_index=True, return_inverse=True)
    order = _interleaved(frames.label[used][first], frames.snr_db[used][first], seed)
    place = np.empty(len(order), int)
    place[order] = np.arange(len(order))
    rows = np.argsort(place[group], kind='stable')  # recording after recording
    ends = np.flatnonzero(np.diff(place[group][rows], append=len(order))) + 1  # of recordings
    out, start = [], 0
    for n in sizes:
        if n < 1 or start + n > len(rows):
            return None
        out.append(np.sort(used[rows[start:start + n]]))
        start = ends[np.searchsorted(ends, start + n)]  # what is left of a recording is left out
    return out


def _interleaved(label, snr_db, seed):
    """An order of which any piece has nearly equal shares of each class and SNR, while there are frames of each."""
    rng = np.random.default_rng([seed, 81])
    _, stratum = np.unique(np.stack([label, np.nan_to_num(snr_db, nan=1e6)]), axis=1, return_inverse=True)
    shuffled = rng.permutation(len(label))
    mine = stratum[shuffled]
    by = np.argsort(mine, kind='stable')
    starts = np.searchsorted(mine[by], np.arange(mine.max() + 1))
    place = np.empty(len(label), int)
    place[by] = np.arange(len(label)) - starts[mine[by]]
    return shuffled[np.lexsort((rng.permutation(mine.max() + 1)[mine], place))]


def _check_views(frames, modalities):
    for name, spec in modalities.items():
        kind, size = constellation.NAMES.get(name), spec.shape[0]
        shape = {'iq': (size, 2), 'image': (size, size, 3), 'spectrogram': (size, size, 1)}.get(name)
        longest = frames.samples if name != 'image' else 4096
        if shape != tuple(spec.shape) or spec.kind != kind or size > longest:
            raise UserError(f'data.modalities.{name} is of kind {spec.kind!r} and shape {tuple(spec.shape)}; frames of '
                            f'{frames.where} have {frames.samples} samples and are seen as iq, a sequence (L, 2) with '
                            f'L <= {frames.samples}, image (size, size, 3) or spectrogram (size, size, 1)')


def open_frames(path: str, samples: int = 0, progress: bool = False) -> Frames:
    """The frames of a file or folder, by its name's ending: .pkl, .dat (2016), .hdf5, .h5 (2018), a folder (SigMF).

    Args:
      path: of it.
      samples: T, of SigMF only.
      progress: show a progress bar.
    """
    where = pathlib.Path(path)
    if where.is_dir():
        if not samples:
            raise UserError("data.modalities: SigMF frames are as long as the modality 'iq', which is not there")
        return _sigmf(where, samples)
    if not where.is_file():
        raise UserError(f'data.path: no such file or folder {str(path)!r} (looked in {pathlib.Path.cwd()})')
    if where.suffix in ('.pkl', '.dat', '.pickle'):
        return _radioml_2016(where)
    if where.suffix in ('.hdf5', '.h5'):
        return _radioml_2018(where, progress)
    raise UserError(f'data.path: {where} ends in {where.suffix!r}; allowed: .pkl or .dat (RadioML 2016.10a), .hdf5 or '
                    '.h5 (RadioML 2018.01A), a folder with .sigmf-meta files')


def _radioml_2016(path) -> Frames:
    content = unpickle.load(path)
    if not isinstance(content, dict) or not content:
        raise UserError(f'{path}: holds a {type(content).__name__}; expected {{(modulation, SNR): array}}')
    for key, x in content.items():
        if not (isinstance(key, tuple) and len(key) == 2 and isinstance(key[0], str)
                and isinstance(key[1], (int, float))):
            raise UserError(f'{path}: has the key {key!r}; expected (modulation, SNR in dB)')
        if not isinstance(x, np.ndarray) or x.ndim != 3 or x.shape[1] != 2 or x.dtype.kind != 'f' or not len(x):
            found = f'{x.dtype} {list(x.shape)}' if isinstance(x, np.ndarray) else type(x).__name__
            raise UserError(f'{path}: {key!r} is {found}; expected floats [n, 2, T]')
    keys = sorted(content)
    lengths = {content[k].shape[2] for k in keys}
    if len(lengths) > 1:
        raise UserError(f'{path}: frames have {sorted(lengths)} samples; one length is expected')
    classes = sorted({name for name, _ in keys})
    counts = [len(content[k]) for k in keys]
    x = np.concatenate([content.pop(k).astype(np.float32, copy=False) for k in keys])
    return Frames(classes, np.repeat([classes.index(name) for name, _ in keys], counts),
                  np.repeat([snr for _, snr in keys], counts), lengths.pop(), lambda rows: x[rows, 0] + 1j * x[rows, 1],
                  str(path))


def _radioml_2018(path, progress) -> Frames:
    import h5py
    try:
        file = h5py.File(path)
        found = {k: file[k] for k in ('X', 'Y', 'Z') if k in file}
    except OSError as e:
        raise UserError(f'{path}: not an HDF5 file that can be read: {str(e).splitlines()[0]}') from e
    if len(found) < 3:
        raise UserError(f'{path}: has the keys {sorted(file)}; expected X [n, T, 2], Y [n, {len(CLASSES_2018)}], '
                        'Z [n, 1]')
    x, y, z = found['X'], found['Y'], found['Z']
    n = len(x)
    if x.ndim != 3 or x.shape[2] != 2 or y.shape != (n, len(CLASSES_2018)) or z.shape not in ((n, 1), (n,)) or not n:
        raise UserError(f'{path}: X is {list(x.shape)}, Y {list(y.shape)}, Z {list(z.shape)}; expected [n, T, 2], '
                        f'[n, {len(CLASSES_2018)}], [n, 1]')
    label = np.empty(n, np.int32)
    for start in bars.bar(range(0, n, CHUNK), desc=f'data: labels of {path.name}', unit='chunk', show=progress):
        part = _rows(y, slice(start, start + CHUNK), path)
        if not np.array_equal(np.sort(part, 1)[:, -2:], np.tile([0, 1], (len(part), 1))):
            raise UserError(f'{path}: Y has rows near {start} that are not one-hot')
        label[start:start + CHUNK] = part.argmax(1)

    def read(rows):
        out = np.empty((len(rows), *x.shape[1:]), np.float32)
        for place in np.argsort(rows, kind='stable'):
            out[place] = _rows(x, rows[place], path)
        return out[..., 0] + 1j * out[..., 1]

    return Frames(CLASSES_2018, label, _rows(z, slice(None), path).reshape(n), x.shape[1], read, str(path))


def _rows(dataset, rows, path):
    try:
        return dataset[rows]
    except OSError as e:  # a damaged chunk shows when it is read
        raise UserError(f'{path}: {dataset.name} is damaged: {str(e).splitlines()[0]}') from e


def _sigmf(folder, samples) -> Frames:
    metas = sorted(folder.glob('*.sigmf-meta'))
    if not metas:
        raise UserError(f'data.path: {folder} has no .sigmf-meta file')
    pieces, names, group, recordings = [], [], [], 0
    for meta in metas:
        try:
            content = json.loads(meta.read_text(encoding='utf-8'))
            datatype = content['global']['core:datatype']
            notes = [(a['core:label'], a['core:sample_start'], a['core:sample_count'], float(a.get('snr_db', np.nan)))
                     for a in content.get('annotations', ()) if 'core:label' in a]
        except (ValueError, KeyError, TypeError, AttributeError) as e:
            raise UserError(f'{meta}: not SigMF metadata: {type(e).__name__}: {e}') from e
        data = meta.with_suffix('.sigmf-data')
        x, scale, offset = _samples(data, datatype, meta)
        for name, start, count, snr in notes:
            if not (isinstance(start, int) and isinstance(count, int) and 0 <= start and 0 <= count
                    and start + count <= len(x) and isinstance(name, str)):
                raise UserError(f'{meta}: the annotation {name!r} is at samples {start} to +{count}; {data.name} has '
                                f'{len(x)}')
            for first in range(start, start + count - samples + 1, samples):
                pieces.append((x, scale, offset, first, snr))
                names.append(name)
                group.append(recordings)
            recordings += 1
    if not pieces:
        raise UserError(f'{folder}: no annotation with a core:label is as long as a frame, {samples} samples, the '
                        "length of the modality 'iq'")
    classes = sorted(set(names))

    def read(rows):
        out = np.empty((len(rows), samples), np.complex64)
        for place, row in enumerate(rows):
            x, scale, offset, first, _ = pieces[row]
            part = (x[first:first + samples].astype(np.float64) - offset) / scale
            out[place] = part[:, 0] + 1j * part[:, 1]
        return out

    return Frames(classes, [classes.index(name) for name in names], [p[4] for p in pieces], samples, read, str(folder),
                  group)


def _samples(path, datatype, meta):
    """[n, 2] components of a SigMF recording, mapped and not read; scale and offset."""
    name, _, order = str(datatype).partition('_')
    if name not in DATATYPES or order not in ('le', 'be', '') or (not order and not name.endswith('8')):
        raise UserError(f'{meta}: core:datatype is {datatype!r}; allowed: {", ".join(DATATYPES)}, with _le or _be')
    kind, scale = DATATYPES[name]
    dtype = np.dtype(('>' if order == 'be' else '<') + kind)
    if not path.is_file():
        raise UserError(f'{meta}: {path.name} is not beside it')
    if path.stat().st_size % (2 * dtype.itemsize) or not path.stat().st_size:
        raise UserError(f'{path}: has {path.stat().st_size} bytes, not a whole number of samples of {datatype}')
    return np.memmap(path, dtype, 'r').reshape(-1, 2), scale, scale if kind.startswith('u') else 0.0
