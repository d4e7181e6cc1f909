"""Pickles of arrays come out as they went in, and hostile ones do nothing."""
import collections
import gzip
import io
import os
import pickle
import struct

import numpy as np
import pytest
from containers import same

from fipjax.data import unpickle
from fipjax.errors import UserError

HERE = []  # what a hostile pickle would leave a mark in


def mark(*args):
    HERE.append(args)


def save(tmp_path, x, protocol=2):
    path = tmp_path / 'x.pkl'
    path.write_bytes(x if isinstance(x, bytes) else pickle.dumps(x, protocol))
    return path


@pytest.mark.parametrize('protocol', range(6))
def test_arrays_and_containers(tmp_path, protocol):
    rng = np.random.default_rng(0)
    x = {('QPSK', -20): rng.normal(size=(3, 2, 4)).astype(np.float32),
         'text': ['é', b'\xff\x00', b'', None, True, 1.5, 2 ** 70, 2 + 1j],
         'more': (np.arange(5, dtype='>i2'), np.array([True, False]), np.zeros((0, 3)), np.array(3.0),
                  np.asfortranarray(rng.normal(size=(3, 4))), rng.normal(size=2) + 1j, np.float32(2.5), np.int64(-3)),
         'sets': [{1, 2}, frozenset((3,))]}
    same(unpickle.load(save(tmp_path, x, protocol)), x)


def test_a_pickle_of_python_2(tmp_path):
    """As Python 2.7 and NumPy of its time write {('BPSK', -20): array([[1, 2]], float32)} in protocol 2."""
    raw = struct.pack('<2f', 1, 2)
    program = (b'\x80\x02}q\x01U\x04BPSKJ\xec\xff\xff\xff\x86q\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\n'
               b'ndarray\nq\x04K\x00\x85U\x01b\x87Rq\x05(K\x01K\x01K\x02\x86cnumpy\ndtype\nq\x06U\x02f4K\x00K\x01\x87Rq\x07'
               b'(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x08' + raw + b'tbs.')
    same(unpickle.load(save(tmp_path, program)), {('BPSK', -20): np.array([[1, 2]], np.float32)})


class Calls:
    def __init__(self, function, *args):
        self.what = function, args

    def __reduce__(self):
        return self.what


@pytest.mark.parametrize('thing, name', [
    (Calls(mark, 1), 'asks for .*mark'), (Calls(os.system, 'true'), 'asks for posix.system|asks for nt.system'),
    (Calls(eval, '1'), 'asks for .*eval'), (Calls(getattr, 'a', 'b'), 'asks for .*getattr'),
    (collections.OrderedDict(a=1), 'asks for collections.OrderedDict'), (Calls(np.load, 'x'), 'asks for numpy.*load'),
    (np.array([mark], object), "array of type 'O8'"), (np.array(['a']), "array of type 'U1'"),
    (np.zeros(2, [('a', 'f4')]), "array of type 'V4'"), (np.array(['2020'], 'M8[s]'), "array of type 'M8'"),
    (np.ma.zeros(2), 'asks for numpy.ma'), (np.zeros(2).view(np.recarray), 'asks for numpy'), (mark, 'asks for .*mark'),
    (np.ndarray, 'bare name'), ([np.dtype('f4')], 'bare name')])
def test_other_things_are_refused_and_not_run(tmp_path, thing, name):
    with pytest.raises(UserError, match=f'x.pkl: refused, it.*({name}).*; only NumPy arrays'):
        unpickle.load(save(tmp_path, thing))
    assert HERE == []


ARRAY = b'cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS"b"\ntR'
F4 = b'cnumpy\ndtype\n(S"f4"\nI0\nI1\ntR'


