"""D of finished runs with the classes it matches, from the parameters they kept; for fipjax.analysis.discrepancy."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fipjax.analysis import knowledge, knowledge_pictures, table

COMMAND = 'fipjax.analysis.discrepancy'


def write(workdirs: Sequence[str], out: str | None = None, distance: str | None = None, against: str = 'labels',
          splits=None) -> str:
    """Computes D of all runs; writes discrepancy.png and .json, and of several runs distortion.png and .json.

    Args:
      workdirs: of runs and comparisons.
      out: folder, the one workdir if None.
      distance: see fipjax.analysis.discrepancy; None: that of each run's config, 'probability' where it is 'none'.
      against: see fipjax.experiments.finished.Finished.match.
      splits: of the target, where the data of the runs were given in memory.

    Returns:
      A table for people, and the paths of the files.

    Raises:
      UserError: no finished run of wing 'mona', data or parameters that are not there, too few source classes.
    """
    found, folder = knowledge.find(workdirs, COMMAND), knowledge.folder(workdirs, out)
    from fipjax.experiments import finished  # here: a wrong command line is answered before models are loaded
    known = {(p.workdir, p.labels): p for p in knowledge.points(found)}
    points, rows, panels, numbers, names = [], [], [], [], ((), ())
    for opened in finished.opened(found, splits):
        own = opened.config.discrepancy.distance
        chosen = distance or (own if own != 'none' else 'probability')
        for labels in opened.labels:
            match = opened.match(labels, chosen, against)
            point = known[str(opened.run.workdir), labels]._replace(discrepancy=match.exact.value, distance=chosen)
            names = match.source, match.target
            points.append(point)
            panels.append((knowledge.count(labels), match.costs, match.exact.pairs))
            pairs = [(match.source[i], match.target[j]) for i, j in match.exact.pairs]
            rows.append(('variant', (opened.run.label, str(point.seed), point.target, knowledge.count(labels), chosen,
                                     f'{match.exact.value:.4f}', f'{match.bound.value:.4f}',
                                     ', '.join(f'{s} <- {t}' for s, t in pairs))))
            numbers.append({**knowledge.numbers(point), 'upper_bound_renormalised': match.bound.value,
                            'pairs': pairs, 'pairs_renormalised': [(match.source[i], match.target[j])
                                                                   for i, j in match.bound.pairs],
                            'costs': np.where(np.isnan(match.costs), None, match.costs).tolist()})
    look = {'baseline': knowledge.baseline(workdirs)}
    picture = (knowledge_pictures.matching(panels, *names, points[0].distance) if len(found) == 1
               else knowledge_pictures.discrepancy_bars(points, **look))
    files = knowledge.keep(folder, 'discrepancy', picture, {'against': against, 'runs': numbers})
    if len(found) > 1:
        counted = knowledge.distorted(points)
        rank = knowledge.rank_correlation(counted)
        files += knowledge.keep(folder, 'distortion', knowledge_pictures.distortion(points, **look), {
            'spearman': rank and {'correlation': rank[0], 'p': rank[1], 'runs': len(counted)},
            'runs': [knowledge.numbers(p) for p in points]})
    header = ('run', 'seed', 'target', 'labels', 'distance', 'D', 'upper bound, renormalised',
              'source class <- target class')
    return table.markdown(table.Grid(header, rows, tuple(('file', str(f)) for f in files), ()))
