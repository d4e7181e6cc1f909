"""What the shapes of labelled arrays mean: 1d, 2d or text, which axis holds the channels, which kind of target.

Nothing here looks at a value of a test example, except that labels are listed to name the classes.
"""
from __future__ import annotations

import numpy as np

from fipjax.data import vl
from fipjax.data import words as words_lib
from fipjax.errors import UserError

KINDS = ('1d', '2d', 'text')
OUTPUTS = ('classes', 'multilabel', 'dense')


def brackets(shape) -> str:
    """A shape for people: [780, 8, 400]."""
    return f'[{", ".join(map(str, shape))}]'


def inputs(x: np.ndarray, layout: str, kind: str, where: str, key: str):
    """Finds out whether x is 1d, 2d or text and moves its channels to the end.

    Args:
      x: [n, L], [n, C, L], [n, H, W] or [n, C, H, W]; with layout 'last' [n, L, C] and [n, H, W, C]; texts, str or
        bytes (UTF-8) [n].
      layout: 'first' or 'last', where the channels stand.
      kind: '1d', '2d', 'text' or '' to read it off: three axes are one-dimensional where there are fewer channels than
        half the samples, and pictures of one channel where the two differ by at most a factor of two.
      where, key: the file and the config group, for messages.

    Returns:
      (kind, x [n, L, C] or [n, H, W, C] as a view or str [n], words for people).

    Raises:
      UserError: neither numbers nor text, another number of axes, a shape that leaves it open, `kind` that does not
        fit, empty texts.
    """
    if kind not in ('', *KINDS):
        raise UserError(f'{key}.kind is {kind!r}; allowed: 1d, 2d, text, or empty to read it off')
    shape, first = x.shape, layout == 'first'
    found = f'{where}: x has shape {brackets(shape)}'
    forms = ('[n, L], [n, C, L], [n, H, W] or [n, C, H, W]' if first
             else '[n, L], [n, L, C], [n, H, W] or [n, H, W, C]')
    if x.dtype.kind in 'US' and x.ndim == 1:
        if kind not in ('', 'text'):
            raise UserError(f'{found} and is text, which cannot be {kind} as {key}.kind says')
        return 'text', _texts(x, where), f'x {brackets(shape)}: text'
    if kind == 'text':
        raise UserError(f'{found} and type {x.dtype}, which cannot be text as {key}.kind says; allowed: strings [n]')
    if x.dtype.kind == 'c':
        raise UserError(f'{where}: x is complex; give real and imaginary part as channels, for instance '
                        f'np.stack([x.real, x.imag], 1)')
    if x.dtype.kind not in 'biuf':
        raise UserError(f'{where}: x has type {x.dtype} and shape {brackets(shape)}; numbers are needed, or strings '
                        f'[n]')
    if x.ndim not in (2, 3, 4):
        raise UserError(f'{found}; allowed: {forms}')
    if 0 in shape:
        raise UserError(f'{found}: it is empty')
    if {2: '1d', 4: '2d'}.get(x.ndim, kind) != kind != '':
        raise UserError(f'{found}, which cannot be {kind} as {key}.kind says; allowed: {forms}')
    reason = ''
    if x.ndim == 3 and not kind:
        channels, samples = shape[1:] if first else shape[:0:-1]
        kind = dimensions(channels, samples)
        if kind == '1d':
            reason = f', since {channels} < {samples} / 2; {key}.kind=2d would read pictures of one channel'
        elif kind == '2d':
            reason = f', since the two are alike; {key}.kind=1d would read {channels} channels'
        else:
            raise UserError(f'{found}, which may be {channels} channels of {samples} samples or a picture, but looks '
                            f'as if the axes were swapped. Expected: {forms}. For {samples} channels of {channels} '
                            f'samples save x.transpose(0, 2, 1), else set {key}.kind to 1d or 2d')
    if x.ndim == 4 and first and not kind and shape[-1] <= 4 < shape[1]:
        raise UserError(f'{found}: pictures {shape[-1]} pixels wide with {shape[1]} channels? Channels come first, '
                        f'[n, C, H, W]; save x.transpose(0, 3, 1, 2), or set {key}.kind=2d if it is meant so')
    kind = kind or {2: '1d', 4: '2d'}[x.ndim]
    x = _channels_last(x, kind, first)
    channels = _count(x.shape[-1], 'channel')
    what = f'{channels} of {x.shape[1]} samples' if kind == '1d' else f'{x.shape[1]} x {x.shape[2]}, {channels}'
    return kind, x, f'x {x.dtype} {brackets(shape)}: {kind}, {what}{reason}'


