"""The TFDS builder of recorded frames and configs/fip/radioml.py, on small files of the layouts that they read."""
import functools
import pathlib
import signal
import subprocess
import sys

import h5py
import numpy as np
import pytest
from radio_files import frames, write_2016, write_2018, write_sigmf

from fipjax import arms, experiment, validation
from fipjax import config as config_lib
from fipjax.data import constellation, recorded, sources
from fipjax.data.builders import constellation as constellation_builder
from fipjax.data.builders import recorded as builder
from fipjax.data.builders import views
from fipjax.errors import UserError
from fipjax.modality import Modality
from fipjax.overrides import split_argv

CONFIG = str(pathlib.Path(__file__).parents[1] / 'configs' / 'fip' / 'radioml.py')
SIZES = {'pretrain': 20, 'train': 12, 'validation': 6, 'test': 7}
NOTES = [{'core:label': ('LTE', 'WiFi')[i % 2], 'core:sample_start': 40 * i, 'core:sample_count': 32,
          **({'snr_db': i % 3} if i % 5 else {})} for i in range(50)]


def bad_sample(folder):
    samples = np.ones((2000, 2), np.float32)
    samples[40 * 30] = np.nan
    return write_sigmf(folder, annotations=NOTES, samples=samples)


def bad_chunk(path):
    """A file whose frames from 48 on do not have their checksum."""
    write_2018(path, X=None)
    with h5py.File(path, 'a') as f:
        x = f.create_dataset('X', data=frames(96, 1024, 2), chunks=(48, 1024, 2), fletcher32=True)
        place = x.id.get_chunk_info(1).byte_offset
    with path.open('r+b') as f:
        f.seek(place)
        f.write(b'damaged')


# layout -> (file name, its writer, samples of a frame, writer of a file whose damage shows in a frame, the error)
LAYOUTS = {
    '2016': ('RML2016.10a_dict.pkl', write_2016, 128,
             lambda p: write_2016(p, {('QPSK', 18): frames(12, 2, 128) * np.float32(np.nan)}), 'has NaN or infinity'),
    '2018': ('GOLD_XYZ_OSC.0001_1024.hdf5', write_2018, 1024, bad_chunk, '/X is damaged: '),
    'sigmf': ('recordings', lambda p: write_sigmf(p, annotations=NOTES), 32, bad_sample, 'has NaN or infinity')}


def data_of(path, samples, **changes):
    """config.data of a file; `changes` are dotted keys with __ for the dot."""
    c = config_lib.base({'image': {'kind': 'image', 'shape': (16, 16, 3), 'patch': 8},
                         'iq': {'kind': 'sequence', 'shape': (samples, 2), 'patch': 8},
                         'spectrogram': {'kind': 'image', 'shape': (16, 16, 1), 'patch': 8}})
    c.data.source, c.data.path, c.data.signal.snr_db = 'recorded', str(path), (-20.0, 30.0)
    for split, n in SIZES.items():
        c.data[f'{split}_examples'] = n
    for key, value in changes.items():
        group, _, leaf = ('data.' + key.replace('__', '.')).rpartition('.')
        config_lib.get(c, group)[leaf] = value
    return c.data


