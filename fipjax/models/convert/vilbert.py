"""ViLBERT: MMF's names (ViLBERTForPretraining), and fipjax.models.vilbert."""
from __future__ import annotations

from collections.abc import Mapping

from fipjax.models.convert import bert, tables
from fipjax.models.convert.bert import inside
from fipjax.models.convert.tables import Entry, linear, norm


def model(state: Mapping) -> list[Entry]:
    """{'base', 'words', 'regions'}; 'words' as `bert.text_side` says, 'regions' where the file has them."""
    own, above = bert.places(state)
    regions, theirs = 'base.region_embeddings', f'{own}v_embeddings'
    out = [*bert.text_side(state, 'text_blocks', tables.depth(state, f'{own}{bert.LAYERS}')),
           *linear(f'{regions}.projection', f'{theirs}.image_embeddings'),
           *linear(f'{regions}.location', f'{theirs}.image_location_embeddings'),
           *norm(f'{regions}.norm', f'{theirs}.LayerNorm')]
    for ours, name, one in (('region_blocks', 'v_layer', bert.BLOCK), ('co_blocks', 'c_layer', _co_block())):
        layers = f'{own}encoder.{name}.{{i}}'
        out += tables.stacked(one, f'base.{ours}', layers, range(tables.depth(state, layers)))
    out += [*linear('base.text_pooler', f'{own}t_pooler.dense'), *linear('base.region_pooler', f'{own}v_pooler.dense')]
    head = f'{above}cls.imagePredictions'
    if f'{head}.decoder.weight' in state:
        out += [*inside(bert.TRANSFORM, 'regions.transform', f'{head}.transform'),
                *linear('regions.linear', f'{head}.decoder')]
    return out


def is_in(state: Mapping) -> bool:
    """Whether a file has a stream of regions beside a BERT."""
    return f'{bert.places(state)[0]}v_embeddings.image_embeddings.weight' in state


def sizes(state: Mapping, config: Mapping) -> dict:
    """Of fipjax.models.vilbert.Sizes, those of the stream of regions and of co-attention that a file tells.

    Args:
      state: name -> array.
      config: content of config.json, {} without one; heads are only there.
    """
    own = bert.places(state)[0]
    wide = lambda name: next((len(v) for k, v in state.items() if k == f'{own}{name}.weight'), 0)  # noqa: E731
    found = {'region_width': wide('v_embeddings.image_embeddings'),
             'rounds': tables.depth(state, f'{own}encoder.v_layer.{{i}}'),
             'region_heads': config.get('v_num_attention_heads'),
             'co_width': wide('encoder.c_layer.0.biattention.query1'),
             'co_heads': config.get('bi_num_attention_heads')}
    return {k: v for k, v in found.items() if v is not None}


def _co_block() -> list[Entry]:
    """Queries of one stream, keys and values of the other, and the way back into the stream of the queries."""
    out = []
    for name, letter, queries, memory in (('text', 't', 2, 1), ('region', 'v', 1, 2)):
        parts = {'query': f'query{queries}', 'key': f'key{memory}', 'value': f'value{memory}'}
        out += [e for k, v in parts.items() for e in linear(f'{name}_attention.{k}', f'biattention.{v}')]
        out += [*linear(f'{name}_attention.out', f'biOutput.dense{queries}'),
                *norm(f'{name}_norm', f'biOutput.LayerNorm{queries}'),
                *linear(f'{name}_mlp.hidden', f'{letter}_intermediate.dense'),
                *linear(f'{name}_mlp.out', f'{letter}_output.dense'),
                *norm(f'{name}_mlp_norm', f'{letter}_output.LayerNorm')]
    return out
