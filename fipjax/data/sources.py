"""Data sources: anything with `modalities`, `classes`, `len()` and `take(rows)`.

`take(rows int [B])` returns 'id' int32 [B], 'inputs' and 'targets' {m: [B, *shape]}, 'present' {m: bool [B]}, for
labelled data 'label' int32 [B], and 'meta' {name: [B]}, facts for the host that no device gets. Inputs are float32,
or int32 for token ids; targets are what pretraining predicts (the clean signal where the input is noisy).

Fields of arrays and of TFDS features: `<m>` is the input, `<m>_target` its clean version, `<m>_present` a mask of
missing modalities, `label`; every other one-dimensional field is meta. Where a shape ends in one channel, fields
without that axis will do: [n, L] for (L, 1), [n, H, W] for (H, W, 1).
"""
from __future__ import annotations

import json
from typing import Any, NamedTuple

import numpy as np

from fipjax import bars
from fipjax.errors import UserError
from fipjax.modality import Modality

SPLITS = ('pretrain', 'train', 'validation', 'test')


class Splits(NamedTuple):
    """The four splits: `pretrain` needs no labels; `ceiling` is the best accuracy possible, None if unknown."""

    pretrain: Any
    train: Any
    validation: Any
    test: Any
    ceiling: float | None = None
    ceiling_reason: str = ''


class ArraySource:
    """Examples held in memory.

    Args:
      modalities: name -> Modality.
      fields: name -> array [n, ...], named as this module's docstring says; images may be uint8.
      classes: names of the classes; read off the labels when empty.
      ids: int [n], unique over all splits; 0..n-1 without it.
      where: named in error messages.

    Images of type uint8 become float32 in [-1, 1], other numbers float32 as they are; what stands in the place of a
    missing modality becomes 0.

    Raises:
      UserError: a missing field, a wrong shape, NaN or infinity, a label that is not one of the classes, no examples.
    """

    def __init__(self, modalities, fields, classes=(), ids=None, where='arrays'):
        self.modalities, self.where = dict(modalities), where
        missing = [m for m in modalities if m not in fields]
        if missing:
            raise UserError(f'{where}: no array for modality {missing[0]!r}; found {sorted(fields)}')
        n = len(fields[next(iter(modalities))])
        if n == 0:
            raise UserError(f'{where}: the split is empty')
        for name, x in fields.items():
            if len(x) != n:
                raise UserError(f'{where}: {name} has {len(x)} examples, {next(iter(modalities))} has {n}')
        fields = {k: np.asarray(v) for k, v in fields.items()}
        for m, spec in modalities.items():
            here = np.asarray(fields.get(f'{m}_present', True))
            if here.ndim > 1 or here.dtype.kind not in 'biu':
                raise UserError(f'{where}: {m}_present has shape {here.shape} and type {here.dtype}; expected one '
                                f'True or False an example, [{n}]')
            for name in (m, f'{m}_target'):
                if name in fields:
                    fields[name] = _with_channel(fields[name], spec)
                    _check_array(f'{where}: {name}', fields[name], n, spec, fields.get(f'{m}_present'))
        self.fields = fields
        self.ids = np.arange(n, dtype=np.int32) if ids is None else np.asarray(ids, np.int32)
        self.classes = tuple(classes)
        if 'label' in fields:
            self.classes = self.classes or tuple(str(i) for i in range(int(np.max(fields['label'])) + 1))
            check_labels(fields['label'], self.classes, f'{where}: label')
        taken = {*modalities, 'label', *(f'{m}_{k}' for m in modalities for k in ('target', 'present'))}
        self._meta = [k for k, v in self.fields.items() if k not in taken and v.ndim == 1]

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows) -> dict:
        """The examples at `rows` int [B], as this module's docstring says."""
        get, ones = self.fields.__getitem__, np.ones(len(rows), bool)
        present = {m: get(f'{m}_present')[rows].astype(bool) if f'{m}_present' in self.fields else ones
                   for m in self.modalities}
        inputs = {m: _value(spec, get(m)[rows], present[m]) for m, spec in self.modalities.items()}
        targets = {m: _value(spec, get(f'{m}_target')[rows], present[m]) if f'{m}_target' in self.fields else inputs[m]
                   for m, spec in self.modalities.items()}
        out = {'id': self.ids[rows], 'inputs': inputs, 'targets': targets, 'present': present,
               'meta': {k: get(k)[rows] for k in self._meta}}
        return {**out, 'label': get('label')[rows].astype(np.int32)} if 'label' in self.fields else out


