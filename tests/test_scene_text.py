"""Statements, captions and alt text: true, grammatical, and moved by their knobs."""
import random
import re
from collections import Counter

import numpy as np
import pytest
from scene_words import check_grammar, fitting, read_phrase

from fipjax.data import scene_render, scene_text
from fipjax.data.scene_text import Description, Statement, Textual, Thing, holds
from fipjax.errors import UserError

#  a small red circle in the upper left, a large red square right of it, a small blue circle below the first
SCENE = [Thing('small', 'plain', 'red', 'circle', 0.2, 0.2), Thing('large', 'dotted', 'red', 'square', 0.5, 0.25),
         Thing('small', 'striped', 'blue', 'circle', 0.22, 0.8)]
RED, CIRCLE, SQUARE = Description(colour='red'), Description(shape='circle'), Description(shape='square')
BLUE_CIRCLE = Description(colour='blue', shape='circle')


@pytest.mark.parametrize('statement, expected', [
    (Statement('exists', RED), True), (Statement('exists', Description(colour='green')), False),
    (Statement('exists', Description(colour='blue', shape='square')), False),
    (Statement('exists', Description('large', 'dotted', 'red', 'square')), True),
    (Statement('none', Description(shape='star')), True), (Statement('none', CIRCLE), False),
    (Statement('count', RED, value=2), True), (Statement('count', RED, value=1), False),
    (Statement('count', Description(), value=3), True),
    (Statement('is', SQUARE, value=('colour', 'red')), True), (Statement('is', SQUARE, value=('size', 'small')), False),
    (Statement('is', CIRCLE, value=('size', 'small')), None),  # which one?
    (Statement('is', Description(shape='star'), value=('size', 'small')), False),
    (Statement('both', RED, SQUARE), True),
    (Statement('both', SQUARE, Description(texture='dotted')), False),  # needs two objects
    (Statement('relation', SQUARE, RED, 'right of'), True), (Statement('relation', RED, SQUARE, 'left of'), True),
    (Statement('relation', SQUARE, CIRCLE, 'left of'), False), (Statement('relation', BLUE_CIRCLE, RED, 'below'), True),
    (Statement('relation', BLUE_CIRCLE, RED, 'above'), False), (Statement('relation', RED, BLUE_CIRCLE, 'above'), True),
    (Statement('relation', SQUARE, RED, 'next to'), True), (Statement('relation', BLUE_CIRCLE, RED, 'next to'), False),
    (Statement('relation', SQUARE, BLUE_CIRCLE, 'right of'), False),  # more above than to the right
])
def test_holds(statement, expected):
    assert holds(SCENE, statement) is expected


def test_relations_have_opposites():
    rng, opposite = np.random.default_rng(0), {'left of': 'right of', 'above': 'below', 'next to': 'next to'}
    counts = Counter()
    for _ in range(500):
        a, b = (Thing('', '', '', '', *rng.random(2)) for _ in range(2))
        for one, other in opposite.items():
            assert scene_text.related(a, one, b) == scene_text.related(b, other, a)
        sides = [r for r in scene_text.RELATIONS[:4] if scene_text.related(a, r, b)]
        assert len(sides) <= 1 and (sides or max(abs(a.x - b.x), abs(a.y - b.y)) <= scene_text.ASIDE)
        counts.update(sides)
    assert min(counts.values()) > 50 and len(counts) == 4


@pytest.fixture(scope='module')
def scenes():
    drawn = scene_render.draw(5, 'texts', np.arange(400))
    return [scene_text.things(drawn, k) for k in range(400)]


def test_things():
    drawn = scene_render.draw(5, 'texts', np.arange(3))
    for row in range(3):
        found = scene_text.things(drawn, row)
        assert len(found) == drawn.count[row]
        for k, thing in enumerate(found):
            assert thing.shape == scene_render.SHAPES[drawn.shape[row, k]]
            assert thing.colour == scene_render.COLOURS[drawn.colour[row, k]]
            assert thing.size == scene_render.SIZES[drawn.size[row, k]]
            assert thing.texture == scene_render.TEXTURES[drawn.texture[row, k]]
            assert (thing.x, thing.y) == tuple(drawn.centre[row, k])


