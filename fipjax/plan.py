"""What a config would cost, before anything is run: `python -m fipjax.main --config=FILE --config.plan=True`.

Parameters, FLOPs and bytes of a step, memory of a device, steps of an epoch, for every stage of training, out of XLA's
own analysis of the steps that a run would make, by the same functions. Where the data are generated, or their group
`expected` says what they have, nothing is read; else they are.

The memory of a step is compiled for the whole batch and for the smallest share of it. What a program holds at each
point grows with the batch along a line, so shares between are taken from the line through the two: within an eighth in
trials, since the compiler may decide otherwise for another size. A batch that is advised was compiled.
"""
from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import jax
import optax
from ml_collections import ConfigDict

from fipjax import parallel, train, validation
from fipjax.experiments.base import Planned, size
from fipjax.overrides import get, keys

DEVICES = (1, 8, 64, 256)
GIB = 2 ** 30
MODULES = {'fip': 'plan_fip', 'mona': 'plan_transfer', 'vlp': 'plan_vlp', 'caption': 'plan_caption'}


class Memory(NamedTuple):
    """Bytes of one device; `compiled` if XLA said so for this very share of the batch, else from the line."""

    bytes: float
    compiled: bool


class Cost(NamedTuple):
    """What a stage costs.

    Attributes:
      planned: the stage.
      parameters: {part: numbers}; `trained`: of these, those that the optimiser changes.
      flops: of a step, as a run counts them; None where they cannot be counted.
      accessed: bytes read and written in a step, compiled for a CPU as `flops` are counted; None as `flops`.
      state: bytes of parameters and optimiser.
      memory: devices -> Memory; None where the devices cannot share the batch.
      fits: rows of the largest batch that fits, where the whole one does not (0: none); None where it does.
    """

    planned: Planned
    parameters: dict[str, int]
    trained: int
    flops: float | None
    accessed: float | None
    state: int
    memory: dict[int, Memory | None]
    fits: int | None


def stages(config: ConfigDict, progress: bool = False) -> list[Planned]:
    """The stages that a checked config would run."""
    module = importlib.import_module(f'fipjax.experiments.{MODULES[config.wing]}')  # each wing brings its own models
    return module.Plan(config, progress).planned()


def costs(config: ConfigDict, say: Callable[[str], None] = lambda words: None) -> list[Cost]:
    """The cost of every stage of a config; nothing is run.

    Args:
      config: see fipjax.config; validated here.
      say: gets what is done now.

    Raises:
      UserError: bad config, data that are neither there nor expected.
    """
    validation.validate(config)
    say('plan: building the stages')
    found = stages(config)
    batches = [parallel.shapes(train.first_batch(p.stage)) for p in found]
    alike = [(p.stage.algorithm.step, str(batch)) for p, batch in zip(found, batches, strict=True)]
    first = {}
    for key, *given in zip(alike, found, batches, strict=True):
        first.setdefault(key, given)
    # XLA compiles a program on one core, most of the time; the programs that take longest go first.
    with _rarely_collected(), ThreadPoolExecutor(os.cpu_count()) as pool:
        counts = {key: pool.submit(_count, planned, batch, say) for key, (planned, batch) in first.items()}
        memory = {key: functools.cache(functools.partial(_memory, planned, batch, say))
                  for key, (planned, batch) in first.items()}
        sizes = {key: _sure_sizes(config, planned) for key, (planned, _) in first.items()}
        for job in [pool.submit(memory[key], n) for key in first for n in sizes[key]]:
            job.result()
        made = {key: _cost(config, planned, *counts[key].result(), memory[key], min(sizes[key]))
                for key, (planned, _) in first.items()}
    return [made[key]._replace(planned=planned) for key, planned in zip(alike, found, strict=True)]


