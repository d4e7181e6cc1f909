"""The labelled examples that weights are estimated from: what is drawn, padded, refused."""
import types

import numpy as np
import pytest
import tiny

from fipjax.data import arrays, downstream, sources
from fipjax.errors import UserError

MODALITIES = {m: tiny.MODALITIES[m] for m in ('image', 'sequence')}
# As config.data, as far as it is read.
DATA = types.SimpleNamespace(modalities=MODALITIES, standardise=False)


def fields(n=60, seed=0):
    rng = np.random.default_rng(seed)
    return {'image': rng.normal(size=(n, 8, 8, 2)).astype(np.float32),
            'sequence': rng.normal(size=(n, 32, 2)).astype(np.float32), 'label': np.arange(n) % 3}


def splits(n=60, **changes):
    split = np.array(['train', 'validation', 'test'])[np.minimum(np.arange(n) // (n // 2), 1)
                                                      + (np.arange(n) >= 3 * n // 4)]
    return arrays.from_arrays({**fields(n), 'split': split, **changes}, MODALITIES)


def settings(**changes):
    return types.SimpleNamespace(**{'path': '', 'labels_per_class': 4, 'shuffled': False, **changes})


def test_the_examples_are_those_of_fine_tuning_and_padded_for_the_devices():
    given = splits()
    found, classes = downstream.build(settings(), given, DATA, 7, 8)
    own = sources.labelled_subset(given.train, sources.labels_of(given.train), 4, 7)
    assert len(found) == 16 and classes == ('0', '1', '2')
    rows = found.take(np.arange(16))
    assert rows['valid'].tolist() == [True] * 12 + [False] * 4
    np.testing.assert_array_equal(rows['id'][:12], own.take(np.arange(12))['id'])
    np.testing.assert_array_equal(rows['label'][:12], own.take(np.arange(12))['label'])
    np.testing.assert_array_equal(rows['inputs']['image'][12:], rows['inputs']['image'][[11] * 4])
    assert set(rows) == {'id', 'label', 'valid', 'inputs', 'present'} and rows['label'].dtype == np.int32


def test_shuffled_labels_are_the_same_labels_in_another_order():
    plain, shuffled, again, other = (
        downstream.build(settings(shuffled=s), splits(), DATA, seed, 1)[0].labels
        for s, seed in ((False, 0), (True, 0), (True, 0), (True, 1)))
    assert np.bincount(shuffled).tolist() == np.bincount(plain).tolist() == [4, 4, 4]
    assert (shuffled != plain).any() and (shuffled == again).all() and (shuffled != other).any()


def test_a_file_of_its_own(tmp_path):
    np.savez(tmp_path / 'd.npz', **fields(20, seed=9))
    found, _ = downstream.build(settings(path=str(tmp_path / 'd.npz'), labels_per_class=0), splits(), DATA, 0, 1)
    assert len(found) == 20
    np.testing.assert_array_equal(found.take(np.arange(20))['inputs']['image'], fields(20, seed=9)['image'])


@pytest.mark.parametrize('change, message', [
    (lambda f: f.update(label=np.zeros(20, int)), 'labels of 1 class; at least 2'),
    (lambda f: f.update(label=np.arange(20) + 20), '20 labelled examples, but 40 classes'),
    (lambda f: f.update(label=np.r_[np.arange(19) % 2, 2]),
     r"1 labelled example\(s\) of class '2'; at least 2 of each"),
    (lambda f: f.pop('label'), 'no array "label"'),
    (lambda f: f.pop('sequence'), "no array for modality 'sequence'"),
])
def test_labels_that_cannot_be_used(tmp_path, change, message):
    given = fields(20, seed=9)
    change(given)
    np.savez(tmp_path / 'd.npz', **given)
    with pytest.raises(UserError, match=message):
        downstream.build(settings(path=str(tmp_path / 'd.npz'), labels_per_class=0), splits(), DATA, 0, 1)


def test_a_missing_file_is_named_with_its_key():
    with pytest.raises(UserError, match=r"pretrain.fip.downstream.path: no such file 'none.npz'"):
        downstream.build(settings(path='none.npz'), splits(), DATA, 0, 1)


def test_too_few_labels_name_their_key():
    with pytest.raises(UserError, match=r"pretrain.fip.downstream.labels_per_class is 11, but class '0' has only 10"):
        downstream.build(settings(labels_per_class=11), splits(), DATA, 0, 1)


@pytest.mark.parametrize('split, first', [('validation', 30), ('test', 45)])
def test_an_example_that_is_evaluated_is_refused_by_its_content(tmp_path, split, first):
    given, whole = fields(20, seed=9), fields(60)
    for m in MODALITIES:
        given[m][5] = whole[m][first + 3]
    np.savez(tmp_path / 'd.npz', **given)
    with pytest.raises(UserError, match=f'example 5 of .*d.npz is example 3 of the {split} split'):
        downstream.build(settings(path=str(tmp_path / 'd.npz'), labels_per_class=0), splits(), DATA, 0, 1)


def test_hashes_see_every_modality_and_what_is_missing():
    base = sources.ArraySource(MODALITIES, fields(4))
    plain = downstream.hashes(base)
    assert len(set(plain)) == 4
    other = fields(4)
    other['sequence'][2, 31, 1] += 1e-3
    assert [a == b for a, b in zip(plain, downstream.hashes(sources.ArraySource(MODALITIES, other)), strict=True)] == [
        True, True, False, True]
    gone = sources.ArraySource(MODALITIES, {**fields(4), 'image_present': np.array([True, False, True, True])})
    assert [a == b for a, b in zip(plain, downstream.hashes(gone), strict=True)] == [True, False, True, True]
