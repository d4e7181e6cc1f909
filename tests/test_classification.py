"""Classification reports against counts made by hand and scikit-learn."""
import json

import numpy as np
import pytest
from sklearn import metrics

from fipjax.evaluators import classification

CLASSES = ('OOK', 'BPSK', 'QPSK')


def example(n=200, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 3)).astype(np.float32), rng.integers(0, 3, n).astype(np.int32)


def test_against_scikit_learn():
    logits, labels = example()
    found = classification.evaluate(logits, labels, CLASSES)
    shifted = np.exp(logits.astype(np.float64))
    probabilities = shifted / shifted.sum(1, keepdims=True)
    assert found['accuracy'] == pytest.approx(metrics.accuracy_score(labels, logits.argmax(1)))
    assert found['cross_entropy'] == pytest.approx(metrics.log_loss(labels, probabilities))
    matrix = metrics.confusion_matrix(labels, logits.argmax(1))
    assert found['confusion'] == matrix.tolist()
    np.testing.assert_allclose(found['class_accuracy'], matrix.diagonal() / matrix.sum(1))
    assert found['classes'] == list(CLASSES)
    assert 'accuracy_by' not in found


def test_result_is_plain_json():
    logits, labels = example()
    snr = np.linspace(-10, 10, len(labels)).astype(np.float32)
    found = classification.evaluate(logits, labels, CLASSES, ('snr_db', snr))
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_large_logits_do_not_overflow():
    logits = np.asarray([[1e4, 0, 0], [0, 1e4, 0]], np.float32)
    found = classification.evaluate(logits, np.asarray([0, 0]), CLASSES)
    assert found['cross_entropy'] == pytest.approx(5000)


def test_distinct_values_are_bins_of_their_own():
    right = np.asarray([True, False, True, True])
    found = classification.accuracy_by('snr_db', np.asarray([-5, -5, 0, -5]), right)
    assert found['value'] == [-5, 0] and found['correct'] == [2, 1] and found['count'] == [3, 1]
    assert found['name'] == 'snr_db'
    assert found['low'][0] == pytest.approx(0.20766, abs=1e-5)  # Wilson, 2 of 3
    assert found['high'][0] == pytest.approx(0.93851, abs=1e-5)


def test_many_values_are_binned_by_two_units():
    values = np.linspace(-10, 10, 401)  # steps of 0.05
    right = values > 3
    found = classification.accuracy_by('snr_db', values, right)
    assert found['value'] == list(range(-10, 11, 2))
    assert sum(found['count']) == 401 and sum(found['correct']) == right.sum()
    inside = (values >= 3) & (values < 5)
    place = found['value'].index(4)
    assert found['count'][place] == inside.sum() and found['correct'][place] == (inside & right).sum()


def test_class_without_examples_has_no_accuracy():
    found = classification.evaluate(np.eye(3, dtype=np.float32)[:2], np.asarray([0, 1]), CLASSES)
    assert found['class_accuracy'] == [1.0, 1.0, None]


@pytest.mark.parametrize('logits,labels,message', [
    (np.zeros((2, 4)), np.zeros(2, int), '3 classes'),
    (np.zeros((2, 3)), np.zeros(3, int), 'expected'),
    (np.zeros((0, 3)), np.zeros(0, int), 'n >= 1'),
    (np.zeros((2, 3)), np.asarray([0, 3]), r'in \[0, 3\)'),
    (np.zeros((2, 3)), np.asarray([0.0, 1.0]), 'integers'),
    (np.full((2, 3), np.nan), np.zeros(2, int), 'not finite'),
])
def test_bad_input(logits, labels, message):
    with pytest.raises(ValueError, match=message):
        classification.evaluate(logits, labels, CLASSES)
