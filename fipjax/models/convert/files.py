"""Where published weights lie: a folder as Hugging Face's `transformers` writes it, or a single file.

Nothing in a file is executed: safetensors holds numbers only, files of torch.save go through
`fipjax.models.convert.torch_file`, and of an ONNX file only the weights are looked at.
"""
from __future__ import annotations

import json
import pathlib
from typing import NamedTuple

import numpy as np

from fipjax.errors import UserError
from fipjax.models.convert import onnx_file, torch_file

CONFIG = 'config.json'
WEIGHTS = ('model.safetensors', 'pytorch_model.bin')  # the first that is there
TORCH = ('.bin', '.pt', '.pth', '.ckpt')


class Checkpoint(NamedTuple):
    """Weights under their published names.

    Attributes:
      state: name -> array.
      config: content of config.json, {} where a single file has none beside it.
      path: of the file, or of the folder.
    """

    state: dict[str, np.ndarray]
    config: dict
    path: pathlib.Path


def read(path, key: str = 'init.checkpoint') -> Checkpoint:
    """The weights in a folder (config.json beside weights, in one file or several) or in a single file.

    Args:
      path: a folder; or a file .safetensors, .onnx, .bin, .pt, .pth, .ckpt.
      key: the config key that names it, for messages.

    Raises:
      UserError: nothing there, no weights in a folder, files that are damaged, refused or of another kind.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        return Checkpoint(_folder(path, key), _json(path / CONFIG, key), path)
    if not path.is_file():
        raise UserError(f'{key}: no such file or folder {str(path)!r} (looked in {pathlib.Path.cwd()})')
    beside = path.parent / CONFIG
    return Checkpoint(_file(path, key), _json(beside, key) if beside.is_file() else {}, path)


def _folder(path, key):
    for name in WEIGHTS:
        index = path / f'{name}.index.json'
        if (path / name).is_file():
            return _file(path / name, key)
        if index.is_file():
            return _shards(path, index, key)
    raise UserError(f'{key}: {str(path)!r} has none of {", ".join(WEIGHTS)} (or their .index.json); it has '
                    f'{", ".join(sorted(p.name for p in path.iterdir())[:8]) or "nothing"}')


def _shards(path, index, key):
    """Of weights in several files, which the index names."""
    names = _json(index, key).get('weight_map')
    if not isinstance(names, dict) or not all(isinstance(n, str) for n in names.values()):
        raise UserError(f'{key}: {index} has no weight_map that names files')
    state = {}
    for name in sorted(set(names.values())):
        if pathlib.PurePath(name).name != name:
            raise UserError(f'{key}: {index} names {name!r}; only files of the same folder are read')
        if not (path / name).is_file():
            raise UserError(f'{key}: {index} names {name}, which is not there')
        state |= _file(path / name, key)
    lost = sorted(set(names) - set(state))
    if lost:
        raise UserError(f'{key}: {index} names tensors that its files do not have: {", ".join(lost[:5])}')
    return state


def _file(path, key):
    if path.suffix in TORCH:
        return torch_file.tensors(path)
    if path.suffix == '.onnx':
        return onnx_file.tensors(path)
    if path.suffix != '.safetensors':
        raise UserError(f'{key}: {str(path)!r} is of no kind that is read: .safetensors, .onnx, {", ".join(TORCH)}')
    from safetensors import SafetensorError
    from safetensors.numpy import load_file
    try:
        state = load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError) as e:
        raise UserError(f'{key}: {path}: not a safetensors file that can be read: {e}') from e
    return {k: _wide(v) for k, v in state.items()}


def _wide(x):
    """bfloat16 as float32: most of NumPy does not know it."""
    return x.astype(np.float32) if x.dtype.name == 'bfloat16' else x


def _json(path, key):
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError as e:
        raise UserError(f'{key}: {path} is missing; it says of which kind and size the model is') from e
    except (OSError, ValueError) as e:
        raise UserError(f'{key}: {path}: not a JSON file that can be read: {e}') from e
    if not isinstance(content, dict):
        raise UserError(f'{key}: {path} holds no mapping')
    return content
