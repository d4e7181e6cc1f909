"""PDEBench's eight tasks as ORCA and MoNA pose them: from the field at t=0 to the field at one later time.

Source of data and layouts: Takamoto et al., PDEBench, NeurIPS 2022 (arXiv 2210.07182); of the wiring (which frame,
which stride, which tenth is the test split): ORCA (arXiv 2302.05738), its public loaders. The splits of ORCA are
training and test; validation here is as many examples as the test split has, drawn from training
(reading.VALIDATION_SEED). No roll-out: PDEBench's own baselines predict all frames from the first ten, these do not.

Files of lower resolution, such as fipjax.data.pde writes, are read too; the stride thins finer ones only.
"""
from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from fipjax.data.builders import reading
from fipjax.data.builders.prepared import File, Opened, Task
from fipjax.errors import UserError

TEST = 0.1
WHERE = ('https://darus.uni-stuttgart.de/api/access/datafile/{}, see pdebench/data_download of '
         'github.com/pdebench/PDEBench; or python -m fipjax.data.pde')


class Wiring(NamedTuple):
    """One task.

    Attributes:
      about: what is predicted from what.
      file, md5, number: the published file, and where it is on DaRUS.
      time: of the target; the frame nearest to it is taken. None: there is no time (Darcy).
      fields: names of the data sets, each a channel; of x and y apart where they differ.
      dimensions: of space.
      points: along each axis of space at most; finer files are thinned to that.
      seeds: whether each trajectory is a group of its own, '0000/data' [t, x.., channels].
      channels: slices of x and y among the channels, of such files.
    """

    about: str
    file: str
    md5: str
    number: int
    time: float | None
    fields: tuple[str, ...] = ('tensor',)
    dimensions: int = 1
    points: int = 1024
    seeds: bool = False
    channels: tuple[slice, slice] = (slice(None), slice(None))


WIRINGS = {
    'advection': Wiring('u(t=0) -> u(t=2) of advection with beta = 0.4, 256 points', '1D_Advection_Sols_beta0.4.hdf5',
                        'd595bbfd2c659df995a93cd40d6ea568', 255674, 2.0, points=256),
    'burgers': Wiring('u(t=0) -> u(t=2) of Burgers with nu = 1, 1024 points', '1D_Burgers_Sols_Nu1.0.hdf5',
                      '9021eba35332d127306f11ef84c1a60f', 281365, 2.0),
    'diffusion_reaction_1d': Wiring('u(t=0) -> u(t=0.29) of diffusion-reaction with nu = 0.5, rho = 1, 1024 points',
                                    'ReacDiff_Nu0.5_Rho1.0.hdf5', '69a429239778d529cd419ed5888ea835', 133177, 0.29),
    'diffusion_sorption': Wiring('u(t=0) -> u(t=500) of diffusion-sorption, 1024 points', '1D_diff-sorp_NA_NA.h5',
                                 '9d466d1213065619d087319e16d9a938', 133020, 500.0, seeds=True),
    'navier_stokes_1d': Wiring('density, pressure and velocity at t=0 -> at t=1 of compressible Navier-Stokes with eta '
                               '= zeta = 0.1, periodic, 1024 points', '1D_CFD_Rand_Eta0.1_Zeta0.1_periodic_Train.hdf5',
                               '45655bd77d006ab539c52b7fbcf099b9', 164668, 1.0, fields=('density', 'pressure', 'Vx')),
    'darcy': Wiring('viscosity field -> steady pressure of Darcy flow with beta = 0.1, 64 x 64 of 128 x 128',
                    '2D_DarcyFlow_beta0.1_Train.hdf5', '294f9a03a4aa16b0e386469ca8b471be', 133218, None,
                    fields=('nu', 'tensor'), dimensions=2, points=64),
    'shallow_water': Wiring('water height at t=0 -> at t=1 of a radial dam break, 128 x 128', '2D_rdb_NA_NA.h5',
                            '75d838c47aa410694bdc912ea7f22282', 133021, 1.0, dimensions=2, points=128, seeds=True),
    'diffusion_reaction_2d': Wiring('activator u(t=0) -> inhibitor v(t=5) of diffusion-reaction (FitzHugh-Nagumo), 128 '
                                    'x 128', '2D_diff-react_NA_NA.h5', 'b8d0b86064193195ddc30c33be5dc949', 133017, 5.0,
                                    dimensions=2, points=128, seeds=True, channels=(slice(0, 1), slice(1, 2)))}


