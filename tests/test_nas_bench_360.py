"""The ten tasks of NAS-Bench-360 from small files of their published layouts, and from damaged ones."""
import gzip
import json
import os
import pickle

import h5py
import numpy as np
import official_files
import pytest
import tensorflow_datasets as tfds

from fipjax import config as config_lib
from fipjax.data import labelled
from fipjax.data.builders import prepared
from fipjax.data.builders.nas_bench_360 import TASKS, fsd50k, places, psicov
from fipjax.errors import UserError


@pytest.fixture(autouse=True)
def small_proteins(monkeypatch):
    assert (psicov.SIZE, psicov.CHANNELS) == (512, 57)
    monkeypatch.setattr(psicov, 'SIZE', 24)


def read(folder, split):
    """{feature: array [n, ...]} of a prepared set, texts as str."""
    data = tfds.builder_from_directory(folder).as_data_source(split=split)
    rows = [data[i] for i in range(len(data))]
    out = {k: np.array([r[k] for r in rows]) for k in rows[0]}
    return {k: np.char.decode(v) if v.dtype.kind == 'S' else v for k, v in out.items()}


def prepare(name, tmp_path):
    return prepared.prepare(TASKS[name], tmp_path / 'files', tmp_path / 'data', progress=False)


@pytest.mark.parametrize('name', TASKS)
def test_what_is_written_is_what_was_published(tmp_path, name):
    (tmp_path / 'files').mkdir()
    expected = official_files.WRITERS[name](tmp_path / 'files')
    folder = prepare(name, tmp_path)
    assert list(expected) == ['train', 'validation', 'test']
    for split, fields in expected.items():
        found = read(folder, split)
        for field, values in fields.items():
            assert found[field].shape == values.shape, (split, field)
            if field == 'group':
                if name.endswith('fsd50k'):
                    assert sorted(set(found[field])) == sorted(set(values))
                else:
                    np.testing.assert_array_equal(found[field], values)
            else:
                np.testing.assert_allclose(found[field], values, rtol=1e-6, atol=1e-6, err_msg=f'{split} {field}')
    assert os.listdir(tmp_path / 'data') == ['nas_bench_360']
    assert not (tmp_path / 'files' / 'hostile').exists()


@pytest.mark.parametrize('version, compressed', [(5, True), (5, False), (7.3, False)])
def test_darcy_of_every_version_of_matlab(tmp_path, version, compressed):
    (tmp_path / 'files').mkdir()
    expected = official_files.darcy(tmp_path / 'files', version, compressed)
    found = read(prepare('nas_bench_360/darcy', tmp_path), 'test')
    np.testing.assert_array_equal(found['x'], expected['test']['x'])
    np.testing.assert_array_equal(found['y'], expected['test']['y'])


def test_deepsea_compressed(tmp_path):
    (tmp_path / 'files').mkdir()
    expected = official_files.deepsea(tmp_path / 'files', compressed=True)
    np.testing.assert_array_equal(read(prepare('nas_bench_360/deepsea', tmp_path), 'test')['x'], expected['test']['x'])


@pytest.mark.parametrize('name, shape, output, classes', [
    ('ninapro', (16, 52, 1), 'classes', 18), ('satellite', (46, 1), 'classes', 24), ('ecg', (1000, 1), 'classes', 4),
    ('deepsea', (1000, 4), 'multilabel', 36), ('cosmic', (128, 128, 1), 'dense', 0), ('darcy', (3, 3, 3), 'dense', 0)])
def test_target_data_tfds_reads_it(tmp_path, monkeypatch, name, shape, output, classes):
    monkeypatch.setattr(labelled, '_every_class', lambda *_: None)  # there are fewer examples than classes
    (tmp_path / 'files').mkdir()
    expected = official_files.WRITERS[f'nas_bench_360/{name}'](tmp_path / 'files')
    prepare(f'nas_bench_360/{name}', tmp_path)
    c = config_lib.transfer_base().target
    c.update({'data': 'tfds', 'name': f'nas_bench_360/{name}', 'data_dir': str(tmp_path / 'data'), 'output': output})
    splits = labelled.build(c)
    assert splits.task.shape == shape and splits.task.output == output and len(splits.task.classes) == classes
    for split, fields in expected.items():
        source = getattr(splits, split)
        assert len(source) == len(fields['y'])
        y = fields['y']
        if output == 'dense':
            y = (y - splits.task.scale['mean']) / splits.task.scale['deviation']
        np.testing.assert_allclose(source.y, y, rtol=1e-4, atol=1e-4)


