"""Rate of the constellation generator, against the loop form of the public one.

Command:  python benchmarks/generator.py [--repeats 5] [--examples 520] [--seed 0]

Both sides run in this process on the same points of the same examples, turn about, and the table gives
medians over the repeats.
 * 224 x 224, rendering only: `denomae.render_loop` against `denomae.render`, over all ten classes of the
   public generator at -10 to 10 dB, one picture of every class; then the same without GMSK, whose frames are
   eight times longer.
 * 64 x 64 and 224 x 224, whole chain of the standard mode: random words, modulation, channel, noise,
   receiver, rendering and conversion to float. An example is two pictures, noisy input and clean target, so
   the rate in pictures is twice the rate in examples.
"""
from __future__ import annotations

import argparse
import os
import platform
import time

import numpy as np

from fipjax.data import constellation, denomae, signals
from fipjax.modality import Modality


def seconds(function, *args) -> float:
    start = time.perf_counter()
    function(*args)
    return time.perf_counter() - start


def loop_against_fft(seed: int, repeats: int) -> list[str]:
    signal = constellation.Signal(mode='denomae')
    classes = len(signal.classes)
    gmsk = signal.classes.index('GMSK')
    slow, fast, slow_short, fast_short = [], [], [], []
    for repeat in range(repeats + 1):
        batch = constellation.generate(signal, seed, np.arange(repeat * classes, (repeat + 1) * classes))
        points, length = batch['noisy'], batch['length']
        short = np.flatnonzero(np.arange(classes) != gmsk)
        if repeat == 0:  # caches of kernels and plans
            denomae.render(points, length)
            continue
        loop = [seconds(denomae.render_loop, points[row, :length[row]]) for row in range(classes)]
        slow.append(sum(loop) / classes)
        fast.append(seconds(denomae.render, points, length) / classes)
        slow_short.append(sum(loop[row] for row in short) / len(short))
        fast_short.append(seconds(denomae.render, points[short], length[short]) / len(short))
    lines = []
    for name, a, b in (('all classes', slow, fast), ('without GMSK', slow_short, fast_short)):
        ratio = np.array(a) / np.array(b)
        lines.append(f'{"224x224, " + name:38s} {1e3 * np.median(a):9.1f} {1e3 * np.median(b):9.2f} '
                     f'{np.median(ratio):8.1f}   ({ratio.min():.1f} to {ratio.max():.1f})')
    return lines


def chain(size: int, names: tuple[str, ...], examples: int, seed: int, repeats: int) -> str:
    signal = constellation.Signal()
    shapes = {'image': ('image', (size, size, 3)), 'iq': ('sequence', (signal.samples, 2)),
              'spectrogram': ('image', (64, 64, 1))}
    modalities = {name: Modality(name, *shapes[name]) for name in names}
    source = constellation.Source(signal, modalities, examples * (repeats + 1), seed, 'train')
    rates = []
    for repeat in range(repeats + 1):
        rows = np.arange(repeat * examples, (repeat + 1) * examples)
        parts = np.array_split(rows, 4)
        rates.append(examples / sum(seconds(source.take, part) for part in parts))
    rates = np.array(rates[1:])
    name, median = f'{size}x{size}, ' + ' + '.join(names), np.median(rates)
    return (f'{name:38s} {median:9.0f} {2 * median:9.0f}'
            f'            ({rates.min():.0f} to {rates.max():.0f} examples/s)')


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--repeats', type=int, default=5, help='timed repeats (one more warms up)')
    parser.add_argument('--examples', type=int, default=520, help='examples a repeat at 64 x 64')
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    print(f'{platform.machine()}, {os.cpu_count()} cores, {signals.WORKERS} threads, numpy {np.__version__}, '
          f'{args.repeats} repeats')
    print(f'{"rendering of one picture":38s} {"loop ms":>9s} {"ours ms":>9s} {"ratio":>8s}   (range)')
    print('\n'.join(loop_against_fft(args.seed, args.repeats)))
    print(f'{"whole chain, standard mode":38s} {"examples/s":>9s} {"images/s":>8s}            (range)')
    every = ('image', 'iq', 'spectrogram')
    print(chain(64, ('image',), args.examples, args.seed, args.repeats))
    print(chain(64, every, args.examples, args.seed, args.repeats))
    print(chain(224, ('image',), max(8, args.examples // 10), args.seed, args.repeats))


if __name__ == '__main__':
    main()
