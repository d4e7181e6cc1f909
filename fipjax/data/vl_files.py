"""One's own pictures and texts: a folder, a prepared TFDS dataset; and easy-VQA from its wheel.

A folder has one table of texts, UTF-8, a JSON object a line:

    captions.jsonl     {"image": NAME, "caption": TEXT}
    questions.jsonl    {"image": NAME, "question": TEXT} and one of "answers": [what each annotator said, 1 to 10],
                       "answer": the one class, "labels": [any number of labels]

Optional in each line: "split" (train, validation, test) and "id" (nothing reads it). Without splits whole pictures are
drawn, 80/10/10 % for questions and 95/5 % train/validation for captions; where only validation is missing, 10 % (5 %)
of the training pictures become it. What the pictures look like: fipjax.data.region_files. Optional beside them:

    answers.txt        the vocabulary of answers, one a line; without it the training split's
    dataset.json       {"name": ..., "description": ..., "detector": ..., "answers": [the vocabulary]}, each optional

A TFDS dataset (array_record, read without TensorFlow) has the same fields as features: `image_id`, `caption` or
`question` with `answers`, `answer` or `labels`; and `image` uint8 [H, W, 3], or `features`, `boxes`, `width`, `height`
and maybe `class_probs`; the first record of a picture is the one whose regions are read. Its splits train, validation
and test are read, as far as they are there. What fipjax.data.builders.prepare wrote says its vocabulary of answers.
"""
from __future__ import annotations

import json
import os
import pathlib
import shutil
from typing import NamedTuple

import numpy as np

from fipjax import bars
from fipjax.data import region_files, stored_regions, wheels
from fipjax.data.builders import prepared as prepared_sets
from fipjax.data.vl import UNKNOWN, Set
from fipjax.errors import UserError

TABLES = {'captions.jsonl': 'caption', 'questions.jsonl': 'question'}
OUTPUT = {'answers': 'answers', 'answer': 'classes', 'labels': 'labels'}  # key -> Set.output
SPLITS = ('train', 'validation', 'test')
FACTS = ('name', 'description', 'detector', 'answers')
SEED = 0  # of splits that are drawn


class Row(NamedTuple):
    """A line of a table: where it is, name of the picture, text, answers, key of the answers, split ('' is none)."""

    where: str
    image: str
    text: str
    answers: tuple[str, ...]
    key: str
    split: str


def read(path: str, settings, key: str = 'data', progress: bool = False, data_dir: str = '') -> Set:
    """The data set of a folder or of TFDS, see this module's docstring.

    Args:
      path: a folder, or tfds:NAME.
      settings: config group `regions`.
      key: the config key that names it, for messages.
      progress: show a progress bar.
      data_dir: of TFDS; the folder that holds NAME, or with 'tfds:' alone the dataset's own folder.

    Raises:
      UserError: names the file and line, or the picture, and what is wrong with it.
    """
    if path.startswith('tfds:'):
        return _tfds(path.removeprefix('tfds:'), settings, key, progress, data_dir)
    folder = pathlib.Path(path)
    if not path or not folder.is_dir():
        raise UserError(f'{key}: no such folder {path!r} (looked in {pathlib.Path.cwd()})')
    tables = [folder / t for t in TABLES if (folder / t).is_file()]
    if len(tables) != 1:
        raise UserError(f'{key}: {folder} has {"both" if tables else "neither"} {" and ".join(TABLES)}; one is needed')
    rows = _rows(tables[0])
    facts = _facts(folder)
    names = list(dict.fromkeys(r.image for r in rows))
    regions, place = region_files.read(folder, names, settings, facts['detector'], progress)
    return _set(rows, regions, place, facts, str(tables[0]))


