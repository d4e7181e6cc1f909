"""Pictures of runs and comparisons as base64 PNGs. Figures are objects: no global plotting state is touched.

Every function returns {'title', 'caption', 'png', 'wide'}, or None where the runs hold nothing to draw; a
wide one asks for the full width of a page, so that letters keep about one size. Colours are those of
Okabe and Ito (jfly.uni-koeln.de/color), which stay apart for all common kinds of colour blindness; a variant
keeps its colour, line and marker in all pictures of a report.
"""
from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from fipjax.analysis import statistics, table
from fipjax.analysis.runs import Run
from fipjax.evaluators.reconstruction import to_png

BASELINE = '#4D4D4D'
COLOURS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9')
LINES = ('-', '--', ':', '-.')
MARKERS = 'os^Dv<>P'
REFERENCES = {'trivial': ('#000000', '--'), 'chance': ('#666666', ':'), 'ceiling': ('#B30000', '-.')}
TRIVIAL_LINES = ('--', (0, (1, 1)), '-.', (0, (5, 1, 1, 1, 1, 1)))  # where there are several
INCOMPARABLE = {  # by the beginning of a stage's name
    'pretrain': ' The total pretraining loss is weighted: it cannot be compared between variants with other weights or '
                'mask ratios.',
    'stage_1': ' Methods minimise different losses in stage 1, which cannot be compared.'}
MOST_TOGETHER = 6    # more variants than this are drawn in panels of their own
MOST_LINES = 12      # of more variants than this only some have a colour and a name among training curves
OTHERS = '#C4C4C4'
SCORES = ('accuracy', 'soft_accuracy', 'micro_f1')  # that have curves
SMALL = 8            # points
HALF, THIRD = 5.2, 3.3   # inches: a panel in half a page's width, or one of three in the full width


class Style(NamedTuple):
    """How a variant is drawn."""
    colour: str
    line: str
    marker: str


def styles(labels: Sequence[str], baseline: str | None = None) -> dict[str, Style]:
    """A style for each label, by its place; the baseline is dark grey."""
    found = {}
    for label in labels:
        place = len(found) - (baseline in found)
        if label == baseline:
            found[label] = Style(BASELINE, '-', 'o')
        else:
            turn = place // len(COLOURS)
            found[label] = Style(COLOURS[place % len(COLOURS)], LINES[turn % len(LINES)],
                                 MARKERS[(place + turn) % len(MARKERS)])
    return found


def plain(text) -> str:
    """Text for a figure, dollars escaped: a name must not be read as a formula."""
    return str(text).replace('$', r'\$')


def dress(axis, title='', x='', y=''):
    """The look of all axes: small letters, a pale grid, two spines."""
    axis.set_title(plain(title), fontsize=SMALL + 1)
    axis.set_xlabel(plain(x), fontsize=SMALL)
    axis.set_ylabel(plain(y), fontsize=SMALL)
    axis.tick_params(labelsize=SMALL)
    axis.grid(color='#E5E5E5', linewidth=0.6)
    axis.set_axisbelow(True)
    for side in ('top', 'right'):
        axis.spines[side].set_visible(False)


def panels(count: int, width: float = HALF, height: float = 2.9, columns: int = 3, **share):
    """(figure, axes of its first `count` panels); width and height of one in inches."""
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(width * columns, height * rows), layout='constrained')
    axes = figure.subplots(rows, columns, squeeze=False, **share).ravel()
    for axis in axes[count:]:
        axis.set_visible(False)
    return figure, list(axes[:count])


def legend(figure, axes, columns: int = 4, larger: float = 1.0) -> None:
    """One legend below all panels, each label once; marks `larger` than in the panels."""
    entries = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels()):
            entries.setdefault(label, handle)
    if entries:
        figure.legend(entries.values(), entries.keys(), loc='outside lower center', ncols=columns,
                      fontsize=SMALL, frameon=False, markerscale=larger)


