"""Finished runs opened again: what is computed from kept parameters is what the runs reported, and what is missing."""
import json
import shutil

import numpy as np
import pytest
import tiny_runs

from fipjax.analysis import discrepancy, knowledge, matched, runs, tsne
from fipjax.errors import UserError
from fipjax.evaluators import probe
from fipjax.experiments import finished


@pytest.fixture(scope='module')
def opened():
    return list(finished.opened(runs.load_comparison(tiny_runs.comparison())))


@pytest.mark.parametrize('labels', tiny_runs.LABELS)
def test_discrepancy_is_the_one_that_the_run_reported(opened, labels):
    found, run = opened[0].match(labels, 'probability', 'labels'), opened[0].run
    assert found.exact.value == pytest.approx(run.result['metrics'][f'source/discrepancy@{labels}'], abs=1e-6)
    assert [list(p) for p in found.exact.pairs] == run.result['details'][f'discrepancy@{labels}']['pairs']
    assert (found.source, found.target) == (tiny_runs.SOURCE_CLASSES, tiny_runs.CLASSES)
    share = np.bincount(opened[0].splits.validation.y) / len(opened[0].splits.validation)
    assert sum(share[j] * found.costs[i, j] for i, j in found.exact.pairs) == pytest.approx(found.exact.value)
    assert found.bound.value <= found.exact.value + 1e-12 and not found.bound.exact


def test_discrepancy_against_the_model_takes_its_probabilities(opened):
    first = opened[0]
    params, x = first.chosen(2), first.splits.validation.take(np.arange(len(first.splits.validation)))
    tokens, mask = first.network.embed(params['embedder'], x)
    logits = np.asarray(first.network.predict(
        params['predictor'], first.network.encode(params['encoder'], tokens, mask), mask), np.float64)
    weights = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    source = first.source
    tokens, mask = first.network.embed(first.observed(2, 0)['embedder'], x)
    logits = np.asarray(source.network.predict(
        source.params['predictor'], source.network.encode(source.params['encoder'], tokens, mask), mask), np.float64)
    wanted = discrepancy.discrepancy(np.exp(logits) / np.exp(logits).sum(1, keepdims=True), weights, 'cross_entropy')
    found = first.match(2, 'cross_entropy', 'model').exact
    assert found.value == pytest.approx(wanted.value, rel=1e-5) and found.pairs == wanted.pairs


def test_features_give_the_probe_errors_of_the_run(opened):
    last = opened[1]
    data = last.source.splits
    for encoder, wanted in ((last.source.params['encoder'], last.run.result['metrics']['source/probe_error_before']),
                            (last.observed(0, -1)['encoder'], last.run.result['metrics']['source/probe_error@0'])):
        test_z, test_y = last.source_features(encoder, 12)
        train_z = last.rows(lambda p, b: last.source.network.encode(
            p['encoder'], *last.source.network.embed(p['embedder'], b)).mean(1),
            {'embedder': last.source.params['embedder'], 'encoder': encoder}, data.train)
        rows = finished.source_lib.balanced(data.train, 40, 0)
        assert probe.linear_probe(train_z[rows], data.train.y[rows], test_z, test_y) == pytest.approx(wanted)
        assert np.bincount(test_y).tolist() == [3, 3, 3, 3]


def test_steps_that_were_not_observed_are_refused(opened):
    assert opened[0].labels == tiny_runs.LABELS
    with pytest.raises(UserError, match=r'after step 3 of stage 2 with 2 .* after \[0, 2, 4\]'):
        opened[0].observed(2, 3)


def test_what_runs_share_is_loaded_once(opened):
    assert opened[0].source is opened[1].source and opened[0].splits is opened[1].splits
    assert opened[0].network is opened[1].network and opened[0].parallel is opened[1].parallel


def first_opened(folder):
    return next(finished.opened([runs.load_run(folder / 'runs' / 'finetune-seed0')]))


def test_what_is_missing_is_named(tmp_path):
    folder = tiny_runs.copy(tmp_path)
    run = folder / 'runs' / 'finetune-seed0'
    shutil.rmtree(run / 'parameters' / 'stage_2_2' / '0')
    with pytest.raises(UserError, match='stage_2_2/0: no parameters there'):
        first_opened(folder).match(2, 'error', 'labels')
    shutil.rmtree(folder / 'shared')
    with pytest.raises(UserError, match='its source model is not there; looked in .*shared'):
        first_opened(folder)
    config = json.loads((run / 'config.json').read_text())
    del config['source']['steps']
    (run / 'config.json').write_text(json.dumps(config))
    with pytest.raises(UserError, match='another version of fipjax, it lacks source.steps'):
        first_opened(folder)


def test_discrepancy_command_of_a_comparison_and_of_a_run(tmp_path):
    folder = tiny_runs.comparison()
    text = matched.write([str(folder)], str(tmp_path))
    done = runs.load_comparison(folder)
    kept = json.loads((tmp_path / 'discrepancy.json').read_text())
    wanted = [run.result['metrics'][f'source/discrepancy@{n}'] for run in done for n in tiny_runs.LABELS]
    assert [r['discrepancy'] for r in kept['runs']] == pytest.approx(wanted, abs=1e-6)
    pairs = done[0].result['details']['discrepancy@2']['pairs']
    assert kept['runs'][0]['pairs'] == [[tiny_runs.SOURCE_CLASSES[i], tiny_runs.CLASSES[j]] for i, j in pairs]
    first = ', '.join(f'{tiny_runs.SOURCE_CLASSES[i]} <- {tiny_runs.CLASSES[j]}' for i, j in pairs)
    assert first in text and f'{wanted[0]:.4f}' in text and '| mona | 0 | target | all labels |' in text
    bars = (tmp_path / 'discrepancy.png').read_bytes()
    assert (tmp_path / 'distortion.png').exists()
    (tmp_path / 'one').mkdir()
    text = matched.write([str(folder / 'runs' / 'mona-seed0')], str(tmp_path / 'one'), 'error', 'model')
    assert sorted(f.name for f in (tmp_path / 'one').iterdir()) == ['discrepancy.json', 'discrepancy.png']
    assert '| error |' in text and (tmp_path / 'one' / 'discrepancy.png').read_bytes() != bars


def test_tsne_command_writes_pictures_and_the_report(tmp_path):
    folder = tiny_runs.copy(tmp_path)
    text = tsne.write(str(folder), 0)
    kept = json.loads((folder / 'tsne.json').read_text())
    assert [p['title'].split('\n')[0] for p in kept['panels']] == ['source model', *tiny_runs.METHODS]
    assert len(kept['y']) == len(kept['panels'][2]['xy']) == 18 and kept['classes'] == list(tiny_runs.SOURCE_CLASSES)
    picture = knowledge.kept(folder, 'tsne')
    assert picture['png'] in (folder / 'report.html').read_text() and 'all labels' in picture['title']
    error = runs.load_comparison(folder)[1].result['metrics']['source/probe_error@0']
    assert f'| mona | {100 * error:.1f} |' in text
    with pytest.raises(UserError, match='--labels=7: no transfer with so many labels; there are 2, 0'):
        tsne.write(str(folder), 7)
