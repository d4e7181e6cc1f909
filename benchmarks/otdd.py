"""Milliseconds of one OTDD with its gradient: source samples of several classes against samples of one target class.

Command: python benchmarks/otdd.py [--source=2000] [--target=132] [--width=768] [--labels=7] [--rounds=7]

Rows: `exact` and `gaussian` label distances with the source side computed once; `rebuilt`, the same program with the
source side in it, as the published code computes it in each call. Timed in turn, `rounds` calls each, in one process.
ORCA's published logs have 632 ms for this size, on hardware that they do not name. `converged` is the value with 20
times the iterations.
"""
from __future__ import annotations

import argparse
import functools
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np

from fipjax import launch
from fipjax.algorithms import orca

PUBLISHED = 632.0  # ms


def points(source: int, target: int, width: int, labels: int):
    """Features like means of embedded tokens: a low-rank part, noise, a mean for each class, a shift of the target."""
    rng = np.random.default_rng(0)
    y = np.arange(source) % labels
    basis = rng.normal(size=(64, width)) / 8
    means = 0.3 * rng.normal(size=(labels, width))
    x = means[y] + 0.5 * rng.normal(size=(source, 64)) @ basis + 0.1 * rng.normal(size=(source, width))
    other = 0.4 * rng.normal(size=(target, 64)) @ basis + 0.1 * rng.normal(size=(target, width))
    return x.astype(np.float32), y, (other + 0.2 * rng.normal(size=width)).astype(np.float32)


def jax_call(settings, x, y, other, labels: int, rebuilt: bool):
    """A function without arguments that computes value and gradient and returns the value."""
    side, valid = orca.source_side(x, y, labels, settings), np.ones(len(other), bool)

    @jax.jit
    def run(side, target):
        if rebuilt:
            side = orca.own_terms(side, settings)
        return jax.value_and_grad(functools.partial(orca.class_otdd, side, valid=valid, settings=settings))(target)
    target = jnp.asarray(other)
    return lambda: float(jax.block_until_ready(run(side, target))[0])


def main() -> None:
    """Prints one row a variant."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (('source', 2000), ('target', 132), ('width', 768), ('labels', 7), ('rounds', 7)):
        arguments.add_argument(f'--{name}', type=int, default=default)
    given = arguments.parse_args()
    launch.prepare_jax()
    x, y, other = points(given.source, given.target, given.width, given.labels)
    exact = orca.Settings('exact')
    make = functools.partial(jax_call, x=x, y=y, other=other, labels=given.labels)
    calls = {'exact': make(exact, rebuilt=False), 'gaussian': make(orca.Settings('gaussian'), rebuilt=False),
             'rebuilt': make(exact, rebuilt=True)}
    values = {name: call() for name, call in calls.items()}  # compiles
    times = {name: [] for name in calls}
    for _ in range(given.rounds):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            times[name].append((time.perf_counter() - began) * 1e3)
    first = statistics.median(times['exact'])
    print(f'{jax.devices()[0].device_kind}: {given.source} x {given.target} points, {given.width} wide, '
          f'{given.labels} labels')
    print(f'{"variant":12} {"ms":>8} {"min..max":>17} {"ratio":>6} {"value":>10}')
    for name, each in times.items():
        middle = statistics.median(each)
        print(f'{name:12} {middle:8.1f} {f"{min(each):.1f}..{max(each):.1f}":>17} {middle / first:6.2f} '
              f'{values[name]:10.3f}')
    print(f'{"published":12} {PUBLISHED:8.1f} {"":17} {PUBLISHED / first:6.2f}')
    converged = make(exact._replace(iterations=20 * exact.iterations), rebuilt=False)()
    print(f'{"converged":12} {"":33} {converged:10.3f}')


if __name__ == '__main__':
    main()
