"""Reading workdirs: what is there, what is missing, what is broken."""
import json

import fake_runs
import pytest

from fipjax.analysis import runs
from fipjax.errors import UserError


def test_a_run_is_read_whole(tmp_path):
    fake_runs.write_run(tmp_path, fake_runs.result('fip', 3), {'seed': 3, 'data': {'x': 1}})
    run = runs.load_run(tmp_path)
    assert (run.label, run.seed, run.config) == ('fip', 3, {'seed': 3, 'data': {'x': 1}})
    assert run.result['metrics']['test/accuracy@5'] == 0.5
    assert [row['step'] for row in run.metrics if row['stage'] == 'pretrain' and row['split'] == 'train'] == [
        20, 40, 60, 80]


@pytest.mark.parametrize('name', ['config.json', 'metrics.jsonl', 'result.json'])
def test_missing_file_is_named(tmp_path, name):
    fake_runs.write_run(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(UserError, match=f'{name}: cannot be read'):
        runs.load_run(tmp_path)


@pytest.mark.parametrize('text,message', [('{"a": 1', 'not valid JSON'), ('[1]', 'expected a JSON object'),
                                          ('\udcff', 'not valid JSON')])
@pytest.mark.parametrize('name', ['config.json', 'result.json'])
def test_broken_file_is_named(tmp_path, name, text, message):
    fake_runs.write_run(tmp_path)
    (tmp_path / name).write_bytes(text.encode('utf-8', 'surrogateescape'))
    with pytest.raises(UserError, match=f'{name}: {message}'):
        runs.load_run(tmp_path)


@pytest.mark.parametrize('metrics', [{'test/accuracy@5': 'high'}, [1], {'test/accuracy@5': True}])
def test_metrics_must_be_numbers(tmp_path, metrics):
    fake_runs.write_run(tmp_path, {**fake_runs.result(), 'metrics': metrics})
    with pytest.raises(UserError, match='result.json: metrics must map names to numbers'):
        runs.load_run(tmp_path)


def test_torn_last_line_is_passed_over_and_others_are_not(tmp_path):
    good = json.dumps({'stage': 'pretrain', 'split': 'train', 'step': 1, 'loss': 2.0})
    path = tmp_path / 'metrics.jsonl'
    path.write_text(f'{good}\n{good[:20]}')
    assert runs.read_metrics(path) == [json.loads(good)]
    path.write_text(f'{good}\n{good[:20]}\n{good}\n')
    with pytest.raises(UserError, match='metrics.jsonl: line 2'):
        runs.read_metrics(path)


def test_a_resumed_step_counts_once_with_its_last_value(tmp_path):
    rows = [{'stage': 'pretrain', 'split': 'train', 'step': step, 'loss': loss}
            for step, loss in ((20, 3.0), (40, 2.0), (20, 2.5))]
    path = tmp_path / 'metrics.jsonl'
    path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
    assert [(row['step'], row['loss']) for row in runs.read_metrics(path)] == [(20, 2.5), (40, 2.0)]


def test_a_comparison_holds_what_is_finished_in_the_order_of_its_plan(tmp_path):
    metrics = {'test/accuracy@5': 0.5}
    fake_runs.write_comparison(tmp_path, {'uniform': {0: metrics, 1: None}, 'fip': {1: metrics, 0: metrics}},
                               failures=[('uniform', 1, 'not finite')])
    assert [(run.label, run.seed) for run in runs.load_comparison(tmp_path)] == [
        ('uniform', 0), ('fip', 1), ('fip', 0)]
    assert runs.load_failures(tmp_path) == [runs.Failure('uniform', 1, 'not finite')]


def test_a_failure_is_forgotten_once_the_run_is_finished(tmp_path):
    fake_runs.write_comparison(tmp_path, {'fip': {0: {'test/accuracy@5': 0.5}}}, failures=[('fip', 0, 'old')])
    assert runs.load_failures(tmp_path) == []


@pytest.mark.parametrize('folder', ['../elsewhere', '/tmp/x', '..', 'a/b'])
def test_a_plan_cannot_point_outside(tmp_path, folder):
    plan = {'runs': [{'folder': folder, 'label': 'x', 'seed': 0}]}
    (tmp_path / 'comparison.json').write_text(json.dumps(plan))
    with pytest.raises(UserError, match='not the name of a folder'):
        runs.load_comparison(tmp_path)
