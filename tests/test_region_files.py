"""Regions in files: what is read, in which order, and every way in which it can be wrong."""
import pickle

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from fipjax.data import region_files, regions
from fipjax.errors import UserError

SETTINGS = ConfigDict({'features': 'crops', 'grid': (2, 2), 'maximum': 4})
WIDTH, HEIGHT, F, C = 40, 20, 6, 3


def one(n, seed=0, **changes):
    """Arrays of features/NAME.npz."""
    rng = np.random.default_rng([seed, n])
    low = rng.uniform(0, 0.5, (n, 2))
    boxes = np.concatenate([low, low + rng.uniform(0.1, 0.5, (n, 2))], 1) * [WIDTH, HEIGHT, WIDTH, HEIGHT]
    return {'features': rng.normal(size=(n, F)).astype(np.float32), 'boxes': boxes, 'width': WIDTH, 'height': HEIGHT,
            'class_probs': rng.dirichlet(np.ones(C), n), **changes}


def table(**changes):
    """Arrays of regions.npz: three pictures with 2, 3 and 1 regions."""
    rng, count = np.random.default_rng(1), np.array([2, 3, 1])
    low = rng.uniform(0, 0.5, (3, 3, 2))
    return {'names': np.array(['a', 'b/c', 'd']), 'features': rng.normal(size=(3, 3, F)), 'count': count,
            'boxes': np.concatenate([low, low + rng.uniform(0.1, 0.5, (3, 3, 2))], -1), **changes}


def features_folder(folder, tables):
    (folder / 'features').mkdir()
    for name, arrays in tables.items():
        np.savez(folder / 'features' / f'{name}.npz', **arrays)
    return folder


def test_files_of_single_pictures(tmp_path):
    given = {'x': one(2), 'y': one(4), 'z': one(1)}
    features_folder(tmp_path, given)
    found, place = region_files.read(tmp_path, ['y', 'x.jpg'], SETTINGS, 'mine')
    assert place == {'y': 0, 'x.jpg': 1} and found.count.tolist() == [4, 2] and found.detector == 'mine'
    assert found.features.shape == (2, 4, F) and found.boxes.shape == (2, 4, 4) and found.classes.shape == (2, 4, C)
    for row, name in enumerate('yx'):
        n = len(given[name]['boxes'])
        np.testing.assert_array_equal(found.features[row, :n], given[name]['features'])
        np.testing.assert_allclose(found.boxes[row, :n, ::2], given[name]['boxes'][:, ::2] / WIDTH, rtol=1e-6)
        np.testing.assert_allclose(found.boxes[row, :n, 1::2], given[name]['boxes'][:, 1::2] / HEIGHT, rtol=1e-6)
        np.testing.assert_allclose(found.classes[row, :n], given[name]['class_probs'], rtol=1e-6)
        assert not found.features[row, n:].any() and not found.boxes[row, n:].any()
    assert found.features.dtype == found.boxes.dtype == found.classes.dtype == np.float32
    assert found.count.dtype == np.int32
    none = {k: v for k, v in one(2).items() if k != 'class_probs'}
    np.savez(tmp_path / 'features' / 'n.npz', **none)
    bare, _ = region_files.read(tmp_path, ['n'], SETTINGS)
    assert bare.classes is None and bare.detector == 'features 6 wide'


def test_one_file_of_all_pictures(tmp_path):
    given = table(features=np.full((3, 3, F), np.nan))
    given['features'][0, :2] = given['features'][1] = given['features'][2, 0] = 1.5  # the rest may be anything
    valid = np.arange(3) < given['count'][:, None]
    probs = np.where(valid[..., None], np.random.default_rng(2).dirichlet(np.ones(C), (3, 3)), 7)
    np.savez(tmp_path / 'regions.npz', **given, detector='r101', class_probs=probs)
    (tmp_path / 'features').mkdir()  # regions.npz comes first
    found, place = region_files.read(tmp_path, ['d', 'a'], SETTINGS)
    assert place == {'a': 0, 'b/c': 1, 'd': 2} and found.detector == 'r101'
    np.testing.assert_array_equal(found.classes, np.where(valid[..., None], probs, 0).astype(np.float32))
    np.testing.assert_array_equal(found.features, np.where(valid, 1.5, 0)[..., None].repeat(F, -1))
    np.testing.assert_array_equal(found.boxes, np.where(valid[..., None], given['boxes'], 0).astype(np.float32))
    assert region_files.read(tmp_path, ['a'], SETTINGS, 'named by the data set')[0].detector == 'named by the data set'


COLOURS = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]]], np.uint8)


