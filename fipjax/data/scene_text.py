"""Words about synthetic scenes: descriptions of objects, statements whose truth is known, captions and alt text.

A statement says something about a scene and can be checked against any other. All sentences are made of the tables
below, so that every word that can be said is known.
"""
from __future__ import annotations

import random
from typing import NamedTuple

from fipjax.data.scene_render import COLOURS, SHAPES, SIZES, TEXTURES, Scenes
from fipjax.errors import UserError

SYNONYMS = {
    'circle': ('disc', 'round thing'), 'square': ('box', 'block'), 'triangle': ('wedge', 'pyramid'),
    'diamond': ('rhombus', 'lozenge'), 'star': ('starburst', 'asterisk'), 'cross': ('plus sign', 'plus'),
    'ring': ('hoop', 'donut'), 'oval': ('ellipse', 'egg'),
    'red': ('crimson', 'scarlet'), 'orange': ('amber', 'tangerine'), 'yellow': ('golden', 'lemon'),
    'green': ('emerald', 'grassy'), 'blue': ('azure', 'navy'), 'purple': ('violet', 'lilac'),
    'pink': ('rose', 'rosy'), 'brown': ('chocolate', 'chestnut'),
    'small': ('tiny', 'little'), 'medium': ('average', 'middling'), 'large': ('big', 'huge'),
    'plain': ('solid', 'unpatterned'), 'striped': ('stripy', 'lined'), 'dotted': ('spotted', 'speckled'),
    'checked': ('chequered', 'tiled'),
    'thing': ('item', 'object'),
    'left of': ('to the left of', 'on the left side of'), 'right of': ('to the right of', 'on the right side of'),
    'above': ('over', 'higher up than'), 'below': ('under', 'lower down than'), 'next to': ('beside', 'close to'),
}
PLURALS = {'cross': 'crosses', 'box': 'boxes', 'rhombus': 'rhombuses', 'plus': 'pluses'}
NUMBERS = ('no', 'one', 'two', 'three', 'four', 'five', 'six')
RELATIONS = ('left of', 'right of', 'above', 'below', 'next to')
NEAR = 0.45  # centres of objects that are next to each other are closer than this
ASIDE = 0.12  # and to be left of something an object must be this much to the left, more left than up or down
STYLES = ('caption', 'alt')

SENTENCES = {  # of statements; {a} with its article, {the}, {n} the number in words
    'exists': ('There is {a}.', 'The picture shows {a}.', 'We see {a}.', '{a} can be seen.', 'Here is {a}.',
               'Someone drew {a}.', 'One can make out {a}.'),
    'both': ('There is {a} and there is {b}.', 'The picture shows {a} and {b}.', 'We see {a} together with {b}.',
             '{a} and {b} can be seen.', 'Here is {a} with {b}.'),
    'relation': ('{a} is {rel} {b}.', '{a} sits {rel} {b}.', 'There is {a} {rel} {b}.',
                 'The picture has {a} {rel} {b}.', '{a} has been drawn {rel} {b}.'),
    'count': ('There {are} {n} {things}.', 'The picture shows exactly {n} {things}.', 'We see {n} {things}.',
              '{n} {things} can be seen.', 'Someone drew {n} {things}.'),
    'is': ('The {thing} is {value}.', 'The {thing} in the picture is {value}.', 'The one {thing} is {value}.'),
    'none': ('There are no {things}.', 'The picture does not show any {things}.', 'We see no {things} here.'),
}
JOINTS = (', and ', ', while ', '; ')
ALT = {  # alt text: {a} and {b} without articles
    'one': ('{a}', '{a} drawing', '{a} clipart', 'vector illustration of {a}', 'isolated {a}', '{a} logo template',
            'best {a} design', '{a} icon set', 'hand drawn {a} wallpaper'),
    'two': ('{a} and {b}', '{a} with {b} background', '{a}, {b}', '{a} {rel} {b}', 'cute {a} & {b} print',
            '{a} or {b} poster for sale'),
    'empty': ('click to enlarge', 'untitled picture', 'image of the day', 'view larger image', 'my new poster design'),
}
JUNK = ('stock photo', 'stock image', 'free download', 'royalty free', 'high resolution', 'via flickr', 'copyright',
        'image {k}', 'img {k}', 'dsc {k}', '{k} px', 'canon eos {k}', 'nikon d{k}', '{day} may {year}',
        '{day} june {year}', 'october {year}', 'no. {k}', 'page {day}')


