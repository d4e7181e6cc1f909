"""Summarises comparisons of estimated weights: final weights, what each estimator says, whether they agree.

    python benchmarks/study_importance.py runs/lis runs/mfeat_mor ... [--draws=40] [--baseline=uniform] > summary.md

Each folder is a workdir of `python -m fipjax.compare` over arms of fipjax/arms.py. The runs of the baseline, one a
seed, are asked by fipjax.analysis.importance (their folder importance/, made once); means and ranges are over seeds.
"""
import argparse
import json
import pathlib

import numpy as np
from absl import flags

from fipjax import launch
from fipjax.algorithms.importance import LABELLED
from fipjax.analysis import importance, names, runs


def final_weights(found) -> list[str]:
    """Rows: arm, final weight of each modality, mean and range over seeds; arms with weights of their own only."""
    rows = []
    for arm in dict.fromkeys(r.result['variant'] for r in found):
        kept = [{k.rpartition('/')[2]: v for k, v in r.result['metrics'].items() if k.startswith('pretrain/weight/')}
                for r in found if r.result['variant'] == arm]
        if kept[0]:
            rows.append(f'| {arm} | ' + ' | '.join(spread([k[m] for k in kept]) for m in sorted(kept[0])) + ' |')
    modalities = sorted(k.rpartition('/')[2] for r in found for k in r.result['metrics']
                        if k.startswith('pretrain/weight/'))
    return [header('arm', list(dict.fromkeys(modalities))), *rows]


def spread(values, form: str = '.2f') -> str:
    """Mean and range."""
    return f'{np.mean(values):{form}} ({min(values):{form}} to {max(values):{form}})'


def header(first, columns) -> str:
    """Two lines of a table."""
    return f'| {first} | ' + ' | '.join(columns) + ' |\n| --- |' + ' ---: |' * len(columns)


def asked(run, draws: int) -> dict:
    """importance.json of a run, made if it is not there or of another number of draws."""
    path = run.workdir / 'importance' / 'importance.json'
    if not path.is_file() or json.loads(path.read_text())['about']['draws'] != draws:
        importance.write(run=str(run.workdir), draws=draws)
    return json.loads(path.read_text())


def estimates(reports) -> list[str]:
    """Rows: estimator, gain of each modality over seeds, rank correlation with ablation."""
    modalities = list(reports[0]['estimators']['ablation']['modalities'])
    rows = [header('estimator', [*modalities, 'told apart', 'rank correlation with ablation'])]
    for method in LABELLED:
        found = [r['estimators'][method]['modalities'] for r in reports]
        apart = '/'.join(str(sum(f[m]['told_apart'] for f in found)) for m in modalities)
        ranks = [r['rank_correlation_with_ablation'].get(method) for r in reports]
        ranks = '-' if method == 'ablation' else spread([np.nan if x is None else x for x in ranks])
        gains = ' | '.join(spread([f[m]['gain'] for f in found], '+.3f') for m in modalities)
        rows.append(f'| {method} | {gains} | {apart} of {len(reports)} | {ranks} |')
    return rows


def main() -> None:
    """Prints Markdown."""
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument('workdir', nargs='+')
    given.add_argument('--draws', type=int, default=40)
    given.add_argument('--baseline', default='uniform')
    given = given.parse_args()
    flags.FLAGS.mark_as_parsed()  # grain and Orbax read flags
    launch.prepare_jax()
    for workdir in map(pathlib.Path, given.workdir):
        found = runs.load_comparison(workdir)
        found = sorted(found, key=lambda r: names.natural(r.result['variant']))
        base = [r for r in found if r.result['variant'].rpartition('-')[2] == given.baseline]
        print(f'\n## {workdir.name}\n', *final_weights(found), '', *estimates([asked(r, given.draws) for r in base]),
              sep='\n', flush=True)


if __name__ == '__main__':
    main()
