"""Pictures and texts of a prepared TFDS dataset, read without TensorFlow; its mistakes are named."""
import functools

import numpy as np
import pytest
import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from fipjax.data import region_files, regions, vl, vl_files
from fipjax.errors import UserError

SETTINGS = ConfigDict({'features': 'crops', 'grid': (2, 2), 'maximum': 8})


class Own(tfds.core.GeneratorBasedBuilder):
    """Records that a test gives."""

    VERSION = tfds.core.Version('1.0.0')

    def __init__(self, *, features, splits, **kwargs):
        self.made = features, splits
        super().__init__(**kwargs)

    def _info(self):
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(self.made[0]),
                                     disable_shuffling=True)

    def _split_generators(self, dl_manager):
        return {name: enumerate(records) for name, records in self.made[1].items()}

    def _generate_examples(self):
        raise NotImplementedError


TEXT = tfds.features.Text()


@functools.cache
def picture(i):
    return np.random.default_rng(i).integers(0, 256, (6 + i % 2, 9, 3)).astype(np.uint8)


def prepare(path, features, splits):
    builder = Own(features=features, splits=splits, data_dir=str(path), file_format='array_record')
    builder.download_and_prepare()
    return str(builder.data_dir)


def read_tfds(where, **changes):
    return vl_files.read('tfds:', ConfigDict({**SETTINGS.to_dict(), **changes}), 'pretrain.data', data_dir=where)


def test_tfds_with_pictures(tmp_path):
    features = {'image': tfds.features.Tensor(shape=(None, None, 3), dtype=np.uint8, encoding='bytes'),
                'image_id': tfds.features.Scalar(np.int64), 'question': TEXT, 'other': tfds.features.Scalar(np.int32),
                'answers': tfds.features.Sequence(TEXT)}
    record = lambda i, k: {'image': picture(i), 'image_id': i, 'question': f'q{i}{k} \u00fc?', 'other': 0,  # noqa: E731
                           'answers': [f'a{i}', 'b'][:1 + k]}
    ids = {'train': (3, 4, 5), 'validation': (7,), 'test': (8, 9)}
    where = prepare(tmp_path, features, {s: [record(i, k) for i in v for k in range(2)] for s, v in ids.items()})
    data = read_tfds(where)
    expected = [(s, i, k) for s, v in ids.items() for i in v for k in range(2)]
    assert data.split.tolist() == [s for s, _, _ in expected] and data.output == 'answers' and data.name == 'own'
    assert data.text == tuple(f'q{i}{k} \u00fc?' for _, i, k in expected)
    assert data.answers == tuple((f'a{i}', 'b')[:1 + k] for _, i, k in expected)
    assert data.picture.tolist() == [k // 2 for k in range(12)] and len(data.regions.count) == 6
    squares = np.stack([region_files.square(picture(i), '') for i in (3, 4, 5, 7, 8, 9)])
    boxes = np.tile(regions.grid_boxes(2, 2), (6, 1, 1))
    np.testing.assert_allclose(data.regions.features,
                               regions.regions_of_pictures(squares, boxes, np.full(6, 5), 'crops'), atol=1e-6)
    assert not data.vocabulary and vl.task(data, _Spaces(), 6).task.classes[1:] == ('b', 'a3', 'a4', 'a5')


class _Spaces:
    pad, cls, sep, mask, unk = range(5)

    def pieces(self, texts):
        return [[9] * len(t.split()) for t in texts]


def test_tfds_with_features_and_one_split(tmp_path):
    number = tfds.features.Scalar(np.float32)
    features = {'features': tfds.features.Tensor(shape=(2, 5), dtype=np.float32), 'width': number, 'height': number,
                'boxes': tfds.features.Tensor(shape=(2, 4), dtype=np.float32), 'caption': TEXT, 'image_id': TEXT}
    rng = np.random.default_rng(0)
    values, low = rng.normal(size=(20, 2, 5)).astype(np.float32), rng.uniform(0, 0.5, (20, 2, 2))
    boxes = np.concatenate([low, low + 0.25], -1).astype(np.float32)
    absolute = boxes * np.float32([64, 32, 64, 32])
    records = [{'features': values[i], 'boxes': absolute[i], 'width': 64, 'height': 32,
                'caption': f'c{i}', 'image_id': f'train2014/{i}.jpg'} for i in range(20)]
    where = prepare(tmp_path, features, {'train': records})
    data = read_tfds(where)
    np.testing.assert_array_equal(data.regions.features, values)
    np.testing.assert_allclose(data.regions.boxes, boxes, rtol=1e-6)
    assert data.text == tuple(f'c{i}' for i in range(20)) and data.output == ''
    assert sorted(data.split) == ['train'] * 19 + ['validation']
    with pytest.raises(UserError, match="own.* split 'train', record 0: 2 regions; regions.maximum is 1"):
        read_tfds(where, maximum=1)
    records[3]['boxes'] = records[3]['boxes'] * 0
    with pytest.raises(UserError, match="split 'train', record 3: box 0 is"):
        read_tfds(prepare(tmp_path / 'b', features, {'train': records}))
    records[2]['caption'] = ''
    with pytest.raises(UserError, match="split 'train', record 2: 'caption' is ''; a text is needed"):
        read_tfds(prepare(tmp_path / 'c', features, {'train': records}))


def test_bad_tfds(tmp_path):
    with pytest.raises(UserError, match="pretrain.data is 'tfds:'; needed: tfds:NAME"):
        read_tfds('')
    with pytest.raises(UserError, match="pretrain.data: no prepared TFDS dataset 'nothing_like_it'"):
        vl_files.read('tfds:nothing_like_it', SETTINGS, 'pretrain.data', data_dir=str(tmp_path))
    with pytest.raises(UserError, match='no prepared TFDS dataset'):
        read_tfds(str(tmp_path))
    record = {'caption': 'c', 'image_id': 'i'}
    where = prepare(tmp_path / 'a', dict.fromkeys(record, TEXT), {'train': [record]})
    with pytest.raises(UserError, match=r"own.*features \['caption', 'image_id'\]; needed: train; image_id, caption"):
        read_tfds(where)
