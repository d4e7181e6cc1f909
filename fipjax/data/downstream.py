"""The few labelled examples of the downstream task that estimate which modality matters (algorithms/estimated.py)."""
from __future__ import annotations

import hashlib

import numpy as np

from fipjax.data import arrays, sources
from fipjax.errors import UserError

KEY = 'pretrain.fip.downstream'


class Labelled:
    """Labelled examples, padded to a multiple of the devices, as a batch brings them along.

    Args:
      source: of the examples.
      labels: int [n].
      devices: n is padded with copies of the last row, which are not valid.

    `take(rows)` returns 'id', 'label' int32 [d], 'valid' bool [d], 'inputs' and 'present'.
    """

    def __init__(self, source, labels, devices: int = 1):
        self.source, self.labels = source, np.asarray(labels, np.int32)
        self._size = -(-len(source) // devices) * devices

    def __len__(self) -> int:
        return self._size

    def take(self, rows) -> dict:
        """See the class."""
        rows = np.asarray(rows)
        real = np.minimum(rows, len(self.source) - 1)
        given = self.source.take(real)
        return {'id': given['id'], 'label': self.labels[real], 'valid': rows < len(self.source),
                **{k: given[k] for k in ('inputs', 'present')}}


def build(settings, splits, data, seed: int, devices: int) -> tuple[Labelled, tuple[str, ...]]:
    """The labelled examples that config group `pretrain.fip.downstream` asks for, checked.

    Args:
      settings: the group. With an empty path they are drawn from the training split, as those of fine-tuning are.
      splits: fipjax.data.sources.Splits.
      data: config.data.
      seed: of the draw, and of the order of shuffled labels.
      devices: see Labelled.

    Returns:
      The examples, and the names of the classes.

    Raises:
      UserError: no such file, or not the modalities; a file beside data that are standardised; fewer than two
        classes; a class with fewer than two examples; an example that is in the validation or the test split, too.
    """
    if settings.path:
        if data.standardise:
            raise UserError(f'{KEY}.path is {settings.path!r}, but data.standardise takes each number by its mean in '
                            "the training split; allowed: '', which draws the labels from the training split")
        fields = arrays.read_npz(settings.path, f'{KEY}.path')
        every = sources.ArraySource(sources.modalities_of(data), {k: v for k, v in fields.items() if k != 'split'},
                                    where=settings.path)
    else:
        every = splits.train
    labels, where = sources.labels_of(every), settings.path or 'the training split'
    source = sources.labelled_subset(every, labels, settings.labels_per_class, seed, f'{KEY}.labels_per_class')
    labels = labels[source.rows]
    check_classes(labels, every.classes, where)
    check_apart(source, {'validation': splits.validation, 'test': splits.test}, where)
    if settings.shuffled:
        labels = np.random.default_rng([seed, 78]).permutation(labels)
    return Labelled(source, labels, devices), tuple(every.classes)


def check_classes(labels, classes, where: str) -> None:
    """Raises UserError unless there are two classes at least and two examples of each, one to fit and one to ask."""
    counts = np.bincount(labels, minlength=len(classes))
    if (counts > 0).sum() < 2:
        raise UserError(f'{KEY}: {where} has labels of {(counts > 0).sum()} class; at least 2 are needed')
    if len(labels) < len(classes):
        raise UserError(f'{KEY}: {where} has {len(labels)} labelled examples, but {len(classes)} classes; at least 2 '
                        'of each class are needed')
    if (counts < 2).any():
        k = int(np.argmin(counts))
        raise UserError(f'{KEY}: {where} has {counts[k]} labelled example(s) of class {classes[k]!r}; at least 2 of '
                        'each class are needed, half of which a probe is fitted to')


def check_apart(source, evaluated, where: str) -> None:
    """Raises UserError where an example is also in a split that is evaluated, by a hash of all its inputs.

    Args:
      source: of the labelled examples.
      evaluated: name -> source.
    """
    mine = {h: row for row, h in enumerate(hashes(source))}
    for name, other in evaluated.items():
        for row, h in enumerate(hashes(other)):
            if h in mine:
                raise UserError(f'{KEY}: example {mine[h]} of {where} is example {row} of the {name} split, too; what '
                                'weights are estimated from must not be evaluated on')


def hashes(source) -> list[bytes]:
    """A hash of the inputs of each example of a source."""
    out = []
    for start in range(0, len(source), 256):
        batch = source.take(np.arange(start, min(start + 256, len(source))))
        for i in range(len(batch['id'])):
            h = hashlib.blake2b(digest_size=16)
            for m in sorted(batch['inputs']):
                h.update(bytes([bool(batch['present'][m][i])]) + np.ascontiguousarray(batch['inputs'][m][i]).tobytes())
            out.append(h.digest())
    return out
