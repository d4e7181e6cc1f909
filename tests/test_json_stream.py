"""JSON an item at a time: the same as all at once, wherever the pieces end; cut off anywhere it says so."""
import json
import tracemalloc

import pytest

from fipjax.data import json_stream
from fipjax.errors import UserError

DATA = {'info': {'a': [1, {'items': [2]}]}, 'n': 12345678901234567890, 'other': [[1], {'x': ']'}, 'é,"', 3],
        'items': [{'q': i, 't': 'a"\\]}' * i, 'u': 'ü\u2028'} for i in range(12)], 'z': -1.5e10, 'end': None}


def save(tmp_path, text):
    path = tmp_path / 'x.json'
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize('piece', [1, 7, 2 ** 20])
@pytest.mark.parametrize('how', [{}, {'indent': 1}, {'ensure_ascii': False}, {'separators': (',', ':')}])
def test_the_same_as_all_at_once(tmp_path, monkeypatch, piece, how):
    monkeypatch.setattr(json_stream, 'PIECE', piece)
    path = save(tmp_path, json.dumps(DATA, **how))
    found = list(json_stream.items(path, 'items'))
    assert [x for _, x in found] == DATA['items'] and found[3][0] == f'{path}, items 3'
    path = save(tmp_path, json.dumps(DATA['items'], **how) + '\n')
    assert [x for _, x in json_stream.items(path)] == DATA['items']
    assert list(json_stream.items(save(tmp_path, '{"a": 1, "items": []}'), 'items')) == []
    assert list(json_stream.items(save(tmp_path, ' [ ] '))) == []


def test_only_a_piece_is_held(tmp_path, monkeypatch):
    monkeypatch.setattr(json_stream, 'PIECE', 2 ** 16)
    path = save(tmp_path, json.dumps({'x': list(range(5000)), 'items': [{'a': 'b' * 1000}] * 2000}))
    tracemalloc.start()
    assert sum(len(x['a']) for _, x in json_stream.items(path, 'items')) == 2 * 10 ** 6
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 2 ** 16 < path.stat().st_size / 3


def test_cut_off_anywhere(tmp_path):
    for text, key in ((json.dumps(DATA), 'items'), (json.dumps(DATA['items'][:3]), '')):
        for size in range(0, len(text), 2):
            with pytest.raises(UserError, match='x.json: (the file is cut off|not JSON)'):
                list(json_stream.items(save(tmp_path, text[:size]), key))


@pytest.mark.parametrize('text, message', [
    ('{"a": [1]}', "no array 'items'"), ('{"items": 3}', "no array 'items'"), ('[]', "not JSON: '.' instead of {"),
    ('{"items": [1]}', ', items 0: int; a JSON object'), ('{"items": [{}] "b": 1}', "'\"' instead of , or }"),
    ('{"items": [{}, ]}', 'cut off or damaged'), ('{"items": [], "items": []}', "'items' is there twice"),
    ('{"items": []} {', "more after its end at character 14"), (b'{"items": [{"a": "\xff"}]}', 'not UTF-8'),
    ('{"items": [' + '[' * 10 ** 5, 'cut off or damaged'), ('{items: []}', "'i' instead of")])
def test_what_is_not_json(tmp_path, text, message):
    with pytest.raises(UserError, match=f'x.json.*{message}'):
        list(json_stream.items(save(tmp_path, text), 'items'))


def test_an_item_that_does_not_end(tmp_path, monkeypatch):
    monkeypatch.setattr(json_stream, 'PIECE', 10)
    monkeypatch.setattr(json_stream, 'LONGEST', 100)
    with pytest.raises(UserError, match='one item of more than 100 characters, or damaged: it begins at character 12'):
        list(json_stream.items(save(tmp_path, '{"items": [ "' + 'a' * 1000 + '"]}'), 'items'))


def test_lines(tmp_path):
    path = save(tmp_path, '{"a": 1}\r\n\n{"b": "\u2028"}')
    assert list(json_stream.lines(path)) == [(f'{path}, line 1', {'a': 1}), (f'{path}, line 3', {'b': '\u2028'})]
    for text, message in (('{"a": 1}\n{', 'line 2: not JSON'), ('[]', 'line 1: list; a JSON object'),
                          (b'{"a": "\xff"}', 'line 1: not JSON in UTF-8')):
        with pytest.raises(UserError, match=f'x.json, {message}'):
            list(json_stream.lines(save(tmp_path, text)))
    with pytest.raises(UserError, match='none: no such file'):
        list(json_stream.lines(tmp_path / 'none'))
