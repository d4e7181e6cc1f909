"""Comparisons: command line, skipping, resuming, refusing, waiting; the experiment itself is a stand-in."""
import base64
import csv
import json
import os
import pathlib
import subprocess
import sys
import time

import fake_runs
import jax
import pytest

from fipjax import compare, experiment, writer
from fipjax import config as config_lib
from fipjax.analysis import pictures, report, runs, table
from fipjax.data import sources
from fipjax.errors import Busy, Interrupted, NonFinite, UserError

A5 = 'test/accuracy@5'
PNG = base64.b64encode(report.PNG).decode()
CONFIG = '''
from fipjax import config as config_lib

def get_config(variant='uniform'):
    c = config_lib.base({'image': {'kind': 'image', 'shape': (16, 16, 3), 'patch': 8},
                         'iq': {'kind': 'sequence', 'shape': (64, 2), 'patch': 16}})
    c.name, c.variant = 'tiny', variant
    c.pretrain.fip.loss_weight.target = {'uniform': 1.0, 'fip': 3.0, 'other': 2.0}[variant]
    c.compare.vary, c.compare.seeds = 'variant=uniform,fip', (0, 1)
    return c
'''


class Experiment:
    """Stands in for fipjax.experiment.run; `plan` maps a folder's name to exceptions to raise first."""

    def __init__(self):
        self.calls, self.plan, self.data = [], {}, []

    def run(self, config, workdir, *, progress=True, splits=None, shared=None):
        workdir = pathlib.Path(workdir)
        self.calls.append(workdir.name)
        self.data.append(splits)
        if self.plan.get(workdir.name):
            error = self.plan[workdir.name].pop(0)
            if callable(error):
                error(config, workdir)
            else:
                raise error
        return self.finish(config, workdir)

    def finish(self, config, workdir):
        accuracy = 0.5 + 0.01 * config.seed + 0.02 * config.pretrain.fip.loss_weight.target
        content = fake_runs.result(config.variant, config.seed, {A5: accuracy})
        fake_runs.write_run(workdir, content, json.loads(config_lib.to_json(config)))
        return content


@pytest.fixture
def fake(monkeypatch):
    stand_in = Experiment()
    monkeypatch.setattr(experiment, 'run', stand_in.run)
    monkeypatch.setattr(sources, 'build', lambda data, progress: ('data', data.pretrain_examples))
    monkeypatch.setattr(compare, 'POLL_SECONDS', 0.01)
    monkeypatch.setattr(pictures, 'to_png', lambda figure: PNG)  # drawing takes seconds
    return stand_in


@pytest.fixture
def config(tmp_path):
    path = tmp_path / 'tiny.py'
    path.write_text(CONFIG)
    return str(path)


VARY = {'variant': ['uniform', 'fip']}
FOUR = ['uniform-seed0', 'uniform-seed1', 'fip-seed0', 'fip-seed1']


@pytest.mark.parametrize('texts,expected', [
    (['a=1,2'], {'a': ['1', '2']}),
    (['a=1', 'b=x,y'], {'a': ['1'], 'b': ['x', 'y']}),
    (['pretrain.data=x,y,pretrain.objective=mlm,mmm'], {'pretrain.data': ['x', 'y'],
                                                         'pretrain.objective': ['mlm', 'mmm']}),
    (['data.modalities=(image),(image,iq),b=1'], {'data.modalities': ['(image)', '(image,iq)'], 'b': ['1']}),
    (['a=[1,(2,3)],{x=1,y}'], {'a': ['[1,(2,3)]', '{x=1,y}']}),
    (['a = 1 , 2'], {'a': ['1', '2']}),
    (['data.path=x=1.npz'], {'data.path': ['x=1.npz']}),
])
def test_parse_vary(texts, expected):
    assert compare.parse_vary(texts) == expected


@pytest.mark.parametrize('texts,message', [
    ([], 'nothing to vary'), (['a'], "found 'a' before any name"), (['a='], 'empty value'),
    (['a=1,,2'], 'empty value'),
    (['=1'], 'no name before ='), (['a=1', 'a=2'], 'a is given twice'), (['a=1,1'], 'the value 1 twice'),
    (['a=(1,2'], 'brackets'), (['a=1),2'], 'brackets'), (['a=1', '2'], "found '2' before any name")])
def test_parse_vary_refuses(texts, message):
    with pytest.raises(UserError, match=message):
        compare.parse_vary(texts)


