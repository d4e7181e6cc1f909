"""Writes the arrays of configs/mona/study.py and configs/fip/lis_emg_imu.py, in the form of any user's own arrays.

    python benchmarks/study_arrays.py --cifar10=cifar10.npz --fsdd=fsdd.npz --lis=lis.npz --darcy=darcy16.npz --out=DIR

Each input is an .npz of the public data set:
  cifar10  jpeg uint8 (all files one after the other), length [n], label [n], test bool [n], classes
           (CIFAR-10; ours were 1,000 training and 200 test pictures a class, as JPEG)
  fsdd     audio int16 (all recordings one after the other), length [n], label [n], speaker [n], index [n]
           (github.com/Jakobovski/free-spoken-digit-dataset, CC-BY-SA 4.0; its test split is index 0 to 4)
  lis      emg int8 [n, 400, 8], imu float32 [n, 400, 10], label [n], timestamp [n] as day/month/year/hour:minute:second
           (doi 10.1016/j.dib.2020.106455)
  darcy    x_train, y_train, x_test, y_test [n, 16, 16] (the small Darcy flow set of the neuraloperator package, MIT)
"""
import argparse
import datetime
import io
import pathlib

import numpy as np
from PIL import Image

SITTING = 7 * 24 * 3600  # seconds; what is later than the first recording by more is of another sitting
SAMPLES = 4096  # of each recording, at 8 kHz; longer ones are cut


def cifar10(d):
    """Pictures [n, 3, 32, 32] uint8."""
    ends = np.cumsum(d['length'])
    pictures = [np.asarray(Image.open(io.BytesIO(d['jpeg'][end - n:end].tobytes())))
                for end, n in zip(ends, d['length'], strict=True)]
    return {'x': np.stack(pictures).transpose(0, 3, 1, 2), 'y': d['classes'][d['label']],
            'split': np.where(d['test'], 'test', 'train')}


def fsdd(d):
    """Audio [n, 4096] float32 in [-1, 1], zero after the end; groups are speakers."""
    ends, x = np.cumsum(d['length']), np.zeros((len(d['length']), SAMPLES), np.float32)
    length = np.minimum(d['length'], SAMPLES)
    for row, (end, whole, n) in enumerate(zip(ends, d['length'], length, strict=True)):
        x[row, :n] = d['audio'][end - whole:end - whole + n] / 32768
    return {'x': x, 'y': d['label'].astype(np.int32), 'length': length, 'group': d['speaker'],
            'split': np.where(d['index'] < 5, 'test', 'train')}


def lis(d):
    """EMG [n, 8, 400]. No groups: of the three days two have a part of the letters only."""
    return {'x': d['emg'].transpose(0, 2, 1), 'y': d['label'].astype(np.int32)}


def lis_rectified(d):
    """As lis, of absolute values."""
    given = lis(d)
    return {**given, 'x': np.abs(given['x'].astype(np.float32))}


def lis_emg_imu(d):
    """Envelopes of EMG [n, 80, 8] (mean absolute value of 5 samples) and means of IMU [n, 80, 10], with splits by time.

    All recordings of a letter are seconds apart, but for three of a later sitting: those are the test split. Of the
    others the last seven are validation.
    """
    n, time = len(d['label']), np.array([datetime.datetime.strptime(str(t), '%d/%m/%y/%H:%M:%S').timestamp()
                                         for t in d['timestamp']])
    emg, imu = (x.astype(np.float32).reshape(n, 80, 5, -1).mean(2) for x in (np.abs(d['emg'].astype(int)), d['imu']))
    later = time > time.min() + SITTING
    split = np.where(later, 'test', 'train').astype('U10')
    for k in np.unique(d['label']):
        mine = np.flatnonzero((d['label'] == k) & ~later)
        split[mine[np.argsort(time[mine])[-7:]]] = 'validation'
    return {'emg': emg, 'imu': imu, 'label': d['label'].astype(np.int32), 'split': split}


def darcy(d):
    """Coefficient [n, 16, 16] to solution [n, 16, 16]."""
    return {'x': np.concatenate([d['x_train'], d['x_test']]).astype(np.float32),
            'y': np.concatenate([d['y_train'], d['y_test']]),
            'split': np.array(['train'] * len(d['x_train']) + ['test'] * len(d['x_test']))}


def main() -> None:
    """Writes DIR/NAME.npz for each input that is given."""
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ('cifar10', 'fsdd', 'lis', 'darcy'):
        given.add_argument(f'--{name}')
    given.add_argument('--out', required=True)
    given = given.parse_args()
    out = pathlib.Path(given.out)
    out.mkdir(parents=True, exist_ok=True)
    for convert in (cifar10, fsdd, lis, lis_rectified, lis_emg_imu, darcy):
        path = getattr(given, convert.__name__.split('_')[0])
        if path:
            with np.load(path, allow_pickle=False) as f:
                fields = convert(dict(f))
            np.savez_compressed(out / f'{convert.__name__}.npz', **fields)
            print(out / f'{convert.__name__}.npz', {k: (v.shape, str(v.dtype)) for k, v in fields.items()})


if __name__ == '__main__':
    main()
