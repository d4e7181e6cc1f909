"""Files of torch.save come out as they went in, without torch, and hostile ones do nothing."""
import os
import pathlib
import pickle
import zipfile

import numpy as np
import pytest
from containers import same
from torch_writer import HEAD, SIX, Call, Name, Pid, program, save, storage, tensor

from fipjax.errors import UserError
from fipjax.models.convert import torch_file
from fipjax.models.convert.torch_file import Skipped

GOLDEN = pathlib.Path(__file__).parent / 'golden'
FORMATS = pytest.mark.parametrize('write', ['zip', 'legacy'])


def check(got, want):
    same(got, want, lambda x: x.flags.c_contiguous and x.dtype.isnative)


@pytest.mark.parametrize('name', ['torch_zip', 'torch_legacy'])
def test_files_of_torch_itself(name):
    f4 = np.float32
    check(torch_file.load(GOLDEN / f'{name}.bin'), {
        'float32': np.array([[1.5, -2], [0.1, 3e38]], f4),
        # -0.1 and 3e38 to eight bits.
        'bfloat16': np.array([1.5, -0.10009765625, float.fromhex('0x1.c4p+127')], f4),
        'float16': np.array([1.5, -0.1, 65504], np.float16), 'float64': np.array([0.1, -1e300]),
        'int64': np.array([1, -2 ** 62]), 'int32': np.array([1, -2 ** 31], np.int32),
        'int16': np.array([1, -2 ** 15], np.int16), 'int8': np.array([1, -128], np.int8),
        'uint8': np.array([1, 255], np.uint8), 'bool': np.array([True, False, True]),
        'transposed': np.array([[0, 3], [1, 4], [2, 5]]), 'first': np.arange(4, dtype=f4),
        'last': np.array([[5, 6], [8, 9]], f4), 'parameter': np.array([0.25, -4], f4), 'scalar': np.array(2.5, f4),
        'empty': np.zeros((0, 3), f4), 'layer': {'weight': np.array([[0.5, -0.25]], f4), 'bias': np.array([2], f4)},
        'rest': [(2, 3), (None, 'é', b'\xff', 1.5), {1, 2}, True, 2 ** 70]})


@FORMATS
def test_views_share_a_storage_and_come_out_apart(tmp_path, write):
    s = storage(write=write)
    got = torch_file.load(save(tmp_path, write, {
        'all': tensor(s), 'T': tensor(s, (3, 2), (1, 3)), 'end': tensor(s, (2,), (1,), 4),
        'odd strides of one row': tensor(s, (1, 2), (2 ** 62, 1), 4), 'point': tensor(s, (), (), 5),
        'none': tensor(s, (0, 9), (9, 1), 6),
        'weights': Call('torch._utils._rebuild_parameter', tensor(s), True, Call('collections.OrderedDict')),
        'numpy': np.arange(3)}))
    a = SIX.reshape(2, 3)
    check(got, {'all': a, 'T': a.T.copy(), 'end': a[1, 1:], 'odd strides of one row': a[1:, 1:],
                'point': np.array(5, np.float32), 'none': np.zeros((0, 9), np.float32), 'weights': a,
                'numpy': np.arange(3)})
    got['all'][:] = -1
    np.testing.assert_array_equal(got['weights'], a)


def test_archives_of_machines_that_begin_with_the_high_byte(tmp_path):
    path = save(tmp_path, 'zip', [tensor(storage()), tensor(storage('1', 2, 'BFloat16'), (2,), (1,))],
                {'0': SIX.astype('>f4'), '1': np.array([0x3fc0, 0xc000], '>u2')}, more={'byteorder': b'big'})
    check(torch_file.load(path), [SIX.reshape(2, 3), np.array([1.5, -2], np.float32)])
    with pytest.raises(UserError, match="byte order is b'middle'"):
        torch_file.load(save(tmp_path, 'zip', {}, {}, more={'byteorder': b'middle'}))


def test_ordered_dictionaries_lose_their_attributes(tmp_path):
    state = Call('collections.OrderedDict', [['a', 1]], state={'_metadata': {'version': 1}, 'keys': 3})
    check(torch_file.load(save(tmp_path, 'zip', state, {})), {'a': 1})


