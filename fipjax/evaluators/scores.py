"""Metrics of transfer, each on a whole split at once: most of them are not means over batches.

Outputs are what a model gives: logits [n, K] for classes, one logit a label [n, K] for multilabel, standardised fields
[n, *target_shape] for dense targets. NaN is what a metric says where a split does not define it, as AUROC where every
example is of one class.
"""
from __future__ import annotations

import numpy as np

from fipjax.evaluators.classification import cross_entropy

HEADLINE = {'classes': 'error', 'multilabel': 'map', 'dense': 'relative_l2'}
LOWER_IS_BETTER = frozenset({'error', 'cross_entropy', 'relative_l2', 'nrmse', 'mae'})


def error(predicted, y) -> float:
    """0-1 error: share of examples whose class [n] int is not y [n] int."""
    return float(np.mean(np.asarray(predicted) != np.asarray(y)))


def macro_f1(predicted, y) -> float:
    """Mean of 2 TP / (2 TP + FP + FN) over the classes that occur in y [n] int or in predicted [n] int."""
    from sklearn.metrics import f1_score
    return float(f1_score(y, predicted, average='macro', zero_division=0))


def auroc(scores, y) -> float:
    """Area under the ROC curve, the mean over the labels that some examples have and others have not.

    Args:
      scores: float [n, K].
      y: 0/1 [n, K]; or int [n], classes, each then against all others.
    """
    from sklearn.metrics import roc_auc_score
    holds = _holds(scores, y)
    both = np.flatnonzero(holds.any(0) & ~holds.all(0))
    return float(np.mean([roc_auc_score(holds[:, k], scores[:, k]) for k in both])) if len(both) else float('nan')


def mean_average_precision(scores, y) -> float:
    """Mean over labels of sum_k (R_k - R_{k-1}) P_k, k running over thresholds; labels no example has are left out.

    Args:
      scores: float [n, K].
      y: 0/1 [n, K].
    """
    from sklearn.metrics import average_precision_score
    holds = _holds(scores, y)
    some = np.flatnonzero(holds.any(0))
    if not len(some):
        return float('nan')
    return float(np.mean([average_precision_score(holds[:, k], scores[:, k]) for k in some]))


def mae(prediction, y) -> float:
    """Mean absolute error over all values of [n, ...]."""
    return float(np.mean(np.abs(np.asarray(prediction, np.float64) - y)))


def relative_l2(prediction, y) -> float:
    """Mean over examples of |p - y| / |y|, Euclidean norms over all values of an example; [n, ...].

    Examples whose y is zero everywhere are left out: nothing is relative to them.
    """
    return _relative(np.asarray(prediction, np.float64).reshape(len(y), -1), np.asarray(y).reshape(len(y), -1))


def nrmse(prediction, y) -> float:
    """Mean over examples and channels of RMSE / RMS(y), both over the positions; [n, ..., K].

    As PDEBench computes it (arXiv 2210.07182); with one channel the same as `relative_l2`. Channels of an example
    that are zero everywhere are left out.
    """
    flat = lambda v: np.moveaxis(np.asarray(v, np.float64).reshape(len(v), -1, v.shape[-1]), -1, 1)  # noqa: E731
    p, y = flat(prediction), flat(y)
    return _relative(p.reshape(-1, p.shape[-1]), y.reshape(-1, y.shape[-1]))


def score(task, outputs, y) -> dict[str, float]:
    """All metrics of a split, the headline first.

    Args:
      task: fipjax.data.labelled.Task; its output says which metrics, its scale is undone for dense targets.
      outputs: [n, ...], n >= 1, of the whole split, see this module's docstring.
      y: as the source gives it.

    Returns:
      classes: 'error', 'macro_f1', 'auroc', 'cross_entropy' (nats); multilabel: 'map', 'auroc'; dense: 'relative_l2',
      'nrmse', 'mae', in units of y before it was standardised.

    Raises:
      ValueError: outputs of another shape than the task has.
    """
    outputs, y = np.asarray(outputs, np.float64), np.asarray(y)
    expected = (len(y), *((len(task.classes),) if task.output == 'classes' else task.target_shape))
    if outputs.shape != expected or not len(y):
        raise ValueError(f'score: outputs have shape {outputs.shape}; expected {expected}, at least one example')
    if task.output == 'classes':
        # Logarithms: they rank as probabilities do and do not saturate.
        shifted = outputs - outputs.max(1, keepdims=True)
        log_probabilities = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
        predicted = outputs.argmax(1)
        return {'error': error(predicted, y), 'macro_f1': macro_f1(predicted, y),
                'auroc': auroc(log_probabilities, y), 'cross_entropy': cross_entropy(outputs, y)}
    if task.output == 'multilabel':
        return {'map': mean_average_precision(outputs, y), 'auroc': auroc(outputs, y)}
    outputs, y = (v * np.float64(task.scale['deviation']) + task.scale['mean'] for v in (outputs, y))
    return {'relative_l2': relative_l2(outputs, y), 'nrmse': nrmse(outputs, y), 'mae': mae(outputs, y)}


def _holds(scores, y):
    y = np.asarray(y)
    return y[:, None] == np.arange(scores.shape[1]) if y.ndim == 1 else y > 0


def _relative(p, y):
    """Mean of |p_i - y_i| / |y_i| over the rows [m, D] whose y is not zero."""
    norm = np.linalg.norm(y, axis=1)
    some = norm > 0
    if not some.any():
        return float('nan')
    return float(np.mean(np.linalg.norm(p[some] - y[some], axis=1) / norm[some]))
