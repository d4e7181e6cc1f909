"""Which modality matters for a task, from a few of its labels: estimators, and the weights that follow from them.

Pretraining losses L_m of modalities m = 1..M, encoder parameters theta, g_m = grad_theta L_m, all from one forward
pass. The labelled examples are halved at random within each class; a linear probe is fitted to the encoder's codes of
one half, and L_t is its error on the other half, g_t = grad_theta L_t with the probe held fixed.

    cosine       s_m = <g_m, g_t> / |g_m| |g_t|                  as TAWT (CogComp/TAWT) and TARTAN (ldery/TARTAN)
    dot          s_m = <g_m, g_t> / mean_j |g_j| |g_t|           as DoGE (Olivia-fsm/DoGE)
    meta         s_m = -d L_t(theta') / d w_m, theta' = theta - alpha sum_j w_j g_j / sum_j w_j, divided by
                 alpha mean_j |g_j| |grad L_t(theta')|                                                            (1)
    ablation     s_m = (L_t without m - L_t) / L_t of a constant, codes of all modalities, probes fitted anew

What else weights losses, without any label, to compare with:

    gradnorm     s_m = -d/dw_m |w_m |g_m| - G r_m^1.5| / mean_j |g_j|, r_m = (L_m / first L_m) / mean of these,
                 G = mean_m w_m |g_m|            GradNorm; over the whole encoder, there over its last shared layer
    uncertainty  s_m = -d/dz_m [exp(z_m) L_m - z_m]                                   uncertainty weighting
    dwa          z_m = L_m / L_m before, means between updates; z is set, not moved   dynamic weight averaging

These three and their constants are as AuxiLearn's experiments/weight_methods.py and MultiMAE's task_balancing.py have
them.

Scores move weights by exponentiated gradient, z_m <- z_m + rate s_m, and

    w = M ((1 - floor) softmax(z / temperature) + floor / M)                                                        (2)

so that weights sum to M and none falls below floor. Labels drawn at random are the control: they should move nothing.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fipjax.algorithms.base import example_keys, inner_update

LABELLED = ('cosine', 'dot', 'meta', 'ablation')  # estimators of importance
UNLABELLED = ('gradnorm', 'uncertainty', 'dwa')
METHODS = LABELLED + UNLABELLED
TINY = 1e-12
GRADNORM_ALPHA = 1.5  # as there


class Settings(NamedTuple):
    """How weights are estimated.

    Attributes:
      method: one of METHODS.
      every: steps from one estimate to the next.
      rate: of the exponentiated gradient (of the gradient step for gradnorm and uncertainty).
      floor: smallest weight, in [0, 1); the mean weight is 1.
      temperature: of the softmax.
      penalty: of the probe, relative to the number of examples that it is fitted to.
      alpha: length of the inner step of 'meta'.
    """

    method: str
    every: int
    rate: float
    floor: float
    temperature: float
    penalty: float
    alpha: float


# --- The probe --------------------------------------------------------------------------------------------------------

def halves(key, step, ids, labels, valid):
    """A random half of the examples of each class, bool [D]: those that the probe is fitted to; of an odd number the
    larger one.

    Args:
      key: uint32 [2]; step: int scalar; ids: int [D], of the examples; labels: int [D]; valid: bool [D].
    """
    order = jax.vmap(jax.random.uniform)(example_keys(key, step, ids))
    before = (labels[:, None] == labels[None]) & (order[None] < order[:, None]) & valid[None]
    return valid & (before.sum(1) % 2 == 0)


def fit_probe(codes, targets, fitted, penalty, psum):
    """Ridge regression of the one-hot labels on standardised codes, over all devices' rows.

    Args:
      codes: [d, E]; targets: [d, K]; fitted: bool [d], rows to fit to; penalty: relative to their number.

    Returns:
      {'mean' [E], 'scale' [E], 'weights' [E, K], 'level' [K]}.
    """
    count = jnp.maximum(psum(fitted.sum()), 1)
    rows = fitted[:, None]
    mean, level = (psum(jnp.where(rows, x, 0.0).sum(0)) / count for x in (codes, targets))
    variance = psum(jnp.where(rows, (codes - mean) ** 2, 0.0).sum(0)) / count
    scale = 1 / jnp.sqrt(variance + 1e-6)
    x = jnp.where(rows, (codes - mean) * scale, 0.0)
    gram, cross = psum((x.T @ x, x.T @ jnp.where(rows, targets - level, 0.0)))
    weights = jnp.linalg.solve(gram + penalty * count * jnp.eye(len(gram), dtype=gram.dtype), cross)
    return {'mean': mean, 'scale': scale, 'weights': weights, 'level': level}


def probe_error(probe, codes, targets):
    """Squared error of each row, summed over the classes. [d]."""
    predicted = (codes - probe['mean']) * probe['scale'] @ probe['weights'] + probe['level']
    return ((predicted - targets) ** 2).sum(-1)


def held_out(code: Callable, theta, task: Task, penalty, psum) -> Callable:
    """L_t for the probe that fits `theta`: a function theta -> this device's part (its sum / all devices' rows).

    Args:
      code: theta -> codes [d, E] of this device's rows.
    """
    probe = jax.lax.stop_gradient(fit_probe(code(theta), task.targets, task.fitted, penalty, psum))
    count = jnp.maximum(psum(task.asked.sum()), 1)
    return lambda theta: jnp.where(task.asked, probe_error(probe, code(theta), task.targets), 0.0).sum() / count


def held_out_gradient(task: Task, theta, penalty, psum):
    """g_t, this device's part, from one forward pass: the probe fits the codes that are differentiated."""
    codes, back = jax.vjp(task.code, theta)
    return back(jax.grad(held_out(lambda x: x, codes, task, penalty, psum))(codes))[0]


