"""Labelled texts: word pieces against hand-made ones, what is read from which file, what is refused, simple models."""
import functools

import h5py
import numpy as np
import pytest
import test_labelled
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors
from test_labelled import everything

from fipjax.data import words
from fipjax.errors import UserError
from fipjax.evaluators import baselines

N = 40
Y = np.arange(N) % 2
TEXTS = np.array([f'{("Red", "blue")[k]} ' + ' '.join(['circle'] * (i % 3)) for i, k in enumerate(Y)])


build = functools.partial(test_labelled.build, tokenizer='basic', length=5)


def test_texts_become_word_pieces_with_marks(tmp_path):
    splits = build(tmp_path, dict(x=TEXTS, y=Y))
    basic = words.build('basic')
    vocabulary = basic.model.get_vocab()
    assert splits.task[:6] == ('text', 'classes', (5,), (), ('0', '1'), None)
    assert splits.task.vocab == basic.size and splits.task.inputs is None
    assert splits.task.description == (
        f'x [40]: text, at most 5 word pieces (basic, {basic.size} different ones), lengths 3 to 5; y int64 [40]: '
        '2 classes; 70/15/15 % by class: 28 / 6 / 6 examples')
    for source in splits[1:]:
        batch = everything(source)
        assert [batch[k].dtype for k in ('id', 'x', 'y', 'length')] == [np.int32] * 4
        for i, x, length in zip(batch['id'], batch['x'], batch['length'], strict=True):
            said = ['[CLS]', ('red', 'blue')[Y[i]], *['circle'] * (i % 3), '[SEP]']
            assert length == len(said)
            assert x.tolist() == [vocabulary[w] for w in said] + [vocabulary['[PAD]']] * (5 - len(said))
        np.testing.assert_array_equal(batch['y'], Y[batch['id']])


def test_long_texts_are_cut_and_said(tmp_path):
    splits = build(tmp_path, dict(x=TEXTS, y=Y), length=4)
    assert ', 13 texts cut, lengths 3 to 4;' in splits.task.description  # i % 3 == 2 for 13 of 40
    batch, sep = everything(splits.train), words.build('basic').sep
    assert (batch['x'][batch['length'] == 4][:, 3] == sep).all()
    same = build(tmp_path, dict(x=np.full(N, 'red blue red'), y=Y))  # all of them fill L, so there are no lengths
    assert 'length' not in everything(same.train) and 'lengths' not in same.task.description


def test_what_no_word_piece_covers_is_said(tmp_path):
    x = np.where(np.arange(N) == 3, 'Ω', 'red')
    assert f', {100 / (3 * N):.1f} % unknown' in build(tmp_path, dict(x=x, y=Y)).task.description


def test_padding_is_the_tokenizers(tmp_path):
    pieces = ['<s>', '<pad>', '</s>', '<unk>', '<mask>', 'red', 'blue', 'circle']
    (tmp_path / 'vocab.txt').write_text('\n'.join(pieces))
    splits = build(tmp_path, dict(x=TEXTS, y=Y), tokenizer=str(tmp_path / 'vocab.txt'))
    batch = everything(splits.test)
    assert splits.task.vocab == 8
    for i, x in zip(batch['id'], batch['x'], strict=True):
        assert x.tolist() == [0, 5 + Y[i], *[7] * (i % 3), 2, *[1] * (2 - i % 3)]


def test_bytes_and_hdf5_and_several_labels(tmp_path):
    wanted = everything(build(tmp_path, dict(x=TEXTS, y=Y)).train)
    for k, v in everything(build(tmp_path, dict(x=np.char.encode(TEXTS), y=Y)).train).items():
        np.testing.assert_array_equal(v, wanted[k])
    with h5py.File(tmp_path / 'a.h5', 'w') as f:
        f['x'], f['y'] = TEXTS.astype(object), Y
    for k, v in everything(build(tmp_path, path=str(tmp_path / 'a.h5')).train).items():
        np.testing.assert_array_equal(v, wanted[k])
    y = np.stack([Y, np.arange(N) % 3 == 0], 1).astype(np.int32)
    several = build(tmp_path, dict(x=TEXTS, y=y))
    batch = everything(several.train)
    assert several.task.output == 'multilabel' and batch['x'].dtype == np.int32
    np.testing.assert_array_equal(batch['y'], y[batch['id']])
    assert baselines.simple(several.task, *several[1:])['ridge']['map'] > 0.9


