"""Five questions to a grid of pretraining choices (our reading of those of arXiv 2004.08744), from finished runs.

    RQ1  Does the domain of the pretraining data matter, and which fits which task?
    RQ2  Does more data of a domain help, with the same number of updates?
    RQ3  Do captions that a captioner of the right domain generated beat natural ones of another domain?
    RQ4  Which model, which objective?
    RQ5  Does pretraining help at all, and must the base be fine-tuned?

Each answer is a difference between two values of one factor, all others equal: pairs of runs are averaged within a
seed and Student's interval is over seeds, so its certainty is about these data sets and tasks, and about no others.
Full fine-tuning and frozen bases are answered for apart: what helps one need not help the other.

    python -m fipjax.analysis.questions --workdir=DIR

writes questions.md, heatmap.png and heatmap.json (the numbers) into the comparison's folder; its report shows them too.
"""
from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import NamedTuple

from absl import flags

from fipjax import launch, writer
from fipjax.analysis import runs, statistics, table
from fipjax.analysis.names import number
from fipjax.analysis.runs import Run
from fipjax.errors import UserError

FACTORS = {'data': 'pretrain.data', 'share': 'pretrain.share', 'objective': 'pretrain.objective', 'model': 'model',
           'mode': 'finetune.mode', 'inputs': 'finetune.inputs',
           'seen': 'pretrain.inputs', 'mismatched': 'pretrain.mismatched_captions',
           'zero': 'pretrain.zero_regions', 'padded': 'pretrain.padded_regions', 'tied': 'pretrain.tied'}
PRETRAINING = (*(name for name, key in FACTORS.items() if key.startswith('pretrain.')), 'pretraining')
ASIDE = ('seed', 'name', 'variant', 'pretrain.workdir')  # keys that change no number, or have a place of their own
NONE = 'none'
ASKED = {
    'RQ1': 'Does the domain of the pretraining data matter, and which fits which task?',
    'RQ2': 'Does more data of a domain help, with the same number of updates?',
    'RQ3': 'Are generated captions (ccg) better than natural ones of another domain?',
    'RQ4': 'Which model, which objective?',
    'RQ5': 'Does pretraining help at all, and must the base be fine-tuned?',
    'confound': 'Does it matter in what else the public settings of pretraining differ?',
    'inputs': 'Does fine-tuning need both words and regions?'}
GENERATED = 'ccg'
SIZES = (('cc', 'cc_small'),)  # larger, smaller


class Cell(NamedTuple):
    """One run in the grid: its factors by name, seed, and test metrics by column.

    Factors are those of FACTORS, and what else differs between the runs: 'pretraining' (keys of that) and 'setting'.
    """

    factors: dict
    seed: int
    metrics: dict


