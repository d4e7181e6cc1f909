"""Arrays of MATLAB files plane by plane, against scipy.io.loadmat and h5py."""
import h5py
import numpy as np
import pytest
from scipy.io import loadmat, savemat

from fipjax.data.builders import matfile
from fipjax.errors import UserError


def arrays():
    rng = np.random.default_rng(0)
    return {'a': rng.normal(size=(5, 3, 4)), 'flat': rng.normal(size=(2, 3)), 'whole': rng.integers(0, 9, (2, 3, 2)),
            'single': rng.normal(size=(4, 2, 2)).astype('f4'), 'bytes': rng.integers(0, 255, (2, 2, 3)).astype('u1'),
            'a_rather_long_name': rng.normal(size=(2, 2, 2)), 'complex': rng.normal(size=(2, 2, 2)) + 1j}


@pytest.mark.parametrize('compressed', [True, False])
def test_version_5(tmp_path, compressed):
    path = tmp_path / 'x.mat'
    savemat(path, arrays(), do_compression=compressed)
    expected = loadmat(path)
    for name in ('a', 'whole', 'single', 'bytes', 'a_rather_long_name'):
        shape, planes = matfile.planes(path, name)
        assert shape == expected[name].shape
        found = np.stack(list(planes), -1)
        assert found.dtype == expected[name].dtype
        np.testing.assert_array_equal(found, expected[name])


def test_numbers_that_are_stored_smaller_than_they_are(tmp_path):
    """MATLAB keeps doubles that are small whole numbers as bytes."""
    path, x = tmp_path / 'x.mat', np.arange(24.0).reshape(2, 3, 4)
    savemat(path, {'x': x}, do_compression=False)
    raw = path.read_bytes()
    at = raw.index(x.tobytes('F')) - 8
    small = np.array([2, 24], '<u4').tobytes() + x.astype(np.uint8).tobytes('F')
    path.write_bytes(raw[:at] + small)
    np.testing.assert_array_equal(np.stack(list(matfile.planes(path, 'x')[1]), -1), x)


def test_version_7_3(tmp_path):
    path, x = tmp_path / 'x.mat', arrays()['a']
    with h5py.File(path, 'w', userblock_size=512) as f:
        f.create_dataset('x', data=x.T, compression='gzip')
    shape, planes = matfile.planes(path, 'x')
    assert shape == x.shape
    np.testing.assert_array_equal(np.stack(list(planes), -1), x)


@pytest.mark.parametrize('name, message', [
    ('none', r"no array 'none'; found \['a', 'a_rather_long_name', 'bytes', 'complex', 'flat', 'single', 'whole'\]"),
    ('flat', r'shape \[2, 3\]; expected three axes'), ('complex', 'is complex; expected three axes of real')])
def test_arrays_that_are_not_read(tmp_path, name, message):
    savemat(tmp_path / 'x.mat', arrays(), do_compression=True)
    with pytest.raises(UserError, match=f'x.mat.*{message}'):
        matfile.planes(tmp_path / 'x.mat', name)


@pytest.mark.parametrize('compressed', [True, False])
def test_every_cut_and_damaged_byte_ends_in_a_message_or_a_value(tmp_path, compressed):
    path = tmp_path / 'x.mat'
    savemat(path, {'x': np.random.default_rng(0).normal(size=(2, 3, 4))}, do_compression=compressed)
    whole, refused = path.read_bytes(), 0
    for i in range(0, len(whole), 3):
        for damaged in (whole[:i], whole[:i] + bytes([whole[i] ^ 0xff]) + whole[i + 1:]):
            path.write_bytes(damaged)
            try:
                np.stack(list(matfile.planes(path, 'x')[1]))
            except UserError as e:
                assert 'x.mat' in str(e)
                refused += 1
    assert refused > len(whole) // 3
