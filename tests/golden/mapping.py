"""Weights of PyTorch models, under the names of published checkpoints, as parameters of fipjax.models; pure NumPy.

A linear layer's weight is [out, in] there and [in, out] here; a patch projection's [width, C, p, p] becomes
[p * p * C, width]; numbered layers become a leading axis.
"""
from __future__ import annotations

import re

import numpy as np


def linear(state, name):
    """{'kernel' [in, out], 'bias' [out]}; without 'bias' where the layer has none."""
    out = {'kernel': state[f'{name}.weight'].T}
    return {**out, 'bias': state[f'{name}.bias']} if f'{name}.bias' in state else out


def norm(state, name):
    """{'scale', 'bias'} of a LayerNorm."""
    return {'scale': state[f'{name}.weight'], 'bias': state[f'{name}.bias']}


def patches(state, name):
    """{'kernel' [p * p * C, width], 'bias'} of a convolution whose stride is its size."""
    weight = state[f'{name}.weight']
    return {'kernel': weight.transpose(2, 3, 1, 0).reshape(-1, len(weight)), 'bias': state[f'{name}.bias']}


def vit(state) -> dict:
    """Encoder of ViTModel; the class token has its position added. Patch positions: `vit_embedding`."""
    layer = {'attention_norm': (norm, 'layernorm_before'), 'mlp_norm': (norm, 'layernorm_after'),
             **_attention('attention.attention', 'attention.output.dense'), **_mlp()}
    first = state['embeddings.cls_token'][0, 0] + state['embeddings.position_embeddings'][0, 0]
    return {'cls': first, 'blocks': _stack(state, 'encoder.layer', layer), 'norm': norm(state, 'layernorm')}


def vit_embedding(state) -> dict:
    """{'projection', 'positions' [N, width]} of ViTModel: no LayerNorm."""
    return {'projection': patches(state, 'embeddings.patch_embeddings.projection'),
            'positions': state['embeddings.position_embeddings'][0, 1:]}


def bert(state) -> dict:
    """Encoder of BertModel or RobertaModel."""
    return {'blocks': _stack(state, 'encoder.layer', BERT_LAYER)}


def swin(state) -> dict:
    """Encoder of SwinModel."""
    layer = {'attention_norm': (norm, 'layernorm_before'), 'mlp_norm': (norm, 'layernorm_after'),
             **_attention('attention.self', 'attention.output.dense'), **_mlp(),
             'attention.relative_bias': (dict.__getitem__, 'attention.self.relative_position_bias_table')}
    params = {'norm': norm(state, 'layernorm')}
    for i in range(_count(state, 'encoder.layers')):
        stage = f'encoder.layers.{i}'
        pairs = {name: _stack(state, f'{stage}.blocks', layer, slice(first, None, 2))
                 for first, name in enumerate(('plain', 'shifted'))}
        params[f'stage_{i}'] = {'blocks': pairs}
        if f'{stage}.downsample.reduction.weight' in state:
            params[f'stage_{i}']['merge'] = {'norm': norm(state, f'{stage}.downsample.norm'),
                                             'reduction': linear(state, f'{stage}.downsample.reduction')}
    return params


def swin_embedding(state) -> dict:
    """{'projection', 'norm'} of SwinModel, what `fipjax.models.embedders.image` has."""
    return {'projection': patches(state, 'embeddings.patch_embeddings.projection'),
            'norm': norm(state, 'embeddings.norm')}


def visualbert(state) -> dict:
    """VisualBertForPreTraining, its decoder of words as a matrix of its own; {'base', 'words'}."""
    own = 'visual_bert.embeddings'
    embeddings = {**_text_embeddings(state, own), 'projection': linear(state, f'{own}.visual_projection'),
                  'region_segments': state[f'{own}.visual_token_type_embeddings.weight'],
                  'region_position': state[f'{own}.visual_position_embeddings.weight'][0]}
    base = {'embeddings': embeddings, 'blocks': _stack(state, 'visual_bert.encoder.layer', BERT_LAYER),
            'pooler': linear(state, 'visual_bert.pooler.dense')}
    return {'base': base, 'words': _word_head(state)}


