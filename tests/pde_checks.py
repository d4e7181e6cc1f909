"""What the tests of PDE solvers share: errors, orders of convergence, and the peers of benchmarks/pde_peers.py."""
import pathlib
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / 'benchmarks'))
import pde_peers as peers  # noqa: E402, F401


def orders(errors):
    """Of convergence, where each error is from steps half as large as the one before."""
    return np.log2(np.array(errors[:-1]) / np.array(errors[1:]))


def far(a, b):
    """Distance of a from b, relative to b."""
    return np.linalg.norm(np.asarray(a) - np.asarray(b)) / np.linalg.norm(b)
