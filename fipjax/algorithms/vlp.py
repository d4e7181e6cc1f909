"""Masked pretraining on words and regions of pictures, and fine-tuning what it leaves (arXiv 2004.08744).

A batch has word pieces w [B, T] and regions with features v [B, R, F] and, of a detector, class distributions c
[B, R, C]. Word pieces that are not special are chosen with probability 0.15 each; of those 80 % become [MASK], 10 % a
random piece, 10 % stay. Regions are chosen with probability 0.15 each; of those 90 % get features of zero, 10 % stay;
boxes stay. With S_w and S_r the chosen ones of the whole batch and hats for what the model predicts:

    L_words   = sum_{i in S_w} -log p(w_i) / |S_w|                                                                 (1)
    L_regions = sum_{j in S_r} KL(c_j || p(class)) / |S_r|   or   sum_{j in S_r} |v_j - v^_j|^2 / (F |S_r|)         (2)
    MLM: L = L_words            MMM: L = L_words + L_regions                                                       (3)

A sum over nothing is 0. MLM leaves the regions as they are. The public code of the study differs in details that bear
on its claims; they are switches here (`Settings.zero_regions`, `Settings.padded_regions`).

The vocabulary projection is by far the widest product, so it sees chosen positions only: they are packed to the front
and taken `chunk` at a time, as many times as there are any, see `packed`.
"""
from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fipjax import metrics as metrics_lib
from fipjax.algorithms import supervised
from fipjax.algorithms.base import Algorithm, added, example_keys, initial, update
from fipjax.evaluators.vqa import HEADLINE

OBJECTIVES = ('mlm', 'mmm')
REGION_LOSSES = ('kl', 'regression')
MODES = ('full', 'frozen')
RATE = 0.15                 # of word pieces and of regions
MASKED, RANDOM = 0.8, 0.1   # of the chosen word pieces
ZEROED = 0.9                # of the chosen regions


class Settings(NamedTuple):
    """What pretraining predicts.

    Attributes:
      objective: 'mlm' or 'mmm'.
      region_loss: 'kl' (batches need 'classes') or 'regression'.
      vocab: number of word pieces.
      mask: id of [MASK].
      special: ids that are never chosen.
      zero_regions: hide regions in MLM too, without a loss on them, as the public code of April 2020 did.
      padded_regions: rows beyond the last region are chosen as well, with targets of zero that dilute (2), as there.
    """

    objective: str
    region_loss: str
    vocab: int
    mask: int
    special: tuple[int, ...]
    zero_regions: bool = False
    padded_regions: bool = False


class Masked(NamedTuple):
    """tokens [B, T] and features [B, R, F] as the model sees them; words [B, T], regions [B, R]: which are chosen."""

    tokens: jax.Array
    features: jax.Array
    words: jax.Array
    regions: jax.Array


def mask(settings: Settings, key, step, batch: Mapping) -> Masked:
    """Chooses and hides word pieces and regions, each example by (key, step, id) alone."""
    def one(key, tokens, token_mask, region_mask):
        keys = jax.random.split(key, 5)
        plain = token_mask & ~jnp.isin(tokens, jnp.array(settings.special))
        words = plain & (jax.random.uniform(keys[0], tokens.shape) < RATE)
        how = jax.random.uniform(keys[1], tokens.shape)
        other = jax.random.randint(keys[2], tokens.shape, 0, settings.vocab)
        hidden = jnp.where(how < MASKED, settings.mask, jnp.where(how < MASKED + RANDOM, other, tokens))
        there = jnp.ones_like(region_mask) if settings.padded_regions else region_mask
        regions = there & (jax.random.uniform(keys[3], region_mask.shape) < RATE)
        zero = regions & (jax.random.uniform(keys[4], region_mask.shape) < ZEROED)
        return jnp.where(words, hidden, tokens), words, regions, zero

    tokens, words, regions, zero = jax.vmap(one)(
        example_keys(key, step, batch['id']), batch['tokens'], batch['token_mask'], batch['region_mask'])
    mmm, features = settings.objective == 'mmm', batch['features']
    if mmm or settings.zero_regions:
        features = jnp.where(zero[..., None], 0, features)
    there = batch['mask'][:, None]
    return Masked(tokens, features, words & there, regions & there & mmm)


# --- Losses on chosen positions only ----------------------------------------------------------------------------------