@pytest.mark.parametrize('program, message', [
    # A dtype that says that it is of objects, or that its flags allow bytes to be taken for pointers.
    (ARRAY + b'(I1\n(I1\ntcnumpy\ndtype\n(S"O8"\nI0\nI1\ntR(I3\nS"|"\nNNNI-1\nI-1\nI0\ntbI00\nS"aaaaaaaa"\ntb.',
     "type 'O8'"),
    (ARRAY + b'(I1\n(I9\nt' + F4 + b'I00\nS"aaaa"\ntb.', r'of shape \(9,\) and type float32, but of 4 bytes'),
    (ARRAY + b'(I1\n(I-1\nt' + F4 + b'I00\nS"aaaa"\ntb.', r'of shape \(-1,\)'),
    (ARRAY + b'(I1\n(I1\nt' + F4 + b'I00\n(laI00\ntb.', 'refused|not a pickle'),
    (ARRAY + b'(I1\n(I1\nt' + F4 + b'(I3\nS"<"\nN(S"a"\ntNI-1\nI-1\nI0\ntbI00\nS"aaaa"\ntb.', 'array of records'),
    (ARRAY + b'(I1\n(I1\nt' + F4 + b'(I3\nS"x"\nNNNI-1\nI-1\nI0\ntbI00\nS"aaaa"\ntb.', "byte order 'x'"),
    (ARRAY + b'.', 'without content'), (ARRAY + b'(I1\ntb.', 'without shape'),
    (b'cnumpy.core.multiarray\n_reconstruct\n(I1\n(I0\ntS"b"\ntR.', 'subclass of an array'),
    (b'cnumpy\ndtype\n(N}S"__call__"\nI1\nstb.', 'not a pickle'),  # sets an attribute of the stand-in
    (b'cnumpy\nndarray\n)\x81.', 'not a pickle'),  # NEWOBJ
    (b'Pid\n.', 'outside the file'), (b'(lp0\ng0\na.', 'holds itself'),
    (b'c__builtin__\neval\n(S"1"\ntR.', 'asks for .*eval'),
    (b'\x80\x04\x8c\x02os\x8c\x06system\x93.', 'asks for os.system'),
    (b'(S"1"\ni__builtin__\neval\n.', 'asks for .*eval'), (b'', 'not a pickle'), (b'\x80\x09.', 'not a pickle'),
    (b'hello', 'not a pickle')])
def test_hostile_and_damaged_programs(tmp_path, program, message):
    with pytest.raises(UserError, match=f'x.pkl: .*({message})'):
        unpickle.load(save(tmp_path, program))


def test_every_damaged_byte_ends_in_a_message_or_a_value(tmp_path):
    whole = pickle.dumps({'a': np.arange(6.0).reshape(2, 3), 'b': [1, 'x']}, 2)
    rng, refused = np.random.default_rng(0), 0
    for i in range(len(whole)):
        for damaged in (whole[:i], whole[:i] + bytes([int(rng.integers(256))]) + whole[i + 1:]):
            try:
                unpickle.load(save(tmp_path, damaged))
            except UserError:
                refused += 1
    assert refused > len(whole)
    assert HERE == []


def test_objects_and_texts_of_an_open_file(tmp_path):
    rng = np.random.default_rng(0)
    signals = np.empty(3, object)
    signals[:] = [rng.integers(0, 9, n).astype(np.int16) for n in (2, 0, 5)]
    x = {'data': signals, 'label': np.array(['N', '~', 'AO\u00fc']), 'bytes': np.array([b'a', b'bc'])}
    for protocol in range(6):
        with gzip.open(tmp_path / 'x.gz', 'wb') as f:
            pickle.dump(x, f, protocol)
        with gzip.open(tmp_path / 'x.gz') as f:
            found = unpickle.objects(f, 'x.gz')
        same(found['data'], list(signals))
        assert found['label'].tolist() == x['label'].tolist() and found['bytes'].tolist() == x['bytes'].tolist()
    records = ARRAY + b'(I1\n(I1\ntcnumpy\ndtype\n(S"V8"\nI0\nI1\ntRI00\nS"a"\ntb.'
    for program in (b'cos\nsystem\n(S"true"\ntR.', records):
        with pytest.raises(UserError, match='x.gz: refused'):
            unpickle.objects(io.BytesIO(program), 'x.gz')


def test_no_such_file(tmp_path):
    with pytest.raises(UserError, match='none.pkl: no such file'):
        unpickle.load(tmp_path / 'none.pkl')


