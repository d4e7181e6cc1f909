"""Entropic optimal transport between two weighted sets, on ott-jax, from a warm start."""
from __future__ import annotations

import jax
import jax.numpy as jnp

# Of the warm start: epsilon falls from START times its value by DECAY in each of STAGES, with SCALINGS in each.
START, DECAY, STAGES, SCALINGS = 4.0**7, 0.25, 8, 20
RELAXATION = 1.5  # of updates that alternate (Thibault et al., arXiv 1711.01851)


def squared_distances(x, y):
    """|x_i - y_j|^2 by one matrix product. x [n, d], y [m, d] -> [n, m]."""
    product = jnp.matmul(x, y.T, precision=jax.lax.Precision.HIGHEST)
    return (x * x).sum(1)[:, None] + (y * y).sum(1)[None, :] - 2 * product


def transport(cost, a, b, settings, *, symmetric: bool = False):
    """Equation (2) of fipjax.algorithms.orca, differentiable in the cost.

    By the envelope theorem the gradient is the coupling.

    Args:
      cost: [n, m].
      a, b: weights [n] and [m], each of sum 1; zeros are allowed.
      settings: has `entropic`, epsilon, and `iterations`, in the log domain after the warm start.
      symmetric: cost = cost^T and a = b, which averaged updates solve in few iterations (Feydy et al., equation 25).
    """
    # Imported here: ott takes seconds, and most who import this module never solve a transport problem.
    from ott.geometry import geometry
    from ott.problems.linear import linear_problem
    from ott.solvers.linear import acceleration, sinkhorn

    epsilon = settings.entropic
    fixed, a, b = jax.lax.stop_gradient((cost, a, b))
    f, g = _warm_start(fixed, a, b, epsilon, symmetric)
    # As many iterations at least as at most: the loop is a scan, which may be vmapped without computing its error.
    solver = sinkhorn.Sinkhorn(inner_iterations=settings.iterations, min_iterations=settings.iterations,
                               max_iterations=settings.iterations, parallel_dual_updates=symmetric,
                               momentum=acceleration.Momentum(start=0, value=0.5 if symmetric else RELAXATION))
    problem = linear_problem.LinearProblem(geometry.Geometry(fixed, epsilon=epsilon), a=a, b=b)
    # ott's potentials hold the weights, P = exp((f + g - c) / epsilon), those of `_warm_start` do not.
    solution = jax.lax.stop_gradient(solver(problem, (f + epsilon * jnp.log(a), g + epsilon * jnp.log(b))))
    plan = jnp.exp((solution.f[:, None] + solution.g[None, :] - fixed) / epsilon)
    return solution.reg_ot_cost + (jax.lax.stop_gradient(plan) * (cost - fixed)).sum()


def _warm_start(cost, a, b, epsilon, symmetric):
    """Potentials f [n], g [m] near the solution: P = a b^T exp((f + g - c) / epsilon), for a falling epsilon.

    In each stage the kernel is built once around the potentials so far and then scaled by matrix-vector products
    (Schmitzer, SIAM J. Sci. Comput. 2019, arXiv 1610.06519), which cost a tenth of updates in the log domain.
    """
    def rescale(scaling, marginal):
        """One relaxed update; `marginal` is that of the scaled kernel, as a share of what it should be."""
        # Bounded, so that a stage that begins far off leaves numbers, which the next one's first update mends.
        return jnp.clip(scaling * jnp.clip(marginal, 1e-9, 1e9)**-RELAXATION, 1e-18, 1e18)

    def stage(potentials, now):
        f, g = potentials
        f = -now * jax.scipy.special.logsumexp((g[None, :] - cost) / now, b=b[None, :], axis=1)
        kernel = jnp.exp((f[:, None] + g[None, :] - cost) / now)

        def scale(_, scalings):
            u, v = scalings
            v = rescale(v, v * jnp.matmul(a * u, kernel, precision=jax.lax.Precision.HIGHEST))
            return rescale(u, u * jnp.matmul(kernel, b * v, precision=jax.lax.Precision.HIGHEST)), v

        u, v = jax.lax.fori_loop(0, SCALINGS, scale, (jnp.ones_like(f), jnp.ones_like(g)))
        f, g = f + now * jnp.log(u), g + now * jnp.log(v)
        return ((f + g) / 2, (f + g) / 2) if symmetric else (f, g), None

    schedule = epsilon * START * DECAY**jnp.arange(STAGES, dtype=cost.dtype)
    return jax.lax.scan(stage, (jnp.zeros_like(a), jnp.zeros_like(b)), schedule)[0]
