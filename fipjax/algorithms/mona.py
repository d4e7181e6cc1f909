"""Modality Knowledge Alignment, MoNA (Ma, Li, Cai, Kang, ICML 2024, arXiv 2406.18864): a meta-learned embedder.

Embedder e (parameters phi, the only thing that stage 1 is after), pretrained encoder f0 (theta_f), predictor h
(theta_h), source embedder e0. With target data (x, y) and source data (x^s, y^s), one step of stage 1 follows

    L_inner(phi, theta_f, theta_h) = mean loss(h(f(e(x))), y)                                                      (1)
    theta_f' = theta_f - alpha grad_{theta_f} L_inner(phi, theta_f, theta_h)         single inner step from f0     (2)
    f_i = normalise(mean token of f(e0(x_i^s); theta_f'))                            source features, unit sphere  (3)
    L_align = mean |f_i - f_j|^2 over pairs i != j with y_i^s = y_j^s                                              (4)
    L_uniform = log mean exp(-2 |f_i - f_j|^2) over pairs i != j                                                   (5)
    L_outer' = lambda (L_align + L_uniform) + L_inner,  minimised in phi                                           (6)

(4) and (5) are minimised, with plus signs (Wang & Isola, arXiv 2005.10242); some summaries print a minus, which would
push examples of a class apart. A batch without a pair of a class contributes zero to (4).

theta_f' depends on phi through the inner gradient and L_outer on phi through theta_f' alone, so with
v = grad_{theta_f'} L_outer the gradient of (6) is exactly

    grad_phi L_inner - lambda alpha d/ds [grad_phi L_inner(phi, theta_f + s v, theta_h)]_{s=0}                     (7)

The encoder stays f0 during the whole of stage 1: (2) starts from it at every step.
"""
from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from fipjax import metrics as metrics_lib
from fipjax.algorithms import transfer
from fipjax.algorithms.base import Algorithm, added, gather, initial, inner_update, split, update
from fipjax.algorithms.transfer import Network

META_GRADIENTS = ('reverse', 'mixed', 'finite_difference', 'first_order')
PREDICTORS = ('trained', 'fixed')
STEP = 1e-3  # length of the finite difference relative to that of theta_f


class Settings(NamedTuple):
    """MoNA's settings.

    Attributes:
      lambda_: weight of the outer loss.
      alpha: length of the inner step.
      meta_gradient: 'mixed', derivative of the gradient (7); 'reverse', jax.grad through (2), the definition, the same
        numbers at more memory; 'finite_difference', central differences for the second term of (7); 'first_order',
        without that term, which leaves the gradient of the embedder warm-up.
      predictor: 'trained' with the gradient of (1), or 'fixed' at its initial values.
      source_batch: S, source examples in a step, of all devices together.
      micro_batch: rows of a device that 'mixed' treats at a time, so that memory does not grow with the batch; 0 all.
    """

    lambda_: float
    alpha: float
    meta_gradient: str
    predictor: str
    source_batch: int
    micro_batch: int


# --- The losses -------------------------------------------------------------------------------------------------------

def squared_distances(z):
    """|z_i - z_j|^2 of unit vectors z [S, D] -> [S, S]."""
    return 2 - 2 * z @ z.T


def alignment(z, labels):
    """L_align (4). z [S, D] unit vectors, labels int [S] -> scalar; 0 without a pair of a class."""
    pairs = (labels[:, None] == labels[None]) & ~jnp.eye(len(labels), dtype=bool)
    return jnp.where(pairs, squared_distances(z), 0.0).sum() / jnp.maximum(pairs.sum(), 1)


def uniformity(z):
    """L_uniform (5). z [S, D] unit vectors -> scalar; 0 for a single one."""
    n = len(z)
    if n < 2:
        return jnp.zeros((), z.dtype)
    others = ~jnp.eye(n, dtype=bool)
    return jnp.log(jnp.where(others, jnp.exp(-2 * squared_distances(z)), 0.0).sum() / (n * (n - 1)))


def outer_loss(z, labels):
    """L_align + L_uniform of the features z [S, D], any length, and (L_align, L_uniform)."""
    z = z / jnp.sqrt((z ** 2).sum(-1, keepdims=True) + 1e-12)
    parts = alignment(z, labels), uniformity(z)
    return sum(parts), parts


def inner_loss(network: Network, phi, theta_f, theta_h, batch, count):
    """This device's part of L_inner (1), a sum over its rows / the `count` of all devices, and the metrics."""
    parts = transfer.sums(network, {'embedder': phi, 'encoder': theta_f, 'predictor': theta_h}, batch)
    return parts['loss'][0] / count, parts


