"""Readers of RadioML and SigMF, on small files of the same layout, whole and damaged."""
import types

import h5py
import numpy as np
import pytest
from radio_files import frames, write_2016, write_2018, write_sigmf

from fipjax import config as config_lib
from fipjax.data import recorded, sources
from fipjax.errors import UserError
from fipjax.modality import Modality

IQ = {'iq': Modality('iq', 'sequence', (128, 2), 16)}
SIZES = {'pretrain': 20, 'train': 12, 'validation': 6, 'test': 6}


def settings(path, classes=(), snr_db=(-30.0, 30.0), sizes=None, cache=False, seed=0):
    return types.SimpleNamespace(path=str(path), seed=seed, cache=cache, signal=types.SimpleNamespace(
        classes=classes, snr_db=snr_db), **{f'{k}_examples': v for k, v in (sizes or SIZES).items()})


class Data(dict):
    """config.data, as far as it is read."""

    __getattr__ = dict.__getitem__


def data(path, **changes):
    return Data(vars(settings(path, **changes)))


def unit(x):
    return x / np.sqrt(np.mean(np.abs(x) ** 2, -1, keepdims=True))


def test_radioml_2016(tmp_path):
    path, content = write_2016(tmp_path / 'RML2016.10a_dict.pkl')
    found = recorded.open_frames(str(path))
    assert found.classes == ('8PSK', 'AM-DSB', 'QPSK') and len(found.label) == 72 and found.samples == 128
    for row in (0, 30, 71):
        key = found.classes[found.label[row]], int(found.snr_db[row])
        same = (found.label == found.label[row]) & (found.snr_db == found.snr_db[row])
        x = content[key][row - np.flatnonzero(same)[0]]
        np.testing.assert_array_equal(found.read(np.array([row]))[0], x[0] + 1j * x[1])


def test_radioml_2018_stays_in_its_file(tmp_path, monkeypatch):
    path, content = write_2018(tmp_path / 'GOLD_XYZ_OSC.0001_1024.hdf5')
    read, real = [], h5py.Dataset.__getitem__
    monkeypatch.setattr(h5py.Dataset, '__getitem__',
                        lambda self, key: (read.append((self.name, key)), real(self, key))[1])
    found = recorded.open_frames(str(path))
    assert not [key for name, key in read if name == '/X']
    assert found.classes[3] == 'BPSK' and found.label[12:16].tolist() == [3] * 4
    assert found.snr_db[:2].tolist() == [-20, 30]
    x = found.read(np.array([50, 3]))
    assert sorted(key for name, key in read if name == '/X') == [3, 50]  # these two and no other
    np.testing.assert_array_equal(x, content['X'][[50, 3], :, 0] + 1j * content['X'][[50, 3], :, 1])


@pytest.mark.parametrize('datatype, dtype, scale, offset', [
    ('cf32_le', '<f4', 1, 0), ('cf32_be', '>f4', 1, 0), ('ci16_le', '<i2', 2 ** 15, 0), ('ci16_be', '>i2', 2 ** 15, 0),
    ('ci8', 'i1', 128, 0), ('cu8', 'u1', 128, 128)])
def test_sigmf(tmp_path, datatype, dtype, scale, offset):
    x = np.random.default_rng(0).integers(-100, 100, (2000, 2)) + (100 if dtype == 'u1' else 0)
    folder, _ = write_sigmf(tmp_path / 'r', datatype, samples=x.astype(dtype))
    found = recorded.open_frames(str(folder), 128)
    assert found.classes == ('LTE', 'WiFi') and found.label.tolist() == [0, 0, 1, 1, 1, 1, 1]
    assert found.snr_db[:2].tolist() == [5, 5] and np.isnan(found.snr_db[2:]).all()
    assert found.group.tolist() == [0, 0, 1, 1, 1, 1, 1]
    part = (x[400 + 128:400 + 256].astype(float) - offset) / scale
    np.testing.assert_allclose(found.read(np.array([3]))[0], part[:, 0] + 1j * part[:, 1], rtol=1e-6)


