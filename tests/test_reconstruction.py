"""Reconstruction pictures: what is shown where."""
import base64
import io

import numpy as np
import pytest
from PIL import Image

from fipjax.evaluators import reconstruction
from fipjax.modality import Modality, denormalise_patches, normalise_patches, patchify, unpatchify

IMAGE = Modality('image', 'image', (16, 24, 3), 8)
SEQUENCE = Modality('iq', 'sequence', (64, 2), 8)
TOKENS = Modality('text', 'tokens', (12,), 1, vocab=5)


def batch(modality, seed=0, n=3):
    rng = np.random.default_rng(seed)
    target, noise = rng.normal(size=(2, n, *modality.shape)).astype(np.float32)
    visible = rng.random((n, modality.tokens)) < 0.4
    prediction = rng.normal(size=(n, modality.tokens, modality.token_dim)).astype(np.float32)
    return target, target + noise, prediction, visible


@pytest.mark.parametrize('modality', [IMAGE, SEQUENCE])
def test_denormalise_inverts_normalise(modality):
    target = batch(modality)[0].astype(np.float64) * 3 + 1
    tokens = patchify(modality, target)
    normal = normalise_patches(tokens)
    np.testing.assert_allclose(normal.mean(-1), 0, atol=1e-12)
    np.testing.assert_allclose(normal.var(-1), 1, atol=1e-5)
    np.testing.assert_allclose(denormalise_patches(normal, tokens), tokens, atol=1e-12)


@pytest.mark.parametrize('modality', [IMAGE, SEQUENCE])
@pytest.mark.parametrize('normalised', [True, False])
def test_visible_patches_are_the_input_and_masked_ones_the_prediction(modality, normalised):
    target, input, prediction, visible = batch(modality)
    found = patchify(modality, reconstruction.compose(modality, prediction, input, target, visible,
                                                      normalised=normalised))
    np.testing.assert_array_equal(found[visible], patchify(modality, input)[visible])
    expected = prediction
    if normalised:
        tokens = patchify(modality, target)
        expected = prediction * np.sqrt(tokens.var(-1, keepdims=True) + 1e-6) + tokens.mean(-1, keepdims=True)
    np.testing.assert_allclose(found[~visible], expected[~visible], atol=1e-5)


def test_a_perfect_decoder_gives_the_target_back():
    target, _, _, visible = batch(IMAGE)
    perfect = normalise_patches(patchify(IMAGE, target))
    found = reconstruction.compose(IMAGE, perfect, target, target, visible)
    np.testing.assert_allclose(found, target, atol=1e-5)


@pytest.mark.parametrize('modality', [IMAGE, SEQUENCE])
def test_masked_pixels_follow_the_patches(modality):
    visible = batch(modality)[3]
    marks = np.broadcast_to(visible[..., None], (*visible.shape, modality.token_dim))
    expected = ~unpatchify(modality, marks)[0, ..., 0]
    np.testing.assert_array_equal(reconstruction.masked_pixels(modality, visible[0]), expected)


def test_displayed_range():
    image = np.asarray([[[-2.0], [-1.0], [0.0], [1.0], [3.0]]])
    np.testing.assert_allclose(reconstruction.displayed(image), [[0, 0, 0.5, 1, 1]])
    assert reconstruction.displayed(np.zeros((4, 4, 3))).shape == (4, 4, 3)
    assert reconstruction.displayed(np.zeros((4, 4, 2))).shape == (4, 4)


@pytest.mark.parametrize('modality', [IMAGE, SEQUENCE, Modality('spectrogram', 'image', (16, 16, 1), 4)])
def test_panel_is_a_picture_with_its_error(modality):
    target, input, prediction, visible = batch(modality)
    found = reconstruction.panel(modality, target, input, prediction, visible, names=['a', 'b', 'c'],
                                 examples=2)
    assert found['title'] == f'Reconstruction of {modality.name}'
    picture = Image.open(io.BytesIO(base64.b64decode(found['png'])))
    assert picture.format == 'PNG' and min(picture.size) > 100
    tokens = patchify(modality, target[:2]).astype(np.float64)
    scale, shift = np.sqrt(tokens.var(-1, keepdims=True) + 1e-6), tokens.mean(-1, keepdims=True)
    errors = np.square(prediction[:2] * scale + shift - tokens)
    assert f'{errors[~visible[:2]].mean():.4f}' in found['caption']
    assert f'{1 - visible[:2].mean():.0%} of the patches are masked' in found['caption']


def test_panel_of_tokens_counts_right_answers():
    rng = np.random.default_rng(0)
    target = rng.integers(0, 5, (2, 12))
    visible = np.tile([True, False, False], (2, 4))
    logits = np.eye(5)[np.where(np.arange(12) % 3 == 1, target, (target + 1) % 5)]
    found = reconstruction.panel(TOKENS, target, target, logits, visible)
    assert '67% of the tokens are masked; 50% of those are right' in found['caption']


def test_nothing_masked_is_drawn_without_an_error():
    target, input, prediction, visible = batch(IMAGE)
    found = reconstruction.panel(IMAGE, target, input, prediction, np.ones_like(visible))
    assert 'squared error' not in found['caption'] and found['png']


def test_wrong_number_of_tokens_is_named():
    target, input, prediction, visible = batch(IMAGE)
    with pytest.raises(ValueError, match='image has 6 tokens'):
        reconstruction.panel(IMAGE, target, input, prediction, visible[:, :5])