# --- Gradients --------------------------------------------------------------------------------------------------------

def meta_gradient(network: Network, source_embed, settings: Settings, params: Mapping, batch: Mapping, psum):
    """Gradient of (6) in the embedder and of (1) in the predictor.

    Args:
      network: of the target.
      source_embed: e0, (theta_e0, batch) -> tokens, mask.
      params: 'embedder' phi, 'encoder' theta_f, 'predictor' theta_h, 'source_embedder'.
      batch: target rows ('mask', 'x', 'y', ...), and 'source' with 'x', 'y' int [s] and 'row' int [s], the position of
        each in the batch of all devices.
      psum: sum over devices.

    Returns:
      {'embedder', 'predictor'}, summed over devices, and metrics name -> (sum, count).
    """
    form = {'reverse': _reverse, 'mixed': _mixed}.get(settings.meta_gradient, _separate)
    count = jnp.maximum(psum(batch['mask'].sum()), 1)
    source_network = network._replace(embed=source_embed)
    grads, parts, (outer, (align, uniform)) = form(network, source_network, settings, params, batch, count, psum)
    inner = parts['loss'][0] / count
    one = jnp.ones(())
    return grads, {**parts, 'loss': (inner + settings.lambda_ * outer, one), 'loss/inner': parts['loss'],
                   'loss/alignment': (align, one), 'loss/uniformity': (uniform, one)}


def _reverse(network, source_network, settings, params, batch, count, psum):
    """jax.grad through the single-step update, as (2) and (6) stand there.

    Each device differentiates its share of the total, so that the shares add up to it: under a sum over devices the
    gradient of something that every device holds whole would count as often as there are devices.
    """
    theta_f, source, shares = params['encoder'], batch['source'], psum(jnp.ones(()))
    inner = functools.partial(inner_loss, network)

    def total(phi, theta_h):
        fixed_h = jax.lax.stop_gradient(theta_h)  # the predictor follows (1), not (6)
        gradient = psum(jax.grad(lambda f: inner(phi, f, fixed_h, batch, count)[0])(theta_f))
        updated = inner_update(theta_f, gradient, settings.alpha)
        z = transfer.features(source_network, params['source_embedder'], updated, source)
        outer, outer_parts = outer_loss(*(gather(psum, v, source['row'], settings.source_batch)
                                          for v in (z, source['y'])))
        loss, parts = inner(phi, theta_f, theta_h, batch, count)
        return settings.lambda_ * outer / shares + loss, (parts, (outer, outer_parts))

    (phi, theta_h), (parts, outer) = jax.grad(total, (0, 1), has_aux=True)(params['embedder'], params['predictor'])
    grads, parts = psum(({'embedder': phi, 'predictor': theta_h}, parts))
    return grads, parts, outer


def _mixed(network, source_network, settings, params, batch, count, psum):
    """(7): derivative of the gradient in the direction v. Differentiates through no sum over devices.

    The gradients of (2) and (7) are those of one loss at one place: one linearisation gives them and, once v is known,
    the second term. With micro-batches nothing can be kept until then, and the gradient is computed again by a jvp.
    """
    theta_f, micro = params['encoder'], settings.micro_batch
    target = {k: v for k, v in batch.items() if k != 'source'}
    if micro:
        gradient, parts = added(_gradient_of_encoder(network, params, count), target, micro)
    else:
        plain, along, (gradient, parts) = jax.linearize(functools.partial(_gradients, network, params, count, target),
                                                        theta_f, has_aux=True)
    gradient, parts = psum((gradient, parts))
    updated = inner_update(theta_f, gradient, settings.alpha)
    v, outer = _outer_gradient(source_network, settings, params, updated, batch, psum)

    def both(plain, tangent):
        return {'embedder': inner_update(plain['embedder'], tangent['embedder'], settings.lambda_ * settings.alpha),
                'predictor': plain['predictor']}

    def again(rows):
        return both(*jax.jvp(functools.partial(_gradient_of_rest, network, params, count, rows), (theta_f,), (v,)))

    return psum(added(again, target, micro) if micro else both(plain, along(v))), parts, outer


