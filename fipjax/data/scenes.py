"""Synthetic pictures with texts, so that how far pretraining and task are from each other is known and set by knobs.

Pretraining sets (each scene keyed by seed, set and id; every 20th picture is for validation):

    coco  near pictures, five captions of each in plain words
    cc    far pictures (visual shift 0.4), one alt text of each, with other words and noise
    vqa   near pictures, three questions of each with ten annotators' answers

Tasks (pictures of their own): 'vqa' questions with ten answers; 'vizwiz' the same, spoken, of pictures partly too
blurred, with 'unanswerable'; 'entailment' whether a statement follows; 'genres' of films, which plots tell and posters
hardly. How scenes are drawn: scene_render.py; captions: scene_text.py; questions, annotators and statements:
scene_tasks.py; plots: scene_plots.py.
"""
from __future__ import annotations

import random
import re
from collections.abc import Mapping

import numpy as np

from fipjax.data import scene_plots, scene_render, scene_tasks, scene_text
from fipjax.data.regions import regions_of_pictures
from fipjax.data.scene_render import COLOURS, MOST, SHAPES, Scenes, Visual, visual
from fipjax.data.scene_text import Textual, things
from fipjax.data.vl import Regions, Set
from fipjax.errors import UserError
from fipjax.evaluators import vqa

__all__ = ['CLASSES', 'PRETRAINING', 'TASKS', 'Textual', 'Visual', 'ceiling', 'detect', 'pictures', 'pictures_of',
           'pretraining', 'task', 'visual', 'words']

CLASSES = (*(f'{colour} {shape}' for colour in COLOURS for shape in SHAPES), 'picture')
CONFUSION = 0.3
PRETRAINING = {  # name -> look of pictures, of texts (None: questions), texts a picture
    'coco': (visual(0.0), Textual('caption', synonyms=0.1, clauses=1), 5),
    'cc': (visual(0.4), Textual('alt', synonyms=0.7, noise=0.5), 1),
    'vqa': (visual(0.0), None, 3),
}
TASKS = {'vqa': 3, 'vizwiz': 1, 'entailment': 3, 'genres': 1}  # name -> texts a picture
SPLITS = ('train', 'validation', 'test')
QUESTION_SYNONYMS = 0.1
AT_ONCE = 1024  # pictures in memory


def words() -> tuple[str, ...]:
    """All words that any text or answer can hold, sorted; of numbers only the digits."""
    tables = [vars(m)[k] for m in (scene_render, scene_text, scene_tasks, scene_plots) for k in vars(m) if k.isupper()]
    nouns = [n for base in (*SHAPES, 'thing') for n in (base, *scene_text.SYNONYMS[base])]
    said = [*_strings(tables), *map(scene_text.plural, nouns), 'a', 'an', 'is', 'are']
    found = re.findall(r'[a-z]+', ' '.join(re.sub(r'\{\w*\}', ' ', text) for text in said).lower())
    return tuple(sorted({*found, *'0123456789'}))


def _strings(table):
    if isinstance(table, str):
        yield table
    elif isinstance(table, Mapping):
        yield from _strings([*table.keys(), *table.values()])
    elif isinstance(table, (tuple, list)):
        for x in table:
            yield from _strings(x)


def pretraining(name: str, examples: int, seed: int, *, features: str = 'crops', confusion: float = CONFUSION,
                look: Visual | None = None, text: Textual | None = None) -> Set:
    """A pretraining set, see this module's docstring.

    Args:
      name: one of PRETRAINING.
      examples: captions, alt texts or questions; more of them begin with the same ones.
      seed: another one gives other scenes.
      features: of regions, 'crops' or 'frozen', see fipjax.data.regions.
      confusion: of the detector, see `detect`.
      look, text: other knobs than the set's own; scenes and what is asked stay the same.

    Raises:
      UserError: unknown name, fewer examples than two pictures have, knobs out of range.
    """
    look, text, each = _pretraining_settings(name, examples, look, text)
    scenes = _scenes(name, examples, seed, look)
    picture, said, answers = np.arange(examples) // each, [], []
    for row in picture:
        rng = random.Random(f'{seed}/{name}/{row}/{len(said) - row * each}')
        scene = things(scenes, row)
        if text is not None:
            said.append(scene_text.caption(scene, text, rng))
            continue
        question, kind, answer = scene_tasks.question(scene, rng, synonyms=QUESTION_SYNONYMS)
        said.append(question)
        answers.append(scene_tasks.annotate(kind, answer, rng))
    split = np.where(picture % 20 == 0, 'validation', 'train')
    return _set(name, _regions(scenes, look, features, confusion), picture, said, answers or None,
                'answers' if answers else '', split, ())


