"""PSICOV, distances in proteins: protein/{deepcov,psicov}/features/ID.pkl and distance/ID-cb.npy, lists {..}.lst.

Layout and channels: PDNET (Adhikari 2020) as in the public code of NAS-Bench-360 and ORCA.
"""
from __future__ import annotations

import pathlib

import numpy as np

from fipjax.data import unpickle
from fipjax.data.builders import reading
from fipjax.data.builders.nas_bench_360.drive import DRIVE
from fipjax.data.builders.prepared import File, Opened, Task
from fipjax.errors import UserError

SIZE, CHANNELS, MARGIN = 512, 57, 5
FAR, CLIPPED = 100.0, 16.0  # distance outside of the protein; most that is to be predicted in training
VALIDATION = 100  # the first of deepcov.lst


def open_files(manual_dir: pathlib.Path) -> Opened:
    """x [512, 512, 57], y [512, 512, 1] distances in angstrom, group: the protein, residues: its length.

    Proteins lie from row and column 5 on, zeros and 100 angstrom around them; training and validation distances end at
    16 angstrom, as in the benchmark, those of test do not. Longer proteins than fit are cut at random, the same way
    every time. 3356 / 100 / 150 examples; ORCA trains on the first two. An example is 61 MB before compression.
    """
    folder = manual_dir / 'protein'
    lists = {name: _list(folder / f'{name}.lst') for name in ('deepcov', 'psicov')}
    n = min(VALIDATION, len(lists['deepcov']) // 2)
    parts = {'train': ('deepcov', slice(n, None), CLIPPED), 'validation': ('deepcov', slice(n), CLIPPED),
             'test': ('psicov', slice(None), np.inf)}
    return Opened({'x': ((SIZE, SIZE, CHANNELS), np.float32), 'y': ((SIZE, SIZE, 1), np.float32),
                   'group': ((), str), 'residues': ((), np.int32)},
                  {split: _rows(folder / name, lists[name][which], most)
                   for split, (name, which, most) in parts.items()}, shard=4)


def _list(path):
    ids = [line.split()[0] for line in path.read_text(encoding='ascii').splitlines() if line.strip()]
    twice = {k for k in ids if ids.count(k) > 1} if len(set(ids)) < len(ids) else ()
    if not ids or twice:
        raise UserError(f'{path}: {f"protein {min(twice)!r} is there twice" if ids else "no protein"}')
    for k in ids:
        if not k.replace('-', '').replace('_', '').isalnum():
            raise UserError(f'{path}: {k!r} is no name of a protein')
    return ids


def _rows(folder, names, most):
    def read(names):
        for name in names:
            path = folder / 'features' / f'{name}.pkl'
            x, y = channels(path), distances(folder / 'distance' / f'{name}-cb.npy')
            if len(x) != len(y):
                raise UserError(f'{path}: {len(x)} residues, but {name}-cb.npy has {len(y)}')
            rng = np.random.default_rng([reading.VALIDATION_SEED, *str(name).encode()])
            corner = rng.integers(0, max(1, len(x) + 2 * MARGIN - SIZE + 1), 2)
            yield {'x': _placed(x, 0.0, corner), 'group': str(name), 'residues': len(x),
                   'y': np.minimum(_placed(y[..., None], FAR, corner), np.float32(most))}
    return reading.gather(np.array(names), read)


def _placed(x, around, corner):
    """[L, L, C] with a margin in a picture [SIZE, SIZE, C]; of larger ones the part from `corner` on."""
    n = len(x) + 2 * MARGIN
    out = np.full((max(n, SIZE),) * 2 + x.shape[2:], around, np.float32)
    out[MARGIN:n - MARGIN, MARGIN:n - MARGIN] = x
    row, column = corner
    return np.ascontiguousarray(out[row:row + SIZE, column:column + SIZE])


def channels(path: pathlib.Path) -> np.ndarray:
    """The 57 channels of a protein [L, L, 57] from its .pkl.

    Each of 3 secondary structures, 22 columns of the profile, solvent accessibility and entropy gives two, its value at
    the column's and at the row's residue; CCMpred, FreeContact and the contact potential give one each.

    Raises:
      UserError: not a pickle of plain arrays, or of other shapes.
    """
    if not path.is_file():
        raise UserError(f'{path}: no such file')
    with path.open('rb') as f:
        held = unpickle.objects(f, path)
    if not isinstance(held, dict) or not isinstance(held.get('seq'), str):
        raise UserError(f"{path}: expected a dictionary with the sequence 'seq'")
    n = len(held['seq'])
    for name, shape in {'ss': (3, n), 'pssm': (n, 22), 'sa': (n,), 'entropy': (n,), 'ccmpred': (n, n),
                        'freecon': (n, n), 'potential': (n, n)}.items():
        if not isinstance(held.get(name), np.ndarray):
            raise UserError(f'{path}: no array {name!r}; found {sorted(held)}')
        reading.check(f'{path}: {name!r}', held[name].shape, held[name].dtype, shape, 'fiu')
    single = np.concatenate((held['ss'], held['pssm'].T, held['sa'][None], held['entropy'][None]))
    out = np.empty((n, n, CHANNELS), np.float32)
    out[..., 0:54:2], out[..., 1:54:2] = single.T[None], single.T[:, None]
    for k, name in enumerate(('ccmpred', 'freecon', 'potential')):
        out[..., 54 + k] = held[name]
    return np.nan_to_num(out)


def distances(path: pathlib.Path) -> np.ndarray:
    """Distances [L, L] of the C-beta atoms from ID-cb.npy, an array of (L, sequence, distances).

    At least 1 angstrom; on the diagonal the mean of the neighbours in the row, at the ends the one there is.

    Raises:
      UserError: not such a file, not square, not finite.
    """
    held = unpickle.npy(path)
    if not isinstance(held, list) or len(held) != 3 or not isinstance(held[2], np.ndarray):
        raise UserError(f'{path}: expected length, sequence and distances')
    n = int(held[0])
    reading.check(f'{path}: distances', held[2].shape, held[2].dtype, (n, n), 'f')
    out = np.maximum(held[2].astype(np.float64), 1.0)
    if not np.isfinite(out).all():
        raise UserError(f'{path}: distances have NaN or infinity')
    ends, at = (out[0, 1], out[-1, -2]), np.arange(1, n - 1)
    # The mean is of neighbours off the diagonal, so the order does not matter.
    out[at, at] = (out[at, at - 1] + out[at, at + 1]) / 2
    out[0, 0], out[-1, -1] = ends
    return out


TASK = Task('nas_bench_360/psicov', 'features of pairs of residues -> their distance. Validation: the first hundred of '
            'deepcov.lst; ORCA trains on them too.',
            (File('protein', '1.1 GB zipped: deepcov.lst, psicov.lst, and for deepcov and psicov features/*.pkl and '
                  'distance/*-cb.npy', DRIVE),), open_files)
