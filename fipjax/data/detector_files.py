"""Features of detectors in the files that they are published in, a picture at a time, whatever their size.

    X.lmdb             MMF: key b'keys' holds a pickled list of names, each name a pickled dictionary; volta's, too
    *.tsv, *.tsv.0     bottom-up attention, LXMERT, volta: a line a picture, arrays in base64, see COLUMNS
    *.h5, *.hdf5       volta, LXMERT: a group a picture
    a folder           MMF: NAME.npy (features [N, F], or a dictionary with everything) and NAME_info.npy (a dictionary)

What a picture has becomes the arrays of features/NAME.npz, see fipjax.data.region_files, under whichever of the NAMES
the file calls them. Put right on the way: boxes reach at most a pixel beyond the picture, and are cut; regions without
area after that are left out (and counted); class distributions over the 1600 classes of Visual Genome, as MMF's
extraction writes them without --background, get the background's share back as class 0, so that class k is always
object k - 1; distributions of half precision are made to sum to 1. MMF's `num_boxes` is not used: it counts the boxes
that some class claims, the arrays have more. Pickles run nothing, see fipjax.data.unpickle.
"""
from __future__ import annotations

import base64
import binascii
import pathlib
import re

import numpy as np

from fipjax import bars
from fipjax.data import lmdb_file, region_files, unpickle
from fipjax.errors import UserError

NAMES = {'features': ('features', 'feature', 'image_feature', 'image_feat'),
         'boxes': ('bbox', 'boxes', 'image_bboxes', 'image_bbox'),
         'width': ('image_width', 'image_w', 'img_w', 'width'),
         'height': ('image_height', 'image_h', 'img_h', 'height'),
         'class_probs': ('cls_prob', 'class_probs')}
BOTTOM_UP = ('image_id', 'image_w', 'image_h', 'num_boxes', 'boxes', 'features')
LXMERT = ('img_id', 'img_h', 'img_w', 'objects_id', 'objects_conf', 'attrs_id', 'attrs_conf', 'num_boxes', 'boxes',
          'features')
COLUMNS = {len(c): c for c in (BOTTOM_UP, (*BOTTOM_UP, 'cls_prob'), LXMERT, (*LXMERT, 'cls_prob', 'attrs', 'classes'))}
TSV, HDF5, LMDB = re.compile(r'\.tsv(\.\d+)?$'), re.compile(r'\.(h5|hdf5)$'), re.compile(r'\.lmdb$')
OBJECTS = 1600       # classes of Visual Genome without the background
LONGEST = 2 ** 28    # bytes of a line
SQUARE = 20          # so many square pictures alone are no coincidence
_ROUNDING = 1e-2     # of distributions in half precision
_TWICE = object()


class Detector:
    """All pictures of some files of features, found by name.

    Args:
      folder: one of the above, or with any number of them inside.
      progress: show progress bars; a .tsv is read once from end to end to find its pictures.

    Raises:
      UserError: nothing of the kind in the folder, a file that is damaged, the same picture twice in a file.
    """

    def __init__(self, folder, progress: bool = False):
        self.folder = pathlib.Path(folder)
        self.files = [kind(path, progress) for kind, path in _found(self.folder)]
        self.dropped = 0  # regions without area so far
        if not any(f.places for f in self.files):
            raise UserError(f'{self.folder}: no picture in {", ".join(f.path.name for f in self.files)}')

    def find(self, names) -> tuple[int, str] | None:
        """Where a picture is that may be called any of these names, the first of them first; None is nowhere.

        Raises:
          UserError: one name in several files, or in several folders of one.
        """
        for name in names:
            found = [(i, key) for i, f in enumerate(self.files) if (key := f.key(name)) is not None]
            if len(found) > 1 or found and found[0][1] is _TWICE:
                raise UserError(f'{self.folder}: the picture {name!r} is there more than once, in '
                                f'{", ".join(str(self.files[i].path) for i, _ in found)}')
            if found:
                return found[0]
        return None

    def order(self, place: tuple[int, str]):
        """Sorts pictures as they lie in the files, which is the fastest order to read them."""
        return place[0], self.files[place[0]].places[place[1]]

    def some(self) -> str:
        """A few names, for messages."""
        return ', '.join(repr(k) for f in self.files for k in list(f.places)[:3])

    def read(self, place: tuple[int, str]) -> dict[str, np.ndarray]:
        """Arrays of a picture: float32 features [N, F], boxes [N, 4] absolute, width, height, maybe class_probs [N, C].

        Raises:
          UserError: an array that is missing, of another kind or shape, not finite; a box outside the picture.
        """
        file = self.files[place[0]]
        where = f'{file.path}: picture {place[1]!r}'
        out, dropped = table(file.fields(place[1], where), where)
        self.dropped += dropped
        return out


