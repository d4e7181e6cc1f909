"""Supervised fine-tuning on one modality alone, from a pretrained or a fresh encoder.

Modes: `full` trains tokeniser, encoder and a linear head; `frozen` trains a head with a hidden layer on the codes of
the fixed encoder; `probe` trains a linear head on them. The code is the mean of the encoder's tokens, standardised
with its mean and deviation over the labelled examples before the first step: codes of a masked autoencoder differ
little between examples, and a head on the raw ones hardly learns (MAE, arXiv 2111.06377, appendix A.1, puts a
BatchNorm there for that reason).
"""
from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from fipjax.algorithms import supervised
from fipjax.algorithms.base import Algorithm
from fipjax.models.multimodal import Head, Model

MODES = ('full', 'frozen', 'probe')
VARIANCE_EPS = 1e-6


def target_params(params, target: str) -> dict:
    """The part of pretrained parameters that fine-tuning on `target` needs: its tokeniser, statistics, the encoder."""
    return {**{k: {target: params[k][target]} for k in ('tokenizers', 'statistics')}, 'encoder': params['encoder']}


def code(model: Model, target: str):
    """The function (params, batch) -> mean of the encoder's tokens of the target alone, nothing masked. [B, dim]."""
    def apply(params, batch):
        tokens = model.tokenize(params, target, batch['inputs'][target])
        return model.encode(params, tokens, jnp.zeros(tokens.shape[:2], tokens.dtype)).mean(1)
    return apply


def statistics(codes) -> dict:
    """Mean and deviation of codes [n, dim], what `logits` standardises with; both [dim]."""
    return {'mean': codes.mean(0), 'deviation': (codes.var(0) + VARIANCE_EPS) ** 0.5}


def logits(model: Model, head: Head, target: str):
    """The function (params, batch) -> logits [B, K]; params hold 'tokenizers', 'encoder', 'code', 'head'."""
    codes = code(model, target)

    def apply(params, batch):
        fixed = params['code']
        return head.apply(params['head'], (codes(params, batch) - fixed['mean']) / fixed['deviation'])
    return apply


def make(model: Model, head: Head, target: str, mode: str, optimizer: optax.GradientTransformation,
         start) -> Algorithm:
    """Fine-tuning as an Algorithm.

    Args:
      model: whose encoder is used.
      head: codes -> logits.
      target: name of the modality.
      mode: 'full', 'frozen' or 'probe'.
      optimizer: for the parameters that are trained.
      start: {'tokenizers', 'encoder', 'statistics'} as from `target_params`, pretrained or fresh, and 'code'
        as from `statistics`.

    Batches hold 'mask' bool [B], 'inputs' {target: [B, *shape]}, 'label' int [B]. Metrics: 'loss' (cross-entropy) and
    'accuracy' over the rows that are not padding, 'grad_norm'.
    """
    def init(key):
        return {**jax.tree.map(jnp.asarray, start), 'head': head.init(jax.random.fold_in(key, 1))}

    logits_of = logits(model, head, target)

    def sums(params, batch):
        scores, valid = logits_of(params, batch), batch['mask']
        losses = optax.softmax_cross_entropy_with_integer_labels(scores, batch['label'])
        hits, n = scores.argmax(-1) == batch['label'], valid.sum()
        return {'loss': (jnp.where(valid, losses, 0.0).sum(), n), 'accuracy': (jnp.where(valid, hits, False).sum(), n)}

    trained = ('tokenizers', 'encoder', 'head') if mode == 'full' else ('head',)
    return supervised.make(init, sums, trained, optimizer)
