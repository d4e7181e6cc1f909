"""What fipjax.analysis.importance has found, as text and as a picture, from the numbers of importance.json."""
from __future__ import annotations

from collections.abc import Mapping

from fipjax.analysis import pictures, table
from fipjax.evaluators.reconstruction import to_png

GREY = '#8A8A8A'
READING = ('score: mean over draws with its 2.5 to 97.5 percentiles, with the labels and with shuffled ones; gain: '
           'difference of the two means; told apart: the mean with the labels is outside the interval of the shuffled '
           'ones')
UNITS = ('cosine, dot and meta above 0: a step that lowers the pretraining loss of this modality also lowers the error '
         'of the downstream probe; ablation: what the probe loses without the modality, relative to a constant')
CONTROL = ('Shuffling takes the labels from all modalities at once: what a probe overfits changes with it, so ablation '
           'can tell a modality without any information apart by a little.')
UNTRAINED = ('data alone: nothing was trained. cosine, dot and meta are those of an untrained encoder, before its '
             'first step; ablation takes raw values for codes and does not ask the encoder')
RULE = ('Our rule in the direction of FIP: what matters more gets more weight, harder masks and a deeper decoder. No '
        'paper gives it, and it is untested beyond what docs/results.md reports. Weights are those at which a run with '
        'estimated weights would end if each score stayed at its gain over shuffled labels, 0 where it is not told '
        'apart.')


def told_apart(estimator: Mapping) -> list[str]:
    """Names of the modalities whose labels an estimator tells apart from shuffled ones."""
    return [m for m, s in estimator['modalities'].items() if s['told_apart']]


def text(numbers: Mapping) -> str:
    """importance.md."""
    about, found = numbers['about'], numbers['estimators']
    names = list(next(iter(found.values()))['modalities'])
    return '\n'.join(['# Which modality matters for the downstream task', '', *_made(about), '', _scores(found, about),
                      '## Agreement with ablation', '', _ranks(numbers['rank_correlation_with_ablation'], names),
                      '## Suggestion', '', *_suggestion(numbers, names)]) + '\n'


def _made(about) -> list[str]:
    where = f'run {about["run"]}' if about['run'] else f'config {about["config_file"]}'
    said = [f'{where}: {about["name"]}, variant {about["variant"] or "-"}, seed {about["seed"]}, target '
            f'{about["target"]}, parameters of step {about["step"]}']
    if about['overrides']:
        said.append(f'overrides: {", ".join(about["overrides"])}')
    said.append(f'labels: {about["labelled_examples"]} examples of {len(about["classes"])} classes from '
                f'{about["labelled_from"]}')
    if not about['trained']:
        said.append(UNTRAINED)
    return [f'- {line}' for line in said]


def _scores(found, about) -> str:
    rows, sentences = [], []
    for method, estimator in found.items():
        for m, s in estimator['modalities'].items():
            cells = [text for start in ('', 'shuffled_') for text in (
                f'{s[f"{start}mean"]:+.3g}', f'{s[f"{start}low"]:+.3g} to {s[f"{start}high"]:+.3g}')]
            rows.append((method, (method, m, *cells, f'{s["gain"]:+.3g}', 'yes' if s['told_apart'] else 'no')))
        apart = [f'{m} ({"higher" if estimator["modalities"][m]["gain"] > 0 else "lower"})'
                 for m in told_apart(estimator)]
        sentences.append(f'{method}: ' + (f'told apart from shuffled labels: {", ".join(apart)}.' if apart else
                                          'no modality is told apart from shuffled labels.'))
    sentences.append(f'{len(rows)} scores are judged, uncorrected. {CONTROL}')
    seconds = ', '.join(f'{method} {value:.1f}' for method, value in about['seconds'].items())
    footer = (('reading', READING), ('sign', UNITS),
              ('draws', f'{about["draws"]}, each with {about["batch_size"]} of {about["unlabelled_examples"]} '
                        'unlabelled examples, its own masks and its own halves of the labelled ones'),
              ('seconds', f'{seconds} (with compilation)'), ('commit', about['commit']), ('device', about['device']),
              ('date', about['date']))
    header = ('estimator', 'modality', 'score', 'interval', 'score, shuffled', 'interval, shuffled', 'gain',
              'told apart')
    return table.markdown(table.Grid(header, rows, footer, tuple(sentences)))


