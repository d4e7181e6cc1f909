"""fipjax/data/pde/write.py and layout.py: PDEBench's layouts, examples that do not depend on others, going on."""
import dataclasses
import json
import os
import re

import h5py
import jax
import numpy as np
import pytest
import yaml

from fipjax.data.pde import tasks, write
from fipjax.errors import UserError

# Of one example at 16 points a side. From PDEBench's code and its reader (models/fno/utils.py), and for what neither
# says (101 frames of the sorption) from the size of its file.
SINGLE = {
    'advection': ({'tensor': (201, 16)}, {'x-coordinate': 16, 't-coordinate': 202}, {'beta': 0.4}),
    'burgers': ({'tensor': (201, 16)}, {'x-coordinate': 16, 't-coordinate': 202}, {'Nu': 1.0}),
    'diffusion_reaction_1d': ({'tensor': (101, 16)}, {'x-coordinate': 16, 't-coordinate': 102},
                              {'Nu': 0.5, 'rho': 1.0}),
    'navier_stokes_1d': ({'density': (101, 16), 'pressure': (101, 16), 'Vx': (101, 16)},
                         {'x-coordinate': 16, 't-coordinate': 102}, {'eta': 0.1, 'zeta': 0.1}),
    'darcy': ({'tensor': (1, 16, 16), 'nu': (16, 16)}, {'x-coordinate': 16, 'y-coordinate': 16}, {'beta': 0.1}),
}
GROUPS = {
    'diffusion_sorption': ((101, 16, 1), {'x': 16, 't': 101}, 'lzf'),
    'shallow_water': ((101, 16, 16, 1), {'x': 16, 'y': 16, 't': 101}, None),
    'diffusion_reaction_2d': ((101, 16, 16, 2), {'x': 16, 'y': 16, 't': 101}, 'lzf'),
}
FILES = {
    'advection': '1D_Advection_Sols_beta0.4.hdf5', 'burgers': '1D_Burgers_Sols_Nu1.0.hdf5',
    'diffusion_reaction_1d': 'ReacDiff_Nu0.5_Rho1.0.hdf5', 'diffusion_sorption': '1D_diff-sorp_NA_NA.h5',
    'navier_stokes_1d': '1D_CFD_Rand_Eta0.1_Zeta0.1_periodic_Train.hdf5', 'darcy': '2D_DarcyFlow_beta0.1_Train.hdf5',
    'shallow_water': '2D_rdb_NA_NA.h5', 'diffusion_reaction_2d': '2D_diff-react_NA_NA.h5',
}


def small(name, size=2):
    """The task with fewer examples at once."""
    return dataclasses.replace(tasks.TASKS[name], batch=size)


def make(task, n, out, **options):
    return write.write(task, n, out, resolution=16, progress=False, **options)


def test_every_task_has_a_layout_and_a_name():
    assert set(SINGLE) | set(GROUPS) == set(tasks.TASKS) == set(FILES)
    for name, task in tasks.TASKS.items():
        assert task.file_name(task.parameters) == FILES[name]
    assert tasks.TASKS['burgers'].file_name({'nu': 0.001}) == '1D_Burgers_Sols_Nu0.001.hdf5'


@pytest.mark.parametrize('name', SINGLE)
def test_single_arrays(name, tmp_path):
    arrays, coordinates, attributes = SINGLE[name]
    with h5py.File(make(small(name), 3, tmp_path / 'a.hdf5')) as f:
        assert set(f) == set(arrays) | set(coordinates)
        for key, shape in arrays.items():
            assert f[key].shape == (3, *shape) and f[key].dtype == np.float32 and f[key].compression is None
            assert np.isfinite(f[key][:]).all() and f[key][:].std(0).max() > 0  # examples differ
            assert tasks.TASKS[name].shape(16)[key] == shape
        for key, size in coordinates.items():
            assert f[key].shape == (size,) and f[key].dtype == np.float32
        assert {k: v for k, v in f.attrs.items() if k != 'fipjax'} == attributes
        assert json.loads(f.attrs['fipjax'])['n'] == 3
        lower = -1 if name == 'navier_stokes_1d' else 0
        assert f['x-coordinate'][0] == pytest.approx(lower + (1 - lower) / 32)