class Subset:
    """Some rows of a source, in the order given; `modalities` may keep only some of the source's."""

    def __init__(self, source, rows, modalities=None):
        self.source, self.rows, self.classes = source, np.asarray(rows), source.classes
        self.modalities = {m: source.modalities[m] for m in (modalities or source.modalities)}

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, rows) -> dict:
        """As the source's, with the modalities that were kept."""
        out = self.source.take(self.rows[rows])
        per_modality = {k: {m: out[k][m] for m in self.modalities} for k in ('inputs', 'targets', 'present')}
        return {**out, **per_modality}


class TfdsSource:
    """One split of a TFDS dataset prepared as array_record, read without TensorFlow.

    Args:
      data: a `tfds.data_source` (random access).
      modalities, classes: as in ArraySource.
      id_offset: added to the row number to make the id, where the features have no 'id'.
      where: named in error messages.
      pretrained_on: and nothing else, so that labels are not checked: one below 0 says that an example has none.
    """

    def __init__(self, data, modalities, classes=(), id_offset=0, where='tfds', pretrained_on=False):
        self.data, self.modalities, self.classes = data, dict(modalities), tuple(classes)
        self.id_offset, self.where, self.pretrained_on = id_offset, where, pretrained_on
        if len(data) == 0:
            raise UserError(f'{where}: the split is empty')
        self.take(np.arange(1))  # fails early on missing features and wrong shapes

    def __len__(self) -> int:
        return len(self.data)

    def take(self, rows) -> dict:
        """The examples at `rows` int [B]; what is read is checked as ArraySource checks it."""
        records = self.data.__getitems__([int(r) for r in rows])
        fields = {k: np.stack([np.asarray(r[k]) for r in records]) for k in records[0]}
        ids = fields.pop('id', np.asarray(rows) + self.id_offset)
        label = {'label': fields.pop('label')} if self.pretrained_on and 'label' in fields else {}
        out = ArraySource(self.modalities, fields, self.classes, ids, self.where).take(np.arange(len(rows)))
        return {**out, **{k: v.astype(np.int32) for k, v in label.items()}}


def _with_channel(x, spec: Modality):
    """x [n, *spec.shape], where the last axis of x may lack if it has one channel."""
    return x[..., None] if x.ndim > 1 and (*x.shape[1:], 1) == tuple(spec.shape) else x


def _value(spec: Modality, x, present):
    if spec.kind == 'tokens':
        x = x.astype(np.int32)
    elif spec.kind == 'image' and x.dtype == np.uint8:
        x = x.astype(np.float32) * np.float32(2 / 255) - np.float32(1)
    else:
        x = x.astype(np.float32)
    return x if present.all() else np.where(present.reshape(-1, *[1] * (x.ndim - 1)), x, 0).astype(x.dtype)


def _check_array(where, x, n, spec: Modality, present):
    if x.shape[1:] != tuple(spec.shape):
        raise UserError(f'{where} has shape {x.shape}; expected [{n}, {", ".join(map(str, spec.shape))}] '
                        f'(data.modalities.{spec.name}.shape)')
    if spec.kind == 'tokens':
        if x.dtype.kind not in 'iu':
            raise UserError(f'{where} has type {x.dtype}; token ids must be integers')
        x = x if present is None else x[np.asarray(present, bool)]
        if x.size and not (0 <= x.min() and x.max() < spec.vocab):
            raise UserError(f'{where} has ids {x.min()}..{x.max()}; allowed: 0..{spec.vocab - 1}')
    elif x.dtype.kind == 'f':
        good = np.isfinite(x.reshape(len(x), -1)).all(1)
        good |= False if present is None else ~np.asarray(present, bool)
        if not good.all():
            raise UserError(f'{where} has NaN or infinity in {int((~good).sum())} examples, the first is '
                            f'{int(np.argmin(good))}; missing modalities are marked in an array {spec.name}_present')
    elif x.dtype.kind not in 'iub':
        raise UserError(f'{where} has type {x.dtype}; numbers are needed')


