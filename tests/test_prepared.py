"""Preparing: what is written, in how much memory, and what is left when it is killed, wrong or done twice."""
import fcntl
import functools
import hashlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow_datasets as tfds
from absl import flags

from fipjax.data.builders import prepare, prepared
from fipjax.errors import Busy, Interrupted, UserError

ROOT = pathlib.Path(__file__).parents[1]
N = {'train': 10, 'test': 3}
FEATURES = {'x': ((4, 3), np.float32), 'y': ((), np.int64), 'group': ((), str), 'words': ((None,), str),
            'any': ((None, None), np.uint8)}


def example(i):
    return {'x': np.full((4, 3), i, np.float32), 'y': i % 2, 'group': f'g{i}', 'words': ['a', 'é'][:i % 3],
            'any': np.full((i % 3 + 1, 2), i, np.uint8)}


def task(stop_at=None, features=FEATURES, shard=4, change=lambda e: e, log=None, notes='', md5=True):
    """A task that raises KeyboardInterrupt at an example."""
    def rows(start, stop):
        for i in range(start, stop):
            if i == stop_at:
                raise KeyboardInterrupt
            if log is not None:
                log.append(i)
            yield change(example(i))

    def open_files(manual_dir):
        return prepared.Opened(features, {k: (n, rows) for k, n in N.items()}, ('no', 'yes'), notes, shard)
    files = (prepared.File('a', '3 bytes', 'nowhere', 'f' * 32 if md5 else ''),)
    return prepared.Task('family/task', 'Of nothing.', files, open_files)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / 'files').mkdir()
    (tmp_path / 'files' / 'a').write_bytes(b'abc')
    return tmp_path


def run(folder, made=None, name='data'):
    return prepared.prepare(made or task(), folder / 'files', folder / name, progress=False)


def content(path):
    """{name: hash} of all files, without the folder's own name in what TFDS writes."""
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(path.iterdir())}


def test_what_is_read_back(folder):
    path = run(folder)
    assert path == folder / 'data' / 'family' / 'task' / '1.0.0'
    for builder in (tfds.builder('family/task', data_dir=folder / 'data'), tfds.builder_from_directory(path)):
        assert builder.info.features['y'].names == ['no', 'yes']
        for split, n in N.items():
            rows = builder.as_data_source(split=split)
            assert len(rows) == n
            for i, row in enumerate(rows):
                expected = example(i)
                np.testing.assert_array_equal(row['x'], expected['x'])
                np.testing.assert_array_equal(row['any'], expected['any'])
                assert row['y'] == expected['y'] and row['group'].decode() == expected['group']
                assert [w.decode() for w in row['words']] == expected['words']
    assert builder.info.splits['train'].shard_lengths == [4, 4, 2]


def test_nothing_else_is_left(folder):
    path = run(folder)
    assert sorted(p.name for p in path.parent.iterdir()) == ['1.0.0']
    extra = {p.name for p in path.iterdir() if '.array_record-' not in p.name}
    assert extra == {'dataset_info.json', 'features.json', 'prepared.json', 'y.labels.txt'}


def test_once(folder):
    log = []
    path = run(folder, task(log=log))
    before = content(path)
    assert run(folder, task(log=log)) == path and len(log) == sum(N.values()) and content(path) == before