class Textual(NamedTuple):
    """How texts of a domain read.

    Attributes:
      style: 'caption' (sentences) or 'alt' (alt text of web pages).
      synonyms: share of words that are said by another word for the same.
      clauses: most clauses of a caption, 1..3.
      noise: of alt text: share with dates, camera names and the like, or with words dropped; three in ten of those
        say nothing about the picture.
    """

    style: str = 'caption'
    synonyms: float = 0.0
    clauses: int = 2
    noise: float = 0.0


class Thing(NamedTuple):
    """An object in words, and its centre in shares."""

    size: str
    texture: str
    colour: str
    shape: str
    x: float
    y: float


class Description(NamedTuple):
    """What is said of an object; '' says nothing of it."""

    size: str = ''
    texture: str = ''
    colour: str = ''
    shape: str = ''


class Statement(NamedTuple):
    """kind: one of SENTENCES; of `first`, and of `second` for 'both' and 'relation'.

    value: the relation, the number, or for 'is' (attribute, its value).
    """

    kind: str
    first: Description
    second: Description = Description()
    value: str | int | tuple[str, str] = ''


def things(scenes: Scenes, row: int) -> list[Thing]:
    """The objects of a scene."""
    columns = (x[row, :scenes.count[row]].tolist() for x in (scenes.size, scenes.texture, scenes.colour, scenes.shape))
    return [Thing(SIZES[size], TEXTURES[texture], COLOURS[colour], SHAPES[shape], x, y)
            for size, texture, colour, shape, (x, y) in zip(*columns, scenes.centre[row].tolist())]


def matches(scene: list[Thing], what: Description) -> list[Thing]:
    """The objects that a description fits."""
    return [t for t in scene if all(not said or said == is_ for said, is_ in zip(what, t))]


def related(a: Thing, relation: str, b: Thing) -> bool:
    """Whether a is `relation` b, see NEAR and ASIDE."""
    dx, dy = a.x - b.x, a.y - b.y
    if relation == 'next to':
        return dx * dx + dy * dy < NEAR ** 2
    along, across = {'left of': (-dx, dy), 'right of': (dx, dy), 'above': (-dy, dx), 'below': (dy, dx)}[relation]
    return along > ASIDE and along > abs(across)


def holds(scene: list[Thing], statement: Statement) -> bool | None:
    """Whether a statement is true of a scene; None for 'the' of something that is there more than once."""
    kind, first, second, value = statement
    found = matches(scene, first)
    if kind == 'exists':
        return bool(found)
    if kind == 'none':
        return not found
    if kind == 'count':
        return len(found) == value
    if kind == 'is':
        attribute, wanted = value
        return None if len(found) > 1 else bool(found) and getattr(found[0], attribute) == wanted
    others = matches(scene, second)
    pairs = [(a, b) for a in found for b in others if a is not b]
    return bool(pairs) if kind == 'both' else any(related(a, value, b) for a, b in pairs)


def describe(thing: Thing, rng: random.Random, without: str = '') -> Description:
    """A true description that says the shape or the colour or both, and of size and texture each with 0.35."""
    said = rng.choices((('colour', 'shape'), ('shape',), ('colour',)), (8, 2, 1))[0]
    said += tuple(k for k in ('size', 'texture') if rng.random() < 0.35)
    return Description(**{k: getattr(thing, k) for k in said if k != without})


def truth(scene: list[Thing], rng: random.Random, kinds=('exists', 'both', 'relation', 'count', 'is')) -> Statement:
    """A statement that is true of a scene."""
    while True:
        kind = rng.choice(kinds)
        a, b = rng.sample(scene, 2)
        if kind == 'exists':
            return Statement(kind, describe(a, rng))
        if kind == 'both':
            return Statement(kind, describe(a, rng), describe(b, rng))
        if kind == 'relation':
            true = [r for r in RELATIONS if related(a, r, b)]
            if true:
                return Statement(kind, describe(a, rng), describe(b, rng), rng.choice(true))
        if kind == 'count':
            first = describe(a, rng)._replace(size='')
            return Statement(kind, first, value=len(matches(scene, first)))
        if kind == 'is':
            attribute = rng.choice(('colour', 'texture', 'size'))
            first = describe(a, rng, attribute)._replace(shape=a.shape)
            if len(matches(scene, first)) == 1:
                return Statement(kind, first, value=(attribute, getattr(a, attribute)))
        if kind == 'none':
            first = Description(colour=rng.choice(COLOURS), shape=rng.choice(SHAPES))
            if not matches(scene, first):
                return Statement(kind, first)


