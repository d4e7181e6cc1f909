"""Pictures as regions with texts: what batches hold, pairs, shares, vocabularies and targets."""
from collections import Counter

import numpy as np
import pytest

from fipjax.data import vl
from fipjax.errors import UserError
from fipjax.evaluators import vqa


class Words:
    """A tokenizer with one word piece a word: 'w7' is 17."""

    pad, cls, sep, mask, unk = 9, 1, 2, 3, 4

    def pieces(self, texts):
        return [[10 + int(w[1:]) for w in t.split()] for t in texts]


P, R, F, C = 12, 4, 3, 5


def regions(seed=0, classes=True):
    rng = np.random.default_rng(seed)
    count = rng.integers(1, R + 1, P).astype(np.int32)
    valid = (np.arange(R) < count[:, None])[..., None]
    low, size = rng.uniform(0, 0.5, (P, R, 2)), rng.uniform(0.1, 0.5, (P, R, 2))
    probs = rng.dirichlet(np.ones(C), (P, R))
    boxes = np.concatenate([low, low + size], -1)
    cut = lambda x: np.where(valid, x, 0).astype(np.float32)  # noqa: E731
    return vl.Regions(cut(rng.normal(size=(P, R, F))), cut(boxes), count, cut(probs) if classes else None, 'test')


def data(output='', answers=None, vocabulary=(), split=None, per_picture=2, n=24):
    picture = np.arange(n, dtype=np.int32) // per_picture % P
    split = np.array(['train', 'train', 'validation', 'test'])[picture % 4] if split is None else split
    text = tuple(f'w{i} w{i + 1}' for i in range(n))
    return vl.Set('mine', regions(), picture, text, answers, output, split, vocabulary, 'made up')


def test_one_text():
    found = vl.encode(Words(), ['w0 w1', 'w5', ''], None, 5)
    assert found.tokens.tolist() == [[1, 10, 11, 2, 9], [1, 15, 2, 9, 9], [1, 2, 9, 9, 9]]
    assert found.mask.tolist() == [[True] * 4 + [False], [True] * 3 + [False] * 2, [True] * 2 + [False] * 3]
    assert not found.segments.any() and found.cut == 0
    assert found.tokens.dtype == found.segments.dtype == np.int32 and found.mask.dtype == bool


def test_two_texts():
    found = vl.encode(Words(), ['w0 w1', 'w5'], ['w2', 'w3 w4'], 7)
    assert found.tokens.tolist() == [[1, 10, 11, 2, 12, 2, 9], [1, 15, 2, 13, 14, 2, 9]]
    assert found.segments.tolist() == [[0, 0, 0, 0, 1, 1, 0], [0, 0, 0, 1, 1, 1, 0]]
    assert found.mask.sum(1).tolist() == [6, 6] and found.cut == 0


@pytest.mark.parametrize('length', [4, 6, 9, 14])
def test_long_texts_are_cut_the_first_one_first(length):
    rng = np.random.default_rng(length)
    texts = [[' '.join(f'w{i}' for i in range(rng.integers(1, 9))) for _ in range(30)] for _ in range(2)]
    for a, b in ((texts[0], None), texts):
        found, cut = vl.encode(Words(), a, b, length), 0
        for row in range(30):
            first, second = Words().pieces([a[row]])[0], Words().pieces([b[row]])[0] if b else []
            whole = len(first) + len(second)
            marks = 3 if b else 2
            while len(first) + len(second) + marks > length and len(first) > (1 if second else 0):
                first.pop()
            while len(first) + len(second) + marks > length:
                second.pop()
            cut += len(first) + len(second) < whole
            ids = [1, *first, 2] + ([*second, 2] if b else [])
            assert found.tokens[row].tolist() == ids + [9] * (length - len(ids))
            assert found.mask[row].tolist() == [True] * len(ids) + [False] * (length - len(ids))
            assert np.flatnonzero(found.segments[row]).tolist() == list(range(len(first) + 2, len(ids)))
        assert found.cut == cut


