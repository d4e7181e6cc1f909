"""Labelled data of one modality for transfer: train, validation and test out of a config group.

A source has `task`, `classes`, `len()`, `y` (all targets, [n, ...]) and `take(rows int [B])`, which gives host arrays
'id' int32 [B] (row in the file), 'x' float32 [B, *task.shape], 'y' (int32 [B] classes, float32 [B, K] labels of 0 and
1, or float32 [B, *task.target_shape] dense) and, only where sequences differ in length, 'length' int32 [B]; x is zero
beyond it. Channels are last. x, and y where it is dense, are standardised by channel with mean and deviation of the
training split. Of text, x is int32 [B, L] instead: [CLS], word pieces, [SEP] and the tokenizer's padding, with 'length'
where any is shorter than L. A source is opened at its first `take` or `y`; `build` opens training alone. Of a TFDS data
set too large for memory (readers.IN_MEMORY) each `take` reads its rows, and the statistics are those of a sample.
"""
from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from fipjax.data import expected, readers, shapes, splitting, standardising
from fipjax.data import spectrogram as spectrogram_lib
from fipjax.errors import UserError

VIEWS = ('raw', 'spectrogram')


class Task(NamedTuple):
    """What is to be learned.

    Attributes:
      kind: '1d', '2d' or 'text'.
      output: 'classes', 'multilabel' or 'dense'.
      shape: of one x: (L, C) or (H, W, C), of text (L,).
      target_shape: of one y: () for classes, (K,) for multilabel, (L, K) or (H, W, K) for dense.
      classes: names of the classes or labels, () for dense.
      scale: {'mean', 'deviation'} float32 [K] of y before it was standardised, None unless dense.
      description: what was read off, a paragraph for people.
      vocab: number of word pieces, 0 unless text.
      inputs: {'mean', 'deviation'} of x before it was standardised, by channel or of all.
    """

    kind: str
    output: str
    shape: tuple[int, ...]
    target_shape: tuple[int, ...]
    classes: tuple[str, ...]
    scale: dict | None
    description: str
    vocab: int = 0
    inputs: dict | None = None


class Splits(NamedTuple):
    """A task and the sources of its three splits; nothing of `test` is read before its first use."""

    task: Task
    train: Any
    validation: Any
    test: Any


class Source:
    """Rows of a data set, see this module's docstring.

    Args:
      task: the Task.
      ids: int [n], rows in the file.
      read: (ids) -> {'x', 'y'[, 'length']} for all of them, called once, at the first use.
    """

    def __init__(self, task: Task, ids, read):
        self.task, self.classes, self.ids, self._read = task, task.classes, np.asarray(ids, np.int32), read

    def __len__(self) -> int:
        return len(self.ids)

    @functools.cached_property
    def _fields(self) -> dict:
        return self._read(self.ids)

    @property
    def y(self) -> np.ndarray:
        """All targets, int32 [n] or float32 [n, *task.target_shape]."""
        return self._fields['y']

    def take(self, rows) -> dict:
        """The examples at `rows` int [B]."""
        return {'id': self.ids[rows], **{k: v[rows] for k, v in self._fields.items()}}


class Streamed(Source):
    """A Source that reads x anew at each `take`, its rows alone; y is in memory.

    Args:
      task, ids: as for a Source.
      read: (ids) -> {'x', 'y'} of some of them.
      targets: (ids) -> y.
    """

    def __init__(self, task: Task, ids, read, targets):
        super().__init__(task, ids, read)
        self._targets = targets

    @functools.cached_property
    def y(self) -> np.ndarray:
        """As of a Source."""
        return self._targets(self.ids)

    def take(self, rows) -> dict:
        """As of a Source.

        Raises:
          UserError: NaN or infinity in one of them.
        """
        ids = self.ids[rows]
        return {'id': ids, **self._read(ids)}


