"""Pictures as regions with text about them: what all data of the wing 'vlp' is before and after word pieces are made.

A source gives host arrays of fixed shapes: T word pieces and R regions, padded and marked.

    'id' int32 [B]                row of the set (times 10 plus the annotator for question-answer pairs)
    'tokens', 'segments' int32 [B, T], 'token_mask' bool [B, T]       [CLS] a [SEP] or [CLS] a [SEP] b [SEP]
    'features' float32 [B, R, F], 'boxes' float32 [B, R, 5], 'region_mask' bool [B, R]
    'classes' float32 [B, R, C]   class distributions of the detector, where there are any (pretraining)
    'y'                           of tasks: scores float32 [B, K] ('answers'), classes int32 [B] or labels 0/1 [B, K]

Boxes are x1, y1, x2, y2 and area, all as shares of the picture.
"""
from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fipjax.errors import UserError
from fipjax.evaluators import vqa

OUTPUTS = ('answers', 'classes', 'labels')
INPUTS = ('both', 'text', 'regions')
UNKNOWN = '<unk>'  # index 0 of every vocabulary of answers; never a right answer
MOST_ANSWERS = 3129  # of VQA 2, as in the study


class Regions(NamedTuple):
    """Regions of P pictures, at most R of each; what lies beyond `count` is 0.

    Attributes:
      features: float32 [P, R, F].
      boxes: float32 [P, R, 4], x1 < x2 and y1 < y2 as shares of width and height.
      count: int32 [P], 1..R.
      classes: float32 [P, R, C], rows of distributions over the detector's classes; None where there are none.
      detector: what made the features, for people and for checks: data sets with different ones do not mix.
    """

    features: np.ndarray
    boxes: np.ndarray
    count: np.ndarray
    classes: np.ndarray | None
    detector: str


class Set(NamedTuple):
    """Texts about pictures: captions, questions, statements or plots.

    Attributes:
      name: for people.
      regions: of the pictures.
      picture: int32 [n], row in `regions`.
      text: n texts, none of them empty.
      answers: for a task (and for pretraining on questions with answers): of each text a tuple of words: what
        annotators said ('answers'), the one class ('classes'), any number of labels ('labels'). None for captions.
      output: '' (captions) or one of OUTPUTS.
      split: str [n], 'train', 'validation' or 'test'; pretraining sets have no 'test'.
      vocabulary: of answers, classes or labels; () takes those of the training split.
      description: a sentence for people: how many, from where.
    """

    name: str
    regions: Regions
    picture: np.ndarray
    text: tuple[str, ...]
    answers: tuple[tuple[str, ...], ...] | None
    output: str
    split: np.ndarray
    vocabulary: tuple[str, ...]
    description: str


class Task(NamedTuple):
    """What is to be learned: `classes` are the answers (index 0 is '<unk>' for 'answers'), classes or labels."""

    name: str
    output: str
    classes: tuple[str, ...]
    description: str


class Splits(NamedTuple):
    """A task and its sources."""

    task: Task
    train: Any
    validation: Any
    test: Any


class Encoded(NamedTuple):
    """Texts as word pieces: tokens, segments int32 [n, T], mask bool [n, T]; `cut` texts were too long."""

    tokens: np.ndarray
    segments: np.ndarray
    mask: np.ndarray
    cut: int


