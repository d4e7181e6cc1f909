"""Own arrays as a data source: an .npz file, or a data set inside a wheel, and how it is split.

Arrays [n, ...] by name, as fipjax.data.sources says, and two more for whole examples: `split` with 'pretrain', 'train',
'validation' or 'test', and `group` (subject, session), which is not torn apart where splits are drawn. A `label` below
0 says that an example has none: it is pretrained on only.
"""
from __future__ import annotations

import contextlib
import functools
import pathlib
import zipfile
import zlib

import numpy as np

from fipjax.data import kinds, splitting, wheels
from fipjax.data.sources import SPLITS, ArraySource, Splits
from fipjax.errors import UserError
from fipjax.modality import Modality


def read_npz(path: str, key: str = 'data.path') -> dict[str, np.ndarray]:
    """All arrays of an .npz file; nothing in it is executed.

    Raises:
      UserError: no path, no such file, not an .npz file, or arrays of Python objects.
    """
    with _opened(path, key) as f:
        return {k: f[k] for k in f.files}


def facts(path: str, key: str = 'data.path') -> dict[str, kinds.Fact]:
    """What the arrays of an .npz file are, by name; one is in memory at a time, and a file is looked at once.

    Raises:
      UserError: as read_npz.
    """
    file = pathlib.Path(path)
    version = (file.stat().st_mtime_ns, file.stat().st_size) if file.is_file() else None
    return dict(_facts(path, key, version))


@functools.lru_cache(maxsize=4)
def _facts(path, key, version):
    del version  # of the file: one that has changed is looked at again
    with _opened(path, key) as f:
        return kinds.facts(f)


@contextlib.contextmanager
def _opened(path, key):
    if not path:
        raise UserError(f'{key} is empty; an .npz file is needed')
    if not pathlib.Path(path).is_file():
        raise UserError(f'{key}: no such file {path!r} (looked in {pathlib.Path.cwd()})')
    try:
        with np.load(path, allow_pickle=False) as f:
            yield f
    except (ValueError, OSError, EOFError, AttributeError, TypeError, RuntimeError, zipfile.BadZipFile,
            zlib.error) as e:
        raise UserError(f'{key}: {path!r} is not an .npz file of plain arrays: {str(e).splitlines()[0]}') from e


def build(data, modalities: dict[str, Modality]) -> Splits:
    """The four splits of data.source 'arrays' (an .npz file at data.path) or 'wheel' (the data set data.path).

    Raises:
      UserError: as read_npz, wheels.views and from_arrays; sizes that leave nothing to train on.
    """
    if data.source == 'wheel':
        fields = wheels.views(data.path, 'data.path')
        fields['split'] = _sized(fields['label'], data)
        return from_arrays(fields, modalities, data.seed, f'data.path={data.path}', data.standardise)
    return from_arrays(read_npz(data.path), modalities, data.seed, data.path, data.standardise)


def _sized(label, data):
    """Splits of data.validation_examples and data.test_examples in proportion to the classes; the others train."""
    split, rng = np.full(len(label), 'train', dtype='U10'), np.random.default_rng([data.seed, 15])
    for name in ('test', 'validation'):
        rows, size = np.flatnonzero(split == 'train'), data[f'{name}_examples']
        if not 0 < size < len(rows):
            raise UserError(f'data.{name}_examples is {size}; allowed: 1 to {len(rows) - 1}, as data.path={data.path} '
                            f'has {len(label)} examples')
        split[rows[splitting.stratified(label[rows], size / len(rows), rng)]] = name
    return split