def check_labels(labels, classes, where: str) -> None:
    """Raises UserError unless labels are integers in [0, len(classes))."""
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.dtype.kind not in 'iu':
        raise UserError(f'{where} has shape {labels.shape} and type {labels.dtype}; expected integers [n]')
    bad = (labels < 0) | (labels >= len(classes))
    if bad.any():
        raise UserError(f'{where} is {labels[bad][0]} in example {int(np.argmax(bad))}; '
                        f'allowed: 0..{len(classes) - 1}')


def labelled_subset(source, labels, per_class: int, seed: int, key: str = 'finetune.labels_per_class') -> Subset:
    """`per_class` examples of each class drawn without replacement, keyed by seed; 0 takes all.

    Raises:
      UserError: a class has fewer.
    """
    if per_class == 0:
        return Subset(source, np.arange(len(source)))
    rng, rows = np.random.default_rng([seed, 77]), []
    for k, name in enumerate(source.classes):
        mine = np.flatnonzero(labels == k)
        if len(mine) < per_class:
            raise UserError(f'{key} is {per_class}, but class {name!r} has only {len(mine)} '
                            'examples in the training split')
        rows.append(rng.permutation(mine)[:per_class])
    return Subset(source, np.sort(np.concatenate(rows)))


def labels_of(source) -> np.ndarray:
    """All labels of a source, int32 [n].

    Raises:
      UserError: the source has no labels.
    """
    if isinstance(source, Subset):
        return labels_of(source.source)[source.rows]
    if isinstance(source, ArraySource):
        if 'label' not in source.fields:
            raise UserError(f'{source.where}: no array "label"; fine-tuning needs it')
        return source.fields['label'].astype(np.int32)
    return np.concatenate([source.take(np.arange(s, min(s + 256, len(source))))['label']
                           for s in range(0, len(source), 256)])


def in_memory(source, progress: bool, what: str) -> ArraySource:
    """Renders or reads a whole source once, with a progress bar; kept as stored (images uint8)."""
    parts, read = [], getattr(source, 'raw', source.take)
    for start in bars.bar(range(0, len(source), 256), desc=f'data: {what}', unit='batch', show=progress):
        parts.append(read(np.arange(start, min(start + 256, len(source)))))
    join = lambda get: np.concatenate([get(p) for p in parts])  # noqa: E731
    fields = {m: join(lambda p, m=m: p['inputs'][m]) for m in source.modalities}
    fields |= {f'{m}_target': join(lambda p, m=m: p['targets'][m]) for m in source.modalities}
    label = join(lambda p: p['label']) if 'label' in parts[0] else np.array([-1])
    if (label >= 0).all():  # else some of what is only pretrained on has none
        fields['label'] = label
    if 'present' in parts[0]:
        fields |= {f'{m}_present': join(lambda p, m=m: p['present'][m]) for m in source.modalities}
    meta = parts[0].get('meta', {k: v for k, v in parts[0].items() if k == 'snr_db'})
    fields |= {k: join(lambda p, k=k: p['meta'][k] if 'meta' in p else p[k]) for k in meta}
    return ArraySource(source.modalities, fields, source.classes, join(lambda p: p['id']), what)


_CACHE: dict[str, Splits] = {}


