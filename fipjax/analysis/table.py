"""The table of a comparison and of a single run: means, spread, controls, cost, and how it was made."""
from __future__ import annotations

import csv as csv_module
import dataclasses
import io
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from fipjax.analysis import references, statistics
from fipjax.analysis.names import amount, heading, is_share, lower_is_better, natural, number
from fipjax.analysis.runs import Failure, Run
from fipjax.analysis.statistics import Difference, Mean

COSTS = ('pretrain GFLOP', 'stage 1 seconds', 'total GFLOP', 'parameters', 'seconds')
CHOICE = 'all choices on validation; each run used its test set once'


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of a comparison. `kind` is 'variant', 'failed', 'trivial', 'chance' or 'ceiling'.

    `of` are the variants that a reference is for; None: all of them. `against` is the variant that this
    one is compared with, itself where it is a baseline.
    """
    label: str
    kind: str
    seeds: tuple[int, ...]
    means: dict[str, Mean]
    differences: dict[str, Difference]
    costs: dict[str, float]
    failed: int = 0
    of: tuple[str, ...] | None = None
    against: str | None = None


@dataclasses.dataclass(frozen=True)
class Table:
    """A comparison: `metrics` are the columns, `footer` (name, text) says how it was made.

    `baseline` is what differences are named after: a variant, or the value that the baselines of several have.
    """
    metrics: tuple[str, ...]
    baseline: str | None
    rows: tuple[Row, ...]
    footer: tuple[tuple[str, str], ...]
    varied: str = 'variant'

    def variants(self) -> list[Row]:
        """The rows of variants with at least one finished run."""
        return [row for row in self.rows if row.kind == 'variant']

    def judged(self) -> tuple[str, ...]:
        """The metrics that variants are judged by: the accuracies and F1, or all but D where there is none."""
        return (tuple(metric for metric in self.metrics if 'accuracy' in metric or '_f1' in metric)
                or tuple(metric for metric in self.metrics if 'discrepancy' not in metric) or self.metrics)

    def costs(self) -> tuple[str, ...]:
        """Names of the costs that some run has."""
        return tuple(name for name in COSTS if any(name in row.costs for row in self.rows))


class Grid(NamedTuple):
    """A table as text: header, (kind, cells) a row, footer (name, text), sentences about what it shows."""
    header: tuple[str, ...]
    rows: list[tuple[str, tuple[str, ...]]]
    footer: tuple[tuple[str, str], ...]
    findings: tuple[str, ...]


def headline(runs: Iterable[Run]) -> tuple[str, ...]:
    """The columns of a table: what any of the runs names as its headline, or its `test/` metrics where it names none.

    Scores in the order that runs have them (alphabetical where a run names none), each by the number of labels.
    """
    found: dict[str, list[str]] = {}
    for run in runs:
        named = run.result.get('headline')
        tests = sorted((name for name in run.result['metrics'] if name.startswith('test/')), key=natural)
        for name in tests if named is None else named:
            if name in run.result['metrics']:
                found.setdefault(name.partition('@')[0] if named is not None else '', []).append(name)
    return tuple(dict.fromkeys(name for names in found.values() for name in sorted(names, key=natural)))


def with_half(metric: str, found: Mean | Difference | None, signed: bool = False) -> str:
    """'61.2 ± 1.3'; without an interval the mean alone; '-' for nothing."""
    if found is None:
        return '-'
    text = number(metric, found.mean, signed)
    if found.half is None:
        return text
    return f'{text} ± {number(metric, found.half) if is_share(metric) else format(found.half, ".2g")}'


def _costs(runs: Sequence[Run]) -> dict[str, float]:
    """Means over runs of what they cost; no total of FLOPs where a stage has no count."""
    found: dict[str, list[float]] = {name: [] for name in COSTS}
    for run in runs:
        r = run.result
        flops, seconds = r.get('flops') or {}, r.get('seconds') or {}
        stage_1 = [v for k, v in r['metrics'].items() if k.startswith('stage_1/seconds')]
        counted = 'total' in flops and all(stage in flops for stage in r.get('steps_per_second') or ())
        pretrain = (flops['pretrain'] + flops.get('estimates', 0)) / 1e9 if 'pretrain' in flops else None
        for name, value in (('pretrain GFLOP', pretrain),
                            ('stage 1 seconds', sum(stage_1) if stage_1 else None),
                            ('total GFLOP', flops['total'] / 1e9 if counted else None),
                            ('parameters', sum((r.get('parameters') or {}).values()) or None),
                            ('seconds', seconds.get('total'))):
            if value is not None:
                found[name].append(value)
    return {name: sum(values) / len(values) for name, values in found.items() if values}


def _by_seed(runs: Iterable[Run], metric: str) -> dict[int, float]:
    return {run.seed: run.result['metrics'][metric] for run in runs if metric in run.result['metrics']}


def _means(values: dict[str, dict]) -> dict[str, Mean]:
    return {metric: statistics.mean_interval(found.values()) for metric, found in values.items() if found}


def _joined(values: Iterable) -> str:
    return ', '.join(dict.fromkeys(str(value) for value in values if value not in (None, '')))


def _measured(metrics: Sequence[str]) -> list[tuple[str, str]]:
    """What the metrics of transfer are."""
    known = (('source/probe_error', 'source probe', 'error of a linear probe on source test features after stage 2'),
             ('source/discrepancy', 'D', 'knowledge discrepancy between the source model and the target after stage 1, '
                                         'on validation inputs'))
    return [(name, text) for start, name, text in known if any(metric.startswith(start) for metric in metrics)]


def _made(runs: Sequence[Run]) -> list[tuple[str, str]]:
    results = [run.result for run in runs]
    versions = [f'{name} {version}' for r in results for name, version in r.get('versions', {}).items()]
    footer = [('test', f'{CHOICE} ({_joined(r.get("test_examples") for r in results)} examples)')]
    footer += [('ceiling', reason) for reason in dict.fromkeys(r.get('ceiling_reason') for r in results)]
    for name, values in (('commit', (r.get('commit') for r in results)),
                         ('device', (r.get('device') for r in results)), ('versions', versions),
                         ('date', sorted({str(r.get('date', '')) for r in results}))):
        footer.append((name, _joined(values)))
    return [(name, text) for name, text in footer if text]


def summarise(runs: Sequence[Run], *, baseline: str | None = None, failures: Sequence[Failure] = (),
              plan: dict | None = None) -> Table:
    """Gathers runs into a table.

    Args:
        runs: finished runs; runs of one label differ in their seeds.
        baseline: label of the variant that others are compared with; None takes the plan's, else the first label.
        failures: runs that stopped with an error.
        plan: comparison.json, for the order of labels, the command and how many runs are still missing.
    Returns:
        variants in the plan's order, then trivial baselines, chance and ceiling.
    """
    plan = plan or {}
    labels = list(dict.fromkeys([*plan.get('labels', ()), *(run.label for run in runs),
                                 *(failure.label for failure in failures)]))
    groups = {label: [run for run in runs if run.label == label] for label in labels}
    compared = {} if baseline else plan.get('baselines') or {}
    baseline = baseline or plan.get('baseline') or (labels[0] if labels else None)
    metrics = headline(runs)
    rows = []
    for label, group in groups.items():
        failed = sum(failure.label == label for failure in failures)
        if not group and not failed:
            continue
        values = {metric: _by_seed(group, metric) for metric in metrics}
        differences, against = {}, compared.get(label, baseline)
        for metric in metrics if label != against else ():
            theirs = _by_seed(groups.get(against, ()), metric)
            found = statistics.paired_difference(values[metric], theirs)
            if found:
                differences[metric] = found
        seeds = tuple(sorted(run.seed for run in group))
        rows.append(Row(label, 'variant' if group else 'failed', seeds, _means(values), differences,
                        _costs(group), failed, against=against))
    for found in references.gather({label: group for label, group in groups.items() if group}, metrics):
        seeds = tuple(sorted({seed for by_seed in found.values.values() for seed in by_seed}))
        means = _means(found.values)
        if found.kind != 'trivial':  # facts about the data, not measurements with a spread over seeds
            means = {metric: mean._replace(half=None) for metric, mean in means.items()}
        rows.append(Row(found.label, found.kind, seeds, means, {}, {}, of=found.of))
    footer = [('reading', f'mean ± half of the 95 % t-interval over seeds; difference to {baseline} paired '
                          f'by seed, with its 95 % t-interval, p of the paired t-test, and n, the number of '
                          f'pairs, where it is less than that of the seeds')]
    footer += _measured(metrics)
    footer.append(('seeds', _joined(sorted({run.seed for run in runs}))))
    missing = len(plan.get('runs', ())) - len(runs) - len(failures)
    if missing > 0:
        footer.append(('partial', f'{len(runs)} of {len(plan["runs"])} runs are finished'))
    footer += [('failed', f'{f.label} seed {f.seed}: {f.message}') for f in failures]
    footer += [(name, str(plan[name])) for name in ('config', 'command') if plan.get(name)]
    return Table(metrics, baseline, tuple(rows), tuple((n, t) for n, t in footer + _made(runs) if t),
                 ', '.join(plan.get('vary') or ['variant']))


def _not_better(table: Table, metric: str) -> dict[str, list[str]]:
    """'above the trivial baseline', or the like -> the variants that are not."""
    sign = -1 if lower_is_better(metric) else 1
    found: dict[str, list[str]] = {}
    for row in table.variants():
        known = [r for r in table.rows if r.kind == 'trivial' and metric in r.means
                 and (r.of is None or row.label in r.of)]
        if known and metric in row.means:
            best = max(known, key=lambda r: sign * r.means[metric].mean)
            if sign * row.means[metric].mean <= sign * best.means[metric].mean:
                found.setdefault('above the trivial baseline' if 'accuracy' in metric else
                                 f'better than the best trivial baseline ({best.label})', []).append(row.label)
    return found


def findings(table: Table) -> list[str]:
    """Sentences that say what a comparison shows and what it does not: no gain without spread and cost."""
    said = []
    tests = 0
    for metric in table.judged():
        unclear = []
        points = ' points' if is_share(metric) else ''
        for row in table.variants():
            found = row.differences.get(metric)
            if found is None:
                continue
            if found.half is None or abs(found.mean) <= found.half:
                unclear.append(row.label)
            else:
                low, high = (number(metric, found.mean + s * found.half, True) for s in (-1, 1))
                direction = 'higher' if found.mean > 0 else 'lower'
                if lower_is_better(metric):
                    direction += ' (worse)' if found.mean > 0 else ' (better)'
                said.append(f'{heading(metric)}: {row.label} is {direction} than {row.against} by '
                            f'{number(metric, abs(found.mean))}{points} '
                            f'(95 % interval {low} to {high}, {found.n} pairs).')
            tests += found.half is not None
        if unclear:
            said.append(f'{heading(metric)}: no difference to {table.baseline} is shown for '
                        f'{_joined(unclear)}.')
        for against, labels in _not_better(table, metric).items():
            said.append(f'{heading(metric)}: not {against}: {_joined(labels)}.')
    if tests > 1:
        said.append(f'{tests} differences are tested at 5 % each, uncorrected: expect about '
                    f'{0.05 * tests:.1f} to stand out by chance alone.')
    cost = 'pretrain GFLOP'
    of = {row.label: row.costs[cost] for row in table.variants() if row.costs.get(cost)}
    dearer = [f'{row.label} ({of[row.label] / of[row.against]:.2f} x)' for row in table.variants()
              if row.label in of and row.against in of and of[row.label] > 1.02 * of[row.against]]
    if dearer:
        said.append(f'More pretraining FLOPs than {table.baseline}: {_joined(dearer)}. A gain of these '
                    f'is one only if it also holds against a compute-matched control.')
    return said


def grid(table: Table) -> Grid:
    """The comparison as text cells; differences only of the metrics judged, the CSV has all."""
    header = [table.varied, 'seeds']
    judged = table.judged()
    others = [metric for metric in table.metrics if metric not in judged]
    for metric in judged:
        header += [heading(metric), f'difference to {table.baseline}']
    header += [*table.costs(), *map(heading, others)]
    rows = []
    for row in table.rows:
        seeds = str(len(row.seeds)) if row.kind in ('variant', 'failed') else ''
        cells = [row.label, seeds + (f' ({row.failed} failed)' if row.failed else '')]
        for metric in judged:
            cells.append(with_half(metric, row.means.get(metric)))
            found = row.differences.get(metric)
            text = with_half(metric, found, signed=True) if found else ''
            if found and found.p is not None:
                text += f' (p {found.p:.2g}' + (f', n {found.n})' if found.n < len(row.seeds) else ')')
            cells.append('baseline' if row.label == row.against and row.kind == 'variant' else text)
        cells += [amount(row.costs.get(name)) if row.kind in ('variant', 'failed') else ''
                  for name in table.costs()]
        cells += [with_half(metric, row.means.get(metric)) for metric in others]
        rows.append((row.kind, tuple(cells)))
    return Grid(tuple(header), rows, table.footer, tuple(findings(table)))


def run_grid(run: Run) -> Grid:
    """The metrics of one run beside trivial baselines, chance and ceiling; Wilson's interval for test shares."""
    result = run.result
    count = result.get('test_examples')
    known = references.trivial(run) or {'trivial baseline': {}}
    facts = [kind for kind in ('chance', 'ceiling') if any(result.get(k) is not None for k in ('chance', 'ceiling'))]
    rows = []
    first = headline([run])
    others = sorted((name for name in result['metrics'] if name not in first),
                    key=lambda name: (not name.startswith('test/'), natural(name)))
    for metric in (*first, *others):
        value = result['metrics'][metric]
        interval = ''
        test = metric.startswith('test/')
        if test and is_share(metric) and isinstance(count, int) and count > 0 and 0 <= value <= 1:
            low, high = statistics.wilson(value * count, count)
            interval = f'{number(metric, float(low))} to {number(metric, float(high))}'
        rows.append(('test' if metric in first else 'other', (
            heading(metric), number(metric, value), interval,
            *(number(metric, values.get(metric)) for values in known.values()),
            *(number(metric, result.get(kind)) if test and 'accuracy' in metric else '-' for kind in facts))))
    footer = [('seeds', f'{run.seed} (one seed: no spread over seeds)'),
              ('interval', 'Wilson, 95 %, for the draw of test examples only'), *_measured(first), *_made([run])]
    return Grid(('metric', 'this run', '95 % interval', *known, *facts), rows, tuple(footer), ())


