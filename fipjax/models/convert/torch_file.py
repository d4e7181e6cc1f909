"""Files of torch.save, zip and legacy: read without torch, and without running anything that they bring along.

Their pickles go through fipjax.data.unpickle's reader, which here also knows the names that tensors are pickled under.
Strides that lead outside a storage would show memory of this process, so they are checked before a tensor is built.
What a file can make this reader allocate is bounded by its size: nothing in an archive may be compressed, storages
together may not be larger than the file, nor tensors than TIMES their storage.
"""
from __future__ import annotations

import functools
import io
import math
import pathlib
import zipfile

import numpy as np

from fipjax.data import unpickle
from fipjax.data.unpickle import Refused
from fipjax.errors import UserError

MAGIC, PROTOCOL = 0x1950a86a20f9469cfc6c, 1001  # of the legacy format
TIMES = 16  # so often a storage may be shared in whole: weights that are tied have a handful of names
STORAGES = {'Float': 'f4', 'Half': 'f2', 'BFloat16': 'u2', 'Double': 'f8', 'Long': 'i8', 'Int': 'i4', 'Short': 'i2',
            'Char': 'i1', 'Byte': 'u1', 'Bool': 'u1'}
MODELS = 'model', 'state_dict', 'model_state_dict'  # entries under which checkpoints keep the state dict


def load(path, skip=False):
    """What a file of torch.save holds.

    Args:
      path: of the file, of either format.
      skip: whether objects of other classes become Skipped instead of ending the reading.

    Returns:
      Mostly a dict. Tensors are NumPy arrays of their own in C's order, bfloat16 as float32; OrderedDict is dict.

    Raises:
      UserError: no such file, not of torch.save, damaged; a tensor that does not fit its storage; without `skip`, any
        class but those of tensors, NumPy arrays of numbers and plain containers, with its name.
    """
    return _load(pathlib.Path(path), skip, lambda x: x)


def tensors(path) -> dict[str, np.ndarray]:
    """The state dict in a file of torch.save; other tensors of the file, as an optimiser's, are not built.

    Args:
      path: of a file that is a state dict or, as MMF's, has one in MODELS. Other objects beside it are skipped.

    Returns:
      Arrays by name, without the `module.` that data-parallel training puts before all names.

    Raises:
      UserError: as `load`, or there is no state dict; then with the keys that were found.
    """
    state = _load(pathlib.Path(path), True, _state_dict)
    cut = len('module.') if all(k.startswith('module.') for k in state) else 0
    return {k[cut:]: v for k, v in state.items()}


class Skipped:
    """Stands for an object of a class that is not known, or the class; takes everything and keeps nothing."""

    __slots__ = ()

    def __new__(cls, *args, **kwargs):
        return super().__new__(cls)

    def __call__(self, *args, **kwargs):
        return self

    def _ignore(*args, **kwargs):
        """Also called on the class: a program may do with a class what it does with an object."""

    append = extend = add = __setitem__ = __setstate__ = _ignore


class _Wrong(Exception):
    """A file is not as torch.save leaves it."""


class _Closed:
    """Slots and __setstate__ everywhere, as in unpickle."""

    __slots__ = ()

    def __setstate__(self, state):
        raise Refused('it sets the state of what has none')


class _Call(_Closed):
    __slots__ = ('function',)

    def __init__(self, function):
        self.function = function

    def __call__(self, *args):
        return self.function(*args)


class _Kind(_Closed):
    __slots__ = ('name',)

    def __init__(self, name):
        self.name = name


class _Storage(_Closed):
    __slots__ = ('key', 'kind', 'dtype', 'numel', 'nbytes', 'order', 'fetch', 'raw', 'waiting', 'elements')

    def __init__(self, key, kind, numel):
        self.key, self.kind, self.numel, self.dtype = key, kind, numel, np.dtype(STORAGES[kind])
        self.nbytes, self.raw, self.waiting, self.elements = numel * self.dtype.itemsize, None, 0, 0


