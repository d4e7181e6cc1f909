"""Metrics are dictionaries name -> (sum, count): they add over devices, batches and hosts; averages never do."""
from __future__ import annotations

from collections.abc import Mapping

import numpy as np

Metrics = Mapping[str, tuple]


def add(a: Metrics | None, b: Metrics) -> dict:
    """Sum of two metrics dictionaries of the same names, on the host in float64; `a` may be None."""
    b = {k: (np.float64(s), np.float64(n)) for k, (s, n) in b.items()}
    return b if a is None else {k: (a[k][0] + s, a[k][1] + n) for k, (s, n) in b.items()}


def ratio(metrics: Metrics) -> dict[str, float]:
    """sum / count by name; names with count 0 (nothing seen, e.g. a missing modality) are left out."""
    return {k: float(s) / float(n) for k, (s, n) in metrics.items() if float(n) != 0}
