"""What every table of transfer is compared with: a constant answer, a linear model, the nearest neighbour.

All see the pooled values of fipjax.evaluators.trivial, standardised over the training examples; of text a bag of word
pieces, their counts weighted by rarity in the training examples and brought to length 1 (tf-idf).
"""
from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import numpy as np
import scipy.sparse

from fipjax.evaluators import scores
from fipjax.evaluators.trivial import ALPHAS, features

CHUNK, CHUNK_VALUES = 256, 2**24  # examples and numbers read and pooled at once, at most
LOGISTIC = (1.0, 10.0, 100.0, 1000.0)  # penalties of the logistic regression, 1 / C in scikit-learn
OF_TEXT = (0.01, 0.1, 1.0, 10.0)  # the same for bags of word pieces, which are of length 1


def simple(task, train, validation, test, score: Callable = scores.score) -> dict[str, dict[str, float]]:
    """Test metrics of simple models; penalties are chosen on validation, and test is read once, after all choices.

    Args:
      task: fipjax.data.labelled.Task.
      train, validation, test: sources; train holds the labelled examples only.
      score: of the test split, called as scores.score is.

    Returns:
      Name -> metrics as `score` gives them, by kind of output:
        classes: 'majority' (log frequencies of the training labels), 'logistic regression', 'nearest neighbour' (sure
          of its answer as far as it was right on validation);
        multilabel: 'constant' (frequencies), 'ridge', 'nearest neighbour';
        dense: 'constant' (mean field), 'ridge' from pooled x to y, 'nearest neighbour'.
    """
    x, y = _read(task, train)
    scaler = _scaler(task).fit(x)
    x = scaler.transform(x)
    validation_x, validation_y = _read(task, validation)
    validation_x = scaler.transform(validation_x)
    linear = _chosen(task, _linear(task, x, y), validation_x, validation_y)
    neighbour = _nearest(task, x, y, validation_x, validation_y)
    constant = _constant(task, y)
    named = {'majority' if task.output == 'classes' else 'constant': constant,
             'logistic regression' if task.output == 'classes' else 'ridge': linear, 'nearest neighbour': neighbour}
    test_x, test_y = _read(task, test)
    test_x = scaler.transform(test_x)
    return {name: score(task, predict(test_x), test_y) for name, predict in named.items()}


def _scaler(task):
    from sklearn.feature_extraction.text import TfidfTransformer
    from sklearn.feature_selection import VarianceThreshold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    # Most word pieces of a large vocabulary occur nowhere in training: without them fits take a tenth of the time.
    return make_pipeline(VarianceThreshold(), TfidfTransformer()) if task.kind == 'text' else StandardScaler()


def _read(task, source):
    """Pooled values [n, F] (of text sparse) and targets [n, ...] of a whole source."""
    step = max(1, min(CHUNK, CHUNK_VALUES // math.prod(task.shape)))
    x, y = [], []
    for start in range(0, len(source), step):
        part = source.take(np.arange(start, min(start + step, len(source))))
        x.append(counts(part['x'], part.get('length'), task.vocab) if task.kind == 'text' else features(part['x']))
        y.append(part['y'])
    return scipy.sparse.vstack(x, 'csr') if task.kind == 'text' else np.concatenate(x), np.concatenate(y)


def counts(x, length, vocab: int) -> scipy.sparse.csr_array:
    """How often each word piece occurs in each text, float64 [n, vocab]; the first and the last one are marks.

    Args:
      x: int [n, L].
      length: int [n], word pieces of each, marks among them; None for L.
      vocab: number of word pieces.
    """
    last = np.full(len(x), x.shape[1]) - 1 if length is None else length - 1
    rows, places = np.nonzero(np.arange(1, x.shape[1]) < last[:, None])
    return scipy.sparse.coo_array((np.ones(len(rows)), (rows, x[rows, places + 1])), (len(x), vocab)).tocsr()


def _constant(task, y):
    if task.output == 'classes':
        answer = np.log(np.bincount(y, minlength=len(task.classes)) / len(y))
    else:
        answer = y.mean(0, dtype=np.float64)
    return lambda x: np.broadcast_to(answer, (x.shape[0], *answer.shape))


def _linear(task, x, y):
    """(penalty, function x -> outputs) of linear models, from the weakest penalty to the strongest."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression, Ridge
    if task.output == 'classes':
        for penalty in OF_TEXT if task.kind == 'text' else LOGISTIC:
            with warnings.catch_warnings():
                warnings.simplefilter('ignore', ConvergenceWarning)  # stopped early, it still is a baseline
                model = LogisticRegression(C=1 / penalty, tol=1e-3, max_iter=300).fit(x, y)
            yield penalty, lambda x, model=model: _logits(model.decision_function(x))
        return
    for penalty in ALPHAS:
        model = Ridge(alpha=penalty).fit(x, y.reshape(len(y), -1))
        yield penalty, lambda x, model=model: model.predict(x).reshape(x.shape[0], *task.target_shape)


def _logits(decision):
    """[n, K]; scikit-learn gives one number an example where there are two classes."""
    return decision if decision.ndim == 2 else np.stack([np.zeros_like(decision), decision], 1)


def _chosen(task, candidates, x, y):
    """The function with the best headline metric on validation; of equals the one with the strongest penalty."""
    headline = scores.HEADLINE[task.output]
    sign = -1 if headline in scores.LOWER_IS_BETTER else 1
    rated = [(sign * scores.score(task, predict(x), y)[headline], penalty, predict) for penalty, predict in candidates]
    return max(rated, key=lambda r: r[:2])[2]


def _nearest(task, x, y, validation_x, validation_y):
    """The target of the nearest training example. For classes as log-probabilities, of its share of right answers."""
    from sklearn.neighbors import NearestNeighbors
    index = NearestNeighbors(n_neighbors=1, algorithm='brute').fit(x)
    answer = lambda x: y[index.kneighbors(x, return_distance=False)[:, 0]]  # noqa: E731
    if task.output != 'classes':
        return answer
    n, k = len(validation_y), len(task.classes)
    # Laplace's rule, so that it is never certain; above 1 / K, so that its answer stays its most likely class.
    right = max(((answer(validation_x) == validation_y).sum() + 1) / (n + 2), 1 / k + 1e-6)
    return lambda x: np.log(np.where(answer(x)[:, None] == np.arange(k), right, (1 - right) / (k - 1)))
