"""VisualBERT: names of Hugging Face's `transformers`, of MMF and of the authors, and fipjax.models.visualbert.

All regions have one position here, the first of the file's.
"""
from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fipjax.models.convert import bert, tables
from fipjax.models.convert.tables import Entry, linear

FIRST_ROW = tables.Layout(lambda x: x[0], lambda x: np.asarray(x)[None])
# Of the embeddings; in MMF and with the authors they are called otherwise.
PROJECTION, SEGMENTS, POSITIONS = OWN = ('visual_projection', 'visual_token_type_embeddings',
                                         'visual_position_embeddings')
OTHERS = ('projection', 'token_type_embeddings_visual', 'position_embeddings_visual')


def model(state: Mapping) -> list[Entry]:
    """{'base', 'words'}; 'words' as `bert.text_side` says."""
    own, at = bert.places(state)[0], 'base.embeddings'
    names = OWN if f'{own}embeddings.{PROJECTION}.weight' in state else OTHERS
    projection, segments, positions = (f'{own}embeddings.{name}' for name in names)
    return [*bert.text_side(state, 'blocks', tables.depth(state, f'{own}{bert.LAYERS}')),
            *linear(f'{at}.projection', projection), Entry(f'{at}.region_segments', f'{segments}.weight'),
            Entry(f'{at}.region_position', f'{positions}.weight', FIRST_ROW),
            *linear('base.pooler', f'{own}pooler.dense')]


def from_bert(state: Mapping, depth: int) -> list[Entry]:
    """Of a model whose words are a BERT's; segments and position of its regions begin as those of words, as in MMF."""
    at = f'{bert.places(state)[0]}embeddings'
    return [*bert.text_side(state, 'blocks', depth),
            Entry('base.embeddings.region_segments', f'{at}.token_type_embeddings.weight'),
            Entry('base.embeddings.region_position', f'{at}.position_embeddings.weight', FIRST_ROW)]


def is_in(state: Mapping) -> bool:
    """Whether a file has projected regions among the embeddings of a BERT."""
    own = bert.places(state)[0]
    return any(f'{own}embeddings.{name}.weight' in state for name in (PROJECTION, OTHERS[0]))
