"""Views against brute force, and the source: keys, splits, shapes, ranges, bad input."""
import subprocess
import sys

import numpy as np
import pytest

from fipjax.data import constellation, denomae
from fipjax.data.constellation import Signal, Source
from fipjax.errors import UserError
from fipjax.modality import Modality

MODALITIES = {'image': Modality('image', 'image', (32, 32, 3), 8),
              'iq': Modality('iq', 'sequence', (64, 2), 8),
              'spectrogram': Modality('spectrogram', 'image', (16, 16, 1), 8)}


def source(size=40, seed=0, split='train', offset=0, modalities=MODALITIES, **fields):
    return Source(Signal(**fields), modalities, size, seed, split, offset)


def kernel_sum(points, size, pixel_centres):
    """By definition: every point, every pixel; optionally with the points moved to the centres of their
    pixels."""
    pixel = 5.0 / size
    out = np.zeros((size, size, 3))
    blocks = [(max(1, round(b * size / 224)), 5 / (b * 5.0 / 224 * np.sqrt(2))) for b in (5, 25, 50)]
    centre = -2.5 + pixel * (np.arange(size) + 0.5)
    for z in points:
        column, row = int(np.floor((z.real + 2.5) / pixel)), int(np.floor((2.5 - z.imag) / pixel))
        x, y = z.real, z.imag
        if pixel_centres:
            x, y = -2.5 + (column + 0.5) * pixel, 2.5 - (row + 0.5) * pixel
        distance = np.hypot(centre - x, (-centre - y)[:, None])
        for channel, (half, decay) in enumerate(blocks):
            near = [np.abs(np.arange(size) - place) <= half for place in (row, column)]
            block = near[0][:, None] & near[1]
            out[:, :, channel] += block * np.exp(-decay * distance)
    top = out.max(axis=(0, 1))
    return np.floor(255 * out / np.where(top > 0, top, 1))


def cloud(count, spread=1.0, seed=0):
    rng = np.random.default_rng(seed)
    return (spread * (rng.normal(size=(1, count)) + 1j * rng.normal(size=(1, count)))).astype(np.complex64)


@pytest.mark.parametrize('size', [16, 33, 64])
@pytest.mark.parametrize('spread', [0.5, 2.5])
def test_image_is_the_kernel_sum_of_points_at_pixel_centres(size, spread):
    points = cloud(200, spread)
    image = constellation.constellation_image(points, size)
    assert image.shape == (1, size, size, 3) and image.dtype == np.uint8
    difference = np.abs(image[0].astype(int) - kernel_sum(points[0].astype(complex), size, True))
    assert difference.max() <= 1 and difference.mean() < 1e-2


def test_image_is_close_to_the_kernel_sum_of_the_points_themselves():
    points = cloud(500)
    image = constellation.constellation_image(points, 224)[0].astype(int)
    error = np.abs(image - kernel_sum(points[0].astype(complex), 224, False)).mean(axis=(0, 1))
    assert np.all(error < [2.7, 1.2, 0.8])


def test_image_of_one_point_has_its_maximum_there_and_empty_pictures_are_black():
    image = constellation.constellation_image(np.array([[1.0 + 2.0j], [80 + 0j]], np.complex64), 50)
    row, column = int((2.5 - 2.0) / 0.1), int((2.5 + 1.0) / 0.1)
    assert np.all(image[0, row, column] == 255)
    assert np.all(np.sum(image[0] == 255, axis=(0, 1)) == 1)
    assert not image[1].any()


def test_pictures_of_two_sizes_agree():
    """64 and 224 pixels show the same plane: block means of the wide kernels are alike."""
    points = cloud(2000, 0.7)
    small = constellation.constellation_image(points, 32)[0, :, :, 1:].astype(float)
    large = constellation.constellation_image(points, 224)[0, :, :, 1:].astype(float)
    mean = large.reshape(32, 7, 32, 7, 2).mean(axis=(1, 3))
    for channel in range(2):
        assert np.corrcoef(small[:, :, channel].ravel(), mean[:, :, channel].ravel())[0, 1] > 0.99


def test_iq_keeps_the_samples():
    x = cloud(10)
    view = constellation.iq(x, 6)
    np.testing.assert_array_equal(view[..., 0] + 1j * view[..., 1], x[:, :6])