def table(fields: dict, where: str) -> tuple[dict[str, np.ndarray], int]:
    """What a file says of a picture as `Detector.read` gives it, and how many regions without area were left out.

    Args:
      fields: name -> array, number, or text of it (arrays then base64 of float32).
      where: named in messages.

    Raises:
      UserError: as `Detector.read`.
    """
    x = {}
    for name, known in NAMES.items():
        given = [k for k in known if fields.get(k) is not None]
        if len(given) > 1 or not given and name != 'class_probs':
            raise UserError(f'{where}: {" and ".join(given) or "none"} of {", ".join(known)}; one is needed. Found: '
                            f'{", ".join(sorted(map(str, fields)))}')
        if given:
            x[name] = _value(fields[given[0]], name, f'{where}: {given[0]!r}')
    count = fields.get('num_boxes') if isinstance(fields.get('features'), str | bytes) else None
    if count is not None:
        for name, array in x.items():
            if array.ndim:
                x[name] = _rows(array, count, name, where)
    rows = {len(v) for v in x.values() if v.ndim}
    if len(rows) > 1 or x['boxes'].shape[1] != 4:
        raise UserError(f'{where}: ' + ', '.join(f'{k} are {list(v.shape)}' for k, v in x.items() if v.ndim)
                        + '; expected one row a region, boxes [N, 4]')
    if 'class_probs' in x:
        x['class_probs'] = _distributions(x['class_probs'])
    side = np.array([x['width'], x['height']] * 2, np.float64)
    inside = np.clip(x['boxes'], 0, side)
    boxes = np.where(np.abs(inside - x['boxes']) <= 1, inside, x['boxes'])
    size = boxes[:, 2:] - boxes[:, :2]
    empty = (size <= 0).any(1) & (x['boxes'][:, 2:] - x['boxes'][:, :2] >= 0).all(1)
    x['boxes'] = boxes
    out = {k: v if v.ndim == 0 else v[~empty] for k, v in x.items()}
    region_files.one_picture(where, out)
    return {k: np.asarray(v, np.float32) for k, v in out.items()}, int(empty.sum())


def _value(value, name, where):
    """A number or an array of a file as float64 () or floating [...]."""
    if isinstance(value, str | bytes):
        try:
            if name in ('width', 'height'):
                return np.float64(value)
            return np.frombuffer(base64.b64decode(value, validate=True), '<f4')
        except (ValueError, binascii.Error) as e:
            raise UserError(f'{where} is not {"a number" if name in ("width", "height") else "float32 in base64"}: '
                            f'{str(e)[:80]}') from e
    value = np.asarray(value)
    if value.dtype.kind not in 'fiu' or (value.size != 1 if name in ('width', 'height') else value.ndim != 2):
        raise UserError(f'{where} is {value.dtype} {list(value.shape)}; expected '
                        + ('a number' if name in ('width', 'height') else 'numbers [N, ...]'))
    return value.reshape(()).astype(np.float64) if name in ('width', 'height') else value


