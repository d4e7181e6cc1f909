"""Sources of zeros with the lengths, shapes and types of data that are not there, for plans.

Labels go round the classes.
"""
from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fipjax.data import labelled as labelled_lib
from fipjax.data import regions, sources, vl
from fipjax.errors import UserError


def labelled(settings, key: str, least: int) -> labelled_lib.Splits:
    """The splits of a data set of the wing 'mona' as `settings.expected` has them, of zeros.

    Args:
      settings: its config group, with `expected.shape`.
      key: name of the group, for messages.
      least: training examples where their number is not known.

    Raises:
      UserError: `expected` does not say enough, or contradicts the group.
    """
    e = settings.expected
    output = settings.output or ('dense' if e.target_shape else 'classes')
    shape, dense = tuple(e.shape), output == 'dense'
    by_rank = {1: 'text', 2: '1d', 3: '2d'}.get(len(shape), '')
    kind = settings.kind if settings.view == 'raw' and settings.kind else by_rank
    if not kind:
        raise UserError(f'{key}.expected.shape is {shape}; expected (samples, channels), (rows, columns, channels) '
                        'or, of text, (length,)')
    if kind == 'text' and not e.vocab:
        raise UserError(f'{key}.expected.vocab is 0; of text it must say how many word pieces there are')
    if dense and not e.target_shape or not dense and e.classes < 2:
        name = 'target_shape' if dense else 'classes'
        raise UserError(f'{key}.expected.{name} is {e[name]!r}; beside expected.shape it must say what is learned '
                        f'({output}){"" if dense else ", at least 2"}')
    names = () if dense else tuple(map(str, range(e.classes)))
    target_shape = {'classes': (), 'multilabel': (e.classes,), 'dense': tuple(e.target_shape)}[output]
    said = f'{kind}, {" x ".join(map(str, shape))}, {output}: as {key}.expected says'
    task = labelled_lib.Task(kind, output, shape, target_shape, names, None, said, e.vocab)

    def read(ids):
        n = len(ids)
        # All different, so that they fall into as many clusters as are asked for (ORCA).
        values = np.arange(n, dtype=np.float32).reshape(n, *[1] * len(target_shape))
        out = {'x': np.broadcast_to(np.int32(0) if kind == 'text' else np.float32(0), (n, *shape)),
               'y': np.arange(n, dtype=np.int32) % len(names) if output == 'classes'
               else np.broadcast_to(values, (n, *target_shape))}
        return {**out, 'length': np.full(n, shape[0], np.int32)} if e.lengths else out

    source = labelled_lib.Source(task, np.arange(e.examples or settings.examples or least), read)
    return labelled_lib.Splits(task, source, source, source)


def multimodal(data, classes: int, examples: Mapping[str, int]) -> sources.Splits:
    """Splits of the wing 'fip', of zeros.

    Args:
      data: config.data, with complete modalities.
      classes: of the labelled task.
      examples: of each of the four splits.
    """
    modalities = sources.modalities_of(data)
    fields = {m: np.zeros((classes, *s.shape), np.int32 if s.kind == 'tokens' else np.float32)
              for m, s in modalities.items()}
    few = sources.ArraySource(modalities, {**fields, 'label': np.arange(classes)}, tuple(map(str, range(classes))),
                              where='data.expected')
    return sources.Splits(**{k: sources.Subset(few, np.arange(n) % classes) for k, n in examples.items()})


def pictures(config, examples: int, classes: int, y=None) -> vl.Source:
    """A source of the wing 'vlp', of zeros, with texts of full length: the longest there can be.

    Args:
      config: with `expected.features` and the group `text`.
      examples: how many.
      classes: of the detector, 0 without.
      y: as vl.Source has them.

    Raises:
      UserError: `expected` does not say how many regions.
    """
    e, length = config.expected, config.text.length
    count = e.regions or (1 + int(np.prod(config.regions.grid)) if e.features in regions.WIDTHS.values() else 0)
    if not count:
        raise UserError('expected.regions is 0; beside expected.features it must say how many regions a picture has, '
                        'at most')
    zeros = lambda n, kind=np.float32: np.zeros((1, count, n), kind)  # noqa: E731
    seen = vl.Regions(zeros(e.features), zeros(4), np.array([count], np.int32), zeros(classes) if classes else None, '')
    texts = [np.broadcast_to(v, (examples, length)) for v in (np.int32(0), np.int32(0), np.True_)]
    return vl.Source(seen, np.zeros(examples, np.int32), vl.Encoded(*texts, 0), np.arange(examples), y,
                     with_classes=bool(classes))


def task(config, name: str, least: int) -> vl.Splits:
    """The splits of a task of the wing 'vlp' as `config.expected` has them, of zeros.

    Args:
      config: with `expected.features`.
      name: of the task, for people.
      least: training examples where their number is not known.

    Raises:
      UserError: `expected` does not say enough.
    """
    e, n = config.expected, config.expected.examples or least
    if e.answers < 2:
        raise UserError(f'expected.answers is {e.answers}; beside expected.features it must be at least 2')
    names = tuple(map(str, range(e.answers)))
    y = (np.arange(n, dtype=np.int32) % len(names) if e.output == 'classes'
         else np.broadcast_to(np.float32(0), (n, len(names))))
    source = pictures(config, n, 0, y)
    source.inputs = config.finetune.inputs
    return vl.Splits(vl.Task(name, e.output, names, f'{name}: as expected.* says'), source, source, source)
