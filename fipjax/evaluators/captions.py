"""What generated captions are worth: how many are distinct, and whether the objects they name are in the picture.

A named object is a colour word with a shape word behind it, synonyms and plurals included. Only the pictures of
synthetic scenes have known objects; the control is the same captions with the objects of other pictures.
"""
from __future__ import annotations

import re
from collections.abc import Sequence, Set

import numpy as np

from fipjax.data import scenes
from fipjax.data.scene_render import COLOURS, SHAPES
from fipjax.data.scene_text import SYNONYMS, plural


def _meanings(bases, *forms):
    """Word or words -> base word, the longest first."""
    said = {form(word): base for base in bases for word in (base, *SYNONYMS[base]) for form in forms}
    return dict(sorted(said.items(), key=lambda item: -len(item[0])))


_COLOURS, _SHAPES = _meanings(COLOURS, str), _meanings(SHAPES, str, plural)
_OBJECT = re.compile(rf'\b({"|".join(_COLOURS)}) ({"|".join(_SHAPES)})\b')


def named_objects(caption: str) -> set[str]:
    """The objects that a caption names, e.g. {'red circle'} of 'There are two crimson discs.'"""
    return {f'{_COLOURS[colour]} {_SHAPES[shape]}' for colour, shape in _OBJECT.findall(caption.lower())}


def objects_of(name: str, examples: int, seed: int) -> list[set[str]]:
    """The objects of each picture of a generated set; arguments as fipjax.data.scenes.pretraining."""
    shown = scenes.pictures_of(name, examples, seed, confusion=0.0)  # of a detector that never errs
    likely = shown.classes.argmax(-1)
    return [{scenes.CLASSES[k] for k in row[1:count]} for row, count in zip(likely, shown.count, strict=True)]


def precision(captions: Sequence[str], objects: Sequence[Set[str]]) -> float:
    """Share of the named objects that are there; NaN where none is named.

    Args:
      captions: n captions.
      objects: of each caption's picture.
    """
    named = [(len(said), len(said & there)) for said, there in zip(map(named_objects, captions), objects, strict=True)]
    total, right = np.sum(named, 0) if named else (0, 0)
    return float(right / total) if total else float('nan')


def scores(captions: Sequence[str], objects: Sequence[Set[str]] | None) -> dict[str, float]:
    """Scores of captions, one a picture.

    Args:
      captions: n captions.
      objects: of the first of their pictures; None where nobody knows them.

    Returns:
      'distinct' (share of different captions), 'words' (mean number) and, of captions that name objects, 'precision'
      and 'precision_other_pictures', see this module's docstring.
    """
    out = {'distinct': len(set(captions)) / len(captions), 'words': float(np.mean([len(c.split()) for c in captions]))}
    if objects is not None:
        shown, half = captions[:len(objects)], len(objects) // 2
        out |= {'precision': precision(shown, objects),
                'precision_other_pictures': precision(shown, [*objects[half:], *objects[:half]])}
    return {k: v for k, v in out.items() if np.isfinite(v)}


def bigrams(train: np.ndarray, validation: np.ndarray, vocab: int) -> dict[str, float]:
    """'loss' and 'accuracy' of the next word piece from the one before alone: counts of training, plus 0.1 each.

    Args:
      train, validation: int [n, 2], pairs of neighbouring word pieces.
      vocab: number of word pieces.
    """
    pairs, counts = np.unique(train @ [vocab, 1], return_counts=True)
    total = np.bincount(train[:, 0], minlength=vocab)
    best = np.zeros(vocab, np.int64)
    order = np.argsort(counts, kind='stable')
    best[pairs[order] // vocab] = pairs[order] % vocab  # the last one written is the most frequent
    key = validation @ [vocab, 1]
    place = np.searchsorted(pairs, key).clip(max=len(pairs) - 1)
    seen = np.where(pairs[place] == key, counts[place], 0)
    share = (seen + 0.1) / (total[validation[:, 0]] + 0.1 * vocab)
    hits = best[validation[:, 0]] == validation[:, 1]
    return {'loss': float(-np.log(share).mean()), 'accuracy': float(hits.mean())}
