"""What every table of the vision-language wing is compared with: a constant, and linear models of words and regions."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fipjax.evaluators import vqa
from fipjax.evaluators.trivial import ALPHAS

CHUNK = 1024  # examples read at once


def simple(task, train, validation, test, vocab: int) -> dict[str, dict[str, float]]:
    """Test metrics of simple models; penalties are chosen on validation, and test is read once, after all choices.

    Args:
      task: fipjax.data.vl.Task.
      train, validation, test: sources of fipjax.data.vl.
      vocab: number of word pieces.

    Returns:
      'majority' (mean targets of training), and ridge regression of the targets on counts of word pieces ('linear,
      text'), on the mean of the region features ('linear, regions') and on both ('linear, both'): name -> metrics as
      in vqa.score.
    """
    from sklearn.preprocessing import StandardScaler
    y = _targets(task, train).astype(np.float64)
    shift = 0.5 if task.output == 'labels' else 0.0  # so that labels are predicted where the logit is above 0
    score = lambda logits, source: vqa.score(task.output, task.classes, logits - shift, source.y)  # noqa: E731
    words, regions = _features(train, vocab)
    seen = np.flatnonzero(words.any(0))
    trained, chosen = _views(words, regions, seen), {}
    known = _views(*_features(validation, vocab), seen)
    for name, x in trained.items():
        scaler = StandardScaler().fit(x)
        at = scaler.transform(known[name])
        fits = ridge(scaler.transform(x), y, ALPHAS)
        # On a tie the stronger penalty: it is the simpler model.
        best = max(ALPHAS, key=lambda a: (score(_apply(fits[a], at), validation)[vqa.HEADLINE[task.output]], a))
        chosen[name] = scaler, fits[best]
    last = _views(*_features(test, vocab), seen)
    out = {'majority': score(np.broadcast_to(y.mean(0), (len(test), y.shape[1])), test)}
    return out | {name: score(_apply(fit, scaler.transform(last[name])), test)
                  for name, (scaler, fit) in chosen.items()}


def ridge(x, y, penalties: Sequence[float]) -> dict[float, tuple[np.ndarray, np.ndarray]]:
    """Ridge regressions with an intercept, which is not penalised: penalty -> (coefficients [F, K], intercept [K]).

    With x and y centred the coefficients are (x'x + penalty)^-1 x'y; all share the eigenvectors of x'x.

    Args:
      x: float64 [n, F].
      y: float64 [n, K].
      penalties: above 0.
    """
    mean, level = x.mean(0), y.mean(0)
    x = x - mean
    values, vectors = np.linalg.eigh(x.T @ x)
    shares = vectors.T @ (x.T @ (y - level))
    # Where x has less than full rank rounding leaves values a little below 0.
    found = {a: vectors @ (shares / (np.maximum(values, 0)[:, None] + a)) for a in penalties}
    return {a: (w, level - mean @ w) for a, w in found.items()}


def _apply(fit, x):
    coefficients, intercept = fit
    return x @ coefficients + intercept


def _views(words, regions, seen):
    """What each linear model sees, float64 [n, ...]; word pieces that training has not are left out."""
    words, regions = np.asarray(words[:, seen], np.float64), np.asarray(regions, np.float64)
    return {'linear, text': words, 'linear, regions': regions, 'linear, both': np.concatenate([words, regions], 1)}


def _targets(task, source):
    return np.eye(len(task.classes))[source.y] if task.output == 'classes' else source.y


def _features(source, vocab):
    """Counts of word pieces [n, vocab] and mean valid region features [n, F]."""
    words, regions = [], []
    for start in range(0, len(source), CHUNK):
        batch = source.take(np.arange(start, min(start + CHUNK, len(source))))
        counts = np.zeros((len(batch['tokens']), vocab), np.float32)
        rows = np.broadcast_to(np.arange(len(counts))[:, None], batch['tokens'].shape)
        np.add.at(counts, (rows, batch['tokens']), batch['token_mask'])
        words.append(counts)
        valid = batch['region_mask'][..., None]
        regions.append((batch['features'] * valid).sum(1, dtype=np.float64) / np.maximum(valid.sum(1), 1))
    return np.concatenate(words), np.concatenate(regions)