def _texts(x, where):
    """str [n], none of them empty."""
    try:
        x = np.char.decode(x) if x.dtype.kind == 'S' else x
    except UnicodeDecodeError as e:
        raise UserError(f'{where}: x is no text in UTF-8: {e}') from e
    empty = np.char.str_len(np.char.strip(x)) == 0
    if empty.any():
        raise UserError(f'{where}: x is an empty text in {int(empty.sum())} examples, the first is '
                        f'{int(np.argmax(empty))}')
    return x


def pieces(texts: np.ndarray, tokenizer: str, length: int, about: str, where: str, key: str):
    """Texts as word pieces.

    Args:
      texts: str [n].
      tokenizer: see fipjax.data.words.
      length: L, most word pieces, [CLS] and [SEP] among them.
      about: words about x for people.
      where, key: the file and the config group, for messages.

    Returns:
      (int32 [n, L], how many of them are no padding int32 [n] or None where all are, size of the vocabulary, words for
      people).

    Raises:
      UserError: no tokenizer, or none that can be read.
    """
    if not tokenizer:
        raise UserError(f'{where}: x is text, but {key}.tokenizer is empty; allowed: basic, minilm or the path of a '
                        f'tokenizer')
    known = words_lib.build(tokenizer, f'{key}.tokenizer')
    found = vl.encode(known, texts, None, length)
    lengths, unknown = found.mask.sum(1, dtype=np.int32), 100 * (found.tokens == known.unk)[found.mask].mean()
    about += f', at most {length} word pieces ({tokenizer}, {known.size} different ones)'
    about += f', {found.cut} texts cut' if found.cut else ''
    about += f', {unknown:.1f} % unknown' if unknown >= 0.05 else ''
    return found.tokens, None if (lengths == length).all() else lengths, known.size, about


def dimensions(channels: int, samples: int) -> str:
    """'1d' if there are fewer channels than half the samples, '2d' if the two differ by at most a factor of two, or ''.
    """
    if 2 * channels < samples:
        return '1d'
    return '2d' if channels <= 2 * samples else ''


def _channels_last(x, kind, first):
    if x.ndim == (2 if kind == '1d' else 3):
        return x[..., None]
    return np.moveaxis(x, 1, -1) if first else x


def labels(y: np.ndarray, classes, where: str):
    """Labels as numbers of classes.

    Args:
      y: [n] of strings, whole numbers or bool.
      classes: names of the classes 0..K-1 where they are known, else ().
      where: the file, for messages.

    Returns:
      (int32 [n] in [0, K), names of the K classes, words for people).

    Raises:
      UserError: numbers that are not whole, labels outside of `classes`, one class only.
    """
    if y.dtype.kind == 'S':
        y = np.char.decode(y)
    words = f'y {y.dtype} {brackets(y.shape)}'
    if y.dtype.kind == 'f':
        if (y != np.round(y)).any():
            raise UserError(f'{where}: y {brackets(y.shape)} has numbers that are not whole, {y[y != np.round(y)][0]} '
                            f'for instance. Predicting one number an example is not offered: give classes (integers or '
                            f'strings [n]), labels [n, K] of 0 and 1, or a target for every sample')
        y = y.astype(np.int64)
    if y.dtype.kind not in 'biuU':
        raise UserError(f'{where}: y has type {y.dtype}; expected integers or strings')
    names, codes = np.unique(y, return_inverse=True)
    if classes:
        if y.dtype.kind == 'U' or names[0] < 0 or names[-1] >= len(classes):
            raise UserError(f'{where}: y holds {names[0]} to {names[-1]}; expected 0..{len(classes) - 1}, the '
                            f'numbers of the classes')
        codes, names = y.astype(np.int64), classes
    elif len(names) < 2:
        raise UserError(f'{where}: y is {names[0]} everywhere; at least two classes are needed')
    elif y.dtype.kind == 'U':
        words += f', strings sorted, {_mapping(names)}'
    elif not np.array_equal(names, np.arange(len(names))):
        words += f', labels mapped, {_mapping(names)}'
    return codes.astype(np.int32), tuple(str(k) for k in names), f'{words}: {len(names)} classes'


