"""How a checkpoint wants its pictures: preprocessor_config.json, and Pillow's own resizing."""
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from fipjax.errors import UserError
from fipjax.models.convert import pictures

PILLOW = {1: Image.Resampling.LANCZOS, 2: Image.Resampling.BILINEAR, 3: Image.Resampling.BICUBIC}
WHOLE = {'mean': (0.0,), 'deviation': (1.0,), 'filter': 'linear', 'enlarge': 1.0, 'aspect': False}


def smooth(rows, columns, channels=1):
    return np.random.default_rng(rows + columns).uniform(size=(2, rows, columns, channels)).astype(np.float32)


def by_pillow(x, rows, columns, resample):
    """[B, H, W] by Pillow on 32-bit floats."""
    return np.stack([np.asarray(Image.fromarray(p, mode='F').resize((columns, rows), resample)) for p in x])


@pytest.mark.filterwarnings('ignore:.mode. parameter is deprecated')
@pytest.mark.parametrize('number', PILLOW)
@pytest.mark.parametrize('rows, columns, side', [(20, 31, 8), (6, 5, 16), (12, 12, 12)])
def test_resizing_is_pillow_s(number, rows, columns, side):
    x = smooth(rows, columns)
    wanted = {**WHOLE, 'filter': pictures.FILTERS[number]}
    got = pictures.preparation(wanted, side, 1)(jnp.asarray(x))
    np.testing.assert_allclose(got[..., 0], by_pillow(x[..., 0], side, side, PILLOW[number]), atol=2e-5)


@pytest.mark.filterwarnings('ignore:.mode. parameter is deprecated')
def test_shortest_edge_and_centre_as_dinov2_has_them():
    found = pictures.settings({'do_center_crop': True, 'size': {'shortest_edge': 20}, 'resample': 3,
                               'crop_size': {'height': 16, 'width': 16}}, 3, 'file')
    assert (found['enlarge'], found['aspect'], found['filter']) == (1.25, True, 'cubic')
    assert found['mean'] == pictures.IMAGENET['mean'] and found['deviation'] == pictures.IMAGENET['deviation']
    x = smooth(24, 36)
    got = pictures.preparation({**found, 'mean': (0.0,), 'deviation': (1.0,)}, 8, 1)(jnp.asarray(x))
    whole = by_pillow(x[..., 0], 10, 15, Image.Resampling.BICUBIC)  # 8 is cut out of a shortest edge of 10
    np.testing.assert_allclose(got[..., 0], whole[:, 1:9, 3:11], atol=2e-5)


def test_statistics_and_grey_pictures():
    found = pictures.settings({'image_mean': [0.5, 0.25, 0.0], 'image_std': [0.5, 1, 2]}, 3, 'file')
    assert found['filter'] == 'linear' and (found['enlarge'], found['aspect']) == (1.0, False)
    got = pictures.preparation(found, 4, 1)(jnp.full((1, 4, 4, 1), 0.75))
    np.testing.assert_allclose(got[0, 2, 3], [0.5, 0.5, 0.375], rtol=1e-6)
    colours = jnp.asarray(np.tile(np.float32([0.5, 1.25, -2]), (1, 4, 4, 1)))
    np.testing.assert_allclose(pictures.preparation(found, 4, 3)(colours)[0, 0, 0], [0, 1, -1], rtol=1e-6)
    plain = pictures.settings({'do_normalize': False}, 2, 'file')
    assert (plain['mean'], plain['deviation']) == ((0.0, 0.0), (1.0, 1.0))


@pytest.mark.parametrize('config, said', [
    ({'resample': 9}, 'resample in preprocessor_config.json is 9; allowed: 0, 1, 2, 3'),
    ({'image_mean': [0.5]}, r'image_mean in preprocessor_config.json is \[0.5\]; allowed: 3 numbers'),
    ({'image_std': [0.5, 0, 1]}, 'image_std .* allowed: 3 numbers above 0'),
    ({'image_std': 'all'}, "image_std .* is 'all'"),
    ({'do_center_crop': True, 'size': 8, 'crop_size': 9}, 'cuts out 9 of 8; what is read is a side'),
    ({'do_center_crop': True, 'crop_size': 9}, 'cuts out 9 of None'),
])
def test_wrong_settings_are_named(config, said):
    with pytest.raises(UserError, match=f'file: .*{said}'):
        pictures.settings(config, 3, 'file')


def test_channels_that_do_not_fit():
    with pytest.raises(UserError, match='embeds pictures of 1 channels; the source data have 2'):
        pictures.preparation(WHOLE, 4, 2)