def write(path: str | os.PathLike, data: Set) -> None:
    """Writes a folder that `read` gives back: all of it or nothing.

    Raises:
      UserError: the folder is there.
    """
    folder = pathlib.Path(path)
    if folder.exists():
        raise UserError(f'{folder} exists; move it away to write the data set again')
    part = folder.with_name(f'.{folder.name}.part')
    shutil.rmtree(part, ignore_errors=True)  # of a run that was killed
    part.mkdir(parents=True)
    keys = {v: k for k, v in OUTPUT.items()}
    text = 'caption' if data.answers is None else 'question'
    with open(part / f'{text}s.jsonl', 'w', encoding='utf-8') as f:
        for i, words in enumerate(data.text):
            line = {'image': f'{data.picture[i]:06d}', text: words, 'split': str(data.split[i])}
            if data.answers is not None:
                given = data.answers[i]
                line[keys[data.output]] = given[0] if data.output == 'classes' else list(given)
            f.write(json.dumps(line, ensure_ascii=False) + '\n')
    r = data.regions
    arrays = {'names': np.array([f'{i:06d}' for i in range(len(r.features))]), 'features': r.features,
              'boxes': r.boxes, 'count': r.count} | ({} if r.classes is None else {'class_probs': r.classes})
    np.savez(part / region_files.FILE, **arrays)
    facts = {'name': data.name, 'description': data.description, 'detector': r.detector}
    facts |= {'answers': list(data.vocabulary)} if data.vocabulary else {}
    (part / 'dataset.json').write_text(json.dumps(facts, ensure_ascii=False, indent=1), encoding='utf-8')
    os.replace(part, folder)


def easy_vqa(settings, key: str = 'data') -> Set:
    """easy-VQA: 5000 pictures of one coloured shape with 48,248 questions, one answer each; 13 answers.

    The wheel's test split, and 10 % of its training pictures for validation.

    Args:
      settings: config group `regions`; pictures are cut into a grid.
      key: the config key that asks for it, for messages.

    Raises:
      UserError: see fipjax.data.wheels.easy_vqa.
    """
    parts = wheels.easy_vqa(key)
    train, test = parts['train'], parts['test']
    regions = region_files.cut([*train['pictures'], *test['pictures']], settings)
    picture = np.concatenate([train['picture'], test['picture'] + len(train['pictures'])]).astype(np.int32)
    split = _draw(np.repeat(['train', 'test'], [len(train['picture']), len(test['picture'])]), picture, 0.1)
    answers = (*train['answers'], *test['answers'])
    return Set('easy_vqa', regions, picture, (*train['questions'], *test['questions']), tuple((a,) for a in answers),
               'classes', split, tuple(sorted(set(answers))),
               f'easy-VQA: {len(answers)} questions about {len(regions.count)} pictures of a coloured shape')


def _rows(path):
    """The lines of a table, checked one by one."""
    text, out, ids = TABLES[path.name], [], {}
    for number, line in enumerate(path.read_bytes().removeprefix(b'\xef\xbb\xbf').split(b'\n'), 1):
        where = f'{path}, line {number}'
        if line.strip():
            fields = _object(line, where)
            if 'id' in fields:
                identity = fields.pop('id')
                if not isinstance(identity, str | int):
                    raise UserError(f'{where}: "id" is {identity!r}; a text or an integer is needed')
                if identity in ids:
                    raise UserError(f'{where}: the id {identity!r} is that of line {ids[identity]}, too')
                ids[identity] = number
            out.append(_row(fields, text, where))
            _safe(out[-1])
    if not out:
        raise UserError(f'{path}: no line')
    return out


def _object(line, where):
    """A JSON object whose keys are all different."""
    def once(pairs):
        if len({k for k, _ in pairs}) < len(pairs):
            raise UserError(f'{where}: a key occurs twice: {[k for k, _ in pairs]}')
        return dict(pairs)

    try:
        out = json.loads(line.decode('utf-8'), object_pairs_hook=once)
    except UnicodeDecodeError as e:
        raise UserError(f'{where}: not UTF-8 ({e.reason} at byte {e.start}); save the file as UTF-8') from e
    except (json.JSONDecodeError, RecursionError) as e:
        raise UserError(f'{where}: not JSON: {e}') from e
    if not isinstance(out, dict):
        raise UserError(f'{where}: {type(out).__name__}; a JSON object {{...}} is needed')
    return out


