"""LMDB files: the library's own, and damaged ones that end in a message wherever they are damaged."""
import gzip
import pathlib
import random
import struct

import pytest
from lmdb_writer import PAGE, lmdb

from fipjax.data import lmdb_file
from fipjax.errors import UserError

GOLDEN = pathlib.Path(__file__).parent / 'golden' / 'lmdb.gz'


def value(i):
    """What the golden file has under b'%d' % i ** 2."""
    return (b'%d,' % i * 3000)[:9000 if i % 40 == 0 else i % 60]


def test_a_file_of_the_library(tmp_path):
    """Written by liblmdb 0.9 in three transactions, after which every seventh key was deleted in a fourth."""
    path = tmp_path / 'data.mdb'
    path.write_bytes(gzip.decompress(GOLDEN.read_bytes()))
    expected = {b'%d' % i ** 2: value(i) for i in range(1200) if i % 7}
    for place in (path, tmp_path):
        f = lmdb_file.File(place)
        assert list(f.keys()) == sorted(expected) and f.entries == len(expected)
        assert {k: f.get(k) for k in expected} == expected
        assert [f.get(b'%d' % i ** 2) for i in range(0, 1200, 7)] == [None] * 172
        assert f.get(b'') is f.get(b'~') is f.get(b'5') is None
        f.close()


def content(n, sizes=(0, 5, 300, 900, 5000, 20000)):
    rng = random.Random(0)
    return {b'%d' % rng.randrange(10 ** 9): rng.randbytes(rng.choice(sizes)) for _ in range(n)}


@pytest.mark.parametrize('n', [0, 1, 9, 300])
def test_pages_and_large_values(tmp_path, n):
    values = content(n)
    lmdb(tmp_path / 'x.lmdb', values)
    f = lmdb_file.File(tmp_path / 'x.lmdb')
    assert list(f.keys()) == sorted(values) and {k: f.get(k) for k in values} == values
    assert f.get(b'a') is None


def everything(folder):
    f = lmdb_file.File(folder)
    return {k: f.get(k) for k in f.keys()}


def test_a_file_that_is_cut_off(tmp_path):
    values = content(40)
    lmdb(tmp_path / 'x.lmdb', values)
    path = tmp_path / 'x.lmdb' / 'data.mdb'
    whole = path.read_bytes()
    for size in range(0, len(whole), PAGE // 2):
        path.write_bytes(whole[:size])
        with pytest.raises(UserError, match='x.lmdb: not an LMDB file that can be read: .*cut off'):
            everything(tmp_path / 'x.lmdb')
    path.write_bytes(whole)
    assert everything(tmp_path / 'x.lmdb') == values


def test_every_damaged_byte_ends_in_a_message_or_values(tmp_path):
    lmdb(tmp_path / 'x.lmdb', content(60, (5, 300, 900, 1100)))
    path = tmp_path / 'x.lmdb' / 'data.mdb'
    whole = path.read_bytes()
    rng, refused = random.Random(0), 0
    for _ in range(600):
        page = rng.randrange(len(whole) // PAGE)
        place = page * PAGE + rng.randrange(40)  # headers, descriptions, places of nodes
        path.write_bytes(whole[:place] + bytes([rng.randrange(256)]) + whole[place + 1:])
        try:
            everything(tmp_path / 'x.lmdb')
        except UserError as e:
            refused += 'x.lmdb: not an LMDB file' in str(e)
    assert refused > 100


@pytest.mark.parametrize('place, raw, message', [
    (16, b'\0\0\0\0', 'it does not begin as one'), (PAGE + 16, b'\0\0\0\0', 'it does not begin as one'),
    (20, struct.pack('<I', 2), 'it has version 2 of the format'), (40, struct.pack('<I', 100), 'pages have 100 bytes'),
    (16 + 24 + 48 + 4, struct.pack('<H', 4), r'its database has the flags 0x4; only plain keys')])
def test_other_formats(tmp_path, place, raw, message):
    lmdb(tmp_path / 'x.lmdb', {b'a': b'b'})
    path = tmp_path / 'x.lmdb' / 'data.mdb'
    whole = path.read_bytes()
    path.write_bytes(whole[:place] + raw + whole[place + len(raw):])
    with pytest.raises(UserError, match=message):
        lmdb_file.File(tmp_path / 'x.lmdb')


def test_a_page_that_leads_to_itself(tmp_path):
    """Without a bound on the depth this would go on for ever."""
    lmdb(tmp_path / 'x.lmdb', content(300))
    path = tmp_path / 'x.lmdb' / 'data.mdb'
    raw = bytearray(path.read_bytes())
    root = len(raw) // PAGE - 1
    place = struct.unpack_from('<H', raw, root * PAGE + 16)[0]
    struct.pack_into('<HHH', raw, root * PAGE + place, root, 0, 0)
    path.write_bytes(raw)
    with pytest.raises(UserError, match=f'page {root} is below two others'):
        everything(tmp_path / 'x.lmdb')


def test_no_such_file(tmp_path):
    with pytest.raises(UserError, match='data.mdb: no such file; an LMDB is a folder'):
        lmdb_file.File(tmp_path)
    with pytest.raises(UserError, match='none.lmdb: no such file'):
        lmdb_file.File(tmp_path / 'none.lmdb')
