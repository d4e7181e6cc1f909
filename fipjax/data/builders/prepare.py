"""Prepares a benchmark task from its published files, once, as a TFDS data set of array_record files.

  python -m fipjax.data.builders.prepare --task=nas_bench_360/ninapro --manual_dir=downloads --data_dir=data

Without --manual_dir it says which files the task needs, how large they are and where they come from. The same command
goes on where a killed one stopped; a second time it finds the data set there. It prints the options that read it.
"""
from __future__ import annotations

import difflib
import signal

from fipjax.data.builders import prepared
from fipjax.errors import Interrupted, UserError


def main(overrides: list[tuple[str, str]]) -> int:
    """Prepares --task from --manual_dir under --data_dir; prints the folder and the options that read it.

    Raises:
      UserError: unknown task, a missing flag (with what the task needs), what `prepared.prepare` says.
      Interrupted: SIGTERM; finished files are kept.
    """
    from absl import flags
    given, tasks = flags.FLAGS, prepared.tasks()
    if overrides:
        raise UserError(f'--config.{overrides[0][0]}: this command has no config; its options: --task, --manual_dir, '
                        '--data_dir')
    if given.task not in tasks:
        near = difflib.get_close_matches(given.task or '', tasks, 1)
        raise UserError(f'--task is {given.task!r}{f", did you mean {near[0]}?" if near else ""}; allowed: '
                        f'{", ".join(sorted(tasks))}')
    task = tasks[given.task]
    for name in ('manual_dir', 'data_dir'):
        if not given[name].value:
            raise UserError(f'--{name} is missing\n{prepared.instructions(task)}')
    signal.signal(signal.SIGTERM, _stop)
    folder = prepared.prepare(task, given.manual_dir, given.data_dir)
    print(f'prepared {folder}\nuse it with {prepared.use(task, given.data_dir)}')
    for line in prepared.remarks(folder):
        print(f'note: {line}')
    return 0


def _stop(*_):
    raise Interrupted('stopped by SIGTERM; finished files are kept and the same command goes on')


def help_text() -> str:
    """This module's docstring and what each task needs."""
    tasks = prepared.tasks()
    return '\n'.join((__doc__, 'Tasks:', *(f'\n{prepared.instructions(tasks[name])}' for name in sorted(tasks))))


if __name__ == '__main__':
    from absl import flags

    from fipjax import launch
    flags.DEFINE_string('task', None, 'Which task, FAMILY/TASK.')
    flags.DEFINE_string('manual_dir', None, 'Folder with the published files of the task.')
    flags.DEFINE_string('data_dir', None, 'Folder for prepared data sets.')
    __doc__ = help_text()
    launch.start(main)
