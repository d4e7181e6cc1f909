"""The table of a benchmark: methods by tasks with ranks, trivial baselines, published numbers, and what it can tell.

    python -m fipjax.compare --config=configs/mona/pdebench/every.py --workdir=runs/pdebench --seeds=0,1,2 \
        --vary=variant=burgers,darcy,transfer.method=scratch,finetune,embedder,orca,mona --baseline=finetune
    python -m fipjax.analysis.benchmark --workdirs=runs/pdebench

writes benchmark.md into the first folder; a comparison's report shows the same. Several folders, one a task, are put
into one table. Runs are those of wing 'mona' whose target is a prepared task of NAS-Bench-360 or PDEBench.
"""
from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from absl import flags
from scipy import stats

from fipjax import launch, writer
from fipjax.analysis import references, runs, statistics, table
from fipjax.analysis.names import is_share, number
from fipjax.analysis.published_numbers import NB360, PDE, ROWS
from fipjax.analysis.runs import Run
from fipjax.errors import UserError

# What each task is scored with by its benchmark, lower is better.
OWN = {NB360: {'cifar100': 'error', 'spherical': 'error', 'darcy': 'relative_l2', 'psicov': 'mae_8',
               'cosmic': 'false_negative_rate', 'ninapro': 'error', 'fsd50k': 'map_error', 'ecg': 'macro_f1_error',
               'satellite': 'error', 'deepsea': 'auroc_error'}}
ORCA = {'psicov': 'orca_mae_8', 'cosmic': 'orca_auroc_error', 'ecg': 'orca_macro_f1_error',
        'deepsea': 'orca_auroc_error', 'navier_stokes_1d': 'orca_nmse'}  # where it differs from the task's own
PROTOCOL = ('every choice (learning rate, step) on the validation split; the test split read once a run, so that '
            'published numbers that were chosen on test are not of the same kind')


class Column(NamedTuple):
    """A task and a metric: `ranked` if it is the task's own, `labels` as in transfer.labels_per_class."""

    family: str
    task: str
    metric: str
    labels: int
    ranked: bool

    @property
    def key(self) -> str:
        """Its name in result.json."""
        return f'test/{self.metric}@{self.labels}'

    @property
    def title(self) -> str:
        """For people."""
        few = f', {self.labels} labels a class' if self.labels else ''
        return f'{self.task}: {self.metric.replace("_", " ")}{few}{" (%)" if is_share(self.metric) else ""}'


def task_of(run: Run) -> tuple[str, str] | None:
    """(family, task) of a run on a prepared benchmark, else None."""
    target = run.config.get('target') or {}
    family, _, task = str(target.get('name', '')).partition('/')
    known = family == PDE or task in OWN.get(family, {})
    return (family, task) if known and run.config.get('wing') == 'mona' and target.get('data') == 'tfds' else None


def columns(done: Sequence[Run]) -> list[Column]:
    """The columns of runs, by task in the order in which they come; all labels if a run has that, else the most."""
    out = []
    for family, task in dict.fromkeys(filter(None, map(task_of, done))):
        mine = [run for run in done if task_of(run) == (family, task)]
        metric = OWN[family][task] if family == NB360 else 'nrmse'
        labels = {n for run in mine for n in run.config['transfer']['labels_per_class']}
        n = 0 if 0 in labels else max(labels)
        found = [Column(family, task, metric, n, True)]
        if task in ORCA:
            found.append(Column(family, task, ORCA[task], n, False))
        out += [c for c in found if any(c.key in run.result['metrics'] for run in mine)]
    return out


def cells(done: Sequence[Run], column: Column) -> dict[str, dict[int, float]]:
    """method -> {seed: value} of a column.

    Raises:
      UserError: two runs of one method, task and seed: something else than these was varied.
    """
    out: dict[str, dict[int, float]] = {}
    for run in done:
        if task_of(run) != (column.family, column.task) or column.key not in run.result['metrics']:
            continue
        method = run.config['transfer']['method']
        if run.seed in out.setdefault(method, {}):
            raise UserError(f'{run.workdir}: a second run of {method} on {column.task} with seed {run.seed}; a table '
                            'of a benchmark is over tasks, methods and seeds alone')
        out[method][run.seed] = run.result['metrics'][column.key]
    return out


def trivials(done: Sequence[Run], column: Column) -> dict[str, float]:
    """Trivial baseline -> its mean over the runs of a column's task."""
    found: dict[str, list[float]] = {}
    for run in done:
        if task_of(run) == (column.family, column.task):
            for name, metrics in references.trivial(run).items():
                if column.key in metrics:
                    found.setdefault(name, []).append(metrics[column.key])
    return {name: float(np.mean(values)) for name, values in found.items()}


def ranks(values: Mapping[Column, Mapping[str, Mapping[int, float]]]) -> dict[str, float]:
    """method -> mean of its ranks by mean value over the ranked columns that every method has; ties share a rank."""
    methods = list(dict.fromkeys(m for found in values.values() for m in found))
    whole = [found for column, found in values.items() if column.ranked and set(found) == set(methods)]
    if len(methods) < 2 or not whole:
        return {}
    placed = [stats.rankdata([np.mean(list(found[m].values())) for m in methods]) for found in whole]
    return dict(zip(methods, np.mean(placed, 0).tolist(), strict=True))


