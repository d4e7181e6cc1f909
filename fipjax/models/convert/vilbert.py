"""ViLBERT: MMF's names (ViLBERTForPretraining), and fipjax.models.vilbert."""
from __future__ import annotations

from collections.abc import Mapping

from fipjax.models.convert import bert, tables
from fipjax.models.convert.bert import inside
from fipjax.models.convert.tables import Entry, linear, norm
from fipjax.models.convert.visualbert import HEAD


def model(state: Mapping) -> list[Entry]:
    """{'base', 'words', 'regions'}, the decoder of words as a matrix of its own."""
    regions = 'base.region_embeddings'
    out = [*inside(bert.EMBEDDINGS, 'base.embeddings', 'bert.embeddings'),
           *linear(f'{regions}.projection', 'bert.v_embeddings.image_embeddings'),
           *linear(f'{regions}.location', 'bert.v_embeddings.image_location_embeddings'),
           *norm(f'{regions}.norm', 'bert.v_embeddings.LayerNorm')]
    for ours, theirs, one in (('text_blocks', 'layer', bert.BLOCK), ('region_blocks', 'v_layer', bert.BLOCK),
                              ('co_blocks', 'c_layer', _co_block())):
        layers = f'bert.encoder.{theirs}.{{i}}'
        out += tables.stacked(one, f'base.{ours}', layers, range(tables.depth(state, layers)))
    return [*out, *linear('base.text_pooler', 'bert.t_pooler.dense'),
            *linear('base.region_pooler', 'bert.v_pooler.dense'), *HEAD,
            *inside(bert.TRANSFORM, 'regions.transform', 'cls.imagePredictions.transform'),
            *linear('regions.linear', 'cls.imagePredictions.decoder')]


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
