"""The same experiment over variants and seeds, in one table and one report.

    python -m fipjax.compare --config=configs/fip/constellation.py --workdir=DIR --vary=variant=uniform,fip \
        --seeds=0,1,2 [--baseline=uniform] [--config.KEY=VALUE ...]

--vary=NAME=a,b,c may be repeated, or hold several names; several names make a grid. NAME is a dotted config
key, or `variant`, the argument of the config file. --baseline is one of the combinations (burgers_finetune), or one
value of one name (finetune): then each combination is compared with the one that differs from it in that name alone.
Runs that are done are skipped, killed ones go on, and several processes may work on one workdir.
"""
from __future__ import annotations

import functools
import hashlib
import itertools
import json
import os
import pathlib
import re
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from absl import flags

from fipjax import config as config_lib
from fipjax import launch, writer
from fipjax.analysis import benchmark, report, runs
from fipjax.errors import Busy, NonFinite, UserError
from fipjax.overrides import override
from fipjax.workdir import STARTED, check_config

VARIANT = 'variant'
POLL_SECONDS = 5.0
LONGEST_LABEL = 80


class Job(NamedTuple):
    """One run of a comparison."""
    label: str
    seed: int
    folder: pathlib.Path
    config: object  # ConfigDict

    @property
    def name(self) -> str:
        """For messages: 'fip seed 2'."""
        return f'{self.label} seed {self.seed}'


def _split(text: str) -> list[str]:
    """Splits at commas outside brackets."""
    parts, depth = [''], 0
    for character in text:
        depth += (character in '([{') - (character in ')]}')
        if depth < 0:
            break
        if character == ',' and not depth:
            parts.append('')
        else:
            parts[-1] += character
    if depth:
        raise UserError(f'--vary={text}: brackets do not match')
    return [part.strip() for part in parts]


def parse_vary(texts: Sequence[str]) -> dict[str, list[str]]:
    """'NAME=a,b,OTHER=c,d' -> {'NAME': ['a', 'b'], 'OTHER': ['c', 'd']}.

    Args:
        texts: values of --vary. A token with '=' outside brackets starts a new name; commas inside brackets
            belong to their value.
    Raises:
        UserError: no name, no value, a name or a value twice, brackets that do not match.
    """
    found: dict[str, list[str]] = {}
    for text in texts:
        name = None
        for token in _split(text):
            outside = re.split(r'[(\[{]', token, maxsplit=1)[0]
            if '=' in outside:
                name, _, token = (part.strip() for part in token.partition('='))
                if not name or name in found:
                    wrong = f'{name} is given twice' if name else 'no name before ='
                    raise UserError(f'--vary={text}: {wrong}')
                found[name] = []
            if name is None:
                raise UserError(f'--vary={text}: expected NAME=a,b,c, found {token!r} before any name')
            if not token or token in found[name]:
                wrong = f'the value {token} twice' if token else 'an empty value'
                raise UserError(f'--vary={text}: {name} has {wrong}')
            found[name].append(token)
    if not found:
        raise UserError('--vary: nothing to vary; expected NAME=a,b,c')
    return found


def parse_seeds(texts: Iterable[str | int]) -> list[int]:
    """Seeds from text or numbers.

    Raises:
        UserError: none, one twice, or one that is not an integer >= 0.
    """
    texts = [str(text).strip() for text in texts]
    if not texts or any(not text.isdecimal() for text in texts) or len({int(t) for t in texts}) < len(texts):
        raise UserError(f'--seeds={",".join(texts)}: expected different integers >= 0, such as 0,1,2')
    return [int(text) for text in texts]


def label(values: Sequence[str]) -> str:
    """A name for a combination of values that is safe as part of a folder's name."""
    text = '_'.join(re.sub(r'[^A-Za-z0-9.+-]+', '_', value).strip('_.') or 'empty' for value in values)
    if len(text) > LONGEST_LABEL:
        text = f'{text[:LONGEST_LABEL - 9]}_{hashlib.sha256(text.encode()).hexdigest()[:8]}'
    return text


def combinations(vary: Mapping[str, Sequence[str]]) -> dict[str, dict[str, str]]:
    """The full grid: label -> {name: value}, the last name fastest; equal labels get a number."""
    found = {}
    for values in itertools.product(*vary.values()):
        name = start = label(values)
        number = 1
        while name in found:
            number += 1
            name = f'{start}-{number}'
        found[name] = dict(zip(vary, values))
    return found


