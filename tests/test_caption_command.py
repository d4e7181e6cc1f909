"""The captioner's run and command: what it writes is a pretraining set, going on gives the same, errors are said."""
import functools
import json
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from fipjax import checkpoint, experiment, validation
from fipjax import config as config_lib
from fipjax.algorithms import captioning
from fipjax.data import vl, vl_files, vl_sets, words
from fipjax.errors import UserError
from fipjax.models import captioner

ROOT = pathlib.Path(__file__).parents[1]
CONFIG = str(ROOT / 'configs' / 'vlp' / 'captioner.py')


def tiny(**changes):
    """A config of a few steps; `changes` are dotted keys with __ for the dot."""
    c = config_lib.caption_base()
    c.network.width, c.network.depth, c.network.heads = 16, 1, 2
    c.sets.coco, c.sets.cc = 120, 24
    c.caption.steps, c.caption.eval_every, c.caption.batch_size = 6, 3, 8
    c.checkpoint.every, c.log_every, c.eval_batch_size = 3, 1, 16
    for key, value in changes.items():
        group, _, leaf = key.replace('__', '.').rpartition('.')
        (config_lib.get(c, group) if group else c)[leaf] = value
    return c


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """Workdir and result of a tiny run."""
    folder = tmp_path_factory.mktemp('caption') / 'run'
    return folder, experiment.run(tiny(), folder, progress=False)


def test_captions_are_a_pretraining_set_with_the_pictures_of_the_other(run):
    folder, result = run
    config = tiny(sets__ccg=str(folder / 'captions'))
    made, shown = (vl_sets.build_pretraining(name, config) for name in ('ccg', 'cc'))
    assert made.answers is None and made.output == '' and len(made.text) == len(shown.regions.count) == 24
    np.testing.assert_array_equal(made.picture, np.arange(24))
    np.testing.assert_array_equal(made.split, shown.split)
    for one, other in zip(made.regions, shown.regions, strict=True):
        np.testing.assert_array_equal(one, other)
    assert made.text != shown.text and all(t.strip() for t in made.text)
    tokenizer = words.build('basic')
    train, held_out = vl.pretraining(made, tokenizer, 32)
    assert len(train) + len(held_out) == 24 and len(held_out) == 2
    assert [e['caption'] for e in result['examples']] == list(made.text[:6])
    assert result['examples'][1]['own text'] == shown.text[1]


def test_result_has_scores_controls_and_references(run):
    _, result = run
    m, references = result['metrics'], result['references']
    assert {'validation/loss', 'validation/accuracy', 'validation/loss_other_pictures', 'captions/distinct',
            'captions/words'} <= set(m)
    assert set(result['headline']) <= set(m) and result['pictures'][0]['title'] == 'Captions'
    assert set(references['word before alone']) == {'validation/loss', 'validation/accuracy'}
    own = references["pictures' own texts"]  # alt texts say what is there, though sometimes words are dropped
    assert own['captions/precision'] > 0.8 > 0.5 > own['captions/precision_other_pictures']
    assert result['flops']['captioner'] > 0 and result['parameters']['captioner'] > 0
    assert result['tokenizer']['name'] == 'basic'


def test_loss_with_other_pictures_is_that_of_captions_beside_them(run):
    folder, result = run
    config, t = tiny(), words.build('basic')
    made = captioner.build(config.network, vocab=t.size, features=192, length=32,
                           special=captioner.Special(t.cls, t.sep, t.pad))
    params = checkpoint.read_params(folder / 'parameters' / 'captioner')
    _, source = vl.pretraining(vl_sets.build_pretraining('coco', config), t, 32)
    batch = source.take(np.arange(len(source)))
    there = sorted(set(source.picture.tolist()))
    assert len(there) == 2  # pictures 0 and 20 of 24
    other = np.array([there[1 - there.index(p)] for p in source.picture])
    beside = {**batch, 'features': source.regions.features[other], 'boxes': source._boxes[other],
              'region_mask': np.arange(batch['features'].shape[1]) < source.regions.count[other][:, None]}
    of = jax.jit(functools.partial(captioning.by_caption, made.logits))
    for key, given in (('loss', batch), ('loss_other_pictures', beside)):
        loss, _, count = np.asarray(of(params, given)).sum(0)
        assert result['metrics'][f'validation/{key}'] == pytest.approx(loss / count, rel=1e-5)


