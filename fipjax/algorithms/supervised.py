"""The step that all supervised stages share: gradient of a mean loss over the labelled rows of a batch."""
from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import optax

from fipjax import metrics as metrics_lib
from fipjax.algorithms.base import Algorithm, added, initial, update


def make(start: Callable, sums: Callable, trained: Sequence[str],
         optimizer: optax.GradientTransformation, micro_batch: int = 0) -> Algorithm:
    """Supervised training as an Algorithm.

    Args:
      start: key -> params, a nested dict.
      sums: (params, batch) -> {name: (sum, count)} over the rows where batch['mask']; has 'loss', whose mean is
        minimised.
      trained: which top-level parts of the parameters change.
      optimizer: for those parts.
      micro_batch: rows of a device at a time, for memory; divides them, 0 all. The numbers are the same.

    Metrics: those of `sums`, and 'grad_norm'.
    """
    def init(key):
        params = start(key)
        return initial(key, params, {k: params[k] for k in trained}, optimizer)

    def step(state, batch, *, psum):
        count = jnp.maximum(psum(batch['mask'].sum()), 1)

        def local(part, rows):
            parts = sums({**state.params, **part}, rows)
            return parts['loss'][0] / count, parts

        part = {k: state.params[k] for k in trained}
        of_rows = functools.partial(jax.grad(local, has_aux=True), part)
        grads, parts = psum(added(of_rows, batch, micro_batch))
        state, norm = update(optimizer, state, part, grads)
        return state, {**parts, **norm}

    def eval_step(state, batch, *, psum):
        return psum(sums(state.params, batch))

    return Algorithm(init, step, eval_step, metrics_lib.ratio)