@pytest.mark.parametrize('name', GROUPS)
def test_groups(name, tmp_path):
    shape, grid, compression = GROUPS[name]
    with h5py.File(make(small(name), 3, tmp_path / 'a.h5')) as f:
        assert list(f) == ['0000', '0001', '0002']
        for key in f:
            data = f[key]['data']
            assert set(f[key]) == {'data', 'grid'} and set(f[key]['grid']) == set(grid)
            assert data.shape == shape and data.dtype == np.float32 and data.compression == compression
            assert np.isfinite(data[:]).all() and tasks.TASKS[name].shape(16) == {'data': shape}
            for axis, size in grid.items():
                assert f[key]['grid'][axis].shape == (size,) and f[key]['grid'][axis].dtype == np.float32
            sim = yaml.safe_load(f[key].attrs['config'])['sim']
            assert sim['xdim'] == 16 and sim['seed'] == int(key)
            assert {k: v for k, v in sim.items() if k in tasks.TASKS[name].parameters} == tasks.TASKS[name].parameters
        end = {'diffusion_sorption': 500, 'shallow_water': 1, 'diffusion_reaction_2d': 5}[name]
        assert f['0000']['grid']['t'][-1] == pytest.approx(end)


def test_axes_are_example_time_space(tmp_path):
    with h5py.File(make(small('advection'), 1, tmp_path / 'a.hdf5')) as f:
        u = f['tensor'][0]
    np.testing.assert_allclose(u[125], np.roll(u[0], 8), atol=2e-6)  # half around after t = 1.25


def rows(path):
    with h5py.File(path) as f:
        return f['tensor'][:]


def test_an_example_depends_on_neither_n_nor_the_batch(tmp_path):
    task = small('burgers')
    many = rows(make(task, 5, tmp_path / 'many'))
    np.testing.assert_array_equal(rows(make(task, 2, tmp_path / 'few')), many[:2])
    np.testing.assert_array_equal(rows(make(task, 3, tmp_path / 'odd')), many[:3])
    np.testing.assert_allclose(rows(make(small('burgers', 3), 5, tmp_path / 'other')), many, rtol=1e-6, atol=1e-6)
    assert np.abs(rows(make(task, 2, tmp_path / 'seed', seed=1)) - many[:2]).max(axis=(1, 2)).min() > 0.1


def test_float64_is_left_as_it_was(tmp_path):
    before = jax.config.jax_enable_x64
    make(small('advection'), 1, tmp_path / 'a')
    assert jax.config.jax_enable_x64 == before and jax.numpy.ones(2).dtype == np.float32


class Killed(Exception):
    """Stands for the end of the process."""


def stop_after(monkeypatch, count):
    """Lets `count` parts be put in their places and no more; returns the names of those computed."""
    names = []
    replace = os.replace

    def counted(source, target):
        if str(target).endswith('.npz'):
            if len(names) == count:
                raise Killed
            names.append(os.path.basename(target))
        replace(source, target)

    monkeypatch.setattr(os, 'replace', counted)
    return names


@pytest.mark.parametrize('name', ['advection', 'diffusion_sorption'])
def test_going_on_gives_the_same_file(name, tmp_path, monkeypatch):
    task = small(name)
    whole = make(task, 5, tmp_path / 'whole').read_bytes()
    out = tmp_path / 'stopped'
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(Killed):
            make(task, 5, out)
    assert not out.exists() and (tmp_path / 'stopped.parts' / '000001.npz').exists()
    (tmp_path / 'stopped.parts' / 'whole.hdf5').write_bytes(b'half of a file')  # stopped while putting it together
    with monkeypatch.context() as patch:
        names = stop_after(patch, 9)
        make(task, 5, out)
    assert names == ['000002.npz']  # what was there is not computed again
    assert out.read_bytes() == whole
    assert sorted(p.name for p in tmp_path.iterdir()) == ['stopped', 'whole']


