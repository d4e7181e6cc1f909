"""The tables of docs/results.md on transfer, from finished comparisons of configs/mona/study.py.

    python benchmarks/study_summary.py runs/study/fsdd_2d runs/study/fsdd_1d ...

For each comparison: target score, source probe error, D and seconds of stage 1 by method and labels a class, mean and
half of the 95 % t-interval over seeds (shares in percent); trivial baselines; then the paper's claims as numbers.
"""
import pathlib
import sys

from fipjax.analysis import knowledge, runs, statistics, table
from fipjax.evaluators import scores


def cell(values, scale: float, digits: int) -> str:
    """'61.2 ± 1.3', without the interval where there is one value, '-' for none."""
    if not values:
        return '-'
    found = statistics.mean_interval(values)
    half = '' if found.half is None else f' ± {scale * found.half:.{digits}f}'
    return f'{scale * found.mean:.{digits}f}{half}'


def summary(workdir: pathlib.Path) -> None:
    """Prints the tables of one comparison."""
    found = runs.load_comparison(workdir)
    labels = found[0].config['transfer']['labels_per_class']
    name = next(m for m in found[0].result['headline'] if m.startswith('test/')).partition('@')[0]
    scale, digits = (100, 1) if table.is_share(name) else (1, 3)
    methods = list(dict.fromkeys(run.label for run in found))
    columns = [(key.format(n), f'{title}, {n or "all"}', s, d) for key, title, s, d in (
        (f'{name}@{{}}', name.removeprefix('test/').replace('_', ' '), scale, digits),
        ('source/probe_error@{}', 'probe', 100, 1), ('source/discrepancy@{}', 'D', 1, 2),
        ('stage_1/seconds@{}', 'stage 1 s', 1, 0)) for n in labels]
    columns = [c for c in columns if any(c[0] in run.result['metrics'] for run in found)]
    seeds = sorted({run.seed for run in found})
    print(f'\n### {workdir.name}: seeds {", ".join(map(str, seeds))}, {len(found)} runs\n')
    print('| method | ' + ' | '.join(title for _, title, *_ in columns) + ' |')
    print('|---|' + '---:|' * len(columns))
    for method in methods:
        mine = [run.result['metrics'] for run in found if run.label == method]
        cells = [cell([m[key] for m in mine if key in m], s, d) for key, _, s, d in columns]
        print(f'| {method} | ' + ' | '.join(cells) + ' |')
    for baseline in found[0].result['references']:
        given = [run.result['references'][baseline] for run in found if run.label == methods[0]]
        cells = [cell([g[key] for g in given], scale, digits) if key.startswith('test/') else ''
                 for key, *_ in columns]
        print(f'| {baseline} | ' + ' | '.join(cells) + ' |')
    lower = name.removeprefix('test/') in scores.LOWER_IS_BETTER
    for n in labels:
        best = {}
        for method in methods:
            values = [run.result['metrics'][f'{name}@{n}'] for run in found if run.label == method]
            best[method] = sum(values) / len(values)
        print(f'\n{knowledge.count(n)}: ' + ' < '.join(sorted(best, key=best.get, reverse=not lower)))
        for other in [m for m in methods if m != 'mona']:
            values = [{run.seed: run.result['metrics'] for run in found if run.label == m} for m in ('mona', other)]
            said = []
            for key, s in ((f'{name}@{n}', scale), (f'source/probe_error@{n}', 100)):
                d = statistics.paired_difference(*({k: v[key] for k, v in side.items()} for side in values))
                if d:
                    said.append(f'{key} {s * d.mean:+.3g} ± {s * (d.half or 0):.2g}')
            print(f'  mona - {other}: ' + ', '.join(said))


def main() -> None:
    """Prints the tables of all comparisons, and the rank correlation of D with distortion over all of them."""
    points = []
    for text in sys.argv[1:]:
        summary(pathlib.Path(text))
        points += knowledge.points(runs.load_comparison(pathlib.Path(text)))
    kept = knowledge.distorted(points)
    print(f'\nSpearman of D and rise of the probe error: {knowledge.rank_correlation(kept)} over {len(kept)} runs')
    for where in dict.fromkeys(p.where for p in kept):
        print(f'  {where}: {knowledge.rank_correlation([p for p in kept if p.where == where])}')
    seconds = [run.result['seconds']['total'] for text in sys.argv[1:]
               for run in runs.load_comparison(pathlib.Path(text))]
    print(f'{len(seconds)} runs, {sum(seconds) / 60:.0f} minutes of run time added up')


if __name__ == '__main__':
    main()
