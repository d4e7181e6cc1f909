"""What shapes of labelled arrays mean."""
import numpy as np
import pytest

from fipjax.data import shapes
from fipjax.errors import UserError


@pytest.mark.parametrize('shape, layout, kind, expected', [
    ((5, 12), 'first', '', ('1d', (5, 12, 1))),
    ((5, 3, 12), 'first', '', ('1d', (5, 12, 3))),
    ((5, 5, 12), 'first', '', ('1d', (5, 12, 5))),
    ((5, 6, 12), 'first', '', ('2d', (5, 6, 12, 1))),
    ((5, 12, 6), 'first', '', ('2d', (5, 12, 6, 1))),
    ((5, 6, 12), 'first', '1d', ('1d', (5, 12, 6))),
    ((5, 3, 12), 'first', '2d', ('2d', (5, 3, 12, 1))),
    ((5, 12, 3), 'first', '1d', ('1d', (5, 3, 12))),
    ((5, 3, 12, 13), 'first', '', ('2d', (5, 12, 13, 3))),
    ((5, 12, 13, 3), 'first', '2d', ('2d', (5, 13, 3, 12))),
    ((5, 12), 'last', '', ('1d', (5, 12, 1))),
    ((5, 12, 3), 'last', '', ('1d', (5, 12, 3))),
    ((5, 12, 12), 'last', '', ('2d', (5, 12, 12, 1))),
    ((5, 12, 13, 3), 'last', '', ('2d', (5, 12, 13, 3))),
])
def test_inputs(shape, layout, kind, expected):
    x = np.arange(np.prod(shape)).reshape(shape)
    found, moved, words = shapes.inputs(x, layout, kind, 'a.npz', 'target')
    assert (found, moved.shape) == expected and f'{shapes.brackets(shape)}: {found}' in words
    if layout == 'last' or moved.ndim == x.ndim + 1:
        np.testing.assert_array_equal(moved.reshape(shape), x)
    else:
        np.testing.assert_array_equal(moved, np.stack([x[:, c] for c in range(shape[1])], -1))


@pytest.mark.parametrize('x, kind, words', [
    (np.zeros(5), '', r'x has shape \[5\]; allowed: \[n, L\]'),
    (np.zeros((5, 2, 3, 4, 5)), '', 'allowed'),
    (np.zeros((5, 2, 0)), '', 'empty'),
    (np.zeros((5, 400, 8)), '', r'save x.transpose\(0, 2, 1\), else set target.kind'),
    (np.zeros((5, 32, 32, 3)), '', r'save x.transpose\(0, 3, 1, 2\), or set target.kind=2d'),
    (np.zeros((5, 12)), '2d', 'cannot be 2d as target.kind says'),
    (np.zeros((5, 3, 12, 12)), '1d', 'cannot be 1d'),
    (np.zeros((5, 12)), '3d', "target.kind is '3d'; allowed: 1d, 2d"),
    (np.zeros((5, 12), complex), '', 'x.real, x.imag'),
    (np.full((5, 12), 'a'), '', r'type <U1 and shape \[5, 12\]; numbers are needed, or strings \[n\]'),
    (np.full(5, 'a'), '1d', r'shape \[5\] and is text, which cannot be 1d as target.kind says'),
    (np.zeros((5, 12)), 'text', r'type float64, which cannot be text as target.kind says; allowed: strings \[n\]'),
    (np.array(['a', ' \t', 'b', '']), '', 'x is an empty text in 2 examples, the first is 1'),
    (np.array([b'a', b'\xff']), '', 'x is no text in UTF-8'),
])
def test_refused_inputs(x, kind, words):
    with pytest.raises(UserError, match=words):
        shapes.inputs(x, 'first', kind, 'a.npz', 'target')


@pytest.mark.parametrize('x', [['a b', 'zwölf'], [b'a b', 'zwölf'.encode()]])
@pytest.mark.parametrize('kind', ['', 'text'])
def test_texts(x, kind):
    found, texts, words = shapes.inputs(np.array(x), 'first', kind, 'a.npz', 'target')
    assert (found, texts.tolist(), words) == ('text', ['a b', 'zwölf'], 'x [2]: text')


@pytest.mark.parametrize('output', ['', 'multilabel'])
def test_texts_may_have_several_labels_and_nothing_dense(output):
    found, y, _ = shapes.targets(ONES((5, 3), int), (8,), 'text', 'first', output, ONES(5, bool), 'a.npz', 'target')
    assert found == 'multilabel' and y.shape == (5, 3)
    for y, wanted in ((np.full((5, 8), 0.5), output), (ONES((5, 8), int), 'dense'), (ONES((5, 8, 1), int), output)):
        with pytest.raises(UserError, match=r'no target for text; allowed: .* of 0 and 1 \(multilabel\)$'):
            shapes.targets(y, (8,), 'text', 'first', wanted, ONES(5, bool), 'a.npz', 'target')