def _count(n, what):
    return f'{n} {what}{"s" * (n != 1)}'


def _mapping(names):
    return f'{names[0]} -> 0, ..., {names[-1]} -> {len(names) - 1}'


def targets(y: np.ndarray, shape, kind: str, layout: str, output: str, seen: np.ndarray, where: str, key: str):
    """Finds out whether y, of two axes or more, is multilabel or dense, and moves its channels to the end.

    Args:
      y: [n, K]; for 1d x [n, L] or [n, K, L], for 2d x [n, H, W] or [n, K, H, W]; layout 'last': channels last. Text
        has no dense y.
      shape: of one x, channels last.
      kind, layout: of x.
      output: 'multilabel', 'dense' or '' to read it off.
      seen: bool [n], the examples whose values may be looked at (those outside of the test split).
      where, key: the file and the config group, for messages.

    Returns:
      ('multilabel' or 'dense', y as a view with channels last, words for people).

    Raises:
      UserError: a shape or a type that fits neither.
    """
    found = f'{where}: y {y.dtype} {brackets(y.shape)}'
    forms = {'1d': '[n, L] or [n, K, L]', '2d': '[n, H, W] or [n, K, H, W]'}
    if layout == 'last':
        forms = {'1d': '[n, L] or [n, L, K]', '2d': '[n, H, W] or [n, H, W, K]'}
    allowed = 'allowed: [n] integers or strings (classes), [n, K] of 0 and 1 (multilabel)'
    if kind != 'text':
        allowed += f', or for {kind} x float {forms[kind]} (dense)'
    if y.dtype.kind not in 'biuf' or 0 in y.shape:
        raise UserError(f'{found}; {allowed}')
    binary = y.ndim == 2 and bool(np.isin(y[seen], (0, 1)).all())
    if kind == 'text' and (output == 'dense' or not binary):
        raise UserError(f'{found} is no target for text; {allowed}')
    if not output:
        if not binary and y.dtype.kind != 'f':
            raise UserError(f'{found} is neither 0 and 1 nor floating point; {allowed}. {key}.output=dense takes it as '
                            f'numbers')
        output = 'multilabel' if binary else 'dense'
    if output == 'multilabel':
        if not binary:
            raise UserError(f'{found} cannot be multilabel: expected [n, K] of 0 and 1')
        hint = ''
        if (y[seen].sum(1) == 1).all():
            hint = f' (each example has exactly one: {key}.output=classes would make them classes)'
        return output, y, f'y {y.dtype} {brackets(y.shape)}: {y.shape[1]} labels of which several may hold{hint}'
    if y.ndim not in ((2, 3) if kind == '1d' else (3, 4)):
        raise UserError(f'{found} is no target for x of shape {brackets(("n", *shape))} (channels last); {allowed}')
    y = _channels_last(y, kind, layout == 'first')
    if kind == '1d' and y.shape[1] != shape[0]:
        raise UserError(f'{found}: {y.shape[1]} samples, x has {shape[0]}; a dense 1d target needs one value a sample. '
                        f'{allowed}')
    return 'dense', y, f'y {y.dtype}: dense, {brackets(y.shape[1:-1])} values of {_count(y.shape[-1], "channel")}'
