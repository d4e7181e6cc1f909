"""A workdir holds one run of one config, worked on by one process; its files are whole or absent."""
import json
import os
import pathlib
import subprocess
import sys
import threading

import pytest
import tiny

from fipjax import config as config_lib
from fipjax import workdir, writer
from fipjax.errors import Busy, UserError
from fipjax.writer import MetricsWriter


def test_claim_makes_the_folder_and_writes_the_whole_config(tmp_path):
    with workdir.claim(tmp_path / 'a' / 'b', tiny.config(seed=3)) as path:
        assert path == tmp_path / 'a' / 'b' and path.is_absolute()
        stored = json.loads((path / 'config.json').read_text())
    assert stored == json.loads(config_lib.to_json(tiny.config(seed=3)))


def test_a_second_process_is_refused_until_the_first_is_gone(tmp_path):
    code = f"""
import sys
sys.path.insert(0, {str(pathlib.Path(__file__).parent)!r})
import tiny
from fipjax import workdir
with workdir.claim({str(tmp_path)!r}, tiny.config()):
    print('ready', flush=True)
    sys.stdin.read()
"""
    other = subprocess.Popen([sys.executable, '-c', code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == 'ready\n'
        with pytest.raises(Busy) as e, workdir.claim(tmp_path, tiny.config()):
            pass
        assert str(tmp_path) in str(e.value) and f'process {other.pid}' in str(e.value)
        other.kill()  # SIGKILL: the kernel frees the lock
        other.wait()
        with workdir.claim(tmp_path, tiny.config()):
            pass
    finally:
        other.kill()
        other.wait()


def test_the_lock_is_free_again_after_an_error(tmp_path):
    with pytest.raises(RuntimeError), workdir.claim(tmp_path, tiny.config()):
        raise RuntimeError
    with workdir.claim(tmp_path, tiny.config()):
        pass


def begun(path, **changes):
    with workdir.claim(path, tiny.config(**changes)):
        MetricsWriter(path / 'metrics.jsonl').write({'stage': 'pretrain', 'split': 'train', 'step': 1})


def test_another_config_is_refused_and_the_keys_are_named(tmp_path):
    begun(tmp_path)
    with pytest.raises(UserError) as e, workdir.claim(tmp_path, tiny.config(seed=4, pretrain__steps=9)):
        pass
    assert all(t in str(e.value) for t in (str(tmp_path), 'seed: 0 != 4', 'pretrain.steps: 8 != 9', '--workdir'))
    assert json.loads((tmp_path / 'config.json').read_text())['seed'] == 0


@pytest.mark.parametrize('change', [dict(checkpoint__every=7), dict(checkpoint__keep=5), dict(log_every=3),
                                    dict(parallel__mode='jit'), dict(data__threads=2), dict(data__cache=False)])
def test_settings_that_do_not_change_results_may_change(tmp_path, change):
    begun(tmp_path)
    with workdir.claim(tmp_path, tiny.config(**change)):
        pass
    assert json.loads((tmp_path / 'config.json').read_text()) == json.loads(config_lib.to_json(tiny.config(**change)))


def test_a_workdir_where_nothing_ran_yet_takes_another_config(tmp_path):
    """Somebody who mistyped data.path must not have to change --workdir too."""
    with workdir.claim(tmp_path, tiny.config(data__path='typo.npz')):
        pass
    with workdir.claim(tmp_path, tiny.config(data__path='data.npz')):
        pass
    assert json.loads((tmp_path / 'config.json').read_text())['data']['path'] == 'data.npz'


@pytest.mark.parametrize('content', ['', '{"seed": ', '[1]', '\x00'])
def test_a_broken_config_file_is_named(tmp_path, content):
    begun(tmp_path)
    (tmp_path / 'config.json').write_text(content)
    with pytest.raises(UserError, match='config.json') as e, workdir.claim(tmp_path, tiny.config()):
        pass
    assert '--workdir' in str(e.value)


@pytest.mark.parametrize('make', [lambda p: (p / 'file').write_text('') and None or p / 'file' / 'run',
                                  lambda p: (p / 'file').write_text('') and None or p / 'file',
                                  lambda p: pathlib.Path('/proc/nothing')])
def test_unwritable_workdirs(tmp_path, make):
    path = make(tmp_path)
    with pytest.raises(UserError, match='cannot be written') as e, workdir.claim(path, tiny.config()):
        pass
    assert f'--workdir={path}' in str(e.value)


def test_only_the_first_process_writes(tmp_path, monkeypatch):
    import jax
    monkeypatch.setattr(jax, 'process_index', lambda: 1)
    with workdir.claim(tmp_path / 'run', tiny.config()) as path:
        assert path == tmp_path / 'run'
        assert not path.exists()
    metrics = MetricsWriter(tmp_path / 'metrics.jsonl')
    metrics.write({'stage': 'a', 'split': 'train', 'step': 1})
    assert not (tmp_path / 'metrics.jsonl').exists()
    (tmp_path / 'metrics.jsonl').write_text('{"stage": "a", "split": "train", "step": 9}\n')
    metrics.rewind('a', 0)
    assert (tmp_path / 'metrics.jsonl').read_text().count('\n') == 1


# --- Files --------------------------------------------------------------------------------------------------

def row(stage, split, step):
    return {'stage': stage, 'split': split, 'step': step, 'loss': 0.5}


def test_rewind_drops_what_runs_again(tmp_path):
    metrics, path = MetricsWriter(tmp_path / 'm.jsonl'), tmp_path / 'm.jsonl'
    metrics.rewind('a', 3)
    assert not path.exists()
    given = [row('a', 'validation', 0), row('a', 'train', 2), row('b', 'validation', 0), row('b', 'train', 3),
             row('b', 'validation', 4), row('b', 'train', 4), row('b', 'train', 5), row('c', 'train', 9)]
    for r in given:
        metrics.write(r)
    with path.open('a') as f:
        f.write('{"stage": "b", "sp')
    metrics.rewind('b', 4)
    kept = [json.loads(line) for line in path.read_text().splitlines()]
    assert kept == [r for r in given if r not in (row('b', 'validation', 4), row('b', 'train', 5))]
    metrics.write(row('b', 'validation', 4))
    assert json.loads(path.read_text().splitlines()[-1]) == row('b', 'validation', 4)


def test_files_are_replaced_whole(tmp_path):
    """A reader never sees half of a file, whenever it looks."""
    path, seen, stop = tmp_path / 'f.json', set(), threading.Event()
    writer.write_json(path, ['x'] * 20000)

    def read():
        while not stop.is_set():
            seen.add(len(json.loads(path.read_text())))
    reader = threading.Thread(target=read)
    reader.start()
    for n in range(30):
        writer.write_json(path, ['x'] * (20000 + n))
    stop.set()
    reader.join()
    assert seen and min(seen) >= 20000
    assert os.listdir(tmp_path) == ['f.json']
