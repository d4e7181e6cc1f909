"""Milliseconds of a pretraining step, and the share of it that the host needs for data and dispatch.

Command: python benchmarks/step.py [--config=configs/fip/constellation.py] [--variants=uniform,fip] [--rounds=5]
     or: python benchmarks/step.py --variants=uniform,cosine,dot,meta,ablation   (what estimated weights cost)

The variants' steps are timed in turn, `rounds` times K steps each, in one process, and compared as ratios of medians
to the first variant. K is pretrain.fip.downstream.every, so that K steps of a variant with estimated weights hold one
estimate, `bound` is the ratio 1 + (M + 1) / K that it must not exceed, and the FLOP ratio is over K steps, too. `host`
is the time of next(batches) and of placing the batch, timed on its own.
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


def main() -> None:
    """Prints one row a variant."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument('--config', default='configs/fip/constellation.py')
    arguments.add_argument('--variants', default='uniform,fip')
    arguments.add_argument('--rounds', type=int, default=5)
    arguments.add_argument('--path', default='', help='data.path, for configs that need a file')
    given = arguments.parse_args()
    launch.prepare_jax()
    names, runs, bounds = given.variants.split(','), [], []
    for name in names:
        c = config_lib.load(given.config, name, [('data.pretrain_examples', '2000'), ('data.train_examples', '100'),
                                                 ('data.validation_examples', '100'), ('data.test_examples', '100'),
                                                 *([('data.path', given.path)] if given.path else [])])
        splits, devices = sources.build(c.data, progress=False), parallel.Parallel(c.parallel.mode)
        labelled = fip.labelled_examples(c, splits, devices.size)
        parts = fip.pretraining(c, fip.data_statistics(splits.pretrain), labelled)
        source = sources.Subset(splits.pretrain, np.arange(len(splits.pretrain)), tuple(parts.modalities))
        batches = pipeline.training(source, c.pretrain.batch_size, 0, threads=c.data.threads,
                                    beside=labelled and labelled.beside)
        every, cost = c.pretrain.fip.downstream.every, fip.pretraining_flops(c)
        if c.pretrain.fip.weights == 'estimated':
            cost += fip.estimate_flops(parts, next(batches), cost) / every
            bounds.append(1 + (len(parts.modalities) + 1) / every)
        else:
            bounds.append(None)
        state = devices.place_state(parts.algorithm.init(jax.random.key(0)))
        step = devices.step(parts.algorithm.step)
        state, _ = jax.block_until_ready(step(state, devices.place_batch(next(batches))))
        runs.append([step, state, batches, devices, [], [], cost])
    for _ in range(given.rounds):
        for run in runs:
            step, state, batches, devices, total, host, _ = run
            began, waited = time.perf_counter(), 0.0
            for _ in range(every):
                entered = time.perf_counter()
                batch = devices.place_batch(next(batches))
                waited += time.perf_counter() - entered
                state, metrics = step(state, batch)
                jax.block_until_ready(metrics)
            run[1] = state
            total.append((time.perf_counter() - began) / every)
            host.append(waited / every)
    first = statistics.median(runs[0][4])
    print(f'{"variant":18} {"ms/step":>8} {"min..max":>13} {"ratio":>6} {"GFLOP":>6} {"FLOP ratio":>10} {"bound":>6} '
          f'{"host":>6}')
    for name, bound, (_, _, _, _, total, host, cost) in zip(names, bounds, runs, strict=True):
        middle = statistics.median(total)
        spread = f'{min(total) * 1e3:.1f}..{max(total) * 1e3:.1f}'
        print(f'{name:18} {middle * 1e3:8.1f} {spread:>13} {middle / first:6.2f} {cost / 1e9:6.2f} '
              f'{cost / runs[0][6]:10.3f} {f"{bound:.2f}" if bound else "-":>6} '
              f'{statistics.median(host) / middle:6.1%}')


if __name__ == '__main__':
    main()
