"""Real processes that are killed, stopped and started again with the same command."""
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
import tiny

from fipjax import checkpoint, experiment
from fipjax.errors import Interrupted

TIMING = ('seconds', 'steps_per_second')
ROOT = pathlib.Path(__file__).parents[1]
PATIENCE = 240  # seconds until a process that should have done something is given up


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    """A folder with data and a config file."""
    path = tmp_path_factory.mktemp('resume')
    np.savez(path / 'data.npz', **tiny.arrays(60))
    tiny.config_file(path / 'config.py', data__path=str(path / 'data.npz'), pretrain__steps=24, pretrain__eval_every=8,
                     finetune__steps=18, finetune__eval_every=6, checkpoint__every=4, pretrain__fip__consistency=0.1)
    return path


def launch(place, workdir):
    """Starts the command; what it says goes to a file beside the workdir."""
    with (place / f'{workdir}.log').open('a') as log:
        return subprocess.Popen([sys.executable, '-m', 'fipjax.main', f'--config={place / "config.py"}',
                                 f'--workdir={place / workdir}'], stdout=log, stderr=log, cwd=ROOT)


def said(place, workdir):
    return (place / f'{workdir}.log').read_text()


def finish(place, workdir):
    process = launch(place, workdir)
    try:
        assert process.wait(PATIENCE) == 0, said(place, workdir)
    finally:
        end(process)


def end(process):
    if process.poll() is None:
        process.kill()
        process.wait()


def wait_until(process, condition, place, workdir):
    """Polls as fast as it can. False if the process ended first."""
    started = time.monotonic()
    while not condition():
        if process.poll() is not None:
            return False
        assert time.monotonic() - started < PATIENCE, said(place, workdir)
    return True


def rows(workdir):
    if not (workdir / 'metrics.jsonl').exists():
        return []
    lines = (workdir / 'metrics.jsonl').read_text().split('\n')
    return [{k: v for k, v in json.loads(line).items() if k not in TIMING} for line in lines[:-1]]


def steps(workdir, stage):
    return [r['step'] for r in rows(workdir) if r['stage'] == stage and r['split'] == 'train']


def temporary(workdir):
    """Checkpoints that are being written."""
    return [p for p in (workdir / 'checkpoints').glob('*/*') if p.is_dir() and not p.name.isdigit()]


@pytest.fixture(scope='module')
def whole(place):
    """The run that nothing happens to."""
    finish(place, 'whole')
    return place / 'whole'


def assert_same(workdir, whole):
    """Bit for bit: all that is not time."""
    a, b = (json.loads((w / 'result.json').read_text()) for w in (workdir, whole))
    for key in ('metrics', 'details', 'trivial', 'pictures', 'flops', 'parameters'):
        assert a[key] == b[key], key
    assert rows(workdir) == rows(whole)
    for stage, last in (('pretrain', 24), ('finetune_2', 18)):
        assert (workdir / 'checkpoints' / stage / str(last)).is_dir()
        jax.tree.map(np.testing.assert_array_equal, checkpoint.load_params(workdir, stage),
                     checkpoint.load_params(whole, stage))


def test_killed_at_three_moments_and_gone_on_is_as_never_killed(place, whole):
    workdir = place / 'killed'

    def run_and_kill(condition):
        process = launch(place, 'killed')
        try:
            hit = wait_until(process, condition, place, 'killed')
            os.kill(process.pid, signal.SIGKILL) if hit else None
            assert process.wait(PATIENCE) == (-signal.SIGKILL if hit else 0), said(place, 'killed')
        finally:
            end(process)
        return hit

    # Early in pretraining, between two checkpoints.
    assert run_and_kill(lambda: any(s % 4 in (1, 2) and s > 4 for s in steps(workdir, 'pretrain')[-1:]))
    assert not (workdir / 'checkpoints' / 'finetune_2').exists() and steps(workdir, 'pretrain')[-1] < 24
    # During a save. The window is short, so a miss is tried again on what is left of the run.
    for _ in range(5):
        assert run_and_kill(lambda: temporary(workdir)), 'the run ended before a save could be hit'
        if temporary(workdir):
            break
    assert temporary(workdir), 'no save was hit'
    # During fine-tuning, after its first checkpoint.
    assert run_and_kill(lambda: any(5 <= s < 18 for s in steps(workdir, 'finetune_2')[-1:]))
    assert not (workdir / 'result.json').exists()
    finish(place, 'killed')
    assert_same(workdir, whole)
    assert not temporary(workdir)


def test_sigterm_saves_and_a_second_process_is_refused(place, whole):
    workdir = place / 'stopped'
    process = launch(place, 'stopped')
    try:
        assert wait_until(process, lambda: steps(workdir, 'pretrain'), place, 'stopped')
        os.kill(process.pid, signal.SIGSTOP)  # held, so that it is there while the second one tries
        second = subprocess.run([sys.executable, '-m', 'fipjax.main', f'--config={place / "config.py"}',
                                 f'--workdir={workdir}'], capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE)
        os.kill(process.pid, signal.SIGTERM)
        os.kill(process.pid, signal.SIGCONT)
        assert process.wait(PATIENCE) == 143, said(place, 'stopped')
    finally:
        end(process)
    assert second.returncode == 2 and 'Traceback' not in second.stderr
    refused = second.stderr.strip().splitlines()[-1]
    assert refused.startswith('error: ') and str(workdir) in refused and f'process {process.pid}' in refused
    text = said(place, 'stopped')
    assert 'stopped by SIGTERM at step' in text and 'the same command goes on' in text and 'Traceback' not in text
    saved = max(int(p.name) for p in (workdir / 'checkpoints' / 'pretrain').iterdir() if p.name.isdigit())
    assert f'at step {saved} of stage pretrain' in text
    finish(place, 'stopped')
    assert_same(workdir, whole)


def test_a_finished_run_is_not_run_again(place, whole):
    before = {p: p.stat().st_mtime_ns for p in whole.rglob('*') if p.name in ('result.json', 'metrics.jsonl')}
    assert len(before) == 2
    finish(place, 'whole')
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert said(place, 'whole').count('report: ') == 2  # the table and the path are shown again


def test_sigterm_in_the_last_evaluation_ends_what_follows_the_run(place, monkeypatch):
    """A comparison would begin its next run, were the signal forgotten with the run that it came too late for."""
    from fipjax.experiments import fip

    def last(self):
        os.kill(os.getpid(), signal.SIGTERM)
        return {'metrics': {}, 'trivial': {}, 'seed': 0}
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(fip.Experiment, '__init__', lambda self, *args: None)
    monkeypatch.setattr(fip.Experiment, 'all', last)
    monkeypatch.setattr(experiment.report, 'write_run_report', lambda path: None)
    with pytest.raises(Interrupted, match='stopped by SIGTERM; the run in .* is done'):
        experiment.run(tiny.config(data__path=str(place / 'data.npz')), place / 'late', progress=False)
    assert json.loads((place / 'late' / 'result.json').read_text())['seed'] == 0
    assert signal.getsignal(signal.SIGTERM) is before
