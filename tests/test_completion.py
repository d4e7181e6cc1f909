"""Configs that are completed from the data when they are loaded, and a run of one."""
import json
import pathlib
import types

import numpy as np
import pytest
import tiny

from fipjax import config as config_lib
from fipjax import experiment
from fipjax.analysis import runs
from fipjax.errors import UserError
from fipjax.validation import validate

ARRAYS = str(pathlib.Path(__file__).parents[1] / 'configs' / 'fip' / 'arrays.py')
READ = {'cam': {'kind': 'image', 'shape': (8, 16, 1), 'patch': 2, 'vocab': 0},
        'emg': {'kind': 'sequence', 'shape': (32, 2), 'patch': 1, 'vocab': 0},
        'text': {'kind': 'tokens', 'shape': (6,), 'patch': 1, 'vocab': 7}}


def mine(n=90):
    """Three modalities, two of them missing at times; every second example has a label."""
    rng = np.random.default_rng(0)
    label = np.arange(n) // 2 % 3
    emg = rng.normal(size=(n, 32, 2)) + label[:, None, None]
    present = {m: rng.random(n) < 0.8 for m in ('emg', 'text')}
    text = (rng.integers(0, 5, (n, 6)) + label[:, None])
    emg[~present['emg']], text[~present['text']] = np.nan, -1
    text[np.flatnonzero(present['text'])[0], 0] = 6  # so that the vocabulary is 7 whatever was drawn
    return {'emg': emg.astype(np.float32), 'cam': rng.integers(0, 256, (n, 8, 16)).astype(np.uint8), 'text': text,
            **{f'{m}_present': p for m, p in present.items()}, 'subject': np.arange(n) // 6,
            'label': np.where(np.arange(n) % 2, -1, label)}


@pytest.fixture(scope='module')
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp('mine') / 'mine.npz'
    np.savez(path, **mine())
    return str(path)


def load(file, *options, variant='fip', **more):
    return config_lib.load(ARRAYS, variant, [('data.path', file), *(o.split('=', 1) for o in options)], **more)


def test_all_modalities_of_a_file(file):
    said = []
    c = load(file, 'pretrain.fip.target=emg', say=said.append)
    assert c.data.modalities.to_dict() == READ
    validate(c)
    assert len(said) == 1 and file in said[0] and 'cam uint8 [n, 8, 16]: image of 8 x 16' in said[0]
    assert 'not modalities: emg_present, text_present, subject, label' in said[0]


def test_what_is_saved_is_as_if_it_had_been_written(file):
    c = load(file, 'pretrain.fip.target=emg', 'pretrain.fip.mask_ratio.cam=0.5')
    written = config_lib.base(READ)
    for key in config_lib.keys(c):  # what get_config sets, modalities aside
        group, _, leaf = key.rpartition('.')
        if not key.startswith('data.modalities.'):
            (config_lib.get(written, group) if group else written)[leaf] = config_lib.get(c, key)
    assert config_lib.to_json(written) == config_lib.to_json(c)
    assert written.pretrain.fip.mask_ratio.to_dict() == {'target': 0.85, 'others': 0.75, 'cam': 0.5, 'emg': None,
                                                         'text': None}
    assert c.is_locked and c.data.modalities.is_locked
    again = config_lib.load(ARRAYS, 'fip', [('data.path', file), ('pretrain.fip.mask_ratio.cam', '0.5'),
                                            ('pretrain.fip.target', 'emg')])
    assert config_lib.differences(json.loads(config_lib.to_json(again)), json.loads(config_lib.to_json(c))) == []


def test_overrides_of_what_is_read_off(file):
    c = load(file, 'data.modalities.cam.kind=sequence', 'data.modalities.emg.patch=8', 'data.modalities.text.vocab=50',
             'pretrain.fip.decoder_depth.text=2', 'pretrain.fip.target=text', 'data.seed=4')
    assert c.data.modalities.cam.to_dict() == {'kind': 'sequence', 'shape': (8, 16), 'patch': 1, 'vocab': 0}
    assert c.data.modalities.emg.patch == 8 and c.data.modalities.text.vocab == 50
    assert (c.pretrain.fip.decoder_depth.text, c.pretrain.fip.target, c.data.seed) == (2, 'text', 4)
    assert set(load(file, 'data.modalities.cam.kind=none').data.modalities) == {'emg', 'text'}


def test_some_modalities_written_and_some_open(file, tmp_path):
    config = tmp_path / 'c.py'
    config.write_text('''
from fipjax import config as config_lib
def get_config(variant=''):
    c = config_lib.base({'text': {}, 'emg': {'kind': 'sequence', 'patch': 4}})
    c.data.source = 'arrays'
    c.pretrain.fip.mask_ratio.text = 0.25
    return c
''')
    c = config_lib.load(str(config), None, [('data.path', file), ('data.modalities.emg.patch', '16')])
    assert c.data.modalities.to_dict() == {'text': READ['text'], 'emg': {**READ['emg'], 'patch': 16}}
    assert c.pretrain.fip.target == 'text' and c.pretrain.fip.mask_ratio.text == 0.25
    assert c.pretrain.fip.mask_ratio.emg is None
    with pytest.raises(UserError, match='unknown config key .data.modalities.cam.kind'):
        config_lib.load(str(config), None, [('data.path', file), ('data.modalities.cam.kind', 'image')])