class Source:
    """Texts with the regions of their pictures, see this module's docstring.

    Args:
      regions: of the pictures.
      picture: int [n], rows in regions.
      text: Encoded, of n texts.
      ids: int [n].
      y: [n, ...], or None.
      answers: of each text the annotators' words, for metrics; or None.
      inputs: 'both', or what alone a model gets to see: 'text' (no region is valid) or 'regions' ([CLS] [SEP]).
      with_classes: whether batches hold the detector's distributions.
    """

    def __init__(self, regions: Regions, picture, text: Encoded, ids, y=None, answers=None, inputs: str = 'both',
                 with_classes: bool = False):
        self.regions, self.picture, self.text = regions, np.asarray(picture), text
        self.ids, self.y, self.answers, self.inputs = np.asarray(ids, np.int32), y, answers, inputs
        self.with_classes = with_classes and regions.classes is not None
        size = regions.boxes[..., 2:] - regions.boxes[..., :2]
        self._boxes = np.concatenate([regions.boxes, size.prod(-1, keepdims=True)], -1).astype(np.float32)

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows) -> dict:
        """The examples at `rows` int [B]."""
        r, where = self.regions, self.picture[rows]
        tokens, segments, mask = (x[rows] for x in self.text[:3])
        valid = np.arange(r.features.shape[1]) < r.count[where][:, None]
        if self.inputs == 'text':
            valid = np.zeros_like(valid)
        if self.inputs == 'regions':  # what is left of a text without words
            last = np.take_along_axis(tokens, mask.sum(1, keepdims=True) - 1, 1)
            tokens, segments = np.where(np.arange(tokens.shape[1]) == 1, last, tokens * 0 + tokens[:, :1]), segments * 0
            mask = np.broadcast_to(np.arange(tokens.shape[1]) < 2, mask.shape)
        out = {'id': self.ids[rows], 'tokens': tokens, 'segments': segments, 'token_mask': mask,
               'features': r.features[where], 'boxes': self._boxes[where], 'region_mask': valid}
        if self.with_classes:
            out['classes'] = r.classes[where]
        return out if self.y is None else {**out, 'y': self.y[rows]}

    def whole(self) -> Source:
        """The same examples with words and regions both."""
        other = copy.copy(self)
        other.inputs = 'both'
        return other


class Selection:
    """Some rows of a source, in the order given."""

    def __init__(self, source, rows):
        self.source, self.rows = source, np.asarray(rows)
        self.ids, self.y = source.ids[self.rows], None if source.y is None else source.y[self.rows]
        self.answers = None if source.answers is None else [source.answers[i] for i in self.rows]

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, rows) -> dict:
        """As the source's."""
        return self.source.take(self.rows[rows])


def encode(tokenizer, text: Sequence[str], second: Sequence[str] | None, length: int) -> Encoded:
    """Word pieces of texts, or of pairs of texts with segments 0 and 1.

    Args:
      tokenizer: fipjax.data.words.Tokenizer.
      text, second: n texts each.
      length: T; longer ones are cut, the first text before the second.
    """
    a = tokenizer.pieces(text)
    b = [()] * len(a) if second is None else tokenizer.pieces(second)
    tokens, segments = np.full((len(a), length), tokenizer.pad, np.int32), np.zeros((len(a), length), np.int32)
    mask, cut = np.zeros((len(a), length), bool), 0
    for row, (first, other) in enumerate(zip(a, b, strict=True)):
        room = length - 2 - (1 if second is not None else 0)
        cut += len(first) + len(other) > room
        other = other[:max(room - 1, 0)]
        first = first[:room - len(other)]
        ids = [tokenizer.cls, *first, tokenizer.sep] + ([*other, tokenizer.sep] if second is not None else [])
        tokens[row, :len(ids)], mask[row, :len(ids)] = ids, True
        segments[row, len(first) + 2:len(ids)] = 1
    return Encoded(tokens, segments, mask, cut)


def pretraining(data: Set, tokenizer, length: int, share: float = 1.0, mismatched: bool = False,
                seed: int = 0, inputs: str = 'both') -> tuple[Source, Source]:
    """Sources of a pretraining set: (train, validation).

    Args:
      data: captions; or questions with answers, each then paired with each annotator's answer as sentence B.
      tokenizer, length: see `encode`.
      share: of the training pictures that are used, in (0, 1]; drawn by `seed`.
      mismatched: pairs every caption with that of another picture as sentence B, as the public configs do with
        Conceptual Captions.
      seed: of the share and of the pairs.
      inputs: see `Source`.
    """
    out = []
    for split in ('train', 'validation'):
        rows = np.flatnonzero(data.split == split)
        if split == 'train' and share < 1:
            rng = np.random.default_rng([seed, 41])
            pictures = np.unique(data.picture[rows])
            kept = rng.permutation(pictures)[:max(1, round(share * len(pictures)))]
            rows = rows[np.isin(data.picture[rows], kept)]
        if not len(rows):
            raise UserError(f'{data.name}: no example in the split {split!r}')
        text, second, picture, ids = [data.text[i] for i in rows], None, data.picture[rows], rows
        if data.answers is not None:
            pairs = [(i, k) for i in rows for k in range(len(data.answers[i]))]
            text, second = [data.text[i] for i, _ in pairs], [data.answers[i][k] for i, k in pairs]
            picture, ids = data.picture[[i for i, _ in pairs]], [10 * i + k for i, k in pairs]
        elif mismatched:
            second = [data.text[i] for i in _of_another_picture(data.picture[rows], rows, seed)]
        out.append(Source(data.regions, picture, encode(tokenizer, text, second, length), ids, inputs=inputs,
                          with_classes=True))
    return tuple(out)


