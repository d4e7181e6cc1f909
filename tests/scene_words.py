"""Reads English about synthetic scenes back, with no code of the writer's: word by word."""
import re

from fipjax.data.scene_render import COLOURS, SHAPES, SIZES, TEXTURES
from fipjax.data.scene_text import SYNONYMS

IRREGULAR = {'crosses': 'cross', 'boxes': 'box', 'rhombuses': 'rhombus', 'pluses': 'plus'}
BASE = {other: base for base, others in SYNONYMS.items() for other in (base, *others)}
NOUNS = [n for base in (*SHAPES, 'thing') for n in (base, *SYNONYMS[base])]
KINDS = {'size': SIZES, 'texture': TEXTURES, 'colour': COLOURS}


def read_phrase(phrase: str) -> tuple[dict, bool]:
    """'tiny crimson discs' -> ({'size': 'small', 'colour': 'red', 'shape': 'circle'}, True for more than one)."""
    found, many, rest = {}, False, re.sub(r'^(an?|the) ', '', phrase.lower())
    for noun in sorted(NOUNS, key=len, reverse=True):
        match = re.search(rf'(?:^| )({noun}(?:s|es)?)$', rest)
        if match:
            said = match[1]
            assert said in (noun, f'{noun}s') or IRREGULAR.get(said) == noun, said
            many = said != noun
            assert not (many and noun in IRREGULAR.values() and said not in IRREGULAR), said
            if BASE[noun] != 'thing':
                found['shape'] = BASE[noun]
            rest = rest[:match.start()].strip()
            break
    else:
        raise AssertionError(f'no noun in {phrase!r}')
    for word in rest.split():
        kind = next(k for k, values in KINDS.items() if BASE[word] in values)
        assert kind not in found, phrase
        found[kind] = BASE[word]
    return found, many


def fitting(scene, phrase: dict) -> list:
    """The objects of a scene that a phrase fits."""
    return [t for t in scene if all(getattr(t, k) == v for k, v in phrase.items())]


def check_grammar(text: str) -> None:
    """Asserts articles, spaces, capitals and ends of sentences."""
    assert text == text.strip() and '  ' not in text and '{' not in text and '}' not in text, text
    assert text[0].isupper() and text[-1] in '.?!', text
    for article, letter in re.findall(r'\b([Aa]n?) (\w)', text):
        assert (article.lower() == 'an') == (letter.lower() in 'aeiou'), text
    for first in re.findall(r'[.?!] (\w)', text):
        assert first.isupper() or first.isdigit(), text
    assert not re.search(r'\b(\w+) \1\b', text.lower()), text