@FORMATS
@pytest.mark.parametrize('protocol', [2, 4])
@pytest.mark.parametrize('skip', [False, True])
@pytest.mark.parametrize('name', ['os.system', 'posix.system', 'builtins.eval', 'subprocess.call'])
def test_other_names_are_refused_or_skipped_and_never_run(tmp_path, write, protocol, skip, name):
    mark = tmp_path / 'mark'
    what = f'open({str(mark)!r}, "w")' if name.endswith('eval') else f'touch {mark}'
    path = save(tmp_path, write, {'a': [1], 'b': Call(name, what)}, {}, protocol=protocol)
    if skip:
        got = torch_file.load(path, skip=True)
        assert got['a'] == [1] and isinstance(got['b'], Skipped)
    else:
        with pytest.raises(UserError, match=f'{write}.bin: refused, it asks for {name}; only tensors'):
            torch_file.load(path)
    assert not mark.exists()
    if name == 'posix.system':  # the mark would be seen
        os.system(what)
        assert mark.exists()


def test_a_config_beside_the_model_is_skipped(tmp_path):
    whole = {'config': Call('omegaconf.dictconfig.DictConfig', state={'_content': {'lr': 1}}, new=True),
             'args': Call('argparse.Namespace', state={'lr': 1}), 'class': Name('omegaconf', 'Any'),
             'enum': Call('enum.Enum', 3), 'dtype': Call('numpy.dtype', 'f4', False, True), 'epoch': 3,
             'model': {'module.a': tensor(storage()), 'module.b': tensor(storage(), (2,), (1,))}}
    path = save(tmp_path, 'zip', whole)
    with pytest.raises(UserError, match='refused, it asks for omegaconf.dictconfig.DictConfig'):
        torch_file.load(path)
    got = torch_file.load(path, skip=True)
    assert all(isinstance(got[k], Skipped) for k in ('config', 'args', 'class', 'enum', 'dtype'))
    assert got['epoch'] == 3
    check(torch_file.tensors(path), {'a': SIX.reshape(2, 3), 'b': SIX[:2]})


def test_nothing_can_be_put_into_what_is_skipped(tmp_path):
    """An object filled as a list, dictionary and set, called, with state: as an object, and as the class."""
    for start in (b'cmmf\nA\n)\x81', b'cmmf\nA\n'):
        fill = b'(I1\nI2\neI3\na' + (b'(I3\nI4\nuI3\nI4\ns' if start.endswith(b'\x81') else b'') + b'(I5\n\x90'
        path = save(tmp_path, 'zip', b'\x80\x04' + start + fill + b'}(S"__class__"\nI1\nS"append"\nI2\nub(I1\ntR.', {})
        got = torch_file.load(path, skip=True)
        assert type(got) is Skipped and not hasattr(got, '__dict__')
    assert Skipped.append is Skipped.__setstate__