def baselines(vary: Mapping[str, Sequence[str]], baseline: str | None) -> tuple[str, dict[str, str]]:
    """What the differences are called after, and label -> the label that it is compared with.

    Args:
        vary: as from `parse_vary`.
        baseline: a label, for all; a value of one name, for those that differ in that name alone; None takes the
            label 'uniform' if it is there, else the first.
    Raises:
        UserError: it is neither, or a value of several names.
    """
    grid = combinations(vary)
    baseline = baseline or ('uniform' if 'uniform' in grid else next(iter(grid)))
    if baseline in grid:
        return baseline, dict.fromkeys(grid, baseline)
    names = [name for name, values in vary.items() if baseline in values]
    if len(names) != 1:
        wrong = f'a value of {" and of ".join(names)}' if names else 'not there'
        values = '; '.join(f'{name}: {", ".join(values)}' for name, values in vary.items())
        raise UserError(f'--baseline={baseline}: {wrong}; allowed: one of the {len(grid)} variants, such as '
                        f'{next(iter(grid))}, or a value of one name: {values}')
    same = {tuple(values.items()): name for name, values in grid.items()}
    return baseline, {label: same[tuple({**values, names[0]: baseline}.items())] for label, values in grid.items()}


def make_jobs(config_path: str, variant: str | None, overrides: Sequence[tuple[str, str]],
              workdir: pathlib.Path, vary: Mapping[str, Sequence[str]], seeds: Sequence[int]) -> list[Job]:
    """All runs, seeds in the inner loop, each with its checked config.

    Raises:
        UserError: a config that does not load or is not valid; a folder that holds a run of another config.
    """
    import jax

    from fipjax.validation import validate

    path, _, in_path = config_path.partition(':')
    fixed = {key for key, _ in overrides}
    for name in vary:
        if name in fixed or name == 'seed' or name.startswith('compare.'):
            raise UserError(f'--vary={name}=...: ' + ('also set by --config.' + name if name in fixed
                                                      else 'cannot be varied; seeds are given by --seeds'))
    jobs, say = [], functools.cache(launch.say)  # the same words once
    for name, values in combinations(vary).items():
        for seed in seeds:
            config = config_lib.load(path, values.get(VARIANT) or variant or in_path or None,
                                     [*overrides, *((k, text) for k, text in values.items() if k != VARIANT)], say)
            override(config, 'seed', str(seed))
            # A run does not know that it is part of a comparison, so that seeds can be added later.
            for key in config.get('compare', {}):
                override(config, f'compare.{key}', '')
            job = Job(name, seed, workdir / 'runs' / f'{name}-seed{seed}', config)
            try:
                validate(config, jax.device_count())
            except UserError as error:
                raise UserError(f'{job.name}: {error}') from error
            check_config(job.folder, config)
            jobs.append(job)
    return jobs


def _write_plan(config_path, variant, overrides, workdir, vary, jobs, baseline, compared) -> None:
    """Writes comparison.json; what an earlier command with the same config planned there stays planned.

    A plan of which no run has started, as after wrong input, is none.
    """
    overrides = [[key, text] for key, text in overrides if key != 'seed' and not key.startswith('compare.')]
    plan = {'config': config_path, 'variant': variant or '', 'overrides': overrides,
            'vary': {name: list(values) for name, values in vary.items()},
            'seeds': sorted({job.seed for job in jobs}),
            'labels': list(compared), 'baseline': baseline, 'baselines': compared,
            'runs': [{'folder': job.folder.name, 'label': job.label, 'seed': job.seed} for job in jobs]}
    path = workdir / runs.PLAN
    old = runs.load_plan(workdir) if path.exists() else {}
    other = old and _unlike(old, plan)
    if other and any(next((workdir / 'runs').glob(f'*/{name}'), None) for name in STARTED):
        raise UserError(f'{path}: another comparison, {other}; choose another --workdir')
    if old and not other:
        for name, values in plan['vary'].items():
            plan['vary'][name] = list(dict.fromkeys([*old['vary'][name], *values]))
        plan['seeds'] = sorted({*old.get('seeds', ()), *plan['seeds']})
        plan['labels'] = list(dict.fromkeys([*old.get('labels', ()), *plan['labels']]))
        plan['baselines'] = {**old.get('baselines', {}), **compared}
        plan['runs'] = old['runs'] + [run for run in plan['runs'] if run not in old['runs']]
    config_flag = config_path if ':' in config_path or not variant else f'{config_path}:{variant}'
    plan['command'] = shlex.join([
        'python', '-m', 'fipjax.compare', f'--config={config_flag}', '--workdir=DIR',
        *(f'--vary={name}={",".join(values)}' for name, values in plan['vary'].items()),
        f'--seeds={",".join(map(str, plan["seeds"]))}', f'--baseline={baseline}',
        *(f'--config.{key}={text}' for key, text in overrides)])
    writer.write_json(path, plan)


