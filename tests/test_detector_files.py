"""Features of detectors: the same pictures out of every kind of file, and what is wrong with damaged ones."""
import pickle

import h5py
import numpy as np
import pytest
import vl_official
from lmdb_writer import lmdb

from fipjax.data import detector_files
from fipjax.errors import UserError

NAMES = [vl_official.coco('train2014', 9), vl_official.coco('val2014', 30)]
KINDS = {
    'lmdb': lambda p: vl_official.mmf_lmdb(p / 'x.lmdb', NAMES),
    'lmdb without background': lambda p: vl_official.mmf_lmdb(p / 'x.lmdb', NAMES, background=False),
    'npy': lambda p: vl_official.mmf_npy(p / 'npy', NAMES),
    'npy without background': lambda p: vl_official.mmf_npy(p / 'npy', NAMES, background=False),
    'vilbert': lambda p: vl_official.tsv(p / 'x.tsv', NAMES, 'vilbert'),
    'volta': lambda p: vl_official.tsv(p / 'x.tsv.0', NAMES, 'volta'),
    'bottom-up': lambda p: vl_official.tsv(p / 'x.tsv', NAMES, 'bottom-up'),
    'lxmert': lambda p: vl_official.tsv(p / 'x.tsv', NAMES, 'lxmert'),
    'hdf5': lambda p: vl_official.hdf5(p / 'x.h5', NAMES),
    'hdf5 without classes': lambda p: vl_official.hdf5(p / 'x.hdf5', NAMES, probs=False)}


def same(found, name, classes):
    features, boxes, probs = vl_official.regions(name)
    np.testing.assert_array_equal(found['features'], features)
    np.testing.assert_allclose(found['boxes'], boxes, rtol=1e-6)
    assert (found['width'], found['height']) == (vl_official.WIDTH, vl_official.HEIGHT)
    assert ('class_probs' in found) == classes
    if classes:
        np.testing.assert_allclose(found['class_probs'], probs, atol=1e-6)
    assert {v.dtype for v in found.values()} == {np.dtype(np.float32)}


@pytest.mark.parametrize('kind', KINDS)
def test_all_kinds_give_the_same_pictures(tmp_path, kind):
    """Class 0 is the background in all of them, also where MMF leaves it out and numbers objects from 0."""
    KINDS[kind](tmp_path)
    for folder in (tmp_path, next(iter(tmp_path.iterdir()))):  # the folder that holds the file, and the file itself
        detector = detector_files.Detector(folder)
        for name in NAMES:
            found = detector.read(detector.find([name]))
            same(found, name, kind not in ('bottom-up', 'lxmert', 'hdf5 without classes'))
        assert detector.find(['nothing', 'like it']) is None and detector.dropped == 0


@pytest.mark.parametrize('whole', [{'feature': 0, 'info': 1}, {'image_feature': 0, 'image_bboxes': 2}])
def test_npy_with_everything_in_one(tmp_path, whole):
    """A single dictionary, with what is known of the picture below 'info' or beside it."""
    features, boxes, _ = vl_official.regions('a')
    info = vl_official.mmf_info('a')
    rest = {} if 'info' in whole else {k: v for k, v in info.items() if k != 'bbox'}
    np.save(tmp_path / 'a.npy', {**{k: (features, info, boxes)[v] for k, v in whole.items()}, **rest})
    detector = detector_files.Detector(tmp_path)
    same(detector.read(detector.find(['a'])), 'a', True)


@pytest.mark.parametrize('kind', ['base64', 'arrays'])
def test_lmdb_of_volta(tmp_path, kind):
    """Dictionaries of a .tsv's texts, or of an .h5's arrays."""
    features, boxes, probs = vl_official.regions('9')
    if kind == 'base64':
        item = dict(zip(detector_files.COLUMNS[13], vl_official.tsv_line('9').rstrip().split('\t')))
    else:
        item = {'img_id': '9', 'img_w': vl_official.WIDTH, 'img_h': np.int64(vl_official.HEIGHT), 'boxes': boxes,
                'features': features, 'cls_prob': probs}
    lmdb(tmp_path / 'x.lmdb', {b'9': pickle.dumps(item), b'keys': pickle.dumps([b'9'])})
    detector = detector_files.Detector(tmp_path)
    same(detector.read(detector.find(['COCO_train2014_000000000009', '9'])), '9', True)


