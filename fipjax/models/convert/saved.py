"""Fine-tuned parameters as published checkpoints: tensors under their names, and what config.json says.

The tables of the families, read backwards. Of an encoder that came from a checkpoint, all else of that stays as it was;
one made here has no embeddings, for those of its source data are no part of it.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from fipjax.errors import UserError
from fipjax.models.convert import bert, sizes, swin, tables, vilbert, visualbert, vit
from fipjax.models.convert.onnx_file import ANONYMOUS
from fipjax.models.convert.tables import linear, norm

ACTS = {'exact': 'gelu', 'tanh': 'gelu_pytorch_tanh'}
NO_DROPOUT = {'hidden_dropout_prob': 0.0, 'attention_probs_dropout_prob': 0.0}  # there is none here
HEAD = [*linear('transform.dense', 'classifier.0.dense'), *norm('transform.norm', 'classifier.0.LayerNorm'),
        *linear('linear', 'classifier.1')]  # MMF's classifier


def encoder(kind: str, params: Mapping, original: Mapping) -> dict[str, np.ndarray]:
    """An encoder's tensors, in the place of those of the checkpoint that it came from.

    Args:
      kind: of fipjax.models.convert.sizes.FAMILIES; not 'swin'.
      params: the encoder's.
      original: the checkpoint, name -> array, of ViT and its relatives as `vit.prepared` makes it; {} where the encoder
        was made here.

    Returns:
      Name -> array, float32 but for whole numbers.
    """
    family = sizes.FAMILIES[kind]
    table = {'vit': vit, 'bert': bert}[family]
    if not original:
        entries = table.encoder(_numbered({table.LAYERS: _depth(params['blocks'])}))
        return tables.write([e for e in entries if e.ours != 'cls' or 'cls' in params], params)
    state = {tables.modern(k): v for k, v in original.items() if not k.startswith(ANONYMOUS)}
    entries = table.encoder(state)
    prefix = tables.read(entries, state, kind)[1].prefix
    inside = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    inside |= tables.write(entries, params)
    if family == 'vit':
        inside = vit.restored(inside, scales=kind == 'dinov2')
    out = {k: v for k, v in state.items() if not k.startswith(prefix)} | {prefix + k: v for k, v in inside.items()}
    return {k: v.astype(np.float32) if v.dtype.kind == 'f' else v for k, v in out.items()}


def pictures(params: Mapping, patch: int, classes: bool) -> dict[str, np.ndarray]:
    """A whole network around Swin: SwinForImageClassification, or SwinModel where it does not classify.

    Args:
      params: 'embedder' with 'projection' and 'norm', 'encoder' and 'predictor'.
      patch: side of a patch in pixels.
      classes: whether the predictor is a linear layer on the mean token.
    """
    f, stages = params['encoder'], sum(k.startswith('stage_') for k in params['encoder'])
    layers = {f'{swin.STAGES.replace("{i}", str(i))}.blocks.{{i}}': 2 * _depth(f[f'stage_{i}']['blocks'])
              for i in range(stages)}
    side = {f'{swin.PROJECTION}.weight': np.empty((1, 1, patch, patch))}
    state = tables.write(swin.encoder(_numbered(layers)), f) | tables.write(swin.embedding(side), params['embedder'])
    if not classes:
        return state
    return {f'swin.{k}': v for k, v in state.items()} | tables.write(linear('linear', 'classifier'),
                                                                     params['predictor'])


def together(name: str, base: Mapping, head: Mapping) -> dict[str, np.ndarray]:
    """A fine-tuned model of words and regions: the base, without heads of pretraining, and MMF's classifier.

    Args:
      name: 'visualbert', under the names of transformers, or 'vilbert', under MMF's.
      base, head: parameters of fipjax.models.vl and of fipjax.models.predictors.answers.
    """
    own = {'visualbert': 'visual_bert.', 'vilbert': 'bert.'}[name]
    names = {f'{own}{bert.WORDS}': None, f'{own}embeddings.{visualbert.PROJECTION}.weight': None}
    for theirs, ours in (('layer', 'blocks'), ('layer', 'text_blocks'), ('v_layer', 'region_blocks'),
                         ('c_layer', 'co_blocks')):
        names |= _numbered({f'{own}encoder.{theirs}.{{i}}': _depth(base[ours]) if ours in base else 0})
    entries = {'visualbert': visualbert, 'vilbert': vilbert}[name].model(names)
    state = tables.write(entries, {'base': base})
    if name == 'visualbert':  # any region may be given any row
        rows = f'{own}embeddings.{visualbert.POSITIONS}.weight'
        state[rows] = np.repeat(state[rows], len(base['embeddings']['positions']), 0)
    return state | tables.write(HEAD, head)


def settings(kind: str, own: Mapping, state: Mapping, original: Mapping) -> dict[str, Any]:
    """config.json of an encoder.

    Args:
      kind: of fipjax.models.convert.sizes.FAMILIES.
      own: the encoder's sizes, see fipjax.models.encoders.SIZES.
      state: the tensors that are written with it; the sizes of embeddings are theirs.
      original: config.json of the checkpoint that it came from, {} for none; of sizes it has no say.

    Raises:
      UserError: a Swin that transformers cannot have.
    """
    out = {'model_type': kind, **NO_DROPOUT, **original, 'layer_norm_eps': own['epsilon'],
           'hidden_act': ACTS[own['gelu']]}
    shape = lambda end, other: next((v.shape for k, v in state.items() if k.endswith(end)), other)  # noqa: E731
    if kind == 'swin':
        last = own['image_size'] // own['patch'] >> (len(own['depths']) - 1)
        if last < own['window']:
            raise UserError(f'encoder.window is {own["window"]}, but the last stage has {last} x {last} tokens, which '
                            'are one smaller window here; Swin of transformers has windows of one size')
        channels = shape(f'{swin.PROJECTION}.weight', (0, 3))[1]
        return {'drop_path_rate': 0.0, **out, 'embed_dim': own['width'], 'depths': [*own['depths']],
                'num_heads': [*own['stage_heads']], 'window_size': own['window'], 'mlp_ratio': own['mlp_ratio'],
                'image_size': own['image_size'], 'patch_size': own['patch'], 'num_channels': channels}
    out |= {'hidden_size': own['width'], 'num_hidden_layers': own['depth'], 'num_attention_heads': own['heads'],
            'intermediate_size': own['mlp_ratio'] * own['width']}
    if sizes.FAMILIES[kind] == 'bert':
        rows = {'vocab_size': ('word_embeddings.weight', 1), 'max_position_embeddings': ('position_embeddings.weight',
                512), 'type_vocab_size': ('token_type_embeddings.weight', 2)}
        out |= {key: shape(end, (other,))[0] for key, (end, other) in rows.items()}
        return {'pad_token_id': 1 if kind == 'roberta' else 0, **out}
    _, channels, *_, patch = shape(f'{vit.PROJECTION}.weight', (0, 3, own['patch']))
    tokens = shape(vit.TABLE, (1, 1 + (own['image_size'] // patch) ** 2))[1] - (2 if kind == 'deit' else 1)
    return out | {'image_size': round(tokens ** 0.5) * patch, 'patch_size': patch, 'num_channels': channels,
                  **({'mlp_ratio': own['mlp_ratio']} if kind == 'dinov2' else {})}


def together_settings(name: str, base: Mapping, own) -> dict[str, Any]:
    """config.json of a model of words and regions; of ViLBERT the keys that MMF has.

    Args:
      name: 'visualbert' or 'vilbert'.
      base: parameters.
      own: fipjax.models.vl.sizes_of.
    """
    words, positions = (base['embeddings'][k].shape[0] for k in ('words', 'positions'))
    regions = base['embeddings'] if name == 'visualbert' else base['region_embeddings']
    features = regions['projection']['kernel'].shape[0]
    out = {'vocab_size': words, 'hidden_size': own.width, 'num_hidden_layers': own.depth,
           'num_attention_heads': own.heads, 'intermediate_size': 4 * own.width, 'max_position_embeddings': positions,
           'type_vocab_size': 2, 'hidden_act': 'gelu', 'layer_norm_eps': 1e-12, **NO_DROPOUT}
    if name == 'visualbert':
        return {'model_type': 'visual_bert', **out, 'visual_embedding_dim': features}
    rounds = range(own.rounds)
    return {'model_type': 'vilbert', **out, 'v_feature_size': features, 'v_hidden_size': own.region_width,
            'v_num_hidden_layers': own.rounds, 'v_num_attention_heads': own.region_heads, 'v_hidden_act': 'gelu',
            'v_intermediate_size': base['region_blocks']['mlp']['hidden']['kernel'].shape[-1],
            'v_hidden_dropout_prob': 0.0, 'v_attention_probs_dropout_prob': 0.0, 'bi_hidden_size': own.co_width,
            'bi_num_attention_heads': own.co_heads, 'v_biattention_id': [*rounds],
            't_biattention_id': [own.depth - own.rounds + i for i in rounds], 'with_coattention': True,
            'dynamic_attention': False, 'fast_mode': False, 'fixed_t_layer': 0, 'fixed_v_layer': 0,
            'fusion_method': 'mul', 'in_batch_pairs': False, 'task_specific_tokens': False, 'visualization': False,
            'random_initialize': False, 'training_head_type': 'classification'}


def named(classes: Sequence[str]) -> dict[str, Any]:
    """What config.json says of classes."""
    return {'id2label': {str(i): str(c) for i, c in enumerate(classes)},
            'label2id': {str(c): i for i, c in enumerate(classes)}}


def flat(params: Mapping) -> dict[str, np.ndarray]:
    """Parameters under their paths here, with dots."""
    return {jax.tree_util.keystr(path, simple=True, separator='.'): np.ascontiguousarray(leaf)
            for path, leaf in jax.tree_util.tree_leaves_with_path(params)}


def _numbered(layers: Mapping[str, int]) -> dict[str, None]:
    """Names that tell a table how many layers there are: name with '{i}' -> number."""
    return {f'{name.replace("{i}", str(i))}.': None for name, n in layers.items() for i in range(n)}


def _depth(blocks):
    return len(jax.tree.leaves(blocks)[0])
