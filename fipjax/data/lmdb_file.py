"""LMDB files, read without the library: values by key out of the B+tree of data.mdb (format version 1, LMDB 0.9).

The library maps a file and follows what it says; of a damaged or hostile one it can read anywhere. Here every page,
node and length is checked against the file. Nothing is written, no lock is taken: the file must not change meanwhile.

A file is pages of `page` bytes. Page: number u64, padding u16, flags u16, lower u16, upper u16, then u16 places of
nodes in the order of their keys. Node: low u16, high u16, flags u16, size of the key u16, key, value. In a leaf low
and high are the value's size; a large value lies on pages of its own, whose number the node has. In a branch low, high
and flags are the number of the page below, which holds keys from this node's on. Pages 0 and 1 are descriptions; the
one with the larger transaction counts.
"""
from __future__ import annotations

import mmap
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
        with inside.open('rb') as f:
            self._map = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) if inside.stat().st_size else b''
        self._page, self._root, self.entries = self._guarded(self._describe)

    def close(self) -> None:
        """Lets the file go."""
        if self._map:
            self._map.close()

    def get(self, key: bytes) -> bytes | None:
        """The value of a key; None where there is none."""
        return self._guarded(self._get, key)

    def keys(self) -> Iterator[bytes]:
        """All keys in their order."""
        if self._root != EMPTY:
            yield from self._guarded_all(self._keys(self._root, 0, set()))

    def _guarded(self, function, *given):
        try:
            return function(*given)
        except (_Damaged, struct.error) as e:
            raise UserError(f'{self.path}: not an LMDB file that can be read: {e}') from e

    def _guarded_all(self, items):
        try:
            yield from items
        except (_Damaged, struct.error) as e:
            raise UserError(f'{self.path}: not an LMDB file that can be read: {e}') from e

    def _describe(self):
        """Page size, root and number of entries of the newest description."""
        first = self._description(0)
        page = first[1]
        if page < 512 or page > 65536 or page & (page - 1):
            raise _Damaged(f'its pages have {page} bytes')
        _, other, root, entries, _ = max(first, self._description(page))
        if other != page:
            raise _Damaged(f'its pages have {page} or {other} bytes')
        return page, root, entries

    def _description(self, start):
        if len(self._map) < start + HEADER.size + DESCRIPTION.size + 2 * DATABASE.size + 16:
            raise _Damaged(f'it has {len(self._map)} bytes; its descriptions are cut off')
        flags = HEADER.unpack_from(self._map, start)[2]
        start += HEADER.size
        magic, version, *_ = DESCRIPTION.unpack_from(self._map, start)
        if magic != MAGIC or not flags & META:
            raise _Damaged('it does not begin as one')
        if version != VERSION:
            raise _Damaged(f'it has version {version} of the format; only {VERSION} (LMDB 0.9) is known')
        start += DESCRIPTION.size
        page = DATABASE.unpack_from(self._map, start)[0]
        _, kinds, *_, entries, root = DATABASE.unpack_from(self._map, start + DATABASE.size)
        if kinds & ~0x8000:  # duplicates, numbers as keys, keys from behind
            raise _Damaged(f'its database has the flags {kinds:#x}; only plain keys and values are known')
        last, transaction = struct.unpack_from('<QQ', self._map, start + 2 * DATABASE.size)
        return transaction, page, root, entries, last

    def _nodes(self, number, depth):
        """(whether it is a leaf, start of the page, places of its nodes)."""
        start = number * self._page
        if number < 2 or start + self._page > len(self._map):
            raise _Damaged(f'page {number} lies behind its end (it has {len(self._map)} bytes); it is cut off or '
                           'damaged')
        found, _, flags, lower, upper = HEADER.unpack_from(self._map, start)
        if (found != number or flags & 0x0F not in (BRANCH, LEAF) or flags & DUPLICATES or depth > DEEPEST
                or not HEADER.size <= lower <= upper <= self._page):
            raise _Damaged(f'page {number} is damaged')
        count = (lower - HEADER.size) // 2
        places = struct.unpack_from(f'<{count}H', self._map, start + HEADER.size)
        if not count or any(not upper <= p <= self._page - NODE.size for p in places):
            raise _Damaged(f'page {number} is damaged')
        return bool(flags & LEAF), start, places

    def _key(self, start, place):
        size = NODE.unpack_from(self._map, start + place)[3]
        begin = place + NODE.size
        if begin + size > self._page:
            raise _Damaged(f'a key of page {start // self._page} is cut off')
        return self._map[start + begin:start + begin + size]

    def _below(self, start, place):
        low, high, flags, _ = NODE.unpack_from(self._map, start + place)
        return low | high << 16 | flags << 32

    def _get(self, key):
        number, depth = self._root, 0
        while number != EMPTY:
            leaf, start, places = self._nodes(number, depth)
            low, high = (0 if leaf else 1), len(places)  # the first node of a branch has no key: all that is smaller
            while low < high:
                middle = (low + high) // 2
                if self._key(start, places[middle]) < key or (not leaf and self._key(start, places[middle]) == key):
                    low = middle + 1
                else:
                    high = middle
            if leaf:
                there = low < len(places) and self._key(start, places[low]) == key
                return self._value(start, places[low]) if there else None
            number, depth = self._below(start, places[low - 1]), depth + 1
        return None

    def _value(self, start, place):
        low, high, flags, size = NODE.unpack_from(self._map, start + place)
        length, begin = low | high << 16, start + place + NODE.size + size
        if flags & INNER:
            raise _Damaged('it has databases inside databases')
        end = start + self._page
        if flags & BIG:
            number, = struct.unpack_from('<Q', self._map, begin)
            begin = number * self._page + HEADER.size
            if begin > len(self._map):
                raise _Damaged(f'page {number} lies behind its end (it has {len(self._map)} bytes); it is cut off or '
                               'damaged')
            found, _, kind, *pages = HEADER.unpack_from(self._map, begin - HEADER.size)
            if found != number or not kind & OVERFLOW:
                raise _Damaged(f'page {number} is damaged')
            end = min((number + (pages[0] | pages[1] << 16)) * self._page, len(self._map))
        if begin + length > end:
            raise _Damaged(f'a value of {length} bytes is cut off')
        return self._map[begin:begin + length]

    def _keys(self, number, depth, seen):
        leaf, start, places = self._nodes(number, depth)
        if number in seen:
            raise _Damaged(f'page {number} is below two others')
        seen.add(number)
        for place in places:
            if leaf:
                yield self._key(start, place)
            else:
                yield from self._keys(self._below(start, place), depth + 1, seen)
