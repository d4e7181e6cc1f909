"""Files of labelled data: what is read out of them, what is refused."""
import pickle

import h5py
import numpy as np
import pytest
import tensorflow_datasets as tfds
from ml_collections import ConfigDict
from scipy.io import wavfile

from fipjax import config as config_lib
from fipjax.data import labelled, readers
from fipjax.errors import UserError

N = 24
X = np.random.default_rng(0).normal(size=(N, 2, 12))
Y = np.arange(N) % 2
WORDS = np.array(['train', 'validation', 'test'])[np.arange(N) // 2 % 3]


def settings(path='', **changes):
    return ConfigDict(config_lib.labelled(path=str(path), **changes))


def equal(found, expected):
    assert set(found) == set(expected) | {'classes', 'layout', 'where'}
    for k, v in expected.items():
        np.testing.assert_array_equal(found[k], v)


def test_npz(tmp_path):
    path = tmp_path / 'a.npz'
    np.savez(path, x=X, y=Y, split=WORDS, other=np.zeros(3))
    found = readers.read(settings(path))
    equal(found, dict(x=X, y=Y, split=WORDS))
    assert (found['classes'], found['layout'], found['where']) == ((), 'first', str(path))
    np.savez(path, a=X, b=Y, c=WORDS, d=Y + 5, e=Y + 2)
    keys = dict(x_key='a', y_key='b', split_key='c', group_key='d', length_key='e')
    equal(readers.read(settings(path, **keys)), dict(x=X, y=Y, split=WORDS, group=Y + 5, length=Y + 2))
    equal(readers.read(settings(path, **{**keys, 'split_key': '', 'group_key': ''})), dict(x=X, y=Y, length=Y + 2))


def test_pair_of_npy(tmp_path):
    np.save(tmp_path / 'x.npy', X)
    np.save(tmp_path / 'y.npy', Y)
    equal(readers.read(settings(tmp_path / 'x.npy', labels=str(tmp_path / 'y.npy'))), dict(x=X, y=Y))
    with pytest.raises(UserError, match='target.labels is empty'):
        readers.read(settings(tmp_path / 'x.npy'))
    with pytest.raises(UserError, match="no array 'subject'"):
        readers.read(settings(tmp_path / 'x.npy', labels=str(tmp_path / 'y.npy'), group_key='subject'))
    with pytest.raises(UserError, match='target.labels: .*y.pkl is a pickle'):
        readers.read(settings(tmp_path / 'x.npy', labels=str(tmp_path / 'y.pkl')))


@pytest.mark.parametrize('suffix', ['h5', 'hdf5'])
def test_hdf5(tmp_path, suffix):
    path = tmp_path / f'a.{suffix}'
    with h5py.File(path, 'w') as f:
        f['signals/emg'], f['signals/label'] = X, WORDS.astype(object)
        f['group'] = Y.astype(bool)
    found = readers.read(settings(path, x_key='signals/emg', y_key='signals/label'))
    equal(found, dict(x=X, y=WORDS, group=Y.astype(bool)))
    assert found['y'].dtype.kind == 'U'
    assert labelled.build(settings(path, x_key='signals/emg', y_key='signals/label')).task.shape == (12, 2)
    with pytest.raises(UserError, match=r"no array 'x' \(target.x_key\); found \['group', 'signals/emg'"):
        readers.read(settings(path))
    with pytest.raises(UserError, match="no array 'signals'"):  # a group is no array
        readers.read(settings(path, x_key='signals'))


def test_hdf5_with_sequences_of_their_own_lengths(tmp_path):
    with h5py.File(tmp_path / 'a.h5', 'w') as f:
        f['y'] = Y
        x = f.create_dataset('x', (N,), h5py.vlen_dtype(np.float32))
        x[0] = np.ones(3)
    with pytest.raises(UserError, match='pad them and give the lengths'):
        readers.read(settings(tmp_path / 'a.h5'))


class Hostile:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), 'w')


@pytest.mark.parametrize('name', ['a.pkl', 'a.pt', 'a.npz', 'a.npy', 'a.h5'])
def test_pickles_are_refused_and_not_executed(tmp_path, name):
    trap = tmp_path / 'executed'
    with open(tmp_path / name, 'wb') as f:
        pickle.dump({'x': Hostile(trap)}, f)
    with pytest.raises(UserError, match='pickle|cannot be read') as found:
        readers.read(settings(tmp_path / name, labels=str(tmp_path / name)))
    assert name in str(found.value) and not trap.exists()
    if name.endswith(('.pkl', '.pt')):
        assert "np.savez('a.npz', x=x, y=y)" in str(found.value)


