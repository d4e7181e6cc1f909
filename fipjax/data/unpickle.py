"""Pickles from elsewhere, of NumPy arrays and plain containers: read without running anything that they bring along.

A pickle is a program. This reader knows a few names (how arrays, dtypes, scalars, bytes and sets are pickled by
Python 2 and 3) and stands in for each of them with code of its own; every other name ends the reading. NumPy's own
functions are not called: the state of a pickled dtype can make them take bytes for pointers. Arrays are built from
bytes, of numbers and booleans only.
"""
from __future__ import annotations

import math
import pathlib
import pickle
import re

import numpy as np

from fipjax.errors import UserError

DTYPE = re.compile(r'[<>=|]?([biufc](1|2|4|8|16)|b|\?)')
ANY_DTYPE = re.compile(rf'{DTYPE.pattern}|[<>=|]?([US][0-9]{{1,6}}|O8?)')


def load(path):
    """What a pickle holds: numbers, texts, bytes, None, arrays of numbers; lists, tuples, dictionaries, sets of them.

    Args:
      path: of the file. Texts of Python 2 become str.

    Raises:
      UserError: no such file, anything else in it, or not a pickle.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise UserError(f'{path}: no such file (looked in {pathlib.Path.cwd()})')
    with path.open('rb') as f:
        return _load(Reader(f, encoding='latin1'), path)


def load_objects(f, path):
    """As `load`, and arrays of texts and of any of these things (type object) too.

    Args:
      f: binary file, open where the pickle begins: a whole one, a gzip file, a .npy file behind its header.
      path: for messages.

    Raises:
      UserError: anything else in it, or not a pickle.
    """
    return _load(ObjectReader(f, encoding='latin1'), path)


def _load(reader, path):
    try:
        return plain(reader.load())
    except Refused as e:
        raise UserError(f'{path}: refused, {e}; only NumPy arrays of numbers and plain containers are read') from e
    except Exception as e:  # a damaged program can end in any way
        raise UserError(f'{path}: not a pickle that can be read: {type(e).__name__}: '
                        f'{(str(e) or "-").splitlines()[0]}') from e


class Refused(Exception):
    """Something in a pickle that is not read."""


# Slots and __setstate__ everywhere: instructions of a pickle can set attributes of what they get hold of.

class _Dtype:
    __slots__ = ('dtype',)

    def __init__(self, name, allowed=DTYPE):
        if not isinstance(name, str) or not allowed.fullmatch(name):
            raise Refused(f'it has an array of type {name!r}')
        self.dtype = np.dtype(name)

    def __setstate__(self, state):
        """(version, byte order, subtype, names, fields, item size, alignment, flags[, ...]); only the order counts."""
        if not isinstance(state, tuple) or len(state) < 5 or any(x is not None for x in state[2:5]):
            raise Refused('it has an array of records')
        if state[1] not in ('<', '>', '=', '|'):
            raise Refused(f'it has a byte order {state[1]!r}')
        if state[1] != '|':
            self.dtype = self.dtype.newbyteorder(state[1])


class Array:
    """Stands for an array; once its state is set, `array` is it."""

    __slots__ = ('array',)

    def __setstate__(self, state):
        """(version, shape, dtype, whether in Fortran's order, bytes)."""
        if not isinstance(state, tuple) or len(state) != 5:
            raise Refused('it has an array without shape, type and content')
        content, dtype, shape, order = state[4], state[2], state[1], 'F' if state[3] else 'C'
        if isinstance(dtype, _Dtype) and dtype.dtype.kind == 'O':
            self.array = _Objects(content, shape, order)
        else:
            self.array = _array(content, dtype, shape, order)


class _Objects:
    """An array of objects, whose items are still to be made plain."""

    __slots__ = ('items', 'order', 'shape')

    def __init__(self, items, shape, order):
        _check_shape(shape)
        if not isinstance(items, list) or len(items) != math.prod(shape):
            raise Refused(f'it has an array of objects of shape {shape} without as many items')
        self.items, self.shape, self.order = items, shape, order

    def made(self, each):
        """The array, with each(item) in place of every item."""
        out = np.empty(len(self.items), object)
        for i, item in enumerate(self.items):
            out[i] = each(item)
        return out.reshape(self.shape, order=self.order)


def _check_shape(shape):
    if not isinstance(shape, tuple) or not all(isinstance(n, int) and n >= 0 for n in shape):
        raise Refused(f'it has an array of shape {shape!r}')


def _array(raw, dtype, shape, order):
    raw = raw.encode('latin1') if isinstance(raw, str) else raw  # bytes of Python 2
    if (not isinstance(raw, (bytes, bytearray)) or not isinstance(dtype, _Dtype) or order not in ('C', 'F')
            or dtype.dtype.kind == 'O'):
        raise Refused('it has an array of something else than numbers')
    _check_shape(shape)
    if math.prod(shape) * dtype.dtype.itemsize != len(raw):
        raise Refused(f'it has an array of shape {shape} and type {dtype.dtype}, but of {len(raw)} bytes')
    return np.frombuffer(raw, dtype.dtype).reshape(shape, order=order).copy(order)


class _Ndarray:
    """The name numpy.ndarray."""

    __slots__ = ()


class _MakeDtype:
    __slots__ = ()

    def __call__(self, name, align=False, copy=False):
        return _Dtype(name)


class _MakeAnyDtype:
    __slots__ = ()

    def __call__(self, name, align=False, copy=False):
        return _Dtype(name, ANY_DTYPE)


class _Reconstruct:
    """An array to be filled."""

    __slots__ = ()

    def __call__(self, kind, shape, typecode):
        if not isinstance(kind, _Ndarray):
            raise Refused('it has a subclass of an array')
        return Array()


class _FromBuffer:
    """An array as of protocol 5."""

    __slots__ = ()

    def __call__(self, raw, dtype, shape, order, axis_order=None):
        if axis_order is not None:
            raise Refused('it has an array with its axes in an order of their own')
        out = Array()
        out.array = _array(raw, dtype, shape, order)
        return out


class _Scalar:
    __slots__ = ()

    def __call__(self, dtype, raw):
        return _array(raw, dtype, (), 'C')[()]


class _Encode:
    """Bytes, as Python 3 writes them for Python 2."""

    __slots__ = ()

    def __call__(self, text, encoding):
        if encoding != 'latin1' or not isinstance(text, str):
            raise Refused(f'it has bytes in the encoding {encoding!r}')
        return text.encode('latin1')


class _Set:
    __slots__ = ()

    def __call__(self, items=()):
        return set(items)


class _Frozenset:
    __slots__ = ()

    def __call__(self, items=()):
        return frozenset(items)


class _Bytes:
    """Empty bytes."""

    __slots__ = ()

    def __call__(self):
        return b''


class _Complex:
    __slots__ = ()

    def __call__(self, real, imaginary):
        return complex(real, imaginary)


KNOWN = {('numpy', 'ndarray'): _Ndarray, ('numpy', 'dtype'): _MakeDtype, ('_codecs', 'encode'): _Encode}
for _builtins in ('builtins', '__builtin__'):
    KNOWN |= {(_builtins, 'set'): _Set, (_builtins, 'frozenset'): _Frozenset, (_builtins, 'bytes'): _Bytes,
              (_builtins, 'complex'): _Complex}
for _core in ('numpy.core', 'numpy._core'):
    KNOWN |= {(f'{_core}.multiarray', '_reconstruct'): _Reconstruct, (f'{_core}.multiarray', 'scalar'): _Scalar,
              (f'{_core}.numeric', '_frombuffer'): _FromBuffer}


class Reader(pickle.Unpickler):
    """Looks names up in `known` and nowhere else."""

    known = KNOWN

    def find_class(self, module, name):
        if (module, name) not in self.known:
            raise Refused(f'it asks for {module}.{name}')
        return self.known[module, name]()

    def persistent_load(self, pid):
        raise Refused('it refers to objects outside the file')


class ObjectReader(Reader):
    """Reads arrays of texts and objects too."""

    known = KNOWN | {('numpy', 'dtype'): _MakeAnyDtype}


def _bare(x):
    raise Refused('it has a bare name or type')


def plain(x, other=_bare, inside=(), done=None):
    """`x` with arrays in place of what stands for them.

    What is met twice is made once: a few bytes can hold a list twice in a list, that twice in a third, and so on.

    Args:
      other: what becomes of a bare name or type.
      inside, done: ids of the containers around `x`; results by id.
    """
    if x is None or isinstance(x, (bool, int, float, complex, str, bytes, bytearray, np.generic)):
        return x
    if id(x) in inside:
        raise Refused('it has a container that holds itself')
    done = {} if done is None else done
    if id(x) not in done:
        within = other, (*inside, id(x)), done
        if isinstance(x, Array):
            found = getattr(x, 'array', None)
            if found is None:
                raise Refused('it has an array without content')
            done[id(x)] = found.made(lambda v: plain(v, *within)) if isinstance(found, _Objects) else found
        elif isinstance(x, dict):
            done[id(x)] = {plain(k, *within): plain(v, *within) for k, v in x.items()}
        elif isinstance(x, (list, tuple, set, frozenset)):
            done[id(x)] = type(x)(plain(v, *within) for v in x)
        else:
            done[id(x)] = other(x)
    return done[id(x)]