@contextlib.contextmanager
def _rarely_collected():
    """Leaves garbage lie: what tracing makes is rarely any, and looking for it takes a quarter of the time."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


def _count(planned: Planned, batch, say):
    """FLOPs and bytes of a step, both None where they cannot be counted."""
    if planned.counted is None:
        return None, None
    say(f'plan: {planned.stage.name}: counting FLOPs and bytes')
    whole = jax.eval_shape(planned.counted.init, jax.random.key(0))
    return parallel.flops_and_bytes(planned.counted.step, whole, batch)


def _memory(planned: Planned, batch, say, part: int) -> int:
    """Bytes of a device that gets `part` rows of the batch."""
    stage = planned.stage
    say(f'plan: {stage.name}: compiling for {part} of {stage.batch_size} rows')
    state = jax.eval_shape(stage.algorithm.init, jax.random.key(0))
    return parallel.memory(stage.algorithm.step, state, scaled(batch, part, stage.batch_size))


def _sure_sizes(config, planned: Planned) -> list[int]:
    """Rows that are compiled whatever comes out: all, and the smallest share of a device."""
    rows = planned.stage.batch_size
    return list(dict.fromkeys([rows, -(-rows // [n for n in DEVICES if _shares(config, planned.keys, n)][-1])]))


def _cost(config, planned: Planned, flops, accessed, memory: Callable[[int], int], least: int) -> Cost:
    rows, state = planned.stage.batch_size, jax.eval_shape(planned.stage.algorithm.init, jax.random.key(0))
    devices = [n for n in DEVICES if _shares(config, planned.keys, n)]
    limit = config.device_memory * GIB
    if least == rows and memory(rows) > limit:
        least = max(1, _unit(config, planned.keys))
    line = _line({n: memory(n) for n in (least, rows)})
    found = {n: Memory(line(-(-rows // n)), -(-rows // n) in (least, rows)) if n in devices else None for n in DEVICES}
    return Cost(planned, {k: size(v) for k, v in state.params.items()}, size(optax.tree.get(state.opt_state, 'mu')),
                flops, accessed, sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state)), found,
                _fits(memory, line, rows, limit, _unit(config, planned.keys)) if memory(rows) > limit else None)


def scaled(batch, part: int, rows: int):
    """Shapes of a batch of `part` rows of `rows`; what it brings along shrinks with it."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct((-(-x.shape[0] * part // rows), *x.shape[1:]), x.dtype), batch)


def _line(known):
    """The straight line through {rows: bytes} of one or two sizes."""
    (a, low), (b, high) = min(known.items()), max(known.items())
    return lambda rows: low + (high - low) * (rows - a) / max(b - a, 1)


def _micro(config, batch_keys) -> list[str]:
    """The key of the rows that a device takes at a time, if there is one: beside the last of those of the batch sizes.

    Of stage 1 of MoNA that is mona.micro_batch; transfer.stage_1.micro_batch is of the other method that has one.
    """
    groups = [key.rpartition('.')[0] for key in batch_keys[-1:]]
    return [f'{group}.micro_batch' for group in groups if 'micro_batch' in get(config, group)]


def _unit(config, batch_keys) -> int:
    """Rows that a device takes at a time, 1 for any number."""
    return max((get(config, key) for key in _micro(config, batch_keys)), default=0) or 1


def _shares(config, batch_keys, devices) -> bool:
    unit = _unit(config, batch_keys) * devices
    return all(get(config, key) % unit == 0 for key in batch_keys)


def _fits(memory, line, rows, limit, unit) -> int:
    """Rows of the largest batch below `rows`, a power of two times `unit`, that fits when it is compiled."""
    smaller = [unit << i for i in range(40) if unit << i < rows]
    if not smaller:
        return 0
    i = max([k for k, n in enumerate(smaller) if line(n) <= limit], default=0)
    if memory(smaller[i]) > limit:
        return next((n for n in smaller[:i][::-1] if memory(n) <= limit), 0)
    while i + 1 < len(smaller) and memory(smaller[i + 1]) <= limit:
        i += 1
    return smaller[i]


# --- The report -------------------------------------------------------------------------------------------------------

