"""Which example belongs to training, validation and test.

What the user says goes first: `test_groups`, then the field 'split', then the field 'group', else 70 / 15 / 15 %,
stratified by class. Groups (subjects, speakers, sessions) are never torn apart where they decide.
"""
from __future__ import annotations

import numpy as np

from fipjax.errors import UserError

NAMES = ('train', 'validation', 'test')
TEST, VALIDATION = 0.15, 0.15
LISTED = 20  # groups at most that are named


def assign(strata, split, group, test_groups, seed: int, where: str, key: str):
    """The split of every example.

    Args:
      strata: int [n], classes to keep in proportion; all equal where there are none.
      split: str [n] or None, the official splits. Without 'validation' rows 15 % of 'train' become validation.
      group: [n] or None.
      test_groups: names of groups that are the test split; () for 15 % of the groups (or the official test split).
      seed: of whatever is drawn.
      where, key: the file and the config group, for messages.

    Returns:
      (names of splits, str [n]; words for people).

    Raises:
      UserError: unknown words or groups, a split that stays empty.
    """
    n, rng = len(strata), np.random.default_rng([seed, 15])
    group = None if group is None else _words(group)
    if test_groups:
        out, words = _named_groups(group, tuple(map(str, test_groups)), strata, rng, where, key)
    elif split is not None:
        out, words = _official(_words(split), group, strata, rng, where)
    elif group is not None:
        out, words = _drawn_groups(group, strata, rng, where, key)
    else:
        test = stratified(strata, TEST, rng)
        out, words = np.where(test, 'test', 'train').astype('U10'), '70/15/15 % by class'
        if len(np.unique(strata)) == 1:
            words = '70/15/15 % at random'
        _carve(out, None, strata, VALIDATION / (1 - TEST), rng)
    for name in NAMES:
        if not (out == name).any():
            raise UserError(f'{where}: the {name} split is empty ({n} examples, {words})')
    return out, f'{words}: {" / ".join(str(int((out == name).sum())) for name in NAMES)} examples'


def stratified(strata, share: float, rng) -> np.ndarray:
    """A random `share` of the examples, at least one, each class in proportion and none taken whole: bool [n]."""
    strata = np.asarray(strata)
    sizes = np.bincount(strata)
    quota = sizes * share
    counts = np.floor(quota).astype(int)
    missing = max(1, round(share * len(strata))) - counts.sum()
    # Largest remainders first, equal ones in random order.
    order = np.lexsort((rng.random(len(sizes)), -(quota - counts)))
    room = [k for k in order if counts[k] < sizes[k] - 1]
    counts[room[:max(missing, 0)]] += 1
    out = np.zeros(len(strata), bool)
    for k, count in enumerate(counts):
        out[rng.permutation(np.flatnonzero(strata == k))[:count]] = True
    return out


def _words(x):
    x = np.asarray(x)
    return np.char.decode(x) if x.dtype.kind == 'S' else x.astype(str)


def _listed(groups):
    return f'group {", ".join(sorted(groups))}' if len(groups) <= LISTED else f'{len(groups)} groups'


def _carve(out, group, strata, share, rng):
    """Turns a share of 'train' in `out` into 'validation': whole groups where there are two or more. Returns words."""
    rows = np.flatnonzero(out == 'train')
    if not len(rows):
        return ''
    names = [] if group is None else np.unique(group[rows])
    if len(names) >= 2:
        chosen = _some(group[rows], strata[rows], share, rng)
        out[rows[np.isin(group[rows], chosen)]] = 'validation'
        return f'validation: {_listed(chosen)}'
    out[rows[stratified(strata[rows], share, rng)]] = 'validation'
    return f'validation: {100 * share:.0f} % of training by class'


def _some(group, strata, share, rng):
    """A share of the groups, at least one and not all; where each is of one class, in proportion to the classes."""
    names, first, index = np.unique(group, return_index=True, return_inverse=True)
    if len(np.unique(strata)) > 1 and (strata == strata[first][index]).all():
        return names[stratified(strata[first], share, rng)]
    return rng.permutation(names)[:max(1, min(round(share * len(names)), len(names) - 1))]


def _named_groups(group, test_groups, strata, rng, where, key):
    if group is None:
        raise UserError(f'{key}.test_groups is {test_groups}, but {where} has no groups ({key}.group_key)')
    known = np.unique(group)
    for name in test_groups:
        if name not in known:
            raise UserError(f'{key}.test_groups: no group {name!r} in {where}; found {", ".join(known[:LISTED])}'
                            + (', ...' if len(known) > LISTED else ''))
    out = np.where(np.isin(group, test_groups), 'test', 'train').astype('U10')
    return out, f'test: group {", ".join(test_groups)}, {_carve(out, group, strata, VALIDATION / (1 - TEST), rng)}'


def _official(split, group, strata, rng, where):
    unknown = np.setdiff1d(split, NAMES)
    if len(unknown):
        raise UserError(f'{where}: split has the value {str(unknown[0])!r}; allowed: {", ".join(NAMES)}')
    out = split.astype('U10')
    if (out == 'validation').any():
        return out, 'splits as given'
    return out, f'test split as given, {_carve(out, group, strata, VALIDATION, rng)}'


def _drawn_groups(group, strata, rng, where, key):
    names = np.unique(group)
    if len(names) < 2:
        raise UserError(f'{where}: the only group is {str(names[0])!r}; two or more are needed to hold some out. '
                        f"{key}.group_key='' ignores groups")
    chosen = _some(group, strata, TEST, rng)
    out = np.where(np.isin(group, chosen), 'test', 'train').astype('U10')
    words = _carve(out, group, strata, VALIDATION / (1 - TEST), rng)
    return out, f'70/15/15 % of {len(names)} groups, test: {_listed(chosen)}, {words}'