class Effect(NamedTuple):
    """A difference `a` minus `b` of one factor on one metric: mean over seeds, half of its 95 % interval, p, pairs;
    `mode` is that of fine-tuning in all pairs ('' where it is what differs)."""

    question: str
    factor: str
    a: object
    b: object
    metric: str
    mean: float
    half: float | None
    p: float | None
    seeds: int
    pairs: int
    mode: str = ''

    @property
    def shown(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.half is not None and abs(self.mean) > self.half


def cells(found: Sequence[Run]) -> list[Cell]:
    """The runs of wing 'vlp' as cells; where there is no pretraining its settings are left out ('none')."""
    found = [run for run in found if run.config.get('wing') == 'vlp']
    flat = [_flat(run.config) for run in found]
    other = [key for key in (flat[0] if flat else ()) if key not in (*FACTORS.values(), *ASIDE)
             and any(f.get(key) != flat[0][key] for f in flat)]
    out = []
    for run, settings in zip(found, flat, strict=True):
        factors = {name: settings[key] for name, key in FACTORS.items()}
        for name, before in (('pretraining', True), ('setting', False)):
            factors[name] = ', '.join(f'{key}={settings.get(key)}' for key in other
                                      if key.startswith('pretrain.') == before)
        if factors['data'] == NONE:
            factors |= dict.fromkeys(PRETRAINING, NONE)
        out.append(Cell(factors, run.seed, {m: run.result['metrics'][m] for m in run.result['headline']}))
    return out


def _flat(tree, before=''):
    """{'a': {'b': 1}} -> {'a.b': 1}"""
    out = {}
    for key, value in tree.items():
        out |= _flat(value, f'{before}{key}.') if isinstance(value, dict) else {f'{before}{key}': value}
    return out


def effect(found: Sequence[Cell], question: str, factor: str, a, b, metric: str) -> Effect | None:
    """The difference between the values `a` and `b` of a factor; None where no pair of runs has it."""
    def rest(cell, value):
        ignored = {factor, *(PRETRAINING if factor == 'data' and NONE in (a, b) else ())}
        assert cell.factors[factor] == value
        return (cell.seed, *((k, v) for k, v in cell.factors.items() if k not in ignored))

    other: dict = {}
    for cell in found:
        if cell.factors[factor] == b and metric in cell.metrics:
            other[rest(cell, b)] = cell.metrics[metric]
    by_seed: dict[int, list[float]] = {}
    for cell in found:
        if cell.factors[factor] == a and metric in cell.metrics and rest(cell, a) in other:
            by_seed.setdefault(cell.seed, []).append(cell.metrics[metric] - other[rest(cell, a)])
    if not by_seed:
        return None
    means = {seed: sum(values) / len(values) for seed, values in by_seed.items()}
    difference = statistics.paired_difference(means, dict.fromkeys(means, 0.0))
    return Effect(question, factor, a, b, metric, difference.mean, difference.half, difference.p, difference.n,
                  sum(map(len, by_seed.values())))


def contrasts(found: Sequence[Cell]) -> list[tuple[str, str, object, object]]:
    """(question, factor, a, b) that a grid can answer."""
    values = {name: list(dict.fromkeys(c.factors[name] for c in found)) for name in FACTORS}
    data = [d for d in values['data'] if d != NONE]
    natural = [d for d in data if d not in (GENERATED, *(small for _, small in SIZES))]
    out = [('RQ1', 'data', a, b) for i, a in enumerate(natural) for b in natural[i + 1:]]
    out += [('RQ2', 'data', a, b) for a, b in SIZES if a in data and b in data]
    shares = sorted((s for s in values['share'] if s != NONE), reverse=True)
    out += [('RQ2', 'share', shares[0], s) for s in shares[1:]]
    out += [('RQ3', 'data', GENERATED, b) for b in natural if GENERATED in data]
    for factor, pair in (('objective', ('mmm', 'mlm')), ('model', ('vilbert', 'visualbert'))):
        if set(pair) <= set(values[factor]):
            out.append(('RQ4', factor, *pair))
    out += [('RQ5', 'data', d, NONE) for d in data if NONE in values['data']]
    if {'full', 'frozen'} <= set(values['mode']):
        out.append(('RQ5', 'mode', 'full', 'frozen'))
    for factor in ('mismatched', 'zero', 'padded', 'tied'):
        if {True, False} <= set(values[factor]):
            out.append(('confound', factor, True, False))
    if 'both' in values['inputs']:
        out += [('inputs', 'inputs', 'both', one) for one in ('text', 'regions') if one in values['inputs']]
    return out


def effects(found: Sequence[Run]) -> list[Effect]:
    """All differences that the runs of a grid can show, question by question."""
    known = cells(found)
    metrics = list(dict.fromkeys(m for c in known for m in c.metrics))
    modes = list(dict.fromkeys(c.factors['mode'] for c in known))
    out = []
    for contrast in contrasts(known):
        for mode in [''] if contrast[1] == 'mode' else modes:
            some = [c for c in known if mode in ('', c.factors['mode'])]
            out += [e._replace(mode=mode) for m in metrics for e in [effect(some, *contrast, m)] if e]
    return out


def answers(found: Sequence[Effect]) -> list[str]:
    """A sentence for each contrast: on which metrics the difference is shown, on which it is not."""
    out, tests = [], sum(e.half is not None for e in found)
    for key in dict.fromkeys((*e[:4], e.mode) for e in found):
        mine = [e for e in found if (*e[:4], e.mode) == key]
        question, factor, a, b, mode = key
        points = lambda e: f'{_column(e.metric)} {number(e.metric, e.mean, True)} ± {_half(e)}'  # noqa: E731
        better, worse = ([points(e) for e in mine if e.shown and (e.mean > 0) == up] for up in (True, False))
        silent = [points(e) if e.half is not None else f'{_column(e.metric)} {number(e.metric, e.mean, True)}'
                  for e in mine if not e.shown]
        parts = [f'{word} on {", ".join(items)}' for word, items in (
            ('better', better), ('worse', worse), ('nothing shown', silent)) if items]
        where = f', {mode}' if mode else ''
        out.append(f'{question}, {factor}{where}: {a} against {b}: {"; ".join(parts)} ({mine[0].seeds} seeds, '
                   f'{mine[0].pairs} pairs of runs).')
    if tests:
        out.append('Numbers are points ± half of the 95 % t-interval over seeds; pairs are averaged within each seed.')
    if tests > 1:
        out.append(f'{tests} differences are tested at 5 % each, uncorrected: expect about {0.05 * tests:.1f} to '
                   'stand out by chance alone.')
    return out


def _half(e):
    return '-' if e.half is None else number(e.metric, e.half)


def _column(metric):
    """'test/vqa/soft_accuracy@100%' -> 'vqa 100%'."""
    name, _, at = metric.partition('@')
    return f'{name.split("/")[1]} {at}'.strip()


def markdown(found: Sequence[Effect]) -> str:
    """All differences as a table, in points."""
    header = ('question', 'factor', 'mode', 'difference', 'task', 'points', '95 % interval', 'p', 'seeds', 'pairs')
    rows = [('variant', (e.question, e.factor, e.mode, f'{e.a} - {e.b}', _column(e.metric),
                         number(e.metric, e.mean, True), '-' if e.half is None else f'± {_half(e)}',
                         '-' if e.p is None else f'{e.p:.2g}', str(e.seeds), str(e.pairs))) for e in found]
    return table.markdown(table.Grid(header, rows, asked(found), tuple(answers(found))))


def asked(found: Sequence[Effect]) -> tuple[tuple[str, str], ...]:
    """The questions that the differences are about: (name, in words)."""
    return tuple((name, ASKED[name]) for name in dict.fromkeys(e.question for e in found))


def write(workdir: str) -> str:
    """Writes questions.md, heatmap.png and heatmap.json of a comparison; returns the sentences and the files.

    Raises:
      UserError: no finished run of wing 'vlp'.
    """
    from fipjax.analysis import grid_pictures, knowledge
    folder = pathlib.Path(workdir)
    done = runs.load_comparison(folder)
    found = effects(done)
    if not cells(done):
        raise UserError(f'{workdir}: no finished run of wing vlp; fipjax.analysis.questions reads comparisons of them')
    writer.write_atomically(folder / 'questions.md', markdown(found) + '\n')
    files = knowledge.keep(folder, 'heatmap', grid_pictures.heat_map(cells(done)),
                           {'effects': [e._asdict() | {'shown': e.shown} for e in found]})
    return '\n'.join([*answers(found), '', str(folder / 'questions.md'), *map(str, files)])


def command_line() -> None:
    """The command `python -m fipjax.analysis.questions`; exit code 2 for wrong input."""
    flags.DEFINE_string('workdir', None, 'Folder of a comparison of wing vlp.')

    def main(_):
        if not flags.FLAGS.workdir:
            raise UserError('--workdir is missing; usage: python -m fipjax.analysis.questions --workdir=DIR')
        print(write(flags.FLAGS.workdir))

    launch.start(main)


if __name__ == '__main__':
    command_line()