@pytest.mark.parametrize('stop_at', [0, 3, 5, 9])
def test_it_goes_on_where_it_was_interrupted(folder, stop_at):
    whole, log = run(folder, name='whole'), []
    with pytest.raises(KeyboardInterrupt):
        run(folder, task(stop_at))
    assert [p.name for p in (folder / 'data' / 'family' / 'task').iterdir()] == ['incomplete.1.0.0']
    with pytest.raises(tfds.core.registered.DatasetNotFoundError):
        tfds.builder('family/task', data_dir=folder / 'data')
    assert content(run(folder, task(log=log))) == content(whole)
    assert log == [*range(stop_at // 4 * 4, 10), *range(3)]  # files that were finished are not made again


def test_a_damaged_finished_file_is_made_again(folder):
    whole = run(folder, name='whole')
    with pytest.raises(KeyboardInterrupt):
        run(folder, task(9))
    part = folder / 'data' / 'family' / 'task' / 'incomplete.1.0.0'
    shard = part / 'family-train.array_record-00001-of-00003'
    raw = bytearray(shard.read_bytes())
    raw[len(raw) // 2] ^= 1
    shard.write_bytes(raw)
    log = []
    assert content(run(folder, task(log=log))) == content(whole) and log == [4, 5, 6, 7, 8, 9, 0, 1, 2]


def test_what_was_interrupted_is_dropped_when_the_files_are_others(folder):
    with pytest.raises(KeyboardInterrupt):
        run(folder, task(9))
    (folder / 'files' / 'a').write_bytes(b'abd')
    log = []
    run(folder, task(log=log))
    assert log == [*range(10), *range(3)]


def test_a_folder_is_known_by_its_files_through_links(folder):
    far, path = folder / 'far', folder / 'files' / 'a'
    (far / 'deep').mkdir(parents=True)
    (far / 'deep' / 'one.npy').write_bytes(b'12')
    path.unlink()
    path.mkdir()
    (path / 'features').symlink_to(far)
    (far / 'deep' / 'round').symlink_to(far)  # without an end, were it followed again
    first = run(folder, task(md5=False))
    assert json.loads((first / 'prepared.json').read_text())['plan']['files'][0][1] == 2
    (far / 'deep' / 'one.npy').write_bytes(b'123')
    with pytest.raises(UserError, match='prepared with other files'):
        run(folder, task(md5=False))


def slow(folder):
    """What the subprocess below runs; slower than its parent kills it."""
    def change(e):
        time.sleep(0.05)
        return e
    prepared.prepare(task(change=change), folder / 'files', folder / 'data', progress=False)


def test_it_goes_on_after_a_kill(folder):
    whole = run(folder, name='whole')
    code = f'import pathlib, test_prepared; test_prepared.slow(pathlib.Path({str(folder)!r}))'
    environment = {**os.environ, 'PYTHONPATH': f'{ROOT}:{ROOT}/tests'}
    process = subprocess.Popen([sys.executable, '-c', code], env=environment)
    part = folder / 'data' / 'family' / 'task' / 'incomplete.1.0.0'
    for _ in range(1200):
        if list(part.glob('*.done')) or process.poll() is not None:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list(part.glob('*.done')) and not (part.parent / '1.0.0').exists()
    log = []
    assert content(run(folder, task(log=log))) == content(whole)
    assert log[0] == 4 or log[0] == 8


def test_another_preparation_under_way(folder):
    part = folder / 'data' / 'family' / 'task' / 'incomplete.1.0.0'
    part.mkdir(parents=True)
    with (part / '.lock').open('w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(Busy, match='another process prepares family/task'):
            run(folder)
    assert part.exists()
    run(folder)


def test_something_else_under_the_same_name(folder):
    run(folder)
    with pytest.raises(UserError, match='prepared with other notes: "" instead of "x"; choose another --data_dir'):
        run(folder, task(notes='x'))
    (folder / 'files' / 'a').write_bytes(b'other')
    with pytest.raises(UserError, match='prepared with other files'):
        run(folder)


@pytest.mark.parametrize('change, message', [
    (lambda e: {**e, 'x': e['x'] + np.float32(np.inf)}, 'train, example 0: x has NaN or infinity'),
    (lambda e: {**e, 'x': e['x'][:3]}, r'x is float32 \[3, 3\]; expected float32 \[4, 3\]'),
    (lambda e: {**e, 'y': 2}, 'y is 2; expected a class, 0..1'),
    (lambda e: {k: v for k, v in e.items() if k != 'group'}, "KeyError: 'group'"),
    (lambda e: {**e, 'x': e['x'].astype(int)}, 'x is int64')])
def test_examples_that_must_not_be_stored(folder, change, message):
    with pytest.raises(UserError, match=message):
        run(folder, task(change=lambda e: change(e) if e['group'] == 'g9' or 'example 0' in message else e))
    assert os.listdir(folder) == ['files']


def test_other_data_sets_stay(folder):
    kept = folder / 'data' / 'family' / 'other'
    kept.mkdir(parents=True)
    with pytest.raises(UserError):
        run(folder, task(change=lambda e: {**e, 'y': -1}))
    assert os.listdir(folder / 'data' / 'family') == ['other']


def test_a_split_that_ends_early(folder):
    made = task()
    opened = made.open(folder)
    rows = lambda start, stop: (example(i) for i in range(start, min(stop, 6)))  # noqa: E731
    short = opened._replace(splits={'train': (10, rows)})
    with pytest.raises(UserError, match='train has 6 examples; expected 10'):
        run(folder, made._replace(open=lambda _: short))
    assert os.listdir(folder) == ['files']


def test_a_missing_file_and_the_instructions(folder):
    (folder / 'files' / 'a').unlink()
    with pytest.raises(UserError, match='has no a\nfamily/task: Of nothing.\n.*manual_dir:\n  a  .3 bytes, MD5 ffff'):
        run(folder)


def test_a_file_that_is_not_the_published_one_is_told(folder):
    assert prepared.remarks(run(folder, task(notes='A note.'))) == [
        'A note.', 'a is not the published file (its MD5 differs): made by other means, or damaged']
    made = task()
    file = made.files[0]._replace(md5=hashlib.md5(b'abc').hexdigest())
    assert prepared.remarks(run(folder, made._replace(files=(file,)), 'second')) == []


def test_files_are_cut_by_their_size(folder):
    features = {'x': ((2 ** 10,), np.float32), 'y': ((), np.int64)}
    made = task(features=features, shard=0, change=lambda e: {'x': np.zeros(2 ** 10, np.float32), 'y': e['y']})
    opened = made.open(folder)
    assert prepared._plan(made, opened, folder / 'files')['rows'] == 2 ** 26 // (2 ** 12 + 8)


MEMORY = """
import pathlib, re, sys, threading
import h5py, scipy.io, zipfile
import numpy as np
from fipjax.data.builders import prepared
folder, name, seen, done = pathlib.Path(sys.argv[1]), sys.argv[2], [], threading.Event()
rows = lambda a, b: iter([{'x': np.zeros(2, np.float32)}])
tiny = lambda _: prepared.Opened({'x': ((2,), np.float32)}, {'train': (1, rows)})
prepared.prepare(prepared.Task('a/b', '', (), tiny), folder, folder / 'data', False)
tasks = prepared.tasks()  # all is imported now

def sample():  # memory of its own; pages of mapped files are the system's
    while not done.wait(0.002):
        seen.append(int(re.search(r'RssAnon:\\s*(\\d+)', pathlib.Path('/proc/self/status').read_text())[1]))

thread = threading.Thread(target=sample)
thread.start()
while not seen:
    pass
prepared.prepare(tasks[name], folder, folder / 'data', False)
done.set()
thread.join()
print(len(seen), max(seen) - seen[0])
"""


def grown(folder, name):
    """MiB by which the peak of a process grows while it prepares a task."""
    done = subprocess.run([sys.executable, '-c', MEMORY, str(folder), name], capture_output=True, text=True,
                          check=False, env={**os.environ, 'PYTHONPATH': str(ROOT)})
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[-1]) / 1024


def archive(folder, n):
    """DeepSEA with n training examples of 16 kB."""
    folder.mkdir()
    arrays = {f'{k}_{name}': np.zeros((m, 1000, 4) if k == 'x' else (m, 36), np.float32)
              for name, m in (('train', n), ('val', 10), ('test', 50)) for k in 'xy'}
    np.savez_compressed(folder / 'deepsea_filtered.npz', **arrays)
    return folder


def hdf5(folder, n, points):
    """Navier-Stokes; HDF5 reads zeros where nothing is written, so the file says that it is large and is not."""
    import h5py
    folder.mkdir()
    with h5py.File(folder / '1D_CFD_Rand_Eta0.1_Zeta0.1_periodic_Train.hdf5', 'w') as f:
        for name in ('density', 'pressure', 'Vx'):
            f.create_dataset(name, (n, 101, points), np.float32)
        f['t-coordinate'] = np.linspace(0, 1.01, 102).astype(np.float32)
    return folder


def numbers(folder, n):
    """NinaPro with n training examples of 6.6 kB."""
    folder.mkdir()
    for name, m in (('train', n), ('val', 3), ('test', 3)):
        np.lib.format.open_memmap(folder / f'ninapro_{name}.npy', 'w+', np.float64, (m, 52, 16)).flush()
        np.save(folder / f'label_{name}.npy', np.zeros(m))
    return folder


def matlab(folder, size):
    """Darcy of size x size points, 2 x 2 arrays of 8 kB * size ^ 2, version 5."""
    from scipy.io import savemat
    folder.mkdir()
    for k in (1, 2):
        savemat(folder / f'piececonst_r421_N1024_smooth{k}.mat', {name: np.zeros((1024, size, size))
                                                                  for name in ('coeff', 'sol')}, do_compression=True)
    return folder


@pytest.mark.parametrize('name, make, small, large, size', [
    ('pdebench/navier_stokes_1d', functools.partial(hdf5, points=1024), 200, 2000, 2.3),
    ('nas_bench_360/deepsea', archive, 600, 6000, 0.09),
    ('nas_bench_360/ninapro', numbers, 2000, 20000, 0.12),
    ('nas_bench_360/darcy', matlab, 16, 51, 0.08)])
def test_memory_is_no_matter_of_the_size(tmp_path, name, make, small, large, size):
    """Of `size` GiB a tenth may be taken, as 2 GiB are of 20; and ten times the file takes hardly more than one."""
    few, many = grown(make(tmp_path / 'small', small), name), grown(make(tmp_path / 'large', large), name)
    assert many < 1024 * size / 10 and many - few < 10


def command(*flags):
    return subprocess.run([sys.executable, '-m', 'fipjax.data.builders.prepare', *flags], capture_output=True,
                          text=True, check=False, cwd=ROOT)


def test_the_command(tmp_path):
    import official_files
    official_files.ninapro(tmp_path)
    done = command('--task=nas_bench_360/ninapro', f'--manual_dir={tmp_path}', f'--data_dir={tmp_path}/data')
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f'prepared {tmp_path}/data/nas_bench_360/ninapro/1.0.0',
        f'use it with --config.target.data=tfds --config.target.name=nas_bench_360/ninapro '
        f'--config.target.data_dir={tmp_path}/data']


def test_sigterm_keeps_what_is_finished(folder, monkeypatch, capsys):
    whole, given, sent = run(folder, name='whole'), flags.FlagValues(), []

    def change(e):
        if e['group'] == 'g5' and not sent:
            sent.append(True)  # first: the handler may run before the call returns
            os.kill(os.getpid(), signal.SIGTERM)
        return e

    for name in ('task', 'manual_dir', 'data_dir'):
        flags.DEFINE_string(name, None, '', flag_values=given)
    given(['prepare', '--task=family/task', f'--manual_dir={folder}/files', f'--data_dir={folder}/data'])
    monkeypatch.setattr(flags, 'FLAGS', given)
    monkeypatch.setattr(prepared, 'tasks', lambda: {'family/task': task(change=change)})
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(Interrupted, match='the same command goes on'):
            prepare.main([])
        assert len(list(folder.rglob('incomplete.1.0.0/*.done'))) == 1
        assert prepare.main([]) == 0
    finally:
        signal.signal(signal.SIGTERM, before)
    assert content(folder / 'data' / 'family' / 'task' / '1.0.0') == content(whole)
    assert '--config.target.name=family/task' in capsys.readouterr().out
    with pytest.raises(UserError, match='this command has no config'):
        prepare.main([('a', '1')])


def test_the_command_without_files():
    done = command('--task=nas_bench_360/ninapro')
    assert done.returncode == 2 and '--manual_dir is missing' in done.stderr
    assert 'ninapro_train.npy' in done.stderr and 'about 15 MB' in done.stderr and 'drive.google.com' in done.stderr


def test_help_lists_tasks_and_files():
    text = prepare.help_text()
    assert all(name in text and all(f.name in text for f in made.files) for name, made in prepared.tasks().items())
    assert len(prepared.tasks()) >= 18
    done = command('--help')
    assert 'pdebench/burgers' in done.stdout and '1D_Burgers_Sols_Nu1.0.hdf5' in done.stdout


def test_names_that_are_no_task():
    done = command('--task=nas_bench_360/ninapr')
    assert done.returncode == 2 and 'did you mean nas_bench_360/ninapro?' in done.stderr


def test_facts_are_kept(folder):
    facts = json.loads((run(folder) / 'prepared.json').read_text())
    assert facts['plan']['splits'] == N and facts['published'] == {'a': False}
