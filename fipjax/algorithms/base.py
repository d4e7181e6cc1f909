"""The contract every algorithm keeps: a NamedTuple of pure functions that name no device and import no flax."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import optax


class State(NamedTuple):
    """Everything that training changes. Randomness is a function of (seed, step, example id), so no key is here.

    Attributes:
      step: int32 scalar, steps done.
      params: nested dict of what is trained or used.
      opt_state: optax state.
    """

    step: Any
    params: Any
    opt_state: Any


class Algorithm(NamedTuple):
    """Pure functions.

    Attributes:
      init: key -> State.
      step: (state, batch, *, psum) -> (State, metrics); metrics are name -> (sum, count), reduced by psum already.
      eval_step: (state, batch, *, psum) -> metrics.
      summarise: metrics -> {name: float}, after the metrics of several batches have been added; has 'loss'.
    """

    init: Callable
    step: Callable
    eval_step: Callable
    summarise: Callable


def update(optimizer: optax.GradientTransformation, state: State, params, grads) -> tuple[State, dict]:
    """One optimiser step on `params` (all or part of state.params, keyed by top-level name).

    Returns:
      The new state and the metric 'grad_norm'.
    """
    changes, opt_state = optimizer.update(grads, state.opt_state, params)
    new = {**state.params, **optax.apply_updates(params, changes)}
    return State(state.step + 1, new, opt_state), {'grad_norm': (optax.global_norm(grads), jnp.ones(()))}
