"""How far attention weights moved: distance of query, key, value and output kernels of two runs, layer by layer.

The study of vision-language pretraining (arXiv 2004.08744) compares weights by L1 and angular distance; its formula is
not public, so these are ours. W_a and W_b are the kernels of one projection in one layer, biases left out:

    L1(W_a, W_b) = mean |W_a - W_b|                                    in units of the weights
    angle(W_a, W_b) = arccos(<W_a, W_b> / (|W_a| |W_b|)) / pi          0 same direction, 0.5 orthogonal, 1 opposite
    angle by rows = mean over rows of angle(row of W_a, row of W_b)    a row: the weights into one output unit

Kernels are [in, out] here, so a row is a column of the array (a row of a matrix that is stored as [out, in]). The mean
over rows of their L1 is L1 itself: rows are of one length.

    python -m fipjax.analysis.drift --run=A --against=B [--out=DIR]

A and B are WORKDIR or WORKDIR:WHICH, where WHICH is 'initial', 'pretrained' or a task, e.g. 'vqa' or 'vqa@100%': what
the run kept in its folder 'parameters', or the pretrained model that it started from in its own. The default is the
last of those, in this order.
"""
from __future__ import annotations

import csv
import io
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from fipjax.analysis import knowledge, pictures, runs, table
from fipjax.analysis.names import natural
from fipjax.errors import UserError
from fipjax.evaluators.reconstruction import to_png
from fipjax.writer import write_atomically

PROJECTIONS = ('query', 'key', 'value', 'out')
DISTANCES = {'l1': 'L1', 'angular': 'angle / pi', 'angular_rows': 'angle / pi by rows'}
FIRST = ('initial', 'pretrained')  # of what a run keeps; tasks come after them
HASHES = '.sha256.json'


class Row(NamedTuple):
    """Distances of one kernel: attention group, layer from 0, projection, and the three distances."""

    group: str
    layer: int
    projection: str
    l1: float
    angular: float
    angular_rows: float


class Kept(NamedTuple):
    """Parameters that a run kept: workdir, which of them, path of their folder, and load: () -> nested dict."""

    workdir: pathlib.Path
    which: str
    path: pathlib.Path
    load: Callable


def l1(a, b) -> float:
    """Mean absolute difference of two arrays of one shape."""
    return float(np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64)).mean())


def angular(a, b) -> float:
    """Angle between two arrays of one shape as vectors, over pi: in [0, 1]; with an array of zeros 0.5 (of two: 0)."""
    return float(_angles(np.ravel(a)[:, None], np.ravel(b)[:, None])[0])


def angular_rows(a, b) -> float:
    """Mean over output units of the angle between their weights, over pi. Kernels [in, out] of one shape."""
    return float(_angles(a, b).mean())


