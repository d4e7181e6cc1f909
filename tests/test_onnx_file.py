"""Weights of ONNX files: those of a file that onnx wrote, names of anonymous matrices, damaged files."""
import pathlib

import numpy as np
import pytest

from fipjax.errors import UserError
from fipjax.models.convert import files, onnx_file, vit

GOLDEN = pathlib.Path(__file__).parent / 'golden'
WHOLE = (GOLDEN / 'small.onnx').read_bytes()


def field(number, value):
    """A field of a protocol buffer: a number, or bytes."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def varint(n):
    out = b''
    while n > 127:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])


def model(*initialisers, nodes=()):
    """An ONNX file of such parts of a graph."""
    return field(1, 8) + field(7, b''.join([*(field(1, n) for n in nodes), *(field(5, i) for i in initialisers)]))


def tensor(name=b'w', shape=(2, 3), kind=1, raw=bytes(24), more=b''):
    return b''.join(field(1, n) for n in shape) + field(2, kind) + field(8, name) + field(9, raw) + more


def read(tmp_path, content):
    (tmp_path / 'model.onnx').write_bytes(content)
    return onnx_file.tensors(tmp_path / 'model.onnx')


@pytest.mark.parametrize('how', [onnx_file.tensors, lambda path: files.read(path).state], ids=['itself', 'files.read'])
def test_file_that_onnx_wrote(how):
    found = how(GOLDEN / 'small.onnx')
    with np.load(GOLDEN / 'small.npz') as wanted:
        assert set(found) == set(wanted.files)
        for name in wanted.files:
            np.testing.assert_array_equal(found[name], wanted[name])
            assert found[name].dtype == wanted[name].dtype


def test_matrices_that_no_layer_multiplies_by_keep_their_names(tmp_path):
    node = lambda name, op, *inputs: (b''.join(field(1, i) for i in inputs) + field(3, name) + field(4, op))  # noqa: E731
    raw = np.arange(6, dtype='<f4').tobytes()
    parts = [tensor(n, raw=raw) for n in (b'onnx::MatMul_1', b'onnx::MatMul_2', b'onnx::Mul_3', b'own.weight')]
    found = read(tmp_path, model(*parts, nodes=(
        node(b'/a/MatMul', b'MatMul', b'x', b'onnx::MatMul_1'), node(b'/b/MatMul', b'MatMul', b'onnx::MatMul_2', b'x'),
        node(b'/c/MatMul', b'Mul', b'x', b'onnx::Mul_3'), node(b'/d/MatMul', b'MatMul', b'x', b'own.weight'))))
    assert set(found) == {'a.weight', 'onnx::MatMul_2', 'onnx::Mul_3', 'own.weight'}
    np.testing.assert_array_equal(found['a.weight'], np.arange(6).reshape(2, 3).T)
    np.testing.assert_array_equal(found['own.weight'], np.arange(6).reshape(2, 3))


def test_a_table_of_positions_that_an_exporter_cut():
    rng = np.random.default_rng(0)
    table = rng.normal(size=(1, 10, 4))
    state = {'net.embeddings.cls_token': rng.normal(size=(1, 1, 4)), 'onnx::Reshape_5': table[:, 1:],
             'onnx::Concat_4': table[:, :1]}
    found = vit.prepared(state)
    np.testing.assert_array_equal(found['net.' + vit.POSITIONS], table[0, 1:])
    np.testing.assert_array_equal(found['net.' + vit.FIRST], state['net.embeddings.cls_token'][0] + table[0, :1])


@pytest.mark.parametrize('content, message', [
    (b'', 'it has 0 graphs'), (b'PK\3\4 not this', 'it has'), (field(1, 8), 'it has 0 graphs'),
    (model(tensor()) + model(tensor()), 'it has 2 graphs'), (model(), 'without weights'),
    (model(tensor(raw=bytes(20))), r'w has shape \(2, 3\) and type float32, but 20 bytes'),
    (model(tensor(shape=(2 ** 60, 2 ** 60))), 'w has shape'),
    (model(tensor(kind=8)), 'w is of type 8, which is not read'),
    (model(tensor(more=field(14, 1))), 'the weights of w are in another file'),
    (model(tensor(b'w\xff')), "can't decode"), (field(7, 3), 'it has 1 graphs'),
    (field(7, field(5, 3)), 'a number where a message belongs'), (varint(7 << 3 | 2) + b'\xff' * 11, 'more than ten'),
    (varint(7 << 3 | 3), 'a field of kind 3')], ids=lambda x: x if isinstance(x, str) else '')
def test_damaged_files(tmp_path, content, message):
    with pytest.raises(UserError, match=message):
        read(tmp_path, content)


def test_truncated_anywhere(tmp_path):
    wanted = read(tmp_path, WHOLE)
    for n in range(1, len(WHOLE), 7):
        try:
            found = read(tmp_path, WHOLE[:n])
        except UserError:
            continue
        # Nothing but what follows the graph may be gone without a word.
        assert set(found) == set(wanted)


def test_no_file(tmp_path):
    with pytest.raises(UserError, match='no such file'):
        onnx_file.tensors(tmp_path / 'none.onnx')
