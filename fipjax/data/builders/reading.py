"""What readers of published files share: checked openings of .npy, .npz and HDF5, and rows one after the other."""
from __future__ import annotations

import pathlib
import zipfile
from collections.abc import Callable, Iterator

import numpy as np

from fipjax.errors import UserError

BATCH = 64  # rows read at once
VALIDATION_SEED = 20406  # of every validation split that is not published


def validation(n: int, count: int, key: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(training, validation): int, sorted, that together are 0..n-1; `count` of them, drawn with VALIDATION_SEED."""
    drawn = np.random.default_rng([VALIDATION_SEED, key]).permutation(n)
    return np.sort(drawn[count:]), np.sort(drawn[:count])


def check(where: str, shape, dtype, wanted, kinds: str) -> None:
    """Raises UserError unless the shape is `wanted` (None: any length above 0) and dtype.kind one of `kinds`.

    Args:
      where: the file and the name in it, for messages.
    """
    shape = tuple(shape)
    if len(shape) != len(wanted) or any(n == 0 or (m is not None and n != m) for n, m in zip(shape, wanted)):
        raise UserError(f'{where} has shape {list(shape)}; expected [{", ".join(str(m or "n") for m in wanted)}]')
    if np.dtype(dtype).kind not in kinds:
        names = {'f': 'floating point', 'i': 'integers', 'u': 'unsigned integers', 'b': 'bool'}
        raise UserError(f'{where} has type {dtype}; expected {" or ".join(names[k] for k in kinds)}')


def same_length(where: str, **arrays) -> int:
    """The length that all have; UserError if they differ."""
    lengths = {name: len(a) for name, a in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise UserError(f'{where}: {", ".join(f"{name} has {n}" for name, n in lengths.items())} examples; they must '
                        'be as many')
    return next(iter(lengths.values()))


def npy(path: pathlib.Path, wanted, kinds: str) -> np.ndarray:
    """A .npy file of numbers as a memory map, checked as `check` says. Files of Python objects are refused."""
    try:
        out = np.load(path, mmap_mode='r', allow_pickle=False)
    except (ValueError, OSError, EOFError) as e:
        raise UserError(f'{path}: not a .npy file of numbers that can be read: {str(e).splitlines()[0]}') from e
    check(str(path), out.shape, out.dtype, wanted, kinds)
    return out


def hdf5(path: pathlib.Path):
    """An HDF5 file, open for reading; UserError if it cannot be read."""
    import h5py
    try:
        return h5py.File(path, 'r')
    except OSError as e:
        raise UserError(f'{path}: not an HDF5 file that can be read: {str(e).splitlines()[0]}') from e


def dataset(f, name: str, wanted, kinds: str):
    """The data set `name` of an HDF5 file or group, checked as `check` says; UserError if it is not there."""
    import h5py
    where = f'{f.file.filename}: {f.name.rstrip("/")}/{name}'
    found = f.get(name)
    if not isinstance(found, h5py.Dataset):
        raise UserError(f'{where}: no such data set; found {sorted(f)[:10]}')
    check(where, found.shape, found.dtype, wanted, kinds)
    return found


class Member:
    """An array in an .npz file, read by rows from the first to the last: never in memory as a whole.

    Going back means to open it again, and to skip what is before.

    Args:
      path: of the file.
      name: of the array.
      wanted, kinds: as in `check`.

    Raises:
      UserError: no such array, another shape or type, in Fortran's order, or not to be read.
    """

    def __init__(self, path: pathlib.Path, name: str, wanted, kinds: str):
        self.path, self.where = path, f'{path}: {name}'
        try:
            self._zip = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile) as e:
            raise UserError(f'{path}: not an .npz file that can be read: {str(e).splitlines()[0]}') from e
        self._name = f'{name}.npy'
        if self._name not in self._zip.namelist():
            known = sorted(n.removesuffix('.npy') for n in self._zip.namelist())
            raise UserError(f'{path}: no array {name!r}; found {known[:20]}')
        self._open()
        check(self.where, self.shape, self.dtype, wanted, kinds)

    def _open(self):
        self._stream, self._at = self._zip.open(self._name), 0
        try:
            version = np.lib.format.read_magic(self._stream)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            self.shape, fortran, self.dtype = read(self._stream)
        except (ValueError, EOFError, zipfile.BadZipFile) as e:
            raise UserError(f'{self.where}: cannot be read: {str(e).splitlines()[0]}') from e
        if fortran and len(self.shape) > 1:
            raise UserError(f'{self.where} is stored in Fortran order, which cannot be read row by row')
        if self.dtype.hasobject:
            raise UserError(f'{self.where} holds Python objects (a pickle), which are not read')

    def __len__(self) -> int:
        return self.shape[0]

    def row(self, i: int) -> np.ndarray:
        """Row i."""
        size = self.dtype.itemsize * int(np.prod(self.shape[1:], dtype=np.int64))
        if i < self._at:
            self._open()
        while self._at <= i:
            raw = self._stream.read(size)
            if len(raw) != size:
                raise UserError(f'{self.where} ends after {self._at} of {len(self)} rows')
            self._at += 1
            if self._at == len(self):
                self._stream.read(1)  # nothing more, and the checksum is looked at
        return np.frombuffer(raw, self.dtype).reshape(self.shape[1:])


def gather(ids, read: Callable[[np.ndarray], Iterator[dict]]) -> tuple[int, Callable[[int, int], Iterator[dict]]]:
    """(n, rows) as fipjax.data.builders.prepared.Opened has them.

    Args:
      ids: int [n], sorted, of the rows in the file.
      read: BATCH of them at most -> their examples.
    """
    def rows(start, stop):
        for at in range(start, stop, BATCH):
            yield from read(ids[at:min(at + BATCH, stop)])
    return len(ids), rows


def span(ids: np.ndarray, get: Callable) -> np.ndarray:
    """get(ids) of sorted ids, for what reads slices best: `get` takes a slice, or one id.

    The rows between them are read too, unless these are more than four times as many.
    """
    low, high = int(ids[0]), int(ids[-1]) + 1
    if high - low <= 4 * len(ids):
        return np.asarray(get(slice(low, high)))[ids - low]
    return np.stack([np.asarray(get(int(i))) for i in ids])


def as_bool(where: str, y: np.ndarray) -> np.ndarray:
    """Labels of 0 and 1 as uint8; UserError for anything else."""
    if not ((y == 0) | (y == 1)).all():
        raise UserError(f'{where}: {y[(y != 0) & (y != 1)][0]} is no label; expected 0 and 1')
    return y.astype(np.uint8)