def test_parse_seeds():
    assert compare.parse_seeds(['0', ' 7']) == [0, 7] == compare.parse_seeds((0, 7))
    for wrong in ([], ['x'], ['-1'], ['1', '01'], ['']):
        with pytest.raises(UserError, match='--seeds='):
            compare.parse_seeds(wrong)


def test_labels_are_safe_and_different():
    assert compare.label(['(image,iq)', '../x y']) == 'image_iq_x_y'
    assert compare.label(['0.75']) == '0.75' and compare.label(['()']) == 'empty'
    assert len(compare.label(['x' * 300])) == compare.LONGEST_LABEL
    found = compare.combinations({'a': ['x/y', 'x y'], 'b': ['1', '2']})
    assert list(found) == ['x_y_1', 'x_y_2', 'x_y_1-2', 'x_y_2-2']
    assert found['x_y_2-2'] == {'a': 'x y', 'b': '2'}


def test_a_comparison_leaves_its_table_and_prints_it(fake, config, tmp_path, capsys):
    overrides = [('pretrain.steps', '7')]
    assert compare.run(config, None, overrides, tmp_path / 'w', ['variant=uniform,fip'], [0, 1]) == 0
    assert fake.calls == FOUR  # seeds in the inner loop
    assert fake.data == [('data', 10000)] * 4
    stored = json.loads((tmp_path / 'w/runs/fip-seed1/config.json').read_text())
    assert (stored['seed'], stored['variant'], stored['pretrain']['steps']) == (1, 'fip', 7)
    assert stored['compare'] == {'vary': '', 'seeds': [], 'baseline': ''}
    out = capsys.readouterr().out
    assert 'run 1 of 4: uniform seed 0\n' in out and 'run 4 of 4: fip seed 1 (less than 1 min left)' in out
    assert '| fip | 2 | 56.5 ± 6.4 | +4.0 ± 0.0 (p 0) |' in out and str(tmp_path / 'w/report.html') in out
    plan = runs.load_plan(tmp_path / 'w')
    assert plan['baseline'] == 'uniform' and plan['seeds'] == [0, 1] and plan['vary'] == VARY
    assert '--vary=variant=uniform,fip --seeds=0,1' in plan['command']
    assert '--config.pretrain.steps=7' in plan['command']
    for name in ('table.md', 'table.csv', 'report.html'):
        assert (tmp_path / 'w' / name).stat().st_size > 100


def test_dotted_keys_make_a_grid(fake, config, tmp_path):
    vary = compare.parse_vary(['pretrain.steps=5,6,finetune.labels_per_class=(5),(5,50)'])
    compare.run(config, 'fip', [], tmp_path / 'w', vary, [3])
    assert fake.calls == ['5_5-seed3', '5_5_50-seed3', '6_5-seed3', '6_5_50-seed3']
    stored = json.loads((tmp_path / 'w/runs/6_5_50-seed3/config.json').read_text())
    assert stored['pretrain']['steps'] == 6 and stored['finetune']['labels_per_class'] == [5, 50]
    assert stored['variant'] == 'fip'
    header = (tmp_path / 'w/table.md').read_text(encoding='utf-8').splitlines()[0]
    assert header.startswith('| pretrain.steps, finetune.labels_per_class | seeds |')


def test_runs_with_different_data_make_their_own(fake, config, tmp_path):
    compare.run(config, None, [], tmp_path / 'w', {'data.pretrain_examples': ['10', '20']}, [0])
    assert fake.data == [None, None]


def test_finished_runs_are_skipped_and_seeds_can_be_added(fake, config, tmp_path, capsys):
    compare.run(config, None, [], tmp_path / 'w', VARY, [0])
    fake.calls.clear()
    compare.run(config, None, [], tmp_path / 'w', {'variant': ['uniform', 'fip', 'other']}, [1])
    assert fake.calls == ['uniform-seed1', 'fip-seed1', 'other-seed1']
    plan = runs.load_plan(tmp_path / 'w')
    assert plan['seeds'] == [0, 1] and plan['labels'] == ['uniform', 'fip', 'other']
    assert len(plan['runs']) == 5
    assert len(runs.load_comparison(tmp_path / 'w')) == 5
    compare.run(config, None, [], tmp_path / 'w', VARY, [0, 1])
    assert len(fake.calls) == 3 and 'run 2 of 4: uniform seed 1: already done' in capsys.readouterr().out