def test_going_on_gives_the_same_and_leaves_what_is_complete(run):
    folder, result = run
    kept = (folder / 'captions' / 'captions.jsonl').read_bytes()
    written = (folder / 'captions').stat().st_mtime_ns
    (folder / 'result.json').unlink()
    again = experiment.run(tiny(), folder, progress=False)
    assert again['metrics'] == result['metrics'] and (folder / 'captions').stat().st_mtime_ns == written
    (folder / 'result.json').unlink()
    for file in (folder / 'captions').iterdir():
        file.unlink()
    (folder / 'captions').rmdir()
    experiment.run(tiny(), folder, progress=False)
    assert (folder / 'captions' / 'captions.jsonl').read_bytes() == kept
    assert experiment.run(tiny(), folder, progress=False) == json.loads((folder / 'result.json').read_text())


@pytest.mark.parametrize('changes, text', [
    ({'caption__train': 'vqa'}, "caption.train is 'vqa'; allowed: coco, cc, tfds:NAME or a folder"),
    ({'caption__pictures': 'imagenet'}, "caption.pictures is 'imagenet'; allowed: coco, cc, vqa"),
    ({'caption__temperature': -1.0}, 'caption.temperature is -1.0; allowed: 0 or more'),
    ({'caption__optimizer__kind': 'lion'}, "caption.optimizer.kind is 'lion'; allowed: adamw or adam or sgd"),
    ({'caption__steps': 0}, 'caption.steps is 0'), ({'network__heads': 3}, 'network.width is 16; .* network.heads, 3'),
    ({'text__length': 2}, 'text.length is 2'), ({'regions__features': 'x'}, "regions.features is 'x'")])
def test_wrong_settings_are_named(changes, text):
    with pytest.raises(UserError, match=text):
        validation.validate(tiny(**changes))


def test_questions_and_features_of_another_detector_are_refused(tmp_path):
    made = vl_sets.build_pretraining('vqa', tiny(sets__vqa=30))
    vl_files.write(tmp_path / 'questions', made)
    with pytest.raises(UserError, match='caption.train is .*questions with answers; a captioner learns from captions'):
        experiment.run(tiny(caption__train=str(tmp_path / 'questions')), tmp_path / 'run', progress=False)
    shown = vl_sets.build_pretraining('cc', tiny(regions__features='frozen'))
    vl_files.write(tmp_path / 'frozen', shown)
    with pytest.raises(UserError, match=r'regions of 192 numbers \(crops\) and caption.pictures of 64 \(frozen\)'):
        experiment.run(tiny(caption__pictures=str(tmp_path / 'frozen')), tmp_path / 'run', progress=False)


def test_the_config_is_valid_and_the_command_wants_its_wing(tmp_path):
    for variant in ('scenes', 'quick'):
        validation.validate(config_lib.load(CONFIG, variant))
    with pytest.raises(UserError, match="variant 'x' is unknown; allowed: scenes, quick"):
        config_lib.load(CONFIG, 'x')
    other = ROOT / 'configs' / 'mona' / 'quick.py'
    done = subprocess.run([sys.executable, '-m', 'fipjax.caption', f'--config={other}', f'--workdir={tmp_path}'],
                          capture_output=True, text=True, timeout=300)
    assert done.returncode == 2 and "is of wing 'mona'; fipjax.caption needs one of wing 'caption'" in done.stderr
    assert 'Traceback' not in done.stderr
