"""Own arrays: what is read from a file, how it is split, labels for a subset, groups, standardising."""
import zipfile

import numpy as np
import pytest
import tiny

from fipjax.data import arrays, kinds, sources
from fipjax.errors import UserError
from fipjax.modality import Modality

PAIR = {'image': tiny.IMAGE, 'sequence': tiny.SEQUENCE}


# --- Splits -------------------------------------------------------------------------------------------------

def test_splits_as_the_array_says():
    given = tiny.arrays(60)
    splits = arrays.from_arrays(given, PAIR)
    for name in sources.SPLITS:
        ids = getattr(splits, name).ids.tolist()
        assert ids == np.flatnonzero(given['split'] == name).tolist() and ids


def test_without_a_split_array_70_15_15_by_seed_and_pretraining_sees_training():
    given = {k: v for k, v in tiny.arrays(60).items() if k != 'split'}
    a, b, c = (arrays.from_arrays(given, PAIR, seed) for seed in (0, 0, 1))
    assert [len(getattr(a, s)) for s in sources.SPLITS] == [42, 42, 9, 9]
    assert a.pretrain.ids.tolist() == a.train.ids.tolist()
    assert set(a.train.ids) | set(a.validation.ids) | set(a.test.ids) == set(range(60))
    assert a.test.ids.tolist() == b.test.ids.tolist() != c.test.ids.tolist()


@pytest.mark.parametrize('changes, parts', [
    (dict(split=np.array(['train'] * 40 + ['validation'] * 20)), ('test split is empty',)),
    (dict(split=np.array(['train'] * 40 + ['dev'] * 20)), ('dev', 'pretrain, train, validation, test')),
    (dict(split=np.array([['train']] * 60)), ('split', '(60, 1)')),
    (dict(split=np.array(['train'] * 59)), ('59', 'split', '60')),
    (dict(label=np.arange(60) % 3 - 1), ('label', 'is -1', 'train split')),
    (dict(label=np.arange(60) / 2), ('label', 'float64')),
    (dict(label=np.where(np.arange(60) == 7, 9, 0)), ('label 1', 'largest label is 9')),
    (dict(label=np.where(np.arange(60) == 7, 2 ** 62, np.arange(60) % 3)), ('label 3', str(2 ** 62))),
    (dict(label=np.arange(60) % 3 + 1), ('label 0', 'largest label is 3')),
    (dict(note=np.array('hello')), ('note', 'single value')),
    (dict(image=np.zeros((0, 8, 8, 2))), ('no examples',)),
])
def test_malformed_splits_and_labels(changes, parts):
    with pytest.raises(UserError) as e:
        arrays.from_arrays({**tiny.arrays(60), **changes}, PAIR, where='file.npz')
    assert all(p in str(e.value) for p in ('file.npz', *parts)), str(e.value)


def test_missing_modality_in_a_file():
    with pytest.raises(UserError, match="no array for modality 'text'; found"):
        arrays.from_arrays(tiny.arrays(), {**PAIR, 'text': tiny.TEXT})


# --- Files --------------------------------------------------------------------------------------------------

def test_npz_round_trip(tmp_path):
    given = tiny.arrays(12)
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / 'a.npz', **given)
        got = arrays.read_npz(str(tmp_path / 'a.npz'))
        assert set(got) == set(given)
        for k in given:
            np.testing.assert_array_equal(got[k], given[k])


