"""Whole runs of the wing 'mona' with text on one side: texts as source of signals, and as target of pictures."""
import json

import jax
import numpy as np
import pytest
import tiny_mona

from fipjax import checkpoint, experiment
from fipjax.analysis import runs
from fipjax.data import words
from fipjax.errors import UserError
from fipjax.experiments import finished

COLOURS = ('red', 'blue', 'green', 'yellow')


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    """A folder with the arrays; texts of 4 to 6 word pieces with [CLS] and [SEP], a colour tells the class."""
    folder = tiny_mona.write(tmp_path_factory.mktemp('text'))
    x = [f'{COLOURS[i % 4]} {("circle", "small circle", "what small circle")[i % 3]}' for i in range(80)]
    np.savez(folder / 'texts.npz', x=np.array(x), y=np.arange(80) % 4)
    return folder


def of_text(side, place):
    return {f'{side}__path': str(place / 'texts.npz'), f'{side}__tokenizer': 'basic', f'{side}__length': 8,
            'encoder__family': 'bert', 'encoder__depth': 1, 'encoder__remat': False, 'source__steps': 30,
            'source__optimizer__learning_rate': 3e-2}


@pytest.fixture(scope='module')
def from_text(place):
    """method -> (workdir, result), one source model of texts for both."""
    out = {}
    for method in ('mona', 'orca'):
        config = tiny_mona.config(place, transfer__method=method, **of_text('source', place))
        folder = place / 'runs' / method
        out[method] = folder, experiment.run(config, folder, progress=False, shared=place / 'shared')
    return out


@pytest.mark.parametrize('method', ['mona', 'orca'])
def test_a_source_of_texts(method, from_text, place):
    folder, result = from_text[method]
    m = result['metrics']
    assert 0 <= m['test/error@4'] <= 1 and 0 <= m['source/probe_error@4'] <= 1 and 0 <= m['source/discrepancy@4'] <= 1
    model, = (place / 'shared').glob('source-????????????')
    made = json.loads((model / 'result.json').read_text())
    assert made['target'].startswith('x [80]: text, at most 8 word pieces (basic')
    assert made['metrics']['test/error'] < 0.4 < made['references']['majority']['test/error']  # it reads the words
    assert made['references']['logistic regression']['test/error'] == 0
    e0 = checkpoint.read_params(model / 'parameters')['embedder']
    assert jax.tree.map(np.shape, e0) == {'words': (words.build('basic').size, 8), 'positions': (8, 8),
                                          'segments': (2, 8), 'norm': {'scale': (8,), 'bias': (8,)}}
    first, second = (checkpoint.read_params(folder / 'parameters' / f'stage_2_4/{n}')['embedder'] for n in (0, 6))
    assert set(first) == set(second) == {'projection', 'norm', 'positions'}  # the target's own, of signals
    losses = [r['loss'] for r in runs.read_metrics(folder / 'metrics.jsonl')
              if (r['stage'], r['split']) == ('stage_1_4', 'train')]
    assert len(losses) == 6 and np.isfinite(losses).all()


def test_finished_runs_of_a_source_of_texts_open_again(from_text):
    opened, = finished.opened([runs.load_run(from_text['mona'][0])])
    m = from_text['mona'][1]['metrics']
    assert opened.match(4, 'probability', 'labels').exact.value == pytest.approx(m['source/discrepancy@4'], abs=1e-6)
    z, y = opened.source_features(opened.source.params['encoder'], 12)
    assert z.shape == (12, 8) and np.isfinite(z).all() and np.bincount(y).tolist() == [3, 3, 3, 3]


@pytest.mark.parametrize('method', ['mona', 'orca'])
def test_a_target_of_texts(method, place):
    config = tiny_mona.config(place, transfer__method=method, **of_text('target', place))
    result = experiment.run(config, place / f'to-{method}', progress=False, shared=place / 'shared_pictures')
    assert set(result['references']) == {'majority', 'logistic regression', 'nearest neighbour'}
    before, after = (checkpoint.read_params(place / f'to-{method}' / 'parameters' / f'stage_2_4/{n}')['embedder']
                     for n in (0, 6))
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(after))
    basic = words.build('basic')
    used = {basic.cls, basic.sep} | {i for p in basic.pieces([*COLOURS, 'what small circle']) for i in p}
    moved = np.abs(after['words'] - before['words']).sum(1)
    rest = [i for i in range(len(moved)) if i not in used]  # padding among them: weight decay alone moves them
    assert len(used) == 9 and moved[list(used)].min() > 10 * moved[rest].max()


@pytest.mark.parametrize('changes, said', [
    ({'encoder__family': 'swin', 'encoder__width': 0, 'encoder__depth': 0, 'encoder__heads': 0,
      'encoder__image_size': 0, 'encoder__patch': 0}, 'encoder.family.*Swin.*x is text'),
    ({'source__tokenizer': ''}, 'source.tokenizer is empty'),
    ({'target__tokenizer': 'basic'}, "target.tokenizer is 'basic', but x float32"),
    ({'source__length': 2}, 'source.length is 2; allowed: at least 3'),
    ({'source__kind': 'words'}, "source.kind is 'words'; allowed: .* text"),
])
def test_bad_settings_are_named_before_anything_is_trained(changes, said, place, tmp_path):
    config = tiny_mona.config(place, 'classes', **{**of_text('source', place), **changes})
    if 'swin' in changes.values():
        config.target.path = str(place / 'source.npz')  # pictures, which Swin takes
    with pytest.raises(UserError, match=said):
        experiment.run(config, tmp_path / 'run', progress=False)
    assert not (tmp_path / 'run' / 'shared').exists()
