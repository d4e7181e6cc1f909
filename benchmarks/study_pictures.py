"""Writes the pictures of the study of configs/vlp/pictures.py as folders, in the form that any user's own data have.

    python benchmarks/study_pictures.py --nlvr=nlvr.npz --emoji=noto64.npz --out=DIR

Each input is an .npz of the public data set:
  nlvr     image uint8 [n, H, W, 3], sentence str [n], label bool [n], test bool [n]: whether a sentence that a person
           wrote is true of the picture (NLVR, github.com/lil-lab/nlvr, CC-BY 4.0; ours were its development and its
           public test set at 32 x 128 pixels, `test` says which) -> DIR/nlvr, a task with the answers true and false
  emoji    image uint8 [n, H, W, 3], name str [n] (Noto emoji, Apache-2.0, with their Unicode names) -> DIR/emoji,
           captions

A sentence of NLVR occurs with several pictures. Of the others, those that share a sentence or a picture with the test
split are left out, and 10 % become validation so that neither is in two splits. Splits are the same in every call.
"""
import argparse
import json
import os
import pathlib
import shutil
import zipfile

import numpy as np
import tqdm
from PIL import Image

from fipjax.errors import UserError

VALIDATION = 0.1
KINDS = {'image': ('u', 4), 'sentence': ('U', 1), 'name': ('U', 1), 'label': ('b', 1), 'test': ('b', 1)}


def nlvr(d):
    """Rows of questions.jsonl, each with the number of its picture."""
    place = same(d['image'])
    sentence = np.array([' '.join(s.lower().split()) for s in d['sentence']])
    test = d['test']
    left_out = ~test & (np.isin(sentence, sentence[test]) | np.isin(place, place[test]))
    rest = np.flatnonzero(~test & ~left_out)
    if not len(rest) or not test.any():
        lacks = 'nothing is left for training' if test.any() else "no example in 'test'"
        raise UserError(f'{lacks}: {test.sum()} of {len(test)} examples are for the test, {left_out.sum()} share a '
                        'sentence or a picture with them')
    split = np.where(test, 'test', 'train').astype('U10')
    split[rest[drawn(grouped(sentence[rest], place[rest]))]] = 'validation'
    print(f'nlvr: left out {left_out.sum()} of {(~test).sum()} examples that share a sentence or a picture with the '
          'test split')
    return [{'image': int(place[i]), 'question': str(d['sentence'][i]), 'answer': 'true' if d['label'][i] else 'false',
             'split': str(split[i])} for i in np.flatnonzero(~left_out)]


def emoji(d):
    """Rows of captions.jsonl, each with the number of its picture."""
    return [{'image': int(k), 'caption': str(name)} for k, name in zip(same(d['image']), d['name'], strict=True)]


def same(pictures):
    """For each picture the number of the first that is equal to it, int [n]."""
    first = {}
    return np.array([first.setdefault(p.tobytes(), i) for i, p in enumerate(pictures)])


def grouped(*keys):
    """Groups of examples, int [n]: two that have a key in common, directly or through others, are in one."""
    group = np.arange(len(keys[0]))
    keys = [np.unique(k, return_inverse=True)[1] for k in keys]
    while True:
        before = group.copy()
        for key in keys:
            least = np.full(key.max() + 1, len(group))
            np.minimum.at(least, key, group)
            group = least[key]
        if (group == before).all():
            return group


def drawn(group):
    """Which examples become validation, bool [n]: whole groups, in a fixed random order, up to the share."""
    names, where, size = np.unique(group, return_inverse=True, return_counts=True)
    order = np.random.default_rng(0).permutation(len(names))
    chosen = np.zeros(len(names), bool)
    chosen[order[np.cumsum(size[order]) <= max(VALIDATION * len(group), size[order[0]])]] = True
    return chosen[where]


ARRAYS = {'nlvr': (nlvr, ('image', 'sentence', 'label', 'test'), 'questions.jsonl'),
          'emoji': (emoji, ('image', 'name'), 'captions.jsonl')}


def load(path, needed):
    """The arrays of an .npz file; raises UserError unless they are there and fit together."""
    try:
        with np.load(path, allow_pickle=False) as f:
            d = {k: f[k] for k in needed if k in f.files}
    except (OSError, ValueError, EOFError, AttributeError, TypeError, zipfile.BadZipFile) as e:
        raise UserError(f'{path}: not an .npz file of plain arrays: {e}') from e
    missing = [k for k in needed if k not in d]
    if missing:
        raise UserError(f'{path}: no array {missing[0]!r}; needed: {", ".join(needed)}')
    for name, x in d.items():
        kind, axes = KINDS[name]
        if x.dtype.kind != kind or x.ndim != axes or not x.size or len(x) != len(d['image']):
            raise UserError(f'{path}: {name!r} is {x.dtype} {list(x.shape)}; expected '
                            f'{dict(u="uint8 [n, H, W, 3]", U="texts [n]", b="bool [n]")[kind]}, none of them empty, '
                            f'and {len(d["image"])} rows as image has')
    if d['image'].dtype != np.uint8 or d['image'].shape[3] != 3:
        raise UserError(f"{path}: 'image' is {d['image'].dtype} {list(d['image'].shape)}; expected uint8 [n, H, W, 3]")
    return d


def write(folder, table, rows, pictures):
    """A folder with the table and its pictures, all of it or nothing."""
    part = folder.with_name(f'.{folder.name}.part')
    shutil.rmtree(part, ignore_errors=True)  # of a call that was killed
    (part / 'images').mkdir(parents=True)
    for i in tqdm.tqdm(sorted({r['image'] for r in rows}), desc=folder.name, unit='picture'):
        Image.fromarray(pictures[i]).save(part / 'images' / f'{i:05d}.png')
    with open(part / table, 'w', encoding='utf-8') as f:
        for r in rows:
            f.write(json.dumps({**r, 'image': f'{r["image"]:05d}.png'}, ensure_ascii=False) + '\n')
    os.replace(part, folder)


def main(argv=None) -> None:
    """Writes DIR/NAME for each input that is given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ARRAYS:
        parser.add_argument(f'--{name}')
    parser.add_argument('--out', required=True)
    given = parser.parse_args(argv)
    paths = {name: getattr(given, name) for name in ARRAYS if getattr(given, name)}
    if not paths:
        raise UserError(f'nothing to write; give one of {", ".join(f"--{n}=FILE" for n in ARRAYS)}')
    for name in paths:
        if (pathlib.Path(given.out) / name).exists():
            raise UserError(f'{pathlib.Path(given.out) / name} exists; move it away to write it again')
    for name, path in paths.items():
        convert, needed, table = ARRAYS[name]
        d = load(path, needed)
        try:
            rows = convert(d)
        except UserError as e:
            raise UserError(f'{path}: {e}') from e
        folder = pathlib.Path(given.out) / name
        write(folder, table, rows, d['image'])
        of = {s: sum(r.get('split', 'no split yet') == s for r in rows)
              for s in ('train', 'validation', 'test', 'no split yet')}
        print(f'{folder}: {len(rows)} texts about {len({r["image"] for r in rows})} pictures ('
              + ', '.join(f'{n} {s}' for s, n in of.items() if n) + ')')


if __name__ == '__main__':
    try:
        main()
    except UserError as e:
        raise SystemExit(f'error: {e}') from e