def word(base: str, rng: random.Random, synonyms: float) -> str:
    """A base word, or with probability `synonyms` another one for it."""
    return rng.choice(SYNONYMS[base]) if synonyms and rng.random() < synonyms else base


def plural(noun: str) -> str:
    """discs, crosses, plus signs."""
    return PLURALS.get(noun, f'{noun}s')


def with_article(phrase: str) -> str:
    """a red circle, an orange one."""
    return f'{"an" if phrase[0] in "aeiou" else "a"} {phrase}'


def noun_phrase(what: Description, rng: random.Random, synonyms: float = 0.0, number: int = 1) -> str:
    """Words of a description without article, e.g. 'small red circle' or, of another number than 1, 'red circles'."""
    adjectives = [word(w, rng, synonyms) for w in what[:3] if w]
    noun = word(what.shape or 'thing', rng, synonyms)
    return ' '.join([*adjectives, noun if number == 1 else plural(noun)])


def sentence(statement: Statement, rng: random.Random, synonyms: float = 0.0) -> str:
    """A statement in English, with capital and full stop."""
    kind, first, second, value = statement
    number = value if kind == 'count' else 0 if kind == 'none' else 1
    said = noun_phrase(first, rng, synonyms, number)
    fill = {'a': with_article(said), 'thing': said, 'things': said, 'n': NUMBERS[number],
            'are': 'is' if number == 1 else 'are'}
    if kind in ('both', 'relation'):
        fill['b'] = with_article(noun_phrase(second, rng, synonyms))
    if kind == 'relation':
        fill['rel'] = word(value, rng, synonyms)
    if kind == 'is':
        fill['value'] = word(value[1], rng, synonyms)
    return capital(rng.choice(SENTENCES[kind]).format(**fill))


def capital(text: str) -> str:
    """The first letter as a capital."""
    return text[0].upper() + text[1:]


def caption(scene: list[Thing], style: Textual, rng: random.Random) -> str:
    """A true caption of up to `style.clauses` clauses, or alt text."""
    if style.style == 'alt':
        return _alt(scene, style, rng)
    if style.style != 'caption':
        raise UserError(f'style of texts is {style.style!r}; allowed: {", ".join(STYLES)}')
    clauses = list(dict.fromkeys(sentence(truth(scene, rng), rng, style.synonyms)
                                 for _ in range(rng.randint(1, style.clauses))))
    if len(clauses) == 2 and rng.random() < 0.5:
        return clauses[0][:-1] + rng.choice(JOINTS) + clauses[1][0].lower() + clauses[1][1:]
    return ' '.join(clauses)


def _alt(scene, style, rng):
    a, b = rng.sample(scene, 2)
    said, other = (noun_phrase(describe(t, rng), rng, style.synonyms) for t in (a, b))
    relation = [r for r in RELATIONS if related(a, r, b)]
    kinds = [t for t in ALT['two'] if relation or '{rel}' not in t] if rng.random() < 0.5 else ALT['one']
    if rng.random() < 0.3 * style.noise:
        kinds = ALT['empty']
    text = rng.choice(kinds).format(a=said, b=other, rel=word(rng.choice(relation or RELATIONS), rng, style.synonyms))
    if rng.random() < style.noise / 2:
        first, *others = text.split(' ')
        text = ' '.join([first, *(w for w in others if rng.random() < 0.7)]).rstrip(' ,&')
    while rng.random() < style.noise:
        junk = rng.choice(JUNK).format(k=rng.randint(2, 9999), day=rng.randint(1, 30), year=rng.randint(1999, 2019))
        text = rng.choice((f'{text} - {junk}', f'{text}, {junk}', f'{text} | {junk}', f'{junk} {text}'))
        if len(text) > 90:
            break
    return text
