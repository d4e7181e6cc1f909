"""LMDB files, read without the library: values by key out of the B+tree of data.mdb (format version 1, LMDB 0.9).

The library maps a file and follows what it says; of a damaged or hostile one it can read anywhere, and what it touched
counts as this process's memory. Here pages are read one at a time, and every page, node and length is checked against
the file. Nothing is written, no lock is taken: the file must not change meanwhile.

A file is pages of `page` bytes. Page: number u64, padding u16, flags u16, lower u16, upper u16, then u16 places of
nodes in the order of their keys. Node: low u16, high u16, flags u16, size of the key u16, key, value. In a leaf low
and high are the value's size; a large value lies on pages of its own, whose number the node has. In a branch low, high
and flags are the number of the page below, which holds keys from this node's on. Pages 0 and 1 are descriptions; the
one with the larger transaction counts.
"""
from __future__ import annotations

import contextlib
import os
import pathlib
import struct
from collections.abc import Iterator

from fipjax.errors import UserError

NAME = 'data.mdb'
MAGIC, VERSION = 0xBEEFC0DE, 1
BRANCH, LEAF, OVERFLOW, META, DUPLICATES = 0x01, 0x02, 0x04, 0x08, 0x20  # flags of pages
BIG, INNER = 0x01, 0x06                                                  # flags of nodes: large value; databases inside
HEADER, NODE = struct.Struct('<QHHHH'), struct.Struct('<HHHH')
DESCRIPTION = struct.Struct('<IIQQ')  # magic, version, address, size of the map
DATABASE = struct.Struct('<IHHQQQQQ')  # padding (page size in the first), flags, depth, pages: branch, leaf, overflow,
EMPTY, DEEPEST = 2 ** 64 - 1, 32       # entries, root


class _Damaged(Exception):
    """Something in the file contradicts the format."""


class File:
    """An open LMDB file, a folder with data.mdb or the file itself.

    Raises:
      UserError: not an LMDB file, of another version, or damaged; `get` and `keys` too.
    """

    def __init__(self, path):
        self.path = pathlib.Path(path)
        inside = self.path / NAME if self.path.is_dir() else self.path
        if not inside.is_file():
            raise UserError(f'{inside}: no such file; an LMDB is a folder with {NAME}')
        self._file = inside.open('rb', buffering=0)
        self._size = inside.stat().st_size
        with self._named():
            self._page, self._root, self.entries = self._describe()

    def close(self) -> None:
        """Lets the file go."""
        self._file.close()

    def get(self, key: bytes) -> bytes | None:
        """The value of a key; None where there is none."""
        with self._named():
            return self._get(key)

    def keys(self) -> Iterator[bytes]:
        """All keys in their order."""
        if self._root != EMPTY:
            with self._named():
                yield from self._keys(self._root, 0, set())

    @contextlib.contextmanager
    def _named(self):
        try:
            yield
        except (_Damaged, struct.error) as e:
            raise UserError(f'{self.path}: not an LMDB file that can be read: {e}') from e

    def _read(self, start, size):
        """Bytes of the file, all of them there."""
        out = os.pread(self._file.fileno(), size, start) if start + size <= self._size else b''
        while 0 < len(out) < size and (more := os.pread(self._file.fileno(), size - len(out), start + len(out))):
            out += more  # the system gives 2 GiB at most at once
        if len(out) != size:
            raise _Damaged(f'{size} bytes at {start} lie behind its end ({self._size}); it is cut off or damaged')
        return out

    def _describe(self):
        """Page size, root and number of entries of the newest description."""
        first = self._description(0)
        page = first[1]
        if page < 512 or page > 65536 or page & (page - 1):
            raise _Damaged(f'its pages have {page} bytes')
        _, other, root, entries = max(first, self._description(page))
        if other != page:
            raise _Damaged(f'its pages have {page} or {other} bytes')
        return page, root, entries

    def _description(self, start):
        raw = self._read(start, HEADER.size + DESCRIPTION.size + 2 * DATABASE.size + 16)
        magic, version, *_ = DESCRIPTION.unpack_from(raw, HEADER.size)
        if magic != MAGIC or not HEADER.unpack_from(raw)[2] & META:
            raise _Damaged('it does not begin as one')
        if version != VERSION:
            raise _Damaged(f'it has version {version} of the format; only {VERSION} (LMDB 0.9) is known')
        begin = HEADER.size + DESCRIPTION.size
        page = DATABASE.unpack_from(raw, begin)[0]
        _, kinds, *_, entries, root = DATABASE.unpack_from(raw, begin + DATABASE.size)
        if kinds & ~0x8000:  # duplicates, numbers as keys, keys from behind
            raise _Damaged(f'its database has the flags {kinds:#x}; only plain keys and values are known')
        transaction = struct.unpack_from('<QQ', raw, begin + 2 * DATABASE.size)[1]
        return transaction, page, root, entries

    def _nodes(self, number, depth):
        """A page: (whether it is a leaf, its bytes, places of its nodes)."""
        page = self._read(number * self._page, self._page)
        found, _, flags, lower, upper = HEADER.unpack_from(page)
        if (found != number or flags & 0x0F not in (BRANCH, LEAF) or flags & DUPLICATES or depth > DEEPEST
                or not HEADER.size <= lower <= upper <= self._page):
            raise _Damaged(f'page {number} is damaged')
        places = struct.unpack_from(f'<{(lower - HEADER.size) // 2}H', page, HEADER.size)
        if not places or any(not upper <= p <= self._page - NODE.size for p in places):
            raise _Damaged(f'page {number} is damaged')
        return bool(flags & LEAF), page, places

    def _get(self, key):
        number, depth = self._root, 0
        while number != EMPTY:
            leaf, page, places = self._nodes(number, depth)
            low, high = (0 if leaf else 1), len(places)  # the first node of a branch has no key: all that is smaller
            while low < high:
                middle = (low + high) // 2
                at = _key(page, places[middle])
                if at < key or (not leaf and at == key):
                    low = middle + 1
                else:
                    high = middle
            if leaf:
                there = low < len(places) and _key(page, places[low]) == key
                return self._value(page, places[low]) if there else None
            number, depth = _below(page, places[low - 1]), depth + 1
        return None

    def _value(self, page, place):
        low, high, flags, size = NODE.unpack_from(page, place)
        length, begin = low | high << 16, place + NODE.size + size
        if flags & INNER:
            raise _Damaged('it has databases inside databases')
        if not flags & BIG:
            if begin + length > len(page):
                raise _Damaged(f'a value of {length} bytes is cut off')
            return page[begin:begin + length]
        number, = struct.unpack_from('<Q', page, begin)
        found, _, kind, *pages = HEADER.unpack(self._read(number * self._page, HEADER.size))
        if found != number or not kind & OVERFLOW or length > (pages[0] | pages[1] << 16) * self._page - HEADER.size:
            raise _Damaged(f'page {number} is damaged')
        return self._read(number * self._page + HEADER.size, length)

    def _keys(self, number, depth, seen):
        leaf, page, places = self._nodes(number, depth)
        if number in seen:
            raise _Damaged(f'page {number} is below two others')
        seen.add(number)
        for place in places:
            if leaf:
                yield _key(page, place)
            else:
                yield from self._keys(_below(page, place), depth + 1, seen)


def _key(page, place):
    begin = place + NODE.size
    end = begin + NODE.unpack_from(page, place)[3]
    if end > len(page):
        raise _Damaged('a key is cut off')
    return page[begin:end]


def _below(page, place):
    low, high, flags, _ = NODE.unpack_from(page, place)
    return low | high << 16 | flags << 32