def test_splits_are_disjoint_and_balanced_and_the_same_for_a_seed(tmp_path):
    path, _ = write_2016(tmp_path / 'x.pkl')
    found = recorded.build(data(path), IQ, False)
    ids = [s.take(np.arange(len(s)))['id'] for s in found[:4]]
    assert [len(i) for i in ids] == list(SIZES.values()) and len(set(np.concatenate(ids))) == 44
    for s, n in zip(found[:4], SIZES.values()):
        out = s.take(np.arange(n))
        counts = np.unique(np.stack([out['label'], out['meta']['snr_db']]), axis=1, return_counts=True)[1]
        assert len(counts) == 6 and np.ptp(counts) <= 1
    again, other = (recorded.build(data(path, seed=seed), IQ, False).test.rows.tolist() for seed in (0, 1))
    assert again == found.test.rows.tolist() != other


def test_views_are_those_of_frames_of_unit_power(tmp_path):
    path, _ = write_2016(tmp_path / 'x.pkl')
    modalities = {**IQ, 'image': Modality('image', 'image', (32, 32, 3), 8),
                  'spectrogram': Modality('spectrogram', 'image', (32, 32, 1), 8)}
    for cache in (False, True):
        source = recorded.build(data(path, cache=cache), modalities, False).train
        out = source.take(np.arange(4))
        x = unit(recorded.open_frames(str(path)).read(out['id']))
        np.testing.assert_allclose(out['inputs']['iq'], np.stack([x.real, x.imag], -1), rtol=1e-5)
        assert out['inputs']['image'].shape == (4, 32, 32, 3) and -1 <= out['inputs']['image'].min() < 0
        assert out['inputs']['image'].max() == 1 and out['inputs']['spectrogram'].shape == (4, 32, 32, 1)
        np.testing.assert_array_equal(out['targets']['image'], out['inputs']['image'])


def test_some_classes_and_snrs(tmp_path):
    path, _ = write_2016(tmp_path / 'x.pkl')
    sizes = {'pretrain': 8, 'train': 6, 'validation': 4, 'test': 4}
    found = recorded.build(data(path, classes=('QPSK', '8PSK'), snr_db=(10.0, 20.0), sizes=sizes), IQ, False)
    out = found.test.take(np.arange(4))
    assert found.test.classes == ('QPSK', '8PSK') and set(out['label']) == {0, 1} and set(out['meta']['snr_db']) == {18}
    own = recorded.open_frames(str(path))
    assert [own.classes[own.label[i]] for i in out['id']] == [('QPSK', '8PSK')[k] for k in out['label']]


def test_frames_of_one_recording_are_in_one_split(tmp_path):
    notes = [{'core:label': 'ab'[i % 2], 'core:sample_start': 100 * i, 'core:sample_count': 96} for i in range(20)]
    folder, _ = write_sigmf(tmp_path / 'r', annotations=notes)
    sizes = {'pretrain': 10, 'train': 7, 'validation': 4, 'test': 5}
    modalities = {'iq': Modality('iq', 'sequence', (32, 2), 8)}
    found = recorded.build(data(folder, sizes=sizes), modalities, False)
    recordings = [set(found.test.frames.group[s.rows]) for s in found[:4]]
    assert [len(s) for s in found[:4]] == [10, 7, 4, 5]
    assert sum(map(len, recordings)) == len(set().union(*recordings))


def test_a_config_reads_them(tmp_path):
    path, _ = write_2016(tmp_path / 'x.pkl')
    c = config_lib.base({'iq': {'kind': 'sequence', 'shape': (128, 2), 'patch': 16}})
    c.data.update({'source': 'recorded', 'path': str(path), **{f'{k}_examples': v for k, v in SIZES.items()}})
    c.data.signal.snr_db = (-20.0, 18.0)
    found = sources.build(c.data, False)
    assert len(found.pretrain) == 20 and found.train.classes == ('8PSK', 'AM-DSB', 'QPSK') and found.ceiling is None


@pytest.mark.parametrize('changes, message', [
    ({('QPSK', 0): frames(4, 2, 64)}, r'frames have \[64, 128\] samples'), ({'QPSK': frames(4, 2, 128)}, "key 'QPSK'"),
    ({('QPSK', 0): frames(4, 128, 2)}, r"'QPSK', 0\) is float32 \[4, 128, 2\]; expected floats"),
    ({('QPSK', 0): np.zeros((4, 2, 128), int)}, 'is int64'), ({('QPSK', 0): [1]}, 'is list'),
    ({('QPSK', 0): frames(12, 2, 128) * np.float32(np.nan)}, 'NaN or infinity')])
