"""Published annotations of pictures with texts: VQA 2, VizWiz, SNLI-VE, MM-IMDB, COCO and Conceptual Captions.

Each reader gives texts, checked; what it holds beside them is said where it is more than a line. MMF's own copies of
the annotations (imdb*.npy, pickled objects) are read, too, where a folder has them instead; see `imdb`.
"""
from __future__ import annotations

import hashlib
import json
import pathlib
import sys
import zlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from fipjax.data import json_stream, unpickle
from fipjax.data.vl import UNKNOWN
from fipjax.errors import UserError

ENTAILMENT = ('entailment', 'neutral', 'contradiction')  # in the order that MMF numbers them
PICTURE = ('Flikr30kID', 'Flickr30kID', 'Flickr30K_ID')  # of SNLI-VE, as its releases spell it
COPY = '<copy>'  # MMF's last answer of VizWiz, which nobody gave
MOST = 10        # answers of a question
CAPTIONS = {'train': 'Train_GCC-training.tsv', 'validation': 'Validation_GCC-1.1.0-Validation.tsv'}


class Text(NamedTuple):
    """What the picture may be called in files of features, the first name is its own; a text; answers, or none."""

    names: tuple[str, ...]
    text: str
    answers: tuple[str, ...] = ()


def vqa2(folder: pathlib.Path, split: str) -> list[Text]:
    """Questions of VQA 2 with the answers of ten annotators each; all questions are held while answers are streamed.

    Args:
      folder: with v2_OpenEnded_mscoco_SPLIT_questions.json and v2_mscoco_SPLIT_annotations.json, or imdb*SPLIT*.npy.
      split: train2014 or val2014; test has no published answers.

    Raises:
      UserError: names the file and the item.
    """
    paths = [folder / f'v2_OpenEnded_mscoco_{split}_questions.json', folder / f'v2_mscoco_{split}_annotations.json']
    if not _there(paths, folder, f'imdb*{split}*.npy'):
        return _imdb_questions(folder, f'imdb*{split}*.npy')
    asked = {}
    for where, q in json_stream.items(paths[0], 'questions'):
        number = _get(q, 'question_id', int, where)
        if number in asked:
            raise UserError(f'{where}: the question_id {number} is there twice')
        asked[number] = _get(q, 'image_id', int, where), _text(q, 'question', where)
    out, names = [], {}
    for where, a in json_stream.items(paths[1], 'annotations'):
        number = _get(a, 'question_id', int, where)
        if number not in asked:
            raise UserError(f'{where}: the question_id {number} is not in {paths[0].name}, or it is here twice')
        picture, question = asked.pop(number)
        if a.get('image_id', picture) != picture:
            raise UserError(f'{where}: image_id is {a["image_id"]!r}, but {picture} in {paths[0].name}')
        if picture not in names:
            names[picture] = coco_names(split, picture)
        out.append(Text(names[picture], question, _given(a, where)))
    if asked:
        raise UserError(f'{paths[1]}: no answers to {len(asked)} questions, e.g. question_id {next(iter(asked))}')
    return _some(out, paths[1])


def vizwiz(folder: pathlib.Path, split: str) -> list[Text]:
    """Questions of VizWiz with the answers of ten annotators each.

    Args:
      folder: with SPLIT.json, or imdb*SPLIT*.npy.
      split: train or val; test has no published answers.

    Raises:
      UserError: names the file and the item.
    """
    path = folder / f'{split}.json'
    if not _there([path], folder, f'imdb*{split}*.npy'):
        return _imdb_questions(folder, f'imdb*{split}*.npy')
    out, seen = [], set()
    for where, q in json_stream.items(path):
        picture = _once(_stem(_text(q, 'image', where)), seen, where, 'image')
        out.append(Text((picture,), _text(q, 'question', where), _given(q, where)))
    return _some(out, path)


