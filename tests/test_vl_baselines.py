"""The simple models beside vision-language results: ridge in closed form, choices on validation, test read once."""
import numpy as np
import pytest

from fipjax.data import vl
from fipjax.evaluators import vl_baselines, vqa

VOCAB, LENGTH, REGIONS, FEATURES = 9, 5, 3, 2
CLASSES = {'answers': ('<unk>', 'red', 'blue', 'two'), 'classes': ('a', 'b', 'c'), 'labels': ('x', 'y', 'z')}
NAMES = ['majority', 'linear, text', 'linear, regions', 'linear, both']


class Source:
    """Rows in memory; counts how often each is taken, and when."""

    def __init__(self, batch, y, log=None, name=''):
        self.batch, self.y, self.log, self.name = batch, y, [] if log is None else log, name
        self.read = np.zeros(len(y), int)

    def __len__(self):
        return len(self.y)

    def take(self, rows):
        np.add.at(self.read, rows, 1)
        self.log.append(self.name)
        return {k: v[rows] for k, v in self.batch.items()}


def batch(rng, n):
    """Random pieces and regions. Piece 8 is never seen in training and stands at valid places of other splits."""
    size = rng.integers(2, LENGTH + 1, n)
    return {'tokens': rng.integers(0, VOCAB - 1, (n, LENGTH)), 'token_mask': np.arange(LENGTH) < size[:, None],
            'features': rng.normal(size=(n, REGIONS, FEATURES)).astype(np.float32),
            'region_mask': np.arange(REGIONS) < rng.integers(0, REGIONS + 1, n)[:, None]}


def by_loops(b):
    """Counts of valid pieces, mean valid features."""
    words, regions = np.zeros((len(b['tokens']), VOCAB)), np.zeros((len(b['tokens']), FEATURES))
    for i, (tokens, valid) in enumerate(zip(b['tokens'], b['token_mask'], strict=True)):
        for token in tokens[valid]:
            words[i, token] += 1
        if b['region_mask'][i].any():
            regions[i] = np.mean(b['features'][i][b['region_mask'][i]].astype(np.float64), axis=0)
    return words, regions


def targets(output, rng, b):
    """Something of words and regions that can be learned in part."""
    words, regions = by_loops(b)
    noise = rng.normal(0, 0.5, (len(words), 3))
    signal = np.stack([words[:, 1] - words[:, 2], 2 * regions[:, 0], regions[:, 1] + words[:, 3]], 1) + noise
    if output == 'classes':
        return signal.argmax(1).astype(np.int32)
    if output == 'labels':
        return (signal > 0.3).astype(np.float32)
    scores = np.where(signal >= signal.max(1, keepdims=True), np.float32(1), np.float32(0.3) * (signal > 0))
    return np.concatenate([np.zeros((len(words), 1)), scores], 1).astype(np.float32)


def sources(output, seed=0, sizes=(60, 40, 50)):
    rng, log, out = np.random.default_rng(seed), [], []
    for name, n in zip(('train', 'validation', 'test'), sizes, strict=True):
        b = batch(rng, n)
        y = targets(output, rng, b)
        if name != 'train':
            b['tokens'][0, 0] = VOCAB - 1
        out.append(Source(b, y, log, name))
    return vl.Task('t', output, CLASSES[output], ''), *out


def closed_form(x, y, penalty):
    """(x'x + penalty)^-1 x'y of centred x and y, one penalty and one column of y at a time."""
    centred, level = x - x.mean(0), y.mean(0)
    inverse = np.linalg.inv(centred.T @ centred + penalty * np.eye(x.shape[1]))
    coefficients = np.stack([inverse @ (centred.T @ (column - m)) for column, m in zip(y.T, level, strict=True)], 1)
    return lambda new: (new - x.mean(0)) @ coefficients + level


def expected(task, train, validation, test):
    """name -> (test metrics, penalty), and the test score of every penalty."""
    y = np.eye(3)[train.y] if task.output == 'classes' else train.y.astype(np.float64)
    views = [dict(zip(NAMES[1:], (w, r, np.hstack([w, r])), strict=True))
             for w, r in (by_loops(s.batch) for s in (train, validation, test))]
    out = {}
    for name in NAMES[1:]:
        x = views[0][name]
        deviation = np.where(x.std(0) == 0, 1, x.std(0))
        x, v, t = ((view[name] - views[0][name].mean(0)) / deviation for view in views)
        tried = []
        for penalty in vl_baselines.ALPHAS:
            at = closed_form(x, y, penalty)
            shift = 0.5 if task.output == 'labels' else 0
            scores = [vqa.score(task.output, task.classes, at(z) - shift, s.y) for z, s in ((v, validation), (t, test))]
            tried.append((scores[0][vqa.HEADLINE[task.output]], penalty, scores[1]))
        out[name] = max(tried, key=lambda f: f[:2])[2], tried
    return out


