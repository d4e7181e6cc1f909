"""t-SNE: the same picture again, groups that stay apart, refusals."""
import fake_runs
import numpy as np
import pytest

from fipjax.analysis import knowledge_pictures, tsne
from fipjax.errors import UserError


def test_projection_is_the_same_again_and_keeps_groups_apart():
    rng = np.random.default_rng(0)
    y = np.arange(60) % 3
    z = 20 * np.eye(3)[y] @ rng.normal(size=(3, 8)) + rng.normal(size=(60, 8))
    xy = tsne.project(z)
    assert xy.shape == (60, 2)
    np.testing.assert_array_equal(tsne.project(z), xy)
    np.testing.assert_allclose(tsne.project(1000 * z), xy, rtol=1e-3, atol=1e-3)  # features are standardised
    distance = np.linalg.norm(xy[:, None] - xy[None], axis=-1)
    np.fill_diagonal(distance, np.inf)
    assert (y[distance.argmin(1)] == y).all()


def test_picture_has_a_panel_a_cloud_and_room_for_many_classes():
    rng = np.random.default_rng(0)
    clouds = [knowledge_pictures.Cloud(name, rng.normal(size=(26, 2))) for name in ('before', 'after')]
    names = [f'${k}' for k in range(26)]
    found = knowledge_pictures.clouds(clouds, np.arange(26), names)
    assert found['wide'] and found['caption'].startswith('26 source test examples')
    assert not knowledge_pictures.clouds(clouds[:1], np.arange(26), names)['wide']


def test_wrong_input_is_refused_before_anything_is_loaded(tmp_path):
    with pytest.raises(UserError, match='--workdir is missing'):
        tsne.write(None)
    folder = fake_runs.write_run(tmp_path, fake_runs.transfer(), fake_runs.transfer_config())
    with pytest.raises(UserError, match='--labels=20: no transfer with so many labels; there are 5, 0'):
        tsne.write(str(folder), 20)
