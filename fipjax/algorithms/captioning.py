"""Training a captioner: each word piece of a caption from those before it and the picture.

With tokens w [B, T] and the valid ones among them ('token_mask'), over all rows that are not padding of a batch

    L = sum_t -log p(w_{t+1} | w_1 .. w_t, regions) / number of predicted word pieces

The first word piece is given; the one that ends the caption is predicted.
"""
from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from fipjax import metrics as metrics_lib
from fipjax.algorithms.base import Algorithm, initial, update


def by_caption(logits: Callable, params, batch):
    """Of each caption the sum of losses in nats, of hits, and the number of predicted word pieces: [B, 3].

    Args:
      logits: (params, batch) -> [B, T, vocab], see fipjax.models.captioner.Captioner.
      params: of the captioner.
      batch: as fipjax.data.vl.Source gives them.
    """
    scores, wanted = logits(params, batch)[:, :-1], batch['tokens'][:, 1:]
    losses = optax.softmax_cross_entropy_with_integer_labels(scores, wanted)
    parts = jnp.stack([losses, scores.argmax(-1) == wanted, jnp.ones_like(losses)], -1)
    return jnp.where(batch['token_mask'][:, 1:, None], parts, 0).sum(1)


def sums(logits: Callable, params, batch) -> dict:
    """'loss' and 'accuracy' of the next word piece, each (sum, count), over the rows where batch['mask']."""
    loss, hits, count = jnp.where(batch['mask'][:, None], by_caption(logits, params, batch), 0).sum(0)
    return {'loss': (loss, count), 'accuracy': (hits, count)}


def make(logits: Callable, init: Callable, optimizer: optax.GradientTransformation) -> Algorithm:
    """Training as an Algorithm. Metrics: those of `sums`, and 'grad_norm'.

    Args:
      logits: see `by_caption`.
      init: key -> params.
      optimizer: for all of them.
    """
    def start(key):
        params = init(key)
        return initial(key, params, params, optimizer)

    def step(state, batch, *, psum):
        count = jnp.maximum(psum((batch['token_mask'][:, 1:] & batch['mask'][:, None]).sum()), 1)

        def local(params):
            parts = sums(logits, params, batch)
            return parts['loss'][0] / count, parts

        grads, parts = psum(jax.grad(local, has_aux=True)(state.params))
        state, norm = update(optimizer, state, state.params, grads)
        return state, {**parts, **norm}

    def eval_step(state, batch, *, psum):
        return psum(sums(logits, state.params, batch))

    return Algorithm(start, step, eval_step, metrics_lib.ratio)