def _frame(times, frames, wiring, where):
    """The number of the frame at the time wanted; t-coordinate has an entry more than there are frames."""
    times = np.asarray(times, np.float64)[:frames]
    frame = int(np.abs(times - wiring.time).argmin())
    if len(times) < frames or abs(times[frame] - wiring.time) > 0.01 * wiring.time or frame == 0:
        raise UserError(f'{where}: {frames} frames, times {times[0]:g} to {times[-1]:g}; one at t={wiring.time:g} is '
                        'needed')
    return frame


def _thin(x, wiring):
    """Every so many points along the axes of space [..., x(, y), channels], to at most `points` each."""
    step = max(1, x.shape[-2] // wiring.points)
    return np.ascontiguousarray(x[(..., *(slice(None, None, step),) * wiring.dimensions, slice(None))], np.float32)


def _single(wiring, manual_dir):
    """Files with all trajectories in one data set [n, t, x]; Darcy 'nu' [n, x, y] and 'tensor' [n, 1, x, y]."""
    path = manual_dir / wiring.file
    f, space = reading.hdf5(path), (None,) * wiring.dimensions
    if wiring.time is None:
        x, y = reading.dataset(f, 'nu', (None, *space), 'f'), reading.dataset(f, 'tensor', (None, 1, *space), 'f')
        reading.check(f'{path}: /tensor', y.shape, y.dtype, (len(x), 1, *x.shape[1:]), 'f')
        parts = (((x, None),), ((y, 0),))
    else:
        fields = [reading.dataset(f, name, (None, None, *space), 'f') for name in wiring.fields]
        for field in fields:
            reading.check(f'{path}: {field.name}', field.shape, field.dtype, fields[0].shape, 'f')
        frame = _frame(reading.dataset(f, 't-coordinate', (None,), 'f')[...], fields[0].shape[1], wiring, path)
        x, parts = fields[0], tuple(tuple((field, t) for field in fields) for t in (0, frame))

    def read(ids):
        def one(field, t):
            return reading.span(ids, field.__getitem__ if t is None else lambda i: field[i, t])

        x, y = (_thin(np.stack([one(field, t) for field, t in part], -1), wiring) for part in parts)
        yield from ({'x': a, 'y': b} for a, b in zip(x, y))

    n = len(x)
    test = int(TEST * n)  # the first tenth
    return n, np.arange(test), np.arange(test, n), read


def _by_seed(wiring, manual_dir):
    """Files with a group for each trajectory, '0000/data' [t, x.., channels] and '0000/grid/t' [t]."""
    path = manual_dir / wiring.file
    f = reading.hdf5(path)
    names, least = sorted(f), max(s.stop or 1 for s in wiring.channels)
    if not names or not hasattr(f[names[0]], 'keys'):
        raise UserError(f'{path}: no groups 0000, 0001, ...; found {names[:10]}')
    wanted = (None, *(None,) * wiring.dimensions, 2 if least == 2 else 1)
    shape = reading.dataset(f[names[0]], 'data', wanted, 'f').shape
    frame = _frame(reading.dataset(f[names[0]], 'grid/t', (None,), 'f')[...], shape[0], wiring, path)

    def read(ids):
        for i in ids:
            data = reading.dataset(f[names[i]], 'data', shape, 'f')
            x, y = (_thin(data[t], wiring)[..., c] for t, c in zip((0, frame), wiring.channels))
            yield {'x': np.ascontiguousarray(x), 'y': np.ascontiguousarray(y)}

    n = len(names)
    test = int((1 - TEST) * n)  # from here on
    return n, np.arange(test, n), np.arange(test), read


def _open(name, manual_dir):
    wiring = WIRINGS[name]
    n, test, rest, read = (_by_seed if wiring.seeds else _single)(wiring, manual_dir)
    if n < 10:
        raise UserError(f'{manual_dir / wiring.file} has {n} trajectories; at least 10 are needed, a tenth for each of '
                        'validation and test')
    train, validation = reading.validation(len(rest), len(test))
    first = next(read(test[:1]))
    features = {k: (first[k].shape, np.float32) for k in ('x', 'y')}
    splits = {'train': rest[train], 'validation': rest[validation], 'test': test}
    with reading.hdf5(manual_dir / wiring.file) as f:
        made = f.attrs.get('fipjax')
    notes = f'{wiring.file} was made by fipjax.data.pde: {made}' if isinstance(made, str) else ''
    return Opened(features, {split: reading.gather(ids, read) for split, ids in splits.items()}, notes=notes)


TASKS = {f'pdebench/{name}': Task(
    f'pdebench/{name}',
    f'{w.about}. Test: the {"last" if w.seeds else "first"} tenth, as ORCA has it; validation: as many, drawn from the '
    'rest with a fixed seed. PDEBench, arXiv 2210.07182.',
    (File(w.file, 'its size is not known to us', WHERE.format(w.number), w.md5),),
    functools.partial(_open, name)) for name, w in WIRINGS.items()}