class Selection:
    """Some rows of a source, in the order given."""

    def __init__(self, source, rows):
        self.task, self.classes, self.source, self.rows = source.task, source.classes, source, np.asarray(rows)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def y(self) -> np.ndarray:
        """As the source's, of the rows selected."""
        return self.source.y[self.rows]

    def take(self, rows) -> dict:
        """As the source's."""
        return self.source.take(self.rows[rows])


def build(settings, progress: bool = False, key: str = 'target', pixels: bool = False) -> Splits:
    """The three splits that a config group asks for.

    Args:
      settings: a config group with
        data: 'arrays' (path: .npz, .npy with labels: the .npy of y, .h5 / .hdf5, or a folder of wav files), 'tfds'
          (name, data_dir, splits) or 'wheel' (name).
        x_key, y_key, split_key, group_key, length_key: names of the fields; group_key 'file' takes groups from the
          names of wav files, up to the first '_'.
        kind, output: '' or what shapes are to mean.
        tokenizer, length: of text, see fipjax.data.words, and the most word pieces with [CLS] and [SEP].
        view: 'raw' or 'spectrogram' (1d data as pictures) with spectrogram: window, hop, bins, frames.
        test_groups, seed: see fipjax.data.splitting.
        examples: 0, or how many training examples to keep, by class in equal numbers as far as there are enough.
        expected: what they must have, see fipjax.data.expected.
      progress: show progress bars.
      key: name of the group, for messages.
      pixels: x of pictures as numbers from 0 to 1 (integers over 255) instead of standardised.

    Raises:
      UserError: whatever is wrong with the settings or the data, before anything is compiled.
    """
    if settings.view not in VIEWS:
        raise UserError(f'{key}.view is {settings.view!r}; allowed: {", ".join(VIEWS)}')
    if settings.output not in ('', *shapes.OUTPUTS):
        raise UserError(f'{key}.output is {settings.output!r}; allowed: {", ".join(shapes.OUTPUTS)}, or empty to read '
                        f'it off')
    raw = readers.read(settings, progress, key)
    where, y = raw['where'], raw['y']
    _check_counts(raw, settings, where)
    kind, x, about_x = shapes.inputs(raw['x'], raw['layout'], settings.kind, where, key)
    length, vocab = _lengths(raw, x, kind, where), 0
    if settings.tokenizer and kind != 'text':
        raise UserError(f'{key}.tokenizer is {settings.tokenizer!r}, but {about_x}; only text has word pieces')
    if kind == 'text':
        x, length, vocab, about_x = shapes.pieces(x, settings.tokenizer, settings.length, about_x, where, key)
    stored = isinstance(x, readers.Stored)
    if not stored:
        standardising.check_finite(f'{where}: {settings.x_key}', x, length)
    standardising.check_finite(f'{where}: {settings.y_key}', y, None)
    y = _as_classes(y, settings.output, where, key)
    names, about_y, output = (), '', 'classes'
    if y.ndim == 1:
        y, names, about_y = shapes.labels(y, raw['classes'], where)
    split, about_split = splitting.assign(y if names else np.zeros(len(y), int), raw.get('split'), raw.get('group'),
                                          settings.test_groups, settings.seed, where, key)
    if not names:
        output, y, about_y = shapes.targets(y, x.shape[1:], kind, raw['layout'], settings.output, split != 'test',
                                            where, key)
    if output == 'dense' and (length is not None or settings.view != 'raw'):
        raise UserError(f'{where}: dense targets need x of one length, as it is' if length is not None else
                        f'{key}.view is {settings.view!r}, but a dense target needs x as it is (raw)')
    if output == 'multilabel':
        names = tuple(raw['classes']) or tuple(map(str, range(y.shape[1])))
    rows = {name: np.flatnonzero(split == name) for name in splitting.NAMES}
    _every_class(y[rows['train']], names, output, where)
    rows['train'] = _limited(rows['train'], y, output, names, settings.examples, settings.seed, key)
    view, about_view = _view(settings, x, kind, length, key)
    if settings.view != 'raw':
        kind, length = '2d', None
    seen = standardising.sample(rows['train'], x) if stored else rows['train']
    train_x = view(seen)
    if stored:
        standardising.check_finite(f'{where}: {settings.x_key}', train_x, None, seen)
        about_view += f', read batch by batch, standardised by {len(seen)} of the training examples'
    if kind == 'text':
        scale = None
    elif pixels and kind == '2d':
        scale = standardising.pixels(train_x if stored else x, where)
    else:
        scale = standardising.statistics(train_x, None if length is None else length[rows['train']])
    y_scale = None
    if output == 'dense':
        y_scale = {k: v.astype(np.float32) for k, v in standardising.statistics(y[rows['train']], None).items()}
    padding = '' if length is None else f', lengths {length.min()} to {length.max()}'
    task = Task(kind, output, train_x.shape[1:], y.shape[1:], names, y_scale,
                f'{about_x}{padding}{about_view}; {about_y}; {about_split}', vocab,
                inputs=scale and {k: tuple(np.ravel(v).tolist()) for k, v in scale.items()})

    def targets(ids):
        return _targets(y[ids], output, y_scale, where)

    def read(ids, seen=None):
        seen = view(ids) if seen is None else seen
        if stored:
            standardising.check_finite(f'{where}: {settings.x_key}', seen, None, ids)
        lengths = None if length is None else length[ids]
        fields = {'x': seen if scale is None else standardising.scaled(seen, lengths, scale), 'y': targets(ids)}
        return fields if length is None else {**fields, 'length': lengths}

    if stored:
        splits = Splits(task, *(Streamed(task, rows[name], read, targets) for name in splitting.NAMES))
    else:
        train = read(rows['train'], train_x)
        splits = Splits(task, Source(task, rows['train'], lambda ids: train),
                        *(Source(task, rows[name], read) for name in ('validation', 'test')))
    expected.check_labelled(settings, splits, key)
    return splits


