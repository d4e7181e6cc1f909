"""Knowledge discrepancy: how far what a source model says of target inputs is from their labels (MoNA, 2406.18864).

A source model gives each target input x a distribution p(. | x) over its Ks classes; the target gives it a class, or
a distribution q(. | x) over Kt <= Ks classes. Classes have no common names, so the discrepancy takes the best match:

    D = inf over B of Kt source classes and bijections pi of the target classes onto B of  mean_x d(p(. | x), q(. | x))

The paper leaves d open. Each of the distances here is a mean over samples of sum_j q(j | x) l(pi(j), x), with a loss l
of calling x the source class i:

    'error'          l(i, x) = 0 if i is the most probable of all Ks source classes at x (ties: the first), else 1
    'probability'    l(i, x) = 1 - p(i | x)
    'cross_entropy'  l(i, x) = -log max(p(i | x), 1e-12)

so D is a sum over target classes of a cost that depends on the pair alone, and the infimum, over B too, is an
assignment problem that is solved exactly. Where p is renormalised inside B the cost of a pair depends on all of B;
`renormalised` then gives an upper bound.

    python -m fipjax.analysis.discrepancy --workdir=DIR [--distance=error] [--against=model]

computes D of a finished run, or of all runs of a comparison, from the parameters they kept.
"""
from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from fipjax.errors import UserError

DISTANCES = ('error', 'probability', 'cross_entropy')
FLOOR = 1e-12
SUM_TOLERANCE = 1e-3  # of probabilities, which may come from half precision


class Discrepancy(NamedTuple):
    """A value of D and how it comes about.

    Attributes:
      value: D; for 'error' and 'probability' in [0, 1], for 'cross_entropy' in nats.
      pairs: ((source class, target class), ...), one for each target class, in their order.
      exact: whether no other match has a lower value; False: `value` is an upper bound of D.
    """

    value: float
    pairs: tuple[tuple[int, int], ...]
    exact: bool


def cost_matrix(source_probs, target, distance: str) -> np.ndarray:
    """Cost of matching source class i with target class j: the mean over samples of q(j | x) l(i, x).

    Args:
      source_probs: [n, Ks], each row a distribution.
      target: int [n], classes 0 to Kt - 1 of which the last one occurs, or [n, Kt], each row a distribution.
      distance: 'error', 'probability' or 'cross_entropy', defined in this module's docstring.

    Returns:
      float64 [Ks, Kt].

    Raises:
      UserError: an unknown distance, arrays of wrong shape or length, rows that are no distributions, Ks < Kt.
    """
    return _costs(*_checked(source_probs, target, distance), distance)


def discrepancy(source_probs, target, distance: str) -> Discrepancy:
    """D, by an exact assignment. Arguments and errors as `cost_matrix`."""
    return _match(cost_matrix(source_probs, target, distance), None, True)


def renormalised(source_probs, target, distance: str) -> Discrepancy:
    """D with p renormalised inside B, p(i | x) / sum over B; an upper bound by local search.

    Inside one B the best bijection is an assignment and exact ('error' then asks for the most probable class of B,
    and a sample that gives B no probability at all has the uniform distribution over it). The search goes from the B
    of `discrepancy`, by the best exchange of one class inside for one outside, until no exchange is better.

    Arguments and errors as `cost_matrix`. `exact` is True only if Ks = Kt, where there is one B.
    """
    p, q = _checked(source_probs, target, distance)
    source, classes = p.shape[1], q.shape[1]

    def inside(chosen):
        mass = p[:, chosen].sum(1, keepdims=True)
        shares = np.where(mass > 0, p[:, chosen] / np.where(mass > 0, mass, 1.0), 1 / classes)
        return _match(_costs(shares, q, distance), chosen, source == classes)

    best = inside(sorted(i for i, _ in _match(_costs(p, q, distance), None, True).pairs))
    while True:
        chosen = sorted(i for i, _ in best.pairs)
        others = [sorted({*chosen, new} - {old}) for old in chosen for new in range(source) if new not in chosen]
        nearest = min(map(inside, others), key=lambda d: d.value, default=best)
        # Better by more than rounding, so that the search ends.
        if not nearest.value < best.value - 1e-12 * max(1.0, abs(best.value)):
            return best
        best = nearest


def _match(costs, chosen, exact):
    """The best assignment; `chosen` are the source classes of the rows, None for all of them."""
    rows, columns = linear_sum_assignment(costs)
    order = np.argsort(columns)
    names = rows if chosen is None else np.asarray(chosen)[rows]
    pairs = tuple((int(names[k]), int(columns[k])) for k in order)
    return Discrepancy(float(costs[rows, columns].sum()), pairs, exact)


def _costs(p, q, distance):
    """As `cost_matrix`; p [n, Ks] and q [n, Kt] float64."""
    if distance == 'cross_entropy':
        losses = -np.log(np.maximum(p, FLOOR))
    else:
        losses = 1 - (np.eye(p.shape[1])[p.argmax(1)] if distance == 'error' else p)
    return losses.T @ q / len(p)


def _checked(source_probs, target, distance):
    """p [n, Ks] and q [n, Kt] float64."""
    if distance not in DISTANCES:
        raise UserError(f'distance is {distance!r}; allowed: {", ".join(DISTANCES)}')
    p, target = np.asarray(source_probs), np.asarray(target)
    if p.ndim != 2 or not len(p) or target.ndim not in (1, 2) or len(target) != len(p):
        raise UserError(f'source_probs has shape {p.shape} and target {target.shape}; '
                        f'allowed: [n, Ks] and [n] or [n, Kt], n at least 1')
    if target.ndim == 1:
        if target.dtype.kind not in 'iu' or target.min() < 0:
            raise UserError(f'target: found {target.dtype} from {target.min()}; allowed: whole numbers from 0')
        classes = int(target.max()) + 1
    else:
        classes = target.shape[1]
    if p.shape[1] < classes:
        raise UserError(f'the source has {p.shape[1]} classes and the target {classes}; the discrepancy matches each '
                        'target class with a source class of its own, so the source needs at least as many')
    q = np.eye(classes)[target] if target.ndim == 1 else target.astype(np.float64)
    p = p.astype(np.float64)
    for name, x in (('source_probs', p), ('target', q)):
        wrong = ~((x >= 0).all(1) & (np.abs(x.sum(1) - 1) < SUM_TOLERANCE))
        if wrong.any():
            row = int(wrong.argmax())
            raise UserError(f'{name}: row {row} is {x[row]}; allowed: numbers of at least 0 whose sum is 1')
    return p, q


# --- The command ------------------------------------------------------------------------------------------------------

def command_line() -> None:
    """The command `python -m fipjax.analysis.discrepancy`; exit code 2 for wrong input."""
    from absl import flags

    from fipjax import launch
    flags.DEFINE_list('workdir', [], 'Workdir of a finished run or of a comparison; several with commas.')
    flags.DEFINE_string('out', None, 'Folder for the pictures and numbers; default: the workdir.')
    flags.DEFINE_enum('distance', None, DISTANCES, 'd; default: as each run was configured, else probability.')
    flags.DEFINE_enum('against', 'labels', ('labels', 'model'), 'Target side: true labels (clusters where there are no '
                      "classes), or the class probabilities of the run's chosen model.")

    def main(_):
        from fipjax.analysis import matched
        given = flags.FLAGS
        print(matched.write(given.workdir, given.out, given.distance, given.against))

    launch.start(main)


if __name__ == '__main__':
    command_line()