class _Tensor(_Closed, unpickle.Array):
    """A tensor within its storage, which `array` builds."""

    __slots__ = ('storage', 'where')

    def __init__(self, storage, offset, size, stride):
        if not (isinstance(storage, _Storage) and isinstance(size, tuple) and isinstance(stride, tuple)
                and len(size) == len(stride) <= 32
                and all(type(n) is int and 0 <= n < 2 ** 63 for n in (offset, *size, *stride))):
            raise Refused('it has a tensor whose storage, offset, size and stride are not such')
        count, last = math.prod(size), offset + sum((n - 1) * s for n, s in zip(size, stride))
        storage.elements += count
        what = f'it has a tensor of size {size}, stride {stride} and offset {offset}'
        if offset > storage.numel or count and last >= storage.numel:
            raise Refused(f'{what} that reaches beyond its storage {storage.key} of {storage.numel} elements')
        if count > storage.numel or storage.elements > TIMES * storage.numel:
            raise Refused(f'{what}: too many elements, alone or with others, for its storage of {storage.numel}')
        storage.waiting += 1
        self.storage, self.where = storage, (offset, size, stride)

    @property
    def array(self):
        """The content of the storage is read once and let go after its last tensor."""
        x, (offset, size, stride) = self.storage, self.where
        out = np.empty(size, x.dtype)
        if out.size:
            if x.raw is None:
                x.raw = np.frombuffer(x.fetch(), x.dtype.newbyteorder(x.order), x.numel)
            steps = [0 if n == 1 else s * out.itemsize for n, s in zip(size, stride)]
            out[...] = np.lib.stride_tricks.as_strided(x.raw[offset:], size, steps, writeable=False)
        x.waiting -= 1
        x.raw = x.raw if x.waiting else None
        if x.kind == 'Bool':
            return np.not_equal(out, 0, out=np.empty(size, bool))
        if x.kind == 'BFloat16':  # the upper half of a float32
            return np.left_shift(out, 16, out=np.empty(size, np.uint32), dtype=np.uint32).view(np.float32)
        return out


class _Ordered(dict):
    __slots__ = ()

    def __setstate__(self, state):
        """Attributes, as the _metadata of state dicts, are dropped."""


def _rebuild_tensor(storage, offset, size, stride, requires_grad, hooks, metadata=None):
    if metadata:
        raise Refused('it has a tensor that is to be conjugated or negated')
    return _Tensor(storage, offset, size, stride)


def _rebuild_parameter(data, requires_grad, hooks):
    if not isinstance(data, (_Tensor, Skipped)):
        raise Refused('it has a parameter that is no tensor')
    return data


KNOWN = unpickle.KNOWN | {('torch', f'{name}Storage'): functools.partial(_Kind, name) for name in STORAGES} | {
    name: functools.partial(_Call, function) for name, function in {
        ('torch._utils', '_rebuild_tensor_v2'): _rebuild_tensor, ('torch', 'Size'): tuple,
        ('torch._utils', '_rebuild_parameter'): _rebuild_parameter, ('collections', 'OrderedDict'): _Ordered}.items()}


class _Reader(unpickle.Reader):
    """Gathers the storages that a pickle refers to, each by `entries` (0: by nothing); `size` is that of the file."""

    known = KNOWN

    def __init__(self, f, skip=False, entries=0, size=0):
        super().__init__(f, encoding='latin1')
        self.skip, self.entries, self.left, self.storages = skip, entries, size, {}

    def find_class(self, module, name):
        # Storages are never skipped: a tensor of theirs would be missing, and in legacy files the place of the next.
        storage = module == 'torch.storage' or (module == 'torch' and name.endswith('Storage'))
        if self.skip and not storage and (module, name) not in self.known:
            return Skipped
        return super().find_class(module, name)

    def persistent_load(self, pid):
        if self.skip and isinstance(pid, tuple) and pid[:1] == ('module',):  # a class of the legacy format
            return Skipped
        if not (isinstance(pid, tuple) and len(pid) == self.entries and pid[0] == 'storage' and not any(pid[5:])):
            raise Refused('it refers to something else than whole storages')
        kind, key, _, numel = pid[1:5]
        if not (isinstance(kind, _Kind) and isinstance(key, str) and type(numel) is int and 0 <= numel < 2 ** 63):
            raise Refused('it refers to a storage without class, key and number of elements')
        if key not in self.storages:
            self.storages[key] = new = _Storage(key, kind.name, numel)
            self.left -= new.nbytes
            if self.left < 0:
                raise _Wrong(f'its storages (the last: {key}, of {new.nbytes} bytes) are larger than it: truncated?')
        x = self.storages[key]
        if (x.kind, x.numel) != (kind.name, numel):
            raise Refused(f'its storage {key} has {x.numel} elements of {x.kind} and {numel} of {kind.name}')
        return x