def from_arrays(fields: dict, modalities: dict[str, Modality], seed: int = 0, where: str = 'arrays',
                standardise: bool = False) -> Splits:
    """Splits from arrays in memory.

    Args:
      fields: name -> array [n, ...], see this module's docstring. Without 'split' 70 / 15 / 15 % of the labelled
        examples are train, validation and test, drawn by `seed`: whole groups, or in proportion to the classes.
        Without 'pretrain' rows pretraining sees those of 'train' and those without a label (but none of a group that
        is evaluated).
      modalities: name -> Modality.
      standardise: take every number of an example less its mean over 'pretrain' and 'train', by its deviation there;
        for vectors of features, which have no common unit.

    Raises:
      UserError: as ArraySource; unknown names in 'split'; an empty split; one group only; labels in a split that has
        none, or a class that training does not see.
    """
    fields = _checked({k: np.asarray(v) for k, v in fields.items()}, modalities, where)
    n = len(fields[next(iter(modalities))])
    label, group, split = (fields.get(k) for k in ('label', 'group', 'split'))
    labelled = np.ones(n, bool) if label is None else label >= 0
    if split is not None:
        split = fields.pop('split').astype(str)
        unlabelled = ~labelled & (split != 'pretrain')
        if unlabelled.any():
            raise UserError(f'{where}: label of example {int(np.argmax(unlabelled))} is {label[unlabelled][0]}, but it '
                            f'is in the {split[unlabelled][0]} split; only the pretrain split may hold examples '
                            'without a label')
    else:
        split = _drawn(n, labelled, label, group, seed, where)
    classes = () if label is None else _classes(label, split, where)
    rows = {name: np.flatnonzero(split == name) for name in SPLITS}
    if not len(rows['pretrain']):
        rows['pretrain'] = np.flatnonzero(np.isin(split, ('train', 'unlabelled')))
    for name in SPLITS:
        if not len(rows[name]):
            raise UserError(f'{where}: the {name} split is empty')
    if standardise:
        seen = np.union1d(rows['pretrain'], rows['train'])
        fields |= {k: _standardised(x, seen, fields.get(f'{m}_present')) for m, spec in modalities.items()
                   if spec.kind != 'tokens' for k, x in ((m, fields[m]), (f'{m}_target', fields.get(f'{m}_target')))
                   if x is not None}
    out = {}
    for name, mine in rows.items():
        given = {k: v[mine] for k, v in fields.items() if k != 'label' or labelled[mine].all()}
        out[name] = ArraySource(modalities, given, classes, mine, where)
    return Splits(**out)


def _checked(fields, modalities, where):
    missing = [m for m in modalities if m not in fields]
    if missing:
        raise UserError(f'{where}: no array for modality {missing[0]!r}; found {sorted(fields)}')
    single = [k for k, v in fields.items() if v.ndim == 0]
    if single:
        raise UserError(f'{where}: {single[0]} is a single value; every array needs one entry an example')
    n = len(fields[next(iter(modalities))])
    if n == 0:
        raise UserError(f'{where}: no examples')
    for k in ('split', 'group'):
        if k in fields and fields[k].ndim != 1:
            raise UserError(f'{where}: {k} has shape {fields[k].shape}; expected one word an example, [{n}]')
    bad = [k for k, v in fields.items() if len(v) != n]
    if bad:
        raise UserError(f'{where}: {bad[0]} has {len(fields[bad[0]])} examples, {next(iter(modalities))} has {n}')
    unknown = sorted(set(fields['split'].astype(str)) - set(SPLITS)) if 'split' in fields else ()
    if unknown:
        raise UserError(f'{where}: split has the value {unknown[0]!r}; allowed: {", ".join(SPLITS)}')
    label = fields.get('label')
    if label is not None and (label.ndim != 1 or label.dtype.kind not in 'iu'):
        raise UserError(f'{where}: label must be integers [n], below 0 where there is none; found {label.dtype} '
                        f'{label.shape}')
    if label is not None and not (label >= 0).any():
        raise UserError(f'{where}: label is below 0 everywhere, so that no example has one')
    return fields


def _drawn(n, labelled, label, group, seed, where):
    """The split of every example, 'unlabelled' where there is no label ('' in a group that is evaluated). str [n]."""
    if group is not None and len(np.unique(group)) < 2:
        raise UserError(f'{where}: the only group is {str(group[0])!r}; two or more are needed to hold some out, or '
                        'leave the array group out')
    split, mine = np.full(n, 'unlabelled', dtype='U10'), np.flatnonzero(labelled)
    strata = np.zeros(len(mine), int) if label is None else np.unique(label[mine], return_inverse=True)[1]
    split[mine], _ = splitting.assign(strata, None, None if group is None else group[mine], (), seed, where, 'data')
    if group is not None:
        split[~labelled & np.isin(group, group[np.isin(split, ('validation', 'test'))])] = ''
    return split


def _classes(label, split, where):
    seen, largest = np.unique(label[split == 'train']), int(label.max())
    if len(seen) <= largest:  # compared, not listed: a wrong label can be huge
        gap = np.append(np.flatnonzero(seen != np.arange(len(seen))), len(seen))[0]
        raise UserError(f'{where}: label {gap} occurs nowhere in the training split, but the largest label '
                        f'is {largest}; labels must be 0..K-1')
    return tuple(str(i) for i in range(largest + 1))


def _standardised(x, rows, present):
    """x [n, ...] float32 with mean 0 and deviation 1 over `rows` where present; what never varies becomes 0."""
    seen = x[rows] if present is None else x[rows][present[rows].astype(bool)]
    mean, deviation = seen.mean(0, dtype=np.float64), seen.std(0, dtype=np.float64)
    return ((x - mean) / np.where(deviation > 0, deviation, 1)).astype(np.float32)