def source(**changes):
    r, picture = regions(), np.array([3, 0, 5, 3])
    text = vl.encode(Words(), ['w0 w1', 'w2', 'w3', 'w4 w5 w6'], None, 6)
    return vl.Source(r, picture, text, [7, 8, 9, 10], **changes)


def test_a_batch():
    s, rows, r = source(y=np.array([1, 0, 2, 1]), with_classes=True), np.array([3, 0]), regions()
    out = s.take(rows)
    assert set(out) == {'id', 'tokens', 'segments', 'token_mask', 'features', 'boxes', 'region_mask', 'classes', 'y'}
    assert len(s) == 4 and out['id'].tolist() == [10, 7] and out['id'].dtype == np.int32
    assert out['tokens'].tolist() == [[1, 14, 15, 16, 2, 9], [1, 10, 11, 2, 9, 9]] and out['y'].tolist() == [1, 1]
    np.testing.assert_array_equal(out['features'], r.features[[3, 3]])
    np.testing.assert_array_equal(out['classes'], r.classes[[3, 3]])
    for row, p in enumerate((3, 3)):
        for k in range(R):
            x1, y1, x2, y2 = r.boxes[p, k]
            np.testing.assert_allclose(out['boxes'][row, k], [x1, y1, x2, y2, (x2 - x1) * (y2 - y1)], rtol=1e-6)
            assert out['region_mask'][row, k] == (k < r.count[p])
    assert out['boxes'].dtype == np.float32 and out['region_mask'].dtype == bool


def test_classes_and_y_only_where_they_are():
    assert not {'classes', 'y'} & set(source().take(np.arange(2)))
    none = vl.Source(regions(classes=False), [0], vl.encode(Words(), ['w1'], None, 4), [0], with_classes=True)
    assert 'classes' not in none.take(np.arange(1))


def test_text_alone_and_regions_alone():
    both, rows = source().take(np.arange(4)), np.arange(4)
    text, shown = source(inputs='text').take(rows), source(inputs='regions').take(rows)
    assert not text['region_mask'].any() and both['region_mask'].any()
    assert shown['token_mask'].tolist() == [[True, True] + [False] * 4] * 4 and not shown['segments'].any()
    assert shown['tokens'][:, :2].tolist() == [[1, 2]] * 4  # [CLS] [SEP], the same for all texts
    assert not set(shown['tokens'].ravel()) & set(range(10, 30))  # no word is left, not even where none is valid
    for k in ('tokens', 'segments', 'token_mask'):
        np.testing.assert_array_equal(text[k], both[k])
        assert shown[k].dtype == both[k].dtype and shown[k].shape == both[k].shape
    np.testing.assert_array_equal(shown['region_mask'], both['region_mask'])
    for part in ('text', 'regions'):
        given = source(inputs=part)
        whole = given.whole().take(rows)
        assert given.inputs == part and whole.keys() == both.keys()
        for k, value in both.items():
            np.testing.assert_array_equal(whole[k], value)


def test_pretraining_on_captions():
    d = data()
    train, validation = vl.pretraining(d, Words(), 6)
    assert train.ids.tolist() == np.flatnonzero(d.split == 'train').tolist()
    assert validation.ids.tolist() == np.flatnonzero(d.split == 'validation').tolist()
    out = train.take(np.arange(len(train)))
    assert out['tokens'][:, 1].tolist() == [10 + i for i in train.ids] and 'classes' in out and 'y' not in out
    np.testing.assert_array_equal(out['features'], d.regions.features[d.picture[train.ids]])


def test_pretraining_on_one_input():
    for source in vl.pretraining(data(), Words(), 6, inputs='text'):
        assert not source.take(np.arange(len(source)))['region_mask'].any()
    out = vl.pretraining(data(), Words(), 6, inputs='regions')[0].take(np.arange(3))
    assert out['region_mask'].any() and out['token_mask'].sum(1).tolist() == [2] * 3