@pytest.mark.parametrize('fields, changes, said', [
    ({}, dict(tokenizer=''), 'data.npz: x is text, but target.tokenizer is empty; allowed: basic, minilm or'),
    ({}, dict(tokenizer='nothing'), "target.tokenizer is 'nothing': no such file"),
    (dict(x=np.zeros((N, 12))), {}, "target.tokenizer is 'basic', but x float64 .40, 12.: 1d.*only text has"),
    ({}, dict(view='spectrogram'), "target.view is 'spectrogram', but x is text; only 1d"),
    (dict(length=np.full(N, 3)), {}, 'lengths are given, but x is text'),
    (dict(x=np.where(Y == 1, '', TEXTS)), {}, 'x is an empty text in 20 examples, the first is 1'),
    (dict(y=np.zeros((N, 5))), dict(output='dense'), 'no target for text'),
    ({}, dict(kind='2d'), 'text, which cannot be 2d as target.kind says'),
])
def test_refused(tmp_path, fields, changes, said):
    with pytest.raises(UserError, match=said):
        build(tmp_path, {'x': TEXTS, 'y': Y, **fields}, **changes)


def test_bags_of_word_pieces_leave_marks_and_padding_out():
    x = np.array([[1, 5, 6, 5, 2], [1, 6, 2, 0, 0], [1, 2, 0, 0, 0]])
    found = baselines.counts(x, np.array([5, 3, 2]), 8).toarray()
    assert found.tolist() == [[0, 0, 0, 0, 0, 2, 1, 0], [0, 0, 0, 0, 0, 0, 1, 0], [0] * 8]
    assert baselines.counts(x[:1, :4], None, 8).toarray().tolist() == [[0, 0, 0, 0, 0, 1, 1, 0]]


def test_simple_models_of_text(tmp_path, monkeypatch):
    """Against scikit-learn on dense bags of what training has; chunks smaller than the data."""
    monkeypatch.setattr(baselines, 'CHUNK', 7)
    rng = np.random.default_rng(0)
    y = np.arange(120) % 3
    x = np.array([' '.join(rng.choice(['red', 'blue', 'circle', 'small', 'what'], 4,
                                      p=np.roll([0.4, 0.25, 0.15, 0.1, 0.1], k))) for k in y])
    splits = build(tmp_path, dict(x=x, y=y), length=8)
    found = baselines.simple(splits.task, *splits[1:])
    names = words.build('basic').model.get_vocab()
    bags = [np.array([[x[i].split().count(w) for w in names] for i in s.ids], float) for s in splits[1:]]
    train_y, validation_y, test_y = (s.y for s in splits[1:])
    seen = bags[0].any(0)
    scaler = TfidfTransformer().fit(bags[0][:, seen])
    train, validation, test = (scaler.transform(b[:, seen]) for b in bags)
    models = [LogisticRegression(C=1 / p, tol=1e-3, max_iter=300).fit(train, train_y) for p in baselines.OF_TEXT]
    right = [(m.predict(validation) == validation_y).mean() for m in models]
    chosen = models[max(i for i, r in enumerate(right) if r == max(right))]
    wrong = (chosen.predict(test) != test_y).mean()
    assert found['logistic regression']['error'] == pytest.approx(wrong) and wrong < found['majority']['error']
    nearest = NearestNeighbors(n_neighbors=1, algorithm='brute').fit(train).kneighbors(test)[1][:, 0]
    assert found['nearest neighbour']['error'] == pytest.approx((train_y[nearest] != test_y).mean())
