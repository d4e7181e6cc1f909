"""Optimisers, all from optax."""
from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

KINDS = ('adamw', 'adam', 'sgd')


def make(settings, steps: int) -> optax.GradientTransformation:
    """An optimiser with global-norm clipping, linear warm-up and cosine decay to 0.

    'adamw' has decoupled weight decay (arXiv 1711.05101); in 'adam' and in 'sgd', whose momentum is 0.9, the decay is
    the gradient of an L2 term, added after clipping.

    Args:
      settings: kind, learning_rate, warmup_steps, weight_decay, b2 (not of 'sgd'), clip (0 is no clipping); where
        there is a layer_decay, each update is multiplied by layer_decay ** `layers_above`, weight decay included.
      steps: length of the whole schedule in steps.
    """
    schedule, decay = learning_rate(settings, steps), settings.weight_decay
    if settings.kind == 'adamw':
        kind = optax.adamw(schedule, b1=0.9, b2=settings.b2, weight_decay=decay, mask=decayed)
    else:
        plain = optax.adam(schedule, b1=0.9, b2=settings.b2) if settings.kind == 'adam' else optax.sgd(schedule, 0.9)
        kind = optax.chain(optax.add_decayed_weights(decay, decayed), plain)
    kind = optax.chain(optax.clip_by_global_norm(settings.clip), kind) if settings.clip else kind
    by_layer = getattr(settings, 'layer_decay', 1.0)
    return kind if by_layer == 1 else optax.chain(kind, _scaled_by_layer(by_layer))


def tunable(settings, steps: int) -> optax.GradientTransformation:
    """As `make`, with the peak of the learning rate in the optimiser's state, see `with_rate`.

    All learning rates that are tried then share one compiled step. The update of every kind is proportional to the
    rate, weight decay included, so the schedule is made for a peak of 1 and its result is scaled.
    """
    unit = make(ConfigDict({**settings.to_dict(), 'learning_rate': 1.0}), steps)
    return optax.chain(unit, optax.inject_hyperparams(optax.scale)(step_size=settings.learning_rate))


def with_rate(opt_state, rate: float):
    """The state of a `tunable` optimiser with another peak learning rate."""
    unit, scale = opt_state
    peak = jnp.asarray(rate, scale.hyperparams['step_size'].dtype)
    return unit, scale._replace(hyperparams={**scale.hyperparams, 'step_size': peak})


def layers_above(params) -> dict:
    """For each leaf how many layers stand above it, those that predict counted as one.

    Read off the names that models give. 'encoder' or 'base' is the body. Its layers are stacked along the first axis
    of '<name>blocks' and, of Swin, of 'stage_<i>' / 'blocks' / 'plain' and 'shifted', which take turns. The last of n
    layers has 1, the first has n; what they begin with has n + 1: 'embedder', 'embeddings', 'cls', and
    'region_embeddings', where n counts the layers of regions. A 'merge' goes with the layer before it. All else is
    above the layers and has 0; so has everything where no body is trained.

    Args:
      params: what is trained, a nested dict keyed by top-level part.

    Returns:
      The tree with an integer array at each leaf, of the leaf's rank, that goes with it by broadcasting.
    """
    name = next((k for k in ('encoder', 'base') if k in params), None)
    body, depth = _layers_above_body(params[name]) if name else ({}, -1)
    return {k: body if k == name else _all(v, depth + 1 if k == 'embedder' else 0) for k, v in params.items()}


def _layers_above_body(body):
    """`layers_above` within the body, and how many layers it has."""
    stacks = {k: jax.tree.leaves(v)[0].shape[0] for k, v in body.items() if k.endswith('blocks')}
    out = {k: jax.tree.map(lambda leaf, n=n: _along_first(n - np.arange(n), leaf), body[k]) for k, n in stacks.items()}
    depth = max(stacks.values(), default=0)
    for name in sorted((k for k in body if k.startswith('stage_')), key=lambda k: int(k[6:]), reverse=True):
        pairs = jax.tree.leaves(body[name]['blocks'])[0].shape[0]
        last = depth + 2 * (pairs - np.arange(pairs)) - 1  # of each pair, the shifted one
        out[name] = {'blocks': {k: jax.tree.map(lambda leaf, n=n: _along_first(n, leaf), body[name]['blocks'][k])
                                for k, n in (('plain', last + 1), ('shifted', last))}}
        if 'merge' in body[name]:
            out[name]['merge'] = _all(body[name]['merge'], depth + 1)
        depth += 2 * pairs
    below = {'cls': depth + 1, 'embeddings': depth + 1, 'region_embeddings': stacks.get('region_blocks', 0) + 1}
    return {k: out[k] if k in out else _all(v, below.get(k, 0)) for k, v in body.items()}, depth


def _all(tree, n):
    return jax.tree.map(lambda leaf: np.full((1,) * leaf.ndim, n), tree)


def _along_first(n, leaf):
    return n.reshape(-1, *(1,) * (leaf.ndim - 1))


def _scaled_by_layer(decay):
    def scaled(updates, params=None):
        del params
        return jax.tree.map(lambda u, n: u * jnp.asarray(decay ** n, u.dtype), updates, layers_above(updates))
    return optax.stateless(scaled)


def learning_rate(settings, steps: int):
    """The schedule: step -> learning rate."""
    warmup = min(settings.warmup_steps, max(steps - 1, 0))
    return optax.warmup_cosine_decay_schedule(0.0, settings.learning_rate, warmup, max(steps, warmup + 1))


def decayed(params):
    """Which leaves get weight decay: matrices, not biases, scales and single vectors.

    The names count beside the rank: layers are stacked (fipjax.models.stack), so their biases are [depth, D].

    Args:
      params: a nested dict.
    """
    vectors = 'bias', 'scale'
    return jax.tree_util.tree_map_with_path(lambda path, p: p.ndim > 1 and path[-1].key not in vectors, params)
