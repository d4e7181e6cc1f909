"""The right sides of PDEBench's equations in NumPy and SciPy, each written apart from fipjax.data.pde: what
benchmarks/pde.py and tests/test_pde_*.py compare with. Fields are float64 and for one example.
"""
from __future__ import annotations

import numpy as np
import scipy.sparse as sparse
from scipy.integrate import solve_ivp
from scipy.sparse.linalg import spsolve


def march(rate, state: np.ndarray, times, method: str = 'RK45', rtol: float = 1e-9, **options) -> np.ndarray:
    """[len(times), *state.shape]: SciPy's solve_ivp from time 0 on dstate/dt = rate(state)."""
    found = solve_ivp(lambda _, y: np.asarray(rate(y.reshape(state.shape))).ravel(), (0, times[-1]), state.ravel(),
                      method, t_eval=times, rtol=rtol, atol=rtol * 1e-2, **options)
    if not found.success:
        raise RuntimeError(found.message)
    return found.y.T.reshape(len(times), *state.shape)


def derivative(length: float, points: int):
    """A function from [points] to its Fourier derivative."""
    k = 2j * np.pi / length * np.arange(points // 2 + 1)
    return lambda u: np.fft.irfft(k * np.fft.rfft(u), points)


def burgers(points: int, nu: float):
    """u_t of Burgers' equation by Fourier differentiation, products cut to two thirds of the wave numbers."""
    wave = np.arange(points // 2 + 1)
    k = 2j * np.pi * np.where(wave < points / 3, wave, 0)
    second = -(2 * np.pi * wave) ** 2
    return lambda u: np.fft.irfft(-k * np.fft.rfft(u * u / 2) + nu / np.pi * second * np.fft.rfft(u), points)


def diffusion_reaction_1d(points: int, nu: float, rho: float):
    """u_t of logistic growth with diffusion, by Fourier differentiation."""
    second = -(2 * np.pi * np.arange(points // 2 + 1)) ** 2
    return lambda u: np.fft.irfft(nu * second * np.fft.rfft(u), points) + rho * u * (1 - u)


def diffusion_sorption(points: int, D: float, porosity: float, rho_s: float, k_f: float, n_f: float):
    """u_t of diffusion with Freundlich sorption: finite volumes, ghost cells such that the walls have their values."""
    dx = 1 / points

    def rate(u):
        wall = u[-1] * 2 * D / dx / (1 + 2 * D / dx)
        wide = np.concatenate([[2 - u[0]], u, [2 * wall - u[-1]]])
        retardation = 1 + (1 - porosity) / porosity * rho_s * k_f * n_f * (u + 1e-6) ** (n_f - 1)
        return D * np.diff(wide, 2) / dx ** 2 / retardation

    return rate


def tridiagonal(points: int):
    """Pattern of the Jacobian of `diffusion_sorption`, for implicit methods."""
    return sparse.diags_array([np.ones(points - 1), np.ones(points), np.ones(points - 1)], offsets=[-1, 0, 1])


def diffusion_reaction_2d(points: int, Du: float, Dv: float, k: float):
    """d(u, v)/dt [2, n, n] of the FitzHugh-Nagumo equations, five-point Laplacian as a sparse matrix, mirror walls."""
    dx = 2 / points
    diagonal = np.full(points, -2.0)
    diagonal[[0, -1]] = -1
    line = sparse.diags_array([np.ones(points - 1), diagonal, np.ones(points - 1)], offsets=[-1, 0, 1]) / dx ** 2
    one = sparse.eye_array(points)
    laplace = (sparse.kron(line, one) + sparse.kron(one, line)).tocsr()

    def rate(w):
        u, v = w.reshape(2, -1)
        return np.concatenate([Du * (laplace @ u) + u - u ** 3 - k - v, Dv * (laplace @ v) + u - v])

    return rate


def darcy(a: np.ndarray, source) -> np.ndarray:
    """u [n, n] of Darcy flow by a sparse direct solve; the matrix is put together from the faces."""
    n = len(a)
    cell = np.arange(n * n).reshape(n, n)
    here, there, weight = [], [], []
    for first, second in ((cell[1:], cell[:-1]), (cell[:, 1:], cell[:, :-1])):
        p, q = first.ravel(), second.ravel()
        w = 0.5 * (a.ravel()[p] + a.ravel()[q]) * n ** 2
        here += [p, q, p, q]
        there += [p, q, q, p]
        weight += [w, w, -w, -w]
    for wall in (cell[0], cell[-1], cell[:, 0], cell[:, -1]):
        here.append(wall)
        there.append(wall)
        weight.append(2 * a.ravel()[wall] * n ** 2)
    matrix = sparse.csc_array((np.concatenate(weight), (np.concatenate(here), np.concatenate(there))))
    return spsolve(matrix, np.broadcast_to(source, a.shape).ravel()).reshape(n, n)


def compressible(points: int, mu: float, length: float = 2.0, gamma: float = 5 / 3):
    """d(density, momentum, energy)/dt [3, points] by Fourier differentiation: for smooth fields only."""
    d = derivative(length, points)

    def rate(q):
        density, momentum, energy = q
        v = momentum / density
        p = (gamma - 1) * (energy - 0.5 * momentum * v)
        tau = mu * density * d(v)
        return np.stack([-d(momentum), -d(momentum * v + p - tau), -d((energy + p) * v - v * tau)])

    return rate