def pictures_of(name: str, examples: int, seed: int, *, features: str = 'crops', confusion: float = CONFUSION,
                look: Visual | None = None) -> Regions:
    """The pictures of `pretraining` with the same arguments, without texts."""
    look, _, _ = _pretraining_settings(name, examples, look, None)
    return _regions(_scenes(name, examples, seed, look), look, features, confusion)


def pictures(where: str, count: int, seed: int) -> np.ndarray:
    """Pixels of the first pictures, uint8 [count, 64, 64, 3], for people and tests.

    Args:
      where: 'pretraining/NAME' or 'task/NAME/SPLIT'.
      count: how many.
      seed: of the set.
    """
    kind, name, *split = where.split('/')
    if kind == 'pretraining':
        look, _, each = _pretraining_settings(name, count * PRETRAINING[name][2], None, None)
        return scene_render.render(_scenes(name, count * each, seed, look), look)[0]
    return scene_render.render(_task_split(name, split[0], count * TASKS[name], seed)[0], visual(0.0))[0]


def _pretraining_settings(name, examples, look, text):
    if name not in PRETRAINING:
        raise UserError(f'pretraining set {name!r} of scenes is not known; allowed: {", ".join(PRETRAINING)}')
    usual, style, each = PRETRAINING[name]
    if examples <= each:
        raise UserError(f'pretraining set {name!r}: {examples} examples; needed are more than {each}, those of one '
                        f'picture')
    return look or usual, text or style, each