def _row(fields, text, where):
    """One line, or one record of TFDS, with fields named as in the tables."""
    allowed = ('image', text, *(OUTPUT if text == 'question' else ()), 'split')
    unknown = sorted(set(fields) - set(allowed))
    if unknown:
        raise UserError(f'{where}: unknown key {unknown[0]!r}; allowed: {", ".join(allowed)}, id')
    for name in ('image', text, 'split'):
        value = fields.get(name, 'train' if name == 'split' else None)
        if not isinstance(value, str) or not value.strip():
            raise UserError(f'{where}: ' + (f'{name!r} is {value!r}; a text is needed' if name in fields else
                                            f'no {name!r}; needed: image, {text}'))
        _encodable(value, where)
    split = fields.get('split', '')
    if split and split not in SPLITS:
        raise UserError(f"{where}: 'split' is {split!r}; allowed: {', '.join(SPLITS)}")
    given = [k for k in OUTPUT if k in fields]
    if text == 'caption':
        return Row(where, fields['image'], fields[text], (), '', split)
    if len(given) != 1:
        raise UserError(f'{where}: {", ".join(given) or "no answer"}; needed: one of {", ".join(OUTPUT)}')
    value = [fields[given[0]]] if given[0] == 'answer' else fields[given[0]]
    if not isinstance(value, list) or not all(isinstance(a, str) and a.strip() for a in value) or (
            given[0] == 'answers' and not 1 <= len(value) <= 10):
        raise UserError(f'{where}: {given[0]!r} is {str(fields[given[0]])[:80]!r}; needed: '
                        + {'answer': 'a text', 'answers': 'a list of 1 to 10 texts', 'labels': 'a list of texts'
                           }[given[0]])
    for a in value:
        _encodable(a, where)
    return Row(where, fields['image'], fields[text], tuple(value), given[0], split)


def _encodable(text, where):
    try:
        text.encode()
    except UnicodeEncodeError as e:
        raise UserError(f'{where}: {text[:40]!r} holds half of a character ({e.reason})') from e


def _safe(row):
    """Raises UserError unless the name of a picture stays in its folder."""
    name = pathlib.PurePosixPath(row.image)
    if name.is_absolute() or '..' in name.parts or any(c in row.image for c in '\\:\0'):
        raise UserError(f"{row.where}: 'image' is {row.image!r}; needed: a name inside {region_files.IMAGES}/ or "
                        f"{region_files.FEATURES}/, without '..', ':' and backslashes")


def _facts(folder):
    """What dataset.json and answers.txt say, with defaults."""
    facts, path, words = {}, folder / 'dataset.json', folder / 'answers.txt'
    if path.is_file():
        facts = _object(path.read_bytes(), str(path))
        unknown = sorted(set(facts) - set(FACTS))
        if unknown:
            raise UserError(f'{path}: unknown key {unknown[0]!r}; allowed: {", ".join(FACTS)}')
        wrong = [k for k in FACTS[:3] if not isinstance(facts.get(k, ''), str)]
        if wrong:
            raise UserError(f'{path}: {wrong[0]!r} is {facts[wrong[0]]!r}; a text is needed')
    if words.is_file():
        if 'answers' in facts:
            raise UserError(f'{folder}: a vocabulary of answers in {path.name} and in {words.name}; keep one')
        try:
            lines = words.read_bytes().decode('utf-8-sig').split('\n')
        except UnicodeDecodeError as e:
            raise UserError(f'{words}: not UTF-8 ({e.reason} at byte {e.start}); save the file as UTF-8') from e
        facts['answers'] = [line.rstrip('\r') for line in (lines if lines[-1] else lines[:-1])]
        path = words
    answers = facts.setdefault('answers', [])
    if not isinstance(answers, list) or not all(isinstance(a, str) and a.strip() for a in answers):
        raise UserError(f'{path}: the vocabulary of answers must be a list of texts, none of them empty')
    if len(set(answers)) < len(answers):
        twice = next(a for i, a in enumerate(answers) if a in answers[:i])
        raise UserError(f'{path}: the answer {twice!r} occurs twice in the vocabulary')
    return {'name': folder.resolve().name, 'description': '', 'detector': '', **facts, 'where': str(path)}


