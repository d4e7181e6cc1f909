"""Published weights and ours: the same after a round trip, layouts by their definition, reports, what files may lack.

That converted weights compute what PyTorch does is tested beside each model.
"""
import pathlib

import numpy as np
import pytest

from fipjax.errors import UserError
from fipjax.models import vit as models_vit
from fipjax.models.convert import bert, swin, tables, vilbert, visualbert, vit

GOLDEN = pathlib.Path(__file__).parent / 'golden'
# Family -> its tables, and names of the file that the golden one has and no table asks for.
FAMILIES = {'bert': ((bert.encoder,), ()), 'roberta': ((bert.encoder,), ()),
            'swin': ((swin.embedding, swin.encoder), ()), 'vit': ((vit.embedding, vit.encoder), ()),
            'visualbert': ((visualbert.model,), ('cls.predictions.decoder.bias', 'cls.seq_relationship')),
            'vilbert': ((vilbert.model,), ('q_dense', 'cls.seq_relationship', 'cls.bi_seq_relationship',
                                           'cls.predictions.decoder.bias'))}


def golden(name):
    with np.load(GOLDEN / f'{name}.npz') as file:
        state = {k.removeprefix('state/'): file[k] for k in file.files if k.startswith('state/')}
    return vit.prepared(state) if name == 'vit' else state


def small_state(depth=2, width=4, dino=False):
    """Random weights of a ViT of two layers under its published names."""
    rng = np.random.default_rng(5)
    state = {'embeddings.cls_token': (1, 1, width), 'embeddings.position_embeddings': (1, 1 + 9, width),
             'embeddings.patch_embeddings.projection.weight': (width, 3, 2, 2),
             'embeddings.patch_embeddings.projection.bias': (width,),
             'layernorm.weight': (width,), 'layernorm.bias': (width,)}
    names = {'attention.attention.query': (width, width), 'attention.attention.key': (width, width),
             'attention.attention.value': (width, width), 'attention.output.dense': (width, width)}
    names |= {'mlp.fc1': (2 * width, width), 'mlp.fc2': (width, 2 * width)} if dino else {
        'intermediate.dense': (2 * width, width), 'output.dense': (width, 2 * width)}
    norms = ('norm1', 'norm2') if dino else ('layernorm_before', 'layernorm_after')
    for i in range(depth):
        layer = f'encoder.layer.{i}.'
        for name, shape in names.items():
            state |= {f'{layer}{name}.weight': shape, f'{layer}{name}.bias': shape[:1]}
        state |= {f'{layer}{n}.{leaf}': (width,) for n in norms for leaf in ('weight', 'bias')}
        state |= {f'{layer}layer_scale{n}.lambda1': (width,) for n in (1, 2) if dino}
    return {k: rng.normal(size=shape).astype(np.float32) for k, shape in state.items()}


@pytest.mark.parametrize('name', FAMILIES)
def test_what_is_read_is_written_back_as_it_was(name):
    state = golden(name)
    made, beside = FAMILIES[name]
    entries = [t(state) for t in made]
    written = {}
    for table in entries:
        params, report = tables.read(table, state, name)
        assert len(report.loaded) + len(report.unused) == len(state)
        written |= tables.write(table, params)
    left = {k for k in state if k not in written}
    assert {k for k in left if not any(b in k for b in beside)} == set()
    assert len(written) > 10
    positions = 'visual_bert.embeddings.visual_position_embeddings.weight'
    if name == 'visualbert':  # all regions have the first position, so the others are not read
        state = {**state, positions: state[positions][:1]}
    for key, value in written.items():
        np.testing.assert_array_equal(value, state[key], err_msg=key)


def test_linear_layers_and_patches_by_their_definition():
    state = small_state()
    own = vit.prepared(state)
    params, _ = tables.read(vit.embedding(own), own, 'file')
    picture = np.random.default_rng(1).normal(size=(2, 2, 3))  # rows, columns, channels
    weight = state['embeddings.patch_embeddings.projection.weight']
    want = [sum(weight[o, c, i, j] * picture[i, j, c] for i in range(2) for j in range(2) for c in range(3))
            for o in range(4)]
    np.testing.assert_allclose(picture.reshape(-1) @ params['projection']['kernel'], want, rtol=1e-5)
    encoder, _ = tables.read(vit.encoder(own), own, 'file')
    kernel = encoder['blocks']['attention']['key']['kernel']
    assert kernel.shape == (2, 4, 4)
    x = np.arange(4.0)
    want = [sum(state['encoder.layer.1.attention.attention.key.weight'][o, i] * x[i] for i in range(4))
            for o in range(4)]
    np.testing.assert_allclose(x @ kernel[1], want, rtol=1e-5)


def test_first_tokens_get_their_positions():
    state = small_state()
    state['embeddings.distillation_token'] = np.full((1, 1, 4), 7, np.float32)
    state['embeddings.position_embeddings'] = np.arange(44, dtype=np.float32).reshape(1, 11, 4)
    own = vit.prepared(state)
    params, _ = tables.read(vit.encoder(own), own, 'file')
    np.testing.assert_array_equal(params['cls'], [state['embeddings.cls_token'][0, 0] + np.arange(4, dtype=np.float32),
                                                  7 + np.arange(4, 8)])
    patches, _ = tables.read(vit.embedding(own), own, 'file')
    np.testing.assert_array_equal(patches['positions'], np.arange(8, 44).reshape(9, 4))
    back = vit.restored(own, scales=False)
    assert set(back) == set(state) and all(back[k].shape == v.shape for k, v in state.items())
    again = vit.prepared(back)
    assert all(np.array_equal(again[k], own[k]) for k in own) and len(again) == len(own)