def overwrite(path, raw):
    (path if path.is_file() else path / 'x').write_bytes(raw)


def truncated(path, share=0.5):
    raw = path.read_bytes()
    path.write_bytes(raw[:int(share * len(raw))])


def rewrite_pickle(path, change, opener=open):
    with opener(path, 'rb') as f:
        held = pickle.load(f)
    change(held)
    with opener(path, 'wb') as f:
        pickle.dump(held, f)


def rewrite_npz(path, **changes):
    with np.load(path) as f:
        arrays = dict(f)
    arrays = {k: v for k, v in {**arrays, **changes}.items() if v is not None}
    np.savez(path, **arrays)


def twice(path):
    lines = path.read_text().splitlines()
    path.write_text('\n'.join([*lines, lines[-1]]) + '\n')


def matlab_without_sol(folder):
    with h5py.File(folder / 'piececonst_r421_N1024_smooth2.mat', 'w') as f:
        f['coeff'] = np.zeros((11, 11, 1024))


def long_silence(path):
    from scipy.io import wavfile
    wavfile.write(path, 44100, np.zeros(44100, np.int16))


DAMAGES = [
    ('ninapro', lambda d: truncated(d / 'ninapro_val.npy'), 'ninapro_val.npy'),
    ('ninapro', lambda d: np.save(d / 'ninapro_test.npy', np.zeros((4, 16, 52))), r'\[4, 16, 52\]; expected \[n, 52'),
    ('ninapro', lambda d: np.save(d / 'label_train.npy', np.arange(6)), 'x has 7, y has 6'),
    ('ninapro', lambda d: np.save(d / 'label_train.npy', np.full(7, 18)), 'y is 18; expected a class, 0..17'),
    ('ninapro', lambda d: np.save(d / 'label_train.npy', np.array(list('abcdefg'))), 'type <U1'),
    ('ninapro', lambda d: (d / 'label_val.npy').write_bytes(official_files.hostile_npy()), 'label_val.npy'),
    ('ninapro', lambda d: np.save(d / 'ninapro_test.npy', np.full((4, 52, 16), np.nan)), 'NaN or infinity'),
    ('satellite', lambda d: truncated(d / 'satellite_train.npy'), 'satellite_train.npy'),
    ('satellite', lambda d: np.save(d / 'satellite_test.npy', {'data': np.zeros((3, 46)), 'y': np.ones(3)}),
     "'data' and 'label'; found"),
    ('satellite', lambda d: np.save(d / 'satellite_test.npy', {'data': np.zeros((3, 46)), 'label': np.zeros(3, int)}),
     'goes from 0 to 0; expected 1..24'),
    ('satellite', lambda d: (d / 'satellite_test.npy').write_bytes(official_files.hostile_npy()), 'refused.*mkdir'),
    ('deepsea', lambda d: truncated(d / 'deepsea_filtered.npz'), 'not an .npz file'),
    ('deepsea', lambda d: rewrite_npz(d / 'deepsea_filtered.npz', x_val=None), "no array 'x_val'; found"),
    ('deepsea', lambda d: rewrite_npz(d / 'deepsea_filtered.npz', x_val=np.zeros((2, 4, 1000))), 'expected .n, 1000'),
    ('deepsea', lambda d: rewrite_npz(d / 'deepsea_filtered.npz', y_test=np.full((5, 36), 2)), '2 is no label'),
    ('deepsea', lambda d: rewrite_npz(d / 'deepsea_filtered.npz', y_val=np.full((2, 36), 'a')), 'has type <U1'),
    ('spherical', lambda d: truncated(d / 's2_cifar100.gz'), 's2_cifar100.gz'),
    ('spherical', lambda d: rewrite_pickle(d / 's2_cifar100.gz', lambda h: h['test'].pop('labels'), gzip.open),
     "no array 'labels'"),
    ('spherical', lambda d: (d / 's2_cifar100.gz').write_bytes(gzip.compress(official_files.hostile())), 'refused'),
    ('cifar100', lambda d: truncated(d / 'cifar-100-python.tar.gz', 0.3), 'cifar-100-python.tar.gz'),
    ('cifar100', lambda d: official_files.write_tar(d, {'train': b''}), 'cifar-100-python.tar.gz'),
    ('cifar100', lambda d: official_files.write_tar(d, {'train': official_files.hostile()}), 'refused'),
    ('darcy', lambda d: truncated(d / 'piececonst_r421_N1024_smooth1.mat'), 'smooth1.mat'),
    ('darcy', matlab_without_sol, "sol: no such data set"),
    ('darcy', lambda d: (d / 'piececonst_r421_N1024_smooth1.mat').write_bytes(b'x' * 200), 'version 5 or 7.3'),
    ('ecg', lambda d: truncated(d / 'challenge2017.pkl'), 'not a pickle that can be read'),
    ('ecg', lambda d: rewrite_pickle(d / 'challenge2017.pkl', lambda h: h.pop('label')), "'data' and 'label'; found"),
    ('ecg', lambda d: rewrite_pickle(d / 'challenge2017.pkl', lambda h: h['label'].__setitem__(3, 'X')),
     "label 3 is 'X'"),
    ('ecg', lambda d: (d / 'challenge2017.pkl').write_bytes(official_files.hostile()), 'refused.*mkdir'),
    ('cosmic', lambda d: truncated(next((d / 'cosmic').rglob('3.npy'))), '3.npy'),
    ('cosmic', lambda d: np.save(next((d / 'cosmic').rglob('9.npy')), np.zeros((3, 100, 200))), 'both at least 192'),
    ('cosmic', lambda d: np.save(d / 'cosmic' / 'test_dirs.npy', np.array(['data/../../x.npy'])), 'leads elsewhere'),
    ('cosmic', lambda d: np.save(d / 'cosmic' / 'test_dirs.npy', np.array(['a/b.npy', 'a/b.npy'])), 'there twice'),
    ('cosmic', lambda d: next((d / 'cosmic').rglob('5.npy')).unlink(), '1 of 10 files are missing'),
    ('psicov', lambda d: twice(d / 'protein' / 'psicov.lst'), "protein '5abc' is there twice"),
    ('psicov', lambda d: rewrite_pickle(d / 'protein/deepcov/features/3abcC.pkl', lambda h: h.pop('sa')),
     "no array 'sa'"),
    ('psicov', lambda d: rewrite_pickle(d / 'protein/deepcov/features/3abcC.pkl', lambda h: h.update(sa=np.ones(3))),
     r"'sa' has shape \[3\]; expected \[8\]"),
    ('psicov', lambda d: truncated(d / 'protein/psicov/distance/5abc-cb.npy'), '5abc-cb.npy'),
    ('psicov', lambda d: (d / 'protein/psicov/features/4abc.pkl').write_bytes(official_files.hostile()),
     'refused.*mkdir'),
    ('fsd50k', lambda d: twice(d / 'chunks' / 'val.csv'), 'there twice'),
    ('fsd50k', lambda d: (d / 'chunks' / 'tr.csv').write_text('file,label\na,b\n'), 'columns files, labels and ext'),
    ('fsd50k', lambda d: (d / 'chunks' / 'lbl_map.json').write_text(json.dumps({'a': 0})), 'expected 200 labels'),
    ('fsd50k', lambda d: truncated(d / 'wavs' / 'eval' / '2.wav', 0.001), '2.wav'),
    ('fsd50k', lambda d: long_silence(d / 'wavs' / 'val' / '1.wav'), '44100 Hz'),
]


