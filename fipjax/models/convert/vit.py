"""ViT, DeiT and DINOv2: files of Hugging Face's `transformers`, and fipjax.models.vit.

The first tokens (class, distillation) and their positions are one array here, and DINOv2's LayerScale is a part of the
layers that it follows: the same function, with fewer parameters. Written back, positions of first tokens are 0 and
LayerScales 1.
"""
from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fipjax.models.convert import tables
from fipjax.models.convert.onnx_file import ANONYMOUS
from fipjax.models.convert.tables import Entry, norm, patches

LAYERS = 'encoder.layer.{i}'
BLOCK = tables.block('attention.attention', 'attention.output.dense', 'intermediate.dense', 'output.dense',
                     ('layernorm_before', 'layernorm_after'))
DINO = tables.block('attention.attention', 'attention.output.dense', 'mlp.fc1', 'mlp.fc2', ('norm1', 'norm2'))
SCALES = {'layer_scale1.lambda1': 'attention.output.dense', 'layer_scale2.lambda1': 'mlp.fc2'}
FIRST, POSITIONS = 'embeddings.first', 'embeddings.patch_positions'
TOKENS = ('embeddings.cls_token', 'embeddings.distillation_token')
TABLE = 'embeddings.position_embeddings'
PROJECTION = 'embeddings.patch_embeddings.projection'


def encoder(state: Mapping) -> list[Entry]:
    """Of the encoder; `state` as `prepared` makes it."""
    one = DINO if any('.norm1.' in k for k in state) else BLOCK
    return [Entry('cls', FIRST), *tables.stacked(one, 'blocks', LAYERS, range(tables.depth(state, LAYERS))),
            *norm('norm', 'layernorm')]


def embedding(state: Mapping) -> list[Entry]:
    """Of the patches: {'projection', 'positions' [N, width]}, no LayerNorm; `state` as `prepared` makes it."""
    side = next(v.shape[-1] for k, v in state.items() if k.endswith(f'{PROJECTION}.weight'))
    return [Entry('projection.kernel', f'{PROJECTION}.weight', patches(side)),
            Entry('projection.bias', f'{PROJECTION}.bias'), Entry('positions', POSITIONS)]


def prepared(state: Mapping) -> dict:
    """A file's tensors with first tokens, positions and LayerScales as they are here."""
    out = dict(state)
    own = next((k.removesuffix(t) for k in state for t in (TABLE, TOKENS[0]) if k.endswith(t)), '')
    if own + TABLE not in out:
        out |= _exported(state, own)
    if own + TABLE in out:
        first = np.concatenate([out.pop(own + t)[0] for t in TOKENS if own + t in out])
        positions = out.pop(own + TABLE)[0]
        out[own + FIRST], out[own + POSITIONS] = first + positions[:len(first)], positions[len(first):]
    for name in state:
        for scale, layer in SCALES.items():
            if name.endswith(scale):
                there, by = name.removesuffix(scale) + layer, out.pop(name)
                for part, factor in ((f'{there}.weight', by[:, None]), (f'{there}.bias', by)):
                    if part in out:  # else the table that reads it says that it is missing
                        out[part] = out[part] * factor
    return out


def _exported(state, own):
    """The table of positions where an exporter to ONNX has cut it: of first tokens and of patches, without a name."""
    parts = {k: v for k, v in state.items() if k.startswith(ANONYMOUS) and v.ndim == 3 and len(v) == 1}
    if len(parts) != 2 or len({v.shape[-1] for v in parts.values()}) > 1:
        return {}
    first, grid = sorted(parts.values(), key=lambda v: v.shape[1])
    return {own + TABLE: np.concatenate([first, grid], 1)}


def restored(state: Mapping, scales: bool) -> dict:
    """The inverse of `prepared`, but for what the module says; `scales`: whether the family has LayerScales."""
    out = dict(state)
    first, positions = out.pop(FIRST), out.pop(POSITIONS)
    out |= {name: token[None, None] for name, token in zip(TOKENS, first, strict=False)}
    out[TABLE] = np.concatenate([np.zeros_like(first), positions])[None]
    if scales:
        width = first.shape[-1]
        out |= {LAYERS.replace('{i}', str(i)) + f'.{scale}': np.ones(width, first.dtype)
                for i in range(tables.depth(state, LAYERS)) for scale in SCALES}
    return out
