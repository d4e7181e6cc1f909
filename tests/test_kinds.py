"""What arrays are as modalities: the rules on hand-made shapes, what is given before the rules, what is refused."""
import numpy as np
import pytest

from fipjax.data import kinds
from fipjax.errors import UserError
from fipjax.modality import Modality

FLOAT, INT, BYTE = np.float32, np.int64, np.uint8


def zeros(*shape, dtype=FLOAT, n=5):
    return np.broadcast_to(np.zeros((), dtype), (n, *shape))  # takes no memory, however large


def ids(low, high, length=6):
    x = np.full((5, length), low)
    x[2, 1] = high
    return x


def one(x, **given):
    """The description of a single array."""
    found, _ = kinds.describe(kinds.facts({'x': x}), {'x': given})
    return found['x']


@pytest.mark.parametrize('x, kind, shape, patch, vocab', [
    (zeros(400), 'sequence', (400, 1), 8, 0),                 # 50 tokens; 400 / 5 would be 80
    (zeros(64, 3), 'sequence', (64, 3), 1, 0),
    (zeros(65, 3), 'sequence', (65, 3), 5, 0),
    (zeros(101, 3), 'sequence', (101, 3), 101, 0),            # a prime number: only all of it
    (zeros(61, 3), 'sequence', (61, 3), 1, 0),
    (zeros(128, 2, dtype=BYTE), 'sequence', (128, 2), 2, 0),
    (zeros(24, 32), 'image', (24, 32, 1), 4, 0),              # the two are alike; 2 would give 192 tokens
    (zeros(16, 8), 'image', (16, 8, 1), 2, 0), (zeros(17, 8), 'sequence', (17, 8), 1, 0),  # 2 C < L or not
    (zeros(8, 16), 'image', (8, 16, 1), 2, 0),
    (zeros(28, 28, 1, dtype=BYTE), 'image', (28, 28, 1), 4, 0),
    (zeros(224, 224, 3, dtype=BYTE), 'image', (224, 224, 3), 28, 0),
    (zeros(8, 8, 3), 'image', (8, 8, 3), 1, 0), (zeros(4, 9, 4), 'image', (4, 9, 4), 1, 0),
    (ids(0, 29), 'tokens', (6,), 1, 30), (ids(3, 99999), 'tokens', (6,), 1, 100000),
    (ids(0, 0), 'tokens', (6,), 1, 2),                        # a vocabulary has two ids at least
    (ids(0, 200).astype(BYTE), 'tokens', (6,), 1, 201), (zeros(700, dtype=INT), 'tokens', (700,), 1, 2),
    (ids(0, 100000), 'sequence', (6, 1), 1, 0), (ids(-1, 5), 'sequence', (6, 1), 1, 0),
    (ids(0, 1).astype(bool), 'sequence', (6, 1), 1, 0),
])
def test_rules(x, kind, shape, patch, vocab):
    assert one(x) == {'kind': kind, 'shape': shape, 'patch': patch, 'vocab': vocab}
    Modality('x', **one(x))


@pytest.mark.parametrize('x, given, expected', [
    (zeros(24, 32), {'kind': 'sequence'}, ('sequence', (24, 32), 1, 0)),
    (zeros(64, 8), {'kind': 'image'}, ('image', (64, 8, 1), 4, 0)),
    (zeros(8, 400), {'kind': 'sequence'}, ('sequence', (8, 400), 1, 0)),  # refused without
    (zeros(3, 33, 33), {'kind': 'image'}, ('image', (3, 33, 33), 3, 0)),
    (zeros(400), {'patch': 20}, ('sequence', (400, 1), 20, 0)),
    (zeros(400), {'shape': (400, 1)}, ('sequence', (400, 1), 8, 0)),
    (zeros(64, 8), {'shape': (64, 8, 1), 'patch': 8}, ('image', (64, 8, 1), 8, 0)),  # the shape says the kind
    (ids(0, 29), {'kind': 'sequence'}, ('sequence', (6, 1), 1, 0)),
    (ids(0, 29), {'vocab': 500}, ('tokens', (6,), 1, 500)),
    (ids(0, 200000), {'kind': 'tokens'}, ('tokens', (6,), 1, 200001)),
    (zeros(24, 32), {'kind': '', 'shape': (), 'patch': 0, 'vocab': 0}, ('image', (24, 32, 1), 4, 0)),
])
def test_what_is_given_goes_before_the_rules(x, given, expected):
    assert tuple(one(x, **given).values()) == expected