@pytest.mark.parametrize('name, damage, message', DAMAGES, ids=[f'{n}-{i}' for i, (n, *_) in enumerate(DAMAGES)])
def test_damaged_files_are_named_and_leave_nothing(tmp_path, monkeypatch, name, damage, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'files').mkdir()
    official_files.WRITERS[f'nas_bench_360/{name}'](tmp_path / 'files')
    damage(tmp_path / 'files')
    with pytest.raises(UserError, match=message):
        prepare(f'nas_bench_360/{name}', tmp_path)
    assert sorted(os.listdir(tmp_path)) == ['files']  # neither data nor what a hostile pickle makes


@pytest.mark.parametrize('name', TASKS)
def test_missing_files_are_listed(tmp_path, name):
    with pytest.raises(UserError) as e:
        prepare(name, tmp_path)
    for file in TASKS[name].files:
        assert file.name in str(e.value) and file.size in str(e.value) and file.where in str(e.value)


def test_the_spectrogram_by_its_definition():
    """Transforms as sums, frames and triangles one by one."""
    x = np.random.default_rng(0).normal(size=22050).astype(np.float32)
    found = fsd50k.spectrogram(x)
    assert found.shape == (96, 102, 1) and found.dtype == np.float32 and (found[:, 101] == 0).all()
    n, mirrored = 1920, np.concatenate((x[960:0:-1], x, x[-2:-962:-1])).astype(float)
    hann = np.sin(np.pi * np.arange(661) / 661) ** 2
    decibels = np.empty((96, 101))
    mel = np.linspace(0, 2595 * np.log10(1 + 11025 / 700), 98)
    corners = 700 * (10 ** (mel / 2595) - 1)
    bins = np.arange(961) * 11025 / 960
    waves = np.exp(-2j * np.pi * np.outer(np.arange(961), np.arange(661)) / n)
    triangle = [np.interp(bins, corners[k:k + 3], [0, 1, 0]) for k in range(96)]
    for t in range(101):
        piece = mirrored[220 * t + 629:220 * t + 629 + 661] * hann
        power = np.abs(waves @ piece) ** 2
        decibels[:, t] = [10 * np.log10(max(1e-10, f @ power)) for f in triangle]
    decibels = np.maximum(decibels, decibels.max() - 80)
    np.testing.assert_allclose(found[:, :101, 0], decibels - decibels.mean(), rtol=1e-3, atol=2e-3)


