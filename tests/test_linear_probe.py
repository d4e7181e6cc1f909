"""The probe that says what is left of the source."""
import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fipjax.evaluators import probe
from fipjax.evaluators.probe import linear_probe


def blobs(n, seed, spread):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    centres = np.array([[0, 0, 5], [4, 0, 5], [0, 4, 5]])
    return centres[y] + rng.normal(0, spread, (n, 3)) * [1, 1, 0.01], y


def test_separable_features_are_read_off_and_random_ones_are_not():
    (train, y), (test, z) = blobs(90, 0, 0.2), blobs(60, 1, 0.2)
    assert linear_probe(train, y, test, z) == 0
    noise = np.random.default_rng(2).normal(size=(600, 3))
    assert 0.5 < linear_probe(noise[:300], np.arange(300) % 3, noise[300:], np.arange(300) % 3) < 0.8


def test_it_is_penalised_logistic_regression_on_standardised_features():
    (train, y), (test, z) = blobs(60, 3, 1.5), blobs(90, 4, 1.5)
    mean, deviation = train.mean(0), train.std(0)
    a, b = (train - mean) / deviation, (test - mean) / deviation

    def loss(w):
        w = w.reshape(4, 3)
        logits = a @ w[:3] + w[3]
        logits -= logits.max(1, keepdims=True)
        log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        return -log_p[np.arange(len(y)), y].sum() + (w[:3] ** 2).sum() / 2
    w = minimize(loss, np.zeros(12), method='L-BFGS-B', options={'maxiter': 2000}).x.reshape(4, 3)
    wanted = np.mean((b @ w[:3] + w[3]).argmax(1) != z)
    assert abs(linear_probe(train, y, test, z) - wanted) <= 1 / 90 and 0 < wanted < 0.5


def test_the_scale_of_a_feature_does_not_matter():
    (train, y), (test, z) = blobs(60, 5, 1.5), blobs(60, 6, 1.5)
    scale = np.array([1e-3, 1, 1e3])
    assert linear_probe(train, y, test, z) == linear_probe(train * scale, y, test * scale, z)


@pytest.mark.parametrize('classes', [2, 4])
def test_a_fitted_probe_is_a_layer_on_features_as_they_are(classes):
    """The same probabilities as scikit-learn's pipeline with the penalty that validation chose."""
    rng = np.random.default_rng(classes)
    y = [np.arange(n) % classes for n in (60, 40)]
    z = [3 + rng.normal(size=(len(k), 5)) * [1, 2, 30, 0.1, 1] + k[:, None] * [0.4, 0, 6, 0, 1] for k in y]
    found = probe.fit(z[0], y[0], z[1], y[1])
    errors = {}
    for penalty in probe.PENALTIES:
        whole = make_pipeline(StandardScaler(), LogisticRegression(C=1 / penalty, max_iter=500)).fit(z[0], y[0])
        errors[penalty] = np.mean(whole.predict(z[1]) != y[1])
        if penalty == found.penalty:
            logits = z[1] @ found.kernel + found.bias
            e = np.exp(logits - logits.max(1, keepdims=True))
            np.testing.assert_allclose(e / e.sum(1, keepdims=True), whole.predict_proba(z[1]), atol=1e-4)
    assert found.error == min(errors.values()) == errors[found.penalty]
    assert all(e > found.error for p, e in errors.items() if p > found.penalty)  # the strongest of equals
    assert found.kernel.shape == (5, classes) and found.kernel.dtype == found.bias.dtype == np.float32
