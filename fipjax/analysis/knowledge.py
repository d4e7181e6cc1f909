"""What runs of the wing 'mona' say of source knowledge, as numbers by run: probe errors against steps, D, distortion.

The commands `python -m fipjax.analysis.discrepancy`, `.probe` and `.tsne` share how they find runs and keep results.
"""
from __future__ import annotations

import base64
import json
import os
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fipjax.analysis import runs
from fipjax.analysis.runs import Run
from fipjax.errors import UserError
from fipjax.writer import write_json

PROBE, DISCREPANCY = 'source/probe_error', 'source/discrepancy'
# Methods whose encoder starts as the source model's and is trained: only they can distort what it knows.
DISTORTING = ('finetune', 'embedder', 'orca', 'mona')


class Point(NamedTuple):
    """One run with one number of labels.

    Attributes:
      target: name of the target.
      group: the method, or the run's label where runs of one method differ in something else.
      method: of the run.
      labels: labels a class, 0 for all.
      seed: of the run.
      curve: ((step, probe error), ...) of stage 2.
      before: probe error of the source encoder, None where it was not measured.
      after: probe error at the end of stage 2, None where it was not measured.
      discrepancy: D, None where it was not measured.
      distance: the one that D is made of.
      workdir: of the run.
    """

    target: str
    group: str
    method: str
    labels: int
    seed: int
    curve: tuple[tuple[int, float], ...]
    before: float | None
    after: float | None
    discrepancy: float | None
    distance: str
    workdir: str

    @property
    def where(self) -> str:
        """Target and number of labels, for people."""
        return f'{self.target}, {count(self.labels)}'


def count(labels: int) -> str:
    """'5 labels a class', 'all labels'."""
    return {0: 'all labels', 1: '1 label a class'}.get(labels, f'{labels} labels a class')


def targets(found: Sequence[Run]) -> list[str]:
    """A name of each run's target: of its data; of its config's variant where equal names would mean other settings."""
    settings = [run.config.get('target') or {} for run in found]
    names = [(str(s.get('name') or '') or pathlib.Path(str(s.get('path') or '')).stem or 'target')
             + (' (spectrogram)' if s.get('view') == 'spectrogram' else '') for s in settings]
    texts = [json.dumps(s, sort_keys=True) for s in settings]
    return [str(run.config.get('variant') or name)
            if len({t for t, n in zip(texts, names, strict=True) if n == name}) > 1 else name
            for run, name in zip(found, names, strict=True)]


def groups(found: Sequence[Run]) -> list[str]:
    """What each run's results are gathered under over seeds: its method if that tells runs apart, else its label."""
    methods = [str(run.result.get('method', run.label)) for run in found]
    keys = set(zip(targets(found), methods, (run.seed for run in found), strict=True))
    return methods if len(keys) == len(found) else [run.label for run in found]


def points(found: Sequence[Run]) -> list[Point]:
    """One for each run of wing 'mona' and number of labels, in the order of the runs."""
    found = [run for run in found if run.result.get('observed')]
    out = []
    for run, target, group in zip(found, targets(found), groups(found), strict=True):
        metrics = run.result['metrics']
        for labels in dict.fromkeys(o['labels'] for o in run.result['observed']):
            curve = sorted((o['step'], o['probe_error']) for o in run.result['observed'] if o['labels'] == labels)
            out.append(Point(target, group, str(run.result.get('method', '')), labels, run.seed, tuple(curve),
                             metrics.get(f'{PROBE}_before'), metrics.get(f'{PROBE}@{labels}'),
                             metrics.get(f'{DISCREPANCY}@{labels}'),
                             run.result.get('details', {}).get(f'discrepancy@{labels}', {}).get('distance', ''),
                             str(run.workdir)))
    return out


def numbers(point: Point) -> dict:
    """A point for a JSON file."""
    names = {'curve': 'probe_error', 'before': 'probe_error_before', 'after': 'probe_error_after'}
    return {names.get(k, k): v for k, v in point._asdict().items()}


