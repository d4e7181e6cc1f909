"""A prepared TFDS dataset gives what the generator gives, and bad ones are named."""
import numpy as np
import pytest
import tensorflow_datasets as tfds

from fipjax import config as config_lib
from fipjax.data import completion, constellation, pipeline, sources
from fipjax.data.builders import constellation as builder
from fipjax.errors import UserError
from fipjax.overrides import override

MODALITIES = {'image': {'kind': 'image', 'shape': (16, 16, 3), 'patch': 8},
              'iq': {'kind': 'sequence', 'shape': (32, 2), 'patch': 8}}


def data_config(**changes):
    c = config_lib.base(MODALITIES)
    c.data.signal.classes = ('BPSK', 'QPSK')
    for split, n in zip(sources.SPLITS, (12, 8, 6, 5), strict=True):
        c.data[f'{split}_examples'] = n
    for key, value in changes.items():
        override(c, 'data.' + key.replace('__', '.'), value)
    return c.data


@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
    data = data_config()
    signal = constellation.Signal(**data.signal.to_dict())
    made = builder.prepare(tmp_path_factory.mktemp('tfds'), signal, sources.modalities_of(data),
                           {s: data[f'{s}_examples'] for s in sources.SPLITS}, data.seed)
    return str(made.data_dir)


@pytest.mark.parametrize('cache', ['true', 'false'])
def test_prepared_data_equal_generated_data(prepared, cache):
    made = sources.build(data_config(), progress=False)
    read = sources.build(data_config(source='tfds', tfds__data_dir=prepared, cache=cache), progress=False)
    assert read.test.classes == ('BPSK', 'QPSK')
    for split in sources.SPLITS:
        ours, theirs = getattr(made, split), getattr(read, split)
        assert len(ours) == len(theirs)
        rows = np.array([3, 0, 4])
        a, b = ours.take(rows), theirs.take(rows)
        np.testing.assert_array_equal(a['id'], b['id'])
        np.testing.assert_array_equal(a['label'], b['label'])
        np.testing.assert_array_equal(a['meta']['snr_db'], b['meta']['snr_db'])
        for kind in ('inputs', 'targets'):
            for m in MODALITIES:
                np.testing.assert_array_equal(a[kind][m], b[kind][m])


def test_parts_of_splits(prepared):
    read = sources.build(data_config(source='tfds', tfds__data_dir=prepared, cache='false',
                                     tfds__splits='pretrain[:6],train,validation,test'), progress=False)
    assert len(read.pretrain) == 6


@pytest.mark.parametrize('changes, words', [
    ({'tfds__data_dir': '/nowhere'}, 'data.tfds'),
    ({'tfds__splits': 'pretrain,train,dev,test'}, "split 'dev'"),
])
def test_bad_datasets_are_named(prepared, changes, words):
    with pytest.raises(UserError, match=words):
        sources.build(data_config(**{'source': 'tfds', 'tfds__data_dir': prepared, **changes}), progress=False)


def test_wrong_shape_is_named(prepared):
    data = data_config(source='tfds', tfds__data_dir=prepared)
    data.modalities.iq.shape = (16, 2)
    with pytest.raises(UserError, match='iq has shape'):
        sources.build(data, progress=False)


# --- A data set of one's own ------------------------------------------------------------------------------------------

class Mine(tfds.core.GeneratorBasedBuilder):
    """Measurements and token ids, some of them missing; half of what is pretrained on has no label."""

    VERSION = tfds.core.Version('1.0.0')
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name='plain')]

    def _info(self):
        return tfds.core.DatasetInfo(builder=self, disable_shuffling=True, features=tfds.features.FeaturesDict({
            'emg': tfds.features.Tensor(shape=(32, 2), dtype=np.float32),
            'text': tfds.features.Tensor(shape=(6,), dtype=np.int64), 'text_present': tfds.features.Scalar(np.bool_),
            'label': tfds.features.ClassLabel(names=['a', 'b']), 'who': tfds.features.Text(),
            'box': {'left': tfds.features.Scalar(np.float32)}}))

    def _split_generators(self, dl_manager):
        return {s: self._generate_examples(s == 'pretrain') for s in sources.SPLITS}

    def _generate_examples(self, unlabelled):
        for i in range(8):
            yield i, {'emg': np.full((32, 2), i, np.float32), 'text': np.full(6, i if i % 4 else -1),
                      'text_present': bool(i % 4), 'label': -1 if unlabelled and i % 2 else i % 2, 'who': 'anna',
                      'box': {'left': 1.0}}


@pytest.fixture(scope='module')
def own(tmp_path_factory):
    folder = tmp_path_factory.mktemp('own')
    made = Mine(data_dir=str(folder), config='plain', file_format='array_record')
    made.download_and_prepare(download_dir=str(folder / 'none'))
    return str(made.data_dir)


@pytest.mark.parametrize('cache', ['true', 'false'])
def test_own_features_are_read_off(own, cache):
    said = []
    c = completion.complete(config_lib.base({}), [
        ('data.source', 'tfds'), ('data.tfds.data_dir', own), ('data.modalities.text.vocab', '8'),
        ('data.cache', cache), ('pretrain.fip.mask_ratio.emg', '0.5')], said.append)
    assert c.data.modalities.to_dict() == {'emg': {'kind': 'sequence', 'shape': (32, 2), 'patch': 1, 'vocab': 0},
                                           'text': {'kind': 'tokens', 'shape': (6,), 'patch': 1, 'vocab': 8}}
    assert c.pretrain.fip.mask_ratio.emg == 0.5 and own in said[0] and 'text int64 [n, 6]' in said[0]
    splits = sources.build(c.data, progress=False)
    assert splits.train.classes == ('a', 'b') and sources.labels_of(splits.train).tolist() == [0, 1] * 4
    batches = list(pipeline.evaluation(splits.pretrain, 4))
    present = np.concatenate([b['present']['text'] for b in batches])
    text = np.concatenate([b['inputs']['text'] for b in batches])
    assert len(batches) == 2 and present.tolist() == [False, True, True, True] * 2
    assert text[:, 0].tolist() == [0, 1, 2, 3, 0, 5, 6, 7]


def test_own_features_that_leave_something_open(own):
    for options, words in (([], 'text int64 .n, 6. are whole numbers of which no range is known.*text.vocab'),
                           ([('data.modalities.who.kind', 'tokens')], 'who object .n., which is no modality'),
                           ([('data.tfds.data_dir', '/nowhere')], 'data.tfds: no prepared dataset')):
        with pytest.raises(UserError, match=words):
            completion.complete(config_lib.base({}), [('data.source', 'tfds'), ('data.tfds.data_dir', own), *options])
