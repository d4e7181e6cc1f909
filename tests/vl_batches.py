"""Small models of words and regions, batches for them and their golden files."""
from __future__ import annotations

import pathlib

import jax
import numpy as np
import tiny
from ml_collections import ConfigDict

from fipjax.models import vl

VOCAB, FEATURES, OUTPUTS, LENGTH = 13, 5, 4, 8
GOLDEN = pathlib.Path(__file__).parent / 'golden'


def settings(**changes) -> ConfigDict:
    """The config group `network`."""
    return ConfigDict({'variant': 'cpu', 'width': 0, 'depth': 0, 'heads': 0, 'layers': 'scan', 'remat': False,
                       **changes})


def model(name='visualbert', tied=True, vocab=VOCAB, features=FEATURES, length=LENGTH, **changes) -> vl.Model:
    """A model of settings(**changes)."""
    return vl.build(name, settings(**changes), vocab=vocab, features=features, region_outputs=OUTPUTS, length=length,
                    tied=tied)


def random_params(made: vl.Model, seed=3) -> dict:
    """Parameters of which none is 0 or 1; scales are near 1, or little would be left of a signal."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(made.init, jax.random.key(0))
    return jax.tree_util.tree_map_with_path(
        lambda path, s: rng.normal(path[-1].key == 'scale', 0.4, s.shape), shapes)


def batch(seed=5, pad=0) -> dict:
    """Four texts of 2 to 7 pieces about 4, 2, 1 and 0 regions, `pad` more positions of both than that takes."""
    rng = np.random.default_rng(seed)
    length, regions = 7, 4
    out = {'tokens': rng.integers(0, VOCAB, (4, length)), 'segments': rng.integers(0, 2, (4, length)),
           'token_mask': np.arange(length) < np.array([7, 5, 2, 4])[:, None],
           'features': rng.normal(size=(4, regions, FEATURES)), 'boxes': rng.random((4, regions, 5)),
           'region_mask': np.arange(regions) < np.array([4, 2, 1, 0])[:, None]}
    return {k: np.pad(v, ((0, 0), (0, pad)) + ((0, 0),) * (v.ndim - 2)) for k, v in out.items()}


def golden(name: str, wide: bool):
    """(batch, weights under their published names, all other arrays) of a golden file."""
    with np.load(GOLDEN / f'{name}.npz') as file:
        arrays = tiny.cast({k: file[k] for k in file.files if k != 'made_with'}, np.float64 if wide else np.float32)
    state = {k.removeprefix('state/'): v for k, v in arrays.items() if k.startswith('state/')}
    return {k: arrays[k] for k in batch()}, state, {k: v for k, v in arrays.items() if not k.startswith('state/')}


def cross_entropy(logits, labels):
    """Mean over the positions [B, T] whose label is not -1, by a loop over them."""
    logits = np.asarray(logits)
    rows = [logits[i, j] - logits[i, j, labels[i, j]] for i, j in np.argwhere(labels >= 0)]
    return np.mean([np.log(np.exp(row - row.max()).sum()) + row.max() for row in rows])