def _unlike(old, plan) -> str:
    """What keeps two plans from being one comparison, '' for nothing."""
    for key in ('config', 'variant', 'overrides'):
        if old.get(key) != plan[key]:
            return f'its {key} is {old.get(key)!r}, wanted {plan[key]!r}'
    return '' if list(old.get('vary', ())) == list(plan['vary']) else f'over {", ".join(old.get("vary", ()))}'


class _Progress:
    """Says what is done and about how long the rest takes, from the runs this process has made."""

    def __init__(self, total: int):
        self.total, self.done, self.seconds, self.made = total, 0, 0.0, 0
        self.next_report = 0.0

    def say(self, job: Job, text: str = '') -> None:
        left = ''
        if not text and self.made:
            minutes = self.seconds / self.made * (self.total - self.done) / 60
            left = f' (about {minutes:.0f} min left)' if minutes >= 1 else ' (less than 1 min left)'
        print(f'run {self.done + 1} of {self.total}: {job.name}{text and ": " + text}{left}', flush=True)

    def add(self, seconds: float | None = None) -> None:
        self.done += 1
        if seconds is not None:
            self.seconds += seconds
            self.made += 1

    def report(self, workdir: pathlib.Path) -> None:
        """Writes the table, and the page unless that would take more than a twentieth of the time."""
        began = time.monotonic()
        if began < self.next_report:
            report.write_tables(workdir)
        else:
            report.write_comparison_report(workdir)
            self.next_report = time.monotonic() + 20 * (time.monotonic() - began)


def _shared_data(jobs: Sequence[Job]) -> Callable[[], object]:
    """Gives the splits that all runs share, made once; None where they differ and each run makes its own."""
    from fipjax.data import labelled, sources

    builders = {'fip': ('data', sources.build), 'mona': ('target', labelled.build)}
    if jobs[0].config.wing not in builders:  # fipjax.data.vl_sets keeps what it made
        return lambda: None
    key, build = builders[jobs[0].config.wing]
    if len({json.dumps(job.config[key].to_dict(), sort_keys=True) for job in jobs}) > 1:
        return lambda: None
    return functools.cache(lambda: build(jobs[0].config[key], True))


def _attempt(job: Job, progress: _Progress, data: Callable[[], object], started: float, workdir: pathlib.Path,
             quiet: bool) -> bool:
    """Makes one run if it is not made yet; False if another process has it. `quiet` while waiting."""
    from fipjax import experiment

    failure = job.folder / runs.FAILURE
    if (job.folder / runs.RESULT).exists():
        progress.say(job, 'already done')
        progress.add()
        return True
    if failure.exists() and failure.stat().st_mtime >= started:  # another process has just met it
        progress.say(job, 'failed in another process')
        progress.add()
        return True
    if not quiet:
        progress.say(job)
    clock = time.monotonic()
    try:
        experiment.run(job.config, job.folder, progress=True, splits=data(), shared=workdir / 'shared')
        failure.unlink(missing_ok=True)
    except Busy:
        if not quiet:
            print(f'{job.name}: another process works on it; coming back to it later', flush=True)
        return False
    except NonFinite as error:
        print(f'{job.name}: failed: {error}', file=sys.stderr, flush=True)
        job.folder.mkdir(parents=True, exist_ok=True)
        writer.write_json(failure, {'message': str(error)})
    progress.add(time.monotonic() - clock)
    progress.report(workdir)
    return True