def _set(rows, regions, place, facts, where):
    """A Set out of rows, regions and the row of each picture in them."""
    keys = sorted({r.key for r in rows})
    if len(keys) > 1:
        other = next(r for r in rows if r.key != rows[0].key)
        raise UserError(f'{other.where}: {other.key!r}, but {rows[0].where} has {rows[0].key!r}; one kind is needed')
    picture = np.array([place[r.image] for r in rows], np.int32)
    split = _split(rows, picture, where)
    output = OUTPUT.get(keys[0], '')
    vocabulary = _vocabulary(rows, output, facts)
    sizes = ', '.join(f'{(split == s).sum()} {s}' for s in SPLITS if (split == s).any())
    said = facts['description'] or (f'{facts["name"]}: {len(rows)} {"questions" if output else "captions"} about '
                                    f'{len(set(picture.tolist()))} pictures ({sizes})')
    return Set(facts['name'], regions, picture, tuple(r.text for r in rows),
               tuple(r.answers for r in rows) if output else None, output, split, vocabulary, said)


def _vocabulary(rows, output, facts):
    """The vocabulary of a data set, with '<unk>' first for annotators' answers; () where the data say none."""
    given = tuple(facts['answers'])
    if not given:
        return ()
    if not output:
        raise UserError(f'{facts["where"]}: a vocabulary of answers, but the texts are captions')
    if output != 'answers':
        known = set(given)
        for r in rows:
            for a in r.answers:
                if a not in known:
                    raise UserError(f'{r.where}: the answer {a!r} is not in the vocabulary of {facts["where"]} '
                                    f'({len(given)}: {", ".join(given[:8])}{", ..." if len(given) > 8 else ""})')
        return given
    if UNKNOWN in given[1:]:
        raise UserError(f'{facts["where"]}: {UNKNOWN!r} is answer {given.index(UNKNOWN)}; it must be answer 0, or none')
    given = given if given[0] == UNKNOWN else (UNKNOWN, *given)
    if not any(a in given[1:] for r in rows for a in r.answers):
        raise UserError(f'{facts["where"]}: no answer of any question is in the vocabulary ({len(given)} answers, e.g. '
                        f'{", ".join(given[1:5])}); found e.g. {rows[0].answers[0]!r} in {rows[0].where}')
    return given


def _split(rows, picture, where):
    """The splits that rows name, or that are drawn, as this module's docstring says."""
    captions = not rows[0].key
    named = [bool(r.split) for r in rows]
    if any(named) and not all(named):
        raise UserError(f"{rows[named.index(False)].where}: no 'split', but {rows[named.index(True)].where} has one; "
                        'all lines or none')
    split = np.array([r.split or 'train' for r in rows])
    if not all(named):
        split = _draw(split, picture, 0.05) if captions else _draw(split, picture, 0.1, 0.1)
    else:
        first = {}
        for r in rows:
            other = first.setdefault(r.image, r)
            if other.split != r.split:
                raise UserError(f'{r.where}: the picture {r.image!r} is in {r.split!r}, but in {other.split!r} in '
                                f'{other.where}; a picture may be in one split only')
        if not (split == 'validation').any():
            split = _draw(split, picture, 0.05 if captions else 0.1)
    if not (split == 'train').any():
        raise UserError(f"{where}: no example in the split 'train' is left; {len(set(picture.tolist()))} pictures in "
                        'all')
    return split


def _draw(split, picture, validation, test=0.0):
    """Splits [n] where shares of the pictures in 'train' go to validation and test, at least one each."""
    split = np.asarray(split).astype('U10')
    order = np.random.default_rng([SEED, 44]).permutation(np.unique(picture[split == 'train']))
    ends = np.cumsum([max(1, round(share * len(order))) if share else 0 for share in (validation, test)])
    split[np.isin(picture, order[:ends[0]])] = 'validation'
    split[np.isin(picture, order[ends[0]:ends[1]])] = 'test'
    return split


