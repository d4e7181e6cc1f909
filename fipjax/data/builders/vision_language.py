"""Vision-language sets out of their published annotations and files of region features, for `prepare`.

manual_dir holds two folders: annotations/ (see ABOUT; fipjax.data.vl_annotations) and features/ with what a detector
found (MMF's .lmdb or folders of .npy, bottom-up's and volta's .tsv, HDF5; fipjax.data.detector_files), of all pictures.

A record has `image_id`, `caption` or `question` with `answers`, `answer` or `labels`, as fipjax.data.vl_files reads
them, and `features` [N, F], `boxes` [N, 4], `width`, `height`, maybe `class_probs` [N, C]. Records of a picture follow
one another; its regions lie in the first of them and are empty in the others, since a picture of VQA 2 has five
questions and its regions take most of a megabyte. All texts of a set are held in memory, never more than one picture.

Splits are the published ones where these have answers: test of VQA 2 and VizWiz has none, so half of the validation
pictures, drawn by a hash of their names, are 'validation' and the other half 'test'. vqa2_masked is VQA 2 to pretrain
on: the same training and validation pictures and no test, so that neither wing's choices see what vqa2 is tested on.
"""
from __future__ import annotations

import functools
import hashlib
import pathlib
from collections import Counter
from collections.abc import Callable

import numpy as np

from fipjax.data import detector_files, vl_annotations
from fipjax.data.builders.prepared import SHARD, File, Opened, Task
from fipjax.data.vl import UNKNOWN
from fipjax.errors import UserError
from fipjax.launch import say

ANSWERS = {'vqa2': 3129, 'vizwiz': 7371}  # of the study's vocabularies, '<unk>' among them
GENRES = 23
REGIONS = ('features', 'boxes', 'class_probs')


def _vqa2(folder):
    held = _halves(vl_annotations.vqa2(folder, 'val2014'))
    return {'train': vl_annotations.vqa2(folder, 'train2014'), **held}, _answers(folder, 'vqa2')


def _vqa2_masked(folder):
    splits, vocabulary = _vqa2(folder)
    return {k: splits[k] for k in ('train', 'validation')}, vocabulary


def _vizwiz(folder):
    held = _halves(vl_annotations.vizwiz(folder, 'val'))
    return {'train': vl_annotations.vizwiz(folder, 'train'), **held}, _answers(folder, 'vizwiz')


def _snli_ve(folder):
    splits = {'train': 'train', 'validation': 'dev', 'test': 'test'}
    return {k: vl_annotations.snli_ve(folder, v) for k, v in splits.items()}, lambda texts: vl_annotations.ENTAILMENT


def _mm_imdb(folder):
    """The most frequent genres of all films, as the data set's authors choose them; others are left out.

    '<unk>' is the first class, as in MMF; no film has it, which lowers the macro F1.
    """
    splits = {k: vl_annotations.mm_imdb(folder, v) for k, v in
              {'train': 'train', 'validation': 'dev', 'test': 'test'}.items()}
    counts = Counter(g for texts in splits.values() for t in texts for g in t.answers)
    known = sorted(sorted(counts, key=lambda g: (-counts[g], g))[:GENRES])
    kept = {k: [t._replace(answers=tuple(g for g in t.answers if g in known)) for t in texts]
            for k, texts in splits.items()}
    return kept, lambda texts: (UNKNOWN, *known)


def _coco(folder):
    return vl_annotations.coco_captions(folder), None


def _cc(folder):
    return {s: vl_annotations.conceptual_captions(folder, s) for s in vl_annotations.CAPTIONS}, None


def _halves(texts):
    """Validation and test out of texts: each picture in one of them."""
    out = {'validation': [], 'test': []}
    for text in texts:
        digest = hashlib.sha256(text.names[0].encode()).digest()
        out['test' if digest[0] % 2 else 'validation'].append(text)
    return out


def _answers(folder, task):
    """A function of the training texts that gives the vocabulary: answers*.txt, or the most frequent answers."""
    found = sorted(folder.glob('answers*.txt'))
    if len(found) > 1:
        raise UserError(f'{folder}: several vocabularies: {", ".join(p.name for p in found)}; keep one')
    if found:
        given = vl_annotations.vocabulary(found[0])
        return lambda texts: given

    def most_frequent(texts):
        counts = Counter(a for t in texts for a in t.answers if a != UNKNOWN)
        ranked = sorted(counts, key=lambda a: (-counts[a], a))
        return UNKNOWN, *ranked[:ANSWERS[task] - 1]
    return most_frequent


