"""Reads what a run or a comparison left in its workdir. JSON only; nothing from the files is executed."""
from __future__ import annotations

import dataclasses
import json
import os
import pathlib

from fipjax.errors import UserError

CONFIG, METRICS, RESULT, FAILURE, PLAN = (
    'config.json', 'metrics.jsonl', 'result.json', 'failure.json', 'comparison.json')


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        workdir: its folder.
        label: name of its variant, as shown in tables.
        seed: its seed.
        config: the resolved config, nested.
        metrics: rows of metrics.jsonl, one per (stage, split, step), by step; of repeated rows (a resumed
            run) the last.
        result: content of result.json; 'metrics' maps names to numbers.
    """
    workdir: pathlib.Path
    label: str
    seed: int
    config: dict
    metrics: list[dict]
    result: dict


@dataclasses.dataclass(frozen=True)
class Failure:
    """A run of a comparison that stopped with an error."""
    label: str
    seed: int
    message: str


def load_json(path: str | os.PathLike) -> dict:
    """An object from a JSON file.

    Raises:
        UserError: the file is missing, unreadable, not JSON, or its top level is not an object.
    """
    path = pathlib.Path(path)
    try:
        value = json.loads(path.read_text(encoding='utf-8'))
    except OSError as error:
        raise UserError(f'{path}: cannot be read ({error.strerror})') from error
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError
        raise UserError(f'{path}: not valid JSON ({error})') from error
    if not isinstance(value, dict):
        raise UserError(f'{path}: expected a JSON object, found {type(value).__name__}')
    return value


def read_metrics(path: str | os.PathLike) -> list[dict]:
    """Rows of a metrics.jsonl, the last of each (stage, split, step), by step within stage and split.

    A last line without its line end that does not parse is what a killed process leaves, and is passed over.

    Raises:
        UserError: the file is missing, or another line is not a JSON object with a step; names file and line.
    """
    path = pathlib.Path(path)
    try:
        text = path.read_text(encoding='utf-8', errors='replace')
    except OSError as error:
        raise UserError(f'{path}: cannot be read ({error.strerror})') from error
    lines = text.split('\n')
    rows = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            rows[str(row['stage']), str(row['split']), int(row['step'])] = row
        except (ValueError, KeyError, TypeError) as error:
            if number == len(lines):
                continue
            message = f'{path}: line {number} is not a JSON object with stage, split and step'
            raise UserError(message) from error
    places = {name: place for place, name in enumerate(dict.fromkeys(key[:2] for key in rows))}
    return [rows[key] for key in sorted(rows, key=lambda key: (places[key[:2]], key[2]))]


def _number(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def load_run(workdir: str | os.PathLike, label: str | None = None) -> Run:
    """The finished run in a workdir.

    Args:
        workdir: holds config.json, metrics.jsonl and result.json.
        label: name for tables; None takes the run's own variant, or its name.
    Raises:
        UserError: a file is missing or not valid JSON, or a metric is not a number; names the file.
    """
    workdir = pathlib.Path(workdir)
    result = load_json(workdir / RESULT)
    for part in ('metrics', 'trivial'):
        values = result.setdefault(part, {})
        wrong = not isinstance(values, dict) or [key for key, value in values.items() if not _number(value)]
        if wrong:
            raise UserError(f'{workdir / RESULT}: {part} must map names to numbers; wrong: {wrong}')
    seed = result.get('seed', 0)
    if not isinstance(seed, int):
        raise UserError(f'{workdir / RESULT}: seed must be an integer, found {seed!r}')
    label = label or str(result.get('variant') or result.get('name') or workdir.name)
    return Run(workdir, label, seed, load_json(workdir / CONFIG), read_metrics(workdir / METRICS), result)


def load_plan(workdir: str | os.PathLike) -> dict:
    """comparison.json: config, vary, seeds, labels, baseline(s) and runs, each with its folder, label and seed.

    Raises:
        UserError: missing, not valid JSON, or without its runs.
    """
    path = pathlib.Path(workdir) / PLAN
    plan = load_json(path)
    runs = plan.get('runs')
    fields = {'folder', 'label', 'seed'}
    if not isinstance(runs, list) or any(not isinstance(r, dict) or not fields <= set(r) for r in runs):
        raise UserError(f'{path}: runs must be a list of objects with folder, label and seed')
    if not isinstance(plan.get('baselines', {}), dict):
        raise UserError(f'{path}: baselines must map labels to labels')
    for run in runs:
        # A folder is a name, not a path: a plan from elsewhere must not point outside the workdir.
        if pathlib.Path(str(run['folder'])).name != run['folder'] or run['folder'] in ('.', '..'):
            raise UserError(f'{path}: {run["folder"]!r} is not the name of a folder in runs/')
    return plan


def load_comparison(workdir: str | os.PathLike) -> list[Run]:
    """The finished runs of a comparison, in the order of its plan; those not finished are left out.

    Raises:
        UserError: comparison.json or a file of a finished run is missing or not valid; names the file.
    """
    folder = pathlib.Path(workdir) / 'runs'
    return [load_run(folder / run['folder'], str(run['label'])) for run in load_plan(workdir)['runs']
            if (folder / run['folder'] / RESULT).exists()]


def load_failures(workdir: str | os.PathLike) -> list[Failure]:
    """The runs of a comparison that stopped with an error and have not finished since.

    Raises:
        UserError: comparison.json or a failure.json is not valid.
    """
    folder = pathlib.Path(workdir) / 'runs'
    found = []
    for run in load_plan(workdir)['runs']:
        path = folder / run['folder'] / FAILURE
        if path.exists() and not (folder / run['folder'] / RESULT).exists():
            found.append(Failure(str(run['label']), run['seed'], str(load_json(path).get('message', ''))))
    return found