def test_names(tmp_path):
    vl_official.mmf_npy(tmp_path / 'a', ['train/x_1', 'val/x_2', 'train/y', 'val/y'])
    vl_official.tsv(tmp_path / 'b.tsv', ['7', 'z'])
    detector = detector_files.Detector(tmp_path)
    places = [detector.find(names) for names in (['x_1'], ['train/x_1'], ['none', '7'], ['val/y'])]
    assert places == [(0, 'train/x_1'), (0, 'train/x_1'), (1, '7'), (0, 'val/y')]
    assert sorted(places, key=detector.order) == [(0, 'train/x_1'), (0, 'train/x_1'), (0, 'val/y'), (1, '7')]
    with pytest.raises(UserError, match="the picture 'y' is there more than once, in .*a"):
        detector.find(['y'])
    vl_official.tsv(tmp_path / 'c.tsv', ['z'])
    with pytest.raises(UserError, match="the picture 'z' is there more than once, in .*b.tsv, .*c.tsv"):
        detector_files.Detector(tmp_path).find(['z'])


def read_one(tmp_path, **changes):
    """(what is read of a picture, the detector) out of an .npy pair with these things changed."""
    features = changes.pop('features', vl_official.regions('a')[0])
    vl_official.mmf_npy(tmp_path, ['a'], **changes)
    np.save(tmp_path / 'a.npy', features)
    detector = detector_files.Detector(tmp_path)
    return detector.read(detector.find(['a'])), detector


def test_boxes_at_the_border(tmp_path):
    w, h = vl_official.WIDTH, vl_official.HEIGHT
    boxes = np.array([[-0.5, 0, w + 0.9, h], [3, 3, 3, 9], [w, 2, w + 0.5, 9]], np.float32)
    found, detector = read_one(tmp_path, bbox=boxes)
    np.testing.assert_array_equal(found['boxes'], [[0, 0, w, h]])  # the others have no area, or none inside
    np.testing.assert_array_equal(found['features'], vl_official.regions('a')[0][:1])
    assert detector.dropped == 2 and len(found['class_probs']) == 1


