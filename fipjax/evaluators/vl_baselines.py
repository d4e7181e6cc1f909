"""What every table of the vision-language wing is compared with: a constant, and linear models of words and regions."""
from __future__ import annotations

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
    from sklearn.linear_model import Ridge
    from sklearn.preprocessing import StandardScaler
    y, splits = _targets(task, train), (train, validation, test)
    words, regions = zip(*(_features(s, vocab) for s in splits))
    seen = np.flatnonzero(words[0].any(0))
    words = [w[:, seen] for w in words]
    shift = 0.5 if task.output == 'labels' else 0.0  # so that labels are predicted where the logit is above 0
    score = lambda logits, source: vqa.score(task.output, task.classes, logits - shift, source.y)  # noqa: E731
    out = {'majority': score(np.broadcast_to(y.mean(0, dtype=np.float64), (len(test), y.shape[1])), test)}
    both = [np.concatenate(pair, 1) for pair in zip(words, regions)]
    for name, views in (('linear, text', words), ('linear, regions', regions), ('linear, both', both)):
        scaler = StandardScaler().fit(views[0])
        x = [scaler.transform(v) for v in views]
        fitted = []
        for alpha in ALPHAS:
            model = Ridge(alpha=alpha).fit(x[0], y)
            fitted.append((score(model.predict(x[1]), validation)[vqa.HEADLINE[task.output]], alpha, model))
        out[name] = score(max(fitted, key=lambda f: f[:2])[2].predict(x[2]), test)
    return out


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
        regions.append((batch['features'] * valid).sum(1) / np.maximum(valid.sum(1), 1))
    return np.concatenate(words), np.concatenate(regions)
