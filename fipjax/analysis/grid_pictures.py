"""The grid of pretraining choices as a heat map; as the pictures of fipjax.analysis.pictures."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fipjax.analysis import pictures
from fipjax.analysis.names import is_share, number
from fipjax.analysis.pictures import SMALL, plain
from fipjax.evaluators.reconstruction import to_png

NONE = 'none'
ROWS = ('data', 'share', 'objective', 'mismatched', 'zero', 'padded', 'tied')  # factors of pretraining, in labels
PANELS = ('model', 'mode', 'inputs')


def heat_map(found: Sequence) -> dict | None:
    """Test scores by pretraining (rows) and task (columns), a panel for each model and mode.

    Args:
        found: cells of fipjax.analysis.questions. Cells of a picture are means over seeds, coloured by their
            difference to no pretraining of the same model and mode, or to the column's mean where there is none.
    """
    if not found:
        return None
    varied = [k for k in ROWS if len({c.factors[k] for c in found if c.factors['data'] != NONE}) > 1 or k == 'data']
    row_of = lambda c: tuple(c.factors[k] for k in varied)  # noqa: E731
    panel_of = lambda c: tuple(c.factors[k] for k in PANELS)  # noqa: E731
    rows = sorted(dict.fromkeys(map(row_of, found)), key=lambda r: r[0] != NONE)
    columns = list(dict.fromkeys(m for c in found for m in c.metrics))
    names = list(dict.fromkeys(map(panel_of, found)))
    differ = [i for i in range(len(PANELS)) if len({n[i] for n in names}) > 1]
    values = {}
    for panel in names:
        table = np.full((len(rows), len(columns)), np.nan)
        for i, row in enumerate(rows):
            for j, metric in enumerate(columns):
                seeds = [c.metrics[metric] for c in found
                         if panel_of(c) == panel and row_of(c) == row and metric in c.metrics]
                table[i, j] = np.mean(seeds) if seeds else np.nan
        values[panel] = table
    zero = {n: v[[r[0] == NONE for r in rows]][:1] for n, v in values.items()}
    zero = {n: z if z.size and np.isfinite(z).any() else np.nanmean(values[n], 0, keepdims=True)
            for n, z in zero.items()}
    most = max(max((np.nanmax(np.abs(values[n] - zero[n])) for n in names), default=0), 1e-3)
    width = 1.6 + 0.62 * len(columns)
    figure, axes = pictures.panels(len(names), width=max(width, 3.2), height=1.1 + 0.24 * len(rows), columns=2,
                                   sharey=True)
    for axis, name in zip(axes, names, strict=True):
        image = axis.imshow(values[name] - zero[name], cmap='RdBu', vmin=-most, vmax=most, aspect='auto')
        axis.set_title(plain(', '.join(name[i] for i in differ) or 'test scores'), fontsize=SMALL + 1)
        axis.set_xticks(range(len(columns)), [plain(_column(m)) for m in columns], fontsize=SMALL - 1)
        axis.set_yticks(range(len(rows)), [plain(_row(r)) for r in rows], fontsize=SMALL - 1)
        for i, j in np.argwhere(np.isfinite(values[name])):
            strong = abs(values[name][i, j] - zero[name][0, j]) > 0.6 * most
            axis.text(j, i, number(columns[j], values[name][i, j]), ha='center', va='center', fontsize=SMALL - 1,
                      color='white' if strong else 'black')
    bar = figure.colorbar(image, ax=axes, shrink=0.8, pad=0.01)
    share = all(map(is_share, columns))
    bar.set_label(f'difference to no pretraining ({"share" if share else "score"})', fontsize=SMALL)
    bar.ax.tick_params(labelsize=SMALL - 1)
    seeds = len({c.seed for c in found})
    return {'title': 'Pretraining by task', 'png': to_png(figure), 'wide': True,
            'caption': f'Test scores, means over {seeds} seed{"s" if seeds > 1 else ""}; colour is the difference to '
                       'no pretraining of the same model and mode, or to the mean where there is none.'}


def _column(metric):
    name, _, at = metric.partition('@')
    return f'{name.split("/")[1]}\n{at}'


def _row(row):
    return ' · '.join(str(v) for v in dict.fromkeys(map(str, row)) if v != '') if row[0] != NONE else NONE
