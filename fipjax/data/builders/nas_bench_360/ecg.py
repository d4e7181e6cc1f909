"""ECG, PhysioNet challenge 2017: challenge2017.pkl {'data': array of signals, 'label': array of N, A, O and ~}."""
from __future__ import annotations

import bisect
import pathlib

import numpy as np

from fipjax.data import unpickle
from fipjax.data.builders import reading
from fipjax.data.builders.nas_bench_360.drive import DRIVE
from fipjax.data.builders.prepared import File, Opened, Task
from fipjax.errors import UserError

LABELS = {'N': 'normal', 'A': 'atrial fibrillation', 'O': 'other rhythm', '~': 'noise'}
WINDOW = 1000
STRIDES = {'N': 500, 'A': 500 // 6, 'O': 500 // 2, '~': 500 // 20}  # rarer classes are cut more densely
SEED = 0  # the benchmark's


def open_files(manual_dir: pathlib.Path) -> Opened:
    """x [1000, 1], windows of recordings with mean 0 and deviation 1; y 0..3; group: the recording.

    Recordings are split 80 / 10 / 10 % by two calls of sklearn's train_test_split with seed 0, as the benchmark's code
    does before it cuts them; ORCA takes 90 / 10 %. About 260k / 33k / 33k windows.
    """
    from sklearn.model_selection import train_test_split
    path = manual_dir / 'challenge2017.pkl'
    with path.open('rb') as f:
        held = unpickle.objects(f, path)
    if not isinstance(held, dict) or not {'data', 'label'} <= set(held):
        found = sorted(held) if isinstance(held, dict) else type(held).__name__
        raise UserError(f"{path}: expected a dictionary with 'data' and 'label'; found {found}")
    signals, labels = list(held['data']), [str(k) for k in held['label']]
    reading.same_length(str(path), data=signals, label=labels)
    for i, (signal, label) in enumerate(zip(signals, labels)):
        if label not in LABELS:
            raise UserError(f'{path}: label {i} is {label!r}; allowed: {", ".join(LABELS)}')
        signals[i] = np.asarray(signal)
        reading.check(f'{path}: signal {i}', signals[i].shape, signals[i].dtype, (None,), 'fiu')
    rest, held_out = train_test_split(np.arange(len(signals)), test_size=0.2, random_state=SEED)
    validation, test = train_test_split(held_out, test_size=0.5, random_state=SEED)
    parts = {'train': rest, 'validation': validation, 'test': test}
    return Opened({'x': ((WINDOW, 1), np.float32), 'y': ((), np.int64), 'group': ((), str)},
                  {split: _windows(path, split, signals, labels, ids) for split, ids in parts.items()},
                  tuple(LABELS.values()))


def _windows(path, split, signals, labels, recordings):
    starts = [range(0, len(signals[r]) - WINDOW, STRIDES[labels[r]]) for r in recordings]
    ends = np.cumsum([len(s) for s in starts])
    if not ends[-1]:
        raise UserError(f'{path}: no recording of {split} is longer than {WINDOW} samples')
    number = {label: k for k, label in enumerate(LABELS)}

    def rows(start, stop):
        at, place = start, bisect.bisect_right(ends, start)
        while at < stop:
            r, first = recordings[place], ends[place] - len(starts[place])
            signal = signals[r].astype(np.float64)
            signal = ((signal - signal.mean()) / signal.std()).astype(np.float32)
            for begin in starts[place][at - first:stop - first]:
                yield {'x': signal[begin:begin + WINDOW, None], 'y': number[labels[r]], 'group': f'{r:05d}'}
                at += 1
            place += 1
    return int(ends[-1]), rows


TASK = Task('nas_bench_360/ecg', 'windows of 1000 samples of single-lead ECGs -> 4 rhythms. Recordings are split '
            'before they are cut, 80/10/10 % with seed 0 as in the benchmark.',
            (File('challenge2017.pkl', '150 MB', DRIVE),), open_files)