def _angles(a, b):
    """Angles between the columns of [n, k] arrays, over pi: [k].

    As 2 atan2(|u - v|, |u + v|) of unit vectors, which is the arccos and keeps its digits where the angle is small.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    u, v = (x / np.maximum(np.linalg.norm(x, axis=0), np.finfo(np.float64).tiny) for x in (a, b))
    return 2 * np.arctan2(np.linalg.norm(u - v, axis=0), np.linalg.norm(u + v, axis=0)) / np.pi


def kernels(params: Mapping) -> dict[str, dict[int, dict[str, np.ndarray]]]:
    """Attention kernels in a tree of parameters: group -> layer -> projection -> [in, out].

    A group is a place with all four projections, stacked over layers ('blocks/attention', kernels [depth, in, out]) or
    one of several that are numbered ('encoder/attention' of attention_0, attention_1, ...). Of parameters with a part
    'base' only that part counts: it is what pretraining and fine-tuning share.
    """
    found: dict[str, dict[int, dict[str, np.ndarray]]] = {}

    def visit(tree, path):
        parts = {p: tree[p].get('kernel') if isinstance(tree.get(p), Mapping) else None for p in PROJECTIONS}
        if all(x is not None and np.ndim(x) in (2, 3) for x in parts.values()):
            numbered = re.fullmatch(r'(.*?)_?(\d+)', path)
            if np.ndim(parts['query']) == 3:
                group = {i: {p: np.asarray(x)[i] for p, x in parts.items()} for i in range(len(parts['query']))}
                found[path] = group
            else:
                name, layer = numbered.groups() if numbered else (path, 0)
                found.setdefault(name, {})[int(layer)] = {p: np.asarray(x) for p, x in parts.items()}
        for name in tree:
            if isinstance(tree[name], Mapping):
                visit(tree[name], f'{path}/{name}' if path else name)

    visit(params['base'] if isinstance(params.get('base'), Mapping) else params, '')
    return {group: dict(sorted(layers.items())) for group, layers in found.items()}


def measure(a: Mapping, b: Mapping, names: tuple[str, str] = ('a', 'b')) -> list[Row]:
    """Distances of all attention kernels that two trees of parameters have in common, in the order of `a`.

    Args:
      a, b: nested dicts.
      names: of a and b, for errors.

    Raises:
      UserError: no attention in one of them, none in common, other layers or other shapes.
    """
    found = kernels(a), kernels(b)
    for name, groups in zip(names, found, strict=True):
        if not groups:
            raise UserError(f'{name}: no attention there; expected groups of query, key, value and out kernels')
    shared = [group for group in found[0] if group in found[1]]
    if not shared:
        raise UserError(f'{names[0]} has attention in {", ".join(found[0])} and {names[1]} in {", ".join(found[1])}: '
                        'nothing to compare')
    rows = []
    for group in shared:
        one, other = found[0][group], found[1][group]
        if list(one) != list(other):
            raise UserError(f'{group}: {names[0]} has {len(one)} layers and {names[1]} {len(other)}')
        for layer in one:
            for projection in PROJECTIONS:
                x, y = one[layer][projection], other[layer][projection]
                if x.shape != y.shape:
                    raise UserError(f'{group}, layer {layer}, {projection}: {names[0]} has the shape {x.shape} and '
                                    f'{names[1]} {y.shape}')
                rows.append(Row(group, layer, projection, l1(x, y), angular(x, y), angular_rows(x, y)))
    return rows


def picture(rows: Sequence[Row], title: str = 'Drift of attention weights') -> dict:
    """Lines over layers, a column of panels a group: L1 above, angles below (by rows: dashed).

    Args:
      rows: from `measure`.
      title: of the picture.

    Returns:
      As pictures are given to a report, see fipjax.analysis.pictures.
    """
    groups = list(dict.fromkeys(r.group for r in rows))
    width = pictures.HALF if len(groups) < 3 else pictures.THIRD
    figure, axes = pictures.panels(2 * len(groups), width=width, height=2.5, columns=len(groups))
    look = pictures.styles(PROJECTIONS)
    for place, group in enumerate(groups):
        upper, lower = axes[place], axes[len(groups) + place]
        pictures.dress(upper, group, '', '' if place else 'L1')
        pictures.dress(lower, '', 'layer', '' if place else 'angle / pi')
        for projection, style in look.items():
            mine = [r for r in rows if (r.group, r.projection) == (group, projection)]
            layers = [r.layer for r in mine]
            for axis, key, line in ((upper, 'l1', '-'), (lower, 'angular', '-'), (lower, 'angular_rows', '--')):
                axis.plot(layers, [getattr(r, key) for r in mine], line, color=style.colour, marker=style.marker,
                          markersize=4, linewidth=1.3, label=projection + (' by rows' if line == '--' else ''))
        for axis, keys in ((upper, ('l1',)), (lower, ('angular', 'angular_rows'))):
            axis.set_xticks(layers)
            axis.set_ylim(0, 1.08 * max(getattr(r, k) for r in rows for k in keys) or 1)  # groups on one scale
    pictures.legend(figure, axes, 8 if len(groups) > 1 else 4)
    return {'title': title, 'png': to_png(figure), 'wide': len(groups) > 1,
            'caption': 'L1: mean absolute difference of the kernels. Angle between them as vectors, 0.5 is orthogonal; '
                       'by rows: mean over output units.'}


def grid(rows: Sequence[Row], footer: Sequence[tuple[str, str]] = ()) -> table.Grid:
    """A line a layer and, of each group, one of means over layers; columns are distances by projection."""
    header = ('attention', 'layer', *(f'{title}, {p}' for title in DISTANCES.values() for p in PROJECTIONS))
    lines = []
    for group in dict.fromkeys(r.group for r in rows):
        by_layer: dict[str, list[Row]] = {}
        for row in (r for r in rows if r.group == group):
            by_layer.setdefault(str(row.layer), []).append(row)
        by_layer |= {'mean': [r for r in rows if r.group == group]}
        for layer, found in by_layer.items():
            cells = (np.mean([getattr(r, key) for r in found if r.projection == p]) for key in DISTANCES
                     for p in PROJECTIONS)
            lines.append(('variant', (group, layer, *(f'{x:.4g}' for x in cells))))
    return table.Grid(header, lines, tuple(footer), ())


# --- The command ------------------------------------------------------------------------------------------------------

def kept(workdir: pathlib.Path) -> list[Kept]:
    """What a run and its pretrained model kept: 'initial', 'pretrained', then by name; without any the run's stages."""
    # Imported here: a wrong command line is answered before JAX is loaded.
    from fipjax import checkpoint
    root, found = workdir / 'parameters', []
    if (workdir / f'parameters{HASHES}').exists():  # a source model: the folder itself
        found = [Kept(workdir, 'source', root, lambda: checkpoint.read_params(root))]
    elif root.is_dir():
        for path in (p.with_name(p.name.removesuffix(HASHES)) for p in root.rglob(f'*{HASHES}')):
            found.append(Kept(workdir, path.relative_to(root).as_posix(), path,
                              lambda path=path: checkpoint.read_params(path)))
    elif (workdir / 'checkpoints').is_dir():
        for path in (p for p in (workdir / 'checkpoints').iterdir() if p.is_dir()):
            found.append(Kept(workdir, path.name, path, lambda path=path: checkpoint.load_params(workdir, path.name)))
    if (workdir / runs.RESULT).exists():  # of wing 'vlp': it may share its pretrained model with other runs
        where = runs.load_json(workdir / runs.RESULT).get('pretrained')
        shared = workdir / str(where)
        if where and shared.is_dir():
            found += [k for k in kept(shared) if k.which in FIRST]
    place = {name: i for i, name in enumerate(FIRST)}
    return sorted(found, key=lambda k: (place.get(k.which, len(FIRST)), natural(k.which)))