def assert_same(data, prepared):
    """data.source=tfds gives what data.source=recorded gives."""
    made = sources.build(data, progress=False)
    there = config_lib.ConfigDict({**data.to_dict(), 'source': 'tfds', 'path': '',
                                   'tfds': {**data.tfds.to_dict(), 'data_dir': str(prepared)}})
    read = sources.build(there, progress=False)
    for split in sources.SPLITS:
        ours, theirs = getattr(made, split), getattr(read, split)
        assert ours.classes == theirs.classes and len(ours) == len(theirs) == data[f'{split}_examples']
        a, b = (s.take(np.arange(len(ours))) for s in (ours, theirs))
        assert {k: sorted(v) if isinstance(v, dict) else v.dtype for k, v in a.items()} == {
            k: sorted(v) if isinstance(v, dict) else v.dtype for k, v in b.items()}
        for kind in ('inputs', 'targets', 'present', 'meta'):
            for m in a[kind]:
                assert a[kind][m].dtype == b[kind][m].dtype or kind == 'meta'  # TFDS reads single numbers as float
                np.testing.assert_array_equal(a[kind][m], b[kind][m])
        np.testing.assert_array_equal(a['id'], b['id'])
        np.testing.assert_array_equal(a['label'], b['label'])


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('cache', [True, False])
def test_prepared_data_equal_recorded_data(tmp_path, layout, cache):
    name, write, samples, *_ = LAYOUTS[layout]
    write(tmp_path / name)
    data = data_of(tmp_path / name, samples, cache=cache)
    made = builder.prepare(tmp_path / 'data', data, progress=False)
    assert_same(data, made.data_dir)
    assert {k for k in made.info.features if k.endswith('_target')} == set()
    assert sorted(p.name for p in (tmp_path / 'data').iterdir()) == ['recorded']


def test_files_are_read_and_written_in_pieces(tmp_path, monkeypatch):
    write_2016(tmp_path / 'x.pkl')
    data = data_of(tmp_path / 'x.pkl', 128, pretrain_examples=30)
    monkeypatch.setattr(builder, 'SHARD', 5 * (16 * 16 * 3 + 4 * 128 * 2 + 4 * 16 * 16))
    monkeypatch.setattr(views, 'BATCH', 4)
    read, real = [], recorded.Source.raw
    monkeypatch.setattr(recorded.Source, 'raw', lambda self, rows: (read.append(len(rows)), real(self, rows))[1])
    made = builder.prepare(tmp_path / 'data', data, progress=False)
    assert max(read) == 4 and sum(read) == 55
    lengths = {split: made.info.splits[split].shard_lengths for split in sources.SPLITS}
    assert lengths == {'pretrain': [5] * 6, 'train': [5, 5, 2], 'validation': [5, 1], 'test': [5, 2]}
    assert_same(data, made.data_dir)


def test_prepared_once(tmp_path, monkeypatch):
    write_2016(tmp_path / 'x.pkl')
    first = builder.prepare(tmp_path / 'data', data_of(tmp_path / 'x.pkl', 128), progress=False)
    monkeypatch.setattr(recorded.Source, 'raw', None)  # nothing is read again
    again = builder.prepare(tmp_path / 'data', data_of(tmp_path / 'x.pkl', 128), progress=False)
    assert again.data_dir == first.data_dir


def name_of(monkeypatch, data):
    with monkeypatch.context() as patch:
        patch.setattr(views, 'write', lambda made: None)
        return builder.prepare('unused', data, progress=False).builder_config.name


def test_the_name_tells_different_data_apart(tmp_path, monkeypatch):
    name, (path, _) = functools.partial(name_of, monkeypatch), write_2016(tmp_path / 'x.pkl')
    first = name(data_of(path, 128))
    assert first.startswith('x-') and name(data_of(path, 128, cache=False, threads=2)) == first
    assert name(data_of(path, 128, signal__classes=('8PSK', 'AM-DSB', 'QPSK'))) == first  # all, in their order
    other = [name(data_of(path, 128, **changes)) for changes in (
        {'seed': 1}, {'train_examples': 13}, {'signal__snr_db': (-20.0, 31.0)}, {'modalities__iq__shape': (64, 2)},
        {'signal__classes': ('QPSK', 'AM-DSB', '8PSK')})]
    (tmp_path / 'y.pkl').write_bytes(path.read_bytes())
    other.append(name(data_of(tmp_path / 'y.pkl', 128)))
    write_2016(path, {('QPSK', 18): frames(12, 2, 128, seed=1)})
    other.append(name(data_of(path, 128)))
    assert len({first, *other}) == 8