def test_pretraining_on_questions_pairs_each_with_each_annotator():
    given = tuple(tuple(f'w{40 + i + k}' for k in range(1 + i % 3)) for i in range(24))
    d = data('answers', given)
    train, _ = vl.pretraining(d, Words(), 8)
    expected = [(i, k) for i in np.flatnonzero(d.split == 'train') for k in range(1 + i % 3)]
    assert train.ids.tolist() == [10 * i + k for i, k in expected]
    out = train.take(np.arange(len(train)))
    for row, (i, k) in enumerate(expected):
        assert out['tokens'][row].tolist() == [1, 10 + i, 11 + i, 2, 50 + i + k, 2, 9, 9]
        assert out['segments'][row].tolist() == [0, 0, 0, 0, 1, 1, 0, 0]
        np.testing.assert_array_equal(out['features'][row], d.regions.features[d.picture[i]])


def test_a_share_is_of_the_training_pictures():
    d = data()
    whole, validation = vl.pretraining(d, Words(), 6)
    drawn = {}
    for share in (0.34, 0.5, 1.0):
        train, others = vl.pretraining(d, Words(), 6, share, seed=3)
        assert others.ids.tolist() == validation.ids.tolist()
        drawn[share] = set(train.picture.tolist())
        assert len(drawn[share]) == round(share * len(set(whole.picture.tolist())))
        assert train.ids.tolist() == [i for i in whole.ids if d.picture[i] in drawn[share]]  # all texts of a picture
    assert drawn[0.34] < drawn[0.5] < drawn[1.0]
    again = vl.pretraining(d, Words(), 6, 0.5, seed=3)[0].ids.tolist()
    assert again == vl.pretraining(d, Words(), 6, 0.5, seed=3)[0].ids.tolist()
    assert len({tuple(vl.pretraining(d, Words(), 6, 0.5, seed=s)[0].ids.tolist()) for s in range(8)}) > 1
    assert len(vl.pretraining(d, Words(), 6, 1e-6)[0]) == 2  # one picture at least