def snli_ve(folder: pathlib.Path, split: str) -> list[Text]:
    """Hypotheses of SNLI-VE about pictures of Flickr30k, with their one class of ENTAILMENT; no premise in words.

    Args:
      folder: with snli_ve_SPLIT.jsonl.
      split: train, dev or test.

    Raises:
      UserError: names the file and the line.
    """
    path, out, seen = folder / f'snli_ve_{split}.jsonl', [], set()
    for where, line in json_stream.lines(path):
        key = next((k for k in PICTURE if k in line), PICTURE[0])
        label = _text(line, 'gold_label', where)
        if label not in ENTAILMENT:
            raise UserError(f'{where}: gold_label is {label!r}; allowed: {", ".join(ENTAILMENT)}')
        if 'pairID' in line:
            _once(_text(line, 'pairID', where), seen, where, 'pairID')
        out.append(Text((_stem(_any(line, (key,), where)),), _text(line, 'sentence2', where), (sys.intern(label),)))
    return _some(out, path)


def mm_imdb(folder: pathlib.Path, split: str) -> list[Text]:
    """Plots of films, the first of each film as MMF takes it, with all their genres.

    Args:
      folder: with split.json and dataset/ID.json, or MMF's SPLIT.jsonl.
      split: train, dev or test.

    Raises:
      UserError: names the file and the film.
    """
    listed, out, seen = folder / 'split.json', [], set()
    if not listed.is_file():
        films = json_stream.lines(folder / f'{split}.jsonl')
        films = ((where, _any(f, ('id', 'image_id', 'feature_path', 'img', 'image_path', 'image_name'), where), f)
                 for where, f in films)
    else:
        numbers = _json(listed).get(split)
        if not isinstance(numbers, list) or not all(isinstance(n, str | int) for n in numbers):
            raise UserError(f"{listed}: {split!r} is {str(numbers)[:40]}; expected a list of the films' numbers")
        films = ((str(p), p.stem, _json(p)) for p in (folder / 'dataset' / f'{n}.json' for n in numbers)
                 if _inside(p, folder / 'dataset'))
    for where, name, film in films:
        plot, genres = film.get('plot'), film.get('genres')
        plot = next((p for p in plot if p), None) if isinstance(plot, list) else plot
        if not isinstance(genres, list) or not all(isinstance(g, str) and g.strip() for g in genres):
            raise UserError(f"{where}: 'genres' is {str(genres)[:80]}; expected a list of texts")
        genres = tuple(dict.fromkeys(sys.intern(g) for g in genres))
        out.append(Text((_once(_stem(name), seen, where, 'film'),), _text({'plot': plot}, 'plot', where), genres))
    return _some(out, folder)


def coco_captions(folder: pathlib.Path) -> dict[str, list[Text]]:
    """Captions of COCO in Karpathy's split: train (with restval), validation, test.

    Args:
      folder: with dataset_coco.json, or MMF's imdb*train*.npy, imdb*val*.npy and imdb*test*.npy.

    Raises:
      UserError: names the file and the item.
    """
    path, out, seen = folder / 'dataset_coco.json', {'train': [], 'validation': [], 'test': []}, set()
    if not path.is_file():
        for split, word in (('train', 'train'), ('validation', 'val'), ('test', 'test')):
            for where, r in imdb(folder, f'imdb*{word}*.npy'):
                out[split] += _captions(_imdb_names(r, where), r.get('captions'), where)
        return out
    for where, image in json_stream.items(path, 'images'):
        split = {'restval': 'train', 'val': 'validation'}.get(image.get('split'), image.get('split'))
        if split not in out:
            raise UserError(f"{where}: 'split' is {image.get('split')!r}; allowed: train, restval, val, test")
        name, number = _stem(_text(image, 'filename', where)), _get(image, 'cocoid', int, where)
        _once(number, seen, where, 'cocoid')
        sentences = image.get('sentences')
        raw = [s.get('raw') if isinstance(s, dict) else None for s in sentences] if isinstance(sentences, list) else 0
        out[split] += _captions((name, str(number)), raw, where)
    for split, texts in out.items():
        _some(texts, f'{path}: split {split!r}')
    return out