STORAGE = 'torch.storage._load_from_bytes'
WRONG = [
    (tensor(storage(), offset=1), r'size \(2, 3\), stride \(3, 1\) and offset 1 that reaches beyond its storage 0'),
    (tensor(storage(), (2, 3), (4, 1)), 'reaches beyond'), (tensor(storage(), (0,), (1,), 7), 'reaches beyond'),
    (tensor(storage(), (2, 3), (-3, 1)), 'offset, size and'), (tensor(storage(), (-2, 3)), 'offset, size and'),
    (tensor(storage(), offset=-1), 'offset, size and'), (tensor(storage(), (2, 3), (3,)), 'offset, size and'),
    (tensor(storage(), (2, True)), 'offset, size and'), (tensor(storage(), (2, 3.0)), 'offset, size and'),
    (tensor(storage(), (1,) * 33, (1,) * 33), 'offset, size and'), (tensor(storage(), [2, 3]), 'offset, size and'),
    (tensor(storage(), (2 ** 62,), (2 ** 62,)), 'reaches beyond'),
    (tensor(storage(), (2 ** 50,), (0,)), 'too many elements'),
    (tensor(storage(), (7,), (0,)), 'too many elements'),
    ([tensor(storage()) for _ in range(17)], 'too many elements'),
    (tensor(storage(), more=({'conj': True},)), 'conjugated'), (tensor('0'), 'whose storage, offset'),
    (tensor(storage(numel=7)), '24 bytes, and its storage has 28|6 elements, not 7'),
    (tensor(storage(numel=5)), 'beyond its storage 0 of 5'),
    ([tensor(storage(numel=5), (5,), (1,))], '24 bytes, and its storage has 20|6 elements, not 5'),
    (tensor(storage(numel=2 ** 40)), 'larger than it: truncated'),
    (tensor(storage(numel=-6)), 'without class, key and number'),
    (tensor(storage(numel='6')), 'without class, key and number'), (tensor(storage(0)), 'without class, key'),
    (tensor(storage('1')), 'without an entry x/data/1|its list of storages is not'),
    ([tensor(storage()), tensor(storage(kind='Int'))], '6 elements of Float and 6 of Int'),
    (tensor(storage(kind='Untyped')), 'asks for torch.UntypedStorage'),
    (tensor(storage(kind='ComplexFloat')), 'asks for torch.ComplexFloatStorage'),
    (Call('torch._utils._rebuild_parameter', 1, True, {}), 'parameter that is no tensor'),
    (Call('torch._utils._rebuild_tensor_v2', 1), 'not a file of torch.save that can be read.*TypeError'),
    (Call('torch._utils._rebuild_parameter', tensor(storage()), True, {}, 5), 'TypeError'),
    (Call('collections.OrderedDict', 5), 'TypeError'), (Call('torch.Size', 5), 'TypeError'),
    (Call('torch.Size', (1,), new=True), 'NEWOBJ'),
    (Call('torch.FloatStorage', 5), 'TypeError'), (Call('torch._utils._rebuild_tensor_v2', new=True), 'NEWOBJ'),
    (Call('torch._utils._rebuild_tensor_v2', *tensor(storage()).args, state={'storage': 1}), 'sets the state'),
    ([tensor(storage()), storage()], 'bare name or type'), (Name('torch', 'FloatStorage'), 'bare name or type'),
    (Call(STORAGE, pickle.dumps(1)), f'asks for {STORAGE}'), (Name('torch.storage', 'UntypedStorage'), 'asks for'),
    (Pid('cuda', 1, 'a.py', 'source'), 'else than whole storages'), (Pid('storage', 1), 'else than whole'),
    (b'Pid\n.', 'else than whole storages'), (b'(lp0\ng0\na.', 'holds itself'), (b'', 'not a file of torch.save')]


@FORMATS
@pytest.mark.parametrize('skip', [False, True])
@pytest.mark.parametrize('thing, message', WRONG, ids=range(len(WRONG)))
def test_tensors_that_do_not_fit_and_wrong_calls(tmp_path, write, skip, thing, message):
    def fix(x):
        """Storages of the legacy format have one entry more."""
        if isinstance(x, list):
            return [fix(v) for v in x]
        if isinstance(x, Pid) and x.pid[0] == 'storage' and len(x.pid) == 5 and write == 'legacy':
            return Pid(*x.pid, None)
        if isinstance(x, Call):
            x = Call(f'{x.function.module}.{x.function.name}', *(fix(v) for v in x.args), state=x.state, new=x.new)
        return x

    thing = fix(thing)
    path = save(tmp_path, write, thing, None if b'storageq' in program(thing) else {})
    if skip and message == 'bare name or type':
        assert torch_file.load(path, skip=True) is not None
    else:
        with pytest.raises(UserError, match=f'{write}.bin: .*({message})'):
            torch_file.load(path, skip)


def test_lists_that_double_take_no_time(tmp_path):
    doubling = b'(lp0\n' + b''.join(b'(lp%d\ng%d\nag%d\na' % (i, i - 1, i - 1) for i in range(1, 99)) + b'.'
    got = torch_file.load(save(tmp_path, 'zip', doubling, {}))
    for _ in range(98):
        assert len(got) == 2
        got = got[0]
    assert got == []