@pytest.mark.parametrize('output', vl.OUTPUTS)
def test_scores_are_those_of_the_closed_form_with_the_penalty_that_validation_likes_best(output):
    given = sources(output)
    found, wanted = vl_baselines.simple(*given, VOCAB), expected(*given)
    assert list(found) == NAMES
    headline = vqa.HEADLINE[output]
    for name, (metrics, tried) in wanted.items():
        assert found[name] == pytest.approx(metrics)
        assert len({score[headline] for _, _, score in tried}) > 1  # another penalty would be another result
    assert found['linear, both'][headline] > found['majority'][headline] + 0.1


@pytest.mark.parametrize('output', vl.OUTPUTS)
def test_majority_knows_the_training_targets_alone(output):
    task, train, validation, test = sources(output)
    found = vl_baselines.simple(task, train, validation, test, VOCAB)['majority']
    if output == 'classes':
        assert found['accuracy'] == np.mean(test.y == np.bincount(train.y).argmax())
    elif output == 'answers':
        assert found['soft_accuracy'] == pytest.approx(test.y[:, 1 + train.y[:, 1:].sum(0).argmax()].mean())
    else:
        frequent = np.broadcast_to(train.y.mean(0) > 0.5, test.y.shape)
        hits = (frequent * test.y).sum()
        assert found['micro_f1'] == pytest.approx(2 * hits / (frequent.sum() + test.y.sum()))


def test_the_choice_is_validations_and_not_tests():
    """With other test targets the penalties are the same, and the scores are not."""
    task, train, validation, test = sources('classes')
    first = vl_baselines.simple(task, train, validation, test, VOCAB)
    other = Source(test.batch, np.random.default_rng(1).permutation(test.y))
    wanted = expected(task, train, validation, other)
    found = vl_baselines.simple(task, train, validation, other, VOCAB)
    assert all(found[k] == pytest.approx(wanted[k][0]) and found[k] != first[k] for k in wanted)


def test_every_row_is_read_once_and_test_after_all_others(monkeypatch):
    monkeypatch.setattr(vl_baselines, 'CHUNK', 7)
    task, train, validation, test = sources('answers')
    scored = []
    score = vqa.score

    def spy(output, classes, logits, y):
        scored.append(len(test.log) if y is not test.y else -1)
        return score(output, classes, logits, y)

    monkeypatch.setattr(vl_baselines.vqa, 'score', spy)
    whole = vl_baselines.simple(task, train, validation, test, VOCAB)
    for source in (train, validation, test):
        assert (source.read == 1).all()
    begins = test.log.index('test')
    assert 'test' not in test.log[:begins] and set(test.log[begins:]) == {'test'}
    assert scored.count(-1) == len(NAMES) and scored[-len(NAMES):] == [-1] * len(NAMES)
    assert all(when <= begins for when in scored[:-len(NAMES)]) and len(scored) > len(NAMES)
    monkeypatch.setattr(vl_baselines, 'CHUNK', 1024)
    assert vl_baselines.simple(*sources('answers'), VOCAB) == whole  # whatever the size of what is read at once


@pytest.mark.parametrize('n, wide', [(40, 6), (12, 30)])
def test_ridge_is_scikit_learns(n, wide):
    """Also with more numbers than examples, and where two of them are the same."""
    from sklearn.linear_model import Ridge
    rng = np.random.default_rng(0)
    x, y = rng.normal(2, 1, (n, wide)), rng.normal(-1, 1, (n, 4))
    x[:, 1] = x[:, 0]
    found = vl_baselines.ridge(x, y, (0.01, 1.0, 100.0))
    for penalty, (coefficients, intercept) in found.items():
        wanted = Ridge(alpha=penalty, solver='cholesky').fit(x, y)
        np.testing.assert_allclose(coefficients, wanted.coef_.T, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(intercept, wanted.intercept_, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(x @ coefficients + intercept, wanted.predict(x), rtol=1e-6, atol=1e-9)
    assert len({w[0, 0] for w, _ in found.values()}) == 3


def test_one_decomposition_serves_all_penalties(monkeypatch):
    calls, eigh = [], np.linalg.eigh
    monkeypatch.setattr(np.linalg, 'eigh', lambda a: calls.append(a.shape) or eigh(a))
    vl_baselines.simple(*sources('classes'), VOCAB)
    assert calls == [(8, 8), (2, 2), (10, 10)]  # piece 8 is not in training
