"""Numbers that others published for the tasks of NAS-Bench-360 and PDEBench, each with where it was read.

`confirmed` means read in the source named, in its own files. All else is unverified, and says so wherever it is shown:
a third-party listing, or what is remembered of a paper whose tables were not at hand.
All are lower-is-better, errors as shares (0.19 is 19 %), on the test split; most of the transfer methods' were chosen
on that split too (ORCA's public configs validate on test). A metric '' is the task's own
(fipjax.analysis.benchmark.OWN), 'orca' what ORCA's public code computes in its place, where that is something else.
"""
from __future__ import annotations

from typing import NamedTuple

NB360, PDE = 'nas_bench_360', 'pdebench'
NB360_TASKS = ('cifar100', 'spherical', 'darcy', 'psicov', 'cosmic', 'ninapro', 'fsd50k', 'ecg', 'satellite', 'deepsea')
PDE_TASKS = ('advection', 'burgers', 'diffusion_reaction_1d', 'diffusion_sorption', 'navier_stokes_1d', 'darcy',
             'shallow_water', 'diffusion_reaction_2d')
README = "picture of baselines in NAS-Bench-360's repository (rtu715/NAS-Bench-360 at 587bb09)"
LISTING = 'a third-party listing of results (wizwand.com), not the paper'
REMEMBERED = "remembered of the paper's table, not read"
SHARES = ('cifar100', 'spherical', 'ninapro', 'satellite')  # given in percent below


class Row(NamedTuple):
    """Published numbers of one method: task -> value; `metric` '' or 'orca', see this module."""

    method: str
    family: str
    source: str
    confirmed: bool
    metric: str
    values: dict[str, float]


def _row(method, family, source, confirmed, metric, *values, **named):
    tasks = NB360_TASKS if family == NB360 else PDE_TASKS
    found = {**{t: v for t, v in zip(tasks, values) if v is not None}, **named}
    percent = (*SHARES, 'cosmic') if source == README else SHARES  # the picture has Cosmic's FNR in percent too
    return Row(method, family, source, confirmed, metric,
               {t: v / 100 if family == NB360 and t in percent else v for t, v in found.items()})


ROWS = (
    _row('WRN, default', NB360, README, True, '', 23.35, 85.77, 0.073, 3.84, 51.76, 6.78, 0.92, 0.43, 15.49, 0.40),
    _row('WRN, ASHA', NB360, README, True, '', 23.39, 75.46, 0.066, 3.84, 37.53, 7.34, 0.91, 0.43, 15.84, 0.41),
    _row('DARTS-GAEA', NB360, README, True, '', 24.02, 48.23, 0.026, 2.94, 31.15, 17.67, 0.94, 0.34, 12.51, 0.36),
    _row('DenseNAS, random', NB360, README, True, '', 25.49, 71.23, 0.071, 3.70, 70.42, 8.45, 0.60, 0.42, 13.91, 0.40),
    _row('Perceiver IO', NB360, README, True, '', 70.04, 82.57, 0.240, 8.06, 100.0, 22.22, 0.72, 0.66, 15.93, 0.38),
    _row('XGBoost', NB360, README, True, '', 84.83, 96.92, 0.085, None, 46.26, 21.90, 0.98, 0.56, 36.36, 0.50),
    _row('AMBER', NB360, README, True, '', ecg=0.33, satellite=12.97, deepsea=0.32),
    _row('Auto-DL', NB360, README, True, '', darcy=0.049, psicov=6.73),
    _row('fine-tuning', NB360, REMEMBERED, False, 'orca', 9.74, 55.26, 7.34e-3, 1.92, 0.170, 8.35, 0.63, 0.44, 13.86,
         0.51),
    _row('ORCA', NB360, REMEMBERED, False, 'orca', 6.53, 29.85, 7.28e-3, 1.91, 0.152, 7.54, 0.56, 0.28, 11.59, 0.29),
    _row('PaRe', NB360, REMEMBERED, False, 'orca', 6.25, 25.55, 7.00e-3, 0.99, 0.121, 6.53, 0.55, 0.28, 11.18, 0.28),
    _row('MoNA', NB360, REMEMBERED, False, 'orca', 6.48, 27.13, 6.80e-3, 0.99, 0.121, 7.28, 0.55, 0.27, 11.13, 0.28),
    _row('MoNA', NB360, LISTING, False, 'orca', darcy=6.8e-3),
    _row('ORCA', NB360, LISTING, False, 'orca', darcy=7.5e-3),
    _row('RECRAFT', NB360, LISTING, False, 'orca', darcy=7.2e-3),
    _row('FNO', PDE, REMEMBERED, False, '', 1.1e-2, 3.1e-3, 1.4e-3, 1.7e-3, 6.8e-2, 2.2e-1, 4.4e-3, 1.2e-1),
    _row('ORCA', PDE, REMEMBERED, False, 'orca', 9.8e-3, 1.2e-2, 3.0e-3, 1.6e-3, 6.2e-2, 8.1e-2, 6.0e-3, 8.2e-1),
    _row('MoNA', PDE, REMEMBERED, False, 'orca', 8.8e-3, 1.14e-2, 2.8e-3, 1.6e-3, None, 7.9e-2, 5.7e-3, 8.2e-1),
    _row('ORCA', PDE, LISTING, False, 'orca', advection=9.8e-3, diffusion_reaction_1d=3.2e-3, diffusion_sorption=1.8e-3,
         darcy=8.1e-2, diffusion_reaction_2d=8.2e-1, navier_stokes_1d=6.6e-2),
    _row('MoNA', PDE, LISTING, False, 'orca', advection=8.8e-3, diffusion_reaction_1d=2.8e-3, diffusion_sorption=1.6e-3,
         darcy=7.9e-2),
    _row('RECRAFT', PDE, LISTING, False, 'orca', advection=7.8e-3, diffusion_reaction_1d=2.8e-3,
         diffusion_sorption=1.6e-3, darcy=7.9e-2, shallow_water=5.4e-3, diffusion_reaction_2d=8.17e-1))
