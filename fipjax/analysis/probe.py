"""Source probe error of finished runs against steps of stage 2, for each target and method (MoNA's Figure 3).

    python -m fipjax.analysis.probe --workdir=DIR[,DIR...]

reads what the runs measured, writes probe.png and probe.json, and prints the errors.
"""
from __future__ import annotations

from collections.abc import Sequence

from absl import flags

from fipjax import launch
from fipjax.analysis import knowledge, knowledge_pictures, table

COMMAND = 'fipjax.analysis.probe'


def write(workdirs: Sequence[str], out: str | None = None) -> str:
    """Writes probe.png and probe.json of all runs; returns a table for people and the paths of the files.

    Args:
      workdirs: of runs and comparisons.
      out: folder, the one workdir if None.

    Raises:
      UserError: no finished run of wing 'mona'.
    """
    points = knowledge.points(knowledge.find(workdirs, COMMAND))
    folder = knowledge.folder(workdirs, out)
    picture = knowledge_pictures.probe_curves(points, baseline=knowledge.baseline(workdirs))
    files = knowledge.keep(folder, 'probe', picture, {'runs': [knowledge.numbers(p) for p in points]})
    percent = lambda value: '-' if value is None else f'{100 * value:.1f}'  # noqa: E731
    rows = [('variant', (p.group, str(p.seed), p.target, knowledge.count(p.labels), percent(p.before),
                         ', '.join(f'{step}: {percent(error)}' for step, error in p.curve))) for p in points]
    header = ('run', 'seed', 'target', 'labels', 'source encoder before (%)', 'step: source probe error (%)')
    return table.markdown(table.Grid(header, rows, tuple(('file', str(f)) for f in files), ()))


def command_line() -> None:
    """The command `python -m fipjax.analysis.probe`; exit code 2 for wrong input."""
    flags.DEFINE_list('workdir', [], 'Workdir of a finished run or of a comparison; several with commas.')
    flags.DEFINE_string('out', None, 'Folder for the picture and the numbers; default: the workdir.')
    launch.start(lambda _: print(write(flags.FLAGS.workdir, flags.FLAGS.out)))


if __name__ == '__main__':
    command_line()
