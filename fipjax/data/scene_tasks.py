"""Questions with ten annotators' answers, and statements to be judged, about synthetic scenes.

Annotators: a question is hard (0.2) or not; of a hard one each annotator errs with 0.35, of another with 0.04, and an
annotator who does not err says another word for the same with 0.12 (discs for circles). To err is to say a similar
thing: a number off by one, the opposite, another value of the attribute.
"""
from __future__ import annotations

import itertools
import random

from fipjax.data import scene_text
from fipjax.data.scene_render import COLOURS, SHAPES, SIZES, TEXTURES
from fipjax.data.scene_text import SYNONYMS, Description, Thing, matches, noun_phrase, related
from fipjax.evaluators.vqa import ANNOTATORS, UNANSWERABLE

HARD, ERROR_HARD, ERROR, OTHER_WORD = 0.2, 0.35, 0.04, 0.12
VALUES = {'colour': COLOURS, 'shape': SHAPES, 'size': SIZES, 'texture': TEXTURES, 'exists': ('yes', 'no'),
          'count': tuple('0123456')}
KINDS = ('exists', 'colour', 'shape', 'relation', 'count', 'size', 'texture')
SHARES = (0.16, 0.22, 0.13, 0.19, 0.14, 0.07, 0.09)
BLUR = 4.0  # sigma in pixels of pictures that nobody can make out anything in
UNCLEAR = 0.14  # share of such pictures in 'vizwiz'; and of questions about things that are not there:
ABSENT = 0.13
QUESTIONS = {
    'exists': ('Is there {a}?', 'Is there {a} in the picture?', 'Does the picture show {a}?', 'Can you see {a}?',
               'Are there any {things}?'),
    'colour': ('What colour is the {thing}?', 'Which colour does the {thing} have?',
               'What is the colour of the {thing}?', 'The {thing} is of what colour?'),
    'shape': ('What shape is the {thing}?', 'What is the shape of the {thing}?', 'Which shape does the {thing} have?',
              'The {thing} has what shape?'),
    'relation': ('What is {rel} the {thing}?', 'Which shape is {rel} the {thing}?',
                 'What can be seen {rel} the {thing}?', 'What sits {rel} the {thing}?'),
    'count': ('How many {things} are there?', 'How many {things} are in the picture?', 'How many {things} do you see?',
              'What is the number of {things}?'),
    'size': ('What size is the {thing}?', 'How big is the {thing}?', 'What is the size of the {thing}?',
             'Is the {thing} small, medium or large?'),
    'texture': ('What pattern does the {thing} have?', 'Which pattern is on the {thing}?',
                'What is the pattern of the {thing}?', 'How is the {thing} patterned?'),
}
SPOKEN = {  # what people ask a helper
    'colour': ('what colour this {thing} is', 'the colour of this {thing}', 'which colour my {thing} is'),
    'shape': ('what shape this {thing} is', 'the shape of this {thing}', 'what kind of shape my {thing} has'),
    'relation': ('what is {rel} the {thing}', 'what I have {rel} my {thing}', 'which shape sits {rel} the {thing}'),
    'count': ('how many {things} I have here', 'how many {things} there are', 'the number of {things} on my table'),
    'size': ('what size this {thing} is', 'how big my {thing} is', 'if the {thing} is small, medium or large'),
    'texture': ('what pattern this {thing} has', 'which pattern is on my {thing}', 'how the {thing} is patterned'),
}
OPENINGS = ('Can you tell me {q}?', 'Could you please tell me {q}?', 'Hi, I would like to know {q}.',
            'Please tell me {q}. Thank you!', 'Hello, can you say {q}? Thanks.', 'I need to know {q}, please.',
            'Okay, so tell me {q}.', 'Good morning, could you read out {q}?')

