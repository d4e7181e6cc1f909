"""Tables against hand computation."""
import csv
import io

import fake_runs
import numpy as np
import pytest
from scipy import stats

from fipjax.analysis import runs, table

A5 = 'test/accuracy@5'
UNIFORM = {0: 0.50, 1: 0.60, 2: 0.55}
FIP = {0: 0.58, 1: 0.66, 2: 0.60, 3: 0.90}  # seed 3 has no partner


def load(tmp_path, values=None, failures=(), **changes):
    values = values or {'uniform': UNIFORM, 'fip': FIP}
    by_metric = {label: {seed: None if value is None else {A5: value, 'test/cross_entropy@5': 2 - value}
                         for seed, value in by_seed.items()} for label, by_seed in values.items()}
    fake_runs.write_comparison(tmp_path, by_metric, failures=failures, **changes)
    return table.summarise(runs.load_comparison(tmp_path), failures=runs.load_failures(tmp_path),
                           plan=runs.load_plan(tmp_path))


def row(found, label):
    return next(row for row in found.rows if row.label == label)


def test_means_and_differences_by_hand(tmp_path):
    found = load(tmp_path)
    fip = row(found, 'fip')
    values = np.asarray(list(FIP.values()))
    assert fip.means[A5].mean == pytest.approx(values.mean())
    assert fip.means[A5].half == pytest.approx(stats.t.ppf(0.975, 3) * values.std(ddof=1) / 2)
    paired = np.asarray([0.08, 0.06, 0.05])
    assert fip.differences[A5].n == 3
    assert fip.differences[A5].mean == pytest.approx(paired.mean())
    assert fip.differences[A5].half == pytest.approx(stats.t.ppf(0.975, 2) * paired.std(ddof=1) / np.sqrt(3))
    assert fip.differences[A5].p == pytest.approx(stats.ttest_1samp(paired, 0).pvalue)
    assert row(found, 'uniform').differences == {}
    assert fip.differences['test/cross_entropy@5'].mean == pytest.approx(-paired.mean())


def test_costs_and_references(tmp_path):
    found = load(tmp_path, ceiling=0.8, ceiling_reason='two pairs are equal')
    assert row(found, 'fip').costs == {'pretrain GFLOP': 2400, 'total GFLOP': 2800, 'seconds': 123,
                                       'parameters': 1203000}
    assert row(found, 'ridge on pooled pixels').means[A5].mean == pytest.approx(0.35)
    assert row(found, 'chance').means[A5].mean == pytest.approx(1 / 6)
    assert row(found, 'ceiling').means == {A5: (pytest.approx(0.8), None, 4)}  # not of the cross-entropy
    assert ('ceiling', 'two pairs are equal') in found.footer
    assert [r.kind for r in found.rows] == ['variant', 'variant', 'trivial', 'chance', 'ceiling']


def test_references_that_differ_between_variants_are_kept_apart(tmp_path):
    load(tmp_path)
    done = runs.load_comparison(tmp_path)
    for run in done:
        run.result['trivial'][A5] = {'uniform': 0.3, 'fip': 0.4}[run.label]
    found = table.summarise(done)
    assert row(found, 'ridge on pooled pixels (uniform)').means[A5].mean == pytest.approx(0.3)
    assert row(found, 'ridge on pooled pixels (fip)').means[A5].mean == pytest.approx(0.4)


def test_text_of_the_table(tmp_path):
    text = table.markdown(table.grid(load(tmp_path, ceiling=0.8, ceiling_reason='why')))
    lines = [[cell.strip() for cell in line.strip('|').split('|')] for line in text.splitlines()
             if '|' in line]
    assert lines[0][:3] == ['variant', 'seeds', 'test accuracy, 5 labels a class (%)']
    assert lines[0][3] == 'difference to uniform'
    assert len({len(line) for line in lines}) == 1
    by_label = {line[0]: line for line in lines}
    assert by_label['uniform'][1:4] == ['3', '55.0 ± 12.4', 'baseline']
    assert by_label['fip'][3] == '+6.3 ± 3.8 (p 0.019, n 3)'
    assert by_label['fip'][4:8] == ['2,400', '2,800', '1,203,000', '123']
    assert by_label['ceiling'][2] == '80.0'
    for needle in ('seeds: 0, 1, 2, 3', 'commit: abc1234', 'device: cpu x 1', 'date: 2026-11-23',
                   'ceiling: why', 'config: configs/fip/constellation.py', 'test set once'):
        assert needle in text