def _separate(network, source_network, settings, params, batch, count, psum):
    """(7) with its second term by central differences, or without it."""
    theta_f = params['encoder']
    target = {k: v for k, v in batch.items() if k != 'source'}
    gradient, parts = psum(_gradient_of_encoder(network, params, count)(target))
    updated = inner_update(theta_f, gradient, settings.alpha)
    v, outer = _outer_gradient(source_network, settings, params, updated, batch, psum)
    grads = functools.partial(_gradient_of_rest, network, params, count, target)
    plain = grads(theta_f)
    if settings.meta_gradient == 'finite_difference':
        s = STEP * optax.tree.norm(theta_f) / jnp.maximum(optax.tree.norm(v), 1e-12)
        ahead, behind = (grads(inner_update(theta_f, v, sign * s))['embedder'] for sign in (-1, 1))
        tangent = jax.tree.map(lambda a, b: (a - b) / (2 * s), ahead, behind)
        plain['embedder'] = inner_update(plain['embedder'], tangent, settings.lambda_ * settings.alpha)
    return psum(plain), parts, outer


def _gradient_of_encoder(network, params, count):
    def of(rows):
        return jax.grad(lambda f: inner_loss(network, params['embedder'], f, params['predictor'], rows, count),
                        has_aux=True)(params['encoder'])
    return of


def _gradients(network, params, count, rows, theta_f):
    """Gradient of (1) in embedder and predictor at theta_f, and beside it that in theta_f and the metrics."""
    loss = lambda p: inner_loss(network, p['embedder'], p['encoder'], p['predictor'], rows, count)  # noqa: E731
    grads, parts = jax.grad(loss, has_aux=True)({**{k: params[k] for k in ('embedder', 'predictor')},
                                                 'encoder': theta_f})
    encoder = grads.pop('encoder')
    return grads, (encoder, parts)


def _gradient_of_rest(network, params, count, rows, theta_f):
    """Gradient of (1) in embedder and predictor at theta_f."""
    rest = {k: params[k] for k in ('embedder', 'predictor')}
    return jax.grad(lambda p: inner_loss(network, p['embedder'], theta_f, p['predictor'], rows, count)[0])(rest)


def _outer_gradient(source_network, settings, params, updated, batch, psum):
    """v = grad of L_outer at theta_f' (the same on every device), L_outer and its parts.

    L_outer needs all pairs, but only their features: these are gathered, their cotangents computed everywhere, and
    each device pulls those of its own rows back.
    """
    source, micro = batch['source'], settings.micro_batch

    def of(theta_f, rows):
        return transfer.features(source_network, params['source_embedder'], theta_f, rows)

    if micro:
        z, pull = _by_parts(functools.partial(of, updated), source, micro), None
    else:
        z, pull = jax.vjp(lambda theta_f: of(theta_f, source), updated)
    labels = gather(psum, source['y'], source['row'], settings.source_batch)
    (outer, parts), back = jax.value_and_grad(outer_loss, has_aux=True)(
        gather(psum, z, source['row'], settings.source_batch), labels)
    mine = back[source['row']]
    if micro:
        v = added(lambda rows: jax.vjp(lambda f: of(f, rows), updated)[1](rows['cotangent'])[0],
                  {**source, 'cotangent': mine}, micro)
    else:
        v, = pull(mine)
    return psum(v), (outer, parts)


def _by_parts(fn, rows, size):
    """fn(rows) [b, ...] computed `size` rows at a time."""
    out = jax.lax.map(fn, split(rows, size))
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), out)


# --- The algorithm ----------------------------------------------------------------------------------------------------

def make(network: Network, source_embed, settings: Settings, optimizer: optax.GradientTransformation,
         start: Mapping) -> Algorithm:
    """Stage 1 of MoNA as an Algorithm.

    Args:
      network: of the target; its encoder also reads what the source embedder gives.
      source_embed: e0, (theta_e0, batch) -> tokens, mask.
      settings: see Settings. With devices, S and the batch must be divisible by their number (and by micro_batch).
      optimizer: of the embedder, and of the predictor if that is trained.
      start: 'embedder', 'encoder' (f0), 'predictor', 'source_embedder' (e0).

    Metrics: 'loss' (6), 'loss/inner' (1), 'loss/alignment' (4), 'loss/uniformity' (5), accuracy or score on the
    target, 'grad_norm'. Validation knows no source, so 'loss' there is (1).
    """
    trained = ('embedder', 'predictor') if settings.predictor == 'trained' else ('embedder',)

    def init(key):
        params = jax.tree.map(jnp.asarray, dict(start))
        return initial(key, params, {k: params[k] for k in trained}, optimizer)

    def step(state, batch, *, psum):
        grads, metrics = meta_gradient(network, source_embed, settings, state.params, batch, psum)
        state, norm = update(optimizer, state, {k: state.params[k] for k in trained}, {k: grads[k] for k in trained})
        return state, {**metrics, **norm}

    def eval_step(state, batch, *, psum):
        return psum(transfer.sums(network, state.params, batch))

    return Algorithm(init, step, eval_step, metrics_lib.ratio)
