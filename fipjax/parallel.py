"""The only file that names devices: how one pure step runs on many of them.

A step is `step(state, batch, *, psum) -> (state, metrics)`. It computes local sums and calls `psum` on gradients,
sums and counts; what it returns is the same on every device.

* mode `pmap` (default): one program a device, `psum` over the axis 'batch'. State has no device axis. With several
  processes the same per-device program runs as `jit(shard_map)`, which is what `jax.pmap` does inside, so that
  arrays stay global and can be saved.
* mode `jit`: one global program over the whole batch, sharded over its first axis; `psum` is the identity.

Both give the same numbers. Differentiate local sums, then psum the gradients: a loss that was itself reduced over
devices gives wrong gradients under pmap and raises nothing.
"""
from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from fipjax.errors import UserError

MODES = ('pmap', 'jit')
AXIS = 'batch'


def identity(tree):
    """The `psum` of a program that sees the whole batch."""
    return tree


def named_psum(tree):
    """The `psum` of a per-device program."""
    return jax.lax.psum(tree, AXIS)


class Parallel:
    """Places states and batches on devices and maps steps over them.

    Args:
      mode: 'pmap' or 'jit'.
      devices: defaults to all devices of all processes.

    Raises:
      UserError: unknown mode.
    """

    def __init__(self, mode: str, devices=None):
        if mode not in MODES:
            raise UserError(f'parallel.mode is {mode!r}; allowed: {", ".join(MODES)}')
        self.mode = mode
        self.devices = list(devices if devices is not None else jax.devices())
        self.mesh = Mesh(np.array(self.devices), (AXIS,))
        self.replicated = NamedSharding(self.mesh, P())
        self.sharded = NamedSharding(self.mesh, P(AXIS))
        self.processes = jax.process_count()
        # Kept by function, so that stages which share a step share its compiled program.
        self.step, self.eval_step, self.rows = map(functools.cache, (self._step, self._eval_step, self._rows))

    @property
    def size(self) -> int:
        """Number of devices in all processes."""
        return len(self.devices)

    @property
    def name(self) -> str:
        """For reports, e.g. 'cpu x 2'."""
        return f'{self.devices[0].device_kind} x {self.size}'

    def place_state(self, state):
        """Copies a state (host or device arrays) to every device. The result may be donated: it shares no memory."""
        return jax.tree.map(lambda x: jnp.copy(jax.device_put(x, self.replicated)), state)

    def snapshot(self, state):
        """A copy that stays when the state is donated to the next step, for saving in the background."""
        return jax.tree.map(jnp.copy, state)

    def abstract(self, state):
        """Shapes, dtypes and shardings of a state, for restoring it from a checkpoint."""
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=self.replicated), state)

    def place_batch(self, batch):
        """This process's rows [B / processes, ...] of a host batch -> the whole batch on the devices."""
        batch = {k: v for k, v in batch.items() if k != 'meta'}
        if self.mode == 'pmap' and self.processes == 1:
            return jax.tree.map(lambda x: x.reshape(self.size, -1, *x.shape[1:]), batch)
        if self.processes == 1:
            return jax.device_put(batch, self.sharded)
        return jax.tree.map(lambda x: jax.make_array_from_process_local_data(self.sharded, x), batch)

    def _step(self, fn):
        """Maps `fn(state, batch, *, psum) -> (state, metrics)`; the state passed in is donated."""
        if self.mode == 'jit':
            return jax.jit(functools.partial(fn, psum=identity), in_shardings=(self.replicated, self.sharded),
                           out_shardings=self.replicated, donate_argnums=0)
        return self._per_device(fn, donate=True)

    def _eval_step(self, fn):
        """Maps `fn(state, batch, *, psum) -> metrics`."""
        if self.mode == 'jit':
            return jax.jit(functools.partial(fn, psum=identity), in_shardings=(self.replicated, self.sharded),
                           out_shardings=self.replicated)
        return self._per_device(fn, donate=False)

    def _per_device(self, fn, donate):
        local = functools.partial(fn, psum=named_psum)
        donated = (0,) if donate else ()
        if self.processes == 1:
            return jax.pmap(local, AXIS, in_axes=(None, 0), out_axes=None, donate_argnums=donated,
                            devices=self.devices)
        mapped = jax.shard_map(local, mesh=self.mesh, in_specs=(P(), P(AXIS)), out_specs=P(), check_vma=False)
        return jax.jit(mapped, donate_argnums=donated)

    def _rows(self, fn):
        """Maps `fn(params, batch) -> [B, ...]`, independent by row, in either mode. Returns host arrays in order."""
        mapped = jax.jit(fn, in_shardings=(self.replicated, self.sharded), out_shardings=self.replicated)

        def call(params, batch):
            batch = {k: v for k, v in batch.items() if k != 'meta'}
            if self.processes == 1:
                placed = jax.device_put(batch, self.sharded)
            else:
                placed = jax.tree.map(lambda x: jax.make_array_from_process_local_data(self.sharded, x), batch)
            return jax.tree.map(np.asarray, mapped(params, placed))
        return call