def rows(runs: Sequence[Run], **how) -> Grid:
    """The table of one run, or of several; `how` as in `summarise`."""
    return run_grid(runs[0]) if len(runs) == 1 and not how else grid(summarise(runs, **how))


def markdown(found: Grid) -> str:
    """The grid as a GitHub-flavoured Markdown table with its findings and footer."""
    def line(cells):
        cells = (re.sub(r'\s+', ' ', cell).replace('\\', '\\\\').replace('|', '\\|') for cell in cells)
        return '| ' + ' | '.join(cells) + ' |'

    out = [line(found.header), '|' + ' --- |' + ' ---: |' * (len(found.header) - 1)]
    out += [line(cells) for _, cells in found.rows]
    if found.findings:
        out += ['', *(f'- {sentence}' for sentence in found.findings)]
    out += ['', *(f'- {name}: {text}' for name, text in found.footer)]
    return '\n'.join(out) + '\n'


def csv(table: Table) -> str:
    """The comparison as CSV, numbers unrounded (shares in [0, 1]); what the footer says stands in columns."""
    made = dict(table.footer)
    extra = [name for name in ('config', 'commit', 'device', 'date') if name in made]
    header = ['variant', 'kind', 'n', 'failed', 'seeds']
    for metric in table.metrics:
        header += [f'{metric} {part}'
                   for part in ('mean', 'half', 'difference', 'difference half', 'p', 'pairs')]
    header += [*table.costs(), 'baseline', *extra, 'test']
    out = io.StringIO()
    writer = csv_module.writer(out, lineterminator='\n')
    writer.writerow(header)
    for row in table.rows:
        line = [row.label, row.kind, len(row.seeds), row.failed, ' '.join(map(str, row.seeds))]
        for metric in table.metrics:
            mean = row.means.get(metric)
            found = row.differences.get(metric)
            line += [mean.mean, mean.half] if mean else [None, None]
            line += [found.mean, found.half, found.p, found.n] if found else [None] * 4
        line += [row.costs.get(name) for name in table.costs()]
        writer.writerow([*line, row.against or table.baseline, *(made[name] for name in extra), CHOICE])
    return out.getvalue()
