"""Splits: official, by group, stratified."""
import numpy as np
import pytest

from fipjax.data.splitting import assign, stratified
from fipjax.errors import UserError

N = 200
STRATA = np.repeat([0, 1, 2], [100, 60, 40])
GROUP = np.array([f's{i % 10}' for i in range(N)])


def split(strata=STRATA, words=None, group=None, test_groups=(), seed=0):
    return assign(strata, words, group, test_groups, seed, 'a.npz', 'target')


def counts(found):
    return [int((found == name).sum()) for name in ('train', 'validation', 'test')]


def test_stratified_keeps_the_proportions():
    found, words = split()
    assert counts(found) == [140, 30, 30] and words == '70/15/15 % by class: 140 / 30 / 30 examples'
    for k, expected in enumerate(([70, 15, 15], [42, 9, 9], [28, 6, 6])):
        assert counts(found[STRATA == k]) == expected
    np.testing.assert_array_equal(found, split()[0])
    assert (found != split(seed=1)[0]).any()


def test_a_share_of_small_classes():
    rng = np.random.default_rng(0)
    chosen = stratified(np.arange(30) // 3, 0.15, rng)  # ten classes of three, fewer than one each
    assert chosen.sum() == round(0.15 * 30) and np.bincount(np.arange(30) // 3, chosen).max() == 1
    alone = stratified(np.append(np.zeros(19, int), 1), 0.15, rng)
    assert alone.sum() == 3 and not alone[-1]  # the only one of its class stays


def test_groups_are_never_torn_apart():
    found, words = split(group=GROUP)
    owners = {g: set(found[GROUP == g]) for g in np.unique(GROUP)}
    assert all(len(v) == 1 for v in owners.values())
    assert counts(found) == [140, 20, 40]  # of ten groups
    assert '70/15/15 % of 10 groups' in words and all(g in words for g, v in owners.items() if v == {'test'})
    assert {tuple(split(group=GROUP, seed=s)[0]) for s in range(5)} != {tuple(found)}


def test_two_groups_leave_one_out_and_validate_within():
    group = np.arange(N) % 2
    found, words = split(group=group)
    test = group[found == 'test'][0]
    assert counts(found)[2] == 100 and (group[found == 'test'] == test).all() and counts(found)[1] == 18
    assert 'of training by class' in words


def test_named_groups_are_the_test_split_even_against_the_official_one():
    official = np.where(np.arange(N) < 20, 'test', 'train')
    found, words = split(words=official, group=np.arange(N) % 10, test_groups=(3, '7'))
    assert set(np.flatnonzero(found == 'test') % 10) == {3, 7} and counts(found)[2] == 40
    assert len(set(np.flatnonzero(found == 'validation') % 10)) == 1
    assert words.startswith('test: group 3, 7, validation: group ')


def test_official_splits_are_kept():
    official = np.array(['train', 'test', 'validation', 'train'])[np.arange(N) % 4]
    found, words = split(words=official, group=GROUP)
    np.testing.assert_array_equal(found, official)
    assert words == 'splits as given: 100 / 50 / 50 examples'
    np.testing.assert_array_equal(split(words=official.astype('S10'))[0], official)


@pytest.mark.parametrize('group, part', [(None, 24), (GROUP, 30)])
def test_validation_is_carved_out_of_the_official_training_split(group, part):
    official = np.where(np.arange(N) % 5 == 0, 'test', 'train')
    found, _ = split(words=official, group=group)
    np.testing.assert_array_equal(found == 'test', official == 'test')
    if group is None:
        assert counts(found)[1] == part
    else:
        assert not set(group[found == 'validation']) & set(group[found == 'train'])


@pytest.mark.parametrize('how, words', [
    (dict(words=np.where(np.arange(N) < 9, 'dev', 'train')), "split has the value 'dev'; allowed: train, validation"),
    (dict(words=np.full(N, 'train')), 'the test split is empty'),
    (dict(words=np.full(N, 'test')), 'the train split is empty'),
    (dict(group=GROUP, test_groups=('s3', 'bob')), "target.test_groups: no group 'bob' in a.npz; found s0, s1"),
    (dict(test_groups=('s3',)), 'has no groups'),
    (dict(group=np.full(N, 'a')), "the only group is 'a'"),
    (dict(group=GROUP, test_groups=tuple(np.unique(GROUP))), 'the train split is empty'),
    (dict(strata=np.arange(3)), 'the validation split is empty'),
])
def test_refused(how, words):
    with pytest.raises(UserError, match=words):
        split(**how)
