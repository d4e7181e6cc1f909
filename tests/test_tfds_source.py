"""A prepared TFDS dataset gives what the generator gives, and bad ones are named."""
import numpy as np
import pytest

from fipjax import config as config_lib
from fipjax.data import constellation, sources
from fipjax.data.builders import constellation as builder
from fipjax.errors import UserError

MODALITIES = {'image': {'kind': 'image', 'shape': (16, 16, 3), 'patch': 8},
              'iq': {'kind': 'sequence', 'shape': (32, 2), 'patch': 8}}


def data_config(**changes):
    c = config_lib.base(MODALITIES)
    c.data.signal.classes = ('BPSK', 'QPSK')
    for split, n in zip(sources.SPLITS, (12, 8, 6, 5), strict=True):
        c.data[f'{split}_examples'] = n
    for key, value in changes.items():
        config_lib.override(c, 'data.' + key.replace('__', '.'), value)
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
