"""Supervised fine-tuning on one modality alone, from a pretrained or a fresh encoder.

Modes: `full` trains tokeniser, encoder and a linear head; `frozen` trains a head with a hidden layer on the codes of
the fixed encoder; `probe` trains a linear head on them. The code is the mean of the encoder's tokens.
"""
from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from fipjax import metrics as metrics_lib
from fipjax.algorithms.base import Algorithm, initial, update
from fipjax.models.multimodal import Head, Model

MODES = ('full', 'frozen', 'probe')


def target_params(params, target: str) -> dict:
    """The part of pretrained parameters that fine-tuning on `target` needs: its tokeniser and the encoder."""
    return {'tokenizers': {target: params['tokenizers'][target]}, 'encoder': params['encoder']}


def code(model: Model, target: str, params, batch):
    """Mean of the encoder's tokens of the target modality alone, nothing masked. [B, dim]."""
    tokens = model.tokenize(params, target, batch['inputs'][target])
    return model.encode(params, tokens, jnp.zeros(tokens.shape[:2], tokens.dtype)).mean(1)


def make(model: Model, head: Head, target: str, mode: str, optimizer: optax.GradientTransformation,
         pretrained=None) -> Algorithm:
    """Fine-tuning as an Algorithm.

    Args:
      model: whose encoder is used.
      head: codes -> logits.
      target: name of the modality.
      mode: 'full', 'frozen' or 'probe'.
      optimizer: for the parameters that are trained.
      pretrained: `target_params` of a pretraining, or None to start from scratch.

    Batches hold 'mask' bool [B], 'inputs' {target: [B, *shape]}, 'label' int [B]. Metrics: 'loss' (cross-entropy) and
    'accuracy' over the rows that are not padding, 'grad_norm'.
    """
    trained = ('tokenizers', 'encoder', 'head') if mode == 'full' else ('head',)

    def init(key):
        start = pretrained if pretrained is not None else target_params(model.init(key), target)
        # fold_in: the head is the same whether the encoder is pretrained or not.
        params = {**jax.tree.map(jnp.asarray, start), 'head': head.init(jax.random.fold_in(key, 1))}
        return initial(key, params, {k: params[k] for k in trained}, optimizer)

    def logits_of(params, batch):
        return head.apply(params['head'], code(model, target, params, batch))

    def sums(params, batch):
        logits = logits_of(params, batch)
        valid = batch['mask']
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch['label'])
        hits = logits.argmax(-1) == batch['label']
        n = valid.sum()
        return {'loss': (jnp.where(valid, losses, 0.0).sum(), n), 'accuracy': (jnp.where(valid, hits, False).sum(), n)}

    def step(state, batch, *, psum):
        count = jnp.maximum(psum(batch['mask'].sum()), 1)

        def local(part):
            parts = sums({**state.params, **part}, batch)
            return parts['loss'][0] / count, parts

        part = {k: state.params[k] for k in trained}
        grads, parts = jax.grad(local, has_aux=True)(part)
        grads, parts = psum((grads, parts))
        state, norm = update(optimizer, state, part, grads)
        return state, {**parts, **norm}

    def eval_step(state, batch, *, psum):
        return psum(sums(state.params, batch))

    return Algorithm(init, step, eval_step, metrics_lib.ratio)


def logits(model: Model, head: Head, target: str):
    """(params, batch) -> logits [B, K], for prediction."""
    return lambda params, batch: head.apply(params['head'], code(model, target, params, batch))
