"""What arrays are as modalities: kind, shape, patch and vocabulary read off shapes and types, as far as not given.

Every array [n, ...] of numbers with two axes or more is a modality, but for `label`, `split`, `group`, `id`, and
`<m>_present` and `<m>_target` of another array m; arrays [n] are facts about examples.

    [n, L] whole numbers   tokens of shape (L,), vocab one more than the largest (they are 0 or more, below 100000)
    [n, L] other numbers   sequence of shape (L, 1)
    [n, L, C]              sequence if C < L / 2; image of shape (L, C, 1) if the two differ by a factor of two at most
    [n, H, W, C]           image

The patch is the smallest one that leaves at most 64 tokens and cuts sequences, or both sides of images, evenly. Nothing
is read off the values of an array, except the range of whole numbers.
"""
from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from fipjax.data import shapes
from fipjax.errors import UserError
from fipjax.modality import KINDS, RANKS, Modality

NOT_MODALITIES = ('label', 'split', 'group', 'id')
ROLES = ('target', 'others')  # what settings per modality call their two default values
MOST_TOKENS, MOST_IDS = 64, 100000
OPEN = {'kind': '', 'shape': (), 'patch': 0, 'vocab': 0}
LEFT_OUT = 'none'  # a kind that is given, and is none of KINDS


class Fact(NamedTuple):
    """What is known of an array: shape of one example (None for an axis that varies), type, range of whole numbers.

    `low` and `high` are None where the numbers are not whole, or their range is not known.
    """

    shape: tuple[int | None, ...]
    dtype: np.dtype
    low: int | None = None
    high: int | None = None

    def __str__(self) -> str:
        return f'{self.dtype} {shapes.brackets(("n", *("?" if s is None else s for s in self.shape)))}'


def fact(x, present=None) -> Fact:
    """The Fact of an array [n, ...]; what stands in rows where `present` [n] is False is not looked at."""
    x, present = np.asarray(x), None if present is None else np.asarray(present)
    if x.dtype.kind not in 'iu' or x.ndim < 2:
        return Fact(x.shape[1:], x.dtype)
    if present is not None and present.shape == x.shape[:1] and present.dtype.kind in 'biu':
        x = x[present.astype(bool)]
    return Fact(x.shape[1:], x.dtype, *((int(x.min()), int(x.max())) if x.size else ()))


def facts(fields: Mapping) -> dict[str, Fact]:
    """The Facts of arrays by name; single values have none."""
    return {k: fact(x, fields.get(f'{k}_present')) for k, x in fields.items() if np.ndim(x)}


def is_open(given: Mapping) -> bool:
    """Whether a description of a modality leaves something to be read off."""
    kind = given.get('kind')
    return not (kind and given.get('shape') and given.get('patch') and (kind != 'tokens' or given.get('vocab')))


def describe(found: Mapping[str, Fact], given: Mapping[str, Mapping] | None = None, names: Sequence[str] = (),
             where: str = 'arrays') -> tuple[dict[str, dict], str]:
    """Complete descriptions of modalities.

    Args:
      found: Facts of all arrays.
      given: name -> some of 'kind', 'shape', 'patch' and 'vocab', which go before the rules; '', (), 0 and 0 leave them
        open. Kind 'none' says that an array is no modality.
      names: the modalities; () for all that are there.
      where: the file, for messages.

    Returns:
      (name -> {'kind', 'shape', 'patch', 'vocab'} as in `fipjax.modality.Modality`, words for people).

    Raises:
      UserError: no such array; one that fits no kind, or not the one that is given; a name that cannot be one.
    """
    given = {name: {**OPEN, **m} for name, m in (given or {}).items()}
    theirs = {*NOT_MODALITIES, *(f'{m}_{k}' for m in found for k in ('present', 'target'))}
    arrays = [k for k, f in found.items() if f.shape and k not in theirs and f.dtype.kind in 'biufc']
    for name in (*given, *names):
        if name not in arrays:
            raise UserError(f'data.modalities.{name}: {where} has '
                            + (f'{name} {found[name]}, which is no modality' if name in found else 'no such array')
                            + f'; arrays that can be one: {", ".join(arrays) or "none"}')
    names = [m for m in names or arrays if given.get(m, OPEN)['kind'] != LEFT_OUT]
    if not names:
        listed = ', '.join(f'{k} {f}' for k, f in found.items()) or 'nothing'
        raise UserError(f'{where}: no array can be a modality, which is [n, ...] numbers with two axes or more; '
                        f'found {listed}')
    out, words = {}, []
    for name in names:
        out[name], about = modality(name, found[name], given.get(name, OPEN), where)
        words.append(f'  {name} {found[name]}: {about}')
    others = [k for k in found if k not in names]
    words += [f'  not modalities: {", ".join(others)}'] * bool(others)
    head = f'{where}: modalities as read off its arrays; data.modalities.NAME.{{kind,shape,patch,vocab}} override that:'
    return out, '\n'.join((head, *words))