@pytest.mark.parametrize('x, given, parts', [
    (zeros(8, 400), {}, ('x float32 [n, 8, 400]', 'axes were swapped', 'x.transpose(0, 2, 1)',
                         'data.modalities.x.kind to sequence or image')),
    (zeros(3, 64, 64), {}, ('[n, 3, 64, 64]', '3 pixels high with 64 channels', 'x.transpose(0, 2, 3, 1)',
                            'data.modalities.x.kind=image')),
    (zeros(4, 8, 8, 3), {}, ('5 axes', '[n, H, W, C]', 'data.modalities.x.kind=none')),
    (zeros(100, dtype=np.complex64), {}, ('complex64', 'np.stack([x.real, x.imag], -1)')),
    (zeros(0, 3), {}, ('[n, 0, 3]', 'empty')),
    (zeros(100, 101), {}, ('100 x 101', 'at most 64 tokens', 'data.modalities.x.patch to one of 1')),
    (zeros(96, 36, 3), {'patch': 5}, ('data.modalities.x.patch is 5', '(96, 36)')),
    (zeros(400), {'kind': 'video'}, ("data.modalities.x.kind is 'video'", 'image, sequence, tokens, none')),
    (zeros(400), {'kind': 'image'}, ('[n, 400] cannot be image', '[n, H, W]', 'data.modalities.x.kind')),
    (zeros(8, 8, 3), {'kind': 'sequence'}, ('cannot be sequence', '[n, L, C]')),
    (zeros(400), {'kind': 'tokens'}, ('x float32 [n, 400] cannot be tokens', 'whole numbers')),
    (zeros(400), {'vocab': 5}, ('cannot be tokens',)),
    (zeros(6, 2, dtype=INT), {'kind': 'tokens'}, ('cannot be tokens',)),
    (ids(-1, 5), {'kind': 'tokens'}, ('x int64 [n, 6] has -1', '0 or more')),
    (zeros(64, 8), {'shape': (32, 8)}, ('data.modalities.x.shape is (32, 8)', 'x float32 [n, 64, 8]', '(64, 8)')),
    (zeros(64, 8), {'shape': ('a', 8)}, ('data.modalities.x.shape', 'whole numbers')),
    (zeros(64, 8), {'patch': -1}, ('data.modalities.x.patch is -1',)),
])
def test_refused(x, given, parts):
    with pytest.raises(UserError) as e:
        one(x, **given)
    assert all(p in str(e.value) for p in parts), str(e.value)


FIELDS = {'emg': zeros(100, 2), 'emg_present': zeros(dtype=bool), 'emg_target': zeros(100, 2), 'cam': zeros(8, 8, 3),
          'label': zeros(dtype=INT), 'split': zeros(dtype='U5'), 'group': zeros(dtype=INT), 'id': zeros(4, dtype=INT),
          'age': zeros(), 'name': zeros(3, dtype='U9'), 'goal_target': zeros(7)}


def test_modalities_are_the_arrays_without_another_meaning():
    found, words = kinds.describe(kinds.facts({**FIELDS, 'version': np.array(3)}), where='a.npz')
    assert list(found) == ['emg', 'cam', 'goal_target']  # there is no `goal`
    lines = words.splitlines()
    assert lines[0].startswith('a.npz: ') and lines[1].startswith('  emg float32 [n, 100, 2]: sequence of 100 samples')
    assert '50 tokens of 2' in lines[1] and 'data.modalities.emg.kind=image' in lines[1]
    assert lines[-1] == '  not modalities: emg_present, emg_target, label, split, group, id, age, name'


