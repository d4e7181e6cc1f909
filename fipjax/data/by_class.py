"""A source whose rows are classes: what ORCA's loop over the target classes reads."""
from __future__ import annotations

import numpy as np

from fipjax.errors import UserError


class ByClass:
    """Row e * C + c holds up to `per_class` samples of class c, drawn for epoch e; C is padded, see `rows`.

    Built on a source of labelled examples (`take(rows) -> {'x', ...[, 'length']}`), whose rows are sorted by class
    once; a batch then reads just the samples that it shows. The draw depends on (seed, epoch, class) alone.

    Args:
      source: of the examples.
      labels: int [n], the class of each, or of a k-means of dense targets (fipjax.algorithms.orca.pseudo_labels).
      classes: number of classes; some may have no example.
      epochs: number of passes.
      per_class: most samples of a class in an epoch.
      devices: rows are padded to a multiple of it.
      seed: of the draws.

    Attributes:
      in_order: True; the pipeline must not shuffle, a batch of `rows` rows is an epoch.
      rows: C, the classes padded to a multiple of `devices`.
      samples: n, in each row.

    Raises:
      UserError: labels that are not as many as the examples, or not classes.
    """

    in_order = True

    def __init__(self, source, labels, classes: int, epochs: int, *, per_class: int = 64, devices: int = 1,
                 seed: int = 0):
        labels = np.asarray(labels)
        if labels.shape != (len(source),) or labels.dtype.kind not in 'iu':
            raise UserError(f'labels have shape {labels.shape} and type {labels.dtype}; '
                            f'allowed: one whole number for each of the {len(source)} examples')
        if not len(labels) or labels.min() < 0 or labels.max() >= classes:
            found = f'{labels.min()} to {labels.max()}' if len(labels) else 'none'
            raise UserError(f'labels: found {found}; allowed: 0 to {classes - 1}')
        self.source, self.seed, self.epochs = source, seed, epochs
        self.counts = np.bincount(labels, minlength=classes)
        self._members = np.split(np.argsort(labels, kind='stable'), np.cumsum(self.counts)[:-1])
        self.rows = -(-classes // devices) * devices
        self.samples = int(min(per_class, self.counts.max()))

    def __len__(self) -> int:
        return self.rows * self.epochs

    def take(self, rows) -> dict:
        """The rows [B] of the classes, epoch after epoch.

        Returns:
          'id' int32 [B], 'x' [B, n, *shape] as the source has it (0 where there is no sample), 'valid' bool [B, n],
          'weight' float32 [B] (the share of the examples that are of the class; 0 for a row of padding) and, where the
          source has it, 'length' int32 [B, n].
        """
        rows = np.asarray(rows)
        chosen = [self._draw(*divmod(int(r), self.rows)) for r in rows]
        sizes = np.array([len(c) for c in chosen])
        valid = np.arange(self.samples) < sizes[:, None]
        # One read for the whole batch. A batch of padding alone reads an example for its shape.
        flat = np.concatenate(chosen) if sizes.any() else np.zeros(1, int)
        read = self.source.take(flat)
        out = {}
        for key in ('x', 'length'):
            if key in read:
                out[key] = np.zeros((len(rows), self.samples, *read[key].shape[1:]), read[key].dtype)
                out[key][valid] = read[key][:sizes.sum()]
        shares = np.append(self.counts, np.zeros(self.rows - len(self.counts))) / self.counts.sum()
        return {'id': rows.astype(np.int32), **out, 'valid': valid,
                'weight': shares[rows % self.rows].astype(np.float32)}

    def _draw(self, epoch, c):
        """Rows of the source that class c shows in an epoch."""
        members = self._members[c] if c < len(self._members) else np.zeros(0, int)
        if len(members) <= self.samples:
            return members
        return np.random.default_rng([self.seed, epoch, c]).choice(members, self.samples, replace=False)