def series(runs: Iterable[Run], stage: str, split: str, key: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps [s] and the mean over runs [s] of a logged number, at the steps that all runs with it share."""
    found = [{row['step']: row[key] for row in run.metrics
              if row['stage'] == stage and row['split'] == split and isinstance(row.get(key), int | float)}
             for run in runs]
    found = [values for values in found if values]
    steps = sorted(set.intersection(*map(set, found))) if found else []
    return np.asarray(steps), np.asarray([np.mean([values[step] for values in found]) for step in steps])


def stages(runs: Iterable[Run]) -> list[str]:
    """Names of the logged stages, in order of appearance."""
    return list(dict.fromkeys(row['stage'] for run in runs for row in run.metrics))


def _keys(runs: Iterable[Run], stage: str) -> list[str]:
    names = {key for run in runs for row in run.metrics if row['stage'] == stage for key in row}
    return sorted(name for name in names if name in ('loss', *SCORES) or name.startswith(('loss/', 'weight/')))


def _dot(steps) -> str | None:
    """A marker where a line would not be seen."""
    return 'o' if len(steps) == 1 else None


def curves(run: Run) -> list[dict]:
    """Training curves of one run: a picture a stage; train as lines, validation dashed with dots."""
    pictures = []
    for stage in stages([run]):
        keys = _keys([run], stage)
        losses, weights = ([key for key in keys if key.startswith(start)] for start in ('loss', 'weight/'))
        groups = [group for group in (losses, weights, *([key] for key in keys if key in SCORES)) if group]
        if not groups:
            continue
        figure, axes = panels(len(groups), height=2.9 if len(groups) > 1 else 3.4)
        for axis, group in zip(axes, groups):
            kind = {id(losses): 'loss', id(weights): 'weight of the loss'}.get(id(group), group[0].replace('_', ' '))
            dress(axis, '', 'step', kind)
            look = styles(group, 'loss')
            for key in group:
                for split, line, marker in (('train', '-', None), ('validation', '--', 'o')):
                    if split == 'validation' and group is weights:
                        continue  # a weight is one number, whatever the split
                    steps, values = series([run], stage, split, key)
                    if len(steps):
                        name = key.partition('/')[2] or ('total' if key == 'loss' and len(group) > 1 else key)
                        axis.plot(steps, values, line, marker=marker or _dot(steps), markersize=3,
                                  color=look[key].colour, linewidth=1.3, label=plain(f'{name}, {split}'))
        legend(figure, axes, 4 if len(groups) > 1 else 3)
        pictures.append({'title': f'Curves: {stage}', 'png': to_png(figure), 'wide': len(groups) > 1,
                         'caption': 'Solid: training batches. Dashed with dots: validation.'})
    return pictures


def comparison_curves(runs: Sequence[Run], look: dict[str, Style], marked: Sequence[str] = ()) -> list[dict]:
    """Curves of all variants, means over seeds: a picture a stage; validation where it is logged.

    Of many variants only the `marked` ones have a colour and a name.
    """
    pictures = []
    named = look if len(look) <= MOST_LINES else [label for label in look if label in marked]
    others = f'the {len(look) - len(named)} other variants'
    note = '' if len(named) == len(look) else ' Named: the baseline, and what is best on validation in some column.'
    for stage in stages(runs):
        chosen = []
        for key in _keys(runs, stage):
            split = 'validation' if len(series(runs, stage, 'validation', key)[0]) else 'train'
            chosen.append((key, split))
        if not chosen:
            continue
        figure, axes = panels(len(chosen), width=HALF if len(chosen) < 3 else THIRD, height=2.6)
        for axis, (key, split) in zip(axes, chosen):
            dress(axis, f'{key.replace("_", " ")} ({split})', 'step')
            for label, style in look.items():
                steps, values = series([run for run in runs if run.label == label], stage, split, key)
                if len(steps) and label in named:
                    axis.plot(steps, values, style.line, color=style.colour, linewidth=1.2, label=plain(label),
                              marker=_dot(steps), markersize=3, zorder=3)
                elif len(steps):
                    axis.plot(steps, values, '-', color=OTHERS, linewidth=0.8, marker=_dot(steps), markersize=3,
                              label=others)
        legend(figure, axes, (6 if len(chosen) > 1 else 4) if len(look) <= MOST_LINES else 1 + len(chosen))
        warning = next((text for start, text in INCOMPARABLE.items() if stage.startswith(start)), '')
        pictures.append({'title': f'Curves: {stage}', 'png': to_png(figure), 'wide': len(chosen) > 1,
                         'caption': f'Means over seeds.{warning}{note}'})
    return pictures


def _reference_lines(axis, rows: Sequence[table.Row], metric: str, vertical: bool = False) -> None:
    several = [row.label for row in rows if row.kind == 'trivial' and metric in row.means]
    for row in rows:
        if row.kind in REFERENCES and metric in row.means:
            colour, line = REFERENCES[row.kind]
            if row.kind == 'trivial':
                line = TRIVIAL_LINES[several.index(row.label) % len(TRIVIAL_LINES)]
            draw = axis.axvline if vertical else axis.axhline
            scale = 100 if table.is_share(metric) else 1
            draw(scale * row.means[metric].mean, color=colour, linestyle=line, linewidth=1, label=plain(row.label))


def _by(runs: Sequence[Run], metric: str) -> dict | None:
    """Accuracy by value: {'name', 'value', 'mean', 'low', 'high'}; Wilson for one run, else t over seeds."""
    found = [run.result.get('details', {}).get(metric, {}).get('accuracy_by') for run in runs]
    found = [details for details in found if details]
    if not found:
        return None
    values = sorted(set.intersection(*(set(details['value']) for details in found)))
    rows = [dict(zip(d['value'], zip(d['correct'], d['count'], d['low'], d['high']))) for d in found]
    mean, low, high = [], [], []
    for value in values:
        shares = [row[value][0] / max(row[value][1], 1) for row in rows]
        centre = statistics.mean_interval(shares)
        mean.append(centre.mean)
        low.append(rows[0][value][2] if len(rows) == 1 else max(0, centre.mean - centre.half))
        high.append(rows[0][value][3] if len(rows) == 1 else min(1, centre.mean + centre.half))
    return {'name': found[0]['name'], 'value': np.asarray(values), 'mean': 100 * np.asarray(mean),
            'low': 100 * np.asarray(low), 'high': 100 * np.asarray(high), 'seeds': len(rows)}


def unit(name: str) -> str:
    """'snr_db' -> 'SNR (dB)'; other names with spaces for underscores."""
    return {'snr_db': 'SNR (dB)'}.get(name, name.replace('_', ' '))


def _draw_by(axis, found: dict, style: Style, label: str, quiet: bool = False) -> None:
    x, colour = found['value'], style.colour
    axis.plot(x, found['mean'], style.line, color=colour, marker=None if quiet else style.marker,
              markersize=3.5, linewidth=1 if quiet else 1.5, label=plain(label), zorder=2 if quiet else 3)
    if not quiet:
        axis.fill_between(x, found['low'], found['high'], color=colour, alpha=0.15, linewidth=0)


def accuracy_by(runs: Sequence[Run], metric: str, look: dict[str, Style], baseline: str | None = None,
                rows: Sequence[table.Row] = ()) -> dict | None:
    """Accuracy by a fact about the test examples (SNR), with 95 % bands.

    Up to 6 variants share a panel; more get one each, with the baseline behind it in grey.

    Args:
        runs: one or several variants, one or several seeds.
        metric: such as 'test/accuracy@5'.
        look: style by label.
        baseline: label drawn in every panel.
        rows: rows of a table, for the lines of trivial baseline, chance and ceiling.
    """
    found = {label: _by([run for run in runs if run.label == label], metric) for label in look}
    found = {label: values for label, values in found.items() if values}
    if not found:
        return None
    name = unit(next(iter(found.values()))['name'])
    if len(found) <= MOST_TOGETHER:
        figure, axes = panels(1, height=3.6)
        dress(axes[0], '', name, 'accuracy (%)')
        for label, values in found.items():
            _draw_by(axes[0], values, look[label], label)
        _reference_lines(axes[0], rows, metric)
    else:
        others = [label for label in found if label != baseline]
        figure, axes = panels(len(others), width=2.5, height=2.1, columns=4, sharex=True, sharey=True)
        for place, (axis, label) in enumerate(zip(axes, others)):
            last = place + 4 >= len(others)
            dress(axis, label, name if last else '', '' if place % 4 else 'accuracy (%)')
            axis.tick_params(labelbottom=last)
            if baseline in found:
                _draw_by(axis, found[baseline], Style('#888888', '--', 'o'), baseline, quiet=True)
            _draw_by(axis, found[label], Style(look[label].colour, '-', 'o'), '_')
    low = min(values['low'].min() for values in found.values())
    axes[0].set_ylim(max(0, min(low, *(100 * row.means[metric].mean for row in rows if metric in row.means
                                       and len(found) <= MOST_TOGETHER), 100) - 4), 101)
    legend(figure, axes, 3)
    one = all(values['seeds'] == 1 for values in found.values())
    band = 'Wilson intervals over test examples' if one else 't-intervals over seeds'
    reference = ' Dashed and dotted levels are averages over all examples.' if rows and len(
        found) <= MOST_TOGETHER else ''
    return {'title': f'{table.heading(metric)} by {name}', 'png': to_png(figure),
            'wide': len(found) > MOST_TOGETHER,
            'caption': f'Bands: 95 % {band}.{reference}'}


def confusion(runs: Sequence[Run], metric: str, label: str = '') -> dict | None:
    """Confusion matrix, counts added over runs and shown as percent of each true class."""
    found = [run.result.get('details', {}).get(metric, {}) for run in runs]
    found = [details for details in found if details.get('confusion')]
    if not found:
        return None
    names = found[0].get('classes')
    found = [details for details in found if details.get('classes') == names]
    counts = np.sum([details['confusion'] for details in found], axis=0)
    classes = [plain(name) for name in names or range(len(counts))]
    share = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    size = 1.7 + 0.29 * len(classes)
    figure = Figure(figsize=(size + 0.6, size), layout='constrained')
    axis = figure.subplots()
    picture = axis.imshow(share, cmap='cividis', vmin=0, vmax=100)
    for row, column in zip(*np.nonzero(share >= 0.5)):
        axis.text(column, row, f'{share[row, column]:.0f}', ha='center', va='center', fontsize=6.5,
                  color='white' if share[row, column] < 55 else 'black')
    axis.set_xticks(range(len(classes)), classes, rotation=60, ha='right', rotation_mode='anchor', fontsize=7)
    axis.set_yticks(range(len(classes)), classes, fontsize=7)
    axis.set_xlabel('predicted', fontsize=SMALL)
    axis.set_ylabel('true', fontsize=SMALL)
    bar = figure.colorbar(picture, ax=axis, shrink=0.8)
    bar.ax.tick_params(labelsize=7)
    title = f'Confusion, {table.heading(metric).removesuffix(" (%)")}' + (f': {label}' if label else '')
    caption = f'Percent of each true class, {counts.sum():,} answers'
    return {'title': title, 'png': to_png(figure), 'wide': False,
            'caption': caption + (f' of {len(found)} runs.' if len(found) > 1 else '.')}


def bars(found: table.Table, runs: Sequence[Run], metric: str, look: dict[str, Style]) -> dict | None:
    """Mean of a metric by variant with its interval, every seed a dot, references as lines."""
    rows = [row for row in found.variants() if metric in row.means]
    if not rows:
        return None
    scale = 100 if table.is_share(metric) else 1
    figure, (axis,) = panels(1, height=1.2 + 0.26 * len(rows))
    dress(axis, '', table.heading(metric))
    axis.grid(axis='y', visible=False)
    for place, row in enumerate(rows):
        style, mean = look[row.label], row.means[metric]
        axis.barh(place, scale * mean.mean, height=0.62, color=style.colour, alpha=0.3)
        if mean.half is not None:
            axis.errorbar(scale * mean.mean, place, xerr=scale * mean.half, color=style.colour, capsize=3,
                          linewidth=1.6)
        values = [run.result['metrics'][metric] for run in runs
                  if run.label == row.label and metric in run.result['metrics']]
        shift = np.linspace(-0.18, 0.18, len(values)) if len(values) > 1 else [0]
        axis.plot(scale * np.asarray(values), place + np.asarray(shift), 'o', color=style.colour,
                  markersize=3.4, markeredgecolor='white', markeredgewidth=0.4)
    axis.set_yticks(range(len(rows)), [plain(row.label) for row in rows])
    axis.set_ylim(len(rows) - 0.4, -0.6)
    _reference_lines(axis, found.rows, metric, vertical=True)
    legend(figure, [axis], 3)
    return {'title': f'{table.heading(metric)} by variant', 'png': to_png(figure), 'wide': False,
            'caption': 'Bar: mean over seeds, with its 95 % t-interval. Dots: single seeds.'}


def forest(found: table.Table, look: dict[str, Style]) -> dict | None:
    """Differences to the baseline paired by seed, with 95 % t-intervals; a panel a metric."""
    metrics = [m for m in found.judged() if any(m in row.differences for row in found.variants())]
    if not metrics:
        return None
    rows = [row for row in found.variants() if row.differences]
    width = HALF / len(metrics) if len(metrics) < 3 else 2.6 if len(metrics) == 4 else THIRD
    figure, axes = panels(len(metrics), width=width, height=1.2 + 0.26 * len(rows), sharey=True,
                          columns=4 if len(metrics) == 4 else 3)
    for axis, metric in zip(axes, metrics):
        scale = 100 if table.is_share(metric) else 1
        title = table.heading(metric).removesuffix(' (%)').replace(', ', ',\n', 1)
        dress(axis, title, 'points' if scale == 100 else 'difference')
        axis.axvline(0, color=BASELINE, linewidth=1)
        for place, row in enumerate(rows):
            difference = row.differences.get(metric)
            if difference is None:
                continue
            half = None if difference.half is None else scale * difference.half
            clear = half is not None and abs(scale * difference.mean) > half
            colour = look[row.label].colour
            axis.errorbar(scale * difference.mean, place, xerr=half, fmt='o', color=colour, capsize=3,
                          markersize=5, markerfacecolor=colour if clear else 'white', linewidth=1.5)
        axis.set_yticks(range(len(rows)), [plain(row.label) for row in rows])
        axis.set_ylim(len(rows) - 0.4, -0.6)
    return {'title': f'Difference to {found.baseline}, paired by seed', 'png': to_png(figure),
            'wide': len(metrics) > 2,
            'caption': 'Mean difference with its 95 % t-interval. Filled: the interval excludes zero. '
                       'Not corrected for the number of comparisons.'}
