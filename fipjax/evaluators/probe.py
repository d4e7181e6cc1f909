"""Linear probes: how much of a labelling can be read off features by a linear classifier."""
from __future__ import annotations

from typing import NamedTuple

import numpy as np

PENALTIES = (10000.0, 1000.0, 100.0, 10.0, 1.0, 0.1)  # strengths that `fit` tries


class Fitted(NamedTuple):
    """Logits are z @ kernel + bias; `error` in [0, 1] is that of validation with the `penalty` chosen."""

    kernel: np.ndarray
    bias: np.ndarray
    penalty: float
    error: float


def fit(train_z, train_y, validation_z, validation_y) -> Fitted:
    """Logistic regression on standardised features as a layer on features as they are, its L2 penalty by validation.

    Args:
      train_z, validation_z: float [n, d], [m, d].
      train_y, validation_y: int [n], [m]; every one of the classes 0..K-1 is in train_y.

    Returns:
      kernel float32 [d, K], bias float32 [K]; the penalty is the strongest of equals.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler
    train_z, validation_z = (np.asarray(z, np.float64) for z in (train_z, validation_z))
    scaler, best = StandardScaler().fit(train_z), None
    for penalty in PENALTIES:
        model = LogisticRegression(C=1 / penalty, max_iter=500).fit(scaler.transform(train_z), train_y)
        error = float(np.mean(model.predict(scaler.transform(validation_z)) != np.asarray(validation_y)))
        if best is None or error < best[0]:
            best = error, penalty, model
    error, penalty, model = best
    weights, bias = model.coef_, model.intercept_
    if len(weights) == 1:  # two classes have one row of weights, for the second
        weights, bias = np.concatenate([-weights, weights]) / 2, np.concatenate([-bias, bias]) / 2
    kernel = weights.T / scaler.scale_[:, None]
    return Fitted(np.float32(kernel), np.float32(bias - scaler.mean_ @ kernel), penalty, error)


def linear_probe(train_z, train_y, test_z, test_y) -> float:
    """Test error, in [0, 1], of logistic regression on standardised features.

    L2 penalty of strength 1 (scikit-learn's C = 1), chosen on nothing: the same probe for every encoder.

    Args:
      train_z, test_z: float [n, d], [m, d].
      train_y, test_y: int [n], [m].
    """
    # Imported here: scikit-learn takes about a second.
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler
    scaler = StandardScaler().fit(np.asarray(train_z, np.float64))
    model = LogisticRegression(max_iter=500).fit(scaler.transform(np.asarray(train_z, np.float64)), train_y)
    return float(np.mean(model.predict(scaler.transform(np.asarray(test_z, np.float64))) != np.asarray(test_y)))
