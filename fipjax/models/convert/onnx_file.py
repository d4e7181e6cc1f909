"""Weights in an ONNX file, under the names that they had in PyTorch: read without onnx, nothing is executed.

Exporters keep the names of most parameters. The matrix of a linear layer they transpose and call onnx::MatMul_<number>;
which layer it belongs to is said by the node that multiplies by it, /encoder/layer.0/query/MatMul. Of the format
(onnx.proto, protocol buffers) only graph, nodes and initialisers are looked at.
"""
from __future__ import annotations

import math
import pathlib

import numpy as np

from fipjax.errors import UserError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # kinds of fields
GRAPH, NODE, INITIALISER = 7, 1, 5
INPUT, NODE_NAME, OPERATION = 1, 3, 4
DIMS, TYPE, FLOATS, NAME, RAW, EXTERNAL = 1, 2, 4, 8, 9, 14
TYPES = {1: '<f4', 2: 'u1', 3: 'i1', 5: '<i2', 6: '<i4', 7: '<i8', 9: '?', 10: '<f2', 11: '<f8'}
ANONYMOUS = 'onnx::'


class _Wrong(Exception):
    """A file is not as ONNX says."""


def tensors(path) -> dict[str, np.ndarray]:
    """The initialisers of a file's graph by name.

    Args:
      path: of the file.

    Returns:
      Name -> array; a linear layer's weight as in PyTorch, [out, in]. What has no name that a node tells keeps its own.

    Raises:
      UserError: no such file, not ONNX, damaged, weights in another file or of a type that is not read.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise UserError(f'{path}: no such file (looked in {pathlib.Path.cwd()})')
    try:
        found = _graph(memoryview(path.read_bytes()))  # the format ends at 2 GiB
    except (_Wrong, UnicodeDecodeError) as e:
        raise UserError(f'{path}: not an ONNX file that can be read: {e}') from e
    if not found:
        raise UserError(f'{path}: an ONNX file without weights')
    return found


def _graph(view):
    graph = [value for field, value in _fields(view) if field == GRAPH]
    if len(graph) != 1 or not isinstance(graph[0], memoryview):
        raise _Wrong(f'it has {len(graph)} graphs')
    state, named = {}, {}
    for field, value in _fields(graph[0]):
        if field == INITIALISER:
            name, array = _tensor(_message(value))
            state[name] = array
        elif field == NODE:
            named |= _multiplied(_message(value))
    out = {}
    for name, array in state.items():
        linear = name in named and array.ndim == 2
        own = named[name] if linear else name
        if own in out:
            raise _Wrong(f'{own} is there twice')
        out[own] = np.ascontiguousarray(array.T) if linear else array
    return out


def _multiplied(view):
    """{the anonymous matrix that a node multiplies by: its name as a layer's weight}."""
    inputs, name, operation = [], '', ''
    for field, value in _fields(view):
        if field in (INPUT, NODE_NAME, OPERATION):
            text = bytes(_message(value)).decode()
            inputs += [text] if field == INPUT else []
            name, operation = (text, operation) if field == NODE_NAME else (name, text) if field == OPERATION else (
                name, operation)
    layer, _, last = name.strip('/').rpartition('/')
    if operation != 'MatMul' or last != 'MatMul' or len(inputs) != 2 or not inputs[1].startswith(ANONYMOUS):
        return {}
    return {inputs[1]: layer.replace('/', '.') + '.weight'}


def _tensor(view):
    """Name and array of an initialiser."""
    shape, kind, name, raw = [], 0, '', None
    for field, value in _fields(view):
        if field == DIMS:
            shape += list(_packed(value)) if isinstance(value, memoryview) else [value]
        elif field == TYPE:
            kind = value
        elif field == NAME:
            name = bytes(_message(value)).decode()
        elif field in (RAW, FLOATS) and isinstance(value, memoryview):
            raw = bytes(value)
        elif field == EXTERNAL and value:
            raise _Wrong(f'the weights of {name or "a tensor"} are in another file')
    if kind not in TYPES:
        raise _Wrong(f'{name or "a tensor"} is of type {kind}, which is not read')
    dtype, raw = np.dtype(TYPES[kind]), raw or b''
    if math.prod(shape) * dtype.itemsize != len(raw):
        raise _Wrong(f'{name or "a tensor"} has shape {tuple(shape)} and type {dtype}, but {len(raw)} bytes')
    return name, np.frombuffer(raw, dtype).reshape(shape).copy()


def _fields(view):
    """(number, value) of each field of a message: an int, or a view of bytes."""
    at = 0
    while at < len(view):
        tag, at = _varint(view, at)
        kind = tag & 7
        if kind == VARINT:
            value, at = _varint(view, at)
        elif kind in (FIXED64, FIXED32, BYTES):
            size, at = _varint(view, at) if kind == BYTES else ({FIXED64: 8, FIXED32: 4}[kind], at)
            if at + size > len(view):
                raise _Wrong('it is truncated')
            value, at = view[at:at + size], at + size
        else:
            raise _Wrong(f'it has a field of kind {kind}')
        yield tag >> 3, value


def _packed(view):
    at = 0
    while at < len(view):
        value, at = _varint(view, at)
        yield value


def _varint(view, at):
    value = 0
    for i in range(10):
        if at >= len(view):
            raise _Wrong('it is truncated')
        byte, at = view[at], at + 1
        value |= (byte & 127) << 7 * i
        if byte < 128:
            return value, at
    raise _Wrong('it has a number of more than ten bytes')


def _message(value):
    if not isinstance(value, memoryview):
        raise _Wrong('it has a number where a message belongs')
    return value