def subset(source, per_class: int, seed: int):
    """A few labelled examples of a source, drawn without replacement.

    Args:
      source: any source of this module.
      per_class: examples of each class; 0 for all. Where there are no classes (multilabel, dense) 10 * per_class
        examples in all, as many as ten classes would give.
      seed: of the draw.

    Raises:
      UserError: there are fewer (key transfer.labels_per_class).
    """
    if per_class < 0:
        raise UserError(f'transfer.labels_per_class is {per_class}; expected 0 (all) or more')
    if per_class == 0:
        return source
    rng, found = np.random.default_rng([seed, 78]), 'has only {} examples in the training split'
    if source.task.output != 'classes':
        if len(source) < 10 * per_class:
            raise UserError(f'transfer.labels_per_class is {per_class}, which is {10 * per_class} examples where there '
                            f'are no classes, but the data {found.format(len(source))}')
        return Selection(source, np.sort(rng.permutation(len(source))[:10 * per_class]))
    rows = []
    for k, name in enumerate(source.classes):
        mine = np.flatnonzero(source.y == k)
        if len(mine) < per_class:
            raise UserError(f'transfer.labels_per_class is {per_class}, but class {name!r} {found.format(len(mine))}')
        rows.append(rng.permutation(mine)[:per_class])
    return Selection(source, np.sort(np.concatenate(rows)))


def _check_counts(raw, settings, where):
    fields = [f for f in ('x', 'y', *readers.OPTIONAL) if f in raw]
    for field in fields:
        name, found = settings[f'{field}_key'], raw[field]
        if found.ndim == 0:
            raise UserError(f'{where}: {name} is a single value; one entry an example is needed')
        if len(found) != len(raw['x']):
            raise UserError(f'{where}: {name} has {len(found)} examples, {settings.x_key} has {len(raw["x"])}')
        if field in ('split', 'group') and found.ndim != 1:
            raise UserError(f'{where}: {name} has shape {shapes.brackets(found.shape)}; expected one entry an '
                            f'example, [{len(found)}]')
    if not len(raw['x']):
        raise UserError(f'{where}: no examples')