def modality(name: str, found: Fact | None, given: Mapping, where: str) -> tuple[dict, str]:
    """One complete description and words for people; `found` may be None where kind and shape are given.

    Raises:
      UserError: as `describe`.
    """
    key = f'data.modalities.{name}'
    if not re.fullmatch(r'[\w-]+', name) or name in ROLES:
        raise UserError(f"{where}: {name!r} cannot be the name of a modality: letters, digits, '_' and '-' are "
                        f'allowed, and {" and ".join(ROLES)} have a meaning of their own; rename the array')
    kind, shape, vocab = given['kind'], tuple(given['shape']), given['vocab']
    if kind not in ('', *KINDS):
        raise UserError(f'{key}.kind is {kind!r}; allowed: {", ".join(KINDS)}, {LEFT_OUT} for no modality, or empty to '
                        'read it off')
    if not all(isinstance(n, int) and n >= 1 for n in shape):
        raise UserError(f'{key}.shape is {shape}; expected whole numbers of at least 1')
    reason = ''
    if found is not None:
        _readable(name, found, where)
        if not kind and shape:
            kind = next((k for k, rank in RANKS.items() if rank == len(shape)), '')
        if not kind:
            kind, reason = ('tokens', '') if vocab else _kind(name, found, where)
        fitting = _shape(name, kind, found, where)
        if shape not in ((), fitting):
            raise UserError(f'{key}.shape is {shape}, but {where} has {name} {found}; allowed for kind {kind}: '
                            f'{fitting}')
        shape = fitting
    if kind == 'tokens':
        vocab = vocab or _vocab(name, found, where)
    patch = given['patch'] or _patch(name, kind, shape, where)
    done = Modality(name, kind, shape, patch, vocab)  # refuses what does not fit together
    return {'kind': kind, 'shape': shape, 'patch': patch, 'vocab': vocab}, f'{_words(done)}{reason}'


def _readable(name, found, where):
    said = f'{where}: {name} {found}'
    if found.dtype.kind == 'c':
        raise UserError(f'{said} is complex; give real and imaginary part as channels, for instance '
                        'np.stack([x.real, x.imag], -1)')
    if None in found.shape:
        raise UserError(f'{said} varies in shape; modalities are arrays of one shape. '
                        f'data.modalities.{name}.kind={LEFT_OUT} leaves it out')
    if 0 in found.shape:
        raise UserError(f'{said} is empty')