def test_a_killed_comparison_goes_on_and_leaves_a_valid_table(fake, config, tmp_path):
    fake.plan['fip-seed0'] = [KeyboardInterrupt()]
    with pytest.raises(KeyboardInterrupt):
        compare.run(config, None, [], tmp_path / 'w', VARY, [0, 1])
    text = (tmp_path / 'w/table.md').read_text(encoding='utf-8')
    assert '| uniform | 2 |' in text and '2 of 4 runs are finished' in text
    fake.calls.clear()
    compare.run(config, None, [], tmp_path / 'w', VARY, [0, 1])
    assert fake.calls == FOUR[2:]
    assert 'partial' not in (tmp_path / 'w/table.md').read_text(encoding='utf-8')


def test_a_folder_of_another_config_is_refused_before_anything_runs(fake, config, tmp_path):
    compare.run(config, None, [], tmp_path / 'w', VARY, [1])
    fake.calls.clear()
    with pytest.raises(UserError, match='uniform-seed1 holds a run of another config: pretrain.steps: 2000'):
        compare.run(config, None, [('pretrain.steps', '9')], tmp_path / 'w', VARY, [0, 1])
    assert fake.calls == []


@pytest.mark.parametrize('change,message', [
    ({'overrides': [('pretrain.steps', '9')]}, 'its overrides is'),
    ({'vary': {'pretrain.steps': ['8', '9']}}, 'another comparison, over variant')])
def test_a_workdir_of_another_comparison_is_refused(fake, config, tmp_path, change, message):
    compare.run(config, None, [], tmp_path / 'w', VARY, [1])
    with pytest.raises(UserError, match=message):
        compare.run(config, None, change.get('overrides', []), tmp_path / 'w', change.get('vary', VARY), [2])


def test_a_plan_of_which_nothing_was_run_is_no_comparison(fake, config, tmp_path):
    """As wrong input leaves it, found when the first run reads its data."""
    fake.plan[FOUR[1]] = [UserError('wrong input')]
    with pytest.raises(UserError, match='wrong input'):
        compare.run(config, None, [], tmp_path / 'w', VARY, [1])
    compare.run(config, None, [('pretrain.steps', '9')], tmp_path / 'w', VARY, [1])
    assert fake.calls == [FOUR[1], *FOUR[1::2]]


def test_a_baseline_may_be_a_value_of_one_name():
    grid = {'variant': ['burgers', 'darcy'], 'transfer.method': ['finetune', 'mona']}
    assert compare.baselines(grid, 'finetune') == ('finetune', {
        'burgers_finetune': 'burgers_finetune', 'burgers_mona': 'burgers_finetune',
        'darcy_finetune': 'darcy_finetune', 'darcy_mona': 'darcy_finetune'})
    assert set(compare.baselines(grid, 'darcy')[1].values()) == {'darcy_finetune', 'darcy_mona'}
    for one in ('darcy_mona', None):
        name, found = compare.baselines(grid, one)
        assert name == (one or 'burgers_finetune') and set(found) == set(compare.combinations(grid))
        assert set(found.values()) == {name}


def test_each_run_is_compared_with_its_own_baseline(fake, config, tmp_path):
    vary = {'variant': ['uniform', 'fip'], 'pretrain.steps': ['5', '6']}
    assert compare.run(config, None, [], tmp_path / 'w', vary, [0, 1], '5') == 0
    found = table.summarise(runs.load_comparison(tmp_path / 'w'), plan=runs.load_plan(tmp_path / 'w'))
    assert [(row.label, row.against, bool(row.differences)) for row in found.variants()] == [
        ('uniform_5', 'uniform_5', False), ('uniform_6', 'uniform_5', True),
        ('fip_5', 'fip_5', False), ('fip_6', 'fip_5', True)]
    text = table.markdown(table.grid(found))
    assert 'difference to 5' in text and text.count('| baseline |') == 2
    lines = list(csv.DictReader(table.csv(found).splitlines()))
    assert [line['baseline'] for line in lines[:4]] == ['uniform_5', 'uniform_5', 'fip_5', 'fip_5']


@pytest.mark.parametrize('overrides,vary,baseline,message', [
    ([], {'pretrain.fip.mask_ratio.target': ['0.5', '1.5']}, None, r'1.5 seed 0: .*mask_ratio.target is 1.5'),
    ([], {'pretrain.step': ['5']}, None, 'unknown config key'),
    ([('pretrain.steps', '5')], {'pretrain.steps': ['5', '6']}, None, 'also set by --config.pretrain.steps'),
    ([], {'seed': ['1']}, None, 'seeds are given by --seeds'),
    ([], VARY, 'best', 'best: not there; allowed: one of the 2 variants, such as uniform, or a value of one name'),
    ([], {'variant': ['a', 'b'], 'c': ['b', 'd']}, 'b', 'b: a value of variant and of c')])