@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 5))
def packed(loss_of: Callable, params, hidden, targets, chosen, chunk: int):
    """Sums of a loss and of hits over the chosen positions; the others are never computed.

    Args:
      loss_of: (params, hidden [chunk, D], targets [chunk, ...]) -> losses [chunk], hits [chunk].
      params: of the head.
      hidden: [N, D].
      targets: [N, ...].
      chosen: bool [N].
      chunk: positions at a time. The time is that of ceil(chosen / chunk) chunks.

    Returns:
      (sum of losses, sum of hits), scalars. Differentiable in params and hidden, once and in reverse; the gradient is
      computed in the same pass, chunk by chunk, so no logits are kept for the backward pass.
    """
    total, hits, _ = _packed(loss_of, params, hidden, targets, chosen, chunk, False)
    return total, hits


def _packed(loss_of, params, hidden, targets, chosen, chunk, with_gradient):
    hidden, targets, chosen = map(jnp.asarray, (hidden, targets, chosen))
    n = chosen.sum()
    order = jnp.argsort(~chosen, stable=True)
    order = jnp.pad(order, (0, -len(order) % chunk))

    def sums(params, h, t, valid):
        losses, hits = loss_of(params, h, t)
        return jnp.where(valid, losses, 0).sum(), jnp.where(valid, hits, 0).sum().astype(losses.dtype)

    def body(carry):
        i, total, hits, grads = carry
        rows = jax.lax.dynamic_slice(order, (i * chunk,), (chunk,))
        valid = i * chunk + jnp.arange(chunk) < n
        h, t = hidden[rows], targets[rows]
        if not with_gradient:
            part, hit = sums(params, h, t, valid)
            return i + 1, total + part, hits + hit, grads
        (part, hit), (by_params, by_hidden) = jax.value_and_grad(sums, (0, 1), has_aux=True)(params, h, t, valid)
        grads = jax.tree.map(jnp.add, grads[0], by_params), grads[1].at[rows].add(by_hidden)
        return i + 1, total + part, hits + hit, grads

    zero = jnp.zeros((), hidden.dtype)
    grads = jax.tree.map(jnp.zeros_like, (params, hidden)) if with_gradient else ()
    _, total, hits, grads = jax.lax.while_loop(lambda c: c[0] * chunk < n, body,
                                               (jnp.zeros((), jnp.int32), zero, zero, grads))
    return total, hits, grads


def _packed_forward(loss_of, params, hidden, targets, chosen, chunk):
    total, hits, grads = _packed(loss_of, params, hidden, targets, chosen, chunk, True)
    return (total, hits), grads


def _packed_backward(loss_of, chunk, grads, cotangents):
    del loss_of, chunk
    by_params, by_hidden = jax.tree.map(lambda g: g * cotangents[0].astype(g.dtype), grads)
    return by_params, by_hidden, None, None


packed.defvjp(_packed_forward, _packed_backward)


def chunk_size(positions: int) -> int:
    """Positions at a time: a quarter of those that are chosen of `positions` on average, at least 32."""
    return max(32, math.ceil(RATE * positions / 4))


def region_losses(kind: str, output, target):
    """(2) of each region. output [n, C or F]; target: class distributions [n, C] or features [n, F] -> [n]."""
    if kind == 'regression':
        return ((output - target) ** 2).mean(-1)
    entropy = jnp.where(target > 0, target * jnp.log(jnp.where(target > 0, target, 1)), 0).sum(-1)
    return entropy - (target * jax.nn.log_softmax(output)).sum(-1)


# --- Pretraining ------------------------------------------------------------------------------------------------------

