"""FLOPs, memory and time of MoNA's meta-step in each of its forms, against a plain fine-tuning step.

Command: python benchmarks/meta_step.py [--encoders=vit/cpu,vit/tiny] [--forms=scan+remat,scan] [--rounds=3]

Whole steps, optimiser (AdamW) included, float32, target and source batch of equal size. Prints a Markdown table for
each encoder and form of the layers:

* FLOPs: XLA's count of the step with unrolled layers (a scanned layer would count once), for one CPU, before
  optimisation; with remat, what is computed again counts. Ratio to the plain step without remat. Micro-batches are
  scanned too and have no count.
* temp: `memory_analysis()` of the compiled step, temporaries alone; the ratio to the plain step and to `reverse` of
  the same form of the layers. peak: with parameters, optimiser state, batch and results.
* ms: median of `rounds` rounds, in each of which every step runs once, and its ratio to the plain step of the same
  form. --rounds=0 only compiles; mixed/8B is never run.

Forms of the layers are scan+remat, scan, unroll+remat and unroll; unrolled layers take minutes to compile. `mixed/8B`
and `mixed/B` treat B rows at a time, out of 8 B and B.
"""
from __future__ import annotations

import argparse
import functools
import statistics
import time

import jax
import numpy as np
import optax
from ml_collections import ConfigDict

from fipjax import config as config_lib
from fipjax import launch
from fipjax.algorithms import mona, transfer
from fipjax.data import labelled
from fipjax.experiments import source
from fipjax.models import encoders
from fipjax.parallel import Parallel, flops

CLASSES = 10
MANY = 8  # batches of which the accumulated form makes one
LARGE = f'mixed/{MANY}B'
# name -> meta_gradient, micro-batch in shares of the batch (0: none), batches
VARIANTS = {'plain': None, **{k: (k, 0, 1) for k in ('first_order', 'mixed', 'reverse', 'finite_difference')},
            'mixed/B': ('mixed', 1, 1), LARGE: ('mixed', 1, MANY)}


def algorithm(given, name: str, variant: str, layers: str, remat: bool):
    """The step of a variant, what it starts from as a function of nothing, and the rows of its batch."""
    family, size = name.split('/')
    encoder = encoders.build(ConfigDict({
        **config_lib.ENCODER, 'family': family, 'variant': size, 'image_size': given.image_size, 'patch': given.patch,
        'layers': layers, 'remat': remat}))
    shape = (encoder.image_size, encoder.image_size, 3)
    task = labelled.Task('2d', 'classes', shape, (), tuple(map(str, range(CLASSES))), None, '')
    network, fresh = source.network(task, encoder, 0)
    optimizer = optax.adamw(1e-4)

    def start(parts):
        inits = {**fresh, 'source_embedder': fresh['embedder']}
        return {k: inits[k](jax.random.key(i)) for i, k in enumerate(parts)}

    if VARIANTS[variant] is None:
        make = functools.partial(transfer.make, network, transfer.PARTS, optimizer)
        return make, functools.partial(start, transfer.PARTS), given.batch, shape
    form, micro, batches = VARIANTS[variant]
    rows = given.batch * batches
    make = functools.partial(mona.make, network, network.embed,
                             mona.Settings(1.0, 0.1, form, 'trained', rows, micro * given.batch), optimizer)
    return make, functools.partial(start, (*transfer.PARTS, 'source_embedder')), rows, shape


def batch_of(rows: int, shape, beside: bool) -> dict:
    """Random pictures with classes; of the source too where `beside`."""
    rng = np.random.default_rng(0)

    def draw():
        return {'x': rng.normal(size=(rows, *shape)).astype(np.float32), 'y': np.arange(rows, dtype=np.int32) % CLASSES}

    batch = {**draw(), 'mask': np.ones(rows, bool)}
    return {**batch, 'source': {**draw(), 'row': np.arange(rows, dtype=np.int32)}} if beside else batch