def _ranks(ranks, names) -> str:
    rows = [(m, (m, '-' if r is None else f'{r:+.2f}')) for m, r in ranks.items()]
    footer = [('reading', f"Spearman's correlation of the gains of {len(names)} modalities with those by ablation")]
    if len(names) == 2:
        footer.append(('two modalities', 'it can only be +1, -1 or undefined (-)'))
    return table.markdown(table.Grid(('estimator', 'rank correlation'), rows, tuple(footer), ()))


def _suggestion(numbers, names) -> list[str]:
    method, found = numbers['suggested_by'], numbers['estimators']
    own = found[method]
    apart = told_apart(own)
    if not apart:
        others = [m for m in found if told_apart(found[m])]
        also = f' Other estimators do tell some: {", ".join(others)}; see the table.' if others else ''
        return [f'By {method}: no modality is told apart from shuffled labels. There is no evidence that weights other '
                f'than equal ones are called for.{also}']
    rows = []
    for m in names:
        s, now = own['suggestion'][m], numbers['config'][m]
        rows.append((m, (m, f'{s["weight"]:.3g}', f'{s["mask_ratio"]:.3g} ({now["mask_ratio"]:g})',
                         f'{s["decoder_depth"]} ({now["decoder_depth"]})')))
    footer = (('by', f'{method}, {numbers["updates"]} estimates in a run'), ('in brackets', 'what the config has'))
    shown = table.markdown(table.Grid(('modality', 'loss weight', 'mask ratio', 'decoder depth'), rows, footer, ()))
    return [RULE, '', shown, '```', ' \\\n'.join(own['options']), '```']


def picture(numbers: Mapping) -> dict:
    """A panel for each estimator: mean and interval of each modality, with the labels and with shuffled ones.

    Args:
      numbers: as in importance.json.

    Returns:
      As pictures are given to a report, see fipjax.analysis.pictures.
    """
    found = numbers['estimators']
    names = list(next(iter(found.values()))['modalities'])
    figure, axes = pictures.panels(len(found), width=max(pictures.THIRD, 0.75 * len(names)), height=2.8, columns=2)
    marks = {'labels, told apart': ('o', pictures.COLOURS[0], pictures.COLOURS[0]),
             'labels, not told apart': ('o', pictures.COLOURS[0], 'white'), 'shuffled labels': ('s', GREY, GREY)}
    for label, (marker, colour, filled) in marks.items():  # one of each, for the legend
        axes[0].plot([], [], marker, color=colour, markersize=6, markerfacecolor=filled, label=label)
    for axis, (method, estimator) in zip(axes, found.items(), strict=True):
        pictures.dress(axis, method, '', 'score')
        axis.axhline(0, color=pictures.BASELINE, linewidth=0.8)
        for place, s in enumerate(estimator['modalities'].values()):
            own = f'labels, {"" if s["told_apart"] else "not "}told apart'
            for x, start, label in ((place - 0.12, '', own), (place + 0.12, 'shuffled_', 'shuffled labels')):
                marker, colour, filled = marks[label]
                # Bars by vlines: the mean may lie outside the percentiles.
                axis.vlines(x, s[f'{start}low'], s[f'{start}high'], color=colour, linewidth=1.6)
                axis.plot(x, s[f'{start}mean'], marker, color=colour, markersize=6, markerfacecolor=filled)
        turned = max(map(len, names)) * len(names) > 40
        axis.set_xticks(range(len(names)), [pictures.plain(m) for m in names], rotation=30 if turned else 0,
                        ha='right' if turned else 'center')
        axis.set_xlim(-0.5, len(names) - 0.5)
        axis.margins(y=0.08)
        axis.grid(axis='x', visible=False)
    pictures.legend(figure, axes, 3)
    about = numbers['about']
    return {'title': f'Importance of the modalities for {about["target"]}', 'png': to_png(figure), 'wide': True,
            'caption': f'Mean and 2.5 to 97.5 percentiles over {about["draws"]} draws of unlabelled batch, masks and '
                       'halves of the labelled examples. Filled: the mean with the labels is outside the interval of '
                       'shuffled labels. Scores of different estimators have different units.'
                       + ('' if about['trained'] else ' Data alone: nothing was trained.')}
