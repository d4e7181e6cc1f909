"""PDEBench's eight tasks from small files of their published layouts, and from damaged ones."""
import os

import h5py
import numpy as np
import official_files
import pytest
import tensorflow_datasets as tfds

from fipjax import config as config_lib
from fipjax.data import labelled
from fipjax.data.builders import pdebench, prepared, reading
from fipjax.errors import UserError

CFD = ('density', 'pressure', 'Vx')


def field(data, frame, step=1, channels=slice(None)):
    """[n, t, x.., channels] -> [n, x.., channels] of one frame."""
    return data[(slice(None), frame, *(slice(None, None, step),) * (data.ndim - 3), channels)]


def write(name, path):
    """Writes a task's file; returns all x and y in the order of the file, as ORCA's loaders define them."""
    if name == 'darcy':
        nu, u = official_files.darcy_2d(path)
        return nu[:, ::2, ::2, None], u[:, 0, ::2, ::2, None]
    if name == 'diffusion_sorption':
        data = official_files.seeded_file(path)
        return field(data, 0), field(data, 100)
    if name == 'shallow_water':
        data = official_files.seeded_file(path, 10, (101, 48, 48, 1), 1.0)
        return field(data, 0), field(data, 100)
    if name == 'diffusion_reaction_2d':
        data = official_files.seeded_file(path, 10, (101, 32, 32, 2), 5.0)
        return field(data, 0, channels=slice(0, 1)), field(data, 100, channels=slice(1, 2))
    if name == 'navier_stokes_1d':
        data = official_files.single_file(path, frames=101, end=1.0, names=CFD)
        return field(data, 0), field(data, 100)
    if name == 'diffusion_reaction_1d':
        data = official_files.single_file(path, frames=101, end=1.0)
        return field(data, 0), field(data, 29)
    data = official_files.single_file(path)
    step = 4 if name == 'advection' else 1
    return field(data, 0, step), field(data, 200, step)


def prepare(name, tmp_path):
    return prepared.prepare(pdebench.TASKS[f'pdebench/{name}'], tmp_path, tmp_path / 'data', progress=False)


def settings(name, tmp_path):
    c = config_lib.transfer_base().target
    c.update({'data': 'tfds', 'name': f'pdebench/{name}', 'data_dir': str(tmp_path / 'data'), 'output': 'dense'})
    return c


SHAPES = {'advection': (256, 1), 'burgers': (1024, 1), 'diffusion_reaction_1d': (1024, 1),
          'diffusion_sorption': (1024, 1), 'navier_stokes_1d': (1024, 3), 'darcy': (64, 64, 1),
          'shallow_water': (48, 48, 1), 'diffusion_reaction_2d': (32, 32, 1)}


