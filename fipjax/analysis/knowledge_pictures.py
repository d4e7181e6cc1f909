"""Pictures of what runs of the wing 'mona' kept of source knowledge; as those of fipjax.analysis.pictures."""
from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from fipjax.analysis import pictures
from fipjax.analysis.knowledge import DISTORTING, Point, count, distorted, rank_correlation
from fipjax.analysis.pictures import HALF, SMALL, THIRD, Style, plain
from fipjax.evaluators.reconstruction import to_png

# Of source classes: Okabe and Ito's without their grey, then grey and a brown.
CLASSES = (*pictures.COLOURS, '#F0E442', '#000000', '#999999', '#8C510A')
MOST_WRITTEN = 24  # bars of a panel that still have their values written above them


class Cloud(NamedTuple):
    """Features of source examples on a plane: a title, xy [n, 2]."""
    title: str
    xy: np.ndarray


def _styles(found: Sequence[Point], look: Mapping[str, Style], baseline: str | None = None) -> dict[str, Style]:
    """A style for each group: its own in `look`, where all have one."""
    names = list(dict.fromkeys(p.group for p in found))
    return {n: look[n] for n in names} if all(n in look for n in names) else pictures.styles(names, baseline)


def _marker(place: int) -> str:
    return pictures.MARKERS[place % len(pictures.MARKERS)]


def probe_curves(found: Sequence[Point], look: Mapping[str, Style] = {}, baseline: str | None = None) -> dict | None:
    """Probe error on source data against steps of stage 2, a panel a target and number of labels.

    Means over seeds at the steps that all seeds share; bands from the lowest to the highest seed. The paper's Figure 3
    (MoNA, arXiv 2406.18864).

    Args:
        found: from knowledge.points.
        look: style by group; where one is missing all are made anew, `baseline` dark grey.
    """
    found = [p for p in found if p.curve]
    if not found:
        return None
    look, places = _styles(found, look, baseline), list(dict.fromkeys(p.where for p in found))
    rows, labels = len({p.target for p in found}), len({p.labels for p in found})
    columns = labels if rows > 1 and len(places) == rows * labels and labels in (2, 3) else min(len(places), 3)
    figure, axes = pictures.panels(len(places), width=HALF if columns < 3 else THIRD, height=3.2 if rows == 1 else 2.5,
                                   columns=columns, sharey=True)
    for i, (axis, place) in enumerate(zip(axes, places, strict=True)):
        here = [p for p in found if p.where == place]
        pictures.dress(axis, place, 'step of stage 2', '' if i % columns else 'source probe error (%)')
        before = [p.before for p in here if p.before is not None]
        if before:
            axis.axhline(100 * np.mean(before), color='black', linestyle=':', linewidth=1.2, zorder=4,
                         label='source encoder before')
        for group, style in look.items():
            curves = [dict(p.curve) for p in here if p.group == group]
            steps = sorted(set.intersection(*map(set, curves))) if curves else []
            if not steps:
                continue
            values = 100 * np.array([[c[s] for s in steps] for c in curves])
            axis.plot(steps, values.mean(0), style.line, color=style.colour, marker=style.marker, markersize=4,
                      linewidth=1.5, label=plain(group))
            if len(curves) > 1:
                axis.fill_between(steps, values.min(0), values.max(0), color=style.colour, alpha=0.15, linewidth=0)
    pictures.legend(figure, axes, 7 if len(places) > 1 else 3)
    seeds = max(collections.Counter((p.where, p.group) for p in found).values())
    over = f'Means over up to {seeds} seeds; bands from the lowest to the highest.' if seeds > 1 else 'One seed.'
    return {'title': 'Source probe error in stage 2', 'png': to_png(figure), 'wide': len(places) > 1,
            'caption': 'Error of a linear probe on source test features, trained on source features of the same '
                       f'encoder. {over}'}


