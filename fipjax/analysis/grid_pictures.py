"""The grid of pretraining choices as a heat map; as the pictures of fipjax.analysis.pictures."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fipjax.analysis import pictures
from fipjax.analysis.names import is_share, number
from fipjax.analysis.pictures import SMALL, plain
from fipjax.evaluators.reconstruction import to_png

NONE = 'none'
# Factors of pretraining, in labels.
ROWS = ('data', 'share', 'objective', 'seen', 'mismatched', 'zero', 'padded', 'tied', 'pretraining')
PANELS = ('model', 'mode', 'inputs', 'setting')
DARK = 0.18  # luminance of a colour below which white letters are the readable ones
LUMINANCE = (0.2126, 0.7152, 0.0722)  # of red, green and blue


def heat_map(found: Sequence) -> dict | None:
    """Test scores by pretraining (rows) and task (columns), a panel for each model and mode.

    Args:
        found: cells of fipjax.analysis.questions. Cells of a picture are means over seeds, coloured by their
            difference to no pretraining of the same model and mode, or to the column's mean where there is none.
    """
    if not any(c.metrics for c in found):
        return None
    varied = [k for k in ROWS if len({c.factors[k] for c in found if c.factors['data'] != NONE}) > 1 or k == 'data']
    row_of = lambda c: tuple(c.factors[k] for k in varied)  # noqa: E731
    panel_of = lambda c: tuple(c.factors[k] for k in PANELS)  # noqa: E731
    rows = sorted(dict.fromkeys(map(row_of, found)), key=lambda r: r[0] != NONE)
    columns = list(dict.fromkeys(m for c in found for m in c.metrics))
    names = list(dict.fromkeys(map(panel_of, found)))
    differ = [i for i in range(len(PANELS)) if len({n[i] for n in names}) > 1]
    cells = {(panel_of(c), row_of(c), m, c.seed): v for c in found for m, v in c.metrics.items()}
    seeds = sorted({c.seed for c in found})
    shape = (len(names), len(rows), len(columns), len(seeds))
    values = np.full(shape, np.nan)
    for place in np.ndindex(shape):
        i, j, k, n = place
        values[place] = cells.get((names[i], rows[j], columns[k], seeds[n]), np.nan)
    counts = np.isfinite(values).sum(-1)
    values = np.where(counts, np.nansum(values, -1) / np.maximum(counts, 1), np.nan)
    zero, given, mean = _zero(values, rows)
    scale = 100 if all(map(is_share, columns)) else 1
    differences = scale * (values - zero[:, None])
    most = max(np.nanmax(np.abs(differences)), 1e-3)
    width = 1.6 + 0.62 * len(columns)
    figure, axes = pictures.panels(len(names), width=max(width, 3.2), height=1.1 + 0.24 * len(rows), columns=2,
                                   sharey=True)
    for axis, name, means, colours in zip(axes, names, values, differences, strict=True):
        image = axis.imshow(colours, cmap='RdBu', vmin=-most, vmax=most, aspect='auto')
        axis.set_title(plain(', '.join(name[i] for i in differ if name[i]) or 'test scores'), fontsize=SMALL + 1)
        axis.set_xticks(range(len(columns)), [plain(_column(m)) for m in columns], fontsize=SMALL - 1)
        axis.set_yticks(range(len(rows)), [plain(_row(r, varied)) for r in rows], fontsize=SMALL - 1)
        for i, j in np.argwhere(np.isfinite(means)):
            axis.text(j, i, number(columns[j], means[i, j]), ha='center', va='center', fontsize=SMALL - 1,
                      color='white' if _luminance(image, colours[i, j]) < DARK else 'black')
    against = 'no pretraining' if given else 'the mean'
    bar = figure.colorbar(image, ax=axes, shrink=0.8, pad=0.01)
    bar.set_label('difference (points)' if scale == 100 else 'difference', fontsize=SMALL)
    bar.ax.tick_params(labelsize=SMALL - 1)
    few = counts[counts > 0].min()
    over = f'{few} to {len(seeds)} seeds' if few < len(seeds) else f'{few} seed{"s" if few > 1 else ""}'
    other = ', or to the mean of the column where there is none' if given and mean else ''
    return {'title': 'Pretraining by task', 'png': to_png(figure), 'wide': True,
            'caption': f'Test scores{" in percent" if scale == 100 else ""}, means over {over}; colour is the '
                       f'difference to {against} of the same panel and column{other}.'}


def _zero(values, rows):
    """What differences are to [panels, columns]; whether it is no pretraining, and a mean, anywhere."""
    none = [i for i, row in enumerate(rows) if row[0] == NONE]
    zero = values[:, none[0]] if none else np.full_like(values[:, 0], np.nan)
    known = np.isfinite(values)
    means = np.where(known, values, 0).sum(1) / np.maximum(known.sum(1), 1)
    given = np.isfinite(zero)
    return np.where(given, zero, means), given.any(), (~given & known.any(1)).any()


def _luminance(image, value):
    return np.power(image.cmap(image.norm(value))[:3], 2.2) @ np.asarray(LUMINANCE)


def _column(metric):
    name, _, at = metric.partition('@')
    return f'{name.split("/")[1]}\n{at}'


def _row(row, names):
    if row[0] == NONE:
        return NONE
    parts = [f'{name} {value}' if isinstance(value, bool) or name in ('share', 'seen') else str(value)
             for name, value in zip(names, row, strict=True) if value != '']
    return ' · '.join(parts)
