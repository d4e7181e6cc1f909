"""FIP with modality weights estimated during pretraining, from a few labelled examples of the downstream task.

Every K steps, on the batch of the step and with the labelled examples that it brings along, an estimator of
algorithms/importance.py scores the modalities and moves their weights; w_m of FIP's loss (2) are those until the next
time. Gradients are those in the shared encoder's parameters; the code is that of fine-tuning, the mean token of the
target alone (for 'ablation' of all modalities but one), nothing masked.
"""
from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fipjax.algorithms import finetune, importance
from fipjax.algorithms.base import State, gather
from fipjax.modality import Modality
from fipjax.models.multimodal import Model
from fipjax.models.predictors import mean_token
from fipjax.models.transformer import MASKED

ENTRY = 'downstream'  # of a batch


class Estimator(NamedTuple):
    """How the weights are found.

    Attributes:
      settings: importance.Settings.
      model, modalities: of FIP, in the same order.
      target: name of the target modality.
      classes: K of the labels.
      examples: labelled examples in each batch, of all devices and with padding.
    """

    settings: importance.Settings
    model: Model
    modalities: Mapping[str, Modality]
    target: str
    classes: int
    examples: int

    def update(self, state: State, batch, losses, psum) -> dict:
        """What is kept after this step's estimate, if it is the step for one.

        Args:
          state: with params['importance'] as importance.start makes it.
          batch: its entry 'downstream' has 'id', 'row', 'label' int [d] ('row' is the place in the examples of all
            devices), 'valid' bool [d], 'inputs' and 'present' {m: [d, ...]}; not needed by methods without labels.
          losses: theta -> this device's part of L_m [M].
          psum: sum over devices.
        """
        def estimate(kept):
            task = self.task(state, batch[ENTRY], psum) if self.settings.method in importance.LABELLED else None
            return importance.update(kept, self.settings, losses, state.params['encoder'], task, psum)

        due = (state.step > 0) & (state.step % self.settings.every == 0)
        return jax.lax.cond(due, estimate, lambda kept: kept, state.params['importance'])

    def task(self, state: State, rows, psum) -> importance.Task:
        """The labelled rows of this device; which of them the probe is fitted to is decided over all devices' rows."""
        ids, labels, valid = (gather(psum, rows[k].astype(jnp.int32), rows['row'], self.examples)
                              for k in ('id', 'label', 'valid'))
        fitted = importance.halves(state.key, state.step, ids, labels, valid > 0)[rows['row']]
        code = finetune.code(self.model, self.target)
        return importance.Task(jax.nn.one_hot(labels[rows['row']], self.classes), fitted, rows['valid'] & ~fitted,
                               lambda theta: code({**state.params, 'encoder': theta}, rows),
                               lambda m: self._code_without(state.params, rows, m))

    def _code_without(self, params, rows, left_out):
        tokens, valid = [], []
        for i, m in enumerate(self.modalities):
            tokens.append(self.model.tokenize(params, m, rows['inputs'][m]))
            here = rows['present'][m] & (i != left_out)
            valid.append(jnp.broadcast_to(here[:, None], tokens[-1].shape[:2]))
        tokens, valid = jnp.concatenate(tokens, 1), jnp.concatenate(valid, 1)
        return mean_token(self.model.encode(params, tokens, jnp.where(valid, 0.0, MASKED)), valid)
