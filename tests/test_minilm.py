"""MiniLM from the wheel: the similarities that transformers computes, what is replaced and what is not."""
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from tokenizers import Tokenizer as Words

from fipjax.data import wheels
from fipjax.errors import UserError
from fipjax.models import bert, minilm, stack, vl


def model(name='visualbert', vocab=minilm.VOCAB, length=16, **changes):
    settings = ConfigDict({'variant': 'mini', 'width': 0, 'depth': 0, 'heads': 0, 'layers': 'scan', 'remat': False,
                           **changes})
    return vl.build(name, settings, vocab=vocab, features=4, region_outputs=3, length=length, tied=True)


def base(*arguments, **settings):
    """Fresh parameters, of zeros: what is not replaced must stay so."""
    shapes = jax.eval_shape(model(*arguments, **settings).init, jax.random.key(0))
    return jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), shapes['base'])


@functools.cache
def started(name='visualbert', **settings):
    said = []
    return minilm.text_start(base(name, **settings), 12, said.append), said


def sentence_vectors(params, sentences):
    """Mean over the valid states of BERT's layers, as all-MiniLM-L6-v2 does."""
    words = Words.from_file(str(wheels.path('minilm_tokenizer', 'text.tokenizer')))
    words.enable_padding(length=6)
    rows = words.encode_batch(sentences)
    tokens, mask = (np.array([getattr(r, k) for r in rows]) for k in ('ids', 'attention_mask'))
    x = bert.norm(params['embeddings']['norm'], bert.embed(params['embeddings'], jnp.asarray(tokens), tokens * 0))
    bias = stack.key_bias(mask > 0, x, -1e9)
    x = stack.run(lambda p, x: bert.Block(12).apply({'params': p}, x, bias), params['blocks'], x, 'scan', False)
    mean = (x * mask[:, :, None]).sum(1) / mask.sum(1, keepdims=True)
    return np.asarray(mean / jnp.linalg.norm(mean, axis=1, keepdims=True))


def test_sentence_vectors_are_those_of_transformers():
    cat, kitten, movie, film, car, banana = sentence_vectors(
        started()[0], ['cat', 'kitten', 'movie', 'film', 'a fast car', 'bananas are yellow'])
    # Computed by transformers 5.23 from the same file.
    got = [cat @ kitten, movie @ film, car @ banana, cat @ movie]
    np.testing.assert_allclose(got, [0.7882, 0.8426, 0.0714, 0.3826], atol=1e-4)


def test_text_side_is_replaced_and_nothing_else():
    """Zeros stay zeros everywhere but in what is MiniLM's."""
    for name, blocks, depth in (('visualbert', 'blocks', 6), ('vilbert', 'text_blocks', 6)):
        params, said = started(name)
        assert said == ['Text side from all-MiniLM-L6-v2: embeddings and 6 layers']
        assert jax.tree.map(np.shape, params) == jax.tree.map(np.shape, base(name))
        kept = {'words', 'positions', 'segments', 'norm'}
        if name == 'visualbert':
            kept |= {'region_segments', 'region_position'}
            first = params['embeddings']['positions'][0]
            np.testing.assert_array_equal(params['embeddings']['region_position'], first)
            np.testing.assert_array_equal(params['embeddings']['region_segments'], params['embeddings']['segments'])
        for path, leaf in jax.tree_util.tree_leaves_with_path(params):
            where = [k.key for k in path]
            theirs = where[0] == blocks or (where[0] == 'embeddings' and where[1] in kept)
            assert (np.abs(np.asarray(leaf)).reshape(len(leaf), -1).max(1) > 0).all() == theirs, where
            assert where[0] != blocks or len(leaf) == depth


def test_a_shallower_model_gets_the_first_layers():
    whole, part = started()[0]['blocks'], minilm.text_start(base(depth=2), 12)['blocks']
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(part), strict=True):
        np.testing.assert_array_equal(a[:2], b)


@pytest.mark.parametrize('sizes, settings, heads, said', [
    ({'vocab': 500}, {}, 12, 'text.start=minilm has 30522 word pieces, but text.tokenizer has 500; set text.tokenizer'),
    ({}, {'width': 48}, 12, 'text side has 6 of width 48 with 12 heads; set network.variant to mini'),
    ({}, {'depth': 7}, 12, 'at most 6, but the text side has 7 of width 384'),
    ({}, {'heads': 6}, 6, 'of width 384 with 6 heads; set network.variant'),
    ({'length': 513}, {}, 12, '512 positions, but text.length is 513'),
])
def test_what_does_not_fit_is_named(sizes, settings, heads, said):
    made = model(**sizes, **settings)
    assert made.heads == heads
    with pytest.raises(UserError, match=said):
        minilm.check(jax.eval_shape(made.init, jax.random.key(0))['base'], made.heads)