def test_half_precision_and_the_background(tmp_path):
    probs = np.zeros((3, 1600), np.float16)
    probs[:, 4], probs[0, 9], probs[1, 0] = [0.5, 0.25, 1], 0.1, 0.25
    found = read_one(tmp_path, cls_prob=probs)[0]['class_probs']
    assert found.shape == (3, 1601) and np.allclose(found.sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(found[:, [0, 5, 10, 1]], [[0.4, 0.5, 0.1, 0], [0.5, 0.25, 0, 0.25], [0, 1, 0, 0]],
                               atol=1e-3)
    rounded = vl_official.regions('a')[2].astype(np.float16)
    np.testing.assert_allclose(read_one(tmp_path, cls_prob=rounded)[0]['class_probs'].sum(1), 1, atol=1e-6)


@pytest.mark.parametrize('changes, message', [
    ({'bbox': np.zeros((2, 4), np.float32)}, r'features are \[3, 6\], boxes are \[2, 4\].*expected one row'),
    ({'bbox': np.zeros((3, 5), np.float32)}, r'boxes are \[3, 5\]'),
    ({'bbox': np.zeros(4)}, r"'bbox' is float64 \[4\]; expected numbers \[N, ...\]"),
    ({'bbox': None}, 'none of bbox, boxes, image_bboxes, image_bbox; one is needed. Found: bbox, cls_prob'),
    ({'boxes': np.zeros((3, 4))}, 'bbox and boxes of bbox, boxes'),
    ({'bbox': np.array([[0, 0, 70, 9]] * 3)}, r'box 0 is \[0.0, 0.0, 1.0938, 0.1875\] as shares'),
    ({'bbox': np.array([[9, 9, 5, 20]] * 3)}, 'needed: x1 < x2'),
    ({'bbox': np.zeros((3, 4))}, 'no regions'),  # none of them has an area
    ({'bbox': np.full((3, 4), np.nan)}, "NaN or infinity in 'boxes'"),
    ({'features': np.full((3, 6), np.inf)}, "NaN or infinity in 'features'"),
    ({'features': np.zeros((3, 6), bool)}, "'features' is bool"),
    ({'features': np.zeros((2, 3, 6))}, "'features' is float64 .2, 3, 6.; expected"),
    ({'image_width': 0}, "'width' and 'height' must be numbers above 0"),
    ({'image_width': 'wide'}, "'image_width' is not a number"),
    ({'image_height': [4, 8]}, "'image_height' is int64 .2.; expected a number"),
    ({'cls_prob': np.full((3, 4), 0.3)}, "'class_probs' must be at least 0 and sum to 1"),
    ({'cls_prob': np.full((3, 1600), 0.1)}, "'class_probs' must be at least 0 and sum to 1"),
    ({'cls_prob': np.full((2, 1601), 1 / 1601)}, r'boxes are \[3, 4\], class_probs are \[2, 1601\]; expected')])
def test_a_bad_picture_is_named(tmp_path, changes, message):
    with pytest.raises(UserError, match=message) as found:
        read_one(tmp_path, **changes)
    assert f"{tmp_path}: picture 'a'" in str(found.value)


class Evil:
    def __reduce__(self):
        return exec, ("raise SystemExit('it was executed')",)


def test_nothing_in_a_pickle_is_run(tmp_path):
    vl_official.mmf_npy(tmp_path / 'npy', ['a', 'b', 'c'])
    np.save(tmp_path / 'npy' / 'a_info.npy', vl_official.mmf_info('a', objects=Evil()))
    np.save(tmp_path / 'npy' / 'b.npy', np.array([Evil()], object))
    np.save(tmp_path / 'npy' / 'c.npy', np.zeros(2, [('a', 'f4'), ('b', object)]))
    detector = detector_files.Detector(tmp_path / 'npy')
    for name, message in {'a': 'a_info.npy: refused, it asks for .*exec', 'b': 'b.npy: refused, it asks for .*exec',
                          'c': 'c.npy: '}.items():
        with pytest.raises(UserError, match=message):
            detector.read(detector.find([name]))
    lmdb(tmp_path / 'x.lmdb', {b'a': pickle.dumps(Evil()), b'keys': pickle.dumps([b'a'])})
    detector = detector_files.Detector(tmp_path / 'x.lmdb')
    with pytest.raises(UserError, match="x.lmdb: picture 'a': refused, it asks for .*exec"):
        detector.read(detector.find(['a']))
    lmdb(tmp_path / 'y.lmdb', {b'keys': pickle.dumps(Evil())})
    with pytest.raises(UserError, match="y.lmdb: the list b'keys': refused, it asks for .*exec"):
        detector_files.Detector(tmp_path / 'y.lmdb')


@pytest.mark.parametrize('keys, message', [
    (['a', 'a'], "b'keys' has 'a' twice"), ({'a': 1}, "b'keys' is dict; expected a list"), ([1], 'expected a list'),
    (b'', 'not a pickle that can be read'), (['a', 'b'], "picture 'b': listed in b'keys', but not there")])
def test_a_bad_list_of_an_lmdb(tmp_path, keys, message):
    vl_official.mmf_lmdb(tmp_path / 'x.lmdb', ['a'], keys=keys)
    with pytest.raises(UserError, match=f'x.lmdb.*{message}'):
        detector = detector_files.Detector(tmp_path)
        detector.read(detector.find(['b']))


def test_damaged_lmdb(tmp_path):
    lmdb(tmp_path / 'x.lmdb', {b'a': b'b'})
    with pytest.raises(UserError, match="x.lmdb: no key b'keys' with the list of pictures; keys are e.g. .b'a'."):
        detector_files.Detector(tmp_path)
    path = vl_official.mmf_lmdb(tmp_path / 'y.lmdb', NAMES) / 'data.mdb'
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(UserError, match='y.lmdb: not an LMDB file .*cut off'):
        detector_files.Detector(tmp_path / 'y.lmdb')
    lmdb(tmp_path / 'z.lmdb', {b'a': pickle.dumps([1]), b'keys': pickle.dumps([b'a'])})
    with pytest.raises(UserError, match="z.lmdb: picture 'a': list; expected a dictionary"):
        detector = detector_files.Detector(tmp_path / 'z.lmdb')
        detector.read((0, 'a'))


def line(**changes):
    return vl_official.tsv_line('b', 'vilbert', **changes).encode()


@pytest.mark.parametrize('raw, message', [
    (line()[:-500], 'line 2: the line does not end; the file is cut off'),
    (line().replace(b'\t', b' ', 1), 'line 2: 6 columns; expected 7'),
    (line(image_id='a'), "line 2: the picture 'a' is there twice"),
    (line(features='AAAA'), "'features' is not float32 in base64"),
    (line(features='????'), "'features' is not float32 in base64"),
    (line(num_boxes=4), "'(features|boxes)' has .* numbers, which are not num_boxes = b'4' rows"),
    (line(num_boxes='x'), 'which are not num_boxes'), (line(image_w='w'), "'image_w' is not a number"),
    (line(boxes=vl_official.b64(np.zeros((3, 3), np.float32))), "'boxes' has 9 numbers"),
    (line(features=vl_official.b64(np.zeros(7, np.float32))), "'features' has 7 numbers")])
def test_a_bad_line_of_a_tsv(tmp_path, raw, message):
    path = vl_official.tsv(tmp_path / 'x.tsv', ['a'], 'vilbert')
    path.write_bytes(path.read_bytes() + raw)
    with pytest.raises(UserError, match=f'x.tsv.*({message})'):
        detector = detector_files.Detector(tmp_path)
        detector.read(detector.find(['b']))


def test_lines_of_another_kind(tmp_path, monkeypatch):
    (tmp_path / 'x.tsv').write_text('a\tb\n')
    with pytest.raises(UserError, match=r'x.tsv, line 1: 2 columns; expected 6 .image_id, .* or 7 .* or 10 .* or 13'):
        detector_files.Detector(tmp_path)
    monkeypatch.setattr(detector_files, 'LONGEST', 3)
    with pytest.raises(UserError, match='x.tsv: a line of more than 3 bytes'):
        detector_files.Detector(tmp_path)


def test_damaged_hdf5(tmp_path):
    path = vl_official.hdf5(tmp_path / 'x.h5', ['a', 'b'])
    whole = path.read_bytes()
    with h5py.File(path, 'r+') as f:
        del f['a']['boxes']
        f['c'] = np.zeros(3)
    detector = detector_files.Detector(tmp_path)
    with pytest.raises(UserError, match="x.h5: picture 'a': none of bbox, boxes, .* Found: attr_conf"):
        detector.read(detector.find(['a']))
    with pytest.raises(UserError, match="x.h5: 'c' is an array; expected a group a picture with features"):
        detector.read(detector.find(['c']))
    for part in (whole[:len(whole) // 2], b'no HDF5', b''):
        (tmp_path / 'y.h5').write_bytes(part)
        with pytest.raises(UserError, match='y.h5: not an HDF5 file that can be read'):
            detector_files.Detector(tmp_path / 'y.h5')


def test_damaged_npy(tmp_path):
    vl_official.mmf_npy(tmp_path, list('abcd'))
    for name in 'ab':
        path = tmp_path / f'{name}.npy'
        path.write_bytes(path.read_bytes()[:-4] if name == 'a' else b'\x93NUMPY\x09\x00 ' + bytes(200))
    (tmp_path / 'c_info.npy').unlink()
    np.save(tmp_path / 'd_info.npy', np.zeros(3))
    detector = detector_files.Detector(tmp_path)
    for name, message in {'a': 'a.npy: not an .npy file that can be read: .*cut off', 'b': r'b.npy: .*version \(9, 0\)',
                          'c': 'c_info.npy: no such file', 'd': 'd_info.npy: ndarray; expected a dictionary'}.items():
        with pytest.raises(UserError, match=message):
            detector.read(detector.find([name]))


def test_heights_that_an_extraction_lost(tmp_path):
    """MMF's own way from .lmdb to .npy writes every height as the width."""
    names = [f'p{i}' for i in range(detector_files.SQUARE)]
    vl_official.mmf_npy(tmp_path / 'a', names, image_height=vl_official.WIDTH, image_id='x')
    detector = detector_files.Detector(tmp_path / 'a')
    for name in names[:-1]:
        detector.read(detector.find([name]))
    with pytest.raises(UserError, match='all of 20 pictures are as high as wide'):
        detector.read(detector.find([names[-1]]))
    vl_official.mmf_npy(tmp_path / 'b', names, image_height=vl_official.WIDTH, image_id='x')
    vl_official.mmf_npy(tmp_path / 'b', names[4:5], image_id='x')  # one that is not square
    detector = detector_files.Detector(tmp_path / 'b')
    for name in names:
        detector.read(detector.find([name]))


def test_nothing_there(tmp_path):
    with pytest.raises(UserError, match='none: no such file or folder'):
        detector_files.Detector(tmp_path / 'none')
    with pytest.raises(UserError, match='no features; expected .lmdb, .*found nothing'):
        detector_files.Detector(tmp_path)
    (tmp_path / 'x.zip').write_bytes(b'')
    with pytest.raises(UserError, match='found x.zip'):
        detector_files.Detector(tmp_path)
    with pytest.raises(UserError, match='x.zip: features are in .lmdb'):
        detector_files.Detector(tmp_path / 'x.zip')
    (tmp_path / 'y.tsv').write_bytes(b'')
    with pytest.raises(UserError, match='no picture in y.tsv'):
        detector_files.Detector(tmp_path / 'y.tsv')