def test_cells_cannot_break_the_markdown(tmp_path):
    text = table.markdown(table.Grid(('a', 'b'), [('variant', ('x|y', 'line\nbreak'))], (), ()))
    assert text.splitlines()[2] == r'| x\|y | line break |'


def test_csv_is_raw_and_complete(tmp_path):
    found = load(tmp_path)
    parsed = {line['variant']: line for line in csv.DictReader(io.StringIO(table.csv(found)))}
    fip = parsed['fip']
    assert float(fip[f'{A5} mean']) == found.rows[1].means[A5].mean
    assert float(fip[f'{A5} difference half']) == found.rows[1].differences[A5].half
    assert (fip['n'], fip['seeds'], fip[f'{A5} pairs'], fip['baseline']) == ('4', '0 1 2 3', '3', 'uniform')
    assert parsed['uniform'][f'{A5} difference'] == '' and parsed['uniform']['commit'] == 'abc1234'
    assert float(parsed['chance'][f'{A5} mean']) == pytest.approx(1 / 6)


def test_unfinished_and_failed_runs_are_said(tmp_path):
    found = load(tmp_path, {'uniform': UNIFORM, 'fip': {0: 0.6, 1: None, 2: None}, 'broken': {0: None}},
                 failures=[('fip', 1, 'loss is nan at step 7'), ('broken', 0, 'loss is inf')])
    assert row(found, 'fip').failed == 1 and row(found, 'broken').kind == 'failed'
    footer = dict(found.footer)
    assert footer['partial'] == '4 of 7 runs are finished'
    text = table.markdown(table.grid(found))
    assert 'fip seed 1: loss is nan at step 7' in text and '| broken | 0 (1 failed) | - |' in text
    assert '| 60.0 | +10.0 |' in text  # one pair: a difference, and no interval is pretended


def test_findings_say_gains_losses_and_nothing(tmp_path):
    values = {'uniform': {s: 0.5 + 0.01 * s for s in range(4)},
              'better': {s: 0.6 + 0.01 * s + 0.001 * (s % 2) for s in range(4)},
              'worse': {s: 0.3 + 0.01 * s + 0.002 * (s % 2) for s in range(4)},
              'same': {s: 0.5 + 0.01 * s + 0.01 * (-1) ** s for s in range(4)}}
    said = '\n'.join(table.findings(load(tmp_path, values)))
    assert 'better is higher than uniform by 10.0 points' in said  # 0.10, 0.101, 0.10, 0.101
    assert 'worse is lower than uniform by 19.9 points' in said
    assert 'no difference to uniform is shown for same.' in said
    assert 'not above the trivial baseline: worse.' in said
    assert '3 differences are tested' in said and 'FLOPs' not in said


def test_findings_warn_of_unequal_compute(tmp_path):
    load(tmp_path)
    done = runs.load_comparison(tmp_path)
    for run in done:
        if run.label == 'fip':
            run.result['flops']['pretrain'] *= 1.5
    assert any('fip (1.50 x)' in sentence and 'compute-matched' in sentence
               for sentence in table.findings(table.summarise(done)))


def test_a_run_stands_beside_its_references(tmp_path):
    fake_runs.write_run(tmp_path, fake_runs.result(metrics={A5: 0.5}, ceiling=0.8))
    grid = table.rows([runs.load_run(tmp_path)])
    interval = stats.binomtest(165, 330).proportion_ci(method='wilson')
    text = f'{100 * interval.low:.1f} to {100 * interval.high:.1f}'
    assert grid.rows[0][1] == ('test accuracy, 5 labels a class (%)', '50.0', text, '35.0', '16.7', '80.0')
    assert ('pretrain loss', '0.4', '', '-', '-', '-') in [cells for _, cells in grid.rows]


