"""Large JSON files an item at a time, and files of a JSON object a line."""
from __future__ import annotations

import json
import pathlib
from collections.abc import Iterator

from fipjax import bars
from fipjax.errors import UserError

PIECE = 2 ** 20     # characters read at once
LONGEST = 2 ** 26   # characters of one item
SPACE = ' \t\r\n'


def items(path, key: str = '') -> Iterator[tuple[str, dict]]:
    """The objects of an array in a JSON file: of the array `key` in the file's object, or of the file's own array.

    One object and a piece of the file are in memory. Gives (where the object is, for messages; the object).

    Raises:
      UserError: no such file, no such array, not JSON, not UTF-8, cut off, an item that is no object.
    """
    path = _file(path)
    with path.open(encoding='utf-8-sig') as f, bars.bar(desc=f'read: {path.name}', total=path.stat().st_size, unit='B',
                                                        unit_scale=True) as bar:
        try:
            yield from _items(_Text(f, path, bar), key)
        except UnicodeDecodeError as e:
            raise UserError(f'{path}: not UTF-8 ({e.reason} at byte {e.start} of a piece)') from e


def lines(path) -> Iterator[tuple[str, dict]]:
    """The objects of a file with one a line; as `items`."""
    path = _file(path)
    with path.open('rb') as f:
        for number, line in enumerate(f, 1):
            where = f'{path}, line {number}'
            if line.strip():
                try:
                    found = json.loads(line)
                except (ValueError, RecursionError) as e:  # UnicodeDecodeError is one
                    raise UserError(f'{where}: not JSON in UTF-8: {e}') from e
                yield where, _object(found, where)


def _file(path):
    path = pathlib.Path(path)
    if not path.is_file():
        raise UserError(f'{path}: no such file')
    return path


def _object(found, where):
    if not isinstance(found, dict):
        raise UserError(f'{where}: {type(found).__name__}; a JSON object {{...}} is needed')
    return found


class _Text:
    """The text of a file from where it was read to."""

    def __init__(self, f, path, bar):
        self.f, self.path, self.bar, self.text, self.at, self.before, self.ended = f, path, bar, '', 0, 0, False
        self.decoder = json.JSONDecoder()

    def fail(self, what):
        raise UserError(f'{self.path}: {what} at character {self.before + self.at}')

    def more(self):
        """Reads on; False at the end of the file."""
        rest = self.text[self.at:]
        if len(rest) > LONGEST:
            self.fail(f'one item of more than {LONGEST} characters, or damaged: it begins')
        piece = '' if self.ended else self.f.read(max(PIECE, len(rest)))
        self.before, self.at, self.text, self.ended = self.before + self.at, 0, rest + piece, not piece
        self.bar.update(len(piece))
        return bool(piece)

    def peek(self):
        """The next character that is no space; '' at the end."""
        while True:
            while self.at < len(self.text) and self.text[self.at] in SPACE:
                self.at += 1
            if self.at < len(self.text):
                return self.text[self.at]
            if not self.more():
                return ''

    def take(self, allowed):
        """The next character, one of those allowed."""
        found = self.peek()
        if not found:
            self.fail(f'the file is cut off; expected {" or ".join(allowed)}')
        if found not in allowed:
            self.fail(f'not JSON: {found!r} instead of {" or ".join(allowed)}')
        self.at += 1
        return found

    def value(self):
        """The next value, whole."""
        self.peek()
        while True:
            try:
                found, end = self.decoder.raw_decode(self.text, self.at)
                if end < len(self.text) or self.ended:
                    self.at = end
                    return found
                self.more()  # it may go on, as numbers do
            except (ValueError, RecursionError) as e:
                if not self.more():
                    self.fail(f'the file is cut off or damaged: {str(e).split(":")[0]}')


def _items(text, key):
    if not key:
        text.take('[')
        yield from _array(text, '')
    else:
        found = False
        text.take('{')
        end = text.peek() == '}' and text.take('}')
        while end != '}':
            name = text.value() if text.peek() == '"' else text.take('"')
            text.take(':')
            if name == key and found:
                text.fail(f'{key!r} is there twice, again')
            if text.peek() == '[':
                text.take('[')
                found = found or name == key
                for where, item in _array(text, name):
                    if name == key:
                        yield where, _object(item, where)
            else:
                text.value()
            end = text.take(',}')
        if not found:
            raise UserError(f'{text.path}: no array {key!r}')
    if text.peek():
        text.fail('not JSON: more after its end')


def _array(text, name):
    number, end = 0, text.peek() == ']' and text.take(']')
    while end != ']':
        where = f'{text.path}, {name} {number}'.replace(',  ', ', item ')
        item = text.value()
        yield where, item if name else _object(item, where)
        number += 1
        end = text.take(',]')