def run(config_path: str, variant_default: str | None, overrides: Sequence[tuple[str, str]],
        workdir: str | os.PathLike, vary: Mapping[str, Sequence[str]] | Sequence[str],
        seeds: Iterable[int | str], baseline: str | None = None) -> int:
    """Runs a comparison, or what is missing of it, and prints its table.

    Every config is checked before the first run starts. After each run table.md and table.csv are rewritten, and
    report.html now and then, so that a killed comparison leaves a valid table of what is done. A run whose loss is
    not finite is recorded as failed and the others go on; a run that another process works on is waited for.

    Args:
        config_path: a config file, `:variant` allowed.
        variant_default: its variant where `variant` is not varied; None for the file's default.
        overrides: (dotted key, text), applied to every run.
        workdir: gets runs/<label>-seed<k>/ and the tables.
        vary: texts as for `parse_vary`, or what it returns.
        seeds: see `parse_seeds`.
        baseline: see `baselines`.
    Returns:
        0, or 1 if a run failed.
    Raises:
        UserError: bad input, a folder of another config, an unwritable workdir.
        Interrupted: SIGTERM; the run in progress is saved and the same command goes on.
    """
    import jax

    workdir = pathlib.Path(workdir)
    vary = dict(vary) if isinstance(vary, Mapping) else parse_vary(vary)
    seeds = parse_seeds(seeds)
    baseline, compared = baselines(vary, baseline)
    jobs = make_jobs(config_path, variant_default, overrides, workdir, vary, seeds)
    try:
        (workdir / 'runs').mkdir(parents=True, exist_ok=True)
        _write_plan(config_path, variant_default, overrides, workdir, vary, jobs, baseline, compared)
    except OSError as error:
        raise UserError(f'--workdir={workdir}: cannot be written ({error.strerror})') from error
    started = time.time()
    progress = _Progress(len(jobs))
    attempt = functools.partial(_attempt, progress=progress, data=_shared_data(jobs), started=started,
                                workdir=workdir)
    busy, before = [], None
    for job in jobs:
        if before not in (None, job.label):
            jax.clear_caches()  # another variant compiles other programs; kept ones would only pile up
            launch.release_memory()
        before = job.label
        if not attempt(job, quiet=False):
            busy.append(job)
    if busy:
        print(f'waiting for runs of other processes: {", ".join(job.name for job in busy)}', flush=True)
    while busy:
        time.sleep(POLL_SECONDS)
        busy = [job for job in busy if not attempt(job, quiet=True)]
    path = report.write_comparison_report(workdir)
    print(f'\n{(workdir / "table.md").read_text(encoding="utf-8")}\nreport: {path}', flush=True)
    if benchmark.columns(runs.load_comparison(workdir)):
        try:
            print(f'\n{benchmark.write([str(workdir)])}', flush=True)
        except UserError as error:  # more than tasks, methods and seeds was varied
            print(f'no table of the benchmark: {error}', flush=True)
    return int(bool(runs.load_failures(workdir)))


def command_line() -> None:
    """The command `python -m fipjax.compare`. Exit codes: 1 a run failed, 2 wrong input, 143 SIGTERM."""
    # Defined here and not on import: fipjax.main, which has flags of the same names, imports this module.
    flags.DEFINE_string('config', None, 'Config file, FILE.py or FILE.py:VARIANT.')
    flags.DEFINE_string('workdir', None, 'Folder of all runs, the table and the report.')
    flags.DEFINE_multi_string('vary', [], 'NAME=a,b,c; may be repeated, several names make a grid.')
    flags.DEFINE_list('seeds', ['0'], 'Seeds, such as 0,1,2.')
    flags.DEFINE_string('baseline', None, 'Variant to compare with, or a value of one name; default: uniform, or else '
                        'the first.')

    def main(overrides):
        given = flags.FLAGS
        missing = [name for name in ('config', 'workdir', 'vary') if not getattr(given, name)]
        if missing:
            raise UserError(f'--{missing[0]} is missing; usage: python -m fipjax.compare --config=FILE '
                            '--workdir=DIR --vary=NAME=a,b,c --seeds=0,1,2')
        return run(given.config, None, overrides, given.workdir, given.vary, given.seeds, given.baseline)

    launch.start(main)


if __name__ == '__main__':
    command_line()