def test_numbers_in_names_sort_by_value(tmp_path):
    fake_runs.write_run(tmp_path, fake_runs.result(metrics={f'test/accuracy@{n}': 0.5 for n in (50, 5, 100)}))
    assert table.headline([runs.load_run(tmp_path)]) == tuple(f'test/accuracy@{n}' for n in (5, 50, 100))


def test_no_runs_yet_is_a_table_too(tmp_path):
    found = load(tmp_path, {'uniform': {0: None}, 'fip': {0: None}})
    assert found.rows == () and dict(found.footer)['partial'] == '0 of 2 runs are finished'
    assert table.markdown(table.grid(found)).startswith('| variant | seeds |')


# --- Runs of the wing 'mona' ------------------------------------------------------------------------------------------

def transfers(tmp_path, **how):
    fake_runs.write_transfers(tmp_path, **how)
    return runs.load_comparison(tmp_path), runs.load_plan(tmp_path)


def test_columns_are_what_runs_name_as_their_headline(tmp_path):
    done, _ = transfers(tmp_path, seeds=(0,), labels=(0, 20, 5))
    assert table.headline(done) == tuple(
        f'{k}@{n}' for k in ('test/error', 'source/probe_error', 'source/discrepancy') for n in (5, 20, 0))


def test_names_and_directions_of_metrics():
    for metric, name, share, low in (
            ('test/error@0', 'test error, all labels (%)', True, True),
            ('source/probe_error@5', 'source probe error, 5 labels a class (%)', True, True),
            ('source/probe_error_before', 'source probe error before (%)', True, True),
            ('source/discrepancy@1', 'discrepancy D, 1 label a class', False, True),
            ('test/relative_l2@0', 'test relative l2, all labels', False, True),
            ('stage_1/seconds@5', 'stage 1 seconds, 5 labels a class', False, True),
            ('test/map@5', 'test map, 5 labels a class', False, False),
            ('test/accuracy@50', 'test accuracy, 50 labels a class (%)', True, False)):
        assert (table.heading(metric), table.is_share(metric), table.lower_is_better(metric)) == (name, share, low)
    assert table.lower_is_better('test/cross_entropy@5') and table.lower_is_better('test/nrmse')
    assert table.lower_is_better('test/mae') and table.lower_is_better('pretrain/loss/image')
    assert not table.lower_is_better('test/macro_f1@5') and not table.lower_is_better('test/auroc@5')


def test_every_trivial_baseline_has_a_row_and_costs_only_a_column_where_they_are(tmp_path):
    done, plan = transfers(tmp_path, labels=(5,))
    found = table.summarise(done, plan=plan)
    assert [r.label for r in found.rows if r.kind == 'trivial'] == ['majority', 'logistic regression']
    assert row(found, 'logistic regression').means['test/error@5'].mean == pytest.approx(0.37)
    assert not [r for r in found.rows if r.kind in ('chance', 'ceiling')]
    assert found.costs() == ('stage 1 seconds', 'total GFLOP', 'parameters', 'seconds')
    assert row(found, 'mona').costs['stage 1 seconds'] == pytest.approx(11)
    assert 'stage 1 seconds' not in row(found, 'finetune').costs
    assert 'total GFLOP' not in row(found, 'orca').costs  # its stage 1 has no count: the sum would look cheap
    grid = table.grid(found)
    assert grid.header[:3] == ('transfer.method', 'seeds', 'test error, 5 labels a class (%)')
    assert 'pretrain GFLOP' not in grid.header and grid.header[-1] == 'discrepancy D, 5 labels a class'
    assert len({len(cells) for _, cells in grid.rows} | {len(grid.header)}) == 1
    header = csv.DictReader(io.StringIO(table.csv(found))).fieldnames
    assert 'stage 1 seconds' in header and 'pretrain GFLOP' not in header


