"""Regions of many pictures: in memory while they are few, else read from their records when a batch asks for them.

What a detector says of a picture takes up to 1.5 MB, so all of COCO would take 180 GB. Boxes and numbers of regions are
in memory anyway, 2 KB a picture.
"""
from __future__ import annotations

import threading
from collections.abc import Iterable

import numpy as np

from fipjax.data import region_files
from fipjax.data.vl import Regions

IN_MEMORY = 2 ** 31  # bytes of features and class distributions
RECENT = 2 ** 30     # bytes of what was read last and is kept, so that a batch reads each picture once


def gather(found: Iterable[tuple[str, dict, tuple]], settings) -> Regions:
    """Regions of pictures, each of which is looked at once.

    Args:
      found: (what it is called in messages, arrays of features/NAME.npz, (data source, number of its record there)) of
        each picture.
      settings: config group `regions`.

    Returns:
      As fipjax.data.region_files.stack; `features` and `classes` are `Stored` where all have more than IN_MEMORY bytes.

    Raises:
      UserError: as fipjax.data.region_files.read.
    """
    boxes, parts, places, first, size = [], [], [], None, 0
    for where, table, place in found:
        part = region_files.one_picture(where, table)
        first = first or (where, part)
        region_files.alike(where, part, *first, settings)
        size += sum(v.nbytes for v in part if v is not None)
        boxes.append(part[1])
        places.append(place)
        if size <= IN_MEMORY:
            parts.append(part)
        else:
            parts.clear()
    if parts:
        return region_files.pad(parts)
    few = region_files.pad([(b[:, :0], b, None) for b in boxes])  # boxes and counts alone
    records, (features, _, probs) = _Records(places), first[1]
    shape = few.boxes.shape[:2]
    return Regions(Stored(records, 0, (*shape, features.shape[1])), few.boxes, few.count,
                   None if probs is None else Stored(records, 1, (*shape, probs.shape[1])),
                   f'features {features.shape[1]} wide')


class Stored:
    """Stands for an array float32 [P, R, n] of P pictures' regions; rows are read when they are taken.

    What lies beyond a picture's last region is 0, as in an array.
    """

    dtype, ndim = np.dtype(np.float32), 3

    def __init__(self, records, which, shape):
        self._records, self._which, self.shape = records, which, shape

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows) -> np.ndarray:
        """The pictures `rows`: an integer, a slice, integers or booleans, as of an array."""
        rows = np.arange(len(self))[rows]
        out = np.zeros((rows.size, *self.shape[1:]), np.float32)
        for place, row in enumerate(rows.ravel().tolist()):
            value = self._records.read(row)[self._which]
            out[place, :len(value)] = value
        return out.reshape(*rows.shape, *self.shape[1:])

    def __array__(self, dtype=None, copy=None):
        return self[:].astype(dtype or self.dtype, copy=False)


class _Records:
    """(features, class distributions or None) of pictures; those read last are kept, for all threads."""

    def __init__(self, places):
        self._places, self._recent, self._size, self._lock = places, {}, 0, threading.Lock()

    def read(self, row):
        with self._lock:
            if row in self._recent:
                self._recent[row] = self._recent.pop(row)  # to the end
                return self._recent[row]
        data, number = self._places[row]
        record = data[number]
        found = tuple(record.get(k) for k in ('features', 'class_probs'))
        with self._lock:
            if row not in self._recent:
                self._recent[row] = found
                self._size += sum(v.nbytes for v in found if v is not None)
            while self._size > RECENT and len(self._recent) > 1:
                self._size -= sum(v.nbytes for v in self._recent.pop(next(iter(self._recent))) if v is not None)
        return found
