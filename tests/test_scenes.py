"""Sets made of synthetic scenes: what is in them, that nothing leaks, and that each knob moves what it says."""
import functools
import re
from collections import Counter

import numpy as np
import pytest

from fipjax.data import scene_render, scene_tasks, scene_text, scenes
from fipjax.data.scene_render import MOST
from fipjax.data.scenes import Textual, Visual
from fipjax.errors import UserError
from fipjax.evaluators import vqa

SIZES = {'train': 900, 'validation': 30, 'test': 450}
ALL = sum(SIZES.values())
pretraining = functools.cache(scenes.pretraining)


@functools.cache
def task(name):
    return scenes.task(name, SIZES, 0)


@pytest.fixture(params=scenes.PRETRAINING)
def data(request):
    return pretraining(request.param, 300, 0)


def check_regions(regions):
    count = regions.count
    assert count.dtype == np.int32 and (count >= 3).all() and (count <= 1 + MOST).all()
    assert regions.features.dtype == regions.boxes.dtype == regions.classes.dtype == np.float32
    np.testing.assert_array_equal(regions.boxes[:, 0], np.tile([0, 0, 1, 1], (len(count), 1)))
    valid = np.arange(1 + MOST) < count[:, None]
    assert not regions.features[~valid].any() and not regions.classes[~valid].any()
    np.testing.assert_allclose(regions.classes[valid].sum(-1), 1, atol=1e-6)
    assert (regions.boxes[valid][:, :2] < regions.boxes[valid][:, 2:]).all()
    assert regions.classes.shape[-1] == len(scenes.CLASSES) == 65 and scenes.CLASSES[-1] == 'picture'


