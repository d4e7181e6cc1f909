"""Optimisers, all from optax."""
from __future__ import annotations

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict


def make(settings, steps: int) -> optax.GradientTransformation:
    """AdamW with global-norm clipping, linear warm-up and cosine decay to 0 (arXiv 1711.05101, MAE's recipe).

    Args:
      settings: learning_rate, warmup_steps, weight_decay, b2, clip (0 is no clipping).
      steps: length of the whole schedule in steps.
    """
    schedule = learning_rate(settings, steps)
    adamw = optax.adamw(schedule, b1=0.9, b2=settings.b2, weight_decay=settings.weight_decay, mask=decayed)
    return optax.chain(optax.clip_by_global_norm(settings.clip), adamw) if settings.clip else adamw


def tunable(settings, steps: int) -> optax.GradientTransformation:
    """As `make`, with the peak of the learning rate in the optimiser's state, see `with_rate`.

    All learning rates that are tried then share one compiled step. AdamW's update is proportional to the rate, weight
    decay included, so the schedule is made for a peak of 1 and its result is scaled.
    """
    unit = make(ConfigDict({**settings.to_dict(), 'learning_rate': 1.0}), steps)
    return optax.chain(unit, optax.inject_hyperparams(optax.scale)(step_size=settings.learning_rate))


def with_rate(opt_state, rate: float):
    """The state of a `tunable` optimiser with another peak learning rate."""
    unit, scale = opt_state
    peak = jnp.asarray(rate, scale.hyperparams['step_size'].dtype)
    return unit, scale._replace(hyperparams={**scale.hyperparams, 'step_size': peak})


def learning_rate(settings, steps: int):
    """The schedule: step -> learning rate."""
    warmup = min(settings.warmup_steps, max(steps - 1, 0))
    return optax.warmup_cosine_decay_schedule(0.0, settings.learning_rate, warmup, max(steps, warmup + 1))


def decayed(params):
    """Which leaves get weight decay: matrices, not biases, scales and single vectors."""
    return jax.tree.map(lambda p: p.ndim > 1, params)