def _rows(array, count, name, where):
    """A row of base64 as [count, ...]."""
    try:
        rows = int(count)
        return array.reshape(rows, -1 if name != 'boxes' else 4)
    except ValueError as e:
        raise UserError(f'{where}: {name!r} has {array.size} numbers, which are not num_boxes = {count!r} rows') from e


def _distributions(probs):
    """Class distributions with the background as class 0; rows that nearly sum to 1 do so exactly."""
    probs = probs.astype(np.float64)
    if probs.shape[1] == OBJECTS:
        probs = np.concatenate([np.maximum(1 - probs.sum(1, keepdims=True), 0), probs], 1)
    total = probs.sum(1, keepdims=True)
    return np.where(np.abs(total - 1) < _ROUNDING, probs / np.where(total == 0, 1, total), probs)


def _found(folder):
    """(class, path) of all files of features in a folder, or the folder itself."""
    if not folder.exists():
        raise UserError(f'{folder}: no such file or folder (looked in {pathlib.Path.cwd()})')
    kinds = ((TSV, _Tsv), (HDF5, _Hdf5), (LMDB, _Lmdb))
    of = lambda path: next((kind for ending, kind in kinds if ending.search(path.name)), None)  # noqa: E731
    if of(folder):
        return [(of(folder), folder)]
    if folder.is_file():
        raise UserError(f'{folder}: features are in .lmdb, .tsv, .h5, .hdf5 or a folder of .npy')
    inside = sorted(folder.iterdir())
    if any(path.name == lmdb_file.NAME for path in inside):
        return [(_Lmdb, folder)]
    if any(path.suffix == '.npy' for path in inside):
        return [(_Npy, folder)]
    out = [(of(path) or _Npy, path) for path in inside if of(path) or path.is_dir()]
    if not out:
        raise UserError(f'{folder}: no features; expected .lmdb, .tsv, .h5, .hdf5 or folders of .npy, found '
                        f'{", ".join(path.name for path in inside[:5]) or "nothing"}')
    return out


class _File:
    """Pictures of one file: `places`, key -> what to sort by, and `fields`."""

    def __init__(self, path, places):
        self.path, self.places, self._short = path, places, {}
        for key in places:
            short = key.rpartition('/')[2]
            if short != key:
                self._short[short] = _TWICE if short in self._short else key

    def key(self, name):
        """The key of a name; folders in front of it need not be given. None: not there."""
        return name if name in self.places else self._short.get(name)


class _Lmdb(_File):
    def __init__(self, path, progress):
        self._file = lmdb_file.File(path)
        listed = self._file.get(b'keys')
        if listed is None:
            raise UserError(f"{path}: no key b'keys' with the list of pictures; keys are e.g. "
                            f'{[k for k, _ in zip(self._file.keys(), range(3))]}')
        keys = unpickle.loads(listed, f"{path}: the list b'keys'")
        if not isinstance(keys, list | tuple) or not all(isinstance(k, str | bytes) for k in keys):
            raise UserError(f"{path}: b'keys' is {type(keys).__name__}; expected a list of names")
        names = [k.decode('utf-8', 'replace') if isinstance(k, bytes) else k for k in keys]
        super().__init__(path, {n: n.encode() for n in names})
        if len(self.places) < len(names):
            seen = set()
            raise UserError(f"{path}: b'keys' has {next(n for n in names if n in seen or seen.add(n))!r} twice")

    def fields(self, key, where):
        raw = self._file.get(self.places[key])
        if raw is None:
            raise UserError(f"{where}: listed in b'keys', but not there")
        return _flat(unpickle.loads(raw, where), where)


