"""Metrics of the vision-language tasks, each on a whole split at once, as the public evaluations define them."""
from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

ANNOTATORS = 10
UNANSWERABLE = 'unanswerable'
HEADLINE = {'answers': 'soft_accuracy', 'classes': 'accuracy', 'labels': 'micro_f1'}


def soft_score(matches: int, annotators: int = ANNOTATORS) -> float:
    """VQA accuracy of an answer that `matches` of the annotators gave: mean over left-out annotators of min(1, m / 3).

    m counts the matches among the others. With ten annotators 0, 0.3, 0.6, 0.9, 1, 1, ... for 0, 1, 2, 3, 4, 5, ...
    matches (VQA, arXiv 1505.00468, the evaluation's averaging over subsets of nine).
    """
    with_it = matches * min(1.0, (matches - 1) / 3)            # one of those who gave it is left out
    without = (annotators - matches) * min(1.0, matches / 3)   # one of the others is
    return (with_it + without) / annotators


def soft_scores(answers: Sequence[str], index: Mapping[str, int]) -> np.ndarray:
    """Scores of all answers of a vocabulary, float32 [K]; fewer than ten answers are repeated to ten.

    Args:
      answers: what annotators said, at least one.
      index: answer -> place; place 0 is '<unk>', whose score is always 0.
    """
    given = [answers[i % len(answers)] for i in range(ANNOTATORS)] if len(answers) < ANNOTATORS else list(answers)
    scores = np.zeros(len(index), np.float32)
    for answer, matches in Counter(given).items():
        place = index.get(answer, 0)
        if place:
            scores[place] = soft_score(matches, len(given))
    return scores


def score(output: str, classes: Sequence[str], logits, y) -> dict[str, float]:
    """All metrics of a split, the headline first.

    Args:
      output: 'answers', 'classes' or 'labels', see fipjax.data.vl.
      classes: K names.
      logits: float [n, K].
      y: scores [n, K], classes int [n] or labels [n, K].

    Returns:
      answers: 'soft_accuracy' (score of the likeliest answer, '<unk>' excepted) and, where 'unanswerable' is an answer,
        'unanswerable_ap' (average precision of its probability; right where its score is 0.5 or more);
      classes: 'accuracy', 'macro_f1'; labels: 'micro_f1', 'macro_f1' (logits above 0 are predicted).
    """
    from sklearn.metrics import average_precision_score, f1_score
    logits, y = np.asarray(logits, np.float64), np.asarray(y)
    expected = (len(y), len(classes))
    if logits.shape != expected or not len(y):
        raise ValueError(f'score: logits have shape {logits.shape}; expected {expected}, at least one example')
    if output == 'classes':
        predicted = logits.argmax(1)
        return {'accuracy': float(np.mean(predicted == y)),
                'macro_f1': float(f1_score(y, predicted, average='macro', zero_division=0))}
    if output == 'labels':
        predicted = logits > 0
        return {f'{kind}_f1': float(f1_score(y, predicted, average=kind, zero_division=0))
                for kind in ('micro', 'macro')}
    predicted = 1 + logits[:, 1:].argmax(1)
    out = {'soft_accuracy': float(np.mean(y[np.arange(len(y)), predicted], dtype=np.float64))}
    if UNANSWERABLE in classes:
        place = list(classes).index(UNANSWERABLE)
        right = y[:, place] >= 0.5
        if right.any():
            shifted = np.exp(logits - logits.max(1, keepdims=True))
            out['unanswerable_ap'] = float(average_precision_score(right, shifted[:, place] / shifted.sum(1)))
    return out