def test_short_and_long_sounds():
    short = fsd50k.spectrogram(np.ones(11025, np.float32))
    assert short.shape == (96, 102, 1) and (short[:, :25] == short.min()).all()
    assert fsd50k.spectrogram(np.random.default_rng(0).normal(size=30000).astype(np.float32)).shape == (96, 102, 1)


def test_one_chunk_of_a_clip_and_always_the_same(tmp_path):
    official_files.fsd50k(tmp_path)
    opened = [fsd50k.open_files(tmp_path) for _ in range(2)]
    n, rows = opened[0].splits['train']
    first, second = (list(o.splits['train'][1](0, n)) for o in opened)
    assert n == 2 and [r['group'] for r in first] == ['tr0', 'tr1']
    for a, b in zip(first, second):
        np.testing.assert_array_equal(a['x'], b['x'])


def test_places(tmp_path):
    (tmp_path / 'a').mkdir()
    for k in 'xy':
        (tmp_path / 'a' / k).write_text('')
    assert places.resolve(['/far/away/a/x', '/far/away/a/y'], tmp_path, 'list') == [tmp_path / 'a' / k for k in 'xy']
    for names, message in (([], 'empty'), (['b/z'], 'no file b/z'), (['a/x', 'a/z'], '1 of 2 files are missing')):
        with pytest.raises(UserError, match=message):
            places.resolve(names, tmp_path, 'list')


def test_proteins_that_do_not_fit_are_cut_the_same_way_every_time(tmp_path, monkeypatch):
    expected = official_files.psicov(tmp_path)['test']
    monkeypatch.setattr(psicov, 'SIZE', 8)
    corners = []
    for _ in range(2):
        n, rows = psicov.open_files(tmp_path).splits['test']
        last = list(rows(0, n))[-1]
        assert last['x'].shape == (8, 8, 57) and last['y'].shape == (8, 8, 1) and last['residues'] == 7
        found = [(a, b) for a in range(10) for b in range(10)
                 if np.allclose(expected['x'][1][a:a + 8, b:b + 8], last['x'])]
        assert len(found) == 1 and np.allclose(expected['y'][1][found[0][0]:, found[0][1]:][:8, :8], last['y'])
        corners += found
    assert corners[0] == corners[1]
