"""Reusing a pretrained encoder in another modality: the network, and the stages that are plain supervised training.

A network is an embedder e (theta_e), a transformer encoder f (theta_f) and a predictor h (theta_h). A source model
(e0, f0, h0) is pretrained; the target data are (x, y).

    L_inner(theta) = mean loss(h(f(e(x))), y)                                                                      (1)

Every method ends in stage 2, training on (1); they differ in where it starts and in what is trained:

    scratch    embedder, encoder and predictor fresh
    finetune   encoder f0, the rest fresh                              (vanilla fine-tuning)
    frozen     as finetune, but the encoder stays f0
    embedder   as finetune, after a stage 1 that minimises (1) in embedder and predictor with f0 fixed ('Emb')
    orca       as finetune, after a stage 1 that minimises the distance of the data sets: fipjax/algorithms/orca.py
    mona       as finetune, after a stage 1 that aligns knowledge: fipjax/algorithms/mona.py

Stage 1 hands on its embedder alone; stage 2 always starts with a fresh predictor.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from fipjax.algorithms import supervised
from fipjax.algorithms.base import Algorithm
from fipjax.models.predictors import mean_token

METHODS = ('scratch', 'finetune', 'frozen', 'embedder', 'orca', 'mona')
STAGE_1 = ('embedder', 'orca', 'mona')
PARTS = ('embedder', 'encoder', 'predictor')
SELECT = {'classes': 'accuracy', 'multilabel': 'score', 'dense': 'score'}  # validation metric that chooses


class Network(NamedTuple):
    """Pure functions of the parameters {'embedder', 'encoder', 'predictor'}.

    Attributes:
      embed: (theta_e, batch) -> tokens [B, N, token width], mask bool [B, N] or None.
      encode: (theta_f, tokens, mask) -> tokens [B, N', width].
      predict: (theta_h, tokens, mask) -> outputs [B, ...]; the mask is that of the input (None where N' is not N).
      output: 'classes' (outputs are logits [B, K], y int [B]), 'multilabel' (logits [B, K], y 0 or 1 [B, K]) or
        'dense' (outputs and y [B, ..., K]).
    """

    embed: Callable
    encode: Callable
    predict: Callable
    output: str


def features(network: Network, theta_e, theta_f, batch):
    """Mean of the encoder's tokens, what probes and alignment look at. [B, width]."""
    tokens, mask = network.embed(theta_e, batch)
    return mean_token(network.encode(theta_f, tokens, mask), mask)


def outputs(network: Network, params, batch):
    """h(f(e(x))). Logits [B, K] or fields [B, ..., K]."""
    tokens, mask = network.embed(params['embedder'], batch)
    return network.predict(params['predictor'], network.encode(params['encoder'], tokens, mask), mask)


def losses(output: str, predicted, y):
    """The loss of each example, in nats or in squared units of y. predicted and y as in Network -> [B].

    Cross-entropy; binary cross-entropy averaged over labels; squared error averaged over the field.
    """
    if output == 'classes':
        return optax.softmax_cross_entropy_with_integer_labels(predicted, y)
    if output == 'multilabel':
        return optax.sigmoid_binary_cross_entropy(predicted, y).mean(-1)
    return ((predicted - y) ** 2).reshape(y.shape[0], -1).mean(-1)


def sums(network: Network, params, batch) -> dict:
    """Loss (1) as (sum, count) over the rows that are not padding, and the metric that chooses (see SELECT)."""
    predicted, valid = outputs(network, params, batch), batch['mask']
    each, n = losses(network.output, predicted, batch['y']), valid.sum()
    loss = jnp.where(valid, each, 0.0).sum()
    if network.output == 'classes':
        hits = predicted.argmax(-1) == batch['y']
        return {'loss': (loss, n), 'accuracy': (jnp.where(valid, hits, False).sum(), n)}
    return {'loss': (loss, n), 'score': (-loss, n)}


def make(network: Network, trained, optimizer: optax.GradientTransformation, start: Mapping,
         micro_batch: int = 0) -> Algorithm:
    """Training on (1) as an Algorithm.

    Args:
      network: see Network.
      trained: which of 'embedder', 'encoder' and 'predictor' change.
      optimizer: for those.
      start: their parameters before the first step, all three.
      micro_batch: see `fipjax.algorithms.supervised.make`.

    Batches hold 'mask' bool [B], 'y', and what the embedder takes ('x', 'length').
    """
    return supervised.make(lambda key: jax.tree.map(jnp.asarray, dict(start)),
                           lambda params, batch: sums(network, params, batch), trained, optimizer, micro_batch)
