"""Pictures: what is drawn, in which colours, and nothing where there is nothing."""
import base64
import io

import fake_runs
import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from fipjax.analysis import pictures, runs, table

A5 = 'test/accuracy@5'


def load(tmp_path, labels=('uniform', 'fip'), seeds=2):
    fake_runs.write_comparison(tmp_path, {label: {s: {A5: 0.5 + 0.01 * s} for s in range(seeds)}
                                          for label in labels})
    done = runs.load_comparison(tmp_path)
    return done, table.summarise(done, plan=runs.load_plan(tmp_path)), pictures.styles(labels, 'uniform')


def size(picture):
    image = Image.open(io.BytesIO(base64.b64decode(picture['png'])))
    assert image.format == 'PNG' and set(picture) == {'title', 'caption', 'png', 'wide'}
    return image.size


def test_styles_are_different_and_stable():
    labels = ['fip', 'uniform', *(f'v{k}' for k in range(14))]
    look = pictures.styles(labels, 'uniform')
    assert len({(style.colour, style.line) for style in look.values()}) == len(labels)
    assert look['uniform'] == (pictures.BASELINE, '-', 'o') and look['fip'].colour == pictures.COLOURS[0]
    assert look['v0'] == pictures.styles(labels[:3], 'uniform')['v0']


def test_series_is_the_mean_over_runs_at_shared_steps():
    rows = [[{'stage': 'pretrain', 'split': 'train', 'step': step, 'loss': value} for step, value in values]
            for values in (((1, 2.0), (2, 1.0), (3, 0.5)), ((1, 4.0), (2, 3.0)), ())]
    found = [runs.Run(None, 'a', k, {}, row, {}) for k, row in enumerate(rows)]
    steps, values = pictures.series(found, 'pretrain', 'train', 'loss')
    assert steps.tolist() == [1, 2] and values.tolist() == [3.0, 2.0]
    assert pictures.series(found, 'pretrain', 'validation', 'loss')[0].size == 0


def test_curves_of_a_run_have_a_picture_a_stage(tmp_path):
    done, _, look = load(tmp_path)
    found = pictures.curves(done[0])
    assert [picture['title'] for picture in found] == ['Curves: pretrain', 'Curves: finetune_5']
    assert size(found[1])[0] > size(found[0])[0]
    assert len(pictures.comparison_curves(done, look)) == 2


def test_a_curve_of_one_point_is_seen(monkeypatch):
    figures, png = [], pictures.to_png
    monkeypatch.setattr(pictures, 'to_png', lambda figure: figures.append(figure) or png(figure))
    for steps, marker in (((20,), 'o'), ((10, 20), 'None')):
        rows = [{'stage': 'pretrain', 'split': 'train', 'step': step, 'loss': 1.0} for step in steps]
        run = runs.Run(None, 'a', 0, {}, rows, {})
        pictures.curves(run)
        pictures.comparison_curves([run], pictures.styles(['a'], 'a'))
        drawn = [line for figure in figures[-2:] for line in figure.axes[0].lines]
        assert [line.get_marker() for line in drawn] == [marker] * 2


def test_accuracy_by_snr_of_one_run_has_its_wilson_interval(tmp_path):
    done, _, _ = load(tmp_path)
    details = done[0].result['details'][A5]['accuracy_by']
    found = pictures._by(done[:1], A5)
    np.testing.assert_allclose(found['low'], 100 * np.asarray(details['low']))
    np.testing.assert_allclose(found['mean'], 100 * np.divide(details['correct'], details['count']))
    assert pictures._by(done[:2], A5)['seeds'] == 2


@pytest.mark.parametrize('labels', [('uniform', 'fip'), ('uniform', *'abcdefgh')])
def test_accuracy_by_snr_of_variants(tmp_path, labels):
    done, found, look = load(tmp_path, labels)
    picture = pictures.accuracy_by(done, A5, look, 'uniform', found.rows)
    assert picture['title'] == 'test accuracy, 5 labels a class (%) by SNR (dB)'
    assert picture['wide'] == (len(labels) > 6) and min(size(picture)) > 200
    assert 't-intervals over seeds' in picture['caption']


