"""Finished models in published formats: the tensors that were read, bytes and names, folders, wrong input."""
import json
import subprocess
import sys

import jax
import numpy as np
import pytest
import test_published
import tiny_mona
import tiny_vlp
import vl_batches
from ml_collections import ConfigDict
from safetensors.numpy import load_file

from fipjax import checkpoint, experiment, export
from fipjax import config as config_lib
from fipjax.data import labelled
from fipjax.errors import UserError
from fipjax.models import bert, encoders, predictors, published, vl
from fipjax.models.convert import bert as bert_tables
from fipjax.models.convert import saved, sizes, swin, tables, vilbert, visualbert, vit

TABLES = {'vit': vit, 'bert': bert_tables, 'swin': swin}
READ_AGAIN = ('vit', 'deit', 'dinov2', 'bert', 'roberta')


def state_of(name):
    return test_published.golden(name)[1]


def prepared(name):
    """A checkpoint with a prefix, a head and a tensor of half precision beside its encoder."""
    state = {f'{name}.{k}': v for k, v in state_of(name).items()}
    state |= {'classifier.weight': np.ones((7, 16), np.float16), f'{name}.pooler.dense.bias': np.ones(16, np.float32)}
    return vit.prepared(state) if sizes.FAMILIES[name] == 'vit' else state


def same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(x, y)


