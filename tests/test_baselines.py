"""Simple models: what they answer, that validation chooses, that test is read once and last."""
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

from fipjax.data.labelled import Source, Task
from fipjax.evaluators import baselines, scores, trivial

SIZES = {'train': 45, 'validation': 30, 'test': 40}
SCALE = {'mean': np.array([1.0, 2], np.float32), 'deviation': np.array([2.0, 3], np.float32)}
TASKS = {'classes': Task('1d', 'classes', (12, 2), (), ('a', 'b', 'c'), None, ''),
         'binary': Task('1d', 'classes', (12, 2), (), ('a', 'b'), None, ''),
         'multilabel': Task('1d', 'multilabel', (12, 2), (3,), ('a', 'b', 'c'), None, ''),
         'dense': Task('1d', 'dense', (12, 2), (12, 2), (), SCALE, '')}


def sources(output, seed=0):
    """The splits of a small task, and a list of the (split, ids) that were read."""
    rng, task, reads, out = np.random.default_rng(seed), TASKS[output], [], []
    for split, n in SIZES.items():
        x = rng.normal(size=(n, 12, 2)).astype(np.float32)
        y = {'classes': rng.permutation(np.arange(n) * 7 // n % 3), 'binary': np.arange(n) % 2,
             'multilabel': (x[:, :3, 0] + 0.5 * rng.normal(size=(n, 3)) > 0).astype(np.float32),
             'dense': x[:, ::-1] + 0.3 * rng.normal(size=x.shape).astype(np.float32)}[output]
        if y.ndim == 1:
            x[:, :, 0] += 0.6 * y[:, None]
        source = Source(task, np.arange(n), lambda ids, x=x, y=y: {'x': x, 'y': y})
        take = source.take
        source.take = lambda rows, split=split, take=take: reads.append((split, rows)) or take(rows)
        out.append(source)
    return task, out, reads


def arrays(output, **how):
    """Standardised features and targets of the three splits."""
    _, splits, _ = sources(output, **how)
    raw = [s.take(np.arange(len(s))) for s in splits]
    scaler = StandardScaler().fit(trivial.features(raw[0]['x']))
    return [(scaler.transform(trivial.features(r['x'])), r['y']) for r in raw]


@pytest.mark.parametrize('output', TASKS)
def test_test_is_read_once_after_all_choices(output, monkeypatch):
    monkeypatch.setattr(baselines, 'CHUNK', 16)
    task, splits, reads = sources(output)
    found = baselines.simple(task, *splits)
    assert [split for split, _ in reads] == ['train'] * 3 + ['validation'] * 2 + ['test'] * 3
    for split, n in SIZES.items():
        assert np.concatenate([rows for s, rows in reads if s == split]).tolist() == list(range(n))
    names = (['majority', 'logistic regression', 'nearest neighbour'] if task.output == 'classes'
             else ['constant', 'ridge', 'nearest neighbour'])
    headline = scores.HEADLINE[task.output]
    assert list(found) == names and all(next(iter(v)) == headline for v in found.values())
    assert all(np.isfinite(list(v.values())).all() for v in found.values())
    better = np.less if headline in scores.LOWER_IS_BETTER else np.greater
    assert better(found[names[1]][headline], found[names[0]][headline])


def test_constants():
    for output in ('classes', 'multilabel', 'dense'):
        task, splits, _ = sources(output)
        found = baselines.simple(task, *splits)
        (_, y), _, (_, test_y) = arrays(output)
        if output == 'classes':
            p = np.bincount(y) / len(y)
            assert found['majority']['error'] == np.mean(test_y != p.argmax()) and found['majority']['auroc'] == 0.5
            assert found['majority']['cross_entropy'] == pytest.approx(-np.log(p[test_y]).mean())
        elif output == 'multilabel':
            assert found['constant']['map'] == pytest.approx(test_y.mean())
        else:
            true, mean = (v * SCALE['deviation'] + SCALE['mean'] for v in (test_y, y.mean(0)))
            assert found['constant']['mae'] == pytest.approx(np.abs(true - mean).mean(), rel=1e-5)


@pytest.mark.parametrize('output', TASKS)
def test_penalties_are_chosen_on_validation(output):
    task, splits, _ = sources(output)
    found = baselines.simple(task, *splits)
    (x, y), (validation_x, validation_y), (test_x, test_y) = arrays(output)
    headline, rated = scores.HEADLINE[task.output], []
    for penalty in baselines.LOGISTIC if task.output == 'classes' else trivial.ALPHAS:
        if task.output == 'classes':
            model = LogisticRegression(C=1 / penalty, tol=1e-3, max_iter=300).fit(x, y)
            predict = lambda x, model=model: np.log(model.predict_proba(x))  # noqa: E731
        else:
            model = Ridge(alpha=penalty).fit(x, y.reshape(len(y), -1))
            predict = lambda x, model=model: model.predict(x).reshape(-1, *task.target_shape)  # noqa: E731
        value = scores.score(task, predict(validation_x), validation_y)[headline]
        sign = 1 if headline in scores.LOWER_IS_BETTER else -1
        rated.append((sign * value, -penalty, scores.score(task, predict(test_x), test_y)))
    expected = min(rated, key=lambda r: r[:2])[2]
    for name, value in expected.items():
        assert found['logistic regression' if task.output == 'classes' else 'ridge'][name] == pytest.approx(
            value, rel=1e-6), name


@pytest.mark.parametrize('output', TASKS)
def test_nearest_neighbour(output):
    task, splits, _ = sources(output)
    found = baselines.simple(task, *splits)['nearest neighbour']
    (x, y), (validation_x, validation_y), (test_x, test_y) = arrays(output)
    nearest = lambda q: y[((q[:, None] - x[None]) ** 2).sum(-1).argmin(1)]  # noqa: E731
    answer = nearest(test_x)
    if task.output == 'classes':
        hits, k = (nearest(validation_x) == validation_y).sum(), len(task.classes)
        right = (hits + 1) / (len(validation_y) + 2)
        p = np.where(answer == test_y, right, (1 - right) / (k - 1))
        assert found['error'] == np.mean(answer != test_y)
        assert found['cross_entropy'] == pytest.approx(-np.log(p).mean())
    else:
        expected = scores.score(task, answer, test_y)
        assert found == pytest.approx(expected)


def test_a_neighbour_that_is_never_right_still_answers():
    task, splits, _ = sources('classes')
    wrong = splits[0].take(np.arange(SIZES['train']))
    validation = Source(task, np.arange(45), lambda ids: {'x': wrong['x'], 'y': (wrong['y'] + 1) % 3})
    found = baselines.simple(task, splits[0], validation, splits[0])['nearest neighbour']
    assert found['error'] == 0 and found['cross_entropy'] == pytest.approx(np.log(3), rel=1e-4)


def test_test_labels_reach_no_choice():
    task, splits, _ = sources('classes')
    first = baselines.simple(task, *splits)
    x, y = splits[2].take(np.arange(40))['x'], splits[2].y
    other = Source(task, np.arange(40), lambda ids: {'x': x, 'y': np.roll(y, 7)})
    second = baselines.simple(task, *splits[:2], other)
    assert first != second
    again = baselines.simple(task, *splits[:2], Source(task, np.arange(40), lambda ids: {'x': x, 'y': y}))
    assert first == again
