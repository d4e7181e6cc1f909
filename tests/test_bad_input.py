"""Wrong input through the command line: exit code 2, one line that names key, value and what is allowed, no training.

Each case gives the arguments, or changes the data file, and the words that the line must have.
"""
import os
import pathlib
import subprocess
import sys
import time

import numpy as np
import pytest
import tiny
from absl.testing import flagsaver

from fipjax import main as main_lib
from fipjax import train

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture
def place(tmp_path):
    np.savez(tmp_path / 'data.npz', **tiny.arrays(60))
    tiny.config_file(tmp_path / 'config.py', data__path=str(tmp_path / 'data.npz'))
    return tmp_path


@pytest.fixture
def command(place, monkeypatch, capsys):
    """Runs the command in this process: (exit code, standard error)."""
    def never(*args, **kwargs):
        raise AssertionError('training was reached: the input should have been refused before')
    monkeypatch.setattr(train, 'fit', never)

    def call(*arguments):
        monkeypatch.setattr(sys, 'argv', ['fipjax', *arguments])
        with flagsaver.flagsaver(), pytest.raises(SystemExit) as stopped:
            main_lib.run()
        return stopped.value.code, capsys.readouterr().err
    return call


def words(error):
    """The one line."""
    lines = [line for line in error.splitlines() if line.strip()]
    assert len(lines) == 1 and lines[0].startswith('error: ') and 'Traceback' not in error, error
    return lines[0]


def config_and_workdir(place):
    return [f'--config={place / "config.py"}', f'--workdir={place / "run"}']


# --- Config -------------------------------------------------------------------------------------------------

KEYS = {
    'unknown key': (['--config.pretrain.stepz=3'], ['pretrain.stepz', '=3', 'pretrain.steps']),
    'a group instead of a key': (['--config.pretrain=3'], ['pretrain', 'group']),
    'no value': (['--config.seed'], ['--config.seed', 'VALUE']),
    'wrong type': (['--config.seed=abc'], ['seed', 'abc', 'int']),
    'wrong type of a tuple': (['--config.finetune.labels_per_class=few'], ['labels_per_class', 'few', 'tuple']),
    'unknown modality': (['--config.pretrain.modalities=image,audio'], ['pretrain.modalities', 'audio', 'image']),
    'key of an unknown modality': (['--config.pretrain.fip.mask_ratio.audio=0.5'],
                                   ['pretrain.fip.mask_ratio.audio', 'pretrain.fip.mask_ratio.image']),
    'target not a modality': (['--config.pretrain.fip.target=audio'], ['fip.target', 'audio', 'image, sequence']),
    'target not pretrained on': (['--config.pretrain.modalities=sequence'], ['pretrain.modalities', 'target image']),
    'mask ratio 1': (['--config.pretrain.fip.mask_ratio.target=1.0'],
                     ['pretrain.fip.mask_ratio.target', '1.0', '[0, 1)']),
    'mask ratio below 0': (['--config.pretrain.fip.mask_ratio.sequence=-0.1'],
                           ['pretrain.fip.mask_ratio.sequence', '-0.1', '[0, 1)']),
    'all weights zero': (['--config.pretrain.fip.loss_weight.target=0', '--config.pretrain.fip.loss_weight.others=0'],
                         ['pretrain.fip.loss_weight', '0.0', 'above 0']),
    'negative weight': (['--config.pretrain.fip.loss_weight.others=-2'],
                        ['pretrain.fip.loss_weight.others', '-2.0', '0 or more']),
    'patch does not divide': (['--config.data.modalities.image.patch=3'],
                              ['data.modalities.image.patch', '3', '(8, 8)']),
    'unknown mode': (['--config.parallel.mode=fsdp'], ['parallel.mode', 'fsdp', 'pmap or jit']),
    'unknown algorithm': (['--config.pretrain.algorithm=mae'], ['pretrain.algorithm', 'mae', 'fip or none']),
    'unknown fine-tuning': (['--config.finetune.mode=lora'], ['finetune.mode', 'lora', 'full or frozen or probe']),
    'no steps': (['--config.pretrain.steps=0'], ['pretrain.steps', '0', 'at least 1']),
    'heads do not divide': (['--config.model.heads=3'], ['model.dim', '16', '3 heads']),
    'too many labels': (['--config.finetune.labels_per_class=2,100'], ['finetune.labels_per_class', '100', 'only 8']),
    'missing data file': (['--config.data.path=nothing.npz'], ['data.path', 'nothing.npz', 'no such file']),
    'no data file': (['--config.data.path='], ['data.path', 'empty', '.npz']),
    'unknown source': (['--config.data.source=hdf5'], ['data.source', 'hdf5', 'arrays']),
    'no tfds data set': (['--config.data.source=tfds', '--config.data.tfds.name=no_such_set'],
                         ['data.tfds', 'no_such_set']),
    'encoder from nowhere': (['--config.finetune.encoder_from=nowhere'], ['nowhere', 'no checkpoint there']),
    'unknown flag': (['--wrkdir=x'], ['wrkdir']),
    'stray argument': (['now'], ["'now'"]),
}


