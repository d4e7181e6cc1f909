"""What data are known to have before they are there, checked when they are read."""
from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fipjax.errors import UserError


def check(key: str, expected: Mapping, found: Mapping) -> None:
    """Raises UserError, with the key, what is expected and what is there, for the first thing that differs.

    Args:
      key: of the group `expected`.
      expected: the group; what is empty or 0 is not asked for.
      found: the same of the data, what is known of them.
    """
    for name, value in found.items():
        wanted = tuple(expected[name]) if isinstance(value, tuple) else expected[name]
        if wanted and wanted != value:
            raise UserError(f'{key}.{name} is {wanted!r}, but the data have {value!r}')


def check_labelled(settings, splits, key: str) -> None:
    """Raises UserError where a data set of the wing 'mona' is not what `settings.expected` says.

    Args:
      settings: its config group.
      splits: fipjax.data.labelled.Splits, as read.
      key: name of the group, for messages.
    """
    task, e = splits.task, settings.expected
    # Like `labelled.build` this looks at training alone.
    lengths = 'length' in splits.train.take(np.arange(1))
    if tuple(e.shape) and lengths != e.lengths:
        raise UserError(f'{key}.expected.lengths is {e.lengths}, but sequences '
                        f'{"differ in length" if lengths else "are of one length"}')
    check(f'{key}.expected', e, {
        'shape': tuple(task.shape), 'classes': len(task.classes), 'examples': len(splits.train), 'vocab': task.vocab,
        'target_shape': tuple(task.target_shape) if task.output == 'dense' else ()})


def check_pictures(config, source, output: str = '', answers: int = 0) -> None:
    """Raises UserError where a training source of the wings 'vlp' and 'caption' is not what `config.expected` says.

    Args:
      config: with the group `expected`.
      source: fipjax.data.vl.Source, of a folder or of TFDS.
      output, answers: of a task; without, it is a pretraining set.
    """
    r = source.regions
    found = {'features': r.features.shape[-1], 'regions': r.features.shape[1]}
    if output:
        found |= {'answers': answers, 'examples': len(source)}
        if config.expected.features:
            found['output'] = output
    else:
        found |= {'detector_classes': 0 if r.classes is None else r.classes.shape[-1], 'pretrain_examples': len(source)}
    check('expected', config.expected, found)
