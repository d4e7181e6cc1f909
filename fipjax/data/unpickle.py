"""Pickles from elsewhere, of NumPy arrays and plain containers: read without running anything that they bring along.

A pickle is a program. This reader knows a few names (how arrays, dtypes, scalars, bytes and sets are pickled by
Python 2 and 3) and stands in for each of them with code of its own; every other name ends the reading. NumPy's own
functions are not called: the state of a pickled dtype can make them take bytes for pointers. Arrays are built from
bytes, of numbers and booleans only; arrays of objects, where they are read (`npy`, `records`), are lists of the same.
"""
from __future__ import annotations

import contextlib
import io
import math
import pathlib
import pickle
import re

import numpy as np

from fipjax.errors import UserError

DTYPE = re.compile(r'[<>=|]?([biufc](1|2|4|8|16)|b|\?)')
WITH_TEXT = re.compile(rf'{DTYPE.pattern}|[<>=|]?[US][1-9][0-9]{{0,4}}')  # where arrays of objects are read


def load(path):
    """What a pickle holds: numbers, texts, bytes, None, arrays of numbers; lists, tuples, dictionaries, sets of them.

    Args:
      path: of the file. Texts of Python 2 become str.

    Raises:
      UserError: no such file, anything else in it, or not a pickle.
    """
    path = _file(path)
    with path.open('rb') as f, _named(path):
        return plain(Reader(f, encoding='latin1').load())


def loads(raw, where: str):
    """As `load`, from the bytes of a pickle that messages call `where`."""
    with _named(where):
        return plain(Reader(io.BytesIO(raw), encoding='latin1').load())


def objects(f, where):
    """As `load`, from a binary file that is open where a pickle begins; arrays of texts and of objects (lists) too."""
    with _named(where):
        return plain(ObjectReader(f, encoding='latin1').load())


def npy(path):
    """What an .npy file holds: an array of numbers; of objects the object alone (shape ()) or a list [n] of them.

    Raises:
      UserError: as `load`.
    """
    path = _file(path)
    with path.open('rb') as f, _named(path, 'an .npy file'):
        shape, dtype = _header(f)
        if dtype.hasobject:
            return plain(ObjectReader(f, encoding='latin1').load())
        if math.prod(shape) * dtype.itemsize > path.stat().st_size - f.tell():
            raise ValueError(f'it is cut off: {list(shape)} {dtype} are more than its {path.stat().st_size} bytes')
        f.seek(0)
        return np.lib.format.read_array(f, allow_pickle=False)


def records(path):
    """The objects of an .npy file with an array of them, one after the other; each is let go once it is given.

    Instead of the array there may be one dictionary whose 'data' are the objects. The file is held whole, unpickled,
    when the first one is given: a pickle has no other order.

    Raises:
      UserError: as `load`; not a list of objects.
    """
    path = _file(path)
    with path.open('rb') as f, _named(path, 'an .npy file'):
        shape, dtype = _header(f)
        found = ObjectReader(f, encoding='latin1').load() if dtype.hasobject else None
        if isinstance(found, _AnyArray) and getattr(found, 'single', False) and isinstance(found.items[0], dict):
            found = found.items[0].get('data')
        items = getattr(found, 'items', None) if isinstance(found, _AnyArray) else found
        if not isinstance(items, list):
            raise ValueError(f'it has {list(shape)} {dtype}; expected a list of objects')
    del found
    for i, item in enumerate(items):
        items[i] = None
        with _named(path, 'an .npy file'):
            out = plain(item)
        yield out


def _header(f):
    """Shape and dtype of an .npy file, read up to its content."""
    version = np.lib.format.read_magic(f)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f'it has version {version} of the format; allowed: 1.0 and 2.0')
    known = np.lib.format.read_array_header_1_0, np.lib.format.read_array_header_2_0
    shape, _, dtype = known[version[0] - 1](f)
    return shape, dtype


def _file(path):
    path = pathlib.Path(path)
    if not path.is_file():
        raise UserError(f'{path}: no such file (looked in {pathlib.Path.cwd()})')
    return path


@contextlib.contextmanager
def _named(where, kind='a pickle'):
    """Errors of reading with the name of what is read."""
    try:
        yield
    except Refused as e:
        raise UserError(f'{where}: refused, {e}; only NumPy arrays of numbers and plain containers are read') from e
    except Exception as e:  # a damaged program can end in any way
        raise UserError(f'{where}: not {kind} that can be read: {type(e).__name__}: '
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
        self.array = _array(state[4], state[2], state[1], 'F' if state[3] else 'C')


def _array(raw, dtype, shape, order):
    raw = raw.encode('latin1') if isinstance(raw, str) else raw  # bytes of Python 2
    if not isinstance(raw, (bytes, bytearray)) or not isinstance(dtype, _Dtype) or order not in ('C', 'F'):
        raise Refused('it has an array of something else than numbers')
    if not isinstance(shape, tuple) or not all(isinstance(n, int) and n >= 0 for n in shape):
        raise Refused(f'it has an array of shape {shape!r}')
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


class _ObjectDtype:
    """The type of an array of objects; nothing in its state matters."""

    __slots__ = ()

    def __setstate__(self, state):
        pass


class _MakeAnyDtype:
    __slots__ = ()

    def __call__(self, name, align=False, copy=False):
        return _ObjectDtype() if name in ('O', 'O4', 'O8') else _Dtype(name, WITH_TEXT)


class _AnyArray(Array):
    """Stands for an array of numbers, or of objects: then `items` are these, `single` says that it has no axis."""

    __slots__ = ('items', 'single')

    def __setstate__(self, state):
        if not isinstance(state, tuple) or len(state) != 5 or not isinstance(state[2], _ObjectDtype):
            super().__setstate__(state)
            return
        _, shape, _, _, items = state
        if not isinstance(items, list) or shape not in ((), (len(items),)) or (shape == () and len(items) != 1):
            raise Refused(f'it has an array of objects of shape {shape!r}')
        self.items, self.single = items, shape == ()


class _ReconstructAny(_Reconstruct):
    __slots__ = ()

    def __call__(self, kind, shape, typecode):
        super().__call__(kind, shape, typecode)
        return _AnyArray()


class ObjectReader(Reader):
    """Reads arrays of objects, too, as .npy files have them, and of texts."""

    known = KNOWN | {('numpy', 'dtype'): _MakeAnyDtype} | {
        (f'{core}.multiarray', '_reconstruct'): _ReconstructAny for core in ('numpy.core', 'numpy._core')}


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
        if isinstance(x, _AnyArray) and hasattr(x, 'items'):
            found = [plain(v, *within) for v in x.items]
            done[id(x)] = found[0] if x.single else found
        elif isinstance(x, Array):
            done[id(x)] = getattr(x, 'array', None)
            if done[id(x)] is None:
                raise Refused('it has an array without content')
        elif isinstance(x, dict):
            done[id(x)] = {plain(k, *within): plain(v, *within) for k, v in x.items()}
        elif isinstance(x, (list, tuple, set, frozenset)):
            done[id(x)] = type(x)(plain(v, *within) for v in x)
        else:
            done[id(x)] = other(x)
    return done[id(x)]
