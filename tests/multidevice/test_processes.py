"""Two processes with two devices each give what one process with four devices gives; and runs may change devices."""
import itertools
import json
import os
import pathlib
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest
from test_train import data, make

from fipjax import train
from fipjax.errors import Interrupted
from fipjax.parallel import Parallel
from fipjax.writer import MetricsWriter

WORKER = pathlib.Path(__file__).parent / 'worker.py'


def run(folder, processes, modes):
    folder.mkdir()
    with socket.socket() as s:
        s.bind(('localhost', 0))
        port = s.getsockname()[1]
    workers = []
    for i in range(processes):
        with (folder / f'{i}.log').open('w') as log:
            command = [sys.executable, str(WORKER), str(i), str(processes), str(port), str(folder), modes]
            workers.append(subprocess.Popen(command, stdout=log, stderr=log))
    try:
        codes = [w.wait(300) for w in workers]
    finally:
        for w in workers:
            w.kill()
            w.wait()
    logs = [(folder / f'{i}.log').read_text() for i in range(processes)]
    assert codes == [0] * processes, '\n'.join(logs)
    return logs


def rows(path):
    return [{k: v for k, v in json.loads(line).items() if k not in ('seconds', 'steps_per_second')}
            for line in path.read_text().splitlines()]


@pytest.fixture(scope='module')
def one_and_two(tmp_path_factory):
    folder = tmp_path_factory.mktemp('processes')
    return folder, run(folder / 'one', 1, 'jit'), run(folder / 'two', 2, 'pmap,jit')


@pytest.mark.parametrize('mode', ['pmap', 'jit'])
def test_two_processes_train_save_stop_and_go_on_as_one(one_and_two, mode):
    folder, _, logs = one_and_two
    one = np.load(folder / 'one' / 'jit-0.npz')
    for process in (0, 1):
        two = np.load(folder / 'two' / f'{mode}-{process}.npz')
        assert set(two) == set(one) and len(one) > 20
        for k in one:
            np.testing.assert_allclose(two[k], one[k], rtol=1e-6, atol=1e-9)
    assert all(log.count('stopped by SIGTERM at step 10 of stage pretrain') == 2 for log in logs)  # one a mode
    # Rows are there once, though two processes trained and one stop lay in between.
    wanted, got = rows(folder / 'one' / 'jit' / 'metrics.jsonl'), rows(folder / 'two' / mode / 'metrics.jsonl')
    assert len(wanted) == len(got) > 8
    for a, b in zip(got, wanted, strict=True):
        assert (a['split'], a['step']) == (b['split'], b['step']) and set(a) == set(b)
        assert a['loss'] == pytest.approx(b['loss'], rel=1e-6)
    assert (folder / 'two' / mode / 'config.json').exists()
    assert sorted(p.name for p in (folder / 'two' / mode / 'checkpoints' / 'pretrain').glob('[0-9]*')) == [
        '21', '21.sha256.json', '23', '23.sha256.json']


def test_modes_agree(one_and_two):
    pmap, jit = (np.load(one_and_two[0] / 'two' / f'{mode}-0.npz') for mode in ('pmap', 'jit'))
    for k in pmap:
        np.testing.assert_allclose(pmap[k], jit[k], rtol=1e-6, atol=1e-9)


def test_a_run_goes_on_on_other_devices_and_in_another_mode(tmp_path):
    algorithm = make()

    def fit(folder, mode, count, stop=None):
        (tmp_path / folder).mkdir(exist_ok=True)
        asked = itertools.count()
        stage = train.Stage('one', algorithm, data(20, 0), data(10, 1), 9, 4, 3, 0, 'score', lambda i: 0.1)
        return train.fit(stage, Parallel(mode, jax.devices()[:count]), train.Settings(1, 4, 5, 4, 1),
                         tmp_path / folder / 'c', MetricsWriter(tmp_path / folder / 'metrics.jsonl'),
                         lambda: stop is not None and next(asked) >= stop, False)

    whole = fit('whole', 'jit', 1)
    with pytest.raises(Interrupted):
        fit('parts', 'pmap', 4, stop=3)
    with pytest.raises(Interrupted):
        fit('parts', 'jit', 2, stop=3)
    parts = fit('parts', 'pmap', 1)
    np.testing.assert_allclose(parts.params['w'], whole.params['w'], rtol=1e-5)
    assert parts.step == whole.step == 6
    a, b = (rows(tmp_path / f / 'metrics.jsonl') for f in ('parts', 'whole'))
    assert [(r['split'], r['step']) for r in a] == [(r['split'], r['step']) for r in b]
    assert [r['loss'] for r in a] == pytest.approx([r['loss'] for r in b], rel=1e-5)


def test_parameters_of_a_run_on_four_devices_are_read_where_there_is_one(one_and_two):
    folder = one_and_two[0]
    code = f"""
import jax, numpy as np
from fipjax.checkpoint import load_params
assert jax.device_count() == 1
params = load_params({str(folder / 'one' / 'jit')!r})
leaves = jax.tree_util.tree_leaves_with_path(params)
assert all(type(x) is np.ndarray for _, x in leaves)
wanted = np.load({str(folder / 'one' / 'jit-0.npz')!r})
assert len(leaves) == len(wanted) - 2
for path, x in leaves:
    np.testing.assert_array_equal(x, wanted[jax.tree_util.keystr(path)])
"""
    done = subprocess.run([sys.executable, '-W', 'error::UserWarning', '-c', code], capture_output=True, text=True,
                          env={**os.environ, 'XLA_FLAGS': '--xla_force_host_platform_device_count=1'})
    assert done.returncode == 0, done.stderr