def make(model, settings: Settings, optimizer: optax.GradientTransformation, start: Callable,
         chunks: tuple[int, int] = (0, 0), micro_batch: int = 0) -> Algorithm:
    """Pretraining as an Algorithm.

    Args:
      model: fipjax.models.vl.Model.
      settings: see Settings.
      optimizer: for all parameters.
      start: key -> params {'base', 'words', 'regions'}.
      chunks: of word pieces and of regions, see `packed`; 0 is `chunk_size`.
      micro_batch: see `fipjax.algorithms.supervised.make`.

    Batches are those of fipjax.data.vl.Source. Metrics: 'loss' (3), 'words' (1) and with it 'word_accuracy',
    'regions' (2), 'grad_norm'.
    """
    mmm = settings.objective == 'mmm'

    def word_loss(params, hidden, labels):
        logits = model.word_logits(params, hidden)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels), logits.argmax(-1) == labels

    def region_loss(params, hidden, target):
        losses = region_losses(settings.region_loss, model.region_outputs(params, hidden), target)
        return losses, jnp.zeros_like(losses)

    def sums(params, batch, hidden: Masked):
        seen = model.encode(params['base'], {**batch, 'tokens': hidden.tokens, 'features': hidden.features})
        flat = lambda x, axes: x.reshape(-1, *x.shape[axes:])  # noqa: E731
        # Of the base the head needs the word embeddings alone; its loop would carry a gradient of all it is given.
        head = {'base': {'embeddings': {'words': params['base']['embeddings']['words']}}, 'words': params['words']}
        size = chunks[0] or chunk_size(batch['tokens'].size)
        words, hits = packed(word_loss, head, flat(seen.words, 2), batch['tokens'].reshape(-1),
                             hidden.words.reshape(-1), size)
        if not mmm:
            return {'words': words, 'word_accuracy': hits}
        target = batch['features'] if settings.region_loss == 'regression' else batch['classes']
        if settings.padded_regions:
            target = jnp.where(batch['region_mask'][..., None], target, 0)
        regions, _ = packed(region_loss, {'regions': params['regions']}, flat(seen.regions, 2), flat(target, 2),
                            hidden.regions.reshape(-1), chunks[1] or chunk_size(batch['region_mask'].size))
        return {'words': words, 'word_accuracy': hits, 'regions': regions}

    def counts(hidden):
        words = hidden.words.sum()
        return {'words': words, 'word_accuracy': words, **({'regions': hidden.regions.sum()} if mmm else {})}

    def init(key):
        params = start(key)
        return initial(key, params, params, optimizer)

    def step(state, batch, *, psum):
        hidden = mask(settings, state.key, state.step, batch)
        count = psum(counts(hidden))

        def local(params, rows):
            parts = sums(params, *rows)
            return sum(parts[k] / jnp.maximum(count[k], 1) for k in ('words', 'regions') if k in parts), parts

        of_rows = functools.partial(jax.grad(local, has_aux=True), state.params)
        grads, parts = psum(added(of_rows, (batch, hidden), micro_batch))
        state, norm = update(optimizer, state, state.params, grads)
        return state, {**{k: (v, count[k]) for k, v in parts.items()}, **norm}

    def eval_step(state, batch, *, psum):
        hidden = mask(settings, state.key, 0, batch)
        parts, count = psum((sums(state.params, batch, hidden), counts(hidden)))
        return {k: (v, count[k]) for k, v in parts.items()}

    def summarise(metrics):
        values = metrics_lib.ratio(metrics)
        return {'loss': values.get('words', 0.0) + values.get('regions', 0.0), **values}

    return Algorithm(init, step, eval_step, summarise)


# --- Fine-tuning ------------------------------------------------------------------------------------------------------

def pooler(output: str) -> str:
    """What the head sees, as in the study: of questions with annotators' answers the last word, else [CLS]."""
    return 'last_word' if output == 'answers' else 'first'


def logits(model, head, output: str) -> Callable:
    """(params {'base', 'head'}, batch) -> logits [B, K]."""
    def of(params, batch):
        seen = model.encode(params['base'], batch)
        return head.apply(params['head'], model.pooled(params['base'], seen, batch, pooler(output)))
    return of


def task_sums(output: str, scores, batch) -> dict:
    """Loss and the metric that chooses, (sum, count) each over the rows that are not padding.

    'answers', 'labels': binary cross-entropy summed over answers; 'classes': cross-entropy. Metric: soft accuracy,
    micro F1 or accuracy, see fipjax.evaluators.vqa.
    """
    valid, y = batch['mask'], batch['y']
    n = valid.sum()
    if output == 'classes':
        losses = optax.softmax_cross_entropy_with_integer_labels(scores, y)
        metric = jnp.where(valid, scores.argmax(-1) == y, 0).sum(), n
    else:
        losses = optax.sigmoid_binary_cross_entropy(scores, y).sum(-1)
        if output == 'answers':  # index 0 is '<unk>', never an answer
            right = jnp.take_along_axis(y, 1 + scores[:, 1:].argmax(-1, keepdims=True), 1)[:, 0]
            metric = jnp.where(valid, right, 0).sum(), n
        else:
            said, true = (scores > 0) & valid[:, None], (y > 0) & valid[:, None]
            metric = 2 * (said & true).sum(), said.sum() + true.sum()
    return {'loss': (jnp.where(valid, losses, 0).sum(), n), HEADLINE[output]: metric}


def finetune(logits_of: Callable, output: str, trained: tuple[str, ...], optimizer: optax.GradientTransformation,
             start: Mapping[str, Any], micro_batch: int = 0) -> Algorithm:
    """Fine-tuning as an Algorithm.

    Args:
      logits_of: (params, batch) -> [B, K].
      output: 'answers', 'classes' or 'labels'.
      trained: ('base', 'head'), or ('head',) for a frozen base.
      optimizer: for those.
      start: {'base', 'head'} before the first step.
      micro_batch: see `fipjax.algorithms.supervised.make`.
    """
    return supervised.make(lambda key: jax.tree.map(jnp.asarray, dict(start)),
                           lambda params, batch: task_sums(output, logits_of(params, batch), batch), trained, optimizer,
                           micro_batch)