def build(data, progress: bool = True) -> Splits:
    """The four splits that config.data asks for; with data.cache they stay in memory for this process's next run.

    Args:
      data: config.data.
      progress: show progress bars.

    Raises:
      UserError: unknown source, missing or malformed file, modalities or signal settings that do not fit.
    """
    key = json.dumps(data.to_dict(), sort_keys=True)
    if key not in _CACHE:
        makers = {'constellation': _signals, 'arrays': _arrays, 'wheel': _arrays, 'tfds': _tfds, 'recorded': _recorded}
        if data.source not in makers:
            raise UserError(f'data.source is {data.source!r}; allowed: {", ".join(makers)}')
        splits = makers[data.source](data, modalities_of(data), progress)
        if not data.cache:
            return splits
        _CACHE.clear()  # one data set at a time: they can be large
        _CACHE[key] = splits
    return _CACHE[key]


def _signals(data, modalities, progress):
    from fipjax.data import constellation
    sizes = {s: data[f'{s}_examples'] for s in SPLITS}
    settings = {**data.signal.to_dict(), 'snr_grid': data.signal.snr_grid or None}
    labelled = constellation.Signal(**settings)
    unlabelled = constellation.Signal(**{**settings, 'snr_grid': None})
    out, offset = {}, 0
    for split, n in sizes.items():
        if n < 1:
            raise UserError(f'data.{split}_examples is {n}; the {split} split is empty')
        signal = unlabelled if split == 'pretrain' else labelled
        out[split] = constellation.Source(signal, modalities, n, data.seed, split, offset)
        offset += n
    ceiling, reason = out['test'].ceiling, out['test'].ceiling_reason
    if data.cache:
        out = {s: in_memory(source, progress, s) for s, source in out.items()}
    return Splits(**out, ceiling=ceiling, ceiling_reason=reason)


def _arrays(data, modalities, progress):
    from fipjax.data import arrays
    return arrays.build(data, modalities)


def _recorded(data, modalities, progress):
    from fipjax.data import recorded
    return recorded.build(data, modalities, progress)


def tfds_builder(settings):
    """The prepared TFDS dataset that config.data.tfds names, as a builder.

    Raises:
      UserError: there is none.
    """
    import tensorflow_datasets as tfds
    try:
        return (tfds.builder(settings.name, data_dir=settings.data_dir or None) if settings.name
                else tfds.builder_from_directory(settings.data_dir))
    except (tfds.core.registered.DatasetNotFoundError, tfds.core.dataset_info.DatasetInfoFileError,
            FileNotFoundError, ValueError) as e:
        raise UserError(f'data.tfds: no prepared dataset with name {settings.name!r} in data_dir '
                        f'{settings.data_dir!r}: {str(e).splitlines()[0]}') from e


def _tfds(data, modalities, progress):
    builder = tfds_builder(data.tfds)
    label = dict(builder.info.features.items()).get('label')
    classes = tuple(getattr(label, 'names', ()) or ())
    out, offset = {}, 0
    for split, wanted in zip(SPLITS, data.tfds.splits, strict=True):
        where = f'data.tfds {builder.info.full_name} split {wanted!r}'
        try:
            opened = builder.as_data_source(split=wanted)
        except (ValueError, NotImplementedError, KeyError) as e:
            raise UserError(f'{where}: {str(e).splitlines()[0]} (prepared splits: {sorted(builder.info.splits)}, '
                            f'format {builder.info.file_format}; it must be array_record)') from e
        source = TfdsSource(opened, modalities, classes, offset, where, split == 'pretrain')
        out[split] = in_memory(source, progress, split) if data.cache else source
        offset += len(source)
    return Splits(**out)


def modalities_of(data) -> dict[str, Modality]:
    """config.data.modalities as Modality objects; raises UserError where they are malformed."""
    if not len(data.modalities):
        raise UserError('data.modalities is empty; at least one modality is needed (fipjax.data.completion reads '
                        'them off arrays when a config file is loaded)')
    return {name: Modality(name, m.kind, tuple(m.shape), m.patch, m.vocab) for name, m in data.modalities.items()}