def conceptual_captions(folder: pathlib.Path, split: str) -> list[Text]:
    """Alt texts of Conceptual Captions. A picture is called as volta's extraction calls it: the CRC-32 of its address.

    Among three million addresses over a thousand share theirs with another; which picture has the features cannot be
    known then, so both captions are left out. Held are all captions.

    Args:
      folder: with CAPTIONS[split], a caption and an address a line; or MMF's *SPLIT*.npy.
      split: train or validation.

    Raises:
      UserError: names the file and the line.
    """
    path, out, addresses, shared = folder / CAPTIONS[split], [], {}, set()
    pattern = f'*{"train" if split == "train" else "val"}*.npy'
    if not _there([path], folder, pattern):
        for where, r in imdb(folder, pattern):
            out += _captions(_imdb_names(r, where), r.get('captions'), where)
        return out
    with path.open('rb') as f:
        for number, line in enumerate(f, 1):
            where = f'{path}, line {number}'
            try:
                caption, address = line.decode().rstrip('\r\n').split('\t')
            except ValueError as e:  # UnicodeDecodeError is one
                raise UserError(f'{where}: expected a caption, a tab and an address in UTF-8: {e}') from e
            name, digest = str(zlib.crc32(address.encode())), hashlib.blake2b(address.encode(), digest_size=8).digest()
            if addresses.setdefault(name, digest) != digest:
                shared.add(name)
            out.append(Text((name,), _text({'caption': caption}, 'caption', where)))
    return _some([t for t in out if t.names[0] not in shared], path)


def vocabulary(path: pathlib.Path) -> tuple[str, ...]:
    """A vocabulary of answers, one a line, '<unk>' first; it is put there where it is missing.

    Raises:
      UserError: no UTF-8, an empty line, an answer twice, '<unk>' elsewhere.
    """
    try:
        found = [line.rstrip('\r') for line in path.read_bytes().decode('utf-8-sig').removesuffix('\n').split('\n')]
    except UnicodeDecodeError as e:
        raise UserError(f'{path}: not UTF-8 ({e.reason} at byte {e.start})') from e
    found = found if found[:1] == [UNKNOWN] else [UNKNOWN, *found]
    lines = {}
    for number, answer in enumerate(found):
        if not answer.strip() or answer in lines:
            raise UserError(f'{path}: answer {number} is {answer!r}'
                            + (f', and so is answer {lines[answer]}' if answer in lines else '; a text is needed'))
        lines[answer] = number
    return tuple(found)


def coco_names(split: str, number: int) -> tuple[str, ...]:
    """What a picture of COCO is called: by its file, and in MMF's .lmdb and bottom-up's .tsv by its number."""
    return f'COCO_{split}_{number:012d}', str(number)


def imdb(folder: pathlib.Path, pattern: str) -> Iterator[tuple[str, dict]]:
    """(where, object) of MMF's annotations: the one .npy in the folder with such a name.

    The file is held while it is read, several times its size. An object without a picture at the beginning describes
    the file and is left out.

    Raises:
      UserError: none or several such files, a file that is not one, or holds more than plain objects.
    """
    paths = sorted(folder.glob(pattern))
    if len(paths) != 1:
        raise UserError(f'{folder}: {len(paths)} files {pattern}{": " if paths else ""}'
                        f'{", ".join(p.name for p in paths)}; one is needed, or the published files instead')
    count = 0
    for i, record in enumerate(unpickle.records(paths[0])):
        where = f'{paths[0]}, object {i}'
        if not isinstance(record, dict):
            raise UserError(f'{where}: {type(record).__name__}; expected a dictionary')
        if i or {'image_id', 'feature_path', 'image_name', 'image_path'} & set(record):
            count += 1
            yield where, record
    if not count:
        raise UserError(f'{paths[0]}: nothing in it')


def _imdb_names(record, where):
    name = _stem(_any(record, ('feature_path', 'image_name', 'image_path', 'image_id'), where))
    number = name.rpartition('_')[2]  # by which MMF looks first
    short = name.rpartition('/')[2]
    return tuple(dict.fromkeys((short, name, *([str(int(number))] if number.isdecimal() else ()))))