def test_mismatched_captions_are_of_other_pictures():
    d = data()
    for source in vl.pretraining(d, Words(), 8, mismatched=True, seed=1):
        out = source.take(np.arange(len(source)))
        second = out['tokens'][:, 4] - 10  # first word of sentence B names its row of the set
        assert (out['tokens'][:, 1] - 10 == source.ids).all() and (out['segments'][:, 4] == 1).all()
        assert (d.picture[second] != d.picture[source.ids]).all() and (d.split[second] == d.split[source.ids]).all()
    one = data(split=np.array(['train', 'validation'])[(np.arange(24) // 2 % P > 0).astype(int)])
    with pytest.raises(UserError, match='all captions are of one picture'):
        vl.pretraining(one, Words(), 8, mismatched=True)


def test_an_empty_split_is_named():
    with pytest.raises(UserError, match="mine: no example in the split 'validation'"):
        vl.pretraining(data(split=np.array(['train'] * 24)), Words(), 6)
    d = data('classes', (('a',), ('b',)) * 12, split=np.array(['train', 'train', 'validation', 'validation'] * 6))
    with pytest.raises(UserError, match="mine: no example in the split 'test'"):
        vl.task(d, Words(), 6)
    with pytest.raises(UserError, match='mine: captions only; a task needs'):
        vl.task(data(), Words(), 6)


def test_a_task():
    given = tuple((('b', 'a', 'c')[i % 3],) for i in range(24))
    d = data('classes', given)
    splits = vl.task(d, Words(), 6)
    assert splits.task == vl.Task('mine', 'classes', ('a', 'b', 'c'), 'made up')
    for name in ('train', 'validation', 'test'):
        source, rows = getattr(splits, name), np.flatnonzero(d.split == name)
        assert source.ids.tolist() == rows.tolist() and source.answers == [given[i] for i in rows]
        out = source.take(np.arange(len(rows)))
        assert out['y'].tolist() == [(1, 0, 2)[i % 3] for i in rows] and out['y'].dtype == np.int32
        assert out['tokens'][:, 1].tolist() == [10 + i for i in rows] and 'classes' not in out
    assert not vl.task(d, Words(), 6, 'text').train.take(np.arange(3))['region_mask'].any()


def test_the_vocabulary_of_answers_is_that_of_training():
    given = tuple(('yes', 'no') if i % 2 else ('no', f'x{i}') for i in range(24))
    d = data('answers', given)
    counts = Counter(a for i in np.flatnonzero(d.split == 'train') for a in given[i])
    expected = sorted(counts, key=lambda a: (-counts[a], a))
    found = vl.task(d, Words(), 6).task.classes
    assert found == ('<unk>', *expected) and found[1] == 'no'
    few = vl.task(d._replace(vocabulary=('<unk>', 'no')), Words(), 6).task
    assert few.classes == ('<unk>', 'no')
    share = 100 * counts['no'] / counts.total()
    assert few.description.endswith(f'; {share:.1f} % of the answers are in its vocabulary')


def test_a_vocabulary_has_at_most_3129_answers():
    given = [('<unk>',)] + [(f'a{i:04d}',) * (2 if i == 3500 else 1) for i in range(4000)]
    found = vl.answer_vocabulary(given, 'answers')
    assert len(found) == 1 + vl.MOST_ANSWERS == 3130
    assert found[:3] == ('<unk>', 'a3500', 'a0000') and found[-1] == 'a3127'
    assert vl.answer_vocabulary([('b', 'a'), (), ('c',)], 'labels') == ('a', 'b', 'c')


def test_targets():
    classes = ('<unk>', 'red', 'blue')
    given = [('red',) * 2 + ('blue',) * 5 + ('teal',) * 3, ('teal',) * 10, ('red',)]
    found = vl.targets(given, 'answers', classes, 'here')
    np.testing.assert_allclose(found, [[0, vqa.soft_score(2), 1], [0, 0, 0], [0, 1, 0]], atol=1e-6)
    assert found.dtype == np.float32
    assert vl.targets([('b',), ('a',)], 'classes', 'ab', 'here').tolist() == [1, 0]
    labels = vl.targets([('b', 'a'), (), ('b',)], 'labels', 'ab', 'here')
    assert labels.tolist() == [[1, 1], [0, 0], [0, 1]] and labels.dtype == np.float32


@pytest.mark.parametrize('output', ['classes', 'labels'])
def test_an_answer_outside_the_vocabulary_is_named(output):
    with pytest.raises(UserError, match="here: example 1 has the answer 'z', .*not in the vocabulary of 2: a, b"):
        vl.targets([('a',), ('z',)], output, ('a', 'b'), 'here')


def test_answers_that_are_all_unknown():
    with pytest.raises(UserError, match='here: no answer of any question .* vocabulary .2 answers, e.g. red.*teal'):
        vl.targets([('teal',)], 'answers', ('<unk>', 'red'), 'here')


def test_small_shares_are_parts_of_larger_ones():
    s = source(y=np.array([1, 0, 2, 1]), answers=[('a',), ('b',), ('c',), ('d',)])
    assert vl.subset(s, 1.0, 0) is s
    drawn = {share: vl.subset(s, share, 5) for share in (0.01, 0.25, 0.5, 0.75)}
    assert [len(d) for d in drawn.values()] == [1, 1, 2, 3]
    sets = [set(d.rows.tolist()) for d in drawn.values()]
    assert sets[0] == sets[1] < sets[2] < sets[3]
    half = drawn[0.5]
    assert half.rows.tolist() == sorted(half.rows.tolist()) and half.ids.tolist() == [7 + i for i in half.rows]
    assert half.answers == [[('a',), ('b',), ('c',), ('d',)][i] for i in half.rows]
    assert half.y.tolist() == [[1, 0, 2, 1][i] for i in half.rows]
    a, b = half.take(np.array([1, 0])), s.take(half.rows[::-1])
    assert set(a) == set(b)
    for k in a:
        np.testing.assert_array_equal(a[k], b[k])
    assert len({tuple(vl.subset(s, 0.5, k).rows.tolist()) for k in range(10)}) > 1
    bare = vl.subset(source(), 0.5, 0)
    assert bare.y is None and bare.answers is None