def _kind(name, found, where):
    """The kind by the rules, and what speaks for it."""
    said, key, axes = f'{where}: {name} {found}', f'data.modalities.{name}.kind', found.shape
    if len(axes) == 1:
        if found.dtype.kind not in 'iu':
            return 'sequence', ''
        if found.low is None:
            raise UserError(f'{said} are whole numbers of which no range is known; set data.modalities.{name}.vocab, '
                            f'the number of token ids, or {key}=sequence if they are measurements')
        if found.low >= 0 and found.high < MOST_IDS:
            return 'tokens', f' (whole numbers {found.low}..{found.high}; {key}=sequence reads measurements)'
        return 'sequence', ''
    if len(axes) == 2:
        length, channels = axes
        kind = shapes.dimensions(channels, length)
        if kind == '1d':
            return 'sequence', f' ({channels} < {length} / 2; {key}=image reads pictures of one channel)'
        if kind == '2d':
            return 'image', f' ({length} and {channels} are alike; {key}=sequence reads {channels} channels)'
        raise UserError(f'{said} may be {channels} channels of {length} samples or a picture, but looks as if the axes '
                        f'were swapped. Channels come last: for {length} channels of {channels} samples save '
                        f'{name}.transpose(0, 2, 1), else set {key} to sequence or image')
    if len(axes) == 3:
        if axes[0] <= 4 < axes[2]:
            raise UserError(f'{said}: pictures {axes[0]} pixels high with {axes[2]} channels? Channels come last, '
                            f'[n, H, W, C]; save {name}.transpose(0, 2, 3, 1), or set {key}=image if it is meant so')
        return 'image', ''
    raise UserError(f'{said} has {len(axes) + 1} axes; allowed: [n, L], [n, L, C], [n, H, W] and [n, H, W, C]. '
                    f'{key}={LEFT_OUT} leaves it out')


def _shape(name, kind, found, where):
    """The shape that an array has as a modality of a kind: as it is, or with the one channel that is not written."""
    forms = {'image': '[n, H, W] or [n, H, W, C]', 'sequence': '[n, L] or [n, L, C]', 'tokens': '[n, L] whole numbers'}
    missing = RANKS[kind] - len(found.shape)
    if missing not in (0, 1) or (missing and kind == 'tokens') or (kind == 'tokens' and found.dtype.kind not in 'iu'):
        raise UserError(f'{where}: {name} {found} cannot be {kind}, which is {forms[kind]} '
                        f'(data.modalities.{name}.kind, or what .shape says)')
    return (*found.shape, *[1] * missing)


def _vocab(name, found, where):
    if found is None or found.low is None:
        raise UserError(f'data.modalities.{name}.vocab is 0 and cannot be read off {where}; set the number of token '
                        'ids')
    if found.low < 0:
        raise UserError(f'{where}: {name} {found} has {found.low}; token ids are 0 or more')
    return max(found.high + 1, 2)


def _patch(name, kind, shape, where):
    """The smallest patch that divides evenly and leaves at most MOST_TOKENS tokens."""
    sizes = {'image': shape[:2], 'sequence': shape[:1], 'tokens': (1,)}[kind]
    common = math.gcd(*sizes)
    even = [p for p in range(1, common + 1) if common % p == 0]
    patch = next((p for p in even if math.prod(s // p for s in sizes) <= MOST_TOKENS), None)
    if patch is None:
        raise UserError(f'{where}: {name} is pictures of {sizes[0]} x {sizes[1]}, which no square patch cuts into at '
                        f'most {MOST_TOKENS} tokens. Crop or pad them to sizes with a large common divisor, or set '
                        f'data.modalities.{name}.patch to one of {", ".join(map(str, even))}')
    return patch


def _words(done: Modality) -> str:
    channels = lambda n: f'{n} channel{"s" * (n != 1)}'  # noqa: E731
    if done.kind == 'tokens':
        return f'{done.tokens} tokens of a vocabulary of {done.vocab}'
    if done.kind == 'image':
        h, w, c = done.shape
        return f'image of {h} x {w}, {channels(c)}: {done.tokens} tokens of {done.patch} x {done.patch}'
    length, c = done.shape
    whole = f' (all of it: {length} has no smaller divisor that leaves at most {MOST_TOKENS})'
    return (f'sequence of {length} samples, {channels(c)}: {done.tokens} token{"s" * (done.tokens != 1)} of '
            f'{done.patch}{whole * (done.tokens == 1 < done.patch)}')
