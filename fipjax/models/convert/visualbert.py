"""VisualBERT: files of Hugging Face's `transformers`, and fipjax.models.visualbert.

All regions have one position here, the first of the file's.
"""
from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fipjax.models.convert import bert, tables
from fipjax.models.convert.bert import inside
from fipjax.models.convert.tables import Entry, linear

OWN = 'visual_bert.embeddings'
LAYERS = f'visual_bert.{bert.LAYERS}'
FIRST_ROW = tables.Layout(lambda x: x[0], lambda x: np.asarray(x)[None])
HEAD = [*inside(bert.TRANSFORM, 'words.transform', 'cls.predictions.transform'),
        Entry('words.bias', 'cls.predictions.bias'), Entry('words.decoder', 'cls.predictions.decoder.weight')]


def model(state: Mapping) -> list[Entry]:
    """{'base', 'words'}, the decoder of words as a matrix of its own."""
    at = 'base.embeddings'
    return [*inside(bert.EMBEDDINGS, at, OWN), *linear(f'{at}.projection', f'{OWN}.visual_projection'),
            Entry(f'{at}.region_segments', f'{OWN}.visual_token_type_embeddings.weight'),
            Entry(f'{at}.region_position', f'{OWN}.visual_position_embeddings.weight', FIRST_ROW),
            *tables.stacked(bert.BLOCK, 'base.blocks', LAYERS, range(tables.depth(state, LAYERS))),
            *linear('base.pooler', 'visual_bert.pooler.dense'), *HEAD]
