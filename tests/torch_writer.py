"""Files of the layouts of torch.save, written without torch, whatever they hold."""
import io
import pickle
import struct
import zipfile

import numpy as np

from fipjax.models.convert import torch_file


class Name:
    """A name that a pickle asks for."""

    def __init__(self, module, name):
        self.module, self.name = module, name


class Call:
    """What a pickle calls, and the state that it then sets; `new` makes an object without a call of its class."""

    def __init__(self, function, *args, state=None, new=False):
        self.function, self.args, self.state, self.new = Name(*function.rsplit('.', 1)), args, state, new


class Pid:
    def __init__(self, *pid):
        self.pid = pid


class Pickler(pickle._Pickler):
    """Writes the above as the instructions that torch's pickles have, without importing anything."""

    def persistent_id(self, x):
        return x.pid if isinstance(x, Pid) else None

    def save(self, x, *args, **kwargs):
        if isinstance(x, Name) and self.proto >= 4:
            self.save(x.module)
            self.save(x.name)
            self.write(pickle.STACK_GLOBAL)
        elif isinstance(x, Name):
            self.write(pickle.GLOBAL + f'{x.module}\n{x.name}\n'.encode())
        elif isinstance(x, Call):
            self.save(x.function)
            self.save(x.args)
            self.write(pickle.NEWOBJ if x.new else pickle.REDUCE)
            if x.state is not None:
                self.save(x.state)
                self.write(pickle.BUILD)
        else:
            super().save(x, *args, **kwargs)


def program(x, protocol=2):
    if isinstance(x, bytes):
        return x
    f = io.BytesIO()
    Pickler(f, protocol).dump(x)
    return f.getvalue()


def storage(key='0', numel=6, kind='Float', write='zip'):
    return Pid('storage', Name('torch', f'{kind}Storage'), key, 'cpu', numel, *([None] if write == 'legacy' else []))


def tensor(storage, size=(2, 3), stride=(3, 1), offset=0, more=()):
    return Call('torch._utils._rebuild_tensor_v2', storage, offset, size, stride, False,
                Call('collections.OrderedDict'), *more)


SIX = np.arange(6, dtype='<f4')
HEAD = tuple(pickle.dumps(x, 2) for x in (torch_file.MAGIC, 1001, {'little_endian': True}))


def save(tmp_path, write, x, data=None, head=HEAD, protocol=2, keys=None, more=None, root='x/'):
    """Writes the file; `data`: arrays by key, by default SIX as '0'."""
    path, data = tmp_path / f'{write}.bin', {'0': SIX} if data is None else data
    if write == 'zip':
        with zipfile.ZipFile(path, 'w') as f:
            entries = {'data.pkl': program(x, protocol), 'version': b'3\n',
                       **{f'data/{k}': v.tobytes() for k, v in data.items()}, **(more or {})}
            for name, raw in entries.items():
                f.writestr(root + name, raw)
    else:
        raw = b''.join((*head, program(x, protocol), pickle.dumps(sorted(data) if keys is None else keys, 2)))
        path.write_bytes(raw + b''.join(struct.pack('<q', data[k].size) + data[k].tobytes() for k in sorted(data)))
    return path