def _of_another_picture(picture, rows, seed):
    """For each row another one with another picture, drawn by seed."""
    rng = np.random.default_rng([seed, 43])
    other = rng.integers(0, len(rows), len(rows))
    for _ in range(100):
        same = picture[other] == picture
        if not same.any():
            return rows[other]
        other[same] = rng.integers(0, len(rows), same.sum())
    raise UserError('mismatched captions: all captions are of one picture')


def task(data: Set, tokenizer, length: int, inputs: str = 'both') -> Splits:
    """A task with its three sources.

    Raises:
      UserError: no answers, an empty split, an answer that is not in the vocabulary, see `targets`.
    """
    if data.output not in OUTPUTS:
        raise UserError(f'{data.name}: captions only; a task needs questions with answers')
    train = [data.answers[i] for i in np.flatnonzero(data.split == 'train')]
    classes = data.vocabulary or answer_vocabulary(train, data.output)
    sources = []
    for split in ('train', 'validation', 'test'):
        rows = np.flatnonzero(data.split == split)
        if not len(rows):
            raise UserError(f'{data.name}: no example in the split {split!r}')
        answers = [data.answers[i] for i in rows]
        y = targets(answers, data.output, classes, f'{data.name}, {split}')
        text = encode(tokenizer, [data.text[i] for i in rows], None, length)
        sources.append(Source(data.regions, data.picture[rows], text, rows, y, answers, inputs))
    said = data.description + (_known(train, classes) if data.output == 'answers' else '')
    return Splits(Task(data.name, data.output, tuple(classes), said), *sources)


def _known(answers, classes):
    """How much of what annotators said a model can answer: what is beyond a vocabulary costs accuracy silently."""
    given, allowed = [a for row in answers for a in row], set(classes[1:])
    return f'; {100 * np.mean([a in allowed for a in given]):.1f} % of the answers are in its vocabulary'


def answer_vocabulary(answers: Sequence[Sequence[str]], output: str) -> tuple[str, ...]:
    """The most frequent answers (at most 3129) after '<unk>', or all classes or labels, alphabetical."""
    counts = Counter(a for given in answers for a in given)
    if output != 'answers':
        return tuple(sorted(counts))
    ranked = sorted((a for a in counts if a != UNKNOWN), key=lambda a: (-counts[a], a))
    return (UNKNOWN, *ranked[:MOST_ANSWERS])


def targets(answers: Sequence[Sequence[str]], output: str, classes: Sequence[str], where: str) -> np.ndarray:
    """What is predicted: scores float32 [n, K] ('answers'), class int32 [n], or labels float32 [n, K].

    Raises:
      UserError: a class or a label that is not in the vocabulary, or no example with an answer in it.
    """
    index = {c: i for i, c in enumerate(classes)}
    if output == 'answers':
        y = np.stack([vqa.soft_scores(given, index) for given in answers])
        if not y.any():
            raise UserError(f'{where}: no answer of any question is in the vocabulary ({len(classes)} answers, e.g. '
                            f'{", ".join(classes[1:5])}); found e.g. {answers[0][0]!r}')
        return y
    y = np.zeros((len(answers), len(classes)), np.float32)
    for row, given in enumerate(answers):
        for answer in given:
            if answer not in index:
                raise UserError(f'{where}: example {row} has the answer {answer!r}, which is not in the vocabulary of '
                                f'{len(classes)}: {", ".join(classes[:12])}{", ..." if len(classes) > 12 else ""}')
            y[row, index[answer]] = 1
    return y.argmax(1).astype(np.int32) if output == 'classes' else y


def subset(source, share: float, seed: int):
    """A share of the examples, drawn by seed; small shares are parts of larger ones."""
    if share >= 1:
        return source
    order = np.random.default_rng([seed, 42]).permutation(len(source))
    return Selection(source, np.sort(order[:max(1, round(share * len(source)))]))
