"""Linear probes: how much of a labelling can be read off features by a linear classifier."""
from __future__ import annotations

import numpy as np


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