def test_bad_input_is_refused_first(fake, config, tmp_path, overrides, vary, baseline, message):
    with pytest.raises(UserError, match=message):
        compare.run(config, None, overrides, tmp_path / 'w', vary, [0], baseline)
    assert fake.calls == [] and not (tmp_path / 'w').exists()


def test_unwritable_workdir(fake, config, tmp_path):
    (tmp_path / 'w').write_text('a file')
    with pytest.raises(UserError, match='cannot be written'):
        compare.run(config, None, [], tmp_path / 'w', VARY, [0])


def test_a_busy_run_is_passed_over_and_waited_for(fake, config, tmp_path, capsys):
    busy = Busy('another process works here')
    fake.plan['uniform-seed1'] = [busy, busy, busy]
    assert compare.run(config, None, [], tmp_path / 'w', VARY, [0, 1]) == 0
    assert fake.calls == [*FOUR, 'uniform-seed1', 'uniform-seed1', 'uniform-seed1']
    out = capsys.readouterr().out
    assert out.count('another process works on it') == 1
    assert 'waiting for runs of other processes: uniform seed 1\n' in out
    assert len(runs.load_comparison(tmp_path / 'w')) == 4


def test_a_busy_run_that_the_other_process_ends_is_taken_as_done(fake, config, tmp_path, capsys):
    def ended_elsewhere(config, workdir):
        fake.finish(config, workdir)
        raise Busy('still locked')
    fake.plan['uniform-seed0'] = [ended_elsewhere]
    compare.run(config, None, [], tmp_path / 'w', VARY, [0])
    assert fake.calls == ['uniform-seed0', 'fip-seed0']
    assert 'uniform seed 0: already done' in capsys.readouterr().out


def test_a_run_that_is_not_finite_is_recorded_and_the_others_go_on(fake, config, tmp_path, capsys):
    fake.plan['uniform-seed1'] = [NonFinite('loss of iq is nan at step 12')]
    assert compare.run(config, None, [], tmp_path / 'w', VARY, [0, 1]) == 1
    assert fake.calls == FOUR
    assert 'failed: uniform seed 1: loss of iq is nan at step 12' in capsys.readouterr().out
    assert '| uniform | 1 (1 failed) |' in (tmp_path / 'w/table.md').read_text(encoding='utf-8')
    assert compare.run(config, None, [], tmp_path / 'w', VARY, [0, 1]) == 0  # tried again
    assert fake.calls == [*FOUR, 'uniform-seed1']
    assert 'failed' not in (tmp_path / 'w/table.md').read_text(encoding='utf-8')


def test_what_another_process_saw_fail_just_now_is_not_tried_again(fake, config, tmp_path):
    def fails_elsewhere(config, workdir):
        path = pathlib.Path(workdir).parent / 'fip-seed0' / 'failure.json'
        path.parent.mkdir()
        writer.write_json(path, {'message': 'nan'})
        os.utime(path, (time.time() + 5,) * 2)
    fake.plan['uniform-seed0'] = [fails_elsewhere]
    assert compare.run(config, None, [], tmp_path / 'w', VARY, [0]) == 1
    assert fake.calls == ['uniform-seed0']


def test_other_errors_stop_the_comparison(fake, config, tmp_path):
    fake.plan['uniform-seed0'] = [Interrupted('saved')]
    with pytest.raises(Interrupted):
        compare.run(config, None, [], tmp_path / 'w', VARY, [0])
    assert fake.calls == ['uniform-seed0']


def test_caches_are_cleared_between_variants_only(fake, config, tmp_path, monkeypatch):
    cleared = []
    monkeypatch.setattr(jax, 'clear_caches', lambda: cleared.append(len(fake.calls)))
    compare.run(config, None, [], tmp_path / 'w', VARY, [0, 1, 2])
    assert cleared == [3]


@pytest.mark.parametrize('arguments,message', [
    (['--workdir=w', '--vary=a=1'], '--config is missing'),
    (['--config=none.py', '--workdir=w', '--vary=variant=a,b'], 'none.py: no such file'),
    (['--config=none.py', '--workdir=w', '--vary=a=1,1'], 'a has the value 1 twice'),
    (['--config=none.py', '--workdir=w', '--vary=a=1', '--seeds=x'], '--seeds=x')])
def test_command_says_what_is_wrong(tmp_path, arguments, message):
    done = subprocess.run([sys.executable, '-m', 'fipjax.compare', *arguments], capture_output=True,
                          text=True, cwd=tmp_path, timeout=120)
    assert done.returncode == 2 and message in done.stderr and 'Traceback' not in done.stderr