def test_patches_alone_need_no_data(tmp_path):
    (tmp_path / 'c.py').write_text('''
from fipjax import config as config_lib
def get_config(variant=''):
    return config_lib.base({'iq': {'kind': 'sequence', 'shape': (512, 2)}, 'note': {'kind': 'tokens', 'shape': (9,),
                                                                                  'vocab': 5}})
''')
    c = config_lib.load(str(tmp_path / 'c.py'))
    assert (c.data.modalities.iq.patch, c.data.modalities.note.patch) == (8, 1)
    with pytest.raises(UserError, match=r'vocab open; they are read off the data where data.source is arrays or tfds, '
                                        "and it is 'constellation'"):
        config_lib.load(str(tmp_path / 'c.py'), None, [('data.modalities.note.vocab', '0')])


def test_complete_configs_are_left_alone(tmp_path):
    """Even where the file does not exist: nothing is read off."""
    c = config_lib.load(tiny.config_file(tmp_path / 'c.py', data__path='none.npz'), None,
                        [('data.modalities.image.patch', '2')])
    expected = tiny.config(data__path='none.npz', data__modalities__image__patch=2, variant='tiny')
    assert config_lib.to_json(c) == config_lib.to_json(expected)


def test_the_target_of_an_arm_may_come_from_the_command_line(file):
    c = load(file, 'pretrain.fip.target=cam', variant='target_only')
    assert c.pretrain.modalities == ('cam',) and c.pretrain.fip.weights == 'uniform'
    validate(c)


def test_without_completion(file):
    c = load(file, complete=False)
    assert len(c.data.modalities) == 0 and c.pretrain.fip.target == '' and c.data.path == file


@pytest.mark.parametrize('options, words', [
    (['data.path='], 'data.path is empty; an .npz file is needed'),
    (['data.path=none.npz'], "data.path: no such file 'none.npz'"),
    (['data.source=wheel'], "data.modalities is empty; .* arrays or tfds, and it is 'wheel'"),
    (['data.modalities.imu.kind=image'], 'data.modalities.imu: .*mine.npz has no such array; .*: emg, cam, text'),
    (['data.modalities.emg.kind=video'], "data.modalities.emg.kind is 'video'; allowed: image, sequence, tokens, none"),
    (['data.modalities.emg.kin=image'], 'unknown config key .data.modalities.emg.kin.*data.modalities.emg.kind'),
    (['data.modalities.emg.patch=two'], 'data.modalities.emg.patch must be of type int'),
    (['data.modalities.emg.shape=64'], 'emg float32 .n, 32, 2. cannot be tokens.*data.modalities.emg.kind, or .*shape'),
    (['data.modalities.emg.shape=64,1'], r'data.modalities.emg.shape is \(64, 1\), but .*mine.npz has emg'),
    (['pretrain.fip.mask_ratio.imu=0.5'], 'unknown config key .pretrain.fip.mask_ratio.imu.*mask_ratio.text'),
])
def test_refused(file, options, words):
    with pytest.raises(UserError, match=words):
        load(file, *options)


@pytest.mark.parametrize('target', ['', 'imu'])
def test_a_target_is_needed(file, target):
    with pytest.raises(UserError, match=f"pretrain.fip.target is '{target}'; allowed: one of .* cam, emg, text"):
        validate(load(file, f'pretrain.fip.target={target}'))


def test_a_file_of_labels_does_not_go_with_standardising(tmp_path):
    from fipjax.data import downstream
    settings = types.SimpleNamespace(path=str(tmp_path / 'labels.npz'))
    with pytest.raises(UserError, match='downstream.path is .*labels.npz.*data.standardise'):
        downstream.build(settings, None, types.SimpleNamespace(standardise=True), 0, 1)


def test_a_run_on_three_kinds_with_labels_for_some(file, tmp_path):
    """Estimated weights, missing modalities, labels for every second example; then the same command again."""
    sizes = {**vars(tiny.WIDTHS)}
    options = [*(f'model.{k}={v}' for k, v in sizes.items()), 'pretrain.fip.target=emg', 'pretrain.steps=4',
               'pretrain.eval_every=4', 'pretrain.batch_size=12', 'pretrain.fip.downstream.every=2',
               'finetune.steps=2', 'finetune.eval_every=2', 'finetune.batch_size=6', 'finetune.labels_per_class=2',
               'pretrain.fip.downstream.labels_per_class=4', 'eval_batch_size=16', 'log_every=1',
               'data.modalities.emg.patch=8', 'data.modalities.cam.patch=4']
    result = experiment.run(load(file, *options, variant='cosine'), tmp_path / 'run', progress=False)
    assert np.isfinite(result['metrics']['test/cross_entropy@2']) and 0 <= result['metrics']['test/accuracy@2'] <= 1
    weights = [result['metrics'][f'pretrain/weight/{m}'] for m in READ]
    assert np.ptp(weights) > 1e-4 and abs(sum(weights) - 3) < 1e-5
    stored = runs.load_json(tmp_path / 'run' / 'config.json')
    assert stored['data']['modalities']['text'] == {**READ['text'], 'shape': [6]} and stored['variant'] == 'cosine'
    assert experiment.run(load(file, *options, variant='cosine'), tmp_path / 'run', progress=False) == \
        runs.load_json(tmp_path / 'run' / 'result.json')
    with pytest.raises(UserError, match='data.modalities.emg.patch: 8 != 4'):
        experiment.run(load(file, *options, 'data.modalities.emg.patch=4', variant='cosine'), tmp_path / 'run')