def npy(tmp_path, x):
    np.save(tmp_path / 'x.npy', x)
    return tmp_path / 'x.npy'


def test_npy_of_objects(tmp_path):
    rng = np.random.default_rng(0)
    item = {'bbox': rng.normal(size=(2, 4)), 'n': np.int64(3), 'text': ['é', 'b'],
            'nested': np.array([{'a': 1}], object)}
    same(unpickle.npy(npy(tmp_path, item)), {**item, 'nested': [{'a': 1}]})  # an array without an axis
    several = [item['bbox'], {'a': b'\0'}, 'c', None]
    same(unpickle.npy(npy(tmp_path, np.array(several, object))), several)
    same(unpickle.npy(npy(tmp_path, item['bbox'].T)), item['bbox'].T)  # of numbers, in Fortran's order
    same(list(unpickle.records(npy(tmp_path, np.array([{'a': i, 'b': several[0]} for i in range(3)], object)))),
         [{'a': i, 'b': several[0]} for i in range(3)])
    same(list(unpickle.records(npy(tmp_path, {'metadata': {}, 'data': [{'a': 1}, {'a': 2}]}))), [{'a': 1}, {'a': 2}])
    same(unpickle.loads(pickle.dumps(several, 4), 'here'), several)


@pytest.mark.parametrize('x', [np.array([Calls(mark, 1)], object), np.array({'a': [Calls(eval, '1')]}, object),
                               np.array([np.zeros(2, 'M8[s]')], object), np.array([{'a': mark}, {}], object)])
def test_npy_runs_nothing(tmp_path, x):
    path = npy(tmp_path, x)
    for read in (unpickle.npy, lambda p: list(unpickle.records(p))):
        with pytest.raises(UserError, match='x.npy: (refused, it|not an .npy .*: it has .* objects)'):
            read(path)
    assert HERE == []


def test_damaged_npy(tmp_path):
    for x in (np.arange(9.0), np.array([{'a': 1, 'b': np.arange(3)}] * 2, object)):
        whole = npy(tmp_path, x).read_bytes()
        for size in range(0, len(whole), 3):
            (tmp_path / 'x.npy').write_bytes(whole[:size])
            with pytest.raises(UserError, match='x.npy: not an .npy file that can be read'):
                unpickle.npy(tmp_path / 'x.npy')
    large = whole[:10] + whole[10:].replace(b'(2,)', b'(2**40,)')[:-4]
    for raw in (large, pickle.dumps(x), b''):
        (tmp_path / 'x.npy').write_bytes(raw)
        with pytest.raises(UserError, match='x.npy: '):
            unpickle.npy(tmp_path / 'x.npy')
    with pytest.raises(UserError, match=r'x.npy: .*it has \[3\] float64; expected a list of objects'):
        list(unpickle.records(npy(tmp_path, np.zeros(3))))
    with pytest.raises(UserError, match='none.npy: no such file'):
        unpickle.npy(tmp_path / 'none.npy')
    with pytest.raises(UserError, match='here: not a pickle'):
        unpickle.loads(b'', 'here')


@pytest.mark.parametrize('program, message', [
    (ARRAY + b'(I1\n(I2\ntcnumpy\ndtype\n(S"O8"\nI0\nI1\ntRI00\n(lI1\natb.', r'array of objects of shape \(2,\)'),
    (ARRAY + b'(I1\n(I1\ntcnumpy\ndtype\n(S"O8"\nI0\nI1\ntRI00\nS"aaaaaaaa"\ntb.', 'array of objects of shape'),
    (ARRAY + b'(I1\n(I1\ntcnumpy\ndtype\n(S"O8"\nI0\nI1\ntRI00\n(lp7\ng7\natb.', 'holds itself')])
def test_hostile_arrays_of_objects(tmp_path, program, message):
    head = npy(tmp_path, np.array([None], object)).read_bytes()[:128]
    (tmp_path / 'x.npy').write_bytes(head + program)
    with pytest.raises(UserError, match=f'x.npy: .*{message}'):
        unpickle.npy(tmp_path / 'x.npy')