def _lengths(raw, x, kind, where):
    """int32 [n], or None where all examples are as long as x."""
    if 'length' not in raw:
        return None
    length = raw['length']
    if kind != '1d':
        raise UserError(f'{where}: lengths are given, but x is {kind}; only sequences have lengths')
    if length.ndim != 1 or length.dtype.kind not in 'iu':
        raise UserError(f'{where}: length is {length.dtype} {shapes.brackets(length.shape)}; expected integers '
                        f'[{len(x)}]')
    bad = (length < 1) | (length > x.shape[1])
    if bad.any():
        raise UserError(f'{where}: length is {length[bad][0]} in example {int(np.argmax(bad))}; x allows '
                        f'1..{x.shape[1]}')
    return None if (length == x.shape[1]).all() else length.astype(np.int32)


def _as_classes(y, output, where, key):
    """y [n] where it stands for classes (a column, or one-hot rows if `output` asks for classes), else y as it is."""
    if y.ndim == 2 and y.shape[1] == 1 and output in ('', 'classes') and y.dtype.kind in 'iuSU':
        y = y[:, 0]
    if y.ndim == 1 and output not in ('', 'classes'):
        raise UserError(f'{where}: y has shape {shapes.brackets(y.shape)}, which cannot be {output} as {key}.output '
                        f'says')
    if y.ndim > 1 and output == 'classes':
        if y.ndim > 2 or y.dtype.kind not in 'biuf' or not np.isin(y, (0, 1)).all() or (y.sum(1) != 1).any():
            raise UserError(f'{where}: y has shape {shapes.brackets(y.shape)}; for {key}.output=classes give integers '
                            f'or strings [n], or rows [n, K] with exactly one 1')
        return y.argmax(1)
    return y


def _every_class(y, names, output, where):
    if output == 'dense':
        return
    seen = np.bincount(y, minlength=len(names)) if output == 'classes' else y.sum(0)
    missing = [str(name) for name, count in zip(names, seen, strict=True) if not count]
    if missing:
        raise UserError(f'{where}: no training example of {"class" if output == "classes" else "label"} '
                        f'{", ".join(map(repr, missing[:5]))}{", ..." * (len(missing) > 5)}')


def _limited(rows, y, output, names, examples, seed, key):
    """`examples` of the training rows, as many of each class as there are enough."""
    if examples == 0:
        return rows
    least = len(names) if output == 'classes' else 1
    if not least <= examples <= len(rows):
        raise UserError(f'{key}.examples is {examples}; allowed: 0 (all) or {least}..{len(rows)}')
    rng = np.random.default_rng([seed, 79])
    rows = rng.permutation(rows)
    if output != 'classes':
        return np.sort(rows[:examples])
    # The first of each class, then the second of each ...: equal numbers until the small classes are used up.
    turn = np.empty(len(rows), int)
    for k in range(len(names)):
        mine = np.flatnonzero(y[rows] == k)
        turn[mine] = np.arange(len(mine))
    return np.sort(rows[np.lexsort((rng.permutation(len(names))[y[rows]], turn))[:examples]])


def _view(settings, x, kind, length, key):
    """The function ids -> x [n, *shape] in the view that is asked for, before standardising; words for people."""
    if settings.view == 'raw':
        return (lambda ids: x[ids]), ''
    if kind != '1d':
        raise UserError(f"{key}.view is 'spectrogram', but x is {kind}; only 1d signals have one")
    s = settings.spectrogram
    spectrogram_lib.check(s, key)

    def view(ids):
        return spectrogram_lib.spectrogram(x[ids], s, None if length is None else length[ids])
    return view, (f', seen as log-power spectrograms of {s.bins} bins x {s.frames} frames (windows of {s.window} '
                  f'samples, hop {s.hop})')


def _targets(y, output, y_scale, where):
    """y as a source gives it."""
    if output == 'multilabel' and not np.isin(y, (0, 1)).all():
        raise UserError(f'{where}: y holds {y[~np.isin(y, (0, 1))][0]}; expected 0 and 1 (multilabel)')
    if output == 'dense':
        y = (y.astype(np.float64) - y_scale['mean']) / y_scale['deviation']
    return y.astype(np.int32 if output == 'classes' else np.float32)
