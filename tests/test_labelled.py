"""Labelled data for transfer: tasks read off arrays, splits, standardising, what is refused."""
import numpy as np
import pytest
from ml_collections import ConfigDict

from fipjax import config as config_lib
from fipjax.data import labelled
from fipjax.errors import UserError

RNG = np.random.default_rng(0)
N = 60
Y = np.arange(N) % 3
SPLIT = np.array(['train', 'train', 'validation', 'test'])[np.arange(N) // 3 % 4]
SIGNALS = RNG.normal(3, 2, (N, 2, 20)) * [[1.0], [1e-7]]
PICTURES = RNG.integers(0, 256, (N, 3, 6, 8)).astype(np.uint8)


def build(tmp_path, fields=None, **changes):
    settings = ConfigDict(config_lib.labelled(path=str(tmp_path / 'data.npz')))
    settings.update(changes)
    if fields is not None:
        np.savez(settings.path, **fields)
    return labelled.build(settings)


def everything(source):
    return source.take(np.arange(len(source)))


def test_signals_come_with_channels_last_and_standardised_over_training(tmp_path):
    splits = build(tmp_path, dict(x=SIGNALS, y=Y, split=SPLIT))
    assert splits.task[:6] == ('1d', 'classes', (20, 2), (), ('0', '1', '2'), None) and splits.task.vocab == 0
    assert splits.task.description == ('x float64 [60, 2, 20]: 1d, 2 channels of 20 samples, since 2 < 20 / 2; '
                                       'target.kind=2d would read pictures of one channel; y int64 [60]: 3 classes; '
                                       'splits as given: 30 / 15 / 15 examples')
    train = SIGNALS[SPLIT == 'train']
    mean, deviation = train.mean((0, 2)), train.std((0, 2))
    for name, wanted in (('mean', mean), ('deviation', deviation)):
        np.testing.assert_allclose(splits.task.inputs[name], wanted)
    for name in ('train', 'validation', 'test'):
        source, rows = getattr(splits, name), np.flatnonzero(SPLIT == name)
        batch = source.take(np.array([4, 1]))
        assert set(batch) == {'id', 'x', 'y'} and len(source) == len(rows)
        assert [batch[k].dtype for k in ('id', 'x', 'y')] == [np.int32, np.float32, np.int32]
        np.testing.assert_array_equal(batch['id'], rows[[4, 1]])
        np.testing.assert_array_equal(batch['y'], Y[rows[[4, 1]]])
        expected = (SIGNALS[rows[[4, 1]]].transpose(0, 2, 1) - mean) / deviation
        np.testing.assert_allclose(batch['x'], expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(source.y, Y[rows])
        assert source.classes == ('0', '1', '2')


def test_pictures_of_bytes_and_a_constant_channel(tmp_path):
    x = PICTURES.copy()
    x[:, 1] = 7
    splits = build(tmp_path, dict(x=x, y=Y))
    assert splits.task.kind == '2d' and splits.task.shape == (6, 8, 3)
    out = everything(splits.train)['x'].astype(np.float64)
    np.testing.assert_allclose(out.mean((0, 1, 2)), 0, atol=1e-6)
    np.testing.assert_allclose(out.std((0, 1, 2)), [1, 0, 1], atol=1e-6)


def test_labels_of_strings_are_sorted_and_said(tmp_path):
    splits = build(tmp_path, dict(x=SIGNALS, y=np.array(['c', 'a', 'b'])[Y]))
    assert splits.task.classes == ('a', 'b', 'c') and 'strings sorted, a -> 0, ..., c -> 2' in splits.task.description
    batch = everything(splits.train)
    np.testing.assert_array_equal(batch['y'], np.array([2, 0, 1])[Y[batch['id']]])


@pytest.mark.parametrize('y', [Y + 1, (Y + 1).astype(np.float32), (Y + 1)[:, None]])
def test_labels_from_one_are_mapped_and_said(tmp_path, y):
    splits = build(tmp_path, dict(x=SIGNALS, y=y))
    assert splits.task.classes == ('1', '2', '3') and '1 -> 0, ..., 3 -> 2' in splits.task.description
    batch = everything(splits.test)
    np.testing.assert_array_equal(batch['y'], Y[batch['id']])


def test_several_labels_an_example(tmp_path):
    rng = np.random.default_rng(1)
    y = rng.random((N, 4)) < 0.5
    splits = build(tmp_path, dict(x=SIGNALS, y=y))
    assert splits.task.output == 'multilabel' and splits.task.target_shape == (4,)
    assert splits.task.classes == ('0', '1', '2', '3')
    batch = everything(splits.train)
    assert batch['y'].dtype == np.float32
    np.testing.assert_array_equal(batch['y'], y[batch['id']])


def test_one_hot_rows_are_classes_where_that_is_asked(tmp_path):
    task = build(tmp_path, dict(x=SIGNALS, y=np.eye(3)[Y])).task
    assert task.output == 'multilabel' and 'target.output=classes' in task.description
    splits = build(tmp_path, output='classes')
    assert splits.task.output == 'classes' and splits.task.target_shape == ()
    batch = everything(splits.train)
    np.testing.assert_array_equal(batch['y'], Y[batch['id']])


@pytest.mark.parametrize('x, y, shape', [
    (SIGNALS, RNG.normal(5, 3, (N, 4, 20)), (20, 4)), (SIGNALS, RNG.normal(5, 3, (N, 20)), (20, 1)),
    (PICTURES, RNG.normal(5, 3, (N, 2, 5, 4)), (5, 4, 2)), (PICTURES, RNG.normal(5, 3, (N, 6, 8)), (6, 8, 1))])
def test_dense_targets_are_standardised_by_channel(tmp_path, x, y, shape):
    splits = build(tmp_path, dict(x=x, y=y, split=SPLIT))
    assert splits.task.output == 'dense' and splits.task.target_shape == shape and splits.task.classes == ()
    y = np.moveaxis(y.reshape(N, shape[-1], *shape[:-1]), 1, -1)
    train = y[SPLIT == 'train'].reshape(-1, shape[-1])
    np.testing.assert_allclose(splits.task.scale['mean'], train.mean(0), rtol=1e-6)
    np.testing.assert_allclose(splits.task.scale['deviation'], train.std(0), rtol=1e-6)
    np.testing.assert_allclose(splits.test.y, (y[SPLIT == 'test'] - train.mean(0)) / train.std(0), rtol=1e-4, atol=1e-5)


def test_padding_stays_zero_and_counts_for_nothing(tmp_path):
    rng = np.random.default_rng(1)
    length = rng.integers(3, 21, N)
    x = SIGNALS.copy()
    x[:, :, -1] = np.where(length[:, None] < 20, np.nan, x[:, :, -1])  # whatever stands in the padding
    splits = build(tmp_path, dict(x=x, y=Y, split=SPLIT, length=length))
    valid = np.concatenate([SIGNALS[i, :, :length[i]].T for i in np.flatnonzero(SPLIT == 'train')])
    batch = everything(splits.test)
    assert batch['length'].dtype == np.int32
    for row, i in enumerate(batch['id']):
        assert batch['length'][row] == length[i] and (batch['x'][row, length[i]:] == 0).all()
        expected = (SIGNALS[i, :, :length[i]].T - valid.mean(0)) / valid.std(0)
        np.testing.assert_allclose(batch['x'][row, :length[i]], expected, rtol=1e-4, atol=1e-5)
    assert 'length' not in build(tmp_path, dict(x=SIGNALS, y=Y, length=np.full(N, 20))).train.take(np.arange(2))


def test_spectrogram_view(tmp_path):
    rng = np.random.default_rng(1)
    spectrogram = dict(window=8, hop=4, bins=5, frames=3)
    length = rng.integers(3, 21, N)
    splits = build(tmp_path, dict(x=SIGNALS, y=Y, length=length), view='spectrogram', spectrogram=spectrogram)
    batch = everything(splits.train)
    assert splits.task.kind == '2d' and splits.task.shape == (5, 3, 2) and set(batch) == {'id', 'x', 'y'}
    assert '5 bins x 3 frames' in splits.task.description
    np.testing.assert_allclose(batch['x'].mean((0, 1, 2), dtype=np.float64), 0, atol=1e-6)


@pytest.mark.parametrize('y', [Y, RNG.normal(size=(N, 20)), RNG.random((N, 4)) < 0.5])
def test_test_examples_influence_nothing_before_they_are_read(tmp_path, y):
    before = build(tmp_path, dict(x=SIGNALS, y=y, split=SPLIT))
    test = SPLIT == 'test'
    x, changed = SIGNALS.copy(), y.copy()
    x[test] += 100
    changed[test] = y[test][::-1] * (1 if y.dtype == bool else 2 if y.ndim > 1 else 1)
    after = build(tmp_path, dict(x=x, y=changed, split=SPLIT))
    assert str(before.task) == str(after.task)
    for name in ('train', 'validation'):
        a, b = everything(getattr(before, name)), everything(getattr(after, name))
        for k in a:
            np.testing.assert_array_equal(a[k], b[k])
    assert not np.array_equal(everything(before.test)['x'], everything(after.test)['x'])


def test_only_training_is_opened(tmp_path, monkeypatch):
    opened, real = [], labelled._targets
    monkeypatch.setattr(labelled, '_targets', lambda y, *rest: opened.append(len(y)) or real(y, *rest))
    splits = build(tmp_path, dict(x=SIGNALS, y=Y, split=np.array(['train', 'test'])[(np.arange(N) > 30).astype(int)]))
    sizes = [len(s) for s in splits[1:]]
    assert opened == sizes[:1]
    everything(splits.train), splits.validation.y, splits.train.y, everything(splits.validation)
    assert opened == sizes[:2]


def test_values_of_test_labels_are_checked_when_they_are_opened(tmp_path):
    rng = np.random.default_rng(1)
    y = (rng.random((N, 4)) < 0.5).astype(int)
    y[np.flatnonzero(SPLIT == 'test')[0], 0] = 7
    splits = build(tmp_path, dict(x=SIGNALS, y=y, split=SPLIT))
    assert splits.task.output == 'multilabel' and len(everything(splits.validation)['y']) == 15
    with pytest.raises(UserError, match='y holds 7; expected 0 and 1'):
        splits.test.take(np.arange(1))


def test_few_training_examples_are_balanced(tmp_path):
    y = np.repeat([0, 1, 2], [40, 17, 3])
    splits = build(tmp_path, dict(x=SIGNALS, y=y), examples=17)
    whole = build(tmp_path)
    small = int((whole.train.y == 2).sum())
    counts = np.bincount(splits.train.y)
    assert counts.sum() == 17 and counts[2] == small and abs(counts[0] - counts[1]) <= 1
    assert len(splits.test) == len(whole.test) and set(everything(splits.train)['id']) <= set(
        everything(whole.train)['id'])
    assert everything(build(tmp_path, examples=17).train)['id'].tolist() == everything(splits.train)['id'].tolist()
    dense = build(tmp_path, dict(x=SIGNALS, y=SIGNALS[:, 0]), examples=9)
    assert len(dense.train) == 9


def test_subset_takes_as_many_of_each_class(tmp_path):
    train = build(tmp_path, dict(x=SIGNALS, y=Y)).train
    few, again, other = (labelled.subset(train, 4, seed) for seed in (0, 0, 1))
    assert np.bincount(few.y).tolist() == [4, 4, 4] and few.classes == train.classes and few.task is train.task
    batch = everything(few)
    np.testing.assert_array_equal(batch['y'], few.y)
    assert len(set(batch['id'])) == 12 == len(few) and set(batch['id']) <= set(train.ids)
    np.testing.assert_array_equal(batch['id'], everything(again)['id'])
    assert batch['id'].tolist() != everything(other)['id'].tolist()
    np.testing.assert_array_equal(batch['x'][2], few.take(np.array([2]))['x'][0])
    assert labelled.subset(train, 0, 0) is train
    assert np.bincount(labelled.subset(few, 2, 0).y).tolist() == [2, 2, 2]
    with pytest.raises(UserError, match=r"transfer.labels_per_class is 99, but class '0' has only 14"):
        labelled.subset(train, 99, 0)
    with pytest.raises(UserError, match='labels_per_class is -1'):
        labelled.subset(train, -1, 0)


def test_subset_without_classes_takes_ten_times_as_many(tmp_path):
    train = build(tmp_path, dict(x=SIGNALS, y=SIGNALS[:, 0])).train
    assert len(set(everything(labelled.subset(train, 2, 0))['id'])) == 20
    with pytest.raises(UserError, match='which is 50 examples .* has only 42'):
        labelled.subset(train, 5, 0)


@pytest.mark.parametrize('fields, changes, words', [
    (dict(x=np.where(np.arange(N)[:, None, None] % 30 == 7, np.nan, SIGNALS)), {},
     'data.npz: x has NaN or infinity in 2 examples, the first is 7'),
    (dict(y=np.where(np.arange(N) == 5, np.inf, Y)), {}, 'y has NaN or infinity in 1 examples, the first is 5'),
    (dict(y=Y[:-1]), {}, 'y has 59 examples, x has 60'),
    (dict(split=SPLIT[:-1]), {}, 'split has 59 examples'),
    (dict(y=np.array(3)), {}, 'y is a single value'),
    (dict(x=SIGNALS[:0], y=Y[:0]), {}, 'no examples'),
    (dict(y=np.where(SPLIT == 'test', 3, Y), split=SPLIT), {}, "no training example of class '3'"),
    (dict(y=np.zeros((N, 2), bool)), {}, "no training example of label '0', '1'"),
    (dict(group=SIGNALS[:, 0]), {}, r'group has shape \[60, 20\]'),
    (dict(length=np.full(N, 21)), {}, r'length is 21 in example 0; x allows 1..20'),
    (dict(length=np.full(N, 2.0)), {}, 'length is float64'),
    (dict(x=PICTURES, length=np.full(N, 6)), {}, 'only sequences have lengths'),
    (dict(y=SIGNALS[:, 0], length=np.full(N, 6)), {}, 'dense targets need x of one length'),
    (dict(y=SIGNALS[:, 0]), dict(view='spectrogram'), "target.view is 'spectrogram', but a dense target"),
    (dict(x=PICTURES), dict(view='spectrogram'), 'x is 2d'),
    ({}, dict(view='wavelet'), "target.view is 'wavelet'; allowed: raw, spectrogram"),
    ({}, dict(output='regression'), "target.output is 'regression'"),
    ({}, dict(output='dense'), r'y has shape \[60\], which cannot be dense'),
    (dict(y=SIGNALS[:, 0]), dict(output='classes'), 'rows .* with exactly one 1'),
    ({}, dict(examples=2), r'target.examples is 2; allowed: 0 \(all\) or 3..42'),
    ({}, dict(examples=99), 'target.examples is 99'),
])
def test_refused(tmp_path, fields, changes, words):
    with pytest.raises(UserError, match=words):
        build(tmp_path, {'x': SIGNALS, 'y': Y, **fields}, **changes)


def test_messages_name_the_group_and_the_field_of_the_user(tmp_path):
    x = SIGNALS.copy()
    x[3] = np.inf
    np.savez(tmp_path / 'a.npz', emg=x, y=Y)
    settings = ConfigDict(config_lib.labelled(path=str(tmp_path / 'a.npz'), x_key='emg'))
    with pytest.raises(UserError, match='a.npz: emg has NaN'):
        labelled.build(settings)
    settings.view = 'nothing'
    with pytest.raises(UserError, match='source.view'):
        labelled.build(settings, key='source')
