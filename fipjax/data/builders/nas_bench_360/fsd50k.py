"""FSD50K, sounds: chunks/{tr,val,eval}.csv (files, labels, ext), chunks/lbl_map.json and the wav files listed."""
from __future__ import annotations

import csv
import functools
import json
import pathlib
import struct
import warnings

import numpy as np

from fipjax.data.builders import reading
from fipjax.data.builders.nas_bench_360 import places
from fipjax.data.builders.nas_bench_360.drive import DRIVE
from fipjax.data.builders.prepared import File, Opened, Task
from fipjax.errors import UserError

LABELS = 200
RATE, TRANSFORM, WINDOW, HOP, BINS, FRAMES = 22050, 1920, 661, 220, 96, 101
QUIET, RANGE = 1e-10, 80.0  # least power; decibels below the loudest that are kept
SHIFT = 75.0
SPLITS = {'train': 'tr', 'validation': 'val', 'test': 'eval'}


def open_files(manual_dir: pathlib.Path) -> Opened:
    """x [96, 102, 1], a mel spectrogram in decibels with mean 0; y [200] of 0 and 1; group: the clip ('ext').

    Clips lie there in chunks of a second. Of training and its 37k clips there is one chunk each, drawn with a fixed
    seed: ORCA draws one a clip when it starts, too. Of validation and test there are all chunks; scores are of clips,
    the mean over their chunks (fipjax.evaluators.benchmark_scores.by_group). Background noise, mixing and masks, which
    ORCA adds in training, are not here.
    """
    folder = manual_dir / 'chunks'
    names = _names(folder / 'lbl_map.json')
    return Opened({'x': ((BINS, FRAMES + 1, 1), np.float32), 'y': ((LABELS,), np.uint8), 'group': ((), str)},
                  {split: _rows(manual_dir, folder / f'{name}.csv', names, split == 'train')
                   for split, name in SPLITS.items()})


def _names(path):
    try:
        names = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError) as e:
        raise UserError(f'{path}: not a JSON file that can be read: {e}') from e
    if not isinstance(names, dict) or sorted(names.values()) != list(range(LABELS)):
        raise UserError(f'{path}: expected {LABELS} labels and their numbers 0..{LABELS - 1}, each once')
    return names


def _rows(manual_dir, path, names, one_each):
    try:
        with path.open(encoding='utf-8', newline='') as f:
            table = list(csv.DictReader(f))
    except (OSError, UnicodeDecodeError, csv.Error) as e:
        raise UserError(f'{path}: not a CSV file that can be read: {e}') from e
    for i, row in enumerate(table):
        if any(row.get(k) is None for k in ('files', 'labels', 'ext')):
            raise UserError(f'{path}, row {i + 1}: the columns files, labels and ext are needed; found '
                            f'{sorted(map(str, row))}')
        unknown = [k for k in row['labels'].split(',') if k not in names]
        if unknown:
            raise UserError(f'{path}, row {i + 1}: label {unknown[0]!r} is not in lbl_map.json')
    files, ids = places.resolve([row['files'] for row in table], manual_dir, str(path)), np.arange(len(table))
    if one_each:
        _, clip = np.unique([row['ext'] for row in table], return_inverse=True)
        order = np.random.default_rng(reading.VALIDATION_SEED).permutation(len(table))
        _, first = np.unique(clip[order], return_index=True)
        ids = np.sort(order[first])

    def read(ids):
        for i in ids:
            y = np.zeros(LABELS, np.uint8)
            y[[names[k] for k in table[i]['labels'].split(',')]] = 1
            yield {'x': spectrogram(_sound(files[i])), 'y': y, 'group': table[i]['ext']}
    return reading.gather(ids, read)


def _sound(path):
    """Amplitudes float32 [samples], at least a second: shorter ones are repeated."""
    from scipy.io import wavfile
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', wavfile.WavFileWarning)
            rate, x = wavfile.read(path)
    except (ValueError, EOFError, UnboundLocalError, struct.error) as e:
        raise UserError(f'{path}: not a wav file that can be read: {e}') from e
    if rate != RATE or x.ndim != 1 or not len(x):
        raise UserError(f'{path}: {rate} Hz, shape {list(x.shape)}; expected {RATE} Hz and one channel')
    if x.dtype.kind == 'i':
        x = x / -float(np.iinfo(x.dtype).min)
    elif x.dtype == np.uint8:
        x = (x - 128.0) / 128
    return np.resize(x, max(len(x), RATE)).astype(np.float32)


@functools.cache
def filters() -> np.ndarray:
    """Triangles [TRANSFORM / 2 + 1, 96] that are evenly spread in mel, 2595 log10(1 + f / 700), from 0 to RATE / 2."""
    most = 2595 * np.log10(1 + RATE / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, most, BINS + 2) / 2595) - 1)
    f = np.linspace(0, RATE // 2, TRANSFORM // 2 + 1)[:, None]
    rising, falling = (f - edges[:-2]) / np.diff(edges)[:-1], (edges[2:] - f) / np.diff(edges)[1:]
    return np.maximum(0, np.minimum(rising, falling))


def spectrogram(x: np.ndarray) -> np.ndarray:
    """Log-mel spectrogram [96, 102, 1] float32 of amplitudes [samples].

    As ORCA's public code has torchaudio's and librosa's defaults make it: power of 1920-point transforms of periodic
    Hann windows of 661 samples, hop 220, centred, mirrored at the ends; triangles of area that is not normalised;
    decibels of at least 1e-10 and within 80 of the loudest; 75 is added and the mean taken away; centred in 101 frames
    by its least value (longer ones: the middle is kept), a frame of zeros behind.
    """
    window = np.zeros(TRANSFORM)
    start = (TRANSFORM - WINDOW) // 2
    window[start:start + WINDOW] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
    padded = np.pad(x.astype(np.float64), TRANSFORM // 2, 'reflect')
    frames = np.lib.stride_tricks.sliding_window_view(padded, TRANSFORM)[::HOP]
    power = np.abs(np.fft.rfft(frames * window)) ** 2 @ filters()
    decibels = 10 * np.log10(np.maximum(QUIET, power.T))
    decibels = np.maximum(decibels, decibels.max() - RANGE) + SHIFT
    decibels -= decibels.mean()
    spare = FRAMES - decibels.shape[1]
    if spare < 0:
        decibels = decibels[:, -spare // 2:][:, :FRAMES]
    elif spare:
        decibels = np.pad(decibels, ((0, 0), (spare // 2, spare - spare // 2)), constant_values=decibels.min())
    return np.pad(decibels, ((0, 0), (0, 1)))[..., None].astype(np.float32)


TASK = Task('nas_bench_360/fsd50k', 'mel spectrograms of a second, 96 x 102 -> 200 sounds, several may hold. Clips are '
            'split as published.',
            (File('chunks', 'tr.csv, val.csv, eval.csv and lbl_map.json, from audio.zip, 24 GB; with the folders of '
                  'wav files that they list beside it or in it', DRIVE),), open_files)