@pytest.mark.parametrize('name', pdebench.WIRINGS)
def test_what_is_written_is_what_was_published(tmp_path, name):
    x, y = write(name, tmp_path / pdebench.WIRINGS[name].file)
    folder, n = prepare(name, tmp_path), len(x)
    seeds = pdebench.WIRINGS[name].seeds
    test = slice(n * 9 // 10, None) if seeds else slice(n // 10)
    rest = slice(n * 9 // 10) if seeds else slice(n // 10, None)
    train, validation = reading.validation(n * 9 // 10, n // 10)
    builder = tfds.builder_from_directory(folder)
    for split, xs, ys in (('test', x[test], y[test]), ('train', x[rest][train], y[rest][train]),
                          ('validation', x[rest][validation], y[rest][validation])):
        rows = builder.as_data_source(split=split)
        assert len(rows) == len(xs) > 0
        for i, row in enumerate(rows):
            assert row['x'].shape == SHAPES[name] and row['y'].dtype == np.float32
            np.testing.assert_array_equal(row['x'], xs[i])
            np.testing.assert_array_equal(row['y'], ys[i])
    assert prepared.remarks(folder) == [f'{pdebench.WIRINGS[name].file} is not the published file (its MD5 differs): '
                                        'made by other means, or damaged']


@pytest.mark.parametrize('name', ['advection', 'navier_stokes_1d', 'diffusion_reaction_2d'])
def test_target_data_tfds_reads_it(tmp_path, name):
    x, y = write(name, tmp_path / pdebench.WIRINGS[name].file)
    prepare(name, tmp_path)
    splits = labelled.build(settings(name, tmp_path))
    assert splits.task.shape == SHAPES[name] and splits.task.target_shape == SHAPES[name]
    assert splits.task.kind == ('1d' if len(SHAPES[name]) == 2 else '2d')
    assert [len(s) for s in splits[1:]] == [len(x) * 8 // 10, len(x) // 10, len(x) // 10]
    test = y[-(len(y) // 10):] if name.endswith('2d') else y[:len(y) // 10]
    scale = splits.task.scale
    np.testing.assert_allclose(splits.test.y * scale['deviation'] + scale['mean'], test, rtol=1e-5, atol=1e-5)


def test_coarser_files_are_not_thinned(tmp_path):
    data = official_files.single_file(tmp_path / pdebench.WIRINGS['advection'].file, points=64, frames=11)
    rows = tfds.builder_from_directory(prepare('advection', tmp_path)).as_data_source(split='test')
    np.testing.assert_array_equal(rows[1]['y'], data[1, 10])


def test_a_file_that_was_made_by_us_is_told(tmp_path):
    path = tmp_path / pdebench.WIRINGS['burgers'].file
    official_files.single_file(path, points=16)
    with h5py.File(path, 'a') as f:
        f.attrs['fipjax'] = '{"n": 20}'
    assert prepared.remarks(prepare('burgers', tmp_path))[0] == f'{path.name} was made by fipjax.data.pde: {{"n": 20}}'


def truncated(path):
    raw = path.read_bytes()
    path.write_bytes(raw[:len(raw) // 2])


def change(path, **datasets):
    """Replaces data sets, with / as __; None deletes them."""
    with h5py.File(path, 'a') as f:
        for name, value in datasets.items():
            name = {'time': 't-coordinate'}.get(name, name.replace('__', '/'))
            del f[name]
            if value is not None:
                f[name] = value


def bad_checksum(path):
    """A file whose second half does not have its checksums."""
    with h5py.File(path, 'a') as f:
        data = f['tensor'][...]
        del f['tensor']
        f.create_dataset('tensor', data=data, chunks=(1, 201, 1024), fletcher32=True)
        place = f['tensor'].id.get_chunk_info(15).byte_offset
    with path.open('r+b') as f:
        f.seek(place)
        f.write(b'damaged')


DAMAGES = [
    ('advection', truncated, 'not an HDF5 file that can be read'),
    ('burgers', lambda p: p.write_bytes(b'no'), 'not an HDF5 file'),
    ('burgers', bad_checksum, 'train from example'),
    ('advection', lambda p: change(p, tensor=None), 'tensor: no such data set; found .*x-coordinate'),
    ('burgers', lambda p: change(p, tensor=np.zeros((20, 201), np.float32)), r'expected \[n, n, n\]'),
    ('diffusion_reaction_1d', lambda p: change(p, tensor=np.zeros((20, 101, 8), int)), 'type int64; expected floating'),
    ('diffusion_reaction_1d', lambda p: change(p, time=np.linspace(0, 0.1, 102)), 'one at t=0.29 is needed'),
    ('diffusion_reaction_1d', lambda p: change(p, tensor=np.zeros((9, 101, 8), np.float32)), 'at least 10 are needed'),
    ('navier_stokes_1d', lambda p: change(p, Vx=np.zeros((20, 101, 8), np.float32)), 'Vx has shape'),
    ('navier_stokes_1d', lambda p: change(p, pressure=np.full((20, 101, 1024), np.nan, np.float32)), 'NaN or infinity'),
    ('diffusion_sorption', lambda p: change(p, **{'0003__data': None}), '0003/data: no such data set'),
    ('diffusion_sorption', lambda p: change(p, **{'0003__data': np.zeros((50, 1024, 1), np.float32)}),
     r'shape \[50, 1024, 1\]; expected \[101, 1024, 1\]'),
    ('darcy', lambda p: change(p, tensor=np.zeros((20, 1, 64, 64), np.float32)), 'tensor has shape'),
    ('shallow_water', lambda p: change(p, **{'0000__grid__t': None}), 'grid/t: no such data set'),
    ('diffusion_reaction_2d', lambda p: change(p, **{'0000__data': np.zeros((101, 32, 32, 1), np.float32)}),
     r'expected \[n, n, n, 2\]'),
]


@pytest.mark.parametrize('name, damage, message', DAMAGES, ids=[f'{n}-{i}' for i, (n, *_) in enumerate(DAMAGES)])
def test_damaged_files_are_named_and_leave_nothing(tmp_path, name, damage, message):
    path = tmp_path / pdebench.WIRINGS[name].file
    write(name, path)
    damage(path)
    with pytest.raises(UserError, match=message):
        prepare(name, tmp_path)
    assert os.listdir(tmp_path) == [path.name]


def test_missing_files_are_listed(tmp_path):
    with pytest.raises(UserError, match='1D_Burgers_Sols_Nu1.0.hdf5.*\n.*\n.*\n.*MD5 9021eba35332d127306f11ef84c1a60f'):
        prepare('burgers', tmp_path)