def test_parts_of_other_settings_are_not_mixed(tmp_path, monkeypatch):
    task, out = small('advection'), tmp_path / 'a'
    with monkeypatch.context() as patch:
        stop_after(patch, 1)
        with pytest.raises(Killed):
            make(task, 4, out)
    with pytest.raises(UserError, match=r'a\.parts: begun with seed=0 instead of seed=1'):
        make(task, 4, out, seed=1)
    with pytest.raises(UserError, match="begun with parameters={'beta': 0.4} instead of"):
        make(task, 4, out, parameters={'beta': 1.0})
    with pytest.raises(UserError, match='begun with batch=2 instead of batch=3'):
        make(small('advection', 3), 4, out)
    (tmp_path / 'a.parts' / write.SETTINGS).write_text('{"seed"')
    with pytest.raises(UserError, match='not of this command'):
        make(task, 4, out)
    assert not out.exists()


def test_a_damaged_part_is_computed_again(tmp_path, monkeypatch):
    task, out = small('advection'), tmp_path / 'a'
    whole = make(task, 4, tmp_path / 'whole').read_bytes()
    with monkeypatch.context() as patch:
        stop_after(patch, 1)
        with pytest.raises(Killed):
            make(task, 4, out)
    part = tmp_path / 'a.parts' / '000000.npz'
    part.write_bytes(part.read_bytes()[:-1000])
    with pytest.raises(UserError, match=r'000000\.npz: damaged; removed'):
        make(task, 4, out)
    assert make(task, 4, out).read_bytes() == whole


def test_wrong_input_writes_nothing(tmp_path, monkeypatch):
    task = small('advection')
    sorption = tasks.TASKS['diffusion_sorption']
    (tmp_path / 'there').write_text('precious')
    for words, arguments in (
            ('--n=0: 1 or more', (task, 0, tmp_path / 'a')),
            ('--n=10001: at most 10000', (sorption, 10001, tmp_path / 'a')),
            ('there: exists and is not overwritten', (task, 1, tmp_path / 'there')),
            ('needs the name of a file, e.g. 1D_Advection_Sols_beta0.4.hdf5', (task, 1, tmp_path)),
            ('no folder .*nowhere', (task, 1, tmp_path / 'nowhere' / 'a'))):
        with pytest.raises(UserError, match=words):
            make(*arguments)
    with pytest.raises(UserError, match='--seed=-1: 0 to 4294967295'):
        make(task, 1, tmp_path / 'a', seed=-1)
    monkeypatch.setattr(os, 'access', lambda *_: False)
    with pytest.raises(UserError, match='cannot be written to'):
        make(task, 1, tmp_path / 'a')
    assert [p.name for p in tmp_path.iterdir()] == ['there'] and (tmp_path / 'there').read_text() == 'precious'


def test_room_is_asked_for_before_anything_is_computed(tmp_path, monkeypatch):
    monkeypatch.setattr(write.shutil, 'disk_usage', lambda _: type('Usage', (), {'free': 1000}))
    monkeypatch.setattr(tasks, 'solver', None)
    with pytest.raises(UserError, match='GB are needed for a while'):
        make(small('advection'), 10, tmp_path / 'a')
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_an_error_that_keeps_what_is_done(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(np, 'savez', full)
    with pytest.raises(UserError, match='No space left on device. The same command goes on'):
        make(small('advection'), 2, tmp_path / 'a')
    assert not (tmp_path / 'a').exists()


def test_a_field_that_is_not_finite_is_not_written(tmp_path):
    def broken(key, points, parameters):
        u = jax.random.uniform(key, (201, points))
        return {'tensor': jax.numpy.where(u[0, 0] > 0.6, jax.numpy.nan, u)}

    task = dataclasses.replace(small('advection'), example=broken)
    with pytest.raises(UserError, match=re.compile(r'tensor of example \d is not finite with seed=0, resolution=16')):
        make(task, 8, tmp_path / 'a')
    assert not (tmp_path / 'a').exists()