def _tfds(name, settings, key, progress, data_dir):
    import tensorflow_datasets as tfds
    if not name and not data_dir:
        raise UserError(f"{key} is 'tfds:'; needed: tfds:NAME, or tfds: and in sets.data_dir the folder of a prepared "
                        'dataset')
    prepared = pathlib.Path(data_dir or '.', name, prepared_sets.VERSION)
    try:
        # TFDS has builders of its own for some names, which it would ask for versions of their own.
        builder = (tfds.builder_from_directory(prepared) if (prepared / prepared_sets.FACTS).is_file() else
                   tfds.builder(name, data_dir=data_dir or None) if name else tfds.builder_from_directory(data_dir))
    except (tfds.core.registered.DatasetNotFoundError, tfds.core.dataset_info.DatasetInfoFileError, FileNotFoundError,
            ValueError) as e:
        raise UserError(f'{key}: no prepared TFDS dataset {name!r} in sets.data_dir {data_dir!r}: '
                        f'{str(e).splitlines()[0]}') from e
    where, known = f'{key}: TFDS {builder.info.full_name}', [n for n, _ in builder.info.features.items()]
    splits = [s for s in SPLITS if s in builder.info.splits and builder.info.splits[s].num_examples]
    text = [t for t in TABLES.values() if t in known]
    if 'train' not in splits or len(text) != 1 or 'image_id' not in known or not {'image', 'features'} & {*known}:
        raise UserError(f'{where} has the splits {sorted(builder.info.splits)} and the features {sorted(known)}; '
                        'needed: train; image_id, caption or question, image or features')
    rows, place = [], {}

    def records():
        """Every picture once, while its rows are collected."""
        for split in splits:
            try:
                data = builder.as_data_source(split=split)
            except (ValueError, NotImplementedError, KeyError) as e:
                raise UserError(f'{where} split {split!r}: {str(e).splitlines()[0]} (format '
                                f'{builder.info.file_format}; it must be array_record)') from e
            for i in bars.bar(range(len(data)), desc=f'data: {split}', unit='record', show=progress):
                record, here = data[i], f'{where} split {split!r}, record {i}'
                fields = {k: _plain(record[k]) for k in (*text, *OUTPUT) if k in record}
                image = str(_plain(record['image_id']))
                rows.append(_row({'image': image, **fields, **({'split': split} if len(splits) > 1 else {})}, text[0],
                                 here))
                if image not in place:
                    place[image] = len(place)
                    yield here, record, (data, i)

    if 'image' in known:
        regions = region_files.cut((region_files.square(r['image'], here) for here, r, _ in records()), settings)
    else:
        wanted = ('features', 'boxes', 'width', 'height', 'class_probs')
        regions = stored_regions.gather(((here, {k: r[k] for k in wanted if k in r}, at) for here, r, at in records()),
                                        settings)
    facts = {'name': name or builder.info.name, 'description': '', 'answers': _classes(builder), 'where': where}
    return _set(rows, regions, place, facts, where)


def _classes(builder):
    """The vocabulary of answers of what `prepare` wrote, [] where there is none."""
    path = pathlib.Path(builder.data_dir) / prepared_sets.FACTS
    if not path.is_file():
        return []
    plan = _object(path.read_bytes(), str(path)).get('plan')
    found = plan.get('classes') if isinstance(plan, dict) else None
    if not isinstance(found, list) or not all(isinstance(a, str) and a.strip() for a in found):
        raise UserError(f'{path}: no list of texts plan.classes; prepare the data set again')
    return found


def _plain(value):
    """bytes, arrays and NumPy numbers as text, lists and integers."""
    if isinstance(value, np.ndarray):
        value = value.tolist() if value.ndim else value.item()
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value.decode('utf-8', 'replace') if isinstance(value, bytes) else value