def test_some_modalities_and_kind_none():
    facts = kinds.facts(FIELDS)
    assert list(kinds.describe(facts, {}, ('cam', 'emg'))[0]) == ['cam', 'emg']
    assert list(kinds.describe(facts, {'emg': {'kind': 'none'}})[0]) == ['cam', 'goal_target']
    swapped = kinds.facts({'emg': FIELDS['emg'], 'bad': zeros(8, 400)})
    assert list(kinds.describe(swapped, {'bad': {'kind': 'none'}})[0]) == ['emg']


@pytest.mark.parametrize('fields, given, names, parts', [
    ({'label': zeros(), 'age': zeros()}, {}, (), ('a.npz: no array can be a modality', 'label float32 [n], age')),
    (FIELDS, {'imu': {'kind': 'image'}}, (), ('data.modalities.imu: a.npz has no such array', 'emg, cam')),
    (FIELDS, {}, ('age',), ('data.modalities.age: a.npz has age float32 [n], which is no modality', 'emg, cam')),
    (FIELDS, {}, ('label',), ('data.modalities.label',)),
    ({'a.b': zeros(4)}, {}, (), ("'a.b' cannot be the name of a modality", 'letters')),
    ({'target': zeros(4)}, {}, (), ("'target' cannot be the name", 'target and others')),
    ({'emg': zeros(100, 2)}, {'emg': {'kind': 'none'}}, (), ('no array can be a modality', 'emg')),
])
def test_refused_names(fields, given, names, parts):
    with pytest.raises(UserError) as e:
        kinds.describe(kinds.facts(fields), given, names, 'a.npz')
    assert all(p in str(e.value) for p in parts), str(e.value)


def test_the_whole_is_said_where_nothing_else_divides():
    assert 'all of it: 101 has no smaller divisor' in kinds.describe(kinds.facts({'x': zeros(101)}))[1]
    assert 'all of it' not in kinds.describe(kinds.facts({'x': zeros(100)}))[1]


def test_the_range_of_whole_numbers_leaves_out_what_is_missing():
    x = np.array([[0, 4], [-1, -1], [7, 2]])
    assert kinds.fact(x, np.array([True, False, True])) == kinds.Fact((2,), x.dtype, 0, 7)
    assert kinds.fact(x) == kinds.Fact((2,), x.dtype, -1, 7)
    assert kinds.fact(x, np.zeros(3, bool)) == kinds.Fact((2,), x.dtype)
    assert kinds.fact(x, np.zeros((3, 1))) == kinds.fact(x)  # no mask: refused where the array is used


def test_facts_without_a_range_ask_for_the_vocabulary():
    facts = {'text': kinds.Fact((12,), np.dtype(INT)), 'cam': kinds.Fact((None, None, 3), np.dtype(BYTE))}
    with pytest.raises(UserError, match='text int64 .n, 12. are whole numbers of which no range is known; set'):
        kinds.describe(facts, {}, ('text',))
    with pytest.raises(UserError, match='data.modalities.text.vocab is 0 and cannot be read off'):
        kinds.describe(facts, {'text': {'kind': 'tokens'}}, ('text',))
    assert kinds.describe(facts, {'text': {'vocab': 40}}, ('text',))[0]['text']['vocab'] == 40
    with pytest.raises(UserError, match=r'cam uint8 .n, \?, \?, 3. varies in shape'):
        kinds.describe(facts, {'text': {'vocab': 40}})


@pytest.mark.parametrize('given, expected', [
    ({'kind': 'image', 'shape': (8, 8, 2), 'patch': 4, 'vocab': 0}, False),
    ({'kind': 'tokens', 'shape': (8,), 'patch': 1, 'vocab': 9}, False),
    ({'kind': 'tokens', 'shape': (8,), 'patch': 1, 'vocab': 0}, True),
    ({'kind': '', 'shape': (8, 8, 2), 'patch': 4}, True), ({'kind': 'image', 'shape': (), 'patch': 4}, True),
    ({'kind': 'image', 'shape': (8, 8, 2), 'patch': 0}, True), ({}, True),
])
def test_what_is_open(given, expected):
    assert kinds.is_open(given) == expected
