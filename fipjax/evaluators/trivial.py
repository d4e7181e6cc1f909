"""The trivial baseline every table carries: a ridge classifier on pooled values, and the constant answer."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

IMAGE_SIDE = 14
SEQUENCE_BINS = 64
ALPHAS = (1e-2, 1e0, 1e1, 1e2, 1e3, 1e4)


def pool_axis(x: np.ndarray, axis: int, bins: int) -> np.ndarray:
    """Average over `bins` nearly equal groups along `axis`; unchanged if the axis is no longer than that.

    Group i covers [floor(i L / bins), floor((i + 1) L / bins)) of the L positions.
    """
    length = x.shape[axis]
    if length <= bins:
        return x
    edges = np.arange(bins + 1) * length // bins
    sums = np.add.reduceat(x, edges[:-1], axis=axis)
    shape = [1] * x.ndim
    shape[axis] = bins
    return sums / np.diff(edges).reshape(shape)


def features(x: np.ndarray, vocab: int = 0) -> np.ndarray:
    """What the ridge classifier sees, [n, F] float64.

    Args:
        x: images [n, H, W, C]: averaged to at most 14 x 14 x C.
           Sequences [n, L, C]: mean and root mean square of at most 64 bins, since the mean of a carrier-like
           signal carries next to nothing. Token ids [n, L] int: how often each id below `vocab` occurs.
        vocab: number of token ids to count; only for token ids.
    Raises:
        ValueError: another number of axes.
    """
    x = np.asarray(x)
    if x.ndim == 2 and np.issubdtype(x.dtype, np.integer):
        counts = np.zeros((len(x), vocab + 1))
        np.add.at(counts, (np.arange(len(x))[:, None], np.minimum(x, vocab)), 1)
        return counts[:, :vocab]  # ids never seen in training fall into the last column, which is dropped
    x = x.astype(np.float64)
    if x.ndim == 4:
        return pool_axis(pool_axis(x, 1, IMAGE_SIDE), 2, IMAGE_SIDE).reshape(len(x), -1)
    if x.ndim == 3:
        mean = pool_axis(x, 1, SEQUENCE_BINS)
        power = np.sqrt(pool_axis(x * x, 1, SEQUENCE_BINS))
        return np.concatenate([mean, power], axis=1).reshape(len(x), -1)
    raise ValueError(f'features: expected images [n, H, W, C], sequences [n, L, C] or token ids [n, L], '
                     f'found shape {x.shape} of {x.dtype}')


def majority(train_y: np.ndarray, validation_y: np.ndarray, classes: int) -> int:
    """The most frequent class in training; ties go to the more frequent one in validation, then the lower."""
    train = np.bincount(train_y, minlength=classes)
    validation = np.bincount(validation_y, minlength=classes)
    return int(np.lexsort((-np.arange(classes), validation, train))[-1])


def ridge(train_x: np.ndarray, train_y: np.ndarray, validation_x: np.ndarray, validation_y: np.ndarray,
          test_x: np.ndarray, test_y: np.ndarray, classes: Sequence[str]) -> dict:
    """Ridge classifier on standardised pooled values; alpha is chosen on validation, test is used once.

    Args:
        train_x, validation_x, test_x: see `features`; no NaN. train_x holds the labelled examples only.
        train_y, validation_y, test_y: [n] int in [0, K).
        classes: K names.
    Returns:
        {'name', 'alpha', 'validation_accuracy', 'test_accuracy', 'chance'}; `chance` is the test accuracy of
        always answering with the most frequent class of the training labels. 'alpha' is None where there is
        one class only in training, and then that class is the answer.
    Raises:
        ValueError: an empty split, or arrays that are not images, sequences or token ids.
    """
    train_y, validation_y, test_y = (np.asarray(y) for y in (train_y, validation_y, test_y))
    for name, y in (('training', train_y), ('validation', validation_y), ('test', test_y)):
        if not len(y):
            raise ValueError(f'ridge: the {name} split is empty')
    # Imported here: scikit-learn takes about a second, and most who import this module only want `features`.
    from sklearn.linear_model import RidgeClassifier
    from sklearn.preprocessing import StandardScaler

    train_x = np.asarray(train_x)
    vocab = int(train_x.max()) + 1 if train_x.ndim == 2 else 0
    name = {2: 'ridge on token counts', 3: 'ridge on pooled mean and RMS', 4: 'ridge on pooled pixels'}
    constant = majority(train_y, validation_y, len(classes))
    chance = float(np.mean(test_y == constant))
    if len(np.unique(train_y)) < 2:
        return {'name': 'constant class', 'alpha': None,
                'validation_accuracy': float(np.mean(validation_y == constant)),
                'test_accuracy': chance, 'chance': chance}
    scaler = StandardScaler().fit(features(train_x, vocab))
    train, validation = (scaler.transform(features(x, vocab)) for x in (train_x, validation_x))
    scores = {}
    for alpha in ALPHAS:
        model = RidgeClassifier(alpha=alpha).fit(train, train_y)
        scores[alpha] = (float(np.mean(model.predict(validation) == validation_y)), model)
    # On a tie the stronger penalty: it is the simpler classifier.
    alpha = max(ALPHAS, key=lambda a: (scores[a][0], a))
    validation_accuracy, model = scores[alpha]
    predicted = model.predict(scaler.transform(features(test_x, vocab)))
    return {'name': name[train_x.ndim], 'alpha': alpha, 'validation_accuracy': validation_accuracy,
            'test_accuracy': float(np.mean(predicted == test_y)), 'chance': chance}
