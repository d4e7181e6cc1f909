"""Accuracy and time of the solvers of fipjax.data.pde, against SciPy on the same equations and grids.

Command:  python benchmarks/pde.py [--line 128] [--square 32] [--tasks a,b]

For each task the whole trajectory of PDEBench's times. `error` is the distance of the last frame from the exact
solution of the same equations on the same grid, relative to its size, the mean over the peer's examples. For the
advection that is the formula itself; for Darcy flow SciPy's sparse direct solve; for the others solve_ivp at 1e-10
(BDF for the sorption, else DOP853; 1e-8 for the two limited schemes, whose rates have kinks). So it is what the time
steps cost; the spatial orders are tested in tests/test_pde_*.py. `s` is seconds an example: ours a whole batch over its
size, compiled before; the peer one example after the other, RK45 or, for the stiff ones, BDF if that was faster, at
tolerance 1e-6 with right sides in NumPy (pde_peers), or for the two limited schemes ours, compiled. Darcy's peer is
the direct solve.
"""
from __future__ import annotations

import argparse
import os
import platform
import time

import jax
import jax.numpy as jnp
import numpy as np
import pde_peers as peers
import scipy

from fipjax.data.pde import navier_stokes_1d, shallow_water, tasks

EXAMPLES = 2  # of the peer
STIFF = ('burgers', 'diffusion_reaction_1d', 'diffusion_sorption')
PARAMETERS = {'burgers': {'nu': 0.05}}  # others than the task's: with nu = 1 the last frame is a constant


def clock(function, *given):
    start = time.perf_counter()
    out = function(*given)
    return out, time.perf_counter() - start


def parameters_of(name):
    return {**tasks.TASKS[name].parameters, **PARAMETERS.get(name, {})}


def solver(task, points):
    """A function from ids to {dataset: [ids, ...]}, as tasks.solver but in float64."""
    def one(i):
        return task.example(jax.random.fold_in(jax.random.key(0), i), points, parameters_of(task.name))

    run = jax.jit(jax.vmap(one))
    return lambda ids: jax.device_get(run(ids))


def problem(name, points, found):
    """(rate, first state, our last state, end, method of the reference, its tolerance and options) of one example."""
    parameters = parameters_of(name)
    if name == 'burgers':
        u = found['tensor']
        return peers.burgers(points, **parameters), u[0], u[-1], 2.0, 'DOP853', 1e-10, {}
    if name == 'diffusion_reaction_1d':
        u = found['tensor']
        return peers.diffusion_reaction_1d(points, **parameters), u[0], u[-1], 1.0, 'DOP853', 1e-10, {}
    if name == 'diffusion_sorption':
        u = found['data'][..., 0]
        return (peers.diffusion_sorption(points, **parameters), u[0], u[-1], 500.0, 'BDF', 1e-10,
                {'jac_sparsity': peers.tridiagonal(points)})
    if name == 'diffusion_reaction_2d':
        u = np.moveaxis(found['data'], -1, 1)
        rate = peers.diffusion_reaction_2d(points, **parameters)
        return rate, u[0].reshape(2, -1), u[-1].reshape(2, -1), 5.0, 'DOP853', 1e-10, {}
    if name == 'navier_stokes_1d':
        w = np.stack([found['density'], found['Vx'], found['pressure']], 1)
        mu = 4 / 3 * parameters['eta'] + parameters['zeta']
        rate = jax.jit(lambda q: navier_stokes_1d.rate(q, mu, 2 / points))
        q = [np.asarray(navier_stokes_1d.conserved(w[i])) for i in (0, -1)]
        return rate, *q, 1.0, 'DOP853', 1e-8, {}
    h = found['data'][..., 0]
    rate = jax.jit(lambda q: shallow_water.rate(q, parameters['gravity'], 5 / points))
    return rate, np.stack([h[0], 0 * h[0], 0 * h[0]]), h[-1:], 1.0, 'DOP853', 1e-8, {}


def far(a, b):
    return np.linalg.norm(a - b) / np.linalg.norm(b)


def compare(name: str, points: int) -> str:
    """One line of the table."""
    task = tasks.TASKS[name]
    run = solver(task, points)
    ids = jnp.arange(task.batch)
    run(ids + task.batch)  # compiles
    found, ours = clock(run, ids)
    mine, theirs, seconds, method = [], [], [], 'RK45'
    for i in range(EXAMPLES):
        one = {key: value[i] for key, value in found.items()}
        if name == 'advection':
            mine.append(0.0)
            beta, d = task.parameters['beta'], peers.derivative(1.0, points)
            peer, spent = clock(peers.march, lambda u: -beta * d(u), one['tensor'][0], [2.0], 'RK45', 1e-6)  # noqa: B023
            theirs.append(far(peer[-1], one['tensor'][-1]))
        elif name == 'darcy':
            method = 'direct'
            exact, spent = clock(peers.darcy, one['nu'], task.parameters['beta'])
            mine.append(far(one['tensor'][0], exact))
            theirs.append(0.0)
        else:
            rate, first, last, end, exactly, tolerance, options = problem(name, points, one)
            np.asarray(rate(first))  # compiles, where it is ours
            exact = peers.march(rate, first, [end], exactly, tolerance, **options)[-1]
            tried = {}
            for by in ('RK45', 'BDF') if name in STIFF else ('RK45',):
                more = options if by == 'BDF' else {}
                peer, spent = clock(lambda: peers.march(rate, first, [end], by, 1e-6, **more))  # noqa: B023
                tried[by] = spent, far(peer[-1], exact)
            method = min(tried, key=tried.get)
            spent, error = tried[method]
            mine.append(far(last, exact[:len(last)]))
            theirs.append(error)
        seconds.append(spent)
    return (f'{name:22s} {points:6d} {np.mean(mine):10.1e} {ours / task.batch:10.4f} {np.mean(theirs):10.1e} '
            f'{np.mean(seconds):10.4f} {np.mean(seconds) / (ours / task.batch):8.1f} {method}')


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--line', type=int, default=128, help='points in one dimension')
    parser.add_argument('--square', type=int, default=32, help='points a side in two dimensions')
    parser.add_argument('--tasks', default=','.join(tasks.TASKS))
    given = parser.parse_args()
    jax.config.update('jax_enable_x64', True)
    print(f'{platform.machine()}, {os.cpu_count()} cores, {jax.default_backend()}, jax {jax.__version__}, '
          f'scipy {scipy.__version__}')
    print(f'{"task":22s} {"points":>6s} {"error":>10s} {"s":>10s} {"peer error":>10s} {"peer s":>10s} {"ratio":>8s} '
          'peer')
    for name in given.tasks.split(','):
        task = tasks.find(name)
        square = name in ('darcy', 'shallow_water', 'diffusion_reaction_2d')
        points = tasks.resolution_of(task, given.square if square else given.line, task.parameters)
        print(compare(name, points), flush=True)


if __name__ == '__main__':
    main()