class _Tsv(_File):
    def __init__(self, path, progress):
        places, self._columns = {}, ()
        with path.open('rb') as f, bars.bar(desc=f'index: {path.name}', total=path.stat().st_size, unit='B',
                                            unit_scale=True, show=progress) as bar:
            start = 0
            while line := f.readline(LONGEST):
                if len(line) == LONGEST:
                    raise UserError(f'{path}: a line of more than {LONGEST} bytes; each line is one picture')
                name, where = line.partition(b'\t')[0].decode('utf-8', 'replace'), f'{path}, line {len(places) + 1}'
                columns = COLUMNS.get(line.count(b'\t') + 1, ())
                if not columns or columns != (self._columns or columns):
                    raise UserError(f'{where}: {line.count(bytes([9])) + 1} columns; expected '
                                    + (f'{len(self._columns)}, as before' if self._columns else
                                       ' or '.join(f'{n} ({", ".join(c)})' for n, c in COLUMNS.items())))
                if not line.endswith(b'\n'):
                    raise UserError(f'{where}: the line does not end; the file is cut off')
                if name in places:
                    raise UserError(f'{where}: the picture {name!r} is there twice')
                self._columns, places[name] = columns, start
                start += len(line)
                bar.update(len(line))
        self._lines = path.open('rb')
        super().__init__(path, places)

    def fields(self, key, where):
        self._lines.seek(self.places[key])
        cells = self._lines.readline().rstrip(b'\r\n').split(b'\t')
        if len(cells) != len(self._columns):
            raise UserError(f'{where}: the file changed while it was read')
        return dict(zip(self._columns, cells))


class _Hdf5(_File):
    def __init__(self, path, progress):
        import h5py
        try:
            self._file = h5py.File(path, 'r')
            super().__init__(path, {k: i for i, k in enumerate(self._file)})
        except (OSError, RuntimeError, ValueError, KeyError) as e:
            raise UserError(f'{path}: not an HDF5 file that can be read: {str(e).splitlines()[0]}') from e

    def fields(self, key, where):
        import h5py
        wanted = {k for known in NAMES.values() for k in known}
        try:
            group = self._file[key]
            if not isinstance(group, h5py.Group):
                raise UserError(f'{self.path}: {key!r} is an array; expected a group a picture with '
                                f'{", ".join(k[0] for k in NAMES.values())}')
            return {k: group[k][()] if k in wanted else None for k in group}
        except (OSError, RuntimeError, ValueError, KeyError) as e:
            raise UserError(f'{where}: damaged: {str(e).splitlines()[0]}') from e


class _Npy(_File):
    def __init__(self, path, progress):
        found = sorted(p.relative_to(path).as_posix() for p in path.rglob('*.npy'))
        super().__init__(path, {k[:-4]: i for i, k in enumerate(found) if not k.endswith('_info.npy')})
        self._square = 0  # pictures so far, -1 once one is not

    def fields(self, key, where):
        path = self.path / f'{key}.npy'
        found, info = unpickle.npy(path), path.with_name(f'{path.stem}_info.npy')
        out = found if isinstance(found, dict) else {'features': found}
        if info.is_file():
            more = unpickle.npy(info)
            if not isinstance(more, dict):
                raise UserError(f'{info}: {type(more).__name__}; expected a dictionary')
            out = {**out, **more}
            self._check_extracted(more)
        elif not isinstance(found, dict):
            raise UserError(f'{info}: no such file; boxes and size of the picture are expected there')
        return _flat(out, where)

    def _check_extracted(self, info):
        """MMF's lmdb_conversion.py --mode extract writes the width as height; only it writes 'image_id'."""
        if 'image_id' not in info or info.get('image_height') != info.get('image_width'):
            self._square = -1
        elif self._square >= 0:
            self._square += 1
        if self._square == SQUARE:
            raise UserError(f"{self.path}: all of {SQUARE} pictures are as high as wide: these files come out of an "
                            ".lmdb by MMF's lmdb_conversion.py --mode extract, which writes the width as height, so "
                            'boxes would be wrong; give the .lmdb itself')


def _flat(fields, where):
    """A dictionary of a pickle, with what is below 'info' on the same level."""
    if not isinstance(fields, dict):
        raise UserError(f'{where}: {type(fields).__name__}; expected a dictionary with {", ".join(NAMES)}')
    inner = fields.get('info')
    return {**fields, **inner} if isinstance(inner, dict) else fields
