"""Regenerates a task of PDEBench in its HDF5 layout.

    python -m fipjax.data.pde --task=burgers --n=1000 --out=1D_Burgers_Sols_Nu1.0.hdf5
    python -m fipjax.data.pde --task=burgers --n=1000 --out=nu.hdf5 --parameter=nu=0.01 --resolution=1024

Example i depends on the task, --seed, --resolution, --parameter and i only. A command that was stopped or killed goes
on where it was when it is given again. A file that is there is not overwritten. The columns below are the default
points a side, those of PDEBench's file, its examples, its size, and minutes for 100 examples at the default and at
PDEBench's points on two busy CPU cores (roughly; an accelerator that JAX finds is used). Solvers compute in float64,
which TPUs are not made for: there, set JAX_PLATFORMS=cpu.
"""
from __future__ import annotations

from absl import flags

from fipjax import launch
from fipjax.data.pde import tasks, write
from fipjax.errors import UserError


def table() -> str:
    """The tasks, two lines each, for people."""
    lines = [f'{"task":22s} {"points":>6s} {"official":>8s} {"examples":>8s} {"GB":>5s} {"min":>6s} {"min":>6s}  file']
    for task in tasks.TASKS.values():
        parameters = ', '.join(f'{k}={v:g}' for k, v in task.parameters.items())
        lines += [f'{task.name:22s} {task.resolution:6d} {task.official:8d} {task.examples:8d} {task.gigabytes:5.1f} '
                  f'{task.seconds / 60:6.1f} {task.official_seconds / 60:6.1f}  {task.file_name(task.parameters)}',
                  f'    {task.equation}', f'    {parameters}']
    return '\n'.join(lines)


def command(overrides: list[tuple[str, str]]) -> None:
    """Writes the file and prints its name."""
    given = flags.FLAGS
    if overrides:
        raise UserError(f'--config.{overrides[0][0]}: this command has no config; see --help')
    task = tasks.find(given.task)
    for name in ('n', 'out'):
        if getattr(given, name) is None:
            raise UserError(f'--{name} is missing; e.g. --n=1000 --out={task.file_name(task.parameters)}')
    parameters = tasks.parameters_of(task, given.parameter)
    print(write.write(task, given.n, given.out, given.seed, given.resolution, parameters))


def command_line() -> None:
    """The command `python -m fipjax.data.pde`; exit code 2 for wrong input."""
    flags.DEFINE_string('task', None, f'One of {", ".join(tasks.TASKS)}.')
    flags.DEFINE_integer('n', None, 'Number of examples.')
    flags.DEFINE_string('out', None, 'HDF5 file to write; not there yet. OUT.parts beside it keeps what is done.')
    flags.DEFINE_integer('seed', 0, 'Which examples: example i is keyed by (seed, i).')
    flags.DEFINE_integer('resolution', None, "Points a side, a power of 2; by default the task's.")
    flags.DEFINE_multi_string('parameter', [], 'NAME=NUMBER, a parameter of the equation; as often as needed.')
    launch.start(command)


__doc__ = f'{__doc__}\n{table()}\n'  # absl shows it above the flags

if __name__ == '__main__':
    command_line()
