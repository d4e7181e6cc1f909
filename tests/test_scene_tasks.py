"""Questions, annotators and statements: right by reading them back, noisy as they say."""
import random
import re
from collections import Counter

import numpy as np
import pytest
from scene_words import check_grammar, fitting, read_phrase

from fipjax.data import scene_render, scene_tasks, scene_text

RELS = {other: base for base in scene_text.RELATIONS for other in (base, *scene_text.SYNONYMS[base])}
TRUE = {'left of': lambda x, y: -x > max(abs(y), 0.12), 'right of': lambda x, y: x > max(abs(y), 0.12),
        'above': lambda x, y: -y > max(abs(x), 0.12), 'below': lambda x, y: y > max(abs(x), 0.12),
        'next to': lambda x, y: np.hypot(x, y) < 0.45}


@pytest.fixture(scope='module')
def scenes():
    drawn = scene_render.draw(6, 'questions', np.arange(1500))
    return [scene_text.things(drawn, k) for k in range(1500)]


def phrase_of(text, kind):
    """The words for the object asked about, found by what stands around them."""
    forms = {
        'exists': r'(?:there|show|see) (?:any )?(.+?)(?: in the picture)?\?$',
        'count': r'(?:many|number of) (.+?)(?: are there| are in the picture| do you see| I have here| there are'
                 r'| on my table|$)',
        'relation': None,
        'other': r'(?i:the|this|my) ((?!colour|shape|size|pattern|picture)[a-z ]+?)(?: is| are| have| has| patterned'
                 r'| small, medium|$)'}
    body = re.sub(r'[?.!,]? ?(?:Thank you!|Thanks\.|please\.)?$', '', text)
    if kind == 'exists':
        return re.search(forms['exists'], text)[1]
    return re.search(forms.get(kind, forms['other']), body)[1]


def answer_of(scene, text, kind):
    """The answer by looking at the objects."""
    if kind == 'relation':
        body = re.sub(r'[?.!,]? ?(?:Thank you!|Thanks\.|please\.)?$', '', text)
        said = next(r for r in sorted(RELS, key=len, reverse=True) if re.search(rf' {r} (the|my) ', body))
        found, many = read_phrase(re.split(rf' {said} (?:the|my) ', body)[1])
        assert not many
        (thing,) = fitting(scene, found)
        others = [t for t in scene if t is not thing and TRUE[RELS[said]](t.x - thing.x, t.y - thing.y)]
        return others[0].shape if len(others) == 1 else None
    found, many = read_phrase(phrase_of(text, kind))
    here = fitting(scene, found)
    if kind == 'exists':
        return 'yes' if here else 'no'
    if kind == 'count':
        assert many
        return str(len(here))
    assert len(here) == 1 and not many, text
    assert kind not in found, text  # the answer is not in the question
    return getattr(here[0], kind)


@pytest.mark.parametrize('spoken', [False, True])
def test_questions(scenes, spoken):
    kinds, answers = Counter(), Counter()
    for number, scene in enumerate(scenes):
        text, kind, answer = scene_tasks.question(scene, random.Random(number), spoken, synonyms=0.2)
        check_grammar(text)
        assert answer_of(scene, text, kind) == answer, text
        kinds[kind] += 1
        answers[answer] += 1
    assert set(kinds) == set(scene_tasks.KINDS) - ({'exists'} if spoken else set())
    assert min(kinds.values()) > 0.04 * len(scenes) and max(answers.values()) < 0.2 * len(scenes)
    assert len(answers) >= 25
    if not spoken:
        assert 0.42 < answers['yes'] / (answers['yes'] + answers['no']) < 0.58