def test_arrays_of_objects_are_refused(tmp_path):
    trap = tmp_path / 'executed'
    objects = np.array([Hostile(trap)] * N)
    np.savez(tmp_path / 'a.npz', x=objects, y=Y)
    np.save(tmp_path / 'x.npy', objects)
    for name in ('a.npz', 'x.npy'):
        with pytest.raises(UserError, match='holds Python objects .* np.savez'):
            readers.read(settings(tmp_path / name, labels='y.npy'))
    assert not trap.exists()


@pytest.mark.parametrize('changes, words', [
    (dict(path=''), 'target.path is empty'),
    (dict(path='/nowhere/a.npz'), "target.path: no such file '/nowhere/a.npz'"),
    (dict(data='folder'), "target.data is 'folder'; allowed: arrays, tfds, wheel"),
    (dict(data='wheel', name='imagenet'), "target.name is 'imagenet'; data sets in wheels: mnist_5k"),
    (dict(data='tfds'), 'target.name is empty')])
def test_refused_settings(changes, words):
    with pytest.raises(UserError, match=words):
        readers.read(settings(**changes))


def test_other_files_and_missing_fields_are_named(tmp_path):
    (tmp_path / 'a.csv').write_text('1,2')
    with pytest.raises(UserError, match="ends in '.csv'; allowed: .npz"):
        readers.read(settings(tmp_path / 'a.csv'))
    np.savez(tmp_path / 'a.npz', x=X)
    with pytest.raises(UserError, match=r"a.npz: no array 'y' \(target.y_key\); found \['x'\]"):
        readers.read(settings(tmp_path / 'a.npz'))
    np.savez(tmp_path / 'a.npz', x=X, y=Y)
    for key in ('subject', 'file'):
        with pytest.raises(UserError, match=rf"no array '{key}' \(source.group_key\)"):
            readers.read(settings(tmp_path / 'a.npz', group_key=key), key='source')
    for name in ('a.npz', 'b.npy', 'c.h5'):
        (tmp_path / name).write_bytes(b'')
        with pytest.raises(UserError, match=f'{name} cannot be read'):
            readers.read(settings(tmp_path / name, labels=str(tmp_path / name)))


def write_wav(path, samples, rate=8000):
    path.parent.mkdir(parents=True, exist_ok=True)
    wavfile.write(path, rate, samples)


def test_folder_of_wav_files(tmp_path):
    a, b = np.array([0, 16384, -32768], np.int16), np.array([1, 2, 3, 4], np.int16)
    write_wav(tmp_path / 'yes' / 'ann_0.wav', a)
    write_wav(tmp_path / 'no' / 'bob_0.WAV', b)
    write_wav(tmp_path / 'no' / 'ann_1.wav', (b / 8).astype(np.float32))
    (tmp_path / 'no' / 'notes.txt').write_text('x')
    (tmp_path / 'no' / '._ann_1.wav').write_text('x')
    found = readers.read(settings(tmp_path, group_key='file'))
    assert found['classes'] == ('no', 'yes') and found['layout'] == 'last'
    assert found['y'].tolist() == [0, 0, 1] and found['group'].tolist() == ['ann', 'bob', 'ann']
    assert found['length'].tolist() == [4, 4, 3] and found['x'].dtype == np.float32
    np.testing.assert_allclose(found['x'][..., 0], [b / 8, b / 32768, [0, 0.5, -1, 0]])
    assert 'group' not in readers.read(settings(tmp_path))
    with pytest.raises(UserError, match="target.group_key is 'speaker'"):
        readers.read(settings(tmp_path, group_key='speaker'))


@pytest.mark.parametrize('samples, expected', [
    (np.array([0, 128, 255], np.uint8), [-1, 0, 127 / 128]),
    (np.array([-2 ** 31, 0, 2 ** 30], np.int32), [-1, 0, 0.5])])
def test_amplitudes_of_wav_files(tmp_path, samples, expected):
    write_wav(tmp_path / 'a' / '0.wav', samples)
    np.testing.assert_allclose(readers.read(settings(tmp_path))['x'][0, :, 0], expected)


def test_wav_files_with_official_splits_are_a_task(tmp_path):
    rng = np.random.default_rng(0)
    for split, n in (('train', 5), ('test', 2)):
        for name in ('no', 'yes'):
            for i in range(n):
                write_wav(tmp_path / split / name / f'{i}.wav', rng.normal(size=(20 + i, 2)).astype(np.float32))
    splits = labelled.build(settings(tmp_path))
    assert splits.task.classes == ('no', 'yes') and splits.task.shape == (24, 2)
    assert [len(s) for s in splits[1:]] == [8, 2, 4]
    assert splits.test.take(np.arange(4))['length'].tolist() == [20, 21] * 2
    (tmp_path / 'train').rename(tmp_path / 'dev')
    with pytest.raises(UserError, match="split has the value 'dev'"):
        labelled.build(settings(tmp_path))