def find(text: str | None, flag: str) -> Kept:
    """What `--flag=text` names: WORKDIR, or WORKDIR:WHICH.

    Raises:
      UserError: nothing given, no such folder, or it has no parameters, or none of that name.
    """
    if not text:
        raise UserError(f'--{flag} is missing; usage: python -m fipjax.analysis.drift --run=A --against=B, each '
                        'WORKDIR or WORKDIR:WHICH')
    folder, _, which = (text, '', '') if pathlib.Path(text).is_dir() else text.rpartition(':')
    workdir = pathlib.Path(folder or which).absolute()
    if not workdir.is_dir():
        raise UserError(f'--{flag}={text}: no such folder')
    there = kept(workdir)
    if not there:
        raise UserError(f"--{flag}={text}: no parameters there; expected the workdir of a run with a folder "
                        "'parameters'")
    matching = [k for k in there if not which or k.which.rstrip('%') == which.rstrip('%')]
    matching = matching or [k for k in there if re.split('[@/]', k.which)[0] == which]
    if not matching:
        raise UserError(f'--{flag}={text}: no parameters {which!r}; there are {", ".join(k.which for k in there)}')
    return matching[-1]


def write(run: str | None, against: str | None, out: str | None = None) -> str:
    """Compares two sets of parameters; writes drift-A-against-B.png, .json, .csv and .md.

    Args:
      run, against: WORKDIR or WORKDIR:WHICH.
      out: folder, the workdir of `run` if None.

    Returns:
      The table for people, and the paths of the files.

    Raises:
      UserError: see `find` and `measure`; both the same; a folder that cannot be written.
    """
    a, b = find(run, 'run'), find(against, 'against')
    if a.path.resolve() == b.path.resolve():
        raise UserError(f'--run={run} and --against={against} are the same parameters, {a.path}')
    names = f'{a.workdir.name}:{a.which}', f'{b.workdir.name}:{b.which}'
    rows = measure(a.load(), b.load(), names)
    folder = knowledge.folder([str(a.workdir)], out)
    other = b.which if b.workdir == a.workdir else f'{b.workdir.name}-{b.which}'
    name = f'drift-{a.which}-against-{other}'.replace('/', '-')
    files = knowledge.keep(folder, name, picture(rows, f'Drift of attention weights: {names[0]} against {names[1]}'),
                           {'run': str(a.path), 'against': str(b.path), 'rows': [r._asdict() for r in rows]})
    found = grid(rows, (('run', names[0]), ('against', names[1])))
    text = io.StringIO()
    csv.writer(text, lineterminator='\n').writerows([Row._fields, *rows])
    for suffix, content in (('csv', text.getvalue()), ('md', table.markdown(found))):
        files.append(folder / f'{name}.{suffix}')
        write_atomically(files[-1], content)
    return table.markdown(found._replace(footer=(*found.footer, *(('file', str(f)) for f in files))))


def command_line() -> None:
    """The command `python -m fipjax.analysis.drift`; exit code 2 for wrong input."""
    from absl import flags

    from fipjax import launch
    flags.DEFINE_string('run', None, 'WORKDIR or WORKDIR:WHICH; WHICH: initial, pretrained or a task (vqa, vqa@100%).')
    flags.DEFINE_string('against', None, 'The same, of what it is compared with.')
    flags.DEFINE_string('out', None, 'Folder for picture and numbers; default: the workdir of --run.')
    launch.start(lambda _: print(write(flags.FLAGS.run, flags.FLAGS.against, flags.FLAGS.out)))


if __name__ == '__main__':
    command_line()