def discrepancy_bars(found: Sequence[Point], look: Mapping[str, Style] = {},
                     baseline: str | None = None) -> dict | None:
    """D of each target by group, means over seeds, each seed a dot; a panel a number of labels, or, of one target, one
    panel with the numbers of labels side by side. The paper's Figure 4.

    Arguments as `probe_curves`.
    """
    found = [p for p in found if p.discrepancy is not None]
    if not found:
        return None
    look = _styles(found, look, baseline)
    one = len({p.target for p in found}) == 1
    key = (lambda p: count(p.labels)) if one else (lambda p: p.target)
    panel = (lambda p: p.target) if one else (lambda p: count(p.labels))
    places, names = (list(dict.fromkeys(map(f, found))) for f in (panel, key))
    crowded = len(look) * len(names) > MOST_WRITTEN
    figure, axes = pictures.panels(len(places), width=2 * HALF if crowded else HALF, height=3.2,
                                   columns=1 if crowded else 2, sharey=True)
    step = 0.84 / len(look)
    distances = sorted({p.distance for p in found if p.distance})
    for i, (axis, place) in enumerate(zip(axes, places, strict=True)):
        pictures.dress(axis, place, '', '' if i % 2 and not crowded else f'discrepancy D ({", ".join(distances)})')
        axis.grid(axis='x', visible=False)
        for turn, (group, style) in enumerate(look.items()):
            for k, name in enumerate(names):
                values = [p.discrepancy for p in found if (panel(p), key(p), p.group) == (place, name, group)]
                if not values:
                    continue
                x = k + (turn - (len(look) - 1) / 2) * step
                axis.bar(x, np.mean(values), 0.9 * step, color=style.colour, alpha=0.45, label=plain(group))
                shift = np.linspace(-0.25, 0.25, len(values)) * step if len(values) > 1 else [0]
                axis.plot(x + np.asarray(shift), values, 'o', color=style.colour, markersize=3, markeredgecolor='white',
                          markeredgewidth=0.4)
                if not crowded:
                    axis.annotate(f'{np.mean(values):.3f}', (x, max(values)), (0, 4), textcoords='offset points',
                                  ha='center', va='bottom', fontsize=SMALL - 2, rotation=90)
        axis.set_xticks(range(len(names)), map(plain, names))
        axis.margins(y=0.18)
    wide = crowded or len(places) > 1
    pictures.legend(figure, axes, 6 if wide else 4)
    return {'title': 'Knowledge discrepancy D by target', 'png': to_png(figure), 'wide': wide,
            'caption': 'Bars: means over seeds, dots: single seeds. Of the source model on validation inputs, through '
                       'the embedder that stage 2 starts from. Lower: the target looks more like the source.'}


def distortion(found: Sequence[Point], look: Mapping[str, Style] = {}, baseline: str | None = None) -> dict | None:
    """How far the source probe error rose in stage 2, against D: a dot a run. Arguments as `probe_curves`."""
    found = [p for p in found if None not in (p.before, p.after, p.discrepancy)]
    if len(found) < 2:
        return None
    one = len({p.target for p in found}) == 1
    name = (lambda p: count(p.labels)) if one else (lambda p: p.target)
    look, places = _styles(found, look, baseline), list(dict.fromkeys(map(name, found)))
    figure, (axis,) = pictures.panels(1, height=3.8)
    pictures.dress(axis, '', 'discrepancy D', 'rise of source probe error (points)')
    axis.axhline(0, color='black', linestyle=':', linewidth=1.2)
    for p in found:
        colour, full = look[p.group].colour, p.method in DISTORTING
        axis.plot(p.discrepancy, 100 * (p.after - p.before), _marker(places.index(name(p))), color=colour,
                  markersize=5.5, markerfacecolor=colour if full else 'none', alpha=0.85, linestyle='none')
    for group, style in look.items():
        axis.plot([], [], color=style.colour, linewidth=5, label=plain(group))
    for k, place in enumerate(places if len(places) > 1 else ()):
        axis.plot([], [], _marker(k), color='#888888', markersize=5, linestyle='none', label=plain(place))
    pictures.legend(figure, [axis], 3)
    counted = distorted(found)
    said = f'Spearman correlation over the filled marks: {_rank(counted)}'
    if not one:
        said += '; within targets: ' + ', '.join(
            f'{place} {_rank([p for p in counted if p.target == place])}' for place in places)
    return {'title': 'Distortion of the source model against D', 'png': to_png(figure), 'wide': False,
            'caption': f'{said}. A mark is a run with one number of labels. Hollow: methods that do not start from the '
                       'source encoder or do not train it.'}


