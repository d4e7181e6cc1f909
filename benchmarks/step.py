"""Milliseconds of a pretraining step, and the share of it that the host needs for data and dispatch.

Command: python benchmarks/step.py [--config=configs/fip/constellation.py] [--variants=uniform,fip] [--rounds=5]

The variants' steps are timed in turn, `rounds` times 20 steps each, in one process, and compared as ratios of medians
to the first variant. `host` is the time of next(batches) and of placing the batch, timed on its own.
"""
from __future__ import annotations

import argparse
import statistics
import time

import jax
import numpy as np

from fipjax import config as config_lib
from fipjax import launch, parallel
from fipjax.data import pipeline, sources
from fipjax.experiments import fip

STEPS = 20


def main() -> None:
    """Prints one row a variant."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument('--config', default='configs/fip/constellation.py')
    arguments.add_argument('--variants', default='uniform,fip')
    arguments.add_argument('--rounds', type=int, default=5)
    given = arguments.parse_args()
    launch.prepare_jax()
    names, runs = given.variants.split(','), []
    for name in names:
        c = config_lib.load(given.config, name, [('data.pretrain_examples', '2000'), ('data.train_examples', '100'),
                                                 ('data.validation_examples', '100'), ('data.test_examples', '100')])
        parts, devices = fip.pretraining(c), parallel.Parallel(c.parallel.mode)
        source = sources.build(c.data, progress=False).pretrain
        source = sources.Subset(source, np.arange(len(source)), tuple(parts.modalities))
        batches = pipeline.training(source, c.pretrain.batch_size, 0, threads=c.data.threads)
        state = devices.place_state(parts.algorithm.init(jax.random.key(0)))
        step = devices.step(parts.algorithm.step)
        state, _ = jax.block_until_ready(step(state, devices.place_batch(next(batches))))
        runs.append([step, state, batches, devices, [], [], fip.pretraining_flops(c)])
    for _ in range(given.rounds):
        for run in runs:
            step, state, batches, devices, total, host, _ = run
            began, waited = time.perf_counter(), 0.0
            for _ in range(STEPS):
                entered = time.perf_counter()
                batch = devices.place_batch(next(batches))
                waited += time.perf_counter() - entered
                state, metrics = step(state, batch)
                jax.block_until_ready(metrics)
            run[1] = state
            total.append((time.perf_counter() - began) / STEPS)
            host.append(waited / STEPS)
    first = statistics.median(runs[0][4])
    print(f'{"variant":18} {"ms/step":>8} {"min..max":>13} {"ratio":>6} {"GFLOP":>6} {"FLOP ratio":>10} {"host":>6}')
    for name, (_, _, _, _, total, host, cost) in zip(names, runs, strict=True):
        middle = statistics.median(total)
        spread = f'{min(total) * 1e3:.1f}..{max(total) * 1e3:.1f}'
        print(f'{name:18} {middle * 1e3:8.1f} {spread:>13} {middle / first:6.2f} {cost / 1e9:6.2f} '
              f'{cost / runs[0][6]:10.2f} {statistics.median(host) / middle:6.1%}')


if __name__ == '__main__':
    main()
