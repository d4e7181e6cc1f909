"""BERT, MiniLM and RoBERTa: files of Hugging Face's `transformers`, and fipjax.models.bert."""
from __future__ import annotations

from collections.abc import Mapping

from fipjax.models.convert import tables
from fipjax.models.convert.tables import Entry, linear, norm

LAYERS = 'encoder.layer.{i}'
BLOCK = tables.block('attention.self', 'attention.output.dense', 'intermediate.dense', 'output.dense',
                     ('attention.output.LayerNorm', 'output.LayerNorm'))
EMBEDDINGS = [*(Entry(ours, f'{theirs}_embeddings.weight')
                for ours, theirs in (('words', 'word'), ('positions', 'position'), ('segments', 'token_type'))),
              *norm('norm', 'LayerNorm')]
TRANSFORM = [*linear('dense', 'dense'), *norm('norm', 'LayerNorm')]


def encoder(state: Mapping) -> list[Entry]:
    """Of the encoder of the transfer wing, without embeddings."""
    return tables.stacked(BLOCK, 'blocks', LAYERS, range(tables.depth(state, LAYERS)))


def inside(entries, ours: str, theirs: str) -> list[Entry]:
    """Entries of a part that lies at `ours` here and at `theirs` in the file."""
    return [e._replace(ours=f'{ours}.{e.ours}', theirs=f'{theirs}.{e.theirs}') for e in entries]


def embeddings(state: Mapping) -> list[Entry]:
    """What `fipjax.models.bert.embed` takes, and 'norm'."""
    del state
    return [e._replace(theirs=f'embeddings.{e.theirs}') for e in EMBEDDINGS]