def test_layer_scale_becomes_part_of_the_layer_before_it():
    state = small_state(dino=True)
    own = vit.prepared(state)
    params, report = tables.read(vit.encoder(own), own, 'file')
    x, y = np.random.default_rng(2).normal(size=4), np.random.default_rng(3).normal(size=8)
    for i in range(2):
        layer = f'encoder.layer.{i}'
        for x_in, ours, theirs, scale in ((x, ('attention', 'out'), 'attention.output.dense', 'layer_scale1'),
                                          (y, ('mlp', 'out'), 'mlp.fc2', 'layer_scale2')):
            want = (state[f'{layer}.{theirs}.weight'] @ x_in + state[f'{layer}.{theirs}.bias'])
            want = want * state[f'{layer}.{scale}.lambda1']
            p = params['blocks'][ours[0]][ours[1]]
            np.testing.assert_allclose(x_in @ p['kernel'][i] + p['bias'][i], want, rtol=1e-5, atol=1e-6)
    assert not any('layer_scale' in name for name, _ in report.unused)
    back = vit.restored(own, scales=True)
    assert set(back) == set(state)
    again = vit.prepared(back)
    np.testing.assert_array_equal(again['encoder.layer.1.mlp.fc2.weight'], own['encoder.layer.1.mlp.fc2.weight'])


@pytest.mark.parametrize('name, epsilon', [('deit', 1e-12), ('dinov2', 1e-6)])
def test_relatives_of_vit_equal_to_transformers(name, epsilon, float64):
    with np.load(GOLDEN / f'{name}.npz') as file:
        arrays = {k: file[k].astype(np.float64) for k in file.files if k != 'made_with'}
    state = vit.prepared({k.removeprefix('state/'): v for k, v in arrays.items() if k.startswith('state/')})
    (patch, _), (encoder, report) = (tables.read(t(state), state, name) for t in (vit.embedding, vit.encoder))
    assert len(encoder['cls']) == {'deit': 2, 'dinov2': 1}[name]
    assert not any('layer' in unused for unused, _ in report.unused)
    pieces = arrays['pixels'].reshape(2, 3, 4, 3, 4, 3).swapaxes(2, 3).reshape(2, 9, -1)
    tokens = pieces @ patch['projection']['kernel'] + patch['projection']['bias'] + patch['positions']
    got = models_vit.build(16, 2, 2, 'scan', False, epsilon=epsilon)[1](encoder, tokens, None)
    np.testing.assert_allclose(got, arrays['output'][:, len(encoder['cls']):], rtol=0, atol=1e-10)


def test_names_with_a_prefix_and_of_bert_s_first_years():
    state = golden('bert')
    old = {f'bert.{k}'.replace('LayerNorm.weight', 'LayerNorm.gamma').replace('LayerNorm.bias', 'LayerNorm.beta'): v
           for k, v in state.items()} | {'classifier.weight': np.zeros((2, 16)), 'bert.pooler.dense.bias': np.zeros(16)}
    want, _ = tables.read(bert.encoder(state), state, 'file')
    got, report = tables.read(bert.encoder(old), old, 'file')
    assert report.prefix == 'bert.'
    assert {name for name, _ in report.unused} == {'classifier.weight', 'bert.pooler.dense.bias'}
    norm = got['blocks']['attention_norm']['scale']
    np.testing.assert_array_equal(norm, want['blocks']['attention_norm']['scale'])
    assert norm.shape == (3, 16)


def test_report_has_a_line_for_each_tensor():
    state = golden('bert') | {'pooler.dense.weight': np.zeros((3, 2))}
    lines = str(tables.read(bert.encoder(state), state, 'file')[1]).splitlines()
    assert len(lines) == len(state)
    assert lines[-1] == 'unused  pooler.dense.weight [3x2]'
    assert 'loaded  encoder.layer.0.attention.self.query.bias -> ' not in lines[0]
    hidden = next(line for line in lines if 'encoder.layer.2.intermediate.dense.weight' in line)
    assert hidden == 'reshaped  encoder.layer.2.intermediate.dense.weight [64x16] -> blocks.mlp.hidden.kernel [16x64]'


def test_missing_tensors_are_named():
    state = golden('bert')
    del state['encoder.layer.1.output.dense.bias']
    with pytest.raises(UserError, match=r'model\.bin: 1 of \d+ tensors are missing: encoder\.layer\.1\.output\.dense'):
        tables.read(bert.encoder(state), state, 'model.bin')
    with pytest.raises(UserError, match='are missing'):
        tables.read(swin.encoder(golden('swin')), golden('vit'), 'model.bin')


def test_layers_of_different_shapes_are_refused():
    state = golden('bert')
    state['encoder.layer.1.output.dense.bias'] = np.zeros(3)
    with pytest.raises(UserError, match='differs in shape from layer to layer'):
        tables.read(bert.encoder(state), state, 'file')