class Bomb:
    """Unpickling this would leave a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), 'w')


def broken(tmp_path, how):
    path, mark = tmp_path / 'bad.npz', tmp_path / 'unpickled'
    objects = np.empty(1, object)
    objects[0] = Bomb(mark)
    if how == 'pickled objects':
        np.savez(path, image=objects)
    elif how == 'pickle':
        import pickle
        path.write_bytes(pickle.dumps(Bomb(mark)))
    elif how == 'npy':
        with path.open('wb') as f:
            np.save(f, np.zeros(3))
    elif how == 'text':
        path.write_text('label,x\n1,2\n')
    elif how == 'empty':
        path.write_bytes(b'')
    else:
        np.savez_compressed(path, **tiny.arrays(60))
        data = bytearray(path.read_bytes())
        if how == 'truncated':
            data = data[:len(data) // 2]
        elif how == 'flipped':
            with zipfile.ZipFile(path) as z:
                info = z.getinfo('image.npy')
            data[info.header_offset + 400] ^= 0xff
        path.write_bytes(data)
    return path, mark


@pytest.mark.parametrize('how', ['pickled objects', 'pickle', 'npy', 'text', 'empty', 'truncated', 'flipped'])
def test_files_that_are_no_npz_of_plain_arrays_are_refused_and_not_executed(tmp_path, how):
    path, mark = broken(tmp_path, how)
    with pytest.raises(UserError, match='data.path.*is not an .npz file of plain arrays') as e:
        arrays.read_npz(str(path))
    assert str(path) in str(e.value) and '\n' not in str(e.value) and not mark.exists()


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match='data.path: no such file'):
        arrays.read_npz(str(tmp_path / 'none.npz'))
    with pytest.raises(UserError, match='data.path is empty'):
        sources.build(tiny.config(data__path='').data)
    with pytest.raises(UserError, match='labels.path: no such file'):
        arrays.facts(str(tmp_path / 'none.npz'), 'labels.path')


def test_facts_of_a_file_are_looked_at_again_when_it_changes(tmp_path):
    path = str(tmp_path / 'a.npz')
    np.savez(path, text=np.array([[0, 3], [9, 9]]), text_present=np.array([True, False]), label=np.array([0, 1]))
    assert arrays.facts(path) == {'text': kinds.Fact((2,), np.dtype(int), 0, 3),
                                  'text_present': kinds.Fact((), np.dtype(bool)),
                                  'label': kinds.Fact((), np.dtype(int))}
    np.savez(path, wave=np.zeros((2, 5, 1), np.float32))
    assert arrays.facts(path) == {'wave': kinds.Fact((5, 1), np.dtype(np.float32))}
    (tmp_path / 'a.npz').write_text('no longer')
    with pytest.raises(UserError, match='data.path.*is not an .npz file of plain arrays'):
        arrays.facts(path)


# --- Labels for a subset ------------------------------------------------------------------------------------

def subset(n=80, **changes):
    """Arrays of which every second example has a label."""
    given = {k: v for k, v in tiny.arrays(n).items() if k != 'split'}
    return {**given, 'label': np.where(np.arange(n) % 2, -1, np.arange(n) // 2 % 3), **changes}


def rows_of(splits):
    return {name: set(getattr(splits, name).ids.tolist()) for name in sources.SPLITS}


def test_examples_without_a_label_are_pretrained_on_only():
    given = subset()
    splits = arrays.from_arrays(given, PAIR)
    rows, unlabelled = rows_of(splits), set(range(1, 80, 2))
    assert rows['pretrain'] == rows['train'] | unlabelled and not rows['train'] & unlabelled
    assert [len(rows[s]) for s in ('train', 'validation', 'test')] == [28, 6, 6]
    assert rows['train'] | rows['validation'] | rows['test'] == set(range(0, 80, 2))
    assert splits.train.classes == ('0', '1', '2') == splits.pretrain.classes
    assert 'label' not in splits.pretrain.take(np.arange(3))
    np.testing.assert_array_equal(sources.labels_of(splits.test), given['label'][splits.test.ids])


def test_given_splits_hold_examples_without_a_label_in_pretrain_only():
    split = np.where(np.arange(80) % 2, 'pretrain', np.array(['train', 'train', 'train', 'validation', 'test'])[
        np.arange(80) // 2 % 5])
    assert rows_of(arrays.from_arrays(subset(split=split), PAIR))['pretrain'] == set(range(1, 80, 2))
    split[7] = 'test'
    with pytest.raises(UserError, match='here: label of example 7 is -1, but it is in the test split; only the pretra'):
        arrays.from_arrays(subset(split=split), PAIR, where='here')


def test_no_label_anywhere_is_refused():
    with pytest.raises(UserError, match='here: label is below 0 everywhere'):
        arrays.from_arrays(subset(label=np.full(80, -1)), PAIR, where='here')


# --- Groups -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('seed', range(3))
def test_groups_are_never_torn_apart(seed):
    group = np.array([f's{i}' for i in np.arange(80) // 8])
    given = subset(group=group)
    rows = rows_of(arrays.from_arrays(given, PAIR, seed))
    owners = {name: {str(g) for g in group[sorted(rows[name])]} for name in sources.SPLITS}
    assert not owners['train'] & owners['validation'] and not owners['test'] & (owners['train'] | owners['validation'])
    # A subject that is evaluated is not pretrained on either, labelled or not.
    assert owners['pretrain'] == owners['train']
    assert set(range(1, 80, 2)) - rows['pretrain'] == {
        i for i in range(1, 80, 2) if str(group[i]) in owners['validation'] | owners['test']}


def test_groups_without_any_label_are_pretrained_on():
    group = np.arange(80) // 8
    label = np.where(group < 5, np.arange(80) % 3, -1)
    rows = rows_of(arrays.from_arrays(subset(group=group, label=label), PAIR))
    assert set(range(40, 80)) < rows['pretrain']


def test_groups_of_one_class_each_leave_every_class_in_training():
    group = np.arange(80) // 4  # 20 speakers, each says one word
    label = group % 3
    for seed in range(5):
        splits = arrays.from_arrays(subset(group=group, label=label), PAIR, seed)
        assert set(label[splits.train.ids]) == {0, 1, 2}
        assert not set(group[splits.train.ids]) & set(group[splits.test.ids])


@pytest.mark.parametrize('group, words', [
    (np.full(80, 'anna'), "here: the only group is 'anna'; two or more are needed"),
    (np.zeros((80, 1)), r'here: group has shape \(80, 1\); expected one word an example'),
    (np.zeros(79), 'here: group has 79 examples, image has 80'),
])
def test_malformed_groups(group, words):
    with pytest.raises(UserError, match=words):
        arrays.from_arrays(subset(group=group), PAIR, where='here')


# --- Standardising ------------------------------------------------------------------------------------------

def test_standardised_by_what_is_trained_on_and_present():
    given = subset(sequence_present=np.arange(80) % 5 > 0, image_target=tiny.arrays(80, seed=3)['image'] * 4 + 1)
    given['sequence'][~given['sequence_present']] = np.nan
    given['sequence'][:, 3, 1] = 7.0  # never varies
    splits = arrays.from_arrays(given, PAIR, standardise=True)
    seen = sorted(set(splits.pretrain.ids.tolist()) | set(splits.train.ids.tolist()))
    here = [i for i in seen if given['sequence_present'][i]]
    for split in (splits.train, splits.test):
        out = split.take(np.arange(len(split)))
        for name, part, rows in (('image', 'inputs', seen), ('image_target', 'targets', seen),
                                 ('sequence', 'inputs', here)):
            x = given[name].astype(np.float64)
            deviation = x[rows].std(0)
            expected = (x[split.ids] - x[rows].mean(0)) / np.where(deviation == 0, 1, deviation)
            m = name.removesuffix('_target')
            np.testing.assert_allclose(out[part][m][out['present'][m]], expected[out['present'][m]], atol=1e-5)
    assert (out['inputs']['sequence'][:, 3, 1] == 0).all()
    assert (out['inputs']['sequence'][~out['present']['sequence']] == 0).all()


def test_token_ids_are_not_standardised():
    text = np.random.default_rng(0).integers(0, 7, (60, 6))
    given = {**tiny.arrays(60), 'text': text}
    splits = arrays.from_arrays(given, {**PAIR, 'text': tiny.TEXT}, standardise=True)
    np.testing.assert_array_equal(splits.test.take(np.arange(3))['inputs']['text'], text[splits.test.ids[:3]])


# --- Shapes -------------------------------------------------------------------------------------------------

def test_an_axis_of_one_channel_need_not_be_written():
    modalities = {'wave': Modality('wave', 'sequence', (16, 1), 4), 'grey': Modality('grey', 'image', (6, 8, 1), 2)}
    rng = np.random.default_rng(0)
    short = {'wave': rng.normal(size=(60, 16)), 'grey': rng.integers(0, 255, (60, 6, 8)).astype(np.uint8),
             'wave_target': rng.normal(size=(60, 16)), 'label': np.arange(60) % 3}
    full = {k: v if k == 'label' else v[..., None] for k, v in short.items()}
    a, b = (arrays.from_arrays(f, modalities, standardise=True).test.take(np.arange(4)) for f in (short, full))
    for part, m, shape in (('inputs', 'wave', (4, 16, 1)), ('targets', 'wave', (4, 16, 1)),
                           ('inputs', 'grey', (4, 6, 8, 1))):
        assert a[part][m].shape == shape
        np.testing.assert_array_equal(a[part][m], b[part][m])
