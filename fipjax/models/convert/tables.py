"""Published weights beside ours: each family's names and layouts in one table, which is read in both directions.

A linear layer's weight is [out, in] there and [in, out] here; a patch projection's [width, C, p, p] is [p * p * C,
width] here; layers that are numbered there lie along a leading axis here. Pure NumPy.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from fipjax.errors import UserError

NAMED = 5  # tensors that an error names


class Layout(NamedTuple):
    """How an array lies in memory: to ours, and back."""

    ours: Callable
    theirs: Callable


SAME = Layout(lambda x: x, lambda x: x)
LINEAR = Layout(lambda x: x.T, lambda x: x.T)


def patches(side: int) -> Layout:
    """Of a convolution whose stride is its size, `side` x `side` pixels."""
    return Layout(lambda x: x.transpose(2, 3, 1, 0).reshape(-1, len(x)),
                  lambda x: x.reshape(side, side, -1, x.shape[-1]).transpose(3, 2, 0, 1))


class Entry(NamedTuple):
    """One leaf of our parameters.

    Attributes:
      ours: its path, e.g. 'blocks.attention.query.kernel'.
      theirs: its name in the file, '{i}' standing for the number of the layer.
      layout: of one layer.
      layers: numbers of the layers that ours stacks along a leading axis; None where it is one array.
    """

    ours: str
    theirs: str
    layout: Layout = SAME
    layers: Sequence[int] | None = None

    @property
    def names(self) -> list[str]:
        """All names in the file."""
        return [self.theirs] if self.layers is None else [self.theirs.replace('{i}', str(i)) for i in self.layers]


def linear(ours: str, theirs: str, bias: bool = True) -> list[Entry]:
    """A linear layer."""
    kernel = [Entry(f'{ours}.kernel', f'{theirs}.weight', LINEAR)]
    return kernel + [Entry(f'{ours}.bias', f'{theirs}.bias')] if bias else kernel


def norm(ours: str, theirs: str) -> list[Entry]:
    """A LayerNorm."""
    return [Entry(f'{ours}.scale', f'{theirs}.weight'), Entry(f'{ours}.bias', f'{theirs}.bias')]


def block(inside: str, out: str, hidden: str, last: str, norms: tuple[str, str]) -> list[Entry]:
    """One transformer layer as fipjax.models has it: names of the projections, of the output, of the MLP's layers."""
    return [*(e for n in ('query', 'key', 'value') for e in linear(f'attention.{n}', f'{inside}.{n}')),
            *linear('attention.out', out), *linear('mlp.hidden', hidden), *linear('mlp.out', last),
            *norm('attention_norm', norms[0]), *norm('mlp_norm', norms[1])]


def stacked(entries: Sequence[Entry], ours: str, theirs: str, layers: Sequence[int]) -> list[Entry]:
    """Entries of one layer as those of several; `theirs` holds '{i}'."""
    return [e._replace(ours=f'{ours}.{e.ours}', theirs=f'{theirs}.{e.theirs}', layers=layers) for e in entries]


def depth(state: Mapping, name: str) -> int:
    """How many numbered layers a file has: `name`, which ends in '{i}', is what they are called."""
    before = name.removesuffix('{i}')
    found = {k.partition(before)[2].partition('.')[0] for k in state if before in k}
    return sum(1 for k in found if k.isdigit())


class Report(NamedTuple):
    """What became of a file's tensors.

    Attributes:
      loaded: (name in the file, its shape there, path here, shape of that layer here).
      unused: (name, shape) of what no entry asks for.
      prefix: what all names that were found begin with.
    """

    loaded: list[tuple[str, tuple, str, tuple]]
    unused: list[tuple[str, tuple]]
    prefix: str

    def __str__(self) -> str:
        """A line for each tensor."""
        size = lambda shape: 'x'.join(map(str, shape)) or 'scalar'  # noqa: E731
        lines = [f'{"loaded" if there == here else "reshaped"}  {self.prefix}{name} [{size(there)}] -> {path} '
                 f'[{size(here)}]' for name, there, path, here in self.loaded]
        return '\n'.join([*lines, *(f'unused  {name} [{size(shape)}]' for name, shape in self.unused)])


def read(entries: Sequence[Entry], state: Mapping[str, np.ndarray], where: str) -> tuple[dict, Report]:
    """Our parameters from those of a file.

    Args:
      entries: the family's table.
      state: name -> array. Names may have a prefix in common, as those of a model within a larger one have, and
        LayerNorms may have 'gamma' and 'beta', as in files from BERT's first years.
      where: the file, for messages.

    Returns:
      A nested dict of arrays, and what became of each tensor.

    Raises:
      UserError: tensors are missing, or layers of one stack differ in shape.
    """
    state = {modern(k): v for k, v in state.items()}
    wanted = [(e, name) for e in entries for name in e.names]
    prefix = _prefix([name for _, name in wanted], state)
    missing = [name for _, name in wanted if prefix + name not in state]
    if missing:
        raise UserError(f'{where}: {len(missing)} of {len(wanted)} tensors are missing: {_some(missing)}; the file '
                        f'has {len(state)}: {_some(list(state))}')
    params, loaded, used = {}, [], set()
    for e in entries:
        parts = [e.layout.ours(np.asarray(state[prefix + name])) for name in e.names]
        if len({p.shape for p in parts}) > 1:
            raise UserError(f'{where}: {e.theirs} differs in shape from layer to layer: '
                            f'{_some(sorted({str(p.shape) for p in parts}))}')
        *folders, leaf = e.ours.split('.')
        here = params
        for folder in folders:
            here = here.setdefault(folder, {})
        here[leaf] = parts[0] if e.layers is None else np.stack(parts)
        loaded += [(name, np.shape(state[prefix + name]), e.ours, p.shape)
                   for name, p in zip(e.names, parts, strict=True)]
        used |= {prefix + name for name in e.names}
    return params, Report(loaded, [(k, np.shape(v)) for k, v in state.items() if k not in used], prefix)


def write(entries: Sequence[Entry], params: Mapping) -> dict[str, np.ndarray]:
    """The inverse of `read`: name -> array; raises KeyError where the parameters lack a leaf."""
    state = {}
    for e in entries:
        value = params
        for part in e.ours.split('.'):
            value = value[part]
        for name, part in zip(e.names, [value] if e.layers is None else value, strict=True):
            state[name] = np.ascontiguousarray(e.layout.theirs(np.asarray(part)))
    return state


def modern(name: str) -> str:
    """A tensor's name as files have it since BERT's first years."""
    for old, new in (('.gamma', '.weight'), ('.beta', '.bias')):
        if name.endswith(f'LayerNorm{old}'):
            return name.removesuffix(old) + new
    return name


def _prefix(names, state):
    """What to put before the names so that most of them are there; the shortest of equals."""
    found = {k.removesuffix(name) for name in names[:NAMED] for k in state if k == name or k.endswith(f'.{name}')}
    return max(sorted(found, key=len), key=lambda p: sum(p + n in state for n in names), default='')


def _some(names):
    return ', '.join(names[:NAMED]) + (f' and {len(names) - NAMED} more' if len(names) > NAMED else '')