VERDICTS = ('contradiction', 'entailment', 'neutral')
NAMES = ('Anna', 'Ben', 'Clara', 'David', 'Emma', 'Felix', 'Grace', 'Henry', 'Irene', 'Jack')
HIDDEN = ('The {thing} belongs to {name}.', '{name} will pick up the {thing} tomorrow.',
          'The {thing} costs {n} coins.', '{name} painted the {thing} last week.', 'The {thing} is made of {stuff}.',
          '{name} gave the {thing} to {other}.', 'The {thing} feels {touch}.', '{name} is fond of the {thing}.',
          'The {thing} weighs {n} pounds.', 'Somebody hid a key under the {thing}.', 'The {thing} was a present.',
          '{name} has sold the {thing} for {n} coins.', 'The {thing} is {n} years old.',
          'The {thing} smells of {stuff}.')
STUFF = ('wood', 'paper', 'metal', 'glass', 'wool', 'clay')
TOUCH = ('cold', 'warm', 'soft', 'rough', 'wet', 'sticky')
HIDDEN_ABSENT = 0.12  # share of all examples: contradictions since the thing spoken of is not there
BLURRED = 0.12        # neutral since the picture is too blurred to judge a statement about what can be seen


def question(scene: list[Thing], rng: random.Random, spoken: bool = False,
             synonyms: float = 0.0) -> tuple[str, str, str]:
    """A question that can be answered from the scene: (text, kind, true answer)."""
    while True:
        kind = rng.choices(KINDS, SHARES)[0]
        if spoken and kind == 'exists':
            continue
        asked = _ask(scene, kind, rng)
        if asked:
            what, relation, answer = asked
            return _spell(kind, what, relation, rng, spoken, synonyms), kind, answer


def _ask(scene, kind, rng):
    """(description, relation, answer), or None where this scene has no such question."""
    thing = rng.choice(scene)
    if kind == 'exists':
        what = Description(colour=thing.colour, shape=thing.shape)
        if rng.random() < 0.5:
            return what, '', 'yes'
        while matches(scene, what):
            changed = rng.choice(('colour', 'shape'))
            what = what._replace(**{changed: rng.choice(VALUES[changed])})
        return what, '', 'no'
    if kind == 'count':
        what = rng.choice((Description(shape=thing.shape), Description(colour=thing.colour),
                           Description(shape=rng.choice(SHAPES)), Description(colour=rng.choice(COLOURS)),
                           Description(shape=scene[0].shape), Description(colour=scene[0].colour), Description()))
        return what, '', str(len(matches(scene, what)))
    if kind == 'relation':
        relation = rng.choice(scene_text.RELATIONS)
        what = _unique(scene, thing, rng, '')
        found = [t for t in scene if t is not thing and related(t, relation, thing)]
        return (what, relation, found[0].shape) if what and len(found) == 1 else None
    what = _unique(scene, thing, rng, kind)
    return (what, '', getattr(thing, kind)) if what else None


def _unique(scene, thing, rng, without):
    """A description that fits this object only and does not say `without`; None if there is no short one."""
    named = [Description(shape=thing.shape), Description(colour=thing.colour, shape=thing.shape),
             Description(size=thing.size, shape=thing.shape), Description(colour=thing.colour),
             Description(size=thing.size, colour=thing.colour), Description(texture=thing.texture, shape=thing.shape)]
    rng.shuffle(named)
    for what in named:
        if not (without and getattr(what, without)) and len(matches(scene, what)) == 1:
            return what
    return None


def _spell(kind, what, relation, rng, spoken, synonyms):
    state = rng.getstate()  # singular and plural of the same words
    said = noun_phrase(what, rng, synonyms)
    rng.setstate(state)
    fill = {'thing': said, 'things': noun_phrase(what, rng, synonyms, 2), 'a': scene_text.with_article(said),
            'rel': scene_text.word(relation, rng, synonyms) if relation else ''}
    if spoken:
        return rng.choice(OPENINGS).format(q=rng.choice(SPOKEN[kind]).format(**fill))
    return rng.choice(QUESTIONS[kind]).format(**fill)


