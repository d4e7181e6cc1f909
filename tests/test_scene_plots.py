"""Plots of films: genres can be read off words, and are not named."""
import random
import re
from collections import Counter

import numpy as np
from scene_words import check_grammar

from fipjax.data import scene_plots
from fipjax.data.scene_plots import GENERAL, GENRES, PLOTS


def test_tables():
    assert set(PLOTS) == set(scene_plots.COLOURS) == set(GENRES) and len(GENRES) == 8
    told = [t for table in PLOTS.values() for t in table]
    assert len(set(told)) == len(told) >= 64


FORMS = [(name, template, re.compile(re.sub(r'\\{\w+\\}', '.+', re.escape(template)), re.IGNORECASE))
         for name, table in (*PLOTS.items(), ('', GENERAL)) for template in table]


def template_of(text):
    """(table, template) that a sentence is from: words of the template, in their order."""
    return next((name, template) for name, template, form in FORMS if form.fullmatch(text))


def test_plots():
    numbers, sentences, on_topic, topics, said = Counter(), Counter(), [], Counter(), set()
    for k in range(800):
        rng = random.Random(k)
        of = scene_plots.genres(rng)
        text = scene_plots.plot(of, rng)
        check_grammar(text)
        assert not any(re.search(rf'\b{g}', text.lower()) for g in GENRES), text
        parts = re.findall(r'[^.?]+[.?]', text)
        found = [template_of(p.strip()) for p in parts]
        numbers[len(of)] += 1
        sentences[len(parts)] += 1
        assert len({template for _, template in found}) == len(parts), text
        on_topic += [name in of for name, _ in found]
        topics.update(of)
        said.add(text)
        assert of == tuple(sorted(set(of)))
    assert set(numbers) == {1, 2, 3} and set(sentences) == {2, 3, 4} and len(said) > 790
    np.testing.assert_allclose([numbers[k] / 800 for k in (1, 2, 3)], [0.5, 0.4, 0.1], atol=0.05)
    assert 0.83 < np.mean(on_topic) < 0.92  # 0.85, and some of another genre that is the film's own too
    assert min(topics.values()) > 0.7 * max(topics.values())


def test_same_number_same_plot():
    first, second = (scene_plots.plot(('horror', 'western'), random.Random('a')) for _ in range(2))
    assert first == second != scene_plots.plot(('horror', 'western'), random.Random('b'))
