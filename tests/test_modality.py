"""Patches and their inverse against explicit loops; what a modality may be."""
import numpy as np
import pytest
import reference
import tiny

from fipjax import modality
from fipjax.errors import UserError
from fipjax.modality import Modality

WIDE = Modality('wide', 'image', (4, 6, 3), 2)
LONG = Modality('long', 'sequence', (12, 2), 3)


@pytest.mark.parametrize('spec', [WIDE, LONG, tiny.IMAGE, tiny.SEQUENCE, tiny.TEXT], ids=lambda m: m.name)
def test_patchify_cuts_row_major_patches_and_unpatchify_joins_them(spec):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 7, (2, 6)) if spec.kind == 'tokens' else rng.normal(size=(2, *spec.shape))
    tokens = modality.patchify(spec, x)
    np.testing.assert_array_equal(tokens, reference.tokens_of(spec, x))
    assert tokens.shape[:2] == (2, spec.tokens)
    assert spec.kind == 'tokens' or tokens.shape[2] == spec.token_dim
    np.testing.assert_array_equal(modality.unpatchify(spec, tokens), x)


def test_counts():
    assert (WIDE.grid, WIDE.tokens, WIDE.token_dim) == ((2, 3), 6, 12)
    assert (LONG.grid, LONG.tokens, LONG.token_dim) == ((4,), 4, 6)
    assert (tiny.TEXT.grid, tiny.TEXT.tokens, tiny.TEXT.token_dim) == ((6,), 6, 7)


def test_normalised_patches_have_mean_0_and_variance_1_and_come_back():
    tokens = np.random.default_rng(0).normal(3, 5, (2, 4, 9))
    tokens[0, 0] = 2.0  # a constant patch must not divide by zero
    normal = modality.normalise_patches(tokens)
    np.testing.assert_allclose(normal.mean(-1), 0, atol=1e-12)
    variance = normal.var(-1)
    assert variance[0, 0] == 0 and np.allclose(variance[1:], 1, atol=1e-6)
    np.testing.assert_allclose(modality.denormalise_patches(normal, tokens), tokens, rtol=1e-12)
    np.testing.assert_allclose(modality.denormalise_patches(np.zeros_like(tokens), tokens),
                               np.broadcast_to(tokens.mean(-1, keepdims=True), tokens.shape))


@pytest.mark.parametrize('how, parts', [
    (dict(kind='video', shape=(8, 8, 1)), ('data.modalities.x.kind', 'video', 'image, sequence, tokens')),
    (dict(kind='image', shape=(8, 8)), ('data.modalities.x.shape', '(8, 8)', '(height, width, channels)')),
    (dict(kind='sequence', shape=(0, 2)), ('data.modalities.x.shape', '(0, 2)', '>= 1')),
    (dict(kind='image', shape=(8, 8, 1), patch=3), ('data.modalities.x.patch', '3', '(8, 8)')),
    (dict(kind='image', shape=(8, 6, 1), patch=4), ('data.modalities.x.patch', '4', '(8, 6)')),
    (dict(kind='sequence', shape=(10, 1), patch=4), ('data.modalities.x.patch', '4', '(10,)')),
    (dict(kind='sequence', shape=(10, 1), patch=0), ('data.modalities.x.patch', '0', 'at least 1')),
    (dict(kind='tokens', shape=(5,), vocab=1), ('data.modalities.x.vocab', '1', 'at least 2')),
])
def test_wrong_modalities_are_refused_with_key_value_and_what_is_allowed(how, parts):
    with pytest.raises(UserError) as e:
        Modality('x', **how)
    assert all(p in str(e.value) for p in parts), str(e.value)
