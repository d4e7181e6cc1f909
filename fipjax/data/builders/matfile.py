"""Large arrays in MATLAB files, plane by plane: version 5 (compressed or not) and 7.3 (HDF5).

MATLAB stores the first index fastest, so A(:, :, k) lies together. scipy.io.loadmat reads version 5 too, but only whole
arrays. Layout: MathWorks, MAT-File Format.
"""
from __future__ import annotations

import pathlib
import struct
import zlib
from collections.abc import Iterator

import numpy as np

from fipjax.errors import UserError

NUMBERS = {1: 'i1', 2: 'u1', 3: 'i2', 4: 'u2', 5: 'i4', 6: 'u4', 7: 'f4', 9: 'f8', 12: 'i8', 13: 'u8'}
MATRIX, COMPRESSED, PIECE = 14, 15, 2 ** 16
MOST_HEADER = 4096  # bytes of sizes or a name, of a damaged file


def planes(path: pathlib.Path, name: str) -> tuple[tuple[int, int, int], Iterator[np.ndarray]]:
    """The shape (n, a, b) of an array and its planes [:, :, 0], [:, :, 1], ..., each [n, a].

    Raises:
      UserError: not such a file, no such array, not three axes of real numbers; while planes are read, a file that ends
        early or is damaged.
    """
    import h5py
    if h5py.is_hdf5(path):
        from fipjax.data.builders import reading
        found = reading.dataset(reading.hdf5(path), name, (None, None, None), 'fiu')
        return found.shape[::-1], (found[k].T for k in range(len(found)))
    return _version_5(path, name)


def _version_5(path, name):
    f = path.open('rb')
    head = f.read(128)
    if len(head) < 128 or head[126:] not in (b'IM', b'MI'):
        raise UserError(f'{path}: not a MATLAB file of version 5 or 7.3')
    order, names = '<' if head[126:] == b'IM' else '>', []
    while tag := f.read(8):
        try:
            kind, size = struct.unpack(f'{order}II', tag)
            end, stream = f.tell() + size, f
            if kind == COMPRESSED:
                stream = _Inflated(f, size)
                kind, _ = struct.unpack(f'{order}II', stream.read(8))
            if kind == MATRIX:
                shape, found, complex_numbers = _header(stream, order)
                if found == name:
                    return shape, _planes(stream, order, shape, complex_numbers, f'{path}: {name}')
                names.append(found)
            f.seek(end)
        except (struct.error, zlib.error, ValueError, KeyError) as e:
            raise UserError(f'{path}: damaged: {e}') from e
    raise UserError(f'{path}: no array {name!r}; found {sorted(names)}')


def _header(stream, order):
    """(shape, name, whether it is complex) of a matrix, whose numbers come next."""
    flags, _ = struct.unpack(f'{order}II', _small(stream, order)[1])
    dimensions = np.frombuffer(_small(stream, order)[1], f'{order}i4')
    return tuple(dimensions.tolist()), _small(stream, order)[1].decode('ascii'), bool(flags & 0x800)


def _tag(stream, order):
    """(type, bytes, content or None where it follows) of an element."""
    raw = stream.read(8)
    kind, size = struct.unpack(f'{order}II', raw)
    if kind >> 16:  # small ones have their content in the tag
        return kind & 0xffff, kind >> 16, raw[4:4 + (kind >> 16)]
    return kind, size, None


def _small(stream, order):
    kind, size, content = _tag(stream, order)
    if content is None:
        if size > MOST_HEADER:
            raise ValueError(f'a header of {size} bytes')
        content = stream.read(size)
        stream.read(-size % 8)
    return kind, content


def _planes(stream, order, shape, complex_numbers, where):
    if len(shape) != 3 or complex_numbers or 0 in shape:
        what = ' and is complex' if complex_numbers else ''
        raise UserError(f'{where} has shape {list(shape)}{what}; expected three axes of real numbers')
    kind, size, content = _tag(stream, order)
    if kind not in NUMBERS or content is not None or size != np.prod(shape) * np.dtype(NUMBERS[kind]).itemsize:
        raise UserError(f'{where}: damaged: {size} bytes of type {kind} for shape {list(shape)}')

    def read():
        dtype = np.dtype(NUMBERS[kind]).newbyteorder(order)
        size = shape[0] * shape[1] * dtype.itemsize
        for k in range(shape[2]):
            try:
                raw = stream.read(size)
            except zlib.error as e:
                raise UserError(f'{where}: damaged at plane {k} of {shape[2]}: {e}') from e
            if len(raw) != size:
                raise UserError(f'{where}: the file ends at plane {k} of {shape[2]}')
            yield np.frombuffer(raw, dtype).reshape(shape[:2], order='F')
    return read()


class _Inflated:
    """A compressed element of `size` bytes, read bit by bit."""

    def __init__(self, f, size):
        self._f, self._left, self._zlib = f, size, zlib.decompressobj()

    def read(self, n):
        out = bytearray()
        while len(out) < n and not self._zlib.eof:
            piece = self._zlib.unconsumed_tail
            if not piece:
                piece = self._f.read(min(PIECE, self._left))
                self._left -= len(piece)
                if not piece:
                    break
            out += self._zlib.decompress(piece, n - len(out))
        return bytes(out)
