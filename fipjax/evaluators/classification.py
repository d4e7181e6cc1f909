"""Classification on a held-out split: accuracy, cross-entropy, accuracy by a known fact (SNR), confusion."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fipjax.analysis import statistics

# Up to this many distinct values each gets a bin of its own; more are put in bins of BIN_WIDTH units.
MOST_BINS = 32
BIN_WIDTH = 2.0


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean of -log softmax(logits)[label] in nats, in float64.

    Args:
        logits: [n, K] float, n >= 1.
        labels: [n] int in [0, K).
    """
    logits = np.asarray(logits, np.float64)
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_normaliser = np.log(np.exp(shifted).sum(axis=1))
    return float(np.mean(log_normaliser - shifted[np.arange(len(labels)), labels]))


def confusion(predicted: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Counts [classes, classes] int64: row = true class, column = predicted class."""
    flat = np.bincount(np.asarray(labels) * classes + np.asarray(predicted), minlength=classes * classes)
    return flat.reshape(classes, classes)


def accuracy_by(name: str, values: np.ndarray, right: np.ndarray) -> dict:
    """Right answers by a fact about each example, with Wilson's 95 % intervals.

    Args:
        name: what the values are, such as 'snr_db'.
        values: [n] finite float or int; up to 32 distinct values are bins of their own, else bins are 2 units
            wide, [2k - 1, 2k + 1), named by their centre 2k.
        right: [n] bool.
    Returns:
        {'name', 'value', 'correct', 'count', 'low', 'high'}: plain lists, one element a bin, by rising value.
    """
    values = np.asarray(values, np.float64)
    if len(np.unique(values)) > MOST_BINS:
        values = np.floor(values / BIN_WIDTH + 0.5) * BIN_WIDTH
    distinct, place = np.unique(values, return_inverse=True)
    count = np.bincount(place, minlength=len(distinct))
    correct = np.bincount(place[np.asarray(right, bool)], minlength=len(distinct))
    low, high = statistics.wilson(correct, count)
    return {'name': name, 'value': distinct.tolist(), 'correct': correct.tolist(), 'count': count.tolist(),
            'low': low.tolist(), 'high': high.tolist()}


def evaluate(logits: np.ndarray, labels: np.ndarray, classes: Sequence[str],
             by: tuple[str, np.ndarray] | None = None) -> dict:
    """Everything a report shows about predictions on one split, ready for JSON.

    Args:
        logits: [n, K] float, n >= 1.
        labels: [n] int in [0, K).
        classes: K names.
        by: (name, values [n]) to break accuracy down by, or None.
    Returns:
        'accuracy' in [0, 1], 'low', 'high' (Wilson, 95 %), 'cross_entropy' in nats, 'count' = n,
        'class_accuracy' (K numbers, None for a class without examples), 'confusion' ([K][K] counts, row =
        true class), 'classes' and, with `by`, 'accuracy_by' as the function of that name gives it.
    Raises:
        ValueError: shapes do not fit, no examples, a label out of range, or a logit that is not finite.
    """
    logits = np.asarray(logits)
    labels = np.asarray(labels)
    if not len(labels) or logits.shape != (len(labels), len(classes)):
        raise ValueError(f'evaluate: logits {logits.shape}, labels {labels.shape}, {len(classes)} classes; '
                         f'expected [n, {len(classes)}] and [n] with n >= 1')
    if not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0 or labels.max() >= len(classes):
        raise ValueError(f'evaluate: labels must be integers in [0, {len(classes)}), '
                         f'found {labels.dtype} in [{labels.min()}, {labels.max()}]')
    if not np.all(np.isfinite(logits)):
        raise ValueError('evaluate: a logit is not finite')
    predicted = logits.argmax(axis=1)
    right = predicted == labels
    counts = confusion(predicted, labels, len(classes))
    low, high = statistics.wilson(right.sum(), len(labels))
    per_class = [float(row[k] / row.sum()) if row.sum() else None for k, row in enumerate(counts)]
    report = {'accuracy': float(right.mean()), 'low': float(low), 'high': float(high),
              'cross_entropy': cross_entropy(logits, labels), 'count': len(labels),
              'class_accuracy': per_class, 'confusion': counts.tolist(), 'classes': [str(c) for c in classes]}
    if by is not None:
        report['accuracy_by'] = accuracy_by(by[0], by[1], right)
    return report
