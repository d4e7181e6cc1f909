"""Which family an encoder's checkpoint is of, and its sizes: off the shapes of its weights, and what those do not say
(heads, epsilon, GELU, side of the picture) off its config.json.
"""
from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from fipjax.errors import UserError
from fipjax.models.convert import bert, swin, tables, vit

FAMILIES = {'bert': 'bert', 'roberta': 'bert', 'vit': 'vit', 'deit': 'vit', 'dinov2': 'vit', 'swin': 'swin'}
GELUS = {'gelu': 'exact', 'gelu_new': 'tanh', 'gelu_pytorch_tanh': 'tanh', 'gelu_fast': 'tanh'}
UNLIKE = {'position_embedding_type': 'absolute', 'use_swiglu_ffn': False, 'use_absolute_embeddings': False,
          'qkv_bias': True}  # of config.json; other values mean another model
HEAD = 64  # numbers in a head where no config.json says it: so have BERT and ViT of all their published sizes
IMAGE = 224


class Described(NamedTuple):
    """An encoder of fipjax.models.encoders that a file holds.

    Attributes:
      family: of fipjax.models.encoders.
      kind: the file's own name for it, a key of FAMILIES.
      sizes: those of fipjax.models.encoders.SIZES that the file settles.
      assumed: those that nothing settles, with the value that is taken unless the user knows better.
    """

    family: str
    kind: str
    sizes: dict
    assumed: dict


def describe(state: Mapping, config: Mapping, where: str) -> Described:
    """What a checkpoint's encoder is.

    Args:
      state: name -> array.
      config: content of config.json, {} without one.
      where: the file, for messages.

    Raises:
      UserError: a model of none of FAMILIES, or with parts that these have not; weights that do not fit together.
    """
    kind = config.get('model_type') or _guessed(state)
    if kind not in FAMILIES:
        said = 'model_type in config.json' if config else 'by its weights, the model'
        raise UserError(f'{where}: {said} is {kind!r}; encoders that are read: {", ".join(FAMILIES)}')
    for key, wanted in UNLIKE.items():
        if config.get(key, wanted) not in (wanted, None):
            raise UserError(f'{where}: {key} in config.json is {config[key]!r}; only {wanted!r} is read')
    family = FAMILIES[kind]
    try:
        sizes, assumed = {'bert': _bert, 'vit': _vit, 'swin': _swin}[family](state, kind, where)
    except (StopIteration, ZeroDivisionError, ValueError):
        raise UserError(f'{where}: no weights of a {kind} encoder; the file has {len(state)} tensors: '
                        f'{", ".join(list(state)[:5])}; read are the names that save_pretrained writes') from None
    known = {'heads': config.get('num_attention_heads'), 'epsilon': config.get('layer_norm_eps'),
             'image_size': config.get('image_size')}
    for key, value in known.items():
        if value is not None and key in assumed:
            assumed.pop(key)
            sizes[key] = float(value) if key == 'epsilon' else int(value)
    act = config.get('hidden_act', 'gelu')
    if act not in GELUS:
        raise UserError(f'{where}: hidden_act in config.json is {act!r}; allowed: {", ".join(GELUS)}')
    sizes['gelu'] = GELUS[act]
    if not config:
        assumed['gelu'] = sizes.pop('gelu')
    return Described(family, kind, sizes, assumed)


def _guessed(state):
    has = lambda part: any(part in k for k in state)  # noqa: E731
    if has('relative_position_bias_table'):
        return 'swin'
    if has(f'{vit.PROJECTION}.weight'):
        return 'dinov2' if has('.norm1.') else 'deit' if has(vit.TOKENS[1]) else 'vit'
    return 'bert' if has('word_embeddings.weight') else 'unknown'


def _shape(state, end):
    return next(v.shape for k, v in state.items() if k.endswith(end))


def _ratio(hidden, width, where):
    if hidden % width:
        raise UserError(f'{where}: the hidden layers of the MLPs are {hidden} wide; read are multiples of {width}')
    return hidden // width


def _bert(state, kind, where):
    hidden, width = _shape(state, 'layer.0.intermediate.dense.weight')
    sizes = {'width': width, 'depth': tables.depth(state, bert.LAYERS), 'mlp_ratio': _ratio(hidden, width, where)}
    return sizes, {'heads': width // HEAD or 1, 'epsilon': 1e-5 if kind == 'roberta' else 1e-12,
                   'image_size': IMAGE, 'patch': 16}


def _vit(state, kind, where):
    width, *_, patch = _shape(state, f'{vit.PROJECTION}.weight')
    dino = any('.norm1.' in k for k in state)
    hidden = _shape(state, f'layer.0.{"mlp.fc1" if dino else "intermediate.dense"}.weight')[0]
    side = round(len(next(v for k, v in vit.prepared(state).items() if k.endswith(vit.POSITIONS))) ** 0.5)
    sizes = {'width': width, 'depth': tables.depth(state, vit.LAYERS), 'patch': patch, 'image_size': side * patch,
             'mlp_ratio': _ratio(hidden, width, where)}
    return sizes, {'heads': width // HEAD or 1, 'epsilon': 1e-6 if kind == 'dinov2' else 1e-12}


def _swin(state, kind, where):
    width, *_, patch = _shape(state, f'{swin.PROJECTION}.weight')
    stages = [swin.STAGES.replace('{i}', str(i)) for i in range(tables.depth(state, swin.STAGES))]
    # A list: StopIteration in a generator would be another error than `describe` expects.
    entries, heads = zip(*[_shape(state, f'{s}.blocks.0.{swin.BIAS}') for s in stages], strict=True)
    hidden = _shape(state, f'{stages[0]}.blocks.0.intermediate.dense.weight')[0]
    sizes = {'width': width, 'depths': tuple(tables.depth(state, f'{s}.blocks.{{i}}') for s in stages),
             'stage_heads': heads, 'window': (round(max(entries) ** 0.5) + 1) // 2, 'patch': patch,
             'mlp_ratio': _ratio(hidden, width, where)}
    return sizes, {'epsilon': 1e-5, 'image_size': IMAGE}