def _rank(found: Sequence[Point]) -> str:
    rank = rank_correlation(found)
    return f'{rank[0]:+.2f} (p {rank[1]:.2g}, n {len(found)})' if rank else 'not defined'


def matching(panels: Sequence[tuple[str, np.ndarray, Sequence[tuple[int, int]]]], source: Sequence[str],
             target: Sequence[str], distance: str) -> dict:
    """Cost of calling the samples of each target class by each source class, the match of D framed.

    Args:
        panels: (title, costs [Ks, Kt], pairs (source class, target class)).
        source, target: names of the classes.
        distance: of the costs.
    """
    size = 0.9 + 0.26 * max(len(source), len(target))
    figure, axes = pictures.panels(len(panels), width=size + 1.4, height=size + 0.9)
    low, high = np.nanmin([np.nanmin(c) for _, c, _ in panels]), np.nanmax([np.nanmax(c) for _, c, _ in panels])
    for axis, (title, costs, pairs) in zip(axes, panels, strict=True):
        axis.set_title(plain(title), fontsize=SMALL + 1)
        image = axis.imshow(costs, cmap='cividis_r', vmin=low, vmax=high, aspect='auto')
        for i, j in pairs:
            axis.plot([j - 0.5, j + 0.5, j + 0.5, j - 0.5, j - 0.5], [i - 0.5, i - 0.5, i + 0.5, i + 0.5, i - 0.5],
                      color=pictures.COLOURS[1], linewidth=1.8, clip_on=False)
        axis.set_xticks(range(len(target)), map(plain, target), rotation=60, ha='right', rotation_mode='anchor',
                        fontsize=7)
        axis.set_yticks(range(len(source)), map(plain, source), fontsize=7)
        axis.set_xlabel('target class', fontsize=SMALL)
        axis.set_ylabel('source class', fontsize=SMALL)
    bar = figure.colorbar(image, ax=axes, shrink=0.8)
    bar.ax.tick_params(labelsize=7)
    bar.set_label(f'mean {distance.replace("_", " ")} cost', fontsize=SMALL)
    return {'title': 'Match of source and target classes', 'png': to_png(figure), 'wide': len(panels) > 1,
            'caption': 'Mean cost of calling the samples of a target class by a source class; framed: the match of '
                       'least cost, whose sum, weighted by the shares of the target classes, is D.'}


def clouds(found: Sequence[Cloud], y: np.ndarray, classes: Sequence[str]) -> dict:
    """t-SNE of source features, coloured by source class: a panel a cloud. The paper's Figure 2.

    Args:
        found: one or several of the same examples.
        y: int [n], their classes.
        classes: names.
    """
    columns = min(len(found), 4)
    figure, axes = pictures.panels(len(found), width=2 * HALF / columns if columns > 1 else HALF,
                                   height=2 * HALF / max(columns, 2), columns=columns)
    for axis, cloud in zip(axes, found, strict=True):
        axis.set_title(plain(cloud.title), fontsize=SMALL + 1)
        axis.set_xticks([])
        axis.set_yticks([])
        for side in axis.spines.values():
            side.set_color('#BBBBBB')
        for k, name in enumerate(classes):
            turn, colour = divmod(k, len(CLASSES))
            axis.plot(*cloud.xy[y == k].T, _marker(k + turn), color=CLASSES[colour], markersize=3,
                      markeredgewidth=0, alpha=0.85, linestyle='none', label=plain(name))
    pictures.legend(figure, axes, min(10, len(classes)), 2.0)
    return {'title': 't-SNE of source features', 'png': to_png(figure), 'wide': len(found) > 1,
            'caption': f'{len(y)} source test examples, one mark each, coloured by class: mean tokens of the encoder '
                       'with the source embedder. Every panel is a t-SNE of its own; axes mean nothing.'}