@pytest.mark.parametrize('y, codes, names', [
    ([0, 2, 1], [0, 2, 1], ('0', '1', '2')), ([7, -3, 7], [1, 0, 1], ('-3', '7')), ([1.0, 3.0], [0, 1], ('1', '3')),
    ([True, False], [1, 0], ('False', 'True')), ([b'b', b'a'], [1, 0], ('a', 'b'))])
def test_labels(y, codes, names):
    found, classes, words = shapes.labels(np.array(y), (), 'a.npz')
    assert found.tolist() == codes and found.dtype == np.int32 and classes == names
    assert f'{len(names)} classes' in words
    assert ('->' in words) == (list(names) != [str(k) for k in range(len(names))] and names[0] != 'False')


def test_labels_that_have_names():
    found, classes, _ = shapes.labels(np.array([2, 0]), ('a', 'b', 'c'), 'folder')
    assert found.tolist() == [2, 0] and classes == ('a', 'b', 'c')
    with pytest.raises(UserError, match='expected 0..2'):
        shapes.labels(np.array([3, 0]), ('a', 'b', 'c'), 'folder')


@pytest.mark.parametrize('y, words', [
    ([0.5, 1.0], '0.5 for instance. Predicting one number'), ([3, 3], 'y is 3 everywhere'), ([1j, 2j], 'complex')])
def test_refused_labels(y, words):
    with pytest.raises(UserError, match=words):
        shapes.labels(np.array(y), (), 'a.npz')


ONES, REALS = np.ones, lambda shape: np.full(shape, 0.5)


@pytest.mark.parametrize('y, shape, layout, output, expected', [
    (ONES((5, 3), int), (9, 2), 'first', '', ('multilabel', (5, 3))),
    (ONES((5, 9)), (9, 2), 'first', '', ('multilabel', (5, 9))),
    (ONES((5, 9)), (9, 2), 'first', 'dense', ('dense', (5, 9, 1))),
    (REALS((5, 9)), (9, 2), 'first', '', ('dense', (5, 9, 1))),
    (REALS((5, 4, 9)), (9, 2), 'first', '', ('dense', (5, 9, 4))),
    (REALS((5, 9, 4)), (9, 2), 'last', '', ('dense', (5, 9, 4))),
    (REALS((5, 4, 6, 7)), (9, 9, 2), 'first', '', ('dense', (5, 6, 7, 4))),
    (ONES((5, 6, 7), int), (9, 9, 2), 'first', 'dense', ('dense', (5, 6, 7, 1))),
])
def test_targets(y, shape, layout, output, expected):
    kind = '1d' if len(shape) == 2 else '2d'
    found, moved, _ = shapes.targets(y, shape, kind, layout, output, ONES(5, bool), 'a.npz', 'target')
    assert (found, moved.shape) == expected


@pytest.mark.parametrize('y, shape, output, words', [
    (REALS((5, 3)), (9, 2), '', r'3 samples, x has 9'),
    (REALS((5, 3)), (9, 9, 2), '', r'no target for x of shape \[n, 9, 9, 2\]'),
    (REALS((5, 9, 9, 1)), (9, 2), '', 'no target'),
    (2 * ONES((5, 9), int), (9, 2), '', 'target.output=dense'),
    (ONES((5, 9, 9), int), (9, 9, 1), '', 'neither 0 and 1 nor floating point'),
    (REALS((5, 3)), (9, 2), 'multilabel', r'cannot be multilabel: expected \[n, K\] of 0 and 1'),
    (np.full((5, 3), 'a'), (9, 2), '', 'allowed'),
    (np.zeros((5, 0)), (9, 2), '', 'allowed'),
])
def test_refused_targets(y, shape, output, words):
    with pytest.raises(UserError, match=words):
        kind = '1d' if len(shape) == 2 else '2d'
        shapes.targets(y, shape, kind, 'first', output, ONES(5, bool), 'a.npz', 'target')


def test_only_values_that_may_be_seen_decide():
    y = np.ones((5, 9))
    y[4] = 0.5
    assert shapes.targets(y, (9, 2), '1d', 'first', '', np.arange(5) < 4, '', 'target')[0] == 'multilabel'
    assert shapes.targets(y, (9, 2), '1d', 'first', '', np.arange(5) > 0, '', 'target')[0] == 'dense'