def _load(path, skip, choose):
    """What `choose` takes of what the file holds."""
    if not path.is_file():
        raise UserError(f'{path}: no such file (looked in {pathlib.Path.cwd()})')
    try:
        with path.open('rb') as f:
            whole = (_zip if f.peek(4)[:4] == b'PK\3\4' else _legacy)(f, skip, path.stat().st_size)
            return unpickle.plain(choose(whole), **({'other': Skipped} if skip else {}))
    except (Refused, _Wrong) as e:
        refused = f'refused, {e}; only tensors, NumPy arrays of numbers and plain containers are read'
        raise UserError(f'{path}: {refused if isinstance(e, Refused) else e}') from e
    except Exception as e:  # a damaged program can end in any way
        raise UserError(f'{path}: not a file of torch.save that can be read, or truncated: {type(e).__name__}: '
                        f'{(str(e) or "-").splitlines()[0]}') from e


def _zip(f, skip, size):
    archive = zipfile.ZipFile(f)
    entries = {x.filename: x for x in archive.infolist()}
    root = next(iter(entries), '').split('/')[0]
    if f'{root}/constants.pkl' in entries or any(name.startswith(f'{root}/code/') for name in entries):
        raise _Wrong('an archive of TorchScript (torch.jit.save), which holds a program, not only weights')

    def entry(name, expected=None):
        x = entries.get(f'{root}/{name}')
        if x is None:
            raise _Wrong(f'a zip archive without an entry {root}/{name}')
        if x.compress_type != zipfile.ZIP_STORED or x.compress_size != x.file_size:
            raise _Wrong(f'its entry {x.filename} is compressed, which torch.save never does')
        if expected not in (None, x.file_size):
            raise _Wrong(f'its entry {x.filename} has {x.file_size} bytes, and its storage has {expected}')
        return x

    order = archive.read(entry('byteorder')) if f'{root}/byteorder' in entries else b'little'
    if order not in (b'little', b'big'):
        raise _Wrong(f'its byte order is {order[:20]!r}, neither little nor big')
    reader = _Reader(io.BytesIO(archive.read(entry('data.pkl'))), skip, 5, size)
    whole = reader.load()
    for key, x in reader.storages.items():
        x.order = '<' if order == b'little' else '>'
        x.fetch = functools.partial(archive.read, entry(f'data/{key}', x.nbytes))
    return whole


def _legacy(f, skip, size):
    for name, known in ('magic number', MAGIC), ('protocol', PROTOCOL):
        found = _Reader(f).load()
        if type(found) is not int or found != known:
            raise _Wrong(f'not a file of torch.save: no zip archive, nor a pickle of its {name} {known:#x}')
    _Reader(f).load()  # about the system that wrote it
    reader = _Reader(f, skip, 6, size)
    whole, keys = reader.load(), _Reader(f).load()
    if not isinstance(keys, list) or sorted(keys, key=str) != sorted(reader.storages):
        raise _Wrong(f'its list of storages is not that of the storages of its tensors, {[*reader.storages][:3]}...')

    def fetch(at, nbytes):
        f.seek(at)
        return f.read(nbytes)

    for key in keys:
        x = reader.storages[key]
        numel = int.from_bytes(f.read(8), 'little')
        if numel != x.numel or f.tell() + x.nbytes > size:
            raise _Wrong(f'its storage {key} has {numel} elements, not {x.numel}, or is truncated')
        x.order, x.fetch = '<', functools.partial(fetch, f.tell(), x.nbytes)  # little on every machine that writes
        f.seek(x.nbytes, io.SEEK_CUR)
    return whole


def _state_dict(whole):
    """The mapping of names to tensors in `whole`."""
    if not isinstance(whole, dict):
        raise _Wrong(f'holds a {type(whole).__name__.lstrip("_")}; expected a dictionary of tensors')
    found = list(whole)
    for name, state in ('', whole), *((name, whole[name]) for name in MODELS if isinstance(whole.get(name), dict)):
        odd = [k for k, v in state.items() if not (isinstance(k, str) and isinstance(v, unpickle.Array))]
        if state and not odd:
            return state
        found += [f'{name}: {k}' for k in odd if name and isinstance(k, str)]  # no tensors
    raise _Wrong(f'no dictionary of tensors, neither itself nor its entry {", ".join(MODELS)}; found the keys '
                 f'{", ".join(k for k in found if isinstance(k, str))[:500] or "none"}')
