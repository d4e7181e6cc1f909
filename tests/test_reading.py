"""Pieces that readers share: members of archives, rows, checks, validation splits that nobody published."""
import zipfile
import zlib

import numpy as np
import pytest

from fipjax.data.builders import reading
from fipjax.errors import UserError


def test_rows_of_an_archive_in_any_order(tmp_path):
    x = np.random.default_rng(0).normal(size=(20, 3)).astype('>f4')
    np.savez_compressed(tmp_path / 'a.npz', x=x, objects=np.array([{}]), fortran=np.asfortranarray(np.eye(3)))
    member = reading.Member(tmp_path / 'a.npz', 'x', (None, 3), 'f')
    for i in (0, 1, 5, 19, 3, 4):
        np.testing.assert_array_equal(member.row(i), x[i])
    for name, message in (('objects', 'Python objects'), ('fortran', 'Fortran order'), ('y', "no array 'y'")):
        with pytest.raises(UserError, match=message):
            reading.Member(tmp_path / 'a.npz', name, (None, 3), 'f')


def test_a_validation_split_that_nobody_published():
    train, validation = reading.validation(50, 10)
    assert len(validation) == 10 and sorted([*train, *validation]) == list(range(50))
    np.testing.assert_array_equal(validation, reading.validation(50, 10)[1])
    assert (validation != np.arange(10)).any()


@pytest.mark.parametrize('compressed', [False, True])
def test_an_archive_that_is_cut_or_damaged(tmp_path, compressed):
    x = np.random.default_rng(0).integers(0, 9, (400, 5))
    (np.savez_compressed if compressed else np.savez)(tmp_path / 'a.npz', x=x)
    whole = (tmp_path / 'a.npz').read_bytes()
    (tmp_path / 'a.npz').write_bytes(whole[:-30])
    with pytest.raises(UserError, match='a.npz: not an .npz file'):
        reading.Member(tmp_path / 'a.npz', 'x', (None, 5), 'i')
    raw = bytearray(whole)
    raw[len(raw) // 2] ^= 0xff
    (tmp_path / 'a.npz').write_bytes(raw)
    member = reading.Member(tmp_path / 'a.npz', 'x', (None, 5), 'i')
    with pytest.raises((zipfile.BadZipFile, zlib.error)):  # prepared.prepare names the folder
        for i in range(400):  # the checksum comes last
            member.row(i)


def test_rows_in_batches_and_by_slices():
    source, read = np.arange(1000) ** 2, []

    def get(i):
        read.append(i)
        return source[i]

    for ids in (np.arange(5, 70), np.array([3, 4, 7]), np.array([1, 500, 999])):
        np.testing.assert_array_equal(reading.span(ids, get), source[ids])
    assert read == [slice(5, 70), slice(3, 8), 1, 500, 999]
    seen = []
    n, rows = reading.gather(np.arange(0, 300, 2), lambda ids: (seen.append(len(ids)), iter(ids))[1])
    assert n == 150 and list(rows(10, 140)) == list(range(20, 280, 2)) and seen == [64, 64, 2]


@pytest.mark.parametrize('shape, dtype, message', [
    ((3,), 'f4', r'w has shape \[3\]; expected \[n, 4\]'), ((0, 4), 'f4', r'shape \[0, 4\]'), ((3, 5), 'f4', 'shape'),
    ((3, 4), 'i4', 'w has type int32; expected floating point or bool'), ((3, 4), 'O', 'type object')])
def test_checks(shape, dtype, message):
    reading.check('w', (3, 4), np.dtype('f8'), (None, 4), 'fb')
    with pytest.raises(UserError, match=message):
        reading.check('w', shape, np.dtype(dtype), (None, 4), 'fb')


def test_lengths_and_labels():
    assert reading.same_length('w', a=[1, 2], b='xy') == 2
    with pytest.raises(UserError, match='w: a has 1, b has 2 examples'):
        reading.same_length('w', a=[1], b='xy')
    with pytest.raises(UserError, match='w: 3 is no label'):
        reading.as_bool('w', np.array([0, 1, 3]))
    assert reading.as_bool('w', np.array([0.0, 1.0])).dtype == np.uint8