@pytest.mark.parametrize('kind', list(scene_text.SENTENCES))
@pytest.mark.parametrize('synonyms', [0.0, 0.6])
def test_sentences_say_what_is_true(scenes, kind, synonyms):
    """Sentences are read back and compared with the objects."""
    an = r'((?:an?|An?) [a-z ]+?)'
    forms = {'exists': rf'(?:^|is |shows |see |drew |out ){an}(?: can be seen)?\.$', 'both':
             rf'(?:^|is |shows |see ){an} (?:and|together with|with)(?: there is)? {an}(?: can be seen)?\.$',
             'is': r'^The (?:one )?(.+?)(?: in the picture)? is ([a-z]+)\.$',
             'none': r'(?:are no|not show any|see no) (.+?)(?: here)?\.$',
             'count': r'(?i)\b(one|two|three|four|five|six) ([a-z ]+?)(?: can be seen)?\.$'}
    read = 0
    for number, scene in enumerate(scenes[:200]):
        rng = random.Random(f'{kind}/{number}')
        statement = scene_text.truth(scene, rng, (kind, 'exists') if kind == 'relation' else (kind,))
        assert holds(scene, statement) is True
        text = scene_text.sentence(statement, rng, synonyms)
        check_grammar(text)
        if kind == 'relation':
            continue
        match = re.search(forms[kind], text)
        assert match, text
        read += 1
        if kind == 'count':
            found, many = read_phrase(match[2])
            said = scene_text.NUMBERS.index(match[1].lower())
            assert many == (said != 1) and len(fitting(scene, found)) == said, text
            if text.startswith('There'):
                assert text.split()[1] == ('are' if many else 'is')
        elif kind == 'none':
            found, many = read_phrase(match[1])
            assert many and not fitting(scene, found), text
        elif kind == 'is':
            found, many = read_phrase(match[1])
            value, _ = read_phrase(f'{match[2]} thing')
            assert not many and len(fitting(scene, found)) == 1 and fitting(scene, {**found, **value}), text
        else:
            named = [read_phrase(said) for said in match.groups()]
            assert not any(many for _, many in named)
            options = [fitting(scene, found) for found, _ in named]
            assert all(options), text
            assert kind == 'exists' or any(a is not b for a in options[0] for b in options[1]), text
    assert read == (0 if kind == 'relation' else 200)


def test_relation_sentences(scenes):
    """Read back: some pair of objects that fit the two phrases stands so, by their centres."""
    rels = {other: base for base in scene_text.RELATIONS for other in (base, *scene_text.SYNONYMS[base])}
    for number, scene in enumerate(scenes[:150]):
        rng = random.Random(number)
        statement = scene_text.truth(scene, rng, ('relation', 'exists'))
        if statement.kind == 'relation':
            text = scene_text.sentence(statement, rng, 0.5)
            said = next(r for r in sorted(rels, key=len, reverse=True) if f' {r} a' in text)
            left, right = text[:-1].split(f' {said} ')
            left = re.sub(r'^(There is|The picture has) | (is|sits|has been drawn)$', '', left)
            (a, _), (b, _) = read_phrase(left), read_phrase(right)
            base = rels[said]
            pairs = [(p.x - q.x, p.y - q.y) for p in fitting(scene, a) for q in fitting(scene, b) if p is not q]
            true = {'left of': lambda x, y: -x > abs(y), 'right of': lambda x, y: x > abs(y),
                    'above': lambda x, y: -y > abs(x), 'below': lambda x, y: y > abs(x),
                    'next to': lambda x, y: np.hypot(x, y) < 0.45}[base]
            assert any(true(*pair) for pair in pairs), text


