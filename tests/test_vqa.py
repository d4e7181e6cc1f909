"""Metrics of the vision-language tasks against their definitions, written as loops."""
import numpy as np
import pytest

from fipjax.evaluators import vqa


def accuracy_of(answer, given):
    """VQA's: for every annotator left out, matches among the others over 3, at most 1; the mean of that."""
    total = 0.0
    for left_out in range(len(given)):
        others = [g for i, g in enumerate(given) if i != left_out]
        total += min(1.0, sum(g == answer for g in others) / 3)
    return total / len(given)


@pytest.mark.parametrize('annotators', [1, 2, 3, 5, 10, 13])
def test_soft_score_is_the_mean_over_left_out_annotators(annotators):
    for matches in range(annotators + 1):
        given = ['a'] * matches + ['b'] * (annotators - matches)
        assert vqa.soft_score(matches, annotators) == pytest.approx(accuracy_of('a', given), abs=1e-12)


def test_published_scores_of_ten_annotators():
    assert [round(vqa.soft_score(m), 9) for m in range(11)] == [0, 0.3, 0.6, 0.9, 1, 1, 1, 1, 1, 1, 1]


def test_soft_scores_of_a_vocabulary():
    rng, words = np.random.default_rng(0), ['<unk>', 'a', 'b', 'c', 'd']
    index = {w: i for i, w in enumerate(words)}
    for n in (10, 12):
        given = list(rng.choice(['a', 'b', 'c', 'not in it', '<unk>'], n))
        expected = [0, *(accuracy_of(w, given) for w in words[1:])]  # nobody gets a score for '<unk>'
        found = vqa.soft_scores(given, index)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize('given, ten', [('a', 'aaaaaaaaaa'), ('ab', 'ababababab'), ('abc', 'abcabcabca')])
def test_fewer_answers_are_repeated_to_ten(given, ten):
    index = {'<unk>': 0, 'a': 1, 'b': 2, 'c': 3}
    expected = [0, *(accuracy_of(w, list(ten)) for w in 'abc')]
    np.testing.assert_allclose(vqa.soft_scores(list(given), index), expected, atol=1e-6)


def test_vqa_accuracy_is_the_score_of_the_likeliest_answer_but_unk():
    rng = np.random.default_rng(1)
    logits, y = rng.normal(size=(20, 5)), rng.random((20, 5))
    logits[:7, 0] = 100  # '<unk>' is never said
    expected = [y[i, max(range(1, 5), key=lambda k: logits[i, k])] for i in range(20)]  # noqa: B023
    found = vqa.score('answers', ['<unk>', *'abcd'], logits, y)
    assert found == {'soft_accuracy': pytest.approx(np.mean(expected))}


def average_precision(right, score):
    """Mean over the right ones of the precision among all that are ranked as high."""
    order = sorted(range(len(right)), key=lambda i: -score[i])
    hits, total = 0, 0.0
    for rank, i in enumerate(order, 1):
        if right[i]:
            hits += 1
            total += hits / rank
    return total / hits


def test_average_precision_of_unanswerable():
    rng = np.random.default_rng(2)
    logits, y = rng.normal(size=(30, 4)), rng.choice([0, 0.3, 0.5, 0.6, 1], (30, 4))
    names = ['<unk>', 'red', 'unanswerable', 'blue']
    probability = [np.exp(r[2]) / sum(np.exp(v) for v in r) for r in logits]
    found = vqa.score('answers', names, logits, y)
    assert list(found) == ['soft_accuracy', 'unanswerable_ap']
    assert found['unanswerable_ap'] == pytest.approx(average_precision(y[:, 2] >= 0.5, probability))
    assert found['unanswerable_ap'] != pytest.approx(average_precision(y[:, 2] >= 0.5, logits[:, 2]))
    assert vqa.score('answers', names, logits + 1e4, y) == pytest.approx(found)  # large logits do not overflow
    assert list(vqa.score('answers', names, logits, y * np.array([1, 1, 0, 1]))) == ['soft_accuracy']


def f1(predicted, true):
    hits = sum(p and t for p, t in zip(predicted, true, strict=True))
    return 2 * hits / (sum(predicted) + sum(true)) if sum(predicted) + sum(true) else 0.0


def test_classes():
    rng = np.random.default_rng(3)
    logits, y = rng.normal(size=(40, 3)), rng.integers(0, 3, 40)
    guess = [max(range(3), key=lambda k: row[k]) for row in logits]  # noqa: B023
    found = vqa.score('classes', ['a', 'b', 'c'], logits, y)
    assert list(found) == ['accuracy', 'macro_f1']
    assert found['accuracy'] == pytest.approx(sum(g == t for g, t in zip(guess, y, strict=True)) / 40)
    assert found['macro_f1'] == pytest.approx(np.mean([f1([g == k for g in guess], [t == k for t in y])
                                                       for k in range(3)]))


def test_labels():
    rng = np.random.default_rng(4)
    logits, y = rng.normal(size=(25, 4)), rng.integers(0, 2, (25, 4)).astype(np.float32)
    logits[:, 3], y[:, 3] = -1, 0  # a label that nobody has counts as 0 in macro F1
    logits[0, 0] = 0  # a probability of exactly one half is no
    guess = [[v > 0 for v in row] for row in logits]
    columns = [f1([row[k] for row in guess], y[:, k].astype(bool).tolist()) for k in range(4)]
    found = vqa.score('labels', list('abcd'), logits, y)
    assert list(found) == ['micro_f1', 'macro_f1']
    assert columns[3] == 0 and found['macro_f1'] == pytest.approx(np.mean(columns))
    assert found['micro_f1'] == pytest.approx(f1([v for row in guess for v in row], y.astype(bool).ravel().tolist()))


def test_every_output_has_its_headline_first():
    logits = np.eye(3)
    for output, y in (('answers', np.eye(3)), ('classes', np.arange(3)), ('labels', np.eye(3))):
        assert next(iter(vqa.score(output, ['<unk>', 'a', 'b'], logits, y))) == vqa.HEADLINE[output]


@pytest.mark.parametrize('logits, y', [(np.zeros((3, 4)), np.zeros(3)), (np.zeros((2, 3)), np.zeros(3)),
                                       (np.zeros((0, 3)), np.zeros(0))])
def test_shapes_that_do_not_fit(logits, y):
    with pytest.raises(ValueError, match='score: logits have shape'):
        vqa.score('classes', ['a', 'b', 'c'], logits, y)