def test_archives_that_are_not_as_torch_leaves_them(tmp_path):
    whole = program({'a': tensor(storage())})
    cases = [({'code/x.py': b''}, 'x/', 'TorchScript'), ({'constants.pkl': b''}, 'x/', 'TorchScript'),
             ({'../y': b''}, '', 'without an entry .*data.pkl'), ({'data.pkl': b'PK\3\4'}, 'x/', 'not a file of torch')]
    for more, root, message in cases:
        with pytest.raises(UserError, match=f'zip.bin: .*{message}'):
            torch_file.load(save(tmp_path, 'zip', whole, more=more, root=root))
    inner = save(tmp_path, 'zip', whole).read_bytes()
    with zipfile.ZipFile(tmp_path / 'nested.bin', 'w') as f:
        f.writestr('x/inner.zip', inner)
    with pytest.raises(UserError, match='nested.bin: a zip archive without an entry x/data.pkl'):
        torch_file.load(tmp_path / 'nested.bin')
    for squeezed in ('x/data.pkl', 'x/data/0'):
        with zipfile.ZipFile(tmp_path / 'bomb.bin', 'w') as f:
            for name, raw in {'x/data.pkl': program({'a': tensor(storage(numel=999), (999,), (1,))}),
                              'x/data/0': bytes(999 * 4), 'x/more': bytes(4000)}.items():
                f.writestr(name, raw, zipfile.ZIP_DEFLATED if name == squeezed else zipfile.ZIP_STORED)
        with pytest.raises(UserError, match=f'bomb.bin: its entry {squeezed} is compressed'):
            torch_file.load(tmp_path / 'bomb.bin')
    assert sorted(x.name for x in tmp_path.iterdir()) == ['bomb.bin', 'nested.bin', 'zip.bin']


@pytest.mark.parametrize('at, other, message', [
    (0, torch_file.MAGIC + 1, 'magic number 0x1950a86a20f9469cfc6c'), (0, {'a': 1}, 'magic number'),
    (0, True, 'magic number'), (1, 1002, 'protocol 0x3e9'), (1, b'1001', 'protocol 0x3e9')])
def test_legacy_heads(tmp_path, at, other, message):
    head = [*HEAD]
    head[at] = pickle.dumps(other)
    with pytest.raises(UserError, match=f'legacy.bin: .*{message}'):
        torch_file.load(save(tmp_path, 'legacy', {}, {}, head))
    head[at] = program(Call('posix.system', f'touch {tmp_path / "mark"}'))
    with pytest.raises(UserError, match='refused, it asks for posix.system'):
        torch_file.load(save(tmp_path, 'legacy', {}, {}, head), skip=True)
    assert not (tmp_path / 'mark').exists()


@pytest.mark.parametrize('keys', [[], ['0', '0'], ['1'], ['0', '1'], [0], '0'])
def test_legacy_lists_of_storages(tmp_path, keys):
    with pytest.raises(UserError, match=r"legacy.bin: its list of storages is not that of .* its tensors, \['0'\]"):
        torch_file.load(save(tmp_path, 'legacy', tensor(storage(write='legacy')), keys=keys))


def test_parts_of_storages_and_whole_models_of_the_legacy_format(tmp_path):
    part = Pid('storage', Name('torch', 'FloatStorage'), '0', 'cpu', 6, ('1', 0, 3))
    with pytest.raises(UserError, match='something else than whole storages'):
        torch_file.load(save(tmp_path, 'legacy', tensor(part)))
    model = {'net': Pid('module', Name('mmf', 'Net'), 'net.py', 'class Net'), 'epoch': 1}
    with pytest.raises(UserError, match='asks for mmf.Net'):
        torch_file.load(save(tmp_path, 'legacy', model, {}))
    got = torch_file.load(save(tmp_path, 'legacy', model, {}), skip=True)
    assert got['epoch'] == 1 and isinstance(got['net'], Skipped)


