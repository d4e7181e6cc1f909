"""Answers of a grid: pairs that differ in one factor only, means within and intervals over seeds, words for them."""
import itertools
import json
import subprocess
import sys

import fake_grid
import fake_runs
import numpy as np
import pytest
from fake_grid import cell
from scipy import stats

from fipjax.analysis import questions, runs
from fipjax.errors import UserError

VQA, GENRES = 'test/vqa/soft_accuracy@100%', 'test/genres/micro_f1@100%'
TASKS = ('vqa', 'genres')


def run(data='coco', seed=0, metrics=None, wing='vlp', change=(), **settings):
    """A finished run; `change` are dotted keys of its config."""
    config = {**fake_grid.config(data, seed=seed, **settings), 'wing': wing}
    for key, value in dict(change).items():
        *groups, leaf = key.split('.')
        place = config
        for group in groups:
            place = place[group]
        place[leaf] = value
    metrics = {VQA: 0.5} if metrics is None else metrics
    return runs.Run(None, data, seed, config, [], {'metrics': {**metrics, 'other': 1.0}, 'headline': list(metrics)})


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A comparison of four sets, two objectives and two modes; one run is not finished."""
    return fake_grid.write(tmp_path_factory.mktemp('grid'), ('none', 'coco', 'cc', 'ccg'), modes=('full', 'frozen'),
                           tasks=TASKS, missing=[('ccg_mmm_visualbert_full', 2)])


# --- Cells ------------------------------------------------------------------------------------------------------------

def test_cells_have_factors_seed_and_headline_metrics():
    found, = questions.cells([run('cc', 3, {VQA: 0.4, GENRES: 0.7}, share=0.5, objective='mmm', tied=False)])
    assert found.seed == 3 and found.metrics == {VQA: 0.4, GENRES: 0.7}
    assert found.factors == cell(data='cc', share=0.5, objective='mmm', tied=False).factors
    assert set(questions.FACTORS) < set(found.factors)


def test_runs_of_other_wings_are_left_out():
    assert questions.cells([run(wing='fip'), run(), run(wing='mona')]) == questions.cells([run()])
    assert questions.cells([run(wing='fip')]) == [] == questions.effects([])


def test_without_pretraining_its_settings_say_nothing():
    one, two = questions.cells([run('none', objective='mlm'), run('none', objective='mmm', share=0.1, steps=7)])
    assert one.factors == two.factors
    assert one.factors['objective'] == one.factors['share'] == one.factors['tied'] == 'none'
    assert one.factors['model'] == 'visualbert' and one.factors['inputs'] == 'both'


def test_what_else_differs_is_a_factor():
    found = questions.cells([run(seed=0), run(seed=1, steps=9), run(change={'text.length': 3}),
                             run(change={'variant': 'x', 'name': 'y', 'pretrain.workdir': 'z'})])
    assert [c.factors['setting'] for c in found] == [f'text.length={n}' for n in (24, 24, 3, 24)]
    assert [c.factors['pretraining'] for c in found] == [f'pretrain.steps={n}' for n in (1000, 9, 1000, 1000)]
    same = questions.cells([run(), run(change={'variant': 'x', 'name': 'y', 'pretrain.workdir': 'z'})])
    assert same[0].factors == same[1].factors == cell().factors


# --- Differences ------------------------------------------------------------------------------------------------------

def test_an_effect_is_the_mean_within_seeds_and_students_interval_over_them():
    rng = np.random.default_rng(0)
    values = {k: rng.random() for k in itertools.product(('coco', 'cc'), ('mlm', 'mmm'), ('full', 'frozen'), range(3))}
    found = questions.effect([cell(s, v, data=d, objective=o, mode=m) for (d, o, m, s), v in values.items()], 'RQ1',
                             'data', 'coco', 'cc', VQA)
    by_seed = [np.mean([values['coco', o, m, s] - values['cc', o, m, s]
                        for o in ('mlm', 'mmm') for m in ('full', 'frozen')]) for s in range(3)]
    assert found.mean == pytest.approx(np.mean(by_seed)) and (found.seeds, found.pairs) == (3, 12)
    assert found.half == pytest.approx(stats.t.ppf(0.975, 2) * np.std(by_seed, ddof=1) / 3 ** 0.5)
    assert found.p == pytest.approx(stats.ttest_1samp(by_seed, 0).pvalue)
    assert found[:5] == ('RQ1', 'data', 'coco', 'cc', VQA)


@pytest.mark.parametrize('other', [
    {'objective': 'mmm'}, {'model': 'vilbert'}, {'mode': 'frozen'}, {'inputs': 'text'}, {'share': 0.5}, {'tied': False},
    {'seen': 'text'}, {'mismatched': True}, {'zero': True}, {'padded': True}, {'pretraining': 'x'}, {'setting': 'x'}])
def test_pairs_differ_in_nothing_else(other):
    assert questions.effect([cell(data='coco'), cell(data='cc', **other)], 'RQ1', 'data', 'coco', 'cc', VQA) is None
    both = [cell(value=0.5), cell(value=0.25, data='cc'), cell(value=0.9, data='cc', **other)]
    found = questions.effect(both, 'RQ1', 'data', 'coco', 'cc', VQA)
    assert (found.mean, found.pairs) == (0.25, 1)


def test_pairs_have_one_seed_and_one_metric():
    a, b = cell(0), cell(1, data='cc')
    assert questions.effect([a, b], 'RQ1', 'data', 'coco', 'cc', VQA) is None
    assert questions.effect([a, cell(0, metric=GENRES, data='cc')], 'RQ1', 'data', 'coco', 'cc', VQA) is None


def test_no_pretraining_is_compared_with_every_way_of_pretraining():
    found = [cell(value=0.4, data='none'), cell(value=0.5), cell(value=0.7, objective='mmm', share=0.5),
             cell(value=0.9, model='vilbert')]
    effect = questions.effect(found, 'RQ5', 'data', 'coco', 'none', VQA)
    assert effect.mean == pytest.approx(0.2) and effect.pairs == 2  # not with the other model


def test_one_seed_has_no_interval_and_shows_nothing():
    found = questions.effect([cell(value=0.9), cell(value=0.1, data='cc')], 'RQ1', 'data', 'coco', 'cc', VQA)
    assert found.half is None and found.p is None and not found.shown
    shown = questions.Effect('RQ1', 'data', 'a', 'b', VQA, -0.2, 0.1, 0.01, 3, 3)
    assert shown.shown and not shown._replace(half=0.2).shown and shown._replace(mean=0.11).shown


def grid(**values):
    return [cell(**dict(zip(values, c, strict=True))) for c in itertools.product(*values.values())]


@pytest.mark.parametrize('found, wanted', [
    (grid(data=('coco', 'cc', 'vqa')), [('RQ1', 'data', 'coco', 'cc'), ('RQ1', 'data', 'coco', 'vqa'),
                                        ('RQ1', 'data', 'cc', 'vqa')]),
    (grid(data=('cc', 'cc_small')), [('RQ2', 'data', 'cc', 'cc_small')]),
    (grid(share=(0.1, 1.0, 0.5)), [('RQ2', 'share', 1.0, 0.5), ('RQ2', 'share', 1.0, 0.1)]),
    (grid(data=('none', 'ccg')), [('RQ5', 'data', 'ccg', 'none')]),
    (grid(data=('ccg', 'cc')), [('RQ3', 'data', 'ccg', 'cc')]),
    (grid(objective=('mlm', 'mmm')), [('RQ4', 'objective', 'mmm', 'mlm')]),
    (grid(model=('visualbert', 'vilbert')), [('RQ4', 'model', 'vilbert', 'visualbert')]),
    (grid(mode=('frozen', 'full')), [('RQ5', 'mode', 'full', 'frozen')]),
    (grid(mismatched=(False, True), zero=(False, True)), [('confound', 'mismatched', True, False),
                                                          ('confound', 'zero', True, False)]),
    (grid(inputs=('text', 'both', 'regions')), [('inputs', 'inputs', 'both', 'text'),
                                                ('inputs', 'inputs', 'both', 'regions')]),
    (grid(inputs=('text', 'regions')), []), ([cell()], []), ([], [])])
def test_contrasts_are_those_that_the_grid_has(found, wanted):
    assert questions.contrasts(found) == wanted
    assert {q for q, *_ in wanted} <= set(questions.ASKED)


def test_effects_of_a_comparison(folder):
    """Every number again from the files, by loops."""
    done = runs.load_comparison(folder)
    scores = {(r.label, r.seed): r.result['metrics'] for r in done}
    found = {(e.question, e.factor, e.mode, e.a, e.b, e.metric): e for e in questions.effects(done)}
    # Tasks; in both modes coco-cc, ccg-coco and -cc, objective, 3 against none; and the modes.
    assert len(found) == 2 * (2 * (1 + 2 + 1 + 3) + 1)
    for metric, mode in itertools.product(map(fake_grid.metric, TASKS), ('full', 'frozen')):
        by_seed = {s: [scores[f'ccg_{o}_visualbert_{mode}', s][metric] - scores[f'cc_{o}_visualbert_{mode}', s][metric]
                       for o in ('mlm', 'mmm') if (f'ccg_{o}_visualbert_{mode}', s) in scores] for s in range(3)}
        effect = found['RQ3', 'data', mode, 'ccg', 'cc', metric]
        assert effect.mean == pytest.approx(np.mean([np.mean(v) for v in by_seed.values()]))
        assert sum(len(v) for v in by_seed.values()) == effect.pairs == (5 if mode == 'full' else 6)
        assert found['RQ5', 'data', mode, 'coco', 'none', metric].pairs == 6
        assert found['RQ5', 'mode', '', 'full', 'frozen', metric].shown


# --- Words ------------------------------------------------------------------------------------------------------------

def effect(mean, half=0.01, metric=VQA, b='cc', question='RQ1'):
    return questions.Effect(question, 'data', 'coco', b, metric, mean, half, None if half is None else 0.03, 3, 12)


def test_answers_say_what_is_shown_and_what_is_not():
    found = questions.answers([effect(0.034), effect(-0.02, metric=GENRES), effect(0.005, b='vqa'),
                               effect(0.2, None, GENRES, 'vqa')])
    assert found[0] == ('RQ1, data: coco against cc: better on vqa 100% +3.4 ± 1.0; worse on genres 100% -2.0 ± 1.0 '
                        '(3 seeds, 12 pairs of runs).')
    assert found[1] == ('RQ1, data: coco against vqa: nothing shown on vqa 100% +0.5 ± 1.0, genres 100% +20.0 '
                        '(3 seeds, 12 pairs of runs).')
    assert questions.answers([effect(0.034)._replace(mode='frozen')])[0].startswith('RQ1, data, frozen: coco against')
    assert '95 % t-interval over seeds' in found[2]
    assert found[3].startswith('3 differences are tested at 5 % each, uncorrected: expect about 0.2 to stand out')
    assert len(questions.answers([effect(0.2, None)])) == 1  # nothing is tested
    assert questions.answers([]) == []


def test_markdown_has_a_row_for_each_difference_and_says_what_is_asked():
    text = questions.markdown([effect(0.034), effect(0.2, None, GENRES, 'none', 'RQ5')])
    lines = text.splitlines()
    assert lines[2] == '| RQ1 | data |  | coco - cc | vqa 100% | +3.4 | ± 1.0 | 0.03 | 3 | 12 |'
    assert lines[3] == '| RQ5 | data |  | coco - none | genres 100% | +20.0 | - | - | 3 | 12 |'
    assert f'- RQ5: {questions.ASKED["RQ5"]}' in lines and 'RQ3' not in text
    assert '- RQ1, data: coco against cc: better on' in text


# --- The command ------------------------------------------------------------------------------------------------------

def test_command_writes_what_the_report_shows(folder):
    said = questions.write(str(folder))
    found = questions.effects(runs.load_comparison(folder))
    assert (folder / 'questions.md').read_text(encoding='utf-8') == questions.markdown(found) + '\n'
    assert (folder / 'heatmap.png').read_bytes().startswith(b'\x89PNG')
    kept = json.loads((folder / 'heatmap.json').read_text())
    assert kept['effects'] == [e._asdict() | {'shown': e.shown} for e in found]
    assert all(sentence in said for sentence in questions.answers(found))
    assert all(str(folder / name) in said for name in ('questions.md', 'heatmap.png', 'heatmap.json'))


def test_wrong_input_is_said(tmp_path):
    done = subprocess.run([sys.executable, '-m', 'fipjax.analysis.questions'], capture_output=True, text=True,
                          timeout=300)
    assert done.returncode == 2 and '--workdir is missing; usage' in done.stderr and 'Traceback' not in done.stderr
    with pytest.raises(UserError, match='comparison.json: cannot be read'):
        questions.write(str(tmp_path / 'nowhere'))
    fake_runs.write_comparison(tmp_path, {'uniform': {0: None}})
    with pytest.raises(UserError, match=f'{tmp_path}: no finished run of wing vlp'):
        questions.write(str(tmp_path))
    fake_runs.write_transfers(tmp_path / 'mona', methods=('mona',), seeds=(0,))
    with pytest.raises(UserError, match='no finished run of wing vlp'):
        questions.write(str(tmp_path / 'mona'))
    assert not (tmp_path / 'questions.md').exists()