def _open(read: Callable, text: str, answers: str, lost: bool, manual_dir: pathlib.Path) -> Opened:
    """A set of pictures and texts.

    Args:
      read: annotations' folder -> (split -> texts, function of the training texts that gives the vocabulary or None).
      text, answers: features' names of the text and of what is said about it, '' for captions.
      lost: whether texts are left out whose pictures have no features.
    """
    splits, vocabulary = read(manual_dir / 'annotations')
    detector = detector_files.Detector(manual_dir / 'features', True)
    notes, ordered = [], {}
    for split, texts in splits.items():
        ordered[split], missing = _ordered(texts, detector, lost, manual_dir)
        if missing:
            notes.append(f'{split}: {missing} of {len(texts)} texts left out, as their pictures have no features')
    _apart(ordered, manual_dir)
    first = detector.read(ordered['train'][0][0])
    features = {'image_id': ((), str), text: ((), str), 'width': ((), np.float32), 'height': ((), np.float32)}
    if answers:
        features[answers] = (() if answers == 'answer' else (None,), str)
    for name in REGIONS:
        if name in first:
            features[name] = ((None, first[name].shape[1]), np.float32)
    pictures = len({place for rows in ordered.values() for place, _ in rows})
    size = sum(first[k].nbytes for k in REGIONS if k in first) * pictures // sum(map(len, ordered.values())) + 256
    classes = tuple(vocabulary([t for _, t in ordered['train']])) if vocabulary else ()
    rows = functools.partial(_rows, detector, first, text, answers)
    return Opened(features, {k: (len(v), functools.partial(rows, v)) for k, v in ordered.items()}, classes,
                  '\n'.join(notes), max(1, SHARD // size))


def _ordered(texts, detector, lost, where):
    """[(where the picture is, text)] as pictures lie in the files, and how many texts have no picture."""
    places, out, missing = {}, [], []
    for t in texts:
        name = t.names[0]
        if name not in places:
            places[name] = detector.find(t.names)
        if places[name] is None:
            missing.append(name)
        else:
            out.append((places[name], t))
    if missing and not (lost and out):
        raise UserError(f'{where / "features"}: the pictures of {len(missing)} of {len(texts)} texts are not there, '
                        f'e.g. {missing[0]!r}; what is there is called e.g. {detector.some()}')
    if not out:
        raise UserError(f'{where / "annotations"}: a split without texts')
    order = {place: detector.order(place) for place, _ in out}
    return sorted(out, key=lambda row: order[row[0]]), len(missing)


def _apart(ordered, where):
    """Raises UserError where a picture is in two splits."""
    seen = {}
    for split, rows in ordered.items():
        for place, text in rows:
            if seen.setdefault(place, split) != split:
                raise UserError(f'{where}: the picture {text.names[0]!r} is in {split!r} and in {seen[place]!r}; a '
                                'picture may be in one split only')


def _rows(detector, first, text, answers, rows, start, stop):
    empty = {k: v[:0] for k, v in first.items() if v.ndim}
    for i in range(start, stop):
        place, (names, words, said) = rows[i]
        out = {'image_id': names[0], text: words, 'width': np.float32(0), 'height': np.float32(0), **empty}
        if answers:
            out[answers] = said[0] if answers == 'answer' else list(said)
        if not i or rows[i - 1][0] != place:
            found = detector.read(place)
            if set(found) != set(first):
                raise UserError(f'{detector.folder}: the picture {names[0]!r} has {", ".join(sorted(found))}, but the '
                                f'first one {", ".join(sorted(first))}')
            for k in empty:
                if found[k].shape[1] != first[k].shape[1]:
                    raise UserError(f'{detector.folder}: {k!r} of the picture {names[0]!r} are {found[k].shape[1]} '
                                    f'wide, those of the first one {first[k].shape[1]}; one detector must make all')
            out.update(found)
        yield out
    if stop == len(rows) and detector.dropped:
        say(f'{detector.folder}: {detector.dropped} regions without area left out so far')


FEATURES = File('features', '0.2 to 0.8 MB a picture', '.lmdb or folders of X.npy with X_info.npy (MMF), .tsv '
                '(bottom-up attention, LXMERT, volta), .h5 (volta); or links to them')
_VQA2 = ('v2_OpenEnded_mscoco_{train,val}2014_questions.json and v2_mscoco_{train,val}2014_annotations.json from '
         'visualqa.org, or imdb*train2014*.npy and imdb*val2014*.npy of MMF; answers*.txt of MMF if there')
ABOUT = {
    'vqa2': (_vqa2, 'question', 'answers', _VQA2, 'VQA 2, answers of ten annotators to questions about pictures of '
             'COCO. Train is train2014; half of the pictures of val2014 are validation, half test.'),
    'vqa2_masked': (_vqa2_masked, 'question', 'answers', _VQA2, 'VQA 2 to pretrain on, questions with answers as '
                    'second sentence. Train is train2014; validation as in vqa2, whose test pictures are not seen.'),
    'vizwiz': (_vizwiz, 'question', 'answers', 'train.json and val.json from vizwiz.org, or imdb*train*.npy and '
               'imdb*val*.npy of MMF; answers*.txt of MMF if there', 'VizWiz, answers of ten annotators to questions '
               'of blind people. Half of the pictures of val are validation, half test.'),
    'snli_ve': (_snli_ve, 'question', 'answer', 'snli_ve_{train,dev,test}.jsonl of github.com/necla-ml/SNLI-VE',
                'SNLI-VE, whether a picture of Flickr30k entails a sentence; no premise in words. Splits as published, '
                'dev is validation.'),
    'mm_imdb': (_mm_imdb, 'question', 'labels', 'split.json and dataset/*.json of MM-IMDB, or {train,dev,test}.jsonl '
                'of MMF', 'MM-IMDB, the 23 most frequent genres from poster and plot. Splits as published, dev is '
                'validation.'),
    'coco_captions': (_coco, 'caption', '', "dataset_coco.json (Karpathy's split), or imdb*train*.npy, imdb*val*.npy "
                      'and imdb*test*.npy of MMF', "COCO captions, Karpathy's split with restval in train. Train has "
                      'pictures of val2014, which vqa2 has in validation and test.'),
    'conceptual_captions': (_cc, 'caption', '', 'Train_GCC-training.tsv and Validation_GCC-1.1.0-Validation.tsv of '
                            'ai.google.com/research/ConceptualCaptions, or *train*.npy and *val*.npy of MMF',
                            'Conceptual Captions; pictures without features, whose links are dead, are left out.'),
}
TASKS = {name: Task(
    name, about, (File('annotations', 'below 1 GB', files), FEATURES),
    functools.partial(_open, read, text, answers, name == 'conceptual_captions'),
    f'--config.{"finetune.tasks" if answers and name != "vqa2_masked" else "pretrain.data"}=tfds:{{name}} '
    '--config.sets.data_dir={data_dir}') for name, (read, text, answers, files, about) in ABOUT.items()}
