"""Data sets too large for memory: the same examples as from memory, read by batches, statistics of a sample."""
import numpy as np
import pytest
import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from fipjax import config as config_lib
from fipjax.data import labelled, pipeline, readers, standardising
from fipjax.errors import UserError

SIZES = {'train': 20, 'validation': 7, 'test': 9}
BAD = 3  # of training in 'bad'


class Fields(tfds.core.GeneratorBasedBuilder):
    """Small pictures and lines with each kind of target."""

    VERSION = tfds.core.Version('1.0.0')

    def _info(self):
        def tensor(*shape):
            return tfds.features.Tensor(shape=shape, dtype=np.float32, encoding=tfds.features.Encoding.BYTES)
        features = {'picture': tensor(6, 4, 3), 'grey': tensor(6, 4), 'bad': tensor(6, 4), 'line': tensor(32),
                    'pixels': tfds.features.Tensor(shape=(6, 4, 3), dtype=np.uint8), 'field': tensor(6, 4, 2),
                    'labels': tfds.features.Tensor(shape=(3,), dtype=np.int64),
                    'class': tfds.features.ClassLabel(names=['a', 'b']), 'subject': tfds.features.Text()}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features),
                                     disable_shuffling=True)

    def _split_generators(self, dl_manager):
        return {name: self._generate_examples(name, n) for name, n in SIZES.items()}

    def _generate_examples(self, name, n):
        rng = np.random.default_rng(list(SIZES).index(name))
        for i in range(n):
            row = {k: rng.normal(3, 2, shape).astype(np.float32)
                   for k, shape in (('picture', (6, 4, 3)), ('grey', (6, 4)), ('line', (32,)), ('field', (6, 4, 2)))}
            bad = row['grey'].copy()
            bad[0, 0] = np.nan if name == 'train' and i == BAD else 0
            yield i, {**row, 'bad': bad, 'pixels': rng.integers(0, 256, (6, 4, 3)).astype(np.uint8),
                      'labels': np.array([i % 2, (i // 2) % 2, (i // 4) % 2]), 'class': i % 2, 'subject': f'p{i // 2}'}


@pytest.fixture(scope='module')
def fields(tmp_path_factory):
    builder = Fields(data_dir=tmp_path_factory.mktemp('tfds'), file_format='array_record')
    builder.download_and_prepare()
    return str(builder.data_dir)


def settings(data_dir, x_key, y_key, **changes):
    out = ConfigDict(config_lib.labelled())
    out.update({'data': 'tfds', 'data_dir': data_dir, 'x_key': x_key, 'y_key': y_key, 'group_key': '', **changes})
    return out


def everything(source):
    return source.take(np.arange(len(source)))


@pytest.fixture
def large(monkeypatch):
    monkeypatch.setattr(readers, 'IN_MEMORY', 0)


CASES = [dict(x_key='picture', y_key='class'), dict(x_key='grey', y_key='class', kind='2d'),
         dict(x_key='line', y_key='class'), dict(x_key='picture', y_key='labels'),
         dict(x_key='picture', y_key='field'), dict(x_key='picture', y_key='class', splits=('train', '', '')),
         dict(x_key='picture', y_key='class', splits=('train', '', 'test'), group_key='subject'),
         dict(x_key='picture', y_key='class', examples=8), dict(x_key='pixels', y_key='class', pixels=True),
         dict(x_key='line', y_key='class', view='spectrogram',
              spectrogram={'window': 8, 'hop': 4, 'bins': 4, 'frames': 6})]


@pytest.mark.parametrize('case', CASES, ids=lambda c: '-'.join(map(str, c.values())))
def test_examples_are_those_from_memory(fields, case, monkeypatch):
    pixels = case.get('pixels', False)
    wanted = settings(fields, **{k: v for k, v in case.items() if k != 'pixels'})
    memory = labelled.build(wanted, pixels=pixels)
    monkeypatch.setattr(readers, 'IN_MEMORY', 0)
    found = labelled.build(wanted, pixels=pixels)
    assert type(memory.train) is labelled.Source and type(found.train) is labelled.Streamed
    note = f', read batch by batch, standardised by {len(found.train)} of the training examples'
    assert note in found.task.description
    assert str(found.task._replace(description=memory.task.description)) == str(memory.task)
    for a, b in zip(memory[1:], found[1:], strict=True):
        x, y = everything(a), everything(b)
        assert list(x) == list(y)
        for key in x:
            assert x[key].dtype == y[key].dtype
            np.testing.assert_array_equal(x[key], y[key], err_msg=key)
        np.testing.assert_array_equal(a.y, b.y)
        order = np.array([2, 0, 2, len(b) - 1])  # any order, twice the same
        np.testing.assert_array_equal(b.take(order)['x'], x['x'][order])
    few = labelled.subset(found.train, 1, 0) if found.task.output == 'classes' else found.train
    assert len(everything(few)['x']) == len(few)
    batches = list(pipeline.evaluation(found.test, 4))
    np.testing.assert_array_equal(np.concatenate([b['x'] for b in batches])[:len(found.test)],
                                  everything(memory.test)['x'])


def test_x_is_never_read_whole_and_test_not_before_its_use(fields, large, monkeypatch):
    reads, real = [], readers.Stored.__getitem__

    def counted(self, rows):
        if not isinstance(rows, tuple):
            reads.append((len(rows), max(rows)))
        return real(self, rows)
    monkeypatch.setattr(readers.Stored, '__getitem__', counted)
    monkeypatch.setattr(standardising, 'SAMPLE', 5 * 6 * 4 * 3 * 4)  # five examples
    monkeypatch.setattr(readers, 'READ_BYTES', 1)
    splits = labelled.build(settings(fields, 'picture', 'class'))
    assert reads == [(5, 19), (1, 0)] and 'standardised by 5 of the' in splits.task.description
    splits.test.y, splits.train.y, len(splits.test)
    assert len(reads) == 2
    splits.test.take(np.array([8, 0]))
    assert reads[2:] == [(2, 20 + 7 + 8)]
    sample = np.linspace(0, 19, 5).round().astype(int)  # evenly spread
    x = everything(splits.train)['x'][sample].astype(np.float64)
    np.testing.assert_allclose(x.mean((0, 1, 2)), 0, atol=1e-6)
    np.testing.assert_allclose(x.std((0, 1, 2)), 1, atol=1e-6)


def test_nan_is_named_where_it_is_read(fields, large, monkeypatch):
    wanted = settings(fields, 'bad', 'class', kind='2d')
    with pytest.raises(UserError, match=f'bad has NaN or infinity in 1 examples, the first is {BAD}'):
        labelled.build(wanted)
    monkeypatch.setattr(standardising, 'SAMPLE', 1)  # one example, which is a good one
    splits = labelled.build(wanted)
    splits.train.take(np.array([BAD - 1, BAD + 1]))
    with pytest.raises(UserError, match=f'bad has NaN or infinity in 1 examples, the first is {BAD}'):
        splits.train.take(np.array([BAD + 2, BAD]))
