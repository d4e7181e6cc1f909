"""The TFDS builder: what is read back is what the source makes, without TensorFlow."""
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds

from fipjax.data import constellation, denomae
from fipjax.data.builders import constellation as builders
from fipjax.data.constellation import Signal, Source
from fipjax.errors import UserError
from fipjax.modality import Modality

MODALITIES = {'image': Modality('image', 'image', (16, 16, 3), 8),
              'iq': Modality('iq', 'sequence', (32, 2), 8),
              'spectrogram': Modality('spectrogram', 'image', (16, 16, 1), 8)}
SIZES = {'test': 5, 'pretrain': 9, 'validation': 3, 'train': 70}


@pytest.fixture(scope='module', params=['standard', 'denomae'])
def prepared(request, tmp_path_factory):
    signal = Signal(mode=request.param)
    return signal, builders.prepare(tmp_path_factory.mktemp(request.param), signal, MODALITIES, SIZES, 3)


def test_reading_equals_the_source_bit_for_bit(prepared):
    signal, builder = prepared
    offset = 0
    for split in constellation.SPLITS:
        source = Source(signal, MODALITIES, SIZES[split], 3, split, offset)
        records = tfds.builder_from_directory(builder.data_dir).as_data_source(split)
        assert len(records) == SIZES[split]
        batch = source.take(np.arange(len(source)))
        for row, record in enumerate(records):
            assert record['id'] == batch['id'][row] == offset + row
            assert record['label'] == batch['label'][row]
            assert record['snr_db'] == batch['meta']['snr_db'][row]
            for name in MODALITIES:
                for key, part in ((name, 'inputs'), (f'{name}_target', 'targets')):
                    view = constellation.decode(name, record[key])
                    np.testing.assert_array_equal(view, batch[part][name][row])
        offset += SIZES[split]


def test_what_is_stored(prepared):
    signal, builder = prepared
    features = builder.info.features
    assert features['image'].np_dtype == features['image_target'].np_dtype == np.uint8
    assert tuple(features['label'].names) == signal.classes
    assert builder.info.file_format == tfds.core.FileFormat.ARRAY_RECORD
    assert (denomae.CEILING_REASON in builder.info.description) == (signal.mode == 'denomae')


def test_the_name_tells_different_data_apart():
    names = {builders.config(signal, modalities, sizes, seed).name
             for signal, modalities, sizes, seed in (
                 (Signal(), MODALITIES, SIZES, 0), (Signal(), MODALITIES, SIZES, 1),
                 (Signal(snr_db=(0, 1)), MODALITIES, SIZES, 0), (Signal(), MODALITIES, {'train': 1}, 0),
                 (Signal(), {'image': MODALITIES['image']}, SIZES, 0))}
    assert len(names) == 5
    assert builders.config(Signal(), MODALITIES, dict(sorted(SIZES.items())), 0).name in names


@pytest.mark.parametrize('sizes, message', [({'dev': 3}, "'dev'"), ({'train': 0}, '0 examples'),
                                            ({}, 'empty')])
def test_bad_sizes_are_named(tmp_path, sizes, message):
    with pytest.raises(UserError, match=message):
        builders.prepare(tmp_path, Signal(), MODALITIES, sizes, 0)


def test_neither_preparing_nor_reading_imports_tensorflow(tmp_path):
    code = f'''
import sys
from fipjax.data.builders import constellation as builders
from fipjax.data.constellation import Signal
from fipjax.modality import Modality
modalities = {{'iq': Modality('iq', 'sequence', (16, 2), 8)}}
builder = builders.prepare({str(tmp_path)!r}, Signal(), modalities, {{'train': 3}}, 0)
assert builder.as_data_source('train')[2]['iq'].shape == (16, 2)
print('tensorflow' in sys.modules)
'''
    out = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert out.stdout.strip().splitlines()[-1] == 'False'
