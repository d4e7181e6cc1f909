"""The contract every algorithm keeps: a NamedTuple of pure functions that name no device and import no flax."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


class State(NamedTuple):
    """All that a step needs besides the batch. Randomness is a function of (key, step, example id).

    Attributes:
      step: int32 scalar, steps done.
      key: uint32 [2], key data; never changes. In the state and not in the program, so that all seeds share one.
      params: nested dict of what is trained or used.
      opt_state: optax state.
    """

    step: Any
    key: Any
    params: Any
    opt_state: Any


def initial(key, params, trained, optimizer: optax.GradientTransformation) -> State:
    """The state before the first step: `params`, of which the optimiser sees the part `trained`."""
    return State(jnp.zeros((), jnp.int32), jax.random.key_data(key), params, optimizer.init(trained))


def example_keys(key, step, ids):
    """One key for each example from (key, step, id), so that masks do not depend on batches or devices. [B]."""
    key = jax.random.fold_in(jax.random.wrap_key_data(key), step)
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, ids)


def inner_update(params, gradient, alpha):
    """The single inner step of a bilevel method: params - alpha gradient."""
    return jax.tree.map(lambda p, g: p - alpha * g, params, gradient)


def gather(psum, x, row, total: int):
    """Rows that devices share, on every device: each adds its own in their places.

    Args:
      x: [b, ...]; row: int [b], their places; total: rows of all devices.

    Returns:
      [total, ...].
    """
    return psum(jnp.zeros((total, *x.shape[1:]), x.dtype).at[row].set(x))


def split(rows, size: int):
    """A tree of [b, ...] as one of [b / size, size, ...]; size divides b."""
    return jax.tree.map(lambda x: x.reshape(-1, size, *x.shape[1:]), rows)


def added(fn: Callable, rows, size: int):
    """fn(rows), a tree of sums over rows, computed `size` rows at a time, for memory; 0 all at once.

    What fn divides by must be that of all rows.
    """
    if not size:
        return fn(rows)
    parts = split(rows, size)
    zero = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype),
                        jax.eval_shape(fn, jax.tree.map(lambda x: x[0], parts)))
    return jax.lax.scan(lambda total, part: (jax.tree.map(jnp.add, total, fn(part)), None), zero, parts)[0]


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
    state = state._replace(step=state.step + 1, params=new, opt_state=opt_state)
    return state, {'grad_norm': (optax.tree.norm(grads), jnp.ones(()))}