def distorted(found: Sequence[Point]) -> list[Point]:
    """The points with D and distortion of methods that train the source model's encoder."""
    return [p for p in found if p.method in DISTORTING and None not in (p.before, p.after, p.discrepancy)]


def rank_correlation(found: Sequence[Point]) -> tuple[float, float] | None:
    """Spearman's correlation of D with the rise of the probe error, and its p.

    None for fewer than three points or where one of the two is constant.
    """
    from scipy.stats import spearmanr
    x, y = [p.discrepancy for p in found], [p.after - p.before for p in found]
    if len(found) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    answer = spearmanr(x, y)
    return float(answer.statistic), float(answer.pvalue)


# --- What the commands share ------------------------------------------------------------------------------------------

def find(workdirs: Sequence[str], command: str) -> list[Run]:
    """The finished runs of wing 'mona' in workdirs of runs and comparisons.

    Raises:
      UserError: no workdir, none finished in one of them, a run of another wing, a broken file.
    """
    if not workdirs:
        raise UserError(f'--workdir is missing; usage: python -m {command} --workdir=DIR, of a run or of a comparison')
    out = []
    for text in workdirs:
        workdir = pathlib.Path(text)
        comparison = (workdir / runs.PLAN).exists()
        found = runs.load_comparison(workdir) if comparison else (
            [runs.load_run(workdir)] if (workdir / runs.RESULT).exists() else [])
        if not found:
            raise UserError(f'--workdir={text}: no finished run there (no {runs.RESULT})')
        for run in found:
            if run.config.get('wing') != 'mona':
                raise UserError(f'{run.workdir}: a run of wing {run.config.get("wing")!r}; {command} needs runs of '
                                "wing 'mona'")
            if not run.result.get('observed'):
                raise UserError(f'{run.workdir / runs.RESULT}: nothing in "observed"; {command} needs it')
        out += found
    return out


def folder(workdirs: Sequence[str], out: str | None) -> pathlib.Path:
    """Where results go: --out, made if absent, or the one workdir.

    Raises:
      UserError: several workdirs and no --out, or a folder that cannot be made.
    """
    if not out and len(workdirs) > 1:
        raise UserError('--out=DIR is missing; with several workdirs it says where the picture and the numbers go')
    path = pathlib.Path(out or workdirs[0])
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f'--out={path}: cannot be made ({error.strerror})') from error
    return path


def baseline(workdirs: Sequence[str]) -> str | None:
    """The variant that the first comparison is relative to, drawn in grey."""
    plans = [runs.load_plan(w) for w in workdirs if (pathlib.Path(w) / runs.PLAN).exists()]
    return plans[0].get('baseline') if plans else None


def keep(path: pathlib.Path, name: str, picture: dict | None, numbers: dict) -> list[pathlib.Path]:
    """Writes NAME.png and NAME.json (title, caption and `numbers`); returns their paths.

    Raises:
      UserError: the folder cannot be written.
    """
    files = []
    try:
        if picture:
            files.append(path / f'{name}.png')
            temporary = path / f'.{name}.png.{os.getpid()}'
            temporary.write_bytes(base64.b64decode(picture['png']))
            os.replace(temporary, files[0])
        about = {k: picture[k] for k in ('title', 'caption', 'wide')} if picture else {}
        write_json(path / f'{name}.json', {**about, **numbers})
    except OSError as error:
        raise UserError(f'{path}: cannot be written ({error.strerror})') from error
    return [*files, path / f'{name}.json']


def kept(path: pathlib.Path, name: str) -> dict | None:
    """The picture that `keep` wrote, as pictures are given to a report; None where there is none.

    Raises:
      UserError: NAME.json beside it is not valid JSON.
    """
    png = pathlib.Path(path) / f'{name}.png'
    if not png.exists():
        return None
    about = png.with_suffix('.json')
    said = runs.load_json(about) if about.exists() else {}
    return {'title': str(said.get('title', name)), 'caption': str(said.get('caption', '')),
            'wide': said.get('wide') is True, 'png': base64.b64encode(png.read_bytes()).decode('ascii')}