def test_damaged_2016(tmp_path, changes, message):
    path, _ = write_2016(tmp_path / 'x.pkl', changes)
    with pytest.raises(UserError, match=message):
        found = recorded.build(data(path, sizes={'pretrain': 60, 'train': 4, 'validation': 4, 'test': 4}), IQ, False)
        found.pretrain.take(np.arange(60))


@pytest.mark.parametrize('changes, message', [
    ({'Z': None}, r"keys \['X', 'Y'\]"), ({'X': frames(96, 2, 1024)}, r'X is \[96, 2, 1024\]'),
    ({'Y': np.eye(24)[np.zeros(95, int)]}, r'Y is|Y \[95'), ({'Y': np.zeros((96, 24), int)}, 'not one-hot'),
    ({'Y': np.eye(11)[np.zeros(96, int)]}, r'Y \[96, 11\]')])
def test_damaged_2018(tmp_path, changes, message):
    path, _ = write_2018(tmp_path / 'x.hdf5', **changes)
    with pytest.raises(UserError, match=message):
        recorded.open_frames(str(path))


def test_other_damage(tmp_path):
    path, _ = write_2018(tmp_path / 'x.hdf5')
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match='x.hdf5: not an HDF5 file'):
        recorded.open_frames(str(path))
    with pytest.raises(UserError, match='no such file or folder'):
        recorded.open_frames(str(tmp_path / 'none.pkl'))
    (tmp_path / 'x.mat').write_bytes(b'')
    with pytest.raises(UserError, match="ends in '.mat'; allowed: .pkl or .dat"):
        recorded.open_frames(str(tmp_path / 'x.mat'))
    (tmp_path / 'evil.pkl').write_bytes(b'cos\nsystem\n(S"true"\ntR.')
    with pytest.raises(UserError, match='evil.pkl: refused, it asks for os.system'):
        recorded.open_frames(str(tmp_path / 'evil.pkl'))
    path, _ = write_2016(tmp_path / 'x.pkl')
    with pytest.raises(UserError, match="data.signal.classes: 'BPSK' is not in .*; it has 8PSK, AM-DSB, QPSK"):
        recorded.build(data(path, classes=('BPSK',)), IQ, False)
    with pytest.raises(UserError, match='has 72 frames'):
        recorded.build(data(path, sizes={**SIZES, 'test': 60}), IQ, False)
    with pytest.raises(UserError, match=r'data.modalities.iq is of kind .*frames of .* have 128 samples'):
        recorded.build(data(path), {'iq': Modality('iq', 'sequence', (256, 2), 16)}, False)


@pytest.mark.parametrize('changes, message', [
    ({'datatype': 'rf32_le'}, "core:datatype is 'rf32_le'; allowed: cf32"), ({'datatype': 'ci16'}, "'ci16'"),
    ({'annotations': [{'core:label': 'a', 'core:sample_start': 1990, 'core:sample_count': 11}]},
     'annotation .a. is at'),
    ({'annotations': [{'core:label': 'a', 'core:sample_start': 0, 'core:sample_count': 127}]},
     'as long as a frame, 128'),
    ({'annotations': [{'core:label': 'a'}]}, 'not SigMF metadata: KeyError'), ({'global': {}}, 'not SigMF metadata'),
    ({'samples': np.zeros(3, np.float32)}, 'not a whole number of samples'), ({'samples': np.zeros(0)}, 'has 0 bytes')])
def test_damaged_sigmf(tmp_path, changes, message):
    folder, _ = write_sigmf(tmp_path / 'r', **changes)
    with pytest.raises(UserError, match=message):
        recorded.open_frames(str(folder), 128)


def test_sigmf_without_its_data_or_a_length(tmp_path):
    folder, _ = write_sigmf(tmp_path / 'r')
    with pytest.raises(UserError, match="as long as the modality 'iq'"):
        recorded.open_frames(str(folder))
    (folder / 'a.sigmf-data').unlink()
    with pytest.raises(UserError, match='a.sigmf-data is not beside it'):
        recorded.open_frames(str(folder), 128)
    (folder / 'a.sigmf-meta').write_text('{')
    with pytest.raises(UserError, match='not SigMF metadata: JSONDecodeError'):
        recorded.open_frames(str(folder), 128)
    (folder / 'a.sigmf-meta').unlink()
    with pytest.raises(UserError, match='no .sigmf-meta file'):
        recorded.open_frames(str(folder), 128)