def _scenes(name, examples, seed, look) -> Scenes:
    each = PRETRAINING[name][2]
    return scene_render.draw(seed, f'pretraining/{name}', np.arange(-(-examples // each)), look.texture)


def task(name: str, sizes: Mapping[str, int], seed: int, *, features: str = 'crops',
         confusion: float = CONFUSION) -> Set:
    """A task with answers, see this module's docstring.

    Args:
      name: one of TASKS.
      sizes: examples of 'train', 'validation' and 'test'.
      seed, features, confusion: as in `pretraining`.
    """
    if name not in TASKS:
        raise UserError(f'task {name!r} of scenes is not known; allowed: {", ".join(TASKS)}')
    if set(sizes) != set(SPLITS) or min(sizes.values()) < 1:
        raise UserError(f'task {name!r}: sizes are {dict(sizes)}; needed: {", ".join(SPLITS)}, each 1 or more')
    parts = [_task_split(name, split, sizes[split], seed) for split in SPLITS]
    regions = [_regions(scenes, visual(0.0), features, confusion) for scenes, *_ in parts]
    regions = Regions(*(np.concatenate([getattr(r, k) for r in regions]) for k in Regions._fields[:4]), features)
    first = np.cumsum([0, *(len(scenes.count) for scenes, *_ in parts)])
    picture = np.concatenate([p + start for (_, p, *_), start in zip(parts, first)])
    said, answers = ([x for part in parts for x in part[k]] for k in (2, 3))
    split = np.repeat(SPLITS, [sizes[s] for s in SPLITS])
    output = {'entailment': 'classes', 'genres': 'labels'}.get(name, 'answers')
    vocabulary = {'entailment': scene_tasks.VERDICTS, 'genres': scene_plots.GENRES}.get(name, ())
    return _set(name, regions, picture, said, answers, output, split, vocabulary)


def ceiling(name: str, size: int, seed: int, split: str = 'test') -> float:
    """VQA accuracy of the true answers of a split of 'vqa' or 'vizwiz', given what its annotators said."""
    if name not in ('vqa', 'vizwiz'):
        raise UserError(f'ceiling of {name!r}; known for: vqa, vizwiz')
    _, _, _, answers, true = _task_split(name, split, size, seed)
    return float(np.mean([vqa.soft_score(given.count(answer), len(given)) for given, answer in zip(answers, true)]))


def _task_split(name, split, size, seed):
    """(scenes, picture [n] in them, texts, answers, true answers) of a split."""
    each, where = TASKS[name], f'task/{name}/{split}'
    ids = np.arange(-(-size // each))
    scenes = scene_render.draw(seed, where, ids, visual(0.0).texture)
    others = [scene_render.draw(seed, f'{where}/elsewhere/{k}', ids, visual(0.0).texture)
              for k in range({'vizwiz': 1, 'entailment': 4}.get(name, 0))]
    lot = scenes.style[:, 7]  # decides about the picture as a whole
    blurred = lot < {'vizwiz': scene_tasks.UNCLEAR, 'entailment': scene_tasks.BLURRED}.get(name, 0)
    if name == 'vizwiz':
        scenes = scenes._replace(blur=np.where(blurred, scene_tasks.BLUR, np.where(lot > 0.6, 1.0, 0.0)))
    elif name == 'entailment':
        scenes = scenes._replace(blur=np.where(blurred, scene_tasks.BLUR, 0.0))
    picture, said, answers, true, films = np.arange(size) // each, [], [], [], []
    for row in picture:
        rng = random.Random(f'{seed}/{where}/{row}/{len(said) - row * each}')
        scene, elsewhere = things(scenes, row), [things(other, row) for other in others]
        if name == 'vqa':
            text, kind, answer = scene_tasks.question(scene, rng, synonyms=QUESTION_SYNONYMS)
            given = scene_tasks.annotate(kind, answer, rng)
        elif name == 'vizwiz':
            text, answer, given = scene_tasks.spoken_question(scene, elsewhere[0], blurred[row], rng)
        elif name == 'entailment':
            answer = _verdict(blurred[row], rng)
            text = scene_tasks.judged(scene, elsewhere, answer, blurred[row], rng)
            given = (answer,)
        else:
            answer = given = scene_plots.genres(rng)
            text = scene_plots.plot(given, rng)
            films.append(given)
        said.append(text)
        answers.append(given)
        true.append(answer)
    return _posters(scenes, films) if films else scenes, picture, said, answers, true


def _verdict(blurred, rng):
    """Each verdict for a third of the examples, though those of blurred pictures are all neutral."""
    neutral = (1 / 3 - scene_tasks.BLURRED) / (1 - scene_tasks.BLURRED)
    if blurred or rng.random() < neutral:
        return 'neutral'
    return rng.choice(('contradiction', 'entailment'))


def _posters(scenes, films) -> Scenes:
    """Some objects get a colour that the film's genres prefer."""
    preferred = [[COLOURS.index(c) for genre in film for c in scene_plots.COLOURS[genre]] for film in films]
    lot, which = scenes.style[:, 8:8 + MOST], scenes.style[:, 16:16 + MOST]
    chosen = np.array([[p[int(w * len(p))] for w in row] for p, row in zip(preferred, which)])
    return scenes._replace(colour=np.where(lot < scene_plots.PREFERENCE, chosen, scenes.colour))


def detect(scenes: Scenes, confusion: float) -> np.ndarray:
    """What a detector that errs would say: float32 [P, 1 + 4, 65], rows of distributions over CLASSES.

    A region's likeliest class is the object's own with probability 1 - confusion, otherwise one of the 14 that share
    its shape or its colour. That class gets 1 - confusion; the rest is spread over the object's own and the 14 at
    random. Keyed by the scene. Region 0 is the whole picture, class 'picture'.

    Args:
      scenes: P scenes.
      confusion: 0..0.8.
    """
    if not 0 <= confusion <= 0.8:
        raise UserError(f'confusion of the detector is {confusion}; allowed: 0..0.8')
    pictures, shapes, colours = len(scenes.count), len(SHAPES), len(COLOURS)
    out = np.zeros((pictures, 1 + MOST, len(CLASSES)), np.float32)
    out[:, 0, -1] = 1
    noise = np.empty((pictures, MOST, 1 + shapes + colours))
    for row, key in zip(noise, scenes.key):
        row[:] = np.random.default_rng([*key, 2]).random(row.shape)
    others = np.arange(shapes - 1)
    shape = np.where(others < scenes.shape[..., None], others, others + 1)    # all but the object's own
    colour = np.where(others < scenes.colour[..., None], others, others + 1)
    own = scenes.colour * shapes + scenes.shape
    similar = np.concatenate([own[..., None], scenes.colour[..., None] * shapes + shape,
                              colour * shapes + scenes.shape[..., None]], -1)  # [P, 4, 15]
    weights = 0.5 + noise[..., 2:]
    weights *= confusion / weights.sum(-1, keepdims=True)
    wrong = (1 + noise[..., 1] * (similar.shape[-1] - 1)).astype(int)
    peak = np.where(noise[..., 0] < confusion, wrong, 0)
    weights += (np.arange(similar.shape[-1]) == peak[..., None]) * (1 - confusion)
    np.put_along_axis(out[:, 1:], similar, weights.astype(np.float32), -1)
    out[:, 1:][np.arange(MOST) >= scenes.count[:, None]] = 0
    return out


def _regions(scenes, look, features, confusion) -> Regions:
    count = (1 + scenes.count).astype(np.int32)
    parts = []
    for start in range(0, len(count), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        pictures, boxes = scene_render.render(Scenes(*(x[part] for x in scenes)), look)
        boxes = np.concatenate([np.broadcast_to(np.float32([0, 0, 1, 1]), (len(boxes), 1, 4)), boxes], 1)
        parts.append((regions_of_pictures(pictures, boxes, count[part], features), boxes))
    values, boxes = (np.concatenate(x) for x in zip(*parts))
    return Regions(values, boxes, count, detect(scenes, confusion), features)


def _set(name, regions, picture, said, answers, output, split, vocabulary) -> Set:
    description = (f'scenes {name!r}: {len(regions.count)} pictures, {len(said)} texts, '
                   f'{len(set(said))} of them distinct')
    return Set(name, regions, picture.astype(np.int32), tuple(said), None if answers is None else tuple(answers),
               output, split, vocabulary, description)