def quarters(rows, columns):
    """A picture of four colours, [rows, columns, 3]."""
    return COLOURS.repeat(rows // 2, 0).repeat(columns // 2, 1)


def test_pictures_are_cut_into_a_grid(tmp_path):
    (tmp_path / 'images' / 'sub').mkdir(parents=True)
    side = region_files.SIDE
    Image.fromarray(quarters(side, side)).save(tmp_path / 'images' / 'sub' / 'a.png')
    Image.fromarray(quarters(side // 2, side * 4)).save(tmp_path / 'images' / 'b.jpg', quality=100, subsampling=0)
    found, place = region_files.read(tmp_path, ['b.jpg', 'sub/a.png'], SETTINGS)
    assert place == {'b.jpg': 0, 'sub/a.png': 1} and found.count.tolist() == [5, 5] and found.detector == 'crops'
    np.testing.assert_array_equal(found.boxes[1], [[0, 0, 1, 1], [0, 0, .5, .5], [.5, 0, 1, .5], [0, .5, .5, 1],
                                                   [.5, .5, 1, 1]])
    cells = found.features[1, 1:].reshape(4, 8, 8, 3)
    for cell, colour in zip(cells, COLOURS.reshape(4, 3), strict=True):
        np.testing.assert_allclose(cell, np.broadcast_to(colour / 127.5 - 1, (8, 8, 3)), atol=1e-6)
    middle = found.features[0, 1:].reshape(4, 8, 8, 3)[:, 3:5, 3:5].mean((1, 2))
    np.testing.assert_allclose(middle, COLOURS.reshape(4, 3) / 127.5 - 1, atol=0.05)  # JPEG is not exact
    assert found.classes is None and found.features.dtype == np.float32


def test_features_are_those_of_regions(tmp_path):
    settings = ConfigDict({**SETTINGS.to_dict(), 'features': 'frozen', 'grid': (1, 3)})
    pictures = np.random.default_rng(0).integers(0, 256, (300, 16, 16, 3)).astype(np.uint8)
    found = region_files.cut(iter(pictures), settings)
    boxes = np.tile(regions.grid_boxes(1, 3), (300, 1, 1))
    np.testing.assert_allclose(found.features, regions.regions_of_pictures(pictures, boxes, np.full(300, 4), 'frozen'),
                               atol=1e-6)
    assert found.detector == 'frozen' and found.features.shape == (300, 4, 64)


def test_photographs_are_turned_as_the_camera_says(tmp_path):
    (tmp_path / 'images').mkdir()
    exif = Image.Exif()
    exif[274] = 6  # the camera was turned: a quarter to the right when shown
    flat = quarters(64, 64)
    Image.fromarray(flat).save(tmp_path / 'images' / 'a.jpg', quality=100, subsampling=0, exif=exif)
    found, _ = region_files.read(tmp_path, ['a.jpg'], SETTINGS)
    middle = found.features[0, 1:].reshape(4, 8, 8, 3)[:, 3:5, 3:5].mean((1, 2))
    np.testing.assert_allclose(middle, np.rot90(COLOURS, -1).reshape(4, 3) / 127.5 - 1, atol=0.05)


def test_other_kinds_of_pictures_become_rgb(tmp_path):
    (tmp_path / 'images').mkdir()
    Image.fromarray(np.full((9, 7), 51, np.uint8)).save(tmp_path / 'images' / 'grey.png')
    Image.fromarray(np.full((9, 7, 4), 51, np.uint8), 'RGBA').save(tmp_path / 'images' / 'alpha.png')
    found, _ = region_files.read(tmp_path, ['grey.png', 'alpha.png'], SETTINGS)
    np.testing.assert_allclose(found.features, 51 / 127.5 - 1, atol=1e-6)
    assert (region_files.square(np.full((3, 5, 1), 7, np.uint8), 'here') == 7).all()


@pytest.mark.parametrize('changes, message', [
    ({'features': np.zeros((2, F, 1))}, r"'features' is float64 \[2, 6, 1\]; expected numbers \[N, F\]"),
    ({'features': np.array([['a'] * F] * 2)}, "'features' is <U1"),
    ({'features': np.zeros((0, F)), 'boxes': np.zeros((0, 4)), 'class_probs': np.zeros((0, C))}, 'no regions'),
    ({'features': np.full((2, F), np.nan)}, "NaN or infinity in 'features'"),
    ({'features': np.full((2, F), 1e300)}, "NaN or infinity in 'features'"),
    ({'boxes': np.zeros((3, 4))}, r"'boxes' is float64 \[3, 4\]; expected numbers \[N, 4\]"),
    ({'boxes': np.zeros((2, 5))}, r"'boxes' is \[2, 5\]; expected \[N, 4\]"),
    ({'boxes': np.array([[0, 0, 9, 9], [5, 3, 5, 9]])}, r'box 1 is \[0.125, 0.15, 0.125, 0.45\].*x1 < x2'),
    ({'boxes': np.array([[0, 0, 9, 9], [5, 9, 8, 3]])}, r'box 1 is .*y1 < y2'),
    ({'boxes': np.array([[0, 0, 41, 9], [0, 0, 9, 9]])}, r'box 0 is \[0.0, 0.0, 1.025, 0.45\]'),
    ({'boxes': np.array([[-2, 0, 9, 9], [0, 0, 9, 9]])}, r'box 0 is \[-0.05,'),
    ({'boxes': np.array([[0, 0, np.inf, 9], [0, 0, 9, 9]])}, "NaN or infinity in 'boxes'"),
    ({'width': 0}, r"'width' and 'height' must be numbers above 0; found \[0, 20\]"),
    ({'height': np.nan}, "'width' and 'height' must be"),
    ({'width': np.array('wide')}, "'width' and 'height' must be"),
    ({'class_probs': np.full((2, C), 0.5)}, "'class_probs' must be at least 0 and sum to 1.*found sums 1.5 to 1.5"),
    ({'class_probs': np.array([[-1, 1, 1.0]] * 2)}, "'class_probs' must be at least 0"),
    ({'more': 1}, "unknown array 'more'; found .*optional: class_probs"),
])
def test_a_bad_file_of_one_picture_is_named(tmp_path, changes, message):
    features_folder(tmp_path, {'ok': one(3), 'bad': one(2, **changes)})
    with pytest.raises(UserError, match=message) as found:
        region_files.read(tmp_path, ['ok', 'bad'], SETTINGS)
    assert 'bad.npz' in str(found.value)


def test_detectors_may_round(tmp_path):
    boxes = np.array([[-0.01, 0, WIDTH + 0.01, HEIGHT], [3, 3, 9, HEIGHT]])
    found, _ = region_files.read(features_folder(tmp_path, {'a': one(2, boxes=boxes)}), ['a'], SETTINGS)
    np.testing.assert_allclose(found.boxes[0], [[0, 0, 1, 1], [3 / WIDTH, 3 / HEIGHT, 9 / WIDTH, 1]], atol=0, rtol=1e-6)


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(UserError, match='none of regions.npz, features/ and images/ is there'):
        region_files.read(tmp_path, ['a'], SETTINGS)
    given = one(2)
    del given['width']
    features_folder(tmp_path, {'a': given})
    with pytest.raises(UserError, match="a.npz: no array 'width'; found"):
        region_files.read(tmp_path, ['a'], SETTINGS)
    with pytest.raises(UserError, match='b.npz: no such file; every picture'):
        region_files.read(tmp_path, ['b'], SETTINGS)


def test_files_of_different_detectors(tmp_path):
    wide = one(2, features=np.zeros((2, 2048)))
    features_folder(tmp_path, {'a': one(2), 'b': wide, 'c': one(2, class_probs=np.full((2, 4), 0.25))})
    with pytest.raises(UserError, match='b.npz: features are 2048 wide .Faster R-CNN ResNeXt-152.*a.npz are 6 wide'
                                        '.*2048: .*1024: .*512: .*192: crops.*64: frozen'):
        region_files.read(tmp_path, ['a', 'b'], SETTINGS)
    with pytest.raises(UserError, match='c.npz: class_probs of 4 classes, .*a.npz has 3'):
        region_files.read(tmp_path, ['a', 'c'], SETTINGS)
    del wide['class_probs']
    np.savez(tmp_path / 'features' / 'd.npz', **one(2, class_probs=np.full((2, 1), 1.0)))
    np.savez(tmp_path / 'features' / 'e.npz', **{**wide, 'features': np.zeros((2, F))})
    with pytest.raises(UserError, match='e.npz: class_probs of no classes, .*d.npz has 1'):
        region_files.read(tmp_path, ['d', 'e'], SETTINGS)


def test_too_many_regions(tmp_path):
    features_folder(tmp_path, {'a': one(4), 'b': one(5)})
    region_files.read(tmp_path, ['a'], SETTINGS)
    with pytest.raises(UserError, match='b.npz: 5 regions; regions.maximum is 4'):
        region_files.read(tmp_path, ['a', 'b'], SETTINGS)
    np.savez(tmp_path / 'regions.npz', **table())
    small = ConfigDict({**SETTINGS.to_dict(), 'maximum': 2})
    with pytest.raises(UserError, match="regions.npz: picture 'b/c': 3 regions; regions.maximum is 2"):
        region_files.read(tmp_path, ['a'], small)


@pytest.mark.parametrize('changes, message', [
    ({'names': np.array(['a', 'b', 'a'])}, "the name 'a' occurs twice"),
    ({'names': np.arange(3)}, r"'names' is int64 \[3\]; expected one text for each of the 3"),
    ({'names': np.array(['a', 'b'])}, "'names' is <U1 .2."),
    ({'names': np.array(['d', 'e', 'f'])}, r"no picture 'a' \(1 of 1 are missing\); names are e.g. 'd', 'e', 'f'"),
    ({'count': np.array([2, 4, 1])}, "picture 'b/c' has count 4; allowed: 1..3"),
    ({'count': np.array([2, 3, 0])}, "picture 'd' has count 0"),
    ({'count': np.array([2.0, 3, 1])}, r"'count' is float64 \[3\]; expected integers"),
    ({'boxes': np.zeros((3, 2, 4))}, r"'boxes' is float64 \[3, 2, 4\].*features are \[3, 3, 6\]"),
    ({'boxes': np.zeros((3, 3, 5))}, "'boxes' is"),
    ({'boxes': np.zeros((3, 3, 4))}, r"picture 'a': box 0 is \[0.0, 0.0, 0.0, 0.0\]"),
    ({'boxes': np.tile([0, 0, 30, 20.0], (3, 3, 1))}, r'as shares of the picture'),
    ({'class_probs': np.zeros((3, 3))}, r"'class_probs' is float64 \[3, 3\]; expected numbers \[P, R, C\]"),
    ({'class_probs': np.zeros((3, 3, 2))}, "picture 'a': 'class_probs' must"),
    ({'features': np.full((3, 3, F), np.inf)}, "picture 'a': NaN or infinity in 'features'"),
    ({'extra': np.zeros(3)}, "unknown array 'extra'"),
])
def test_a_bad_file_of_all_pictures_is_named(tmp_path, changes, message):
    np.savez(tmp_path / 'regions.npz', **table(**changes))
    with pytest.raises(UserError, match=message) as found:
        region_files.read(tmp_path, ['a'], SETTINGS)
    assert 'regions.npz' in str(found.value)


class Evil:
    def __reduce__(self):
        return exec, ("raise SystemExit('it was executed')",)


@pytest.mark.parametrize('name', ['regions.npz', 'features/a.npz'])
def test_nothing_is_executed(tmp_path, name):
    (tmp_path / 'features').mkdir()
    path = tmp_path / name
    np.savez(path, **(table() if name == 'regions.npz' else one(2)) | {'features': np.array([Evil()], object)})
    with pytest.raises(UserError, match='not an .npz file of plain arrays: .*allow_pickle'):
        region_files.read(tmp_path, ['a'], SETTINGS)
    for content in (pickle.dumps(Evil()), b'', b'PK\x03\x04 broken'):
        path.write_bytes(content)
        with pytest.raises(UserError, match='not an .npz file of plain arrays'):
            region_files.read(tmp_path, ['a'], SETTINGS)


def test_pictures_that_cannot_be_read(tmp_path, monkeypatch):
    folder = tmp_path / 'images'
    folder.mkdir()
    read = lambda name: region_files.read(tmp_path, [name], SETTINGS)  # noqa: E731
    with pytest.raises(UserError, match='a.png: no such file; every picture that a text names'):
        read('a.png')
    with pytest.raises(UserError, match="a.gif: ends in '.gif'; pictures are .png, .jpg, .jpeg"):
        read('a.gif')
    Image.new('RGB', (30, 20)).save(folder / 'whole.png')
    content = (folder / 'whole.png').read_bytes()
    for name, data in {'text.png': b'no picture', 'empty.jpg': b'', 'half.png': content[:len(content) // 2]}.items():
        (folder / name).write_bytes(data)
        with pytest.raises(UserError, match=f'{name}: not a picture that can be read'):
            read(name)
    Image.new('P', (4, 4)).save(folder / 'a.gif')
    (folder / 'a.gif').rename(folder / 'gif.png')  # only the two kinds are opened, whatever the name says
    with pytest.raises(UserError, match='gif.png: not a picture'):
        read('gif.png')
    monkeypatch.setattr(region_files, 'MOST_PIXELS', 599)
    with pytest.raises(UserError, match='whole.png: 30 x 20 pixels; allowed: 599'):
        read('whole.png')
    for most in (100, 400):  # PIL's own limits, at which it warns and refuses
        monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', most)
        with pytest.raises(UserError, match='whole.png: too large a picture'):
            read('whole.png')


@pytest.mark.parametrize('picture', [np.zeros((4, 4, 3)), np.zeros((4, 4), np.uint8), np.zeros((4, 4, 2), np.uint8),
                                     np.zeros((0, 4, 3), np.uint8)])
def test_arrays_that_are_no_pictures(picture):
    with pytest.raises(UserError, match=r'here: the picture is .*; expected uint8 \[H, W, 3\]'):
        region_files.square(picture, 'here')
