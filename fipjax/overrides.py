"""Dotted keys of a config: reading, listing, setting them from text, and finding them in a command line."""
from __future__ import annotations

import ast
import difflib
from collections.abc import Sequence

from ml_collections import ConfigDict

from fipjax.errors import UserError


def get(config: ConfigDict, key: str):
    """The value at a dotted key."""
    for part in key.split('.'):
        config = config[part]
    return config


def keys(config: ConfigDict) -> list[str]:
    """All dotted keys of the leaves."""
    out = []
    for name in config:
        inside = config[name]
        out += [f'{name}.{k}' for k in keys(inside)] if isinstance(inside, ConfigDict) else [name]
    return out


def override(config: ConfigDict, key: str, text: str) -> None:
    """Sets a dotted key from text, by the type the key has. Tuples: `5,50` or `(5, 50)`. Changes `config`.

    Raises:
      UserError: unknown key (with the nearest one) or text that is not of the key's type.
    """
    known = keys(config)
    if key not in known:
        inside = [k for k in known if k.startswith(key + '.')]
        if inside:
            raise UserError(f'--config.{key}={text}: {key} is a group; set one of {", ".join(inside)}')
        near = difflib.get_close_matches(key, known, n=3, cutoff=0.5)
        siblings = [k for k in known if '.' in key and k.startswith(key.rsplit('.', 1)[0] + '.')]
        hint = f'did you mean {" or ".join(near)}?' if near else ''
        allowed = f' allowed here: {", ".join(siblings)}' if siblings else ''
        raise UserError(f'--config.{key}={text}: unknown config key {key!r}; {hint}{allowed}')
    group, _, leaf = key.rpartition('.')
    node = get(config, group) if group else config
    kind = node.get_type(leaf)
    try:
        node[leaf] = _parse(text, kind, node[leaf])
    except (ValueError, SyntaxError, TypeError) as e:
        raise UserError(f'--config.{key}={text}: {key} must be of type {kind.__name__}, e.g. {node[leaf]!r}') from e


def _parse(text: str, kind: type, example):
    if kind is bool:
        return {'true': True, '1': True, 'false': False, '0': False}.get(text.lower()) \
            if text.lower() in ('true', '1', 'false', '0') else _fail(text)
    if kind is tuple:
        inner = text.strip().removeprefix('(').removesuffix(')')
        items = [t.strip() for t in inner.split(',') if t.strip()]
        return tuple(_literal(t) if not example else type(example[0])(_literal(t)) for t in items)
    return kind(text)


def _literal(text: str):
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _fail(text: str):
    raise ValueError(text)


def split_argv(argv: Sequence[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """Takes `--config.KEY=VALUE` (or `--config.KEY VALUE`) out of a command line: (the rest, overrides).

    Raises:
      UserError: an override without a value.
    """
    rest, overrides, words = [], [], list(argv)
    while words:
        word = words.pop(0)
        if not word.startswith(('--config.', '-config.')):
            rest.append(word)
            continue
        key, equals, value = word.lstrip('-')[len('config.'):].partition('=')
        if not equals and key != 'help':
            if not words or words[0].startswith('--'):
                raise UserError(f'{word}: no value given; write {word}=VALUE')
            value = words.pop(0)
        overrides.append((key, value))
    return rest, overrides