def test_identity_of_a_large_file_and_of_a_folder(tmp_path):
    path, content = tmp_path / 'x.hdf5', bytearray(3 * builder.PIECE * builder.PIECES)
    found = []
    for place in (0, 0, len(content) - 1, len(content) // 5 * 2):  # head, tail, and between them
        changed = content.copy()
        changed[place] = 1
        path.write_bytes(changed)
        found += builder.identity(path)
    assert found[0] == found[1] and len({digest for _, _, digest in found[:4]}) == 3
    assert all(one[:2] == ('x.hdf5', len(content)) for one in found)
    folder, _ = write_sigmf(tmp_path / 'r', annotations=NOTES)
    (folder / 'notes.txt').write_text('not of the recording')
    assert [one[0] for one in builder.identity(folder)] == ['a.sigmf-meta', 'a.sigmf-data']


def test_names_of_constellation_data_stay_as_they_are():
    modalities = {'image': Modality('image', 'image', (16, 16, 3), 8), 'iq': Modality('iq', 'sequence', (32, 2), 8),
                  'spectrogram': Modality('spectrogram', 'image', (16, 16, 1), 8)}
    sizes = {'test': 5, 'pretrain': 90, 'validation': 3, 'train': 70}
    for mode, name in (('standard', 'standard-63f66741ac55'), ('denomae', 'denomae-8f13e6b08ea1')):
        assert constellation_builder.config(constellation.Signal(mode=mode), modalities, sizes, 3).name == name


# --- What goes wrong --------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('layout', LAYOUTS)
def test_of_a_damaged_file_nothing_is_prepared(tmp_path, layout):
    name, _, samples, write, message = LAYOUTS[layout]
    write(tmp_path / name)
    data = data_of(tmp_path / name, samples, pretrain_examples=24)
    with pytest.raises(UserError, match=f'{name}.*{message}'):
        builder.prepare(tmp_path / 'data', data, progress=False)
    assert not (tmp_path / 'data').exists()


def test_data_beside_a_damaged_file_stay(tmp_path):
    write_2016(tmp_path / 'x.pkl')
    good = builder.prepare(tmp_path / 'data', data_of(tmp_path / 'x.pkl', 128), progress=False)
    LAYOUTS['2016'][3](tmp_path / 'y.pkl')
    with pytest.raises(UserError, match='NaN'):
        builder.prepare(tmp_path / 'data', data_of(tmp_path / 'y.pkl', 128, pretrain_examples=40), progress=False)
    assert [p.name for p in (tmp_path / 'data' / 'recorded').iterdir()] == [good.builder_config.name]


@pytest.mark.parametrize('label', [' LTE', 'LTE\n5G', ''])
def test_names_of_classes_that_cannot_be_stored(tmp_path, label):
    folder, _ = write_sigmf(tmp_path / 'r', annotations=[*NOTES, {**NOTES[0], 'core:label': label}])
    with pytest.raises(UserError, match='cannot be stored'):
        builder.prepare(tmp_path / 'data', data_of(folder, 32), progress=False)
    with pytest.raises(UserError, match='each is allowed once'):
        twice = data_of(folder, 32, signal__classes=('LTE', 'LTE'), pretrain_examples=2, train_examples=2)
        builder.prepare(tmp_path / 'data', twice, progress=False)
    assert not (tmp_path / 'data').exists()


def command(*arguments, code=None):
    start = ['-m', 'fipjax.data.builders.recorded'] if code is None else ['-c', code]
    return subprocess.run([sys.executable, *start, f'--config={CONFIG}', *arguments], capture_output=True, text=True,
                          timeout=600)


@pytest.mark.parametrize('name', ['SIGTERM', 'SIGKILL'])
def test_what_is_interrupted_does_not_look_finished(tmp_path, name):
    """In the middle of the second split."""
    path, _ = write_2016(tmp_path / 'x.pkl')
    code = f"""
import os, signal
from fipjax.data import recorded
from fipjax.data.builders import recorded as builder, views
real = recorded.Source.raw
def raw(self, rows):
    if len(self) == 12 and rows[0]:
        os.kill(os.getpid(), signal.{name})
    return real(self, rows)
recorded.Source.raw, views.BATCH = raw, 4
views.start(builder.main)
"""
    sizes = [f'--config.data.{split}_examples={n}' for split, n in SIZES.items()]
    done = command(f'--config.data.path={path}', f'--data_dir={tmp_path / "data"}', *sizes, code=code)
    if name == 'SIGTERM':
        assert done.returncode == 143 and 'nothing is prepared' in done.stderr
        assert not (tmp_path / 'data').exists()
        return
    assert done.returncode == -signal.SIGKILL
    left, = (tmp_path / 'data' / 'recorded').glob('*/*')
    assert left.name.startswith('incomplete.') and not (left / 'dataset_info.json').exists()
    data = config_lib.load(CONFIG, None, [(f'data.{split}_examples', str(n)) for split, n in SIZES.items()]).data
    data.path = str(path)
    made = builder.prepare(tmp_path / 'data', data, progress=False)
    assert pathlib.Path(made.data_dir).parent == left.parent
    assert_same(data, made.data_dir)


def test_the_command_says_how_to_read_what_it_prepared(tmp_path):
    path, _ = write_2016(tmp_path / 'x.pkl')
    sizes = [f'--config.data.{split}_examples={n}' for split, n in SIZES.items()]
    done = command(f'--config.data.path={path}', f'--data_dir={tmp_path / "data"}', *sizes)
    assert done.returncode == 0, done.stderr
    _, options = split_argv(done.stdout.strip().splitlines()[-1].split()[3:])
    c = config_lib.load(CONFIG, 'cosine', options)
    read = sources.build(c.data, progress=False)
    assert c.data.source == 'tfds' and [len(split) for split in read[:4]] == list(SIZES.values())
    done = command(f'--config.data.path={path}', '--config.data.source=arrays', f'--data_dir={tmp_path / "data"}')
    assert done.returncode == 2 and done.stderr.strip().endswith(
        "error: data.source is 'arrays'; this command prepares 'recorded'")


# --- configs/fip/radioml.py -------------------------------------------------------------------------------------------

@pytest.mark.parametrize('arm', arms.ARMS)
def test_the_config_has_every_arm(arm):
    c = config_lib.load(CONFIG, arm)
    validation.validate(c)
    assert (c.variant, c.pretrain.fip.target, c.data.source) == (arm, 'image', 'recorded')


def test_the_config_for_2018_and_an_arm_that_is_unknown(tmp_path):
    path, _ = write_2018(tmp_path / 'GOLD_XYZ_OSC.0001_1024.hdf5')
    c = config_lib.load(CONFIG, None, [
        ('data.path', str(path)), ('data.modalities.iq.shape', '1024,2'), ('data.modalities.iq.patch', '64'),
        *((f'data.{split}_examples', str(n)) for split, n in SIZES.items())])
    validation.validate(c)
    assert sources.build(c.data, progress=False).train.take(np.arange(2))['inputs']['iq'].shape == (2, 1024, 2)
    with pytest.raises(UserError, match="variant 'fip' is unknown; allowed: uniform, prior, cosine"):
        config_lib.load(CONFIG, 'fip')


def test_a_run_with_estimated_weights(tmp_path):
    path, _ = write_2016(tmp_path / 'RML2016.10a_dict.pkl')
    c = config_lib.load(CONFIG, 'cosine')
    c.data.path = str(path)
    for split, n in {'pretrain': 20, 'train': 24, 'validation': 12, 'test': 12}.items():
        c.data[f'{split}_examples'] = n
    c.model.update({'dim': 16, 'depth': 1, 'heads': 2, 'decoder_dim': 8, 'decoder_heads': 2})
    for stage in (c.pretrain, c.finetune):
        stage.steps, stage.batch_size, stage.eval_every, stage.optimizer.warmup_steps = 4, 6, 2, 1
    c.pretrain.fip.downstream.every, c.pretrain.fip.downstream.labels_per_class = 2, 4
    c.finetune.labels_per_class, c.eval_batch_size, c.log_every = (4,), 12, 1
    metrics = experiment.run(c, tmp_path / 'run', progress=False)['metrics']
    weights = [metrics[f'pretrain/weight/{m}'] for m in ('image', 'iq', 'spectrogram')]
    assert sum(weights) == pytest.approx(3, rel=1e-5) and np.ptp(weights) > 0