@pytest.mark.parametrize('case', KEYS)
def test_keys(command, place, case):
    arguments, parts = KEYS[case]
    code, error = command(*config_and_workdir(place), *arguments)
    assert code == 2
    line = words(error)
    assert all(p in line for p in parts), line


FILES = {
    'unknown key': ('c.pretrain.stepz = 3', ['stepz']),
    'wrong type': ("c.seed = 'abc'", ['seed', 'int']),
    'wrong type of a group': ('c.pretrain = 3', ['pretrain']),
    'unknown variant': ("raise config_lib.UserError(f'variant {variant!r} is unknown; allowed: a')",
                        ["'tiny'", 'allowed: a']),
    'value out of range': ('c.pretrain.fip.mask_ratio.image = 1.5', ['pretrain.fip.mask_ratio.image', '1.5', '[0, 1)']),
}


@pytest.mark.parametrize('case', FILES)
def test_config_files(command, place, case):
    text, parts = FILES[case]
    source = (place / 'config.py').read_text()
    (place / 'config.py').write_text(source.replace('    return c\n', f'    {text}\n    return c\n'))
    code, error = command(*config_and_workdir(place))
    assert code == 2
    line = words(error)
    named = [] if case in ('value out of range', 'unknown variant') else ['config.py']
    assert all(p in line for p in (*parts, *named)), line


def test_command_without_what_it_needs(command, place):
    config = f'--config={place / "config.py"}'
    for arguments, parts in (([config], ['--workdir']), ([f'--workdir={place}'], ['--config']), ([], ['--config']),
                             ([f'--config={place}/none.py', f'--workdir={place / "run"}'], ['none.py', 'no such file']),
                             ([f'{config}:best', f'--workdir={place / "run"}'], ["'best'", 'tiny, other'])):
        code, error = command(*arguments)
        assert code == 2 and all(p in words(error) for p in parts)


def test_own_arrays_without_a_target(command, place):
    """What was read off is said once, before what is wrong."""
    code, error = command(f'--config={ROOT / "configs" / "fip" / "arrays.py"}', f'--workdir={place / "run"}',
                          f'--config.data.path={place / "data.npz"}')
    lines = error.splitlines()
    assert code == 2 and lines[-1] == "error: pretrain.fip.target is ''; allowed: one of the modalities image, sequence"
    assert [line for line in lines if 'read off' in line] == lines[:1] and str(place / 'data.npz') in lines[0]
    assert lines[1].startswith('  image float32 [n, 8, 8, 2]: image of 8 x 8, 2 channels: 64 tokens of 1 x 1')


# --- Data ---------------------------------------------------------------------------------------------------

def changed(**fields):
    return lambda path: np.savez(path, **{**tiny.arrays(60), **{k: f(tiny.arrays(60)) for k, f in fields.items()}})


def without(name):
    return lambda path: np.savez(path, **{k: v for k, v in tiny.arrays(60).items() if k != name})


def put(array, index, value):
    array = array.copy()
    array[index] = value
    return array


def truncated(path):
    path.write_bytes(path.read_bytes()[:3000])


def objects(path):
    np.savez(path, **{**tiny.arrays(60), 'note': np.array([{'a': 1}] * 60, object)})


def npy(path):
    with path.open('wb') as f:
        np.save(f, tiny.arrays(60)['image'])


