"""Scores of generated captions: named objects, precision with its control, bigrams against loops."""
from collections import Counter

import numpy as np
import pytest

from fipjax.data import scenes
from fipjax.evaluators import captions


@pytest.mark.parametrize('caption, wanted', [
    ('There are two crimson discs.', {'red circle'}),
    ('there is a small striped azure plus sign, and a Lemon hoop sits above an orange round thing.',
     {'blue cross', 'yellow ring', 'orange circle'}),
    ('the circle is red', set()), ('a red one', set()), ('a red, circle', set()), ('colored circles', set()),
    ('no rosy rhombuses here: pink pluses', {'pink diamond', 'pink cross'})])
def test_objects_are_a_colour_with_a_shape_behind(caption, wanted):
    assert captions.named_objects(caption) == wanted


def test_true_captions_have_a_precision_of_one_and_others_do_not():
    """Captions of 'coco' are true, so every object they name is in the picture; objects come from elsewhere."""
    made = scenes.pretraining('coco', 400, 3)
    objects = captions.objects_of('coco', 400, 3)
    assert len(objects) == 80
    for row in (0, 41):
        assert len(objects[row]) <= made.regions.count[row] - 1
    of_each = [objects[p] for p in made.picture]
    assert captions.precision(made.text, of_each) == 1
    first = captions.scores(made.text[::5], objects)
    assert first['precision'] == 1 and first['precision_other_pictures'] < 0.4
    assert first['distinct'] == len(set(made.text[::5])) / 80
    assert captions.objects_of('coco', 400, 4) != objects


def test_precision_counts_objects_not_captions():
    said = ['a red circle and a blue star', 'nothing', 'a green ring', 'a green ring']
    objects = [{'red circle', 'pink oval'}, set(), {'green ring'}, {'red ring'}]
    assert captions.precision(said, objects) == 2 / 4
    found = captions.scores(said, objects)
    assert found == {'distinct': 3 / 4, 'words': np.mean([7, 1, 3, 3]), 'precision': 0.5, 'precision_other_pictures': 0}
    assert captions.scores(['a', 'b'], [{'red circle'}, set()]) == {'distinct': 1, 'words': 1}  # nothing named
    assert set(captions.scores(said, None)) == {'distinct', 'words'}
    assert captions.scores([*said, 'a pink star'], objects)['precision'] == 0.5  # objects of the first four are known


def test_bigrams_are_those_of_loops():
    rng = np.random.default_rng(0)
    vocab = 7
    train, validation = rng.integers(0, 6, (60, 2)) // [1, 2], rng.integers(0, vocab, (40, 2))
    pairs, first = Counter(map(tuple, train.tolist())), Counter(train[:, 0].tolist())
    loss, hits = 0.0, 0
    for a, b in validation.tolist():
        loss -= np.log((pairs[a, b] + 0.1) / (first[a] + 0.1 * vocab))
        most = max((pairs[a, k] for k in range(vocab)), default=0)
        ties = [k for k in range(vocab) if pairs[a, k] == most] if most else [0]
        hits += b == ties[-1]
    found = captions.bigrams(train, validation, vocab)
    assert found['loss'] == pytest.approx(loss / 40) and found['accuracy'] == hits / 40