def test_pretraining(data):
    each = scenes.PRETRAINING[data.name][2]
    pictures = 300 // each
    assert data.regions.features.shape == (pictures, 1 + MOST, 192) and data.regions.detector == 'crops'
    check_regions(data.regions)
    np.testing.assert_array_equal(data.picture, np.arange(300) // each)
    assert len(data.text) == len(data.split) == 300 and data.vocabulary == ()
    held = set(data.picture[data.split == 'validation'])
    assert not held & set(data.picture[data.split == 'train']) and len(held) == -(-pictures // 20)
    assert (data.output, data.answers is None) == (('answers', False) if data.name == 'vqa' else ('', True))
    if data.answers:
        assert all(len(a) == 10 for a in data.answers)
    assert f'{pictures} pictures, 300 texts, {len(set(data.text))} of them distinct' in data.description


def test_more_begin_with_the_same(data):
    few = scenes.pretraining(data.name, 120, 0)
    assert few.text == data.text[:120]
    n = len(few.regions.count)
    np.testing.assert_array_equal(few.regions.features, data.regions.features[:n])
    np.testing.assert_array_equal(few.regions.classes, data.regions.classes[:n])
    other = scenes.pretraining(data.name, 120, 1)
    assert np.mean([a == b for a, b in zip(few.text, other.text)]) < 0.1


def test_pictures_of(data):
    found = scenes.pictures_of(data.name, 300, 0)
    for name in ('features', 'boxes', 'count', 'classes', 'detector'):
        np.testing.assert_array_equal(getattr(found, name), getattr(data.regions, name))


def test_text_knobs_leave_pictures():
    data = pretraining('coco', 300, 0)
    other = scenes.pretraining('coco', 300, 0, text=Textual('alt', 0.9, 1, 0.9))
    np.testing.assert_array_equal(data.regions.features, other.regions.features)
    assert data.text != other.text


def test_picture_knobs_leave_texts():
    data = pretraining('coco', 300, 0)
    other = scenes.pretraining('coco', 300, 0, look=Visual(palette=1.0, gradient=1.0, noise=0.05, blur=1.0, clutter=4))
    assert data.text == other.text and (data.regions.features != other.regions.features).any((1, 2)).all()
    np.testing.assert_array_equal(data.regions.boxes, other.regions.boxes)
    np.testing.assert_array_equal(data.regions.classes, other.regions.classes)


def unigrams(texts):
    return Counter(w for t in texts for w in re.findall(r'[a-z]+|\d', t.lower()))


def divergence(p, q):
    """Jensen-Shannon of two Counters, bits."""
    names = sorted({*p, *q})
    a, b = (np.array([c[w] for w in names]) / sum(c.values()) for c in (p, q))
    m = (a + b) / 2
    return sum(np.sum(x[x > 0] * np.log2(x[x > 0] / m[x > 0])) for x in (a, b)) / 2


def test_sets_are_as_far_apart_as_said():
    """Texts: alt text is farther from captions than captions of other scenes. Pictures: mean features likewise."""
    coco, again, cc = (pretraining(*x) for x in (('coco', 300, 0), ('coco', 300, 5), ('cc', 300, 0)))
    near, far = (divergence(unigrams(coco.text), unigrams(x.text)) for x in (again, cc))
    assert far > 3 * near and far > 0.35
    means = [x.regions.features[:, 0].mean(0) for x in (coco, again, cc)]
    assert abs(means[0] - means[2]).mean() > 10 * abs(means[0] - means[1]).mean()
    steps = [scenes.pretraining('cc', 60, 0, look=scenes.visual(s)).regions.features[:, 0].mean() for s in (0, 0.5, 1)]
    assert steps[0] > steps[1] + 0.1 > steps[2] + 0.2


def test_frozen_features():
    data = scenes.pretraining('coco', 30, 0, features='frozen')
    assert data.regions.features.shape == (6, 1 + MOST, 64) and data.regions.detector == 'frozen'


@pytest.mark.parametrize('name', scenes.TASKS)
def test_task(name):
    data = task(name)
    check_regions(data.regions)
    assert {s: int((data.split == s).sum()) for s in SIZES} == SIZES
    pictures = [set(data.picture[data.split == s]) for s in SIZES]
    assert len(set.union(*pictures)) == sum(map(len, pictures)) == len(data.regions.count)
    assert data.picture.max() == len(data.regions.count) - 1
    assert len(data.answers) == len(data.text) == ALL and all(data.text)
    assert data.output == {'entailment': 'classes', 'genres': 'labels'}.get(name, 'answers')
    distinct = {'vqa': 0.5, 'vizwiz': 0.7, 'entailment': 0.9, 'genres': 0.95}[name]
    assert len(set(data.text)) > distinct * ALL
    counts = Counter(a for given in data.answers for a in given)
    if data.vocabulary:
        assert set(counts) == set(data.vocabulary)
    else:
        assert len(counts) >= 40 and all(len(given) == 10 for given in data.answers)


def most_said(data):
    return np.array([Counter(given).most_common(1)[0][0] for given in data.answers])


def test_balance():
    shares = {name: Counter(most_said(task(name))) for name in ('vqa', 'vizwiz', 'entailment')}
    assert max(shares['vqa'].values()) < 0.15 * ALL and len(shares['vqa']) >= 25
    assert 0.22 < shares['vizwiz']['unanswerable'] / ALL < 0.32
    assert max(n for a, n in shares['vizwiz'].items() if a != 'unanswerable') < 0.1 * ALL
    assert all(abs(n / ALL - 1 / 3) < 0.04 for n in shares['entailment'].values())


def scores(name, inputs):
    """Test accuracy of logistic regression on a bag of words or on summed features of regions."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    data = task(name)
    if inputs == 'text':
        x = CountVectorizer(token_pattern=r'\w+').fit_transform(data.text)
    else:
        x = data.regions.features[data.picture][:, :, ::4].sum(1)
    y = np.array([' '.join(a) for a in data.answers]) if name == 'genres' else most_said(data)
    train, test = data.split == 'train', data.split == 'test'
    if name == 'genres':
        y = np.array([[g in a for g in data.vocabulary] for a in data.answers])
        right = [LogisticRegression(C=0.3, max_iter=60).fit(x[train], k[train]).predict(x[test]) for k in y.T]
        wrong = (np.stack(right, 1) != y[test]).sum()
        hits = (np.stack(right, 1) & y[test]).sum()
        return 2 * hits / (2 * hits + wrong)  # micro F1
    model = LogisticRegression(C=0.3, max_iter=60).fit(x[train], y[train])
    return float((model.predict(x[test]) == y[test]).mean())


@pytest.mark.filterwarnings('ignore:lbfgs failed')
@pytest.mark.parametrize('name, inputs, low, high', [
    ('vqa', 'text', 0.15, 0.42), ('vizwiz', 'text', 0.2, 0.45), ('entailment', 'text', 0.4, 0.6),
    ('entailment', 'regions', 0.3, 0.55), ('genres', 'text', 0.75, 1.0), ('genres', 'regions', 0.0, 0.4)])
def test_one_input_alone(name, inputs, low, high):
    """Neither words nor regions alone solve a task but for genres, which words tell."""
    assert low <= scores(name, inputs) < high


def test_no_picture_twice():
    seen = Counter()
    names = [*(f'pretraining/{n}' for n in scenes.PRETRAINING), *(f'task/{n}/{s}' for n in scenes.TASKS for s in SIZES)]
    for name in names:
        seen.update(x.tobytes() for x in scenes.pictures(name, 30, 0))
    assert max(seen.values()) == 1 and len(seen) == 30 * len(names)


def test_pictures_are_those_of_the_sets():
    from fipjax.data.regions import regions_of_pictures
    for name, data in (('pretraining/cc', pretraining('cc', 300, 0)), ('task/genres/train', task('genres')),
                       ('task/vizwiz/train', task('vizwiz'))):
        boxes, count = data.regions.boxes[:20], data.regions.count[:20]
        found = regions_of_pictures(scenes.pictures(name, 20, 0), boxes, count, 'crops')
        np.testing.assert_allclose(found, data.regions.features[:20], atol=1e-6)


def test_blurred_pictures_are_not_decided():
    """Where the whole picture has no edges, verdicts are neutral and annotators mostly give up."""
    for name, split in (('entailment', 'train'), ('vizwiz', 'train')):
        pictures = scenes.pictures(f'task/{name}/{split}', 300, 0).astype(float)
        sharp = np.partition(abs(np.diff(pictures, axis=2)).max(-1).reshape(300, -1), -20)[:, -20]
        blurred = np.flatnonzero(sharp < 35)
        assert 20 < len(blurred) < 70
        data = task(name)
        said = most_said(data)[np.isin(data.picture, blurred) & (data.split == split)]
        assert np.mean(said == ('neutral' if name == 'entailment' else 'unanswerable')) > 0.95


@pytest.mark.parametrize('confusion', [0.0, 0.3, 0.7])
def test_detector(confusion):
    drawn = scene_render.draw(0, 'detector', np.arange(800))
    found = scenes.detect(drawn, confusion)
    shown = np.arange(MOST) < drawn.count[:, None]
    np.testing.assert_allclose(found[:, 1:][shown].sum(-1), 1, atol=1e-6)
    assert not found[:, 1:][~shown].any() and (found >= 0).all()
    best = found[:, 1:].argmax(-1)[shown]
    colour, shape = drawn.colour[shown], drawn.shape[shown]
    names = np.array([c.split() for c in scenes.CLASSES[:-1]])[best]
    same_colour = names[:, 0] == np.array(scene_render.COLOURS)[colour]
    same_shape = names[:, 1] == np.array(scene_render.SHAPES)[shape]
    assert (same_colour & same_shape).mean() == pytest.approx(1 - confusion, abs=0.03)
    assert (same_colour | same_shape).all()
    np.testing.assert_allclose(found[:, 1:][shown].max(-1), 1 - confusion, atol=confusion * 0.2 + 1e-6)
    rows = np.array([5, 700])
    np.testing.assert_array_equal(scenes.detect(scene_render.Scenes(*(x[rows] for x in drawn)), confusion), found[rows])


def test_detector_leaves_pictures():
    data, other = pretraining('coco', 300, 0), scenes.pretraining('coco', 300, 0, confusion=0.0)
    np.testing.assert_array_equal(data.regions.features, other.regions.features)
    assert data.text == other.text and set(np.unique(other.regions.classes)) == {0.0, 1.0}


def test_words_cover_all_texts():
    known = set(scenes.words())
    assert list(scenes.words()) == sorted(known) and 400 < len(known) < 900 and set('0123456789') <= known
    sets = [pretraining(n, 300, 0) for n in scenes.PRETRAINING] + [task(n) for n in scenes.TASKS]
    sets.append(scenes.pretraining('cc', 600, 1, text=Textual('alt', 1.0, 3, 0.9)))
    said = {w for d in sets for t in (*d.text, *(a for g in d.answers or () for a in g))
            for w in re.findall(r'[a-z]+', t.lower())}
    assert not said - known
    assert len(said) > 0.85 * len(known)  # and few of them are never said


def binomial(n, k, p):
    from math import comb
    return comb(n, k) * p ** k * (1 - p) ** (n - k)


def test_ceiling():
    """Against the expectation over the annotators' noise."""
    found = scenes.ceiling('vqa', 2000, 0)
    for_word, for_other = (sum(share * binomial(10, k, (1 - wrong) * (0.88 if other else 1)) * vqa.soft_score(k)
                               for share, wrong in ((0.2, 0.35), (0.8, 0.04)) for k in range(11))
                           for other in (True, False))
    true = most_said(task('vqa'))
    others = np.mean([a in scene_text.SYNONYMS for a in true])
    assert found == pytest.approx(others * for_word + (1 - others) * for_other, abs=0.004)
    data = task('vqa')
    test = [given for given, s in zip(data.answers, data.split) if s == 'test']
    best = np.mean([max(vqa.soft_score(n) for n in Counter(given).values()) for given in test])
    assert 0.9 < scenes.ceiling('vqa', SIZES['test'], 0) <= best
    assert 0.9 < scenes.ceiling('vizwiz', 300, 0) < 1
    with pytest.raises(UserError, match="ceiling of 'genres'; known for: vqa, vizwiz"):
        scenes.ceiling('genres', 10, 0)


def test_captions_do_not_speak_of_tasks():
    """Nothing of verdicts, genres or what pictures do not show is in the texts for pretraining."""
    from fipjax.data.scene_plots import GENRES
    said = unigrams([t for n in scenes.PRETRAINING for t in pretraining(n, 300, 0).text])
    assert not set(said) & {*GENRES, *scene_tasks.VERDICTS, *scene_tasks.STUFF, *scene_tasks.TOUCH, 'unanswerable',
                            *(n.lower() for n in scene_tasks.NAMES)}


@pytest.mark.parametrize('call, words', [
    (lambda: scenes.pretraining('flickr', 100, 0), "'flickr' of scenes is not known; allowed: coco, cc, vqa"),
    (lambda: scenes.pretraining('coco', 5, 0), '5 examples; needed are more than 5'),
    (lambda: scenes.pretraining('coco', 10, 0, confusion=0.9), 'confusion of the detector is 0.9; allowed: 0..0.8'),
    (lambda: scenes.pretraining('coco', 10, 0, features='fc6'), 'allowed: crops, frozen'),
    (lambda: scenes.pictures_of('flickr', 100, 0), 'is not known'),
    (lambda: scenes.task('nlvr2', SIZES, 0), "task 'nlvr2' of scenes is not known; allowed: vqa, vizwiz"),
    (lambda: scenes.task('vqa', {'train': 3}, 0), 'needed: train, validation, test'),
    (lambda: scenes.task('vqa', {**SIZES, 'test': 0}, 0), 'each 1 or more'),
])
def test_refused(call, words):
    with pytest.raises(UserError, match=words):
        call()