def test_spectrogram_of_a_tone_and_of_noise():
    size, total, cycle = 32, 256, 5 / 32
    tone = np.exp(2j * np.pi * cycle * np.arange(total))[None].astype(np.complex64)
    view = constellation.spectrogram(tone, size)[0, :, :, 0]
    assert np.all(view[:, :size - 4].argmax(axis=0) == size // 2 + 5)
    window = np.hanning(size + 1)[:-1]
    level = 10 * np.log10(window.sum() ** 2 / np.sum(window ** 2))
    scaled = (level - constellation.FLOOR_DB) * 2 / (constellation.TOP_DB - constellation.FLOOR_DB) - 1
    np.testing.assert_allclose(view[size // 2 + 5, :4], scaled, atol=1e-3)
    noise = constellation.spectrogram(cloud(2 ** 14, np.sqrt(0.5)), 128)[0]
    decibel = (noise + 1) / 2 * (constellation.TOP_DB - constellation.FLOOR_DB) + constellation.FLOOR_DB
    assert np.mean(10 ** (decibel / 10)) == pytest.approx(1, rel=0.1)


def test_decode_is_exact_at_the_ends():
    assert constellation.decode('image', np.array([0, 255], np.uint8)).tolist() == [-1, 1]
    assert constellation.decode('iq', np.array([0.3], np.float32)).tolist() == [np.float32(0.3)]


# Source

@pytest.mark.parametrize('mode', ['standard', 'denomae'])
def test_batch_has_the_agreed_form(mode):
    data = source(mode=mode, offset=100)
    batch = data.take(np.arange(12))
    assert len(data) == 40 and data.classes == Signal(mode=mode).classes
    assert batch['id'].dtype == np.int32 and batch['id'].tolist() == list(range(100, 112))
    assert batch['label'].dtype == np.int32
    assert batch['label'].tolist() == [row % len(data.classes) for row in range(12)]
    assert batch['meta']['snr_db'].dtype == np.float32 and np.all(np.abs(batch['meta']['snr_db']) <= 10)
    for part in ('inputs', 'targets'):
        for name, modality in MODALITIES.items():
            view = batch[part][name]
            assert view.dtype == np.float32 and view.shape == (12, *modality.shape)
            assert np.isfinite(view).all()
            if name != 'iq':
                assert np.abs(view).max() <= 1
    assert all(batch['present'][name].all() for name in MODALITIES)


@pytest.mark.parametrize('mode', ['standard', 'denomae'])
def test_a_row_does_not_depend_on_its_batch(mode):
    data = source(mode=mode)
    alone, among, every = data.take([9]), data.take([3, 9, 5]), data.take(np.arange(40))
    for part in ('inputs', 'targets'):
        for name in MODALITIES:
            np.testing.assert_array_equal(alone[part][name][0], among[part][name][1])
            np.testing.assert_array_equal(alone[part][name][0], every[part][name][9])
    assert alone['meta']['snr_db'][0] == among['meta']['snr_db'][1] == every['meta']['snr_db'][9]


def test_splits_share_no_sample_and_do_not_depend_on_offset_or_size():
    views = {split: source(split=split).take(np.arange(20))['inputs']['iq'] for split in constellation.SPLITS}
    everything = np.concatenate(list(views.values())).reshape(80, -1)
    assert len(np.unique(everything, axis=0)) == 80
    again = source(size=25, offset=7).take(np.arange(20))['inputs']['iq']
    np.testing.assert_array_equal(again, views['train'])
    assert not np.array_equal(source(seed=1).take(np.arange(20))['inputs']['iq'], again)


def test_noise_is_in_the_input_and_not_in_the_target():
    quiet, loud = (source(snr_grid=(snr,)).take(np.arange(13)) for snr in (60.0, -5.0))
    np.testing.assert_array_equal(quiet['targets']['image'], loud['targets']['image'])
    np.testing.assert_allclose(quiet['inputs']['iq'], quiet['targets']['iq'], atol=0.02)
    spread = np.std(loud['inputs']['iq'] - loud['targets']['iq'])
    assert spread == pytest.approx(np.sqrt(4 * 10 ** 0.5 / 2), rel=0.15)


def test_ceiling_is_none_in_standard_mode_and_stated_in_the_other():
    assert (source().ceiling, source().ceiling_reason) == (None, '')
    data = source(mode='denomae')
    assert data.ceiling == denomae.CEILING == 0.8 and '80 %' in data.ceiling_reason


def test_rows_out_of_range_are_refused():
    for rows in ([40], [-1]):
        with pytest.raises(IndexError, match='40 examples'):
            source().take(rows)


@pytest.mark.parametrize('name, modality', [
    ('audio', Modality('audio', 'sequence', (64, 2), 8)),
    ('image', Modality('image', 'sequence', (32, 3), 8)),
    ('image', Modality('image', 'image', (32, 16, 3), 8)),
    ('image', Modality('image', 'image', (32, 32, 1), 8)),
    ('iq', Modality('iq', 'sequence', (64, 1), 8)), ('iq', Modality('iq', 'sequence', (4096, 2), 8)),
    ('iq', Modality('iq', 'image', (32, 32, 3), 8)),
    ('spectrogram', Modality('spectrogram', 'image', (16, 16, 3), 8))])
def test_modalities_that_are_no_views_are_named(name, modality):
    with pytest.raises(UserError, match=f"modality '{name}'.*expected"):
        source(modalities={name: modality})


@pytest.mark.parametrize('fields, message', [
    ({'split': 'dev'}, "'dev'"), ({'size': -1}, '-1 examples'), ({'offset': 2 ** 31}, str(2 ** 31)),
    ({'seed': -2}, r'data\.seed: -2'), ({'modalities': {}}, r'data\.modalities: empty')])
def test_bad_arguments_are_named(fields, message):
    with pytest.raises(UserError, match=message):
        source(**fields)


def test_import_is_light():
    code = ('import sys; import fipjax.data.constellation; '
            'print([m for m in ("jax", "tensorflow", "tensorflow_datasets", "grain") if m in sys.modules])')
    out = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == '[]'