def moved(params, seed=1):
    """Parameters as fine-tuning leaves them: float32, all others than before."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda v: (v + rng.normal(size=np.shape(v))).astype(np.float32), params)


# --- Tensors ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('name', READ_AGAIN)
def test_fine_tuned_encoders_are_read_again_as_they_were(name):
    table, original = TABLES[sizes.FAMILIES[name]], prepared(name)
    params = moved(tables.read(table.encoder(original), original, name)[0])
    state = saved.encoder(name, params, original)
    raw = {f'{name}.{k}': v for k, v in state_of(name).items()}
    assert {k: v.shape for k, v in state.items() if 'classifier' not in k and 'pooler' not in k} == {
        k: v.shape for k, v in raw.items()}
    np.testing.assert_array_equal(state['classifier.weight'], np.ones((7, 16)))
    assert all(v.dtype == np.float32 for v in state.values())
    again = vit.prepared(state) if name in vit_like() else state
    same(tables.read(table.encoder(again), again, name)[0], params)
    if name in vit_like():
        same(*(tables.read(vit.embedding(s), s, name)[0] for s in (again, original)))
        first = len(params['cls'])
        assert not state[f'{name}.{vit.TABLE}'][:, :first].any()
    scales = [v for k, v in state.items() if 'layer_scale' in k]
    assert len(scales) == (4 if name == 'dinov2' else 0) and all((s == 1).all() for s in scales)


def vit_like():
    return [k for k, family in sizes.FAMILIES.items() if family == 'vit']


@pytest.mark.parametrize('name', READ_AGAIN)
def test_what_nobody_trained_is_written_byte_by_byte(name):
    """But for first tokens, whose positions have become part of them, and LayerScales, of the layers before them."""
    raw = state_of(name)
    original = vit.prepared(raw) if name in vit_like() else raw
    table = TABLES[sizes.FAMILIES[name]]
    state = saved.encoder(name, tables.read(table.encoder(original), original, name)[0], original)
    assert set(state) == set(raw)
    joined = [*vit.TOKENS, vit.TABLE] if name in vit_like() else []
    scaled = ('layer_scale', 'attention.output.dense', 'mlp.fc2') if name == 'dinov2' else ()
    differ = {k for k in raw if state[k].tobytes() != raw[k].tobytes()}
    assert differ <= {k for k in raw if k in joined or any(s in k for s in scaled)}
    assert len(raw) - len(differ) > 10


@pytest.mark.parametrize('family', ['vit', 'bert'])
def test_encoders_made_here_have_published_names(family):
    own = {'family': family, 'width': 16, 'depth': 3, 'heads': 2}
    made = encoders.build(ConfigDict({**config_lib.ENCODER, **own}))
    params = moved(made.init(jax.random.key(0)))
    state = saved.encoder(family, params, {})
    golden = {k: v.shape for k, v in state_of(family).items() if 'embeddings' not in k}
    assert {k: v.shape for k, v in state.items()} == golden
    entries = TABLES[family].encoder(state)
    same(tables.read([e for e in entries if e.ours != 'cls'], state, family)[0], params)


def test_swin_is_the_whole_network():
    raw = state_of('swin')
    params = {k: tables.read(t(raw), raw, 'swin')[0]
              for k, t in (('embedder', swin.embedding), ('encoder', swin.encoder))}
    params['predictor'] = {'linear': {'kernel': np.arange(48.0).reshape(16, 3), 'bias': np.ones(3)}}
    state = saved.pictures(params, 2, True)
    np.testing.assert_array_equal(state['classifier.weight'][1], np.arange(16) * 3 + 1)
    assert state['classifier.bias'].shape == (3,)
    alone = saved.pictures(params, 2, False)
    assert {f'swin.{k}' for k in alone} == {k for k in state if 'classifier' not in k}
    assert set(alone) == set(raw)
    for k, v in raw.items():
        assert alone[k].tobytes() == v.tobytes() == state[f'swin.{k}'].tobytes(), k


@pytest.mark.parametrize('name', ['visualbert', 'vilbert'])
def test_bases_of_words_and_regions(name):
    _, raw, _ = vl_batches.golden(name, False)
    model = {'visualbert': visualbert, 'vilbert': vilbert}[name].model
    base = tables.read(model(raw), raw, name)[0]['base']
    head = predictors.answers(6, 3).init(jax.random.key(0))
    state = saved.together(name, base, head)
    wanted = {k: v for k, v in raw.items() if not k.startswith('cls.')}
    assert {k for k in state if not k.startswith('classifier.')} == set(wanted)
    for k, v in wanted.items():
        np.testing.assert_array_equal(state[k][:1], v[:1], err_msg=k)
        if 'visual_position' not in k:  # all regions have the first one's
            assert state[k].tobytes() == v.tobytes(), k
        assert state[k].shape == v.shape
    same(tables.read(saved.HEAD, state, name)[0], jax.tree.map(np.asarray, head))
    # MMF's classifier: linear, GELU, LayerNorm, linear; by its parts.
    x = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
    h = jax.nn.gelu(x @ state['classifier.0.dense.weight'].T + state['classifier.0.dense.bias'], approximate=False)
    h = bert.norm({'scale': state['classifier.0.LayerNorm.weight'], 'bias': state['classifier.0.LayerNorm.bias']}, h)
    np.testing.assert_allclose(predictors.answers(6, 3).apply(head, x), h @ state['classifier.1.weight'].T
                               + state['classifier.1.bias'], atol=1e-6)


# --- config.json ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('name', ['vit', 'deit', 'dinov2', 'swin', 'roberta'])
def test_sizes_in_config_json_are_read_again(name, tmp_path):
    """A checkpoint, completed; what is written for it, completed again, is the same encoder."""
    raw = test_published.words_state() if name == 'roberta' else state_of(name)
    given = {**test_published.CONFIGS[name], 'hidden_act': 'gelu_new', 'hidden_dropout_prob': 0.25}
    c = test_published.completed(test_published.folder(tmp_path / 'a', raw, given, test_published.AS_IT_IS))
    settings = saved.settings(name, encoders.sizes_of(c.encoder), raw, {})
    again = test_published.completed(test_published.folder(tmp_path / 'b', raw, settings, test_published.AS_IT_IS))
    assert again.encoder.to_dict() == c.encoder.to_dict() and c.encoder.gelu == 'tanh'
    assert settings['hidden_dropout_prob'] == 0
    kept = saved.settings(name, encoders.sizes_of(c.encoder), raw, given)
    assert kept['hidden_dropout_prob'] == 0.25 and {k: kept[k] for k in settings if 'dropout' not in k} == {
        k: v for k, v in settings.items() if 'dropout' not in k}
    if name == 'roberta':
        assert (settings['vocab_size'], settings['max_position_embeddings'], settings['pad_token_id']) == (20, 16, 1)
        assert settings['intermediate_size'] == 24 and settings['type_vocab_size'] == 1


def test_swin_needs_windows_of_one_size():
    own = {'epsilon': 1e-5, 'gelu': 'exact', 'width': 4, 'depths': (2, 2), 'stage_heads': (1, 2), 'window': 4,
           'image_size': 8, 'patch': 2, 'mlp_ratio': 4}
    with pytest.raises(UserError, match='encoder.window is 4, but the last stage has 2 x 2 tokens'):
        saved.settings('swin', own, {}, {})


def test_settings_of_vilbert_are_those_of_mmf():
    """t_biattention_id and v_biattention_id say before which layers a co-attention layer comes."""
    _, raw, _ = vl_batches.golden('vilbert', False)
    base = tables.read(vilbert.model(raw), raw, 'golden')[0]['base']
    own = vl.MODULES['vilbert'].Sizes(16, 3, 4, 12, 2, 3, 20, 5)
    found = saved.together_settings('vilbert', base, own)
    assert (found['t_biattention_id'], found['v_biattention_id']) == ([1, 2], [0, 1])
    assert (found['vocab_size'], found['v_feature_size'], found['v_intermediate_size']) == (11, 6, 12)
    assert (found['bi_hidden_size'], found['v_hidden_size'], found['max_position_embeddings']) == (20, 12, 9)


# --- Runs -------------------------------------------------------------------------------------------------------------

@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tiny_mona.write(tmp_path_factory.mktemp('export'))


def run(folder, name, output='classes', **changes):
    config = tiny_mona.config(folder, output, transfer__method='finetune', transfer__observed=(1.0,), source__steps=3,
                              transfer__stage_2__steps=3, discrepancy__distance='none', **changes)
    experiment.run(config, folder / name, progress=False, shared=folder / 'shared')
    return folder / name


@pytest.fixture(scope='module')
def plain(folder):
    return run(folder, 'plain', transfer__labels_per_class=(4, 0))


def test_a_run_becomes_a_folder(plain, folder):
    said = export.write(str(plain), str(folder / 'plain_out'), labels=4)
    out = folder / 'plain_out'
    assert sorted(p.name for p in out.iterdir()) == ['README.md', 'config.json', 'model.safetensors',
                                                     'target.safetensors']
    params = checkpoint.read_params(plain / 'parameters' / 'chosen_4')
    state, target = load_file(out / 'model.safetensors'), load_file(out / 'target.safetensors')
    same(tables.read([e for e in vit.encoder(state) if e.ours != 'cls'], state, '')[0], params['encoder'])
    np.testing.assert_array_equal(target['embedder.projection.kernel'], params['embedder']['projection']['kernel'])
    np.testing.assert_array_equal(target['predictor.linear.bias'], params['predictor']['linear']['bias'])
    x = tiny_mona.target()['x']  # [n, 2, 24]
    splits = labelled.build(tiny_mona.config(folder).target)
    rows = splits.train.take(np.arange(4))
    given = (x[rows['id']].transpose(0, 2, 1) - target['inputs.mean']) / target['inputs.deviation']
    np.testing.assert_allclose(given, rows['x'], atol=1e-5)
    assert json.loads((out / 'config.json').read_text())['num_hidden_layers'] == 2 and 'vit, 34 tensors' in said
    assert '4 labels a class' in (out / 'README.md').read_text()
    assert not list(folder.glob('.plain_out*'))


def test_a_run_on_a_checkpoint_is_a_checkpoint_of_its_kind(folder):
    """Saved, it can be named by init.checkpoint: the encoder is the fine-tuned one, e0 as it was."""
    source = tiny_mona.pictures()
    x = source['x']
    np.savez(folder / 'pixels.npz', x=(x - x.min()) / (x.max() - x.min()), y=source['y'])
    given = {**test_published.CONFIGS['dinov2'], 'num_hidden_layers': 2, 'torch_dtype': 'float16', 'mine': 1}
    first = test_published.folder(folder / 'dinov2', state_of('dinov2'), given, test_published.AS_IT_IS)
    c = tiny_mona.config(folder, transfer__method='finetune', transfer__observed=(1.0,), transfer__stage_2__steps=3,
                         discrepancy__distance='none', source__path=str(folder / 'pixels.npz'))
    c.encoder.update({'width': 0, 'depth': 0, 'heads': 0, 'image_size': 0, 'patch': 0})
    c.init.checkpoint = str(first)
    published.complete(c)
    experiment.run(c, folder / 'on_dinov2', progress=False, shared=folder / 'shared')
    export.write(str(folder / 'on_dinov2'), str(folder / 'saved_dinov2'))
    written = json.loads((folder / 'saved_dinov2' / 'config.json').read_text())
    assert written['mine'] == 1 and 'torch_dtype' not in written
    d = test_published.completed(folder / 'saved_dinov2')
    assert d.encoder.to_dict() == c.encoder.to_dict() and d.init.sha256 != c.init.sha256
    assert (d.init.mean, d.init.filter) == (c.init.mean, c.init.filter)
    task = test_published.pictures_task((8, 8, 1))
    (e0, f0, _), (before, _, _) = (published.parameters(k, task) for k in (d, c))
    same(f0, checkpoint.read_params(folder / 'on_dinov2' / 'parameters' / 'chosen_4')['encoder'])
    same(e0, before)


def test_a_run_of_swin_is_a_classifier(folder):
    np.savez(folder / 'pictures.npz', **tiny_mona.pictures(seed=4))
    c = tiny_mona.config(folder, transfer__method='scratch', transfer__observed=(1.0,), transfer__stage_2__steps=3,
                         source__steps=3, discrepancy__distance='none', target__path=str(folder / 'pictures.npz'))
    c.encoder.update({'family': 'swin', 'width': 4, 'depth': 0, 'heads': 0, 'depths': (2, 2), 'stage_heads': (1, 2),
                      'window': 2, 'patch': 2})
    experiment.run(c, folder / 'swin', progress=False, shared=folder / 'shared')
    (folder / 'empty').mkdir()
    export.write(str(folder / 'swin'), str(folder / 'empty'))
    written, state = (json.loads((folder / 'empty' / 'config.json').read_text()),
                      load_file(folder / 'empty' / 'model.safetensors'))
    assert written['architectures'] == ['SwinForImageClassification'] and written['num_channels'] == 1
    assert written['id2label'] == {str(i): str(i) for i in range(4)} and written['image_size'] == 8
    params = checkpoint.read_params(folder / 'swin' / 'parameters' / 'chosen_4')
    same(tables.read(swin.encoder(state), state, '')[0], params['encoder'])
    same(tables.read(swin.embedding(state), state, '')[0], params['embedder'])
    np.testing.assert_array_equal(state['classifier.weight'].T, params['predictor']['linear']['kernel'])


@pytest.fixture(scope='module')
def together(folder):
    changes = {'pretrain__data': 'none', 'finetune__fractions': (1.0, 0.5)}
    experiment.run(tiny_vlp.config(**changes), folder / 'vlp', progress=False, shared=folder / 'shared')
    return folder / 'vlp'


def test_a_run_of_words_and_regions(together, folder):
    out = folder / 'vlp_out'
    export.write(str(together), str(out), task='entailment', fraction=0.5)
    params = checkpoint.read_params(together / 'parameters' / 'entailment@50%')
    state, written = load_file(out / 'model.safetensors'), json.loads((out / 'config.json').read_text())
    entries = [e for e in visualbert.model(state) if e.ours.startswith('base.')]
    same(tables.read(entries, state, '')[0]['base'], params['base'])
    same(tables.read(saved.HEAD, state, '')[0], params['head'])
    assert written['model_type'] == 'visual_bert' and written['visual_embedding_dim'] == 64
    assert len(written['id2label']) == 3 and written['max_position_embeddings'] == 14
    assert 'visual_token_type_ids=torch.zeros_like' in (out / 'README.md').read_text()


def command(*arguments):
    return subprocess.run([sys.executable, '-m', 'fipjax.export', *arguments], capture_output=True, text=True,
                          timeout=300)


def test_wrong_input_is_said(plain, together, folder, tmp_path):
    done = command('--out=x')
    assert done.returncode == 2 and '--workdir is missing; usage' in done.stderr and 'Traceback' not in done.stderr
    (tmp_path / 'full').mkdir()
    (tmp_path / 'full' / 'file').touch()
    out = str(tmp_path / 'out')
    for given, message in (
            ((str(plain), str(tmp_path / 'full')), 'it is there already and not an empty folder'),
            ((str(plain), out), '--labels is missing; there are 4, 0'),
            ((str(plain), out, 7), '--labels=7 is none of the run; there are 4, 0'),
            ((str(plain), out, 4, 'vqa'), "--task=vqa: .*wing 'mona', which has no task"),
            ((str(together), out), '--task is missing; there are vqa, entailment'),
            ((str(together), out, None, 'vqa', 0.3), '--fraction=0.3 is none of the run; there are 1.0, 0.5'),
            ((str(together), out, 4), "--labels=4: .*wing 'vlp', which has no labels"),
            ((str(tmp_path / 'full'), out), 'result.json: cannot be read')):
        with pytest.raises(UserError, match=message):
            export.write(*given)
    assert not (tmp_path / 'out').exists()


def test_a_frozen_base_and_a_full_disk(together, folder, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        def full(*_):
            raise OSError(28, 'No space left on device')
        patch.setattr(export, 'write_json', full)
        with pytest.raises(UserError, match='cannot be written: No space left'):
            export.write(str(together), str(tmp_path / 'out'), task='vqa', fraction=1.0)
    assert not list(tmp_path.iterdir())
    for name in ('result.json', 'metrics.jsonl'):
        (tmp_path / name).write_bytes((together / name).read_bytes())
    config = json.loads((together / 'config.json').read_text())
    config['finetune']['mode'] = 'frozen'
    (tmp_path / 'config.json').write_text(json.dumps(config))
    with pytest.raises(UserError, match="finetune.mode is 'frozen'; such runs keep no parameters"):
        export.write(str(tmp_path), str(tmp_path / 'out'))