def published(column: Column) -> list[tuple[str, float, bool]]:
    """(method with its source, value, confirmed) of the numbers that belong into a column."""
    apart = column.task in ORCA
    return [(f'{row.method}: {row.source}', row.values[column.task], row.confirmed) for row in ROWS
            if row.family == column.family and column.task in row.values
            and (not apart or (row.metric == 'orca') != column.ranked)]


def verdict(column: Column, found: Mapping[str, Mapping[int, float]], trivial: Mapping[str, float]) -> str:
    """Whether a task separates methods here, and whether a trivial baseline is as good, in a sentence."""
    means = {m: float(np.mean(list(v.values()))) for m, v in found.items()}
    say = lambda value: number(column.metric, value)  # noqa: E731
    best = min(means, key=means.get)
    others = [m for m in means if m != best]
    pairs = {m: statistics.paired_difference(found[m], found[best]) for m in others}
    known = {m: d for m, d in pairs.items() if d is not None and d.half is not None}
    worse = [m for m, d in known.items() if d.mean > d.half]
    lines = [f'{column.title}: {best} is best, {say(means[best])}']
    if not others:
        lines.append('the only method')
    elif not known:
        lines.append('nothing can be said of differences: fewer than two seeds are shared')
    elif not worse:
        lines.append(f'the task does not separate it from {", ".join(known)} (95 % intervals of the differences by '
                     'seed hold 0)')
    else:
        rest = [m for m in known if m not in worse]
        lines.append(f'separated from {", ".join(worse)}' + (f', not from {", ".join(rest)}' if rest else ''))
    if trivial:
        name = min(trivial, key=trivial.get)
        near = trivial[name] <= means[best]
        lines.append(f'{"NEAR-TRIVIAL: " if near else ""}the best trivial baseline, {name}, has {say(trivial[name])}'
                     + (', no worse than any method' if near else ''))
        others = [value for _, value, _ in published(column)]
        if below := sum(trivial[name] <= value for value in others):
            lines.append(f'here it is no worse than {below} of {len(others)} published numbers')
    else:
        lines.append('no trivial baseline was scored with this metric')
    return '; '.join(lines) + '.'


def grid(done: Sequence[Run]) -> table.Grid | None:
    """The table; None where no run is of a benchmark."""
    heads = columns(done)
    if not heads:
        return None
    values = {c: cells(done, c) for c in heads}
    simple = {c: trivials(done, c) for c in heads}
    placed = ranks(values)
    methods = sorted(dict.fromkeys(m for found in values.values() for m in found),
                     key=lambda m: placed.get(m, len(values) + 1.0))
    rows = [('variant', (m, *(table.with_half(c.metric, statistics.mean_interval(values[c][m].values()))
                              if m in values[c] else '-' for c in heads),
                         f'{placed[m]:.2f}' if m in placed else '-')) for m in methods]
    for name in dict.fromkeys(n for found in simple.values() for n in found):
        rows.append(('trivial', (name, *(number(c.metric, simple[c].get(name)) for c in heads), '')))
    names = dict.fromkeys((name, sure) for c in heads for name, _, sure in published(c))
    for name, sure in names:
        found = {c: {n: v for n, v, _ in published(c)}.get(name) for c in heads}
        rows.append(('ceiling', (f'{name} ({"confirmed" if sure else "unverified"})',
                                 *(number(c.metric, found[c]) for c in heads), '')))
    seeds = sorted({seed for found in values.values() for by_seed in found.values() for seed in by_seed})
    footer = (('seeds', f'{", ".join(map(str, seeds))}; ± is half of the 95 % interval over seeds'),
              ('rank', 'mean over the tasks that all methods have, by means, of the task\'s own metric'),
              ('protocol', PROTOCOL),
              ('published', 'confirmed: read in the source named; unverified: not, and no evidence'))
    sentences = tuple(verdict(c, values[c], simple[c]) for c in heads if c.ranked and values[c])
    return table.Grid(('method', *(c.title for c in heads), 'mean rank'), rows, footer, sentences)


def write(workdirs: Sequence[str]) -> str:
    """Writes benchmark.md into the first of some folders of comparisons; returns it.

    Raises:
      UserError: no finished run on a benchmark task; what `cells` says.
    """
    done = [run for workdir in workdirs for run in runs.load_comparison(workdir)]
    found = grid(done)
    if found is None:
        raise UserError(f'{", ".join(workdirs)}: no finished run whose target is a prepared task (target.data=tfds, '
                        f'target.name={NB360}/TASK or {PDE}/TASK)')
    path = pathlib.Path(workdirs[0]) / 'benchmark.md'
    text = table.markdown(found) + '\n'
    writer.write_atomically(path, text)
    return f'{text}\n{path}'


def command_line() -> None:
    """The command `python -m fipjax.analysis.benchmark`; exit code 2 for wrong input."""
    flags.DEFINE_list('workdirs', None, 'Folders of comparisons, with commas between.')

    def main(_):
        if not flags.FLAGS.workdirs:
            raise UserError('--workdirs is missing; usage: python -m fipjax.analysis.benchmark --workdirs=DIR,DIR')
        print(write(flags.FLAGS.workdirs))

    launch.start(main)


if __name__ == '__main__':
    command_line()