def captions(scenes, style):
    return [scene_text.caption(scene, style, random.Random(k)) for k, scene in enumerate(scenes)]


def test_captions(scenes):
    for style in (Textual(), Textual(synonyms=0.8, clauses=3)):
        said = captions(scenes, style)
        for text in said:
            check_grammar(text)
        assert len(set(said)) > 0.95 * len(said)
    lengths = [np.mean([len(t.split()) for t in captions(scenes, Textual(clauses=k))]) for k in (1, 2, 3)]
    assert lengths[0] + 2 < lengths[1] < lengths[2] - 2
    with pytest.raises(UserError, match="'poem'; allowed: caption, alt"):
        captions(scenes[:1], Textual('poem'))


def unigrams(texts):
    counts = Counter(w for t in texts for w in re.findall(r'[a-z]+|\d', t.lower()))
    total = sum(counts.values())
    return {w: c / total for w, c in counts.items()}


def divergence(p, q):
    """Jensen-Shannon, bits."""
    out = 0.0
    for w in {*p, *q}:
        a, b = p.get(w, 0), q.get(w, 0)
        out += sum(x / 2 * np.log2(2 * x / (a + b)) for x in (a, b) if x)
    return out


def test_synonyms_move_words(scenes):
    base = unigrams(captions(scenes[:200], Textual()))
    other = [unigrams(captions(scenes[200:], Textual(synonyms=s))) for s in (0.0, 0.3, 0.7, 1.0)]
    found = [divergence(base, o) for o in other]
    assert found[0] < 0.03 and all(a + 0.05 < b for a, b in zip(found, found[1:]))
    only = {w for words in scene_text.SYNONYMS.values() for phrase in words for w in phrase.split()}
    only -= {'to', 'the', 'of', 'on', 'than', 'up', 'down', 'left', 'right', 'thing', 'side', 'even'}
    assert not only & set(base) and len(only & set(other[3])) > 40
    assert not set(other[3]) & {*scene_render.COLOURS, *scene_render.SHAPES}


def test_alt_text(scenes):
    clean, noisy = (captions(scenes, Textual('alt', noise=n)) for n in (0.0, 0.8))
    for said in (clean, noisy):
        assert all(t == t.strip() and '  ' not in t and '{' not in t for t in said)
    junk = re.compile(r'\d|stock|flickr|royalty|copyright|download|resolution|enlarge|untitled|larger image')
    assert not any(junk.search(t) for t in clean)
    assert 0.7 < np.mean([bool(junk.search(t)) for t in noisy]) < 0.95
    empty = [t for t in noisy if any(e in t for e in scene_text.ALT['empty'])]
    assert 0.1 < len(empty) / len(noisy) < 0.35
    sentences = unigrams(captions(scenes, Textual()))
    assert divergence(sentences, unigrams(noisy)) > divergence(sentences, unigrams(clean)) > 0.1
    assert len(set(noisy)) > 0.8 * len(noisy)


def test_clean_alt_text_is_true(scenes):
    for text, scene in zip(captions(scenes, Textual('alt')), scenes):
        match = re.fullmatch(r'(?:isolated|vector illustration of) (.+)', text)
        if match:
            assert fitting(scene, read_phrase(match[1])[0]), text


@pytest.mark.parametrize('phrase, expected', [
    ('red circle', 'a red circle'), ('orange cross', 'an orange cross'), ('emerald box', 'an emerald box'),
    ('unpatterned egg', 'an unpatterned egg')])
def test_articles(phrase, expected):
    assert scene_text.with_article(phrase) == expected


def test_plurals():
    assert [scene_text.plural(n) for n in ('circle', 'cross', 'box', 'plus sign', 'round thing', 'rhombus')] == [
        'circles', 'crosses', 'boxes', 'plus signs', 'round things', 'rhombuses']