# --- Gradients and scores ---------------------------------------------------------------------------------------------

def gradients(losses: Callable, theta):
    """L_m [M] and g_m, each leaf [M, ...], from one forward pass; `losses`: theta -> [M]. This device's part."""
    values, back = jax.vjp(losses, theta)
    return values, jax.vmap(lambda one: back(one)[0])(jnp.eye(len(values), dtype=values.dtype))


def inner(a, b):
    """<a, b> of two trees; leaves of `a` may have a leading axis [M], then [M]."""
    parts = jax.tree.map(lambda x, y: jnp.tensordot(x, y, y.ndim) if x.ndim == y.ndim
                         else x.reshape(len(x), -1) @ y.reshape(-1), a, b)
    return sum(jax.tree.leaves(parts))


def norms(g):
    """|g_m| of a tree with leaves [M, ...]. [M]."""
    return jnp.sqrt(sum((x.reshape(len(x), -1) ** 2).sum(1) for x in jax.tree.leaves(g)))


def cosine(g, target):
    """See this module's docstring. g: leaves [M, ...]; target: g_t. [M]."""
    return inner(g, target) / jnp.maximum(norms(g) * jnp.sqrt(inner(target, target)), TINY)


def dot(g, target):
    """As `cosine`, but larger gradients score more. [M]."""
    return inner(g, target) / jnp.maximum(norms(g).mean() * jnp.sqrt(inner(target, target)), TINY)


def meta(g, weights, theta, alpha, loss: Callable, psum):
    """See this module's docstring (1). [M].

    g does not depend on w, so the derivative passes through the update alone: no second derivatives.

    Args:
      weights: w [M]; loss: theta -> this device's part of L_t.
    """
    def after(w):
        share = w / w.sum()
        return inner_update(theta, jax.tree.map(lambda x: jnp.tensordot(share, x, 1), g), alpha)

    updated, back = jax.vjp(after, weights)
    gradient = psum(jax.grad(loss)(updated))
    size = alpha * norms(g).mean() * jnp.sqrt(inner(gradient, gradient))
    return -back(gradient)[0] / jnp.maximum(size, TINY)