def annotate(kind: str, answer: str, rng: random.Random) -> tuple[str, ...]:
    """What ten annotators say whose true answer is `answer`, see this module's docstring."""
    wrong = ERROR_HARD if rng.random() < HARD else ERROR
    out = []
    for _ in range(ANNOTATORS):
        if rng.random() < wrong:
            out.append(_mistake(kind, answer, rng))
        else:
            out.append(scene_text.word(answer, rng, OTHER_WORD) if answer in SYNONYMS else answer)
    return tuple(out)


def _mistake(kind, answer, rng):
    values = VALUES['shape' if kind == 'relation' else kind]
    if kind == 'count':
        return rng.choice([str(k) for k in (int(answer) - 1, int(answer) + 1) if 0 <= k <= 6])
    return rng.choice([v for v in values if v != answer])


def spoken_question(scene: list[Thing], elsewhere: list[Thing], unclear: bool,
                    rng: random.Random) -> tuple[str, str, tuple[str, ...]]:
    """A question of 'vizwiz': (text, true answer, ten answers); what cannot be answered is 'unanswerable'.

    Args:
      scene: what is in the picture.
      elsewhere: another scene; some questions are about what is there and not here.
      unclear: whether the picture is too blurred.
      rng: of this question.
    """
    if not unclear and rng.random() < ABSENT / (1 - UNCLEAR):
        for _ in range(20):
            kind = rng.choices(KINDS, SHARES)[0]
            asked = None if kind in ('exists', 'count') else _ask(elsewhere, kind, rng)
            if asked and not matches(scene, asked[0]):
                return _spell(kind, *asked[:2], rng, True, 0.0), UNANSWERABLE, _give_up(kind, asked[2], 0.85, rng)
    text, kind, answer = question(scene, rng, spoken=True)
    if unclear:
        return text, UNANSWERABLE, _give_up(kind, answer, 0.8, rng)
    return text, answer, _give_up(kind, answer, 0.05, rng)


def _give_up(kind, answer, share, rng):
    return tuple(UNANSWERABLE if rng.random() < share else a for a in annotate(kind, answer, rng))


def judged(scene: list[Thing], elsewhere: list[list[Thing]], verdict: str, blurred: bool, rng: random.Random) -> str:
    """A statement with this verdict on the scene; whatever a blurred picture shows is neutral.

    Statements that are false here are true of another scene, and statements about what pictures do not show
    contradict pictures that do not even show the thing: texts alone say little.

    Args:
      scene: what is in the picture.
      elsewhere: other scenes.
      verdict: one of VERDICTS.
      blurred: whether the picture is too blurred to judge what can be seen.
      rng: of this example.
    """
    if blurred:
        return scene_text.sentence(scene_text.truth(rng.choice([scene, *elsewhere]), rng), rng, 0.1)
    if verdict == 'entailment':
        return scene_text.sentence(scene_text.truth(scene, rng), rng, 0.1)
    if verdict == 'neutral':
        return _hidden([scene], [], rng)
    if rng.random() < 3 * HIDDEN_ABSENT:
        return _hidden(elsewhere, scene, rng)
    while True:
        statement = scene_text.truth(rng.choice(elsewhere), rng)
        if scene_text.holds(scene, statement) is False:
            return scene_text.sentence(statement, rng, 0.1)


def _hidden(scenes, absent_from, rng):
    """Something pictures do not show about the one such thing of a scene; the scene `absent_from` has none."""
    for attempt in itertools.count():
        scene = rng.choice(scenes)
        what = scene_text.describe(rng.choice(scene), rng)
        alone = len(matches(scene, what)) == 1 or attempt > 100  # all things of a scene may be alike
        if alone and not matches(absent_from, what):
            name, other = rng.sample(NAMES, 2)
            return scene_text.capital(rng.choice(HIDDEN).format(
                thing=noun_phrase(what, rng, 0.1), name=name, other=other, n=rng.choice(scene_text.NUMBERS[2:]),
                stuff=rng.choice(STUFF), touch=rng.choice(TOUCH)))