def test_a_variant_with_one_seed_is_drawn(tmp_path):
    done, found, look = load(tmp_path, seeds=1)
    assert 'Wilson' in pictures.accuracy_by(done, A5, look, 'uniform', found.rows)['caption']
    size(pictures.bars(found, done, A5, look))
    size(pictures.forest(found, look))


def test_confusion_adds_runs_up(tmp_path):
    done, _, _ = load(tmp_path)
    picture = pictures.confusion(done, A5, 'all')
    assert picture['caption'] == 'Percent of each true class, 1,320 answers of 4 runs.'
    size(picture)


def test_nothing_to_draw_is_none(tmp_path):
    fake_runs.write_run(tmp_path, {**fake_runs.result(metrics={'test/error@5': 0.2}), 'details': {}}, rows=[])
    run = runs.load_run(tmp_path)
    look = pictures.styles([run.label])
    assert pictures.accuracy_by([run], 'test/error@5', look) is None
    assert pictures.confusion([run], 'test/error@5') is None
    assert pictures.curves(run) == [] == pictures.comparison_curves([run], look)
    assert pictures.forest(table.summarise([run]), look) is None


def test_dollars_in_names_are_not_formulas(tmp_path):
    done, found, look = load(tmp_path, ('uniform', 'a$^$b'))
    size(pictures.bars(found, done, A5, look))
    assert pictures.plain('$x$') == r'\$x\$'


def test_no_global_plotting_state(tmp_path):
    before = dict(matplotlib.rcParams)
    done, found, look = load(tmp_path)
    first = pictures.bars(found, done, A5, look)
    assert dict(matplotlib.rcParams) == before
    assert pictures.bars(found, done, A5, look) == first  # the same bytes again


def test_trivial_baselines_are_lines_that_can_be_told_apart(tmp_path):
    fake_runs.write_transfers(tmp_path, methods=('finetune', 'mona'), seeds=(0,), labels=(5,))
    done = runs.load_comparison(tmp_path)
    found = table.summarise(done)
    figure = Figure()
    axis = figure.subplots()
    pictures._reference_lines(axis, found.rows, 'test/error@5', vertical=True)
    assert [line.get_label() for line in axis.lines] == ['majority', 'logistic regression']
    assert [line.get_xdata()[0] for line in axis.lines] == [75.0, 36.0]
    assert len({str(line._dash_pattern) for line in axis.lines}) == 2


def test_of_many_variants_only_some_training_curves_are_named(tmp_path, monkeypatch):
    labels = [f'v{k}' for k in range(pictures.MOST_LINES + 1)]
    done, _, _ = load(tmp_path, labels, 1)
    figures, png = [], pictures.to_png
    monkeypatch.setattr(pictures, 'to_png', lambda figure: figures.append(figure) or png(figure))
    for shown, named in ((labels, ['v3', 'the 12 other variants']), (labels[:-1], labels[:-1])):
        found = pictures.comparison_curves(done, pictures.styles(shown, 'v0'), ('v3', 'not there'))
        figure = figures[-len(found)]
        assert sorted(t.get_text() for t in figure.legends[0].get_texts()) == sorted(named)
        assert len(figure.axes[0].lines) == len(shown)
        assert ('Named: the baseline' in found[0]['caption']) == (shown is labels)


def test_scores_of_all_wings_have_curves(tmp_path):
    rows = [{'stage': 's', 'split': 'train', 'step': k, **{name: 0.1 * k for name in ('loss', name, 'grad_norm')}}
            for name in pictures.SCORES for k in (1, 2)]
    found = [runs.Run(None, 'a', 0, {}, rows, {})]
    assert pictures._keys(found, 's') == sorted(['loss', *pictures.SCORES])
    assert len(pictures.curves(found[0])) == 1