@FORMATS
def test_truncated_anywhere(tmp_path, write):
    a, b = tensor(storage(write=write)), tensor(storage('1', 2, write=write), (2,), (1,))
    path = save(tmp_path, write, {'a': a, 'b': b}, {'0': SIX, '1': SIX[:2]})
    whole = path.read_bytes()
    check(torch_file.load(path), {'a': SIX.reshape(2, 3), 'b': SIX[:2]})
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        for skip in (False, True):
            with pytest.raises(UserError, match=f'{write}.bin: .*(truncated|not a file of torch.save|without)'):
                torch_file.load(path, skip)


@FORMATS
def test_every_damaged_byte_ends_in_a_message_or_a_value(tmp_path, write):
    path = save(tmp_path, write, {'a': tensor(storage(write=write)), 'b': Call('mmf.A', 1)})
    whole, rng, refused = path.read_bytes(), np.random.default_rng(0), 0
    for i in range(len(whole)):
        path.write_bytes(whole[:i] + bytes([int(rng.integers(256))]) + whole[i + 1:])
        try:
            torch_file.load(path, skip=True)
        except UserError as e:
            assert str(e).startswith(f'{path}: ')
            refused += 1
    assert refused > len(whole) // 4


def test_state_dicts_by_their_entries(tmp_path):
    a, want = {'a': tensor(storage()), 'module.b': tensor(storage(), (), ())}, {'a': SIX.reshape(2, 3)}
    want['module.b'] = np.array(0, np.float32)
    for whole in (a, {'model': a, 'epoch': 1}, {'state_dict': a}, {'x': 1, 'model_state_dict': a, 'model': 'vit'}):
        check(torch_file.tensors(save(tmp_path, 'zip', whole)), want)
    check(torch_file.tensors(save(tmp_path, 'zip', {'module.a.b': tensor(storage())})), {'a.b': SIX.reshape(2, 3)})


@pytest.mark.parametrize('whole, message', [
    ({'epoch': 1, 'weights': {}}, 'its entry model, state_dict, model_state_dict; found the keys epoch, weights$'),
    ({'model': {'a': tensor(storage()), 'b': Call('mmf.A')}}, 'keys model, model: b$'), ({}, 'found the keys none'),
    ({1: tensor(storage())}, 'found the keys none'), ([tensor(storage())], 'holds a list; expected a dictionary'),
    (tensor(storage()), 'holds a Tensor; expected'), ({'model': {}}, 'keys model$')])
def test_no_state_dict(tmp_path, whole, message):
    data = {'0': SIX} if b'0' in program(whole) else {}
    with pytest.raises(UserError, match=f'zip.bin: .*{message}'):
        torch_file.tensors(save(tmp_path, 'zip', whole, data))


def test_the_optimiser_beside_a_model_is_not_read(tmp_path):
    """Its storage is there by size, and damaged: reading it ends in an error."""
    whole = {'model': {'a': tensor(storage())}, 'optimizer': {0: tensor(storage('1'))}}
    path = save(tmp_path, 'zip', whole, {'0': SIX, '1': SIX + 1000})
    path.write_bytes(path.read_bytes().replace((SIX + 1000).tobytes(), SIX.tobytes()[::-1]))
    check(torch_file.tensors(path), {'a': SIX.reshape(2, 3)})
    with pytest.raises(UserError, match='BadZipFile: Bad CRC-32'):
        torch_file.load(path)


def test_a_storage_is_read_once(tmp_path, monkeypatch):
    path, names, read = save(tmp_path, 'zip', [tensor(storage()) for _ in range(3)]), [], zipfile.ZipFile.read
    monkeypatch.setattr(zipfile.ZipFile, 'read', lambda f, x: (names.append(x.filename), read(f, x))[1])
    assert len(torch_file.load(path)) == 3
    assert names == ['x/data.pkl', 'x/data/0']


def test_other_files(tmp_path):
    with pytest.raises(UserError, match='none.bin: no such file'):
        torch_file.load(tmp_path / 'none.bin')
    with pytest.raises(UserError, match='none.bin: no such file'):
        torch_file.tensors(tmp_path / 'none.bin')
    for raw in (b'', b'hello', b'PK\3\4', b'\x89HDF'):
        (tmp_path / 'x').write_bytes(raw)
        with pytest.raises(UserError, match='x: not a file of torch.save'):
            torch_file.load(tmp_path / 'x')
