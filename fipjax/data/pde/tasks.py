"""The eight tasks by name, what may be asked of them, and their examples."""
from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from fipjax.data.pde import (
    advection,
    burgers,
    darcy,
    diffusion_reaction_1d,
    diffusion_reaction_2d,
    diffusion_sorption,
    navier_stokes_1d,
    shallow_water,
)
from fipjax.data.pde.task import Task
from fipjax.errors import UserError

TASKS = {module.TASK.name: module.TASK for module in (
    advection, burgers, diffusion_reaction_1d, diffusion_sorption, navier_stokes_1d, darcy, shallow_water,
    diffusion_reaction_2d)}
SMALLEST, LARGEST = 16, 8  # points a side; times the official resolution


def find(name: str | None) -> Task:
    """The task of that name.

    Raises:
      UserError: there is none.
    """
    if name not in TASKS:
        near = difflib.get_close_matches(name or '', TASKS, n=1)
        hint = f', did you mean {near[0]}?' if near else ''
        wrong = f'--task={name}: no such task{hint}' if name else '--task is missing'
        raise UserError(f'{wrong}; allowed: {", ".join(TASKS)}')
    return TASKS[name]


def resolution_of(task: Task, points: int | None, parameters: Mapping[str, float]) -> int:
    """`points` a side if it can be solved with the parameters; None: the task's own.

    Raises:
      UserError: it cannot.
    """
    points = task.resolution if points is None else points
    most = LARGEST * task.official
    if points < SMALLEST or points > most or points & (points - 1):
        raise UserError(f'--resolution={points}: {task.name} needs a power of 2 from {SMALLEST} to {most} points a '
                        f'side; the default is {task.resolution}, PDEBench has {task.official}')
    if task.check is not None:
        task.check(points, parameters)
    return points


def parameters_of(task: Task, given: Sequence[str]) -> dict[str, float]:
    """The task's parameters after NAME=NUMBER texts.

    Raises:
      UserError: unknown name, or what is not a positive number.
    """
    out = dict(task.parameters)
    for text in given:
        name, equals, value = text.partition('=')
        if name not in out:
            raise UserError(f'--parameter {text}: {task.name} has no parameter {name!r}; it has '
                            + ', '.join(f'{k}={v:g}' for k, v in task.parameters.items()))
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not equals or not number > 0 or math.isinf(number):
            raise UserError(f'--parameter {text}: {name} must be a positive number, e.g. '
                            f'{name}={task.parameters[name]:g}')
        out[name] = number
    return out


def solver(task: Task, seed: int, points: int, parameters: Mapping[str, float]) -> Callable:
    """A function from ids to {dataset: [len(ids), ...] float32}: the examples of these ids.

    Example i is keyed by (seed, i). It is computed in float64, whatever jax_enable_x64 is, and that stays as it is.
    """
    @jax.jit
    def solve(ids):
        keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(seed), i))(ids)
        found = jax.vmap(lambda key: task.example(key, points, parameters))(keys)
        return {name: value.astype(jnp.float32) for name, value in found.items()}

    def run(ids):
        with jax.enable_x64(True):
            return {name: np.asarray(value) for name, value in solve(np.asarray(ids, np.uint32)).items()}

    return run
