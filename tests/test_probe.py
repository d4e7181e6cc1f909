"""The probe command, and how runs are found, named and grouped for all commands on source knowledge."""
import json

import fake_runs
import numpy as np
import pytest
from scipy import stats

from fipjax.analysis import knowledge, knowledge_pictures, probe, runs
from fipjax.errors import UserError


def points(folder, **how):
    return knowledge.points(runs.load_comparison(fake_runs.write_transfers(folder, **how)))


def test_points_hold_what_the_runs_measured(tmp_path):
    found = points(tmp_path)
    assert len(found) == 6 * 3 * 2
    mona = next(p for p in found if (p.method, p.seed, p.labels) == ('mona', 2, 5))
    metrics = fake_runs.transfer('mona', 2)['metrics']
    assert (mona.before, mona.after, mona.discrepancy) == (
        fake_runs.BEFORE, metrics['source/probe_error@5'], metrics['source/discrepancy@5'])
    assert [step for step, _ in mona.curve] == [0, 25, 50, 100] and mona.curve[-1][1] == mona.after
    assert (mona.where, mona.distance) == ('digits, 5 labels a class', 'probability')


def test_targets_are_named_after_their_data_or_else_their_variant(tmp_path):
    def run(variant='', **target):
        return runs.Run(tmp_path, 'x', 0, {**fake_runs.transfer_config(**target), 'variant': variant}, [], {})
    found = [run(name='', path='a/fsdd.npz'), run(), run(view='spectrogram'), run()]
    assert knowledge.targets(found) == ['fsdd', 'digits', 'digits (spectrogram)', 'digits']
    found = [run('spoken_1d', group_key=''), run('spoken_1d_speaker', group_key='speaker')]
    assert knowledge.targets(found) == ['spoken_1d', 'spoken_1d_speaker']


def test_runs_are_grouped_by_method_where_that_tells_them_apart(tmp_path):
    def run(label, method, seed=0):
        return runs.Run(tmp_path, label, seed, fake_runs.transfer_config(), [], {'method': method})
    assert knowledge.groups([run('a', 'mona'), run('b', 'orca'), run('a', 'mona', 1)]) == ['mona', 'orca', 'mona']
    assert knowledge.groups([run('lambda 0', 'mona'), run('lambda 1', 'mona')]) == ['lambda 0', 'lambda 1']


def test_correlation_is_over_methods_that_can_distort(tmp_path):
    found = points(tmp_path, labels=(5,))
    counted = knowledge.distorted(found)
    assert {p.method for p in counted} == {'finetune', 'embedder', 'orca', 'mona'} and len(counted) == 12
    rho, p = knowledge.rank_correlation(counted)
    ranks = [stats.rankdata(x) for x in ([q.discrepancy for q in counted], [q.after - q.before for q in counted])]
    assert rho == pytest.approx(np.corrcoef(*ranks)[0, 1]) and 0 <= p < 1e-3
    assert knowledge.rank_correlation(counted[:2]) is None
    assert knowledge.rank_correlation([q._replace(discrepancy=0.5) for q in counted]) is None
    caption = knowledge_pictures.distortion(found)['caption']
    assert f'{rho:+.2f}' in caption and 'n 12' in caption


def test_command_writes_picture_and_numbers(tmp_path):
    folder = fake_runs.write_transfers(tmp_path)
    text = probe.write([str(folder)])
    kept = json.loads((folder / 'probe.json').read_text())
    assert kept['title'] == 'Source probe error in stage 2' and len(kept['runs']) == 36
    assert kept['runs'][0]['probe_error_before'] == fake_runs.BEFORE and len(kept['runs'][0]['probe_error']) == 4
    assert '| frozen | 0 | digits | all labels | 20.0 | 0: 20.0, 25: 20.0, 50: 20.0, 100: 20.0 |' in text
    assert str(folder / 'probe.png') in text and (folder / 'probe.png').read_bytes().startswith(b'\x89PNG')


def test_several_comparisons_go_into_one_picture(tmp_path):
    folders = [fake_runs.write_transfers(tmp_path / name, target={'name': name}) for name in ('a', 'b')]
    with pytest.raises(UserError, match='--out=DIR is missing'):
        probe.write([str(f) for f in folders])
    probe.write([str(f) for f in folders], str(tmp_path / 'out'))
    kept = json.loads((tmp_path / 'out' / 'probe.json').read_text())
    assert {r['target'] for r in kept['runs']} == {'a', 'b'} and not (folders[0] / 'probe.png').exists()


def test_one_run_will_do(tmp_path):
    folder = fake_runs.write_run(tmp_path, fake_runs.transfer(), fake_runs.transfer_config())
    assert '| mona | 0 | digits | 5 labels a class | 20.0 |' in probe.write([str(folder)])


def test_wrong_workdirs_are_refused(tmp_path):
    with pytest.raises(UserError, match='--workdir is missing; usage: python -m fipjax.analysis.probe'):
        probe.write([])
    with pytest.raises(UserError, match='no finished run there'):
        probe.write([str(tmp_path / 'nothing')])
    folder = fake_runs.write_run(tmp_path / 'fip', config={'wing': 'fip'})
    with pytest.raises(UserError, match="a run of wing 'fip'; fipjax.analysis.probe needs runs of wing 'mona'"):
        probe.write([str(folder)])
    folder = fake_runs.write_run(tmp_path / 'old', fake_runs.transfer(observed=[]), fake_runs.transfer_config())
    with pytest.raises(UserError, match='nothing in "observed"'):
        probe.write([str(folder)])


def test_pictures_of_nothing_are_none(tmp_path):
    found = [p._replace(curve=(), discrepancy=None) for p in points(tmp_path, seeds=(0,))]
    for draw in (knowledge_pictures.probe_curves, knowledge_pictures.discrepancy_bars, knowledge_pictures.distortion):
        assert draw(found) is None and draw([]) is None
