"""Makes lmdb.gz, a data.mdb of the LMDB library: `pip install lmdb` (1.x with LMDB 0.9) elsewhere, then run this.

  python tests/golden/make_lmdb.py
"""
import gzip
import pathlib
import tempfile

import lmdb


def value(i):
    """As in tests/test_lmdb_file.py."""
    return (b'%d,' % i * 3000)[:9000 if i % 40 == 0 else i % 60]


with tempfile.TemporaryDirectory() as folder:
    env = lmdb.open(folder, map_size=2 ** 24)
    for part in range(3):
        with env.begin(write=True) as txn:
            for i in range(part, 1200, 3):
                txn.put(b'%d' % i ** 2, value(i))
    with env.begin(write=True) as txn:
        for i in range(0, 1200, 7):
            txn.delete(b'%d' % i ** 2)
    env.close()
    out = pathlib.Path(__file__).with_name('lmdb.gz')
    with gzip.GzipFile(out, 'wb', 9, mtime=0) as f:
        f.write((pathlib.Path(folder) / 'data.mdb').read_bytes())