def report(config: ConfigDict, found: list[Cost]) -> str:
    """The plan in Markdown."""
    device = jax.devices()[0]
    lines = [f'# Plan: {config.name}', '',
             f'Nothing was trained. XLA\'s analysis of each step, compiled for one device of the backend '
             f'{jax.default_backend()} ({device.device_kind}). Other backends arrange a program otherwise: parameters, '
             'state and FLOPs stay, temporary memory and bytes differ there (FLOPs and bytes are always counted for a '
             'CPU).', '']
    if config.compare.vary:
        lines += [f'The config names a comparison over {config.compare.vary}; this is the plan of one run as the '
                  'config has it.', '']
    lines += _table(('stage', 'steps', 'batch', 'steps an epoch', 'parameters', 'trained', 'FLOPs a step',
                     'bytes a step'), [_row(c) for c in found])
    total = sum((c.flops or 0) * c.planned.stage.steps * c.planned.times for c in found)
    lines += ['', f'All steps together: {total:.4g} FLOPs. FLOPs and bytes are those of layers that keep what they '
              'compute: what remat computes again is not counted.', '',
              'Memory of a device in GiB, where so many devices share the batch and each holds the whole state; with ~ '
              'from the straight line through the two sizes that were compiled, else compiled:', '']
    lines += _table(('stage', *(f'{n} device{"s" * (n > 1)}' for n in DEVICES), 'of it state'), [
        (c.planned.stage.name, *map(_gib, c.memory.values()), f'{c.state / GIB:.3g}') for c in found])
    lines += ['', 'Not in these numbers: a second copy of the state while a checkpoint is saved, batches that wait for '
              f'their step, evaluation (forward only, eval_batch_size={config.eval_batch_size} rows).', '']
    return '\n'.join(lines + _notes(config, found))


def _row(cost):
    stage, known = cost.planned.stage, cost.planned.known
    steps = f'{stage.steps}' + (f' x {cost.planned.times}' if cost.planned.times > 1 else '')
    epoch = f'{len(stage.train) / stage.batch_size:.4g}' if known else 'not known'
    if getattr(stage.train, 'in_order', False):
        epoch = '1'  # fipjax.data.by_class: a batch is an epoch
    number = lambda x: 'not counted' if x is None else f'{x:.4g}'  # noqa: E731
    return (stage.name, steps, stage.batch_size, epoch, f'{sum(cost.parameters.values()):,}', f'{cost.trained:,}',
            number(cost.flops), number(cost.accessed))


def _gib(memory):
    return '-' if memory is None else f'{"" if memory.compiled else "~"}{memory.bytes / GIB:.3g}'


def _table(head, rows):
    return [f'| {" | ".join(map(str, row))} |' for row in (head, ('---',) * len(head), *rows)]


def _notes(config, found):
    """What to know and to do, a line each."""
    lines = []
    for c in found:
        name, rows = c.planned.stage.name, c.planned.stage.batch_size
        lines += [f'- {name}: {note}.' for note in c.planned.notes]
        none = [str(n) for n, memory in c.memory.items() if memory is None]
        if none:
            sizes = _sizes(config, c.planned, rows)
            lines.append(f'- {name}: {sizes} cannot be shared by {" or ".join(none)} devices.')
        if c.fits is not None:
            lines += _too_large(config, c)
    if all(c.fits is None for c in found):
        lines.append(f'- Every stage fits in device_memory={config.device_memory:g} GiB.')
    return lines


def _too_large(config, cost):
    planned, rows = cost.planned, cost.planned.stage.batch_size
    lines = [f'- {planned.stage.name} does not fit: with {_sizes(config, planned, rows)} it needs '
             f'{cost.memory[1].bytes / GIB:.3g} GiB of one device, and device_memory is {config.device_memory:g} GiB.']
    lines.append(f'  - It fits with {_sizes(config, planned, cost.fits)}.' if cost.fits else
                 '  - No smaller batch fits.')
    many = [n for n, m in cost.memory.items() if m and m.bytes <= config.device_memory * GIB]
    if many:
        lines.append(f'  - It fits on {many[0]} devices, {cost.memory[many[0]].bytes / GIB:.3g} GiB each.')
    micro = _micro(config, planned.keys)
    off = [k for k in keys(config) if k.endswith('.remat') and not get(config, k)]
    if micro:
        lines.append(f'  - Rows at a time, the same step in less memory: {", ".join(micro)}.')
    if off:
        lines.append(f'  - Activations computed again instead of kept: {", ".join(f"{k}=True" for k in off)}.')
    return lines


def _sizes(config, planned, rows):
    """'transfer.stage_1.batch_size=16, mona.source_batch=32': the keys of a batch of so many rows."""
    whole = planned.stage.batch_size
    return ', '.join(f'{key}={-(-get(config, key) * rows // whole)}' for key in planned.keys) or f'a batch of {rows}'
