"""Configs: loading, overriding from the command line, comparing."""
import json

import pytest
import tiny

from fipjax import config as config_lib
from fipjax.errors import UserError
from fipjax.overrides import override, split_argv


@pytest.fixture
def file(tmp_path):
    return tiny.config_file(tmp_path / 'c.py')


def test_load_variant_and_overrides(file):
    assert config_lib.load(file).variant == 'tiny'
    assert config_lib.load(f'{file}:other').variant == 'other'
    assert config_lib.load(file, 'other').variant == 'other'
    c = config_lib.load(file, overrides=[('seed', '7'), ('pretrain.fip.mask_ratio.image', '0.5'),
                                         ('finetune.labels_per_class', '5,50')])
    assert (c.seed, c.pretrain.fip.mask_ratio.image, c.finetune.labels_per_class) == (7, 0.5, (5, 50))
    assert c.pretrain.fip.mask_ratio.sequence is None


@pytest.mark.parametrize('key, text, value', [
    ('seed', '3', 3), ('parallel.mode', 'jit', 'jit'), ('data.cache', 'false', False), ('data.cache', 'True', True),
    ('pretrain.optimizer.learning_rate', '1e-4', 1e-4), ('pretrain.fip.loss_weight.target', '3', 3.0),
    ('finetune.labels_per_class', '(5, 50)', (5, 50)), ('finetune.labels_per_class', '5', (5,)),
    ('data.signal.snr_db', '-4,4', (-4.0, 4.0)), ('data.signal.snr_grid', '', ()),
    ('pretrain.modalities', 'image,sequence', ('image', 'sequence')),
    ('data.signal.classes', '4ASK,BPSK', ('4ASK', 'BPSK')),
    ('pretrain.fip.decoder_depth.sequence', '2', 2), ('data.modalities.image.shape', '16,16,2', (16, 16, 2)),
])
def test_override_parses_by_the_type_of_the_key(key, text, value):
    c = tiny.config()
    override(c, key, text)
    got = config_lib.get(c, key)
    assert got == value and type(got) is type(value)
    if isinstance(value, tuple):
        assert [type(x) for x in got] == [type(x) for x in value]


@pytest.mark.parametrize('key, text, parts', [
    ('sed', '3', ('--config.sed=3', 'unknown', 'seed')),
    ('pretrain.fip.target_modality', 'x', ('pretrain.fip.target_modality', 'pretrain.fip.target')),
    ('pretrain.fip.mask_ratio.audio', '.5', ('pretrain.fip.mask_ratio.audio', 'pretrain.fip.mask_ratio.image')),
    ('pretrain.fip', '1', ('group', 'pretrain.fip.target')),
    ('seed', 'abc', ('--config.seed=abc', 'int')), ('seed', '1.5', ('--config.seed=1.5', 'int')),
    ('data.cache', 'maybe', ('--config.data.cache=maybe', 'bool')),
    ('pretrain.fip.consistency', 'much', ('pretrain.fip.consistency', 'float')),
    ('pretrain.fip.mask_ratio.image', 'x', ('pretrain.fip.mask_ratio.image=x', 'float')),
    ('finetune.labels_per_class', 'five', ('finetune.labels_per_class=five', 'tuple')),
])
def test_wrong_overrides_name_key_value_and_what_is_allowed(key, text, parts):
    c = tiny.config()
    before = config_lib.to_json(c)
    with pytest.raises(UserError) as e:
        override(c, key, text)
    assert all(p in str(e.value) for p in parts), str(e.value)
    assert config_lib.to_json(c) == before


def test_split_argv():
    rest, options = split_argv(['prog', '--config=a.py', '--config.seed=1', '--workdir', 'w',
                                             '--config.name', 'x', '--config.a.b=c=d'])
    assert rest == ['prog', '--config=a.py', '--workdir', 'w']
    assert options == [('seed', '1'), ('name', 'x'), ('a.b', 'c=d')]
    for argv in (['prog', '--config.seed'], ['prog', '--config.seed', '--workdir=w']):
        with pytest.raises(UserError, match='--config.seed'):
            split_argv(argv)


@pytest.mark.parametrize('make', [tiny.config, config_lib.transfer_base, config_lib.vlp_base, config_lib.caption_base])
def test_a_key_has_one_name(make):
    for key in config_lib.keys(make()):
        c = make()
        before = json.loads(config_lib.to_json(c))
        group, _, leaf = key.rpartition('.')
        with c.unlocked():
            (config_lib.get(c, group) if group else c)[leaf] = None
        changed = config_lib.differences(before, json.loads(config_lib.to_json(c)))
        assert {d.split(':')[0] for d in changed} <= {key}


def test_keys_are_all_leaves():
    c = tiny.config()
    keys = config_lib.keys(c)
    assert 'pretrain.fip.mask_ratio.image' in keys and 'data.modalities.image.shape' in keys and 'pretrain' not in keys
    assert len(set(keys)) == len(keys)
    for key in ('seed', 'parallel.mode', 'pretrain.algorithm', 'pretrain.steps', 'pretrain.batch_size',
                'pretrain.fip.target', 'pretrain.fip.consistency', 'finetune.mode', 'finetune.labels_per_class',
                'finetune.steps', 'checkpoint.every',
                *(f'pretrain.fip.{k}.{v}' for k in ('mask_ratio', 'loss_weight', 'decoder_depth', 'attention_bias')
                  for v in ('target', 'others', 'image', 'sequence'))):
        assert key in keys, f'{key} was promised to stay'


def test_by_modality_prefers_the_name_to_the_role():
    setting = {'target': 3.0, 'others': 1.0, 'image': None, 'sequence': 0.0, 'text': None}
    assert config_lib.by_modality(setting, ('image', 'sequence', 'text'), 'image') == {
        'image': 3.0, 'sequence': 0.0, 'text': 1.0}
    assert config_lib.by_modality(setting, ('image', 'text'), 'text') == {'image': 1.0, 'text': 3.0}


def test_json_comes_back_and_differences_are_named():
    a, b = tiny.config(), tiny.config(pretrain__steps=9, seed=2)
    stored, asked = json.loads(config_lib.to_json(a)), json.loads(config_lib.to_json(b))
    assert config_lib.differences(stored, json.loads(config_lib.to_json(tiny.config()))) == []
    assert config_lib.differences(stored, asked) == ['pretrain.steps: 8 != 9', 'seed: 0 != 2']
    del stored['name']
    assert config_lib.differences(stored, asked)[0].startswith('name')


@pytest.mark.parametrize('text, parts', [
    ('def get_config(:', ('SyntaxError',)), ('import nothing_like_this', ('nothing_like_this',)),
    ('x = 1', ('get_config',)),
    ('from fipjax import config\ndef get_config():\n  c = config.base({"a": {}})\n  c.pretrain.stepz = 3\n  return c',
     ('stepz',)),
    ('from fipjax import config\ndef get_config():\n  c = config.base({"a": {}})\n  c.nothing.stepz = 3\n  return c',
     ('nothing',)),
])
def test_broken_config_files(tmp_path, text, parts):
    (tmp_path / 'c.py').write_text(text)
    with pytest.raises(UserError) as e:
        config_lib.load(str(tmp_path / 'c.py'))
    assert all(p in str(e.value) for p in (*parts, str(tmp_path / 'c.py'))), str(e.value)


def test_missing_file_and_unknown_variant(tmp_path, file):
    with pytest.raises(UserError, match='no such file'):
        config_lib.load(str(tmp_path / 'none.py'))
    with pytest.raises(UserError, match="'best'.*allowed: tiny, other"):
        config_lib.load(f'{file}:best')
