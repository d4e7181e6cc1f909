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
WORDS = 'embeddings.word_embeddings.weight'
TRANSFORM = [*linear('dense', 'dense'), *norm('norm', 'LayerNorm')]


def encoder(state: Mapping) -> list[Entry]:
    """Of the encoder of the transfer wing, without embeddings."""
    return tables.stacked(BLOCK, 'blocks', LAYERS, range(tables.depth(state, LAYERS)))


def inside(entries, ours: str, theirs: str) -> list[Entry]:
    """Entries of a part that lies at `ours` here and at `theirs` in the file."""
    return [e._replace(ours=f'{ours}.{e.ours}', theirs=f'{theirs}.{e.theirs}') for e in entries]


def places(state: Mapping) -> tuple[str, str]:
    """What the names of a file's BERT begin with, and those of its heads: 'model.bert.' and 'model.', '' and ''."""
    own = next((k.removesuffix(WORDS) for k in state if k.endswith(WORDS)), '')
    return own, own[:own[:-1].rfind('.') + 1]


def text_side(state: Mapping, blocks: str, depth: int) -> list[Entry]:
    """Of a model of words and regions: embeddings and first layers of words, and their head.

    Args:
      state: name -> array; a BERT, or a model that has one.
      blocks: what the layers of words are called here.
      depth: number of layers.

    Returns:
      The head, with the decoder as a matrix of its own, where the file has it; a decoder that the file has not is its
      word embeddings.
    """
    own, above = places(state)
    at = f'{above}cls.predictions'
    out = [*inside(EMBEDDINGS, 'base.embeddings', f'{own}embeddings'),
           *tables.stacked(BLOCK, f'base.{blocks}', f'{own}{LAYERS}', range(depth))]
    if f'{at}.bias' not in state:
        return out
    decoder = next(name for name in (f'{at}.decoder.weight', f'{own}{WORDS}') if name in state)
    return [*out, *inside(TRANSFORM, 'words.transform', f'{at}.transform'), Entry('words.bias', f'{at}.bias'),
            Entry('words.decoder', decoder)]


def embedding(state: Mapping) -> list[Entry]:
    """What `fipjax.models.bert.embed` takes, and 'norm'."""
    del state
    return [e._replace(theirs=f'embeddings.{e.theirs}') for e in EMBEDDINGS]