DATA = {
    'NaN': (changed(image=lambda a: put(a['image'], (7, 0, 0, 0), np.nan)), ['image', 'NaN', '1 examples']),
    'infinity': (changed(sequence=lambda a: put(a['sequence'], 3, np.inf)), ['sequence', 'infinity']),
    'wrong shape': (changed(image=lambda a: a['image'][:, :6]), ['image', '(12, 6, 8, 2)', '8, 8, 2']),
    'wrong length': (changed(sequence=lambda a: a['sequence'][:50]), ['sequence', '50', '60']),
    'words instead of numbers': (changed(image=lambda a: a['image'].astype('U4')), ['image', '<U4', 'numbers']),
    'empty split': (changed(split=lambda a: np.where(a['split'] == 'test', 'train', a['split'])),
                    ['test split is empty']),
    'unknown split': (changed(split=lambda a: np.where(a['split'] == 'test', 'dev', a['split'])),
                      ['split', 'dev', 'validation']),
    'no examples': (lambda path: np.savez(path, **{k: v[:0] for k, v in tiny.arrays(60).items()}), ['no examples']),
    'label out of range': (changed(label=lambda a: put(a['label'], 59, 9)), ['label', '9', '0..K-1']),
    'enormous label': (changed(label=lambda a: put(a['label'], 59, 2 ** 60)), ['label', str(2 ** 60), '0..K-1']),
    'negative label': (changed(label=lambda a: put(a['label'], 4, -1)), ['label', '-1', 'only the pretrain split']),
    'labels of type float': (changed(label=lambda a: a['label'].astype(np.float32)), ['label', 'float32', 'integers']),
    'no labels': (without('label'), ['label', 'fine-tuning needs it']),
    'no array of a modality': (without('sequence'), ['sequence', 'found', 'image']),
    'pickled objects': (objects, ['data.path', 'not an .npz file of plain arrays']),
    'truncated archive': (truncated, ['data.path', 'not an .npz file']),
    'not an archive': (lambda path: path.write_text('image,label\n'), ['data.path', 'not an .npz file']),
    'an .npy file': (npy, ['data.path', 'not an .npz file']),
    'empty file': (lambda path: path.write_bytes(b''), ['data.path', 'not an .npz file']),
}


@pytest.mark.parametrize('case', DATA)
def test_data(command, place, case):
    make, parts = DATA[case]
    make(place / 'data.npz')
    code, error = command(*config_and_workdir(place))
    assert code == 2
    line = words(error)
    assert all(p in line for p in (*parts, 'data.npz')), line


# --- Workdir ------------------------------------------------------------------------------------------------

def test_unwritable_workdir(command, place):
    (place / 'file').write_text('')
    code, error = command(f'--config={place / "config.py"}', f'--workdir={place / "file" / "run"}')
    assert code == 2 and all(p in words(error) for p in ('--workdir', str(place / 'file' / 'run'), 'cannot be written'))


def test_workdir_of_another_config(command, place):
    from fipjax import config as config_lib
    from fipjax import workdir
    with workdir.claim(place / 'run', config_lib.load(str(place / 'config.py'))):
        (place / 'run' / 'metrics.jsonl').write_text('')
    code, error = command(*config_and_workdir(place), '--config.seed=5')
    assert code == 2 and all(p in words(error) for p in ('--workdir', 'seed: 0 != 5'))


def test_right_input_reaches_the_training(command, place):
    """The stand-in for training is what it claims to be: without a mistake it is reached."""
    with pytest.raises(AssertionError, match='training was reached'):
        command(*config_and_workdir(place))


# --- Real processes -----------------------------------------------------------------------------------------

def _nan(place):
    DATA['NaN'][0](place / 'data.npz')
    return []


PROCESSES = {
    'unknown key': (lambda place: ['--config.pretrain.stepz=3'], ['pretrain.stepz', 'pretrain.steps']),
    'batch does not divide': (lambda place: ['--config.finetune.batch_size=10'],
                              ['finetune.batch_size', '10', '4 devices']),
    'NaN': (_nan, ['image', 'NaN', 'data.npz']),
}


@pytest.mark.parametrize('case', PROCESSES)
def test_as_a_process(place, case):
    change, parts = PROCESSES[case]
    sizes = ['--config.pretrain.batch_size=8', '--config.finetune.batch_size=8', '--config.eval_batch_size=8']
    arguments = [*config_and_workdir(place), *sizes, *change(place)]
    flags = os.environ.get('XLA_FLAGS', '') + ' --xla_force_host_platform_device_count=4'
    started = time.monotonic()
    done = subprocess.run([sys.executable, '-m', 'fipjax.main', *arguments], capture_output=True, text=True, cwd=ROOT,
                          env={**os.environ, 'XLA_FLAGS': flags}, timeout=120)
    seconds = time.monotonic() - started
    assert done.returncode == 2 and 'Traceback' not in done.stderr, done.stderr
    line = done.stderr.strip().splitlines()[-1]
    assert line.startswith('error: ') and all(p in line for p in parts), done.stderr
    assert not list(place.rglob('metrics.jsonl')) and not list(place.rglob('checkpoints'))
    print(f'{case}: {seconds:.1f} s')  # the promise is 20 s; not asserted, machines differ