def test_trivial_baselines_of_one_variant_are_for_it_alone(tmp_path):
    done, _ = transfers(tmp_path, methods=('finetune', 'mona'), labels=(5,))
    for run in done:
        if run.label == 'mona':
            run.result['references'] = {'majority': {'test/error@5': 0.1}, 'ridge': {'test/error@5': 0.2}}
    found = table.summarise(done)
    assert [(r.label, r.of) for r in found.rows if r.kind == 'trivial'] == [
        ('majority (finetune)', ('finetune',)), ('majority (mona)', ('mona',)),
        ('logistic regression (finetune)', ('finetune',)), ('ridge (mona)', ('mona',))]
    said = '\n'.join(table.findings(found))
    assert 'not better than the best trivial baseline (majority (mona)): mona.' in said
    assert '(logistic regression (finetune)): finetune.' in said


def test_trivial_baselines_of_a_task_have_one_row_for_its_methods(tmp_path):
    done, _ = transfers(tmp_path, methods=('a_x', 'a_y', 'b_x', 'b_y', 'c'), labels=(5,))
    worst = {'a': 0.9, 'b': 0.8, 'c': 0.9}
    for run in done:
        run.result['references'] = {'majority': {'test/error@5': worst[run.label[0]]}, 'ridge': {'test/error@5': 0.7}}
    found = table.summarise(done)
    assert [(r.label, r.of, r.means['test/error@5'].mean) for r in found.rows if r.kind == 'trivial'] == [
        ('majority (a_x and 2 more)', ('a_x', 'a_y', 'c'), pytest.approx(0.9)),
        ('majority (b)', ('b_x', 'b_y'), pytest.approx(0.8)), ('ridge', None, pytest.approx(0.7))]


def test_findings_know_that_errors_should_be_low(tmp_path):
    done, plan = transfers(tmp_path, labels=(5,))
    said = '\n'.join(table.findings(table.summarise(done, plan=plan)))
    assert 'mona is lower (better) than finetune by' in said and 'scratch is higher (worse) than finetune by' in said
    assert ('test error, 5 labels a class (%): not better than the best trivial baseline (logistic regression): '
            'scratch, finetune, frozen, embedder') in said
    assert 'discrepancy' not in said  # it is shown, and variants are not judged by it


def test_dense_targets_are_judged_by_their_own_score(tmp_path):
    done, plan = transfers(tmp_path, labels=(5,), output='relative_l2')
    found = table.summarise(done, plan=plan)
    assert found.judged() == ('test/relative_l2@5', 'source/probe_error@5')
    assert row(found, 'majority').means['test/relative_l2@5'].mean == pytest.approx(0.76)


def test_a_run_of_the_wing_stands_beside_all_its_baselines(tmp_path):
    fake_runs.write_run(tmp_path, fake_runs.transfer(labels=(5,)), fake_runs.transfer_config())
    run = runs.load_run(tmp_path)
    grid = table.run_grid(run)
    value = run.result['metrics']['test/error@5']
    interval = stats.binomtest(round(100 * value), 100).proportion_ci(method='wilson')
    assert grid.header == ('metric', 'this run', '95 % interval', 'majority', 'logistic regression')
    kind, cells = grid.rows[0]
    assert kind == 'test' and cells[0] == 'test error, 5 labels a class (%)' and cells[3:] == ('75.0', '36.0')
    low, high = (float(x) for x in cells[2].split(' to '))
    assert low == pytest.approx(100 * interval.low, abs=0.6) and high == pytest.approx(100 * interval.high, abs=0.6)
    kinds = {cells[0]: kind for kind, cells in grid.rows}
    assert kinds['source probe error, 5 labels a class (%)'] == 'test'
    assert kinds['test macro f1, 5 labels a class (%)'] == kinds['validation accuracy, 5 labels a class (%)'] == 'other'