def test_wav_files_that_do_not_fit_together(tmp_path):
    with pytest.raises(UserError, match='found no wav file'):
        readers.read(settings(tmp_path))
    write_wav(tmp_path / 'a' / '0.wav', np.zeros(5, np.int16))
    write_wav(tmp_path / 'b' / '0.wav', np.zeros(5, np.int16), rate=16000)
    with pytest.raises(UserError, match='b/0.wav has 1 channels at 16000 Hz, .*a/0.wav has 1 at 8000 Hz'):
        readers.read(settings(tmp_path))
    write_wav(tmp_path / 'b' / '0.wav', np.zeros((5, 2), np.int16))
    with pytest.raises(UserError, match='b/0.wav has 2 channels'):
        readers.read(settings(tmp_path))
    write_wav(tmp_path / 'b' / '0.wav', np.zeros(0, np.int16))
    with pytest.raises(UserError, match='b/0.wav'):
        readers.read(settings(tmp_path))
    whole = (tmp_path / 'a' / '0.wav').read_bytes()
    for broken in (b'RIFFxxxx', whole[:7], whole[:20], whole[:36], b''):
        (tmp_path / 'b' / '0.wav').write_bytes(broken)
        with pytest.raises(UserError, match='b/0.wav: not a wav file'):
            readers.read(settings(tmp_path))
    write_wav(tmp_path / 'b' / 'c' / '0.wav', np.zeros(5, np.int16))
    with pytest.raises(UserError, match=r'wav files at the depths \[2, 3\]'):
        readers.read(settings(tmp_path))


LENGTHS = {'train': 6, 'test': 4}


class Walks(tfds.core.GeneratorBasedBuilder):
    """Sequences of different lengths and pictures of different sizes, with class names and subjects."""

    VERSION = tfds.core.Version('1.0.0')

    def _info(self):
        features = tfds.features.FeaturesDict({
            'walk': tfds.features.Tensor(shape=(None, 2), dtype=np.float32),
            'picture': tfds.features.Tensor(shape=(None, 3, 2), dtype=np.int32),
            'gait': tfds.features.ClassLabel(names=['slow', 'fast']), 'subject': tfds.features.Text()})
        return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

    def _split_generators(self, dl_manager):
        return {name: self._generate_examples(n) for name, n in LENGTHS.items()}

    def _generate_examples(self, n):
        for i in range(n):
            yield i, {'walk': np.full((5 + i, 2), i, np.float32), 'picture': np.zeros((3 + i, 3, 2), np.int32),
                      'gait': i % 2, 'subject': f'p{i}'}


@pytest.fixture(scope='module')
def walks(tmp_path_factory):
    builder = Walks(data_dir=tmp_path_factory.mktemp('tfds'), file_format='array_record')
    builder.download_and_prepare()
    return str(builder.data_dir)


def of_tfds(data_dir, **changes):
    keys = dict(data='tfds', data_dir=data_dir, x_key='walk', y_key='gait', splits=('train', '', 'test'))
    return settings(**{**keys, **changes})


def test_tfds(walks):
    found = readers.read(of_tfds(walks, group_key='subject'))
    assert found['classes'] == ('slow', 'fast') and found['layout'] == 'last' and 'walks/1.0.0' in found['where']
    assert found['split'].tolist() == ['train'] * 6 + ['test'] * 4
    assert found['group'].tolist() == [f'p{i}' for i in (*range(6), *range(4))]
    assert found['length'].tolist() == [5, 6, 7, 8, 9, 10, 5, 6, 7, 8] and found['x'].shape == (10, 10, 2)
    for row, i in enumerate((*range(6), *range(4))):
        assert (found['x'][row, :5 + i] == i).all() and (found['x'][row, 5 + i:] == 0).all()
    assert 'split' not in readers.read(of_tfds(walks, splits=('train', '', '')))
    task = labelled.build(of_tfds(walks)).task
    assert task.shape == (10, 2) and task.classes == ('slow', 'fast')


@pytest.mark.parametrize('changes, words', [
    (dict(data_dir='/nowhere'), 'target.name: no prepared TFDS dataset'),
    (dict(splits=('train', 'dev', 'test')), "split 'dev'"),
    (dict(splits=('train', 'test')), 'target.splits is'),
    (dict(splits=('', 'train', 'test')), 'target.splits is'),
    (dict(x_key='run'), r"no array 'run' \(target.x_key\)"),
    (dict(x_key='picture'), "'picture' has examples of shapes"),
])
def test_refused_tfds(walks, changes, words):
    with pytest.raises(UserError, match=words):
        readers.read(of_tfds(**{'data_dir': walks, **changes}))
