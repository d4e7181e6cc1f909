"""python -m fipjax.data.pde: what it writes, what it says to wrong input, and its help."""
import os
import signal
import subprocess
import sys
import time

import h5py
import pytest

from fipjax.data.pde import tasks
from fipjax.errors import UserError


def start(*arguments):
    return subprocess.Popen([sys.executable, '-m', 'fipjax.data.pde', *arguments], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, cwd=os.getcwd())


def run(*arguments):
    process = start(*arguments)
    out, err = process.communicate()
    return process.returncode, out, err


def test_a_file_by_name_and_parameter(tmp_path):
    out = tmp_path / '1D_Advection_Sols_beta1.0.hdf5'
    code, said, err = run('--task=advection', '--n=2', f'--out={out}', '--resolution=16',
                          '--parameter=beta=1', '--seed=3')
    assert (code, said.strip()) == (0, str(out)), err
    with h5py.File(out) as f:
        assert f['tensor'].shape == (2, 201, 16) and f.attrs['beta'] == 1
    code, said, err = run('--task=advection', '--n=2', f'--out={out}', '--resolution=16')
    assert code == 2 and said == '' and err.startswith('error: ') and 'exists and is not overwritten' in err
    assert 'Traceback' not in err


def test_a_killed_command_goes_on(tmp_path):
    """Killed for good after its first batch; the second run ends with the file that a run in one go writes."""
    out, parts = tmp_path / 'a.h5', tmp_path / 'a.h5.parts'
    arguments = ('--task=shallow_water', '--n=12', '--resolution=16')
    process = start(*arguments, f'--out={out}')
    while process.poll() is None and not (parts / '000000.npz').exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    code, _, err = run(*arguments, f'--out={out}')
    assert code == 0, err
    assert run(*arguments, f'--out={tmp_path / "b.h5"}')[0] == 0
    assert out.read_bytes() == (tmp_path / 'b.h5').read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ['a.h5', 'b.h5']


def test_wrong_input_is_answered_in_one_message(tmp_path):
    code, said, err = run('--task=burger', '--n=2', f'--out={tmp_path / "a"}')
    assert code == 2 and said == '' and 'no such task, did you mean burgers?; allowed: advection, burgers, ' in err
    code, said, err = run('--task=burgers', f'--out={tmp_path / "a"}')
    assert code == 2 and '--n is missing; e.g. --n=1000 --out=1D_Burgers_Sols_Nu1.0.hdf5' in err
    assert not list(tmp_path.iterdir())


def test_help_tells_the_tasks():
    _, said, err = run('--help')
    for task in tasks.TASKS.values():
        assert task.name in said + err and task.file_name(task.parameters) in said + err
        assert task.equation in said + err
    assert '--parameter' in said + err and '--resolution' in said + err


def test_tasks_by_name():
    assert tasks.find('darcy').name == 'darcy'
    with pytest.raises(UserError, match='--task is missing; allowed: advection'):
        tasks.find(None)


def test_parameters_by_name():
    task = tasks.TASKS['navier_stokes_1d']
    assert tasks.parameters_of(task, []) == {'eta': 0.1, 'zeta': 0.1}
    assert tasks.parameters_of(task, ['eta=1e-2']) == {'eta': 0.01, 'zeta': 0.1}
    for text, words in (('nu=1', "no parameter 'nu'; it has eta=0.1, zeta=0.1"), ('eta', 'number, e.g. eta=0.1'),
                        ('eta=', 'positive number'), ('eta=-1', 'positive number'), ('eta=0', 'positive number'),
                        ('eta=nan', 'positive number'), ('eta=inf', 'positive number'), ('eta=x', 'positive number')):
        with pytest.raises(UserError, match=words):
            tasks.parameters_of(task, [text])


def test_resolutions():
    task = tasks.TASKS['darcy']
    assert tasks.resolution_of(task, None, task.parameters) == 64
    assert tasks.resolution_of(task, 1024, task.parameters) == 1024
    for points in (0, -16, 8, 100, 2048):
        with pytest.raises(UserError, match=f'--resolution={points}: darcy needs a power of 2 from 16 to 1024'):
            tasks.resolution_of(task, points, task.parameters)
    with pytest.raises(UserError, match='nu=0.0001'):
        tasks.resolution_of(tasks.TASKS['burgers'], 1024, {'nu': 1e-4})