def vilbert(state) -> dict:
    """MMF's ViLBERTForPretraining: {'base', 'words', 'regions'}."""
    regions = {'projection': linear(state, 'bert.v_embeddings.image_embeddings'),
               'location': linear(state, 'bert.v_embeddings.image_location_embeddings'),
               'norm': norm(state, 'bert.v_embeddings.LayerNorm')}
    co = {}
    # Queries of one stream, keys and values of the other, and the way back into the stream of the queries.
    for name, letter, queries, memory in (('text', 't', 2, 1), ('region', 'v', 1, 2)):
        parts = {'query': f'query{queries}', 'key': f'key{memory}', 'value': f'value{memory}'}
        co |= {f'{name}_attention.{k}': (linear, f'biattention.{v}') for k, v in parts.items()}
        co |= {f'{name}_attention.out': (linear, f'biOutput.dense{queries}'),
               f'{name}_norm': (norm, f'biOutput.LayerNorm{queries}'),
               f'{name}_mlp.hidden': (linear, f'{letter}_intermediate.dense'),
               f'{name}_mlp.out': (linear, f'{letter}_output.dense'),
               f'{name}_mlp_norm': (norm, f'{letter}_output.LayerNorm')}
    base = {'embeddings': _text_embeddings(state, 'bert.embeddings'), 'region_embeddings': regions,
            'text_blocks': _stack(state, 'bert.encoder.layer', BERT_LAYER),
            'region_blocks': _stack(state, 'bert.encoder.v_layer', BERT_LAYER),
            'co_blocks': _stack(state, 'bert.encoder.c_layer', co),
            'text_pooler': linear(state, 'bert.t_pooler.dense'), 'region_pooler': linear(state, 'bert.v_pooler.dense')}
    head = {'transform': _transform(state, 'cls.imagePredictions.transform'),
            'linear': linear(state, 'cls.imagePredictions.decoder')}
    return {'base': base, 'words': _word_head(state), 'regions': head}


def _text_embeddings(state, own):
    return {'words': state[f'{own}.word_embeddings.weight'], 'positions': state[f'{own}.position_embeddings.weight'],
            'segments': state[f'{own}.token_type_embeddings.weight'], 'norm': norm(state, f'{own}.LayerNorm')}


def _word_head(state):
    return {'transform': _transform(state, 'cls.predictions.transform'), 'bias': state['cls.predictions.bias'],
            'decoder': state['cls.predictions.decoder.weight']}


def _transform(state, own):
    return {'dense': linear(state, f'{own}.dense'), 'norm': norm(state, f'{own}.LayerNorm')}


def _attention(inside, out):
    return {**{f'attention.{n}': (linear, f'{inside}.{n}') for n in ('query', 'key', 'value')},
            'attention.out': (linear, out)}


def _mlp():
    return {'mlp.hidden': (linear, 'intermediate.dense'), 'mlp.out': (linear, 'output.dense')}


def _count(state, name):
    found = (re.match(rf'{re.escape(name)}\.(\d+)\.', k) for k in state)
    return 1 + max(int(m[1]) for m in found if m)


def _stack(state, name, layer, which=slice(None)):
    """{'a': {'b': ...}} from {'a.b': (read, name within the layer)}, the layers `which` along a leading axis."""
    out = {}
    for path, (read, own) in layer.items():
        parts = [read(state, f'{name}.{i}.{own}') for i in range(_count(state, name))[which]]
        *folders, leaf = path.split('.')
        here = out
        for folder in folders:
            here = here.setdefault(folder, {})
        value = {k: np.stack([p[k] for p in parts]) for k in parts[0]} if isinstance(parts[0], dict) \
            else np.stack(parts)
        here[leaf] = value
    return out


BERT_LAYER = {'attention_norm': (norm, 'attention.output.LayerNorm'), 'mlp_norm': (norm, 'output.LayerNorm'),
              **_attention('attention.self', 'attention.output.dense'), **_mlp()}