def shapes(batch) -> dict:
    """Shapes and types of a batch, without what no device gets."""
    batch = {k: v for k, v in batch.items() if k != 'meta'}
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(np.shape(x), x.dtype), batch)


# Compiling takes half the time or less. The first two work on machine code, after memory has been assigned; the third
# changed memory by a ten-thousandth at most and bytes by a few thousandths.
QUICK = {'xla_backend_optimization_level': 0, 'xla_llvm_disable_expensive_passes': True,
         'xla_cpu_use_fusion_emitters': False, 'xla_cpu_parallel_codegen_split_count': 1}


@functools.cache
def quick() -> dict:
    """Those of QUICK that this version of XLA knows, for compiling for a CPU."""
    known = {}
    with jax.default_device(jax.local_devices(backend='cpu')[0]):
        for option, value in QUICK.items():
            try:
                jax.jit(lambda x: x + 1).lower(0.0).compile(compiler_options={option: value})
            except jax.errors.JaxRuntimeError:  # JAX 0.12 has no xla_cpu_use_fusion_emitters
                continue
            known[option] = value
    return known


def memory(fn, state, batch) -> int:
    """Bytes of one device of the default backend in a step, by XLA's analysis of the compiled step, which is not run.

    Args:
      fn: `fn(state, batch, *, psum)`.
      state, batch: shapes; the batch is what the one device gets.

    Returns:
      Arguments, outputs that do not take their place, and all between.
    """
    lowered = jax.jit(functools.partial(fn, psum=identity), donate_argnums=0).lower(state, batch)
    m = lowered.compile(compiler_options=quick() if jax.default_backend() == 'cpu' else None).memory_analysis()
    return m.argument_size_in_bytes + m.output_size_in_bytes + m.temp_size_in_bytes - m.alias_size_in_bytes


def flops_and_bytes(fn, state, batch) -> tuple[float, float]:
    """`flops`, and the bytes that the step reads and writes when it is compiled for one CPU device."""
    lowered = _for_cpu(fn, state, batch)
    count = float(lowered.cost_analysis()['flops'])  # first: compiling changes what was lowered
    return count, float(lowered.compile(compiler_options=quick()).cost_analysis()['bytes accessed'])


def flops(fn, state, batch) -> float:
    """FLOPs of one step on the whole batch, by XLA's cost analysis of the step lowered for one CPU device.

    Always for the CPU and before XLA's optimisation, so that the number does not depend on the hardware (other
    backends give none here, or none for library calls). Scanned bodies would count once: the models here are
    unrolled. Nothing is compiled or run.

    Args:
      fn: `fn(state, batch, *, psum)`.
      state, batch: arrays or shapes.
    """
    return float(_for_cpu(fn, state, batch).cost_analysis()['flops'])


def _for_cpu(fn, state, batch):
    given = jax.tree.map(lambda x: jax.ShapeDtypeStruct(np.shape(x), x.dtype), state), shapes(batch)
    with jax.default_device(jax.local_devices(backend='cpu')[0]):
        return jax.jit(functools.partial(fn, psum=identity)).lower(*given)
