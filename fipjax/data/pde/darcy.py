"""Darcy flow (PDEBench, appendix D):  -(a u_x)_x - (a u_y)_y = beta  on (0, 1)^2,  u = 0 at the walls.

The coefficient a is 1 where a sum of five bumps exp(-|x - m|^2 / s), m uniform in the square and s in (0, 0.5),
exceeds THRESHOLD, else 0.1. PDEBench's code compares with the mean of the bumps over all examples made in one run;
THRESHOLD is the expectation of that mean, so that an example does not depend on the others.
Scheme: finite volumes of order 2 where a is smooth, the coefficient of a face the mean of its two cells (as in
PDEBench's code), u = 0 on the wall (there: half a cell outside); conjugate gradients with the constant-coefficient
operator, inverted by sine transforms, as preconditioner: the condition number is 10 at most, at any resolution.
The solution is the steady state. PDEBench marches u_t = (a u_x)_x + (a u_y)_y + beta from random u0 of size
up to 10 and stores the field at t = 1.75, in which what is left of u0 does not depend on beta.
"""
from __future__ import annotations

import jax
import jax.numpy as jnp
import jax.scipy.fft  # noqa: F401  not part of `import jax`
from jax.scipy.sparse.linalg import cg

from fipjax.data.pde.fields import centres
from fipjax.data.pde.task import SINGLE, Task

LOW, HIGH = 0.1, 1.0
BUMPS, WIDEST = 5, 0.5
THRESHOLD = 1.8521453
TOLERANCE = 1e-10  # of the residual, relative


def bumps(key: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
    """The sum of bumps at the points x, y (of one shape)."""
    middle = jax.random.uniform(key, (3, BUMPS))
    distance = (x[..., None] - middle[0]) ** 2 + (y[..., None] - middle[1]) ** 2
    return jnp.exp(-distance / (WIDEST * middle[2])).sum(-1)


def operator(u: jax.Array, a: jax.Array) -> jax.Array:
    """-(a u_x)_x - (a u_y)_y of cell values u [n, n] with coefficients a [n, n]."""
    def along(u, a):
        dx = 1 / u.shape[0]
        inner = 0.5 * (a[1:] + a[:-1]) * (u[1:] - u[:-1])
        flux = jnp.concatenate([2 * a[:1] * u[:1], inner, -2 * a[-1:] * u[-1:]])
        return -(flux[1:] - flux[:-1]) / dx ** 2

    return along(u, a) + along(u.T, a.T).T


def sine(u: jax.Array, inverse: bool = False) -> jax.Array:
    """Orthonormal sine transform along both axes: its basis vanishes half a cell outside the outer centres."""
    n = u.shape[0]
    sign = (-1.0) ** jnp.arange(n)
    if inverse:  # of an orthonormal transform: transposed
        return jax.scipy.fft.idctn(u[::-1, ::-1], norm='ortho') * sign * sign[:, None]
    return jax.scipy.fft.dctn(u * sign * sign[:, None], norm='ortho')[::-1, ::-1]


def solve(a: jax.Array, source: jax.Array) -> jax.Array:
    """u [n, n] for coefficients a [n, n] > 0 and the source, a number or [n, n]."""
    n = a.shape[0]
    eigenvalue = (2 * n * jnp.sin(0.5 * jnp.pi * jnp.arange(1, n + 1) / n)) ** 2
    both = eigenvalue + eigenvalue[:, None]
    u, _ = cg(lambda u: operator(u, a), jnp.broadcast_to(source, a.shape), tol=TOLERANCE, maxiter=500,
              M=lambda r: sine(sine(r) / both, inverse=True))
    return u


def example(key, points, parameters):
    """{dataset: array} of one example, see `task.Task`."""
    x = jnp.asarray(centres(0, 1, points))
    a = jnp.where(bumps(key, *jnp.meshgrid(x, x, indexing='ij')) > THRESHOLD, HIGH, LOW)
    return {'tensor': solve(a, jnp.asarray(parameters['beta']))[None], 'nu': a}


TASK = Task(
    name='darcy', equation='-div(a grad u) = beta, u = 0 at the walls, a random in {0.1, 1}', parameters={'beta': 0.1},
    example=example,
    coordinates=lambda points, _: {'x-coordinate': centres(0, 1, points), 'y-coordinate': centres(0, 1, points)},
    layout=SINGLE, file='2D_DarcyFlow_beta{beta}_Train.hdf5', attributes={'beta': 'beta'},
    resolution=64, official=128, examples=10000, batch=16, seconds=2, official_seconds=10,
    shape=lambda points: {'tensor': (1, points, points), 'nu': (points, points)})
