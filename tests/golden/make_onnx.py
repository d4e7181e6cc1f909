"""Writes small.onnx and small.npz: a graph as exporters leave it, and the weights that it had.

Run from the repository, in an environment with `onnx` (the tests do not need it):

    python tests/golden/make_onnx.py
"""
import pathlib

import numpy as np
import onnx
from onnx import helper, numpy_helper

HERE = pathlib.Path(__file__).parent
rng = np.random.default_rng(0)
weights = {'net.layer.0.query.weight': rng.normal(size=(3, 4)).astype(np.float32),  # [out, in]
           'net.layer.0.query.bias': rng.normal(size=3).astype(np.float32),
           'net.norm.weight': rng.normal(size=4).astype(np.float16), 'net.steps': np.array([2, -7], np.int64)}
named = [numpy_helper.from_array(v, k) for k, v in weights.items() if k != 'net.layer.0.query.weight']
anonymous = numpy_helper.from_array(weights['net.layer.0.query.weight'].T.copy(), 'onnx::MatMul_17')
floats = helper.make_tensor('net.scale', onnx.TensorProto.FLOAT, [2, 1], [0.5, -1.5])  # not as raw bytes
weights['net.scale'] = np.float32([[0.5], [-1.5]])
left = numpy_helper.from_array(np.ones((1, 2, 4), np.float32), 'onnx::Concat_3')
weights['onnx::Concat_3'] = np.ones((1, 2, 4), np.float32)
nodes = [helper.make_node('MatMul', ['x', 'onnx::MatMul_17'], ['y'], '/net/layer.0/query/MatMul'),
         helper.make_node('Add', ['net.layer.0.query.bias', 'y'], ['z'], '/net/layer.0/query/Add')]
graph = helper.make_graph(nodes, 'small', [helper.make_tensor_value_info('x', onnx.TensorProto.FLOAT, [1, 4])],
                          [helper.make_tensor_value_info('z', onnx.TensorProto.FLOAT, [1, 3])],
                          [*named, anonymous, floats, left])
(HERE / 'small.onnx').write_bytes(helper.make_model(graph).SerializeToString(deterministic=True))
np.savez_compressed(HERE / 'small.npz', **weights)