def build(given, name, variant, form):
    """[variant, form, FLOPs or None, memory analysis, compiled step, state, batch] of one row of the table."""
    layers, remat = form.split('+')[0], form.endswith('+remat')
    make, start, rows, shape = algorithm(given, name, variant, layers, remat)
    made, batch = make(start()), batch_of(rows, shape, variant != 'plain')
    counted = algorithm(given, name, variant, 'unroll', remat)[0](start())
    state = made.init(jax.random.key(0))
    cost = None if VARIANTS[variant] and VARIANTS[variant][1] else flops(counted.step, state, batch)
    where = Parallel('jit', jax.devices()[:1])
    state, batch = where.place_state(state), where.place_batch(batch)
    step = where.step(made.step).lower(state, batch).compile()
    return [variant, form, cost, step.memory_analysis(), step, state, batch]


def timed(runs, rounds: int) -> list[list[float]]:
    """Seconds of each step, a round after the other; the first call of each does not count."""
    rounds = rounds and rounds + 1
    seconds = [[] for _ in runs]
    for turn in range(rounds):
        for run, own in zip(runs, seconds, strict=True):
            if run[0] == LARGE:
                continue
            began = time.perf_counter()
            run[5], metrics = run[4](run[5], run[6])
            jax.block_until_ready(metrics)
            if turn:
                own.append(time.perf_counter() - began)
    return seconds


def main() -> None:
    """Prints a table for each encoder."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument('--encoders', default='vit/cpu,vit/tiny')
    arguments.add_argument('--forms', default='scan+remat,scan')
    arguments.add_argument('--variants', default=','.join(VARIANTS), help='plain must be there')
    arguments.add_argument('--batch', type=int, default=32)
    arguments.add_argument('--image_size', type=int, default=64)
    arguments.add_argument('--patch', type=int, default=8)
    arguments.add_argument('--rounds', type=int, default=3)
    given = arguments.parse_args()
    launch.prepare_jax()
    names = given.variants.split(',')
    print(f'jax {jax.__version__}, {jax.devices()[0].device_kind}, batch {given.batch} target + {given.batch} source, '
          f'pictures of {given.image_size} px, patches of {given.patch} px, '
          f'{(given.image_size // given.patch) ** 2} tokens, {given.rounds} rounds')
    for name in given.encoders.split(','):
        make, start, _, shape = algorithm(given, name, 'plain', 'unroll', False)
        plain = make(start())
        state = plain.init(jax.random.key(0))
        base = flops(plain.step, state, batch_of(given.batch, shape, False))
        size = sum(x.size for x in jax.tree.leaves(state.params))
        print(f'\n{name}, {size / 1e6:.2f} M parameters, plain step without remat {base / 1e9:.1f} GFLOP')
        for form in given.forms.split(','):
            runs = [build(given, name, variant, form) for variant in names]
            print_rows(runs, base, timed(runs, given.rounds))


def print_rows(runs, base: float, seconds) -> None:
    """The table of one form of the layers."""
    temp = {r[0]: r[3].temp_size_in_bytes for r in runs}
    print('\n| layers | step | GFLOP | x plain | temp MB | x plain | x reverse | peak MB | ms | x plain |')
    print('|---|---|---|---|---|---|---|---|---|---|')
    middle = {r[0]: statistics.median(s) for r, s in zip(runs, seconds, strict=True) if s}
    for variant, form, cost, memory, *_ in runs:
        counts = f'{cost / 1e9:.1f} | {cost / base:.2f}' if cost else '- | -'
        reverse = f'{temp[variant] / temp["reverse"]:.2f}' if 'reverse' in temp else '-'
        # The field for the peak counts no temporaries on CPU.
        peak = temp[variant] + memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
        took = middle.get(variant)
        took = f'{took * 1e3:.0f} | {took / middle["plain"]:.2f}' if took else '- | -'
        print(f'| {form} | {variant} | {counts} | {temp[variant] / 1e6:.1f} | {temp[variant] / temp["plain"]:.2f} '
              f'| {reverse} | {peak / 1e6:.1f} | {took} |', flush=True)
    if {'mixed/B', LARGE} <= set(temp):
        print(f'\nlayers {form}: temp of {LARGE} is {temp[LARGE] / temp["mixed/B"]:.2f} x that of mixed/B')


if __name__ == '__main__':
    main()