def _imdb_questions(folder, pattern):
    out, seen = [], set()
    for where, record in imdb(folder, pattern):
        if record.get('question_id') is not None:
            _once(str(record['question_id']), seen, where, 'question_id')
        key = next((k for k in ('question_str', 'question') if k in record), 'question_str')
        # All that annotators said, before what MMF's vocabulary knows of it: repeating the latter would inflate scores.
        given = next((record[k] for k in ('all_answers', 'answers', 'valid_answers') if record.get(k)), None)
        out.append(Text(_imdb_names(record, where), _text(record, key, where), _answers(given, where)))
    return out


def _given(item, where):
    """The answers of {'answers': [{'answer': TEXT}]}."""
    given = item.get('answers')
    if not isinstance(given, list) or not all(isinstance(a, dict) and isinstance(a.get('answer'), str) for a in given):
        raise UserError(f"{where}: 'answers' is {str(given)[:80]}; expected a list of {{'answer': TEXT}}")
    return _answers([a['answer'] for a in given], where)


def _answers(given, where):
    if not isinstance(given, list | tuple) or not all(isinstance(a, str) for a in given):
        raise UserError(f'{where}: answers are {str(given)[:80]}; expected a list of texts')
    given = given[:-1] if given and given[-1] == COPY else given
    if not 1 <= len(given) <= MOST:
        raise UserError(f'{where}: {len(given)} answers; expected 1 to {MOST}')
    # An annotator who said nothing still counts as one of ten; nothing can match '<unk>'.
    return tuple(sys.intern(a.strip() or UNKNOWN) for a in given)


def _captions(names, given, where):
    if not isinstance(given, list | tuple) or not given:
        raise UserError(f'{where}: captions are {str(given)[:80]}; expected a list of texts')
    return [Text(names, _text({'caption': c}, 'caption', where)) for c in given]


def _there(paths: Iterable[pathlib.Path], folder, pattern) -> bool:
    """Whether all published files are there; False where MMF's are there instead."""
    lost = [p for p in paths if not p.is_file()]
    if lost and not any(folder.glob(pattern)):
        raise UserError(f'{folder}: no {lost[0].name}, and no {pattern} instead')
    return not lost


def _json(path):
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as e:
        raise UserError(f'{path}: not a JSON file that can be read: {e}') from e
    if not isinstance(found, dict):
        raise UserError(f'{path}: {type(found).__name__}; a JSON object {{...}} is needed')
    return found


def _inside(path, folder):
    if path.parent != folder or path.stem in ('', '..'):
        raise UserError(f'{folder}: {path.name!r} of split.json is not a name')
    return True


def _text(item, key, where):
    found = item.get(key)
    try:
        if isinstance(found, str) and found.strip() and found.encode():
            return found.strip()
    except UnicodeEncodeError:
        pass
    raise UserError(f'{where}: {key!r} is {str(found)[:60]!r}; a text is needed' if key in item else
                    f'{where}: no {key!r}; found {", ".join(sorted(map(str, item)))}')


def _get(item, key, kind, where):
    found = item.get(key)
    if not isinstance(found, kind) or isinstance(found, bool):
        raise UserError(f'{where}: {key!r} is {str(found)[:60]!r}; expected {kind.__name__}')
    return found


def _any(item, keys, where):
    """The first of some fields that is there, as text."""
    found = next((item[k] for k in keys if item.get(k) is not None), None)
    if not isinstance(found, str | int) and not hasattr(found, 'item'):
        raise UserError(f'{where}: none of {", ".join(keys)}; found {", ".join(sorted(map(str, item)))}')
    return str(found)


def _stem(name):
    """A picture's name without the ending of its file."""
    base, dot, ending = name.rpartition('.')
    return base if dot and ending.lower() in ('jpg', 'jpeg', 'png', 'npy', 'json') else name


def _once(value, seen, where, what):
    if value in seen:
        raise UserError(f'{where}: the {what} {value!r} is there twice')
    seen.add(value)
    return value


def _some(texts, where):
    if not texts:
        raise UserError(f'{where}: nothing in it')
    return texts