def test_annotators():
    """Shares of right answers, of other words for the same and of mistakes are those that are stated."""
    wrong = 0.2 * 0.35 + 0.8 * 0.04
    for kind, answer, same in (('colour', 'red', {'crimson', 'scarlet'}), ('exists', 'yes', set()),
                               ('relation', 'circle', {'disc', 'round thing'}), ('count', '3', set())):
        given = [scene_tasks.annotate(kind, answer, random.Random(k)) for k in range(2000)]
        assert all(len(g) == 10 for g in given)
        said = Counter(a for g in given for a in g)
        total = sum(said.values())
        other = sum(said[w] for w in same) / total
        assert other == pytest.approx((1 - wrong) * 0.12 if same else 0, abs=0.01)
        assert said[answer] / total == pytest.approx((1 - wrong) * (0.88 if same else 1), abs=0.015)
        mistakes = set(said) - {answer} - same
        allowed = {'colour': set(scene_render.COLOURS), 'relation': set(scene_render.SHAPES), 'exists': {'no'},
                   'count': {'2', '4'}}[kind]
        assert mistakes == allowed - {answer}
        errors = np.array([sum(a in mistakes for a in g) for g in given])
        assert errors.var() > 1.5 * 10 * wrong * (1 - wrong)  # some questions are hard: more spread than one coin has
    ends = Counter(a for k in range(300) for a in scene_tasks.annotate('count', '0', random.Random(k)))
    ends.update(a for k in range(300) for a in scene_tasks.annotate('count', '6', random.Random(k)))
    assert set(ends) == {'0', '1', '5', '6'}


def test_unclear_pictures(scenes):
    said = []
    for number in range(300):
        rng = random.Random(number)
        text, answer, given = scene_tasks.spoken_question(scenes[number], scenes[-number - 1], True, rng)
        check_grammar(text)
        assert answer == 'unanswerable'
        said += given
    assert np.mean([a == 'unanswerable' for a in said]) == pytest.approx(0.8, abs=0.03)


def test_absent_things(scenes):
    """What is unanswerable in a clear picture asks for something that is not there."""
    absent = 0
    for number, scene in enumerate(scenes):
        text, answer, given = scene_tasks.spoken_question(scene, scenes[-number - 1], False, random.Random(number))
        assert len(given) == 10
        if answer == 'unanswerable':
            absent += 1
            if not any(f' {r} ' in text for r in RELS):
                found, _ = read_phrase(phrase_of(text, 'colour'))
                assert not fitting(scene, found), text
            assert Counter(given)['unanswerable'] >= 4
    assert absent / len(scenes) == pytest.approx(0.13 / 0.86, abs=0.04)


AN = r'(an? [a-z ]+?)'
EXISTS = re.compile(rf'(?i)^(?:There is|The picture shows|We see|Here is|Someone drew|One can make out) {AN}\.$')
THE = '|'.join(sorted((n for base in (*scene_render.SHAPES, 'thing')
                       for n in (base, *scene_text.SYNONYMS[base])), key=len, reverse=True))


def test_judged(scenes):
    """Verdicts by reading back those statements that say that something is there, or what nobody can see."""
    hidden_words = re.compile(r'belongs|pick up|costs|painted|made of|gave|feels|fond|weighs|hid a key|present|sold'
                              r'|years|smells')
    seen, hidden = Counter(), Counter()
    for number, scene in enumerate(scenes):
        rng, verdict = random.Random(number), scene_tasks.VERDICTS[number % 3]
        elsewhere = [scenes[(number + k) % len(scenes)] for k in (1, 2, 3, 4)]
        text = scene_tasks.judged(scene, elsewhere, verdict, False, rng)
        check_grammar(text)
        match = EXISTS.match(text)
        if hidden_words.search(text):
            hidden[verdict] += 1
            found, _ = read_phrase(re.search(rf'(?i)\bthe ((?:[a-z]+ )*?(?:{THE}))\b', text)[1])
            here = fitting(scene, found)
            twins = min(Counter(t[:4] for t in scene).values()) > 1
            assert len(here) == 1 or twins and here if verdict == 'neutral' else not here, text
        elif match and ' with ' not in text and ' and ' not in text and not any(f' {r} a' in text for r in RELS):
            seen[verdict] += 1
            assert bool(fitting(scene, read_phrase(match[1])[0])) == (verdict == 'entailment'), text
    assert hidden['neutral'] == 500 and hidden['entailment'] == 0 and 130 < hidden['contradiction'] < 230
    assert seen['neutral'] == 0 and min(seen['entailment'], seen['contradiction']) > 25


def test_blurred_statements_are_about_what_is_seen(scenes):
    said = [scene_tasks.judged(scenes[k], scenes[k + 1:k + 5], 'neutral', True, random.Random(k)) for k in range(200)]
    assert not any(re.search(r'belongs|costs|painted|made of|weighs|sold|present', t) for t in said)
    assert len(set(said)) > 190


def test_scenes_of_twins_end(scenes):
    """Where all things are alike none is the only one, and a statement is made all the same."""
    twin = scenes[0][0]
    assert scene_tasks.judged([twin, twin], scenes[:4], 'neutral', False, random.Random(0))