def ablation(task: Task, psum, modalities: int, penalty):
    """How much worse a probe is without each modality, relative to a constant. [M]."""
    def error(codes):
        return psum(held_out(lambda theta: theta, codes, task, penalty, psum)(codes))

    losses = [error(task.code_without(m)) for m in range(-1, modalities)]
    constant = error(jnp.zeros((len(task.targets), 1), losses[0].dtype))  # codes that say nothing
    return (jnp.stack(losses[1:]) - losses[0]) / jnp.maximum(constant, TINY)


# --- Weights ----------------------------------------------------------------------------------------------------------

def start(modalities: int) -> dict:
    """What is kept from estimate to estimate, all zeros, which are equal weights; float32, [M] but for 'updates'."""
    zeros = jnp.zeros(modalities)
    return {'z': zeros, 'score': zeros, 'sum': zeros, 'count': zeros, 'first': zeros, 'last': zeros,
            'updates': jnp.zeros((), jnp.int32)}


def weights(kept, settings: Settings):
    """w (2) [M]."""
    n = len(kept['z'])
    return n * (1 - settings.floor) * jax.nn.softmax(kept['z'] / settings.temperature) + settings.floor


def observe(kept, losses, counts) -> dict:
    """Adds the losses L_m [M] of a step, where the modality had a masked token (counts [M])."""
    seen = counts > 0
    return {**kept, 'sum': kept['sum'] + jnp.where(seen, losses, 0.0), 'count': kept['count'] + seen}


class Task(NamedTuple):
    """The labelled rows of a device: one-hot `targets` [d, K], which are `fitted` to and which `asked`, bool [d];
    `code`, theta -> codes [d, E] of the target alone; `code_without`, int m -> codes [d, E] of all modalities but m,
    of all for -1."""

    targets: jax.Array
    fitted: jax.Array
    asked: jax.Array
    code: Callable
    code_without: Callable


def update(kept, settings: Settings, losses: Callable, theta, task: Task | None, psum) -> dict:
    """One estimate, and what is kept after it.

    Args:
      kept: as from `start` and `observe`.
      losses: theta -> this device's part of L_m [M]: sums of errors / the counts of all devices.
      theta: the encoder's parameters.
      task: of the labelled examples; None for methods without.

    Returns:
      kept, with z moved and the sums of `observe` empty.
    """
    method, w = settings.method, weights(kept, settings)
    mean = jnp.where(kept['count'] > 0, kept['sum'] / jnp.maximum(kept['count'], 1), kept['last'])
    first = jnp.where(kept['updates'] == 0, mean, kept['first'])
    g = None
    if method not in ('ablation', 'uncertainty', 'dwa'):
        g = psum(gradients(losses, theta)[1])
    if method == 'ablation':
        score = ablation(task, psum, len(w), settings.penalty)
    elif method == 'gradnorm':
        score = gradnorm(norms(g), w, mean / jnp.maximum(first, TINY))
    elif method == 'uncertainty':
        score = 1 - jnp.exp(kept['z']) * mean
    elif method == 'dwa':
        score = jnp.where(kept['updates'] > 0, mean / jnp.maximum(kept['last'], TINY), 1.0)
    else:
        if method == 'meta':
            loss = held_out(task.code, theta, task, settings.penalty, psum)
            score = meta(g, w, theta, settings.alpha, loss, psum)
        else:
            target = psum(held_out_gradient(task, theta, settings.penalty, psum))
            score = {'cosine': cosine, 'dot': dot}[method](g, target)
    z = score if method == 'dwa' else kept['z'] + settings.rate * score
    return {**kept, 'z': z, 'score': score, 'sum': jnp.zeros_like(mean), 'count': jnp.zeros_like(mean), 'first': first,
            'last': mean, 'updates': kept['updates'] + 1}


def gradnorm(lengths, w, ratio):
    """See this module's docstring. lengths: |g_m|; w: weights; ratio: L_m / first L_m; all [M]."""
    wanted = (w * lengths).mean() * (ratio / jnp.maximum(ratio.mean(), TINY)) ** GRADNORM_ALPHA
    return -jnp.sign(w * lengths - wanted) * lengths / jnp.maximum(lengths.mean(), TINY)
