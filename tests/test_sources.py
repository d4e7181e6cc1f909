"""Sources: what comes out of arrays and files, and what is refused."""
import types

import numpy as np
import pytest
import tiny

from fipjax import config as config_lib
from fipjax.data import sources
from fipjax.data.sources import ArraySource, Subset
from fipjax.errors import UserError

PAIR = {'image': tiny.IMAGE, 'sequence': tiny.SEQUENCE}


def fields(n=6, **changes):
    rng = np.random.default_rng(0)
    return {'image': rng.normal(size=(n, 8, 8, 2)), 'sequence': rng.normal(size=(n, 32, 2)), 'label': np.arange(n) % 3,
            'snr_db': np.arange(n) * 2.0, **changes}


def test_take_gives_inputs_targets_presence_labels_and_meta():
    given = fields(image_target=np.full((6, 8, 8, 2), 0.5), sequence_present=np.array([1, 1, 0, 1, 1, 0]))
    source = ArraySource(PAIR, given, ids=np.arange(10, 16))
    out = source.take(np.array([2, 0]))
    assert set(out) == {'id', 'inputs', 'targets', 'present', 'label', 'meta'}
    assert out['id'].tolist() == [12, 10] and out['id'].dtype == np.int32
    assert out['label'].tolist() == [2, 0] and out['label'].dtype == np.int32
    np.testing.assert_array_equal(out['inputs']['image'], given['image'][[2, 0]].astype(np.float32))
    assert (out['targets']['image'] == 0.5).all() and out['targets']['image'].dtype == np.float32
    assert out['present']['image'].tolist() == [True, True] and out['present']['sequence'].tolist() == [False, True]
    assert (out['inputs']['sequence'][0] == 0).all()  # what stands for a missing one is not passed on
    np.testing.assert_array_equal(out['inputs']['sequence'][1], given['sequence'][0].astype(np.float32))
    np.testing.assert_array_equal(out['targets']['sequence'], out['inputs']['sequence'])
    assert set(out['meta']) == {'snr_db'} and out['meta']['snr_db'].tolist() == [4.0, 0.0]
    assert source.classes == ('0', '1', '2') and len(source) == 6


def test_images_of_bytes_are_scaled_and_other_arrays_are_not():
    image = np.zeros((3, 8, 8, 2), np.uint8)
    image[1], image[2] = 255, 51
    out = ArraySource({'image': tiny.IMAGE}, {'image': image}).take(np.arange(3))['inputs']['image']
    assert out.dtype == np.float32
    np.testing.assert_allclose(out[:, 0, 0, 0], [-1, 1, -0.6], rtol=1e-6)
    tokens = ArraySource({'text': tiny.TEXT}, {'text': np.full((2, 6), 6, np.uint8)}).take(np.arange(2))['inputs']
    assert tokens['text'].dtype == np.int32 and (tokens['text'] == 6).all()


def test_nan_where_a_modality_is_missing_is_fine_and_becomes_zero():
    sequence = np.full((6, 32, 2), np.nan)
    sequence[1:] = 1
    source = ArraySource(PAIR, fields(sequence=sequence, sequence_present=np.arange(6) > 0))
    assert np.isfinite(source.take(np.arange(6))['inputs']['sequence']).all()


@pytest.mark.parametrize('changes, parts', [
    (dict(image=np.full((6, 8, 8, 2), np.nan)), ('image', 'NaN', '6 examples', 'image_present')),
    (dict(sequence=np.where(np.arange(6)[:, None, None] == 4, np.inf, np.zeros((6, 32, 2)))),
     ('sequence', 'infinity', '1 examples', 'first is 4')),
    (dict(image_target=np.full((6, 8, 8, 2), np.nan)), ('image_target', 'NaN')),
    (dict(image=np.zeros((6, 8, 8, 3))), ('image', '(6, 8, 8, 3)', '8, 8, 2', 'data.modalities.image.shape')),
    (dict(image=np.zeros((6, 8, 8))), ('image', '(6, 8, 8)')),
    (dict(sequence=np.zeros((5, 32, 2))), ('5 examples', '6')),
    (dict(image=np.zeros((6, 8, 8, 2), 'U3')), ('image', '<U3', 'numbers')),
    (dict(label=np.array([0, 1, 2, 0, 1, -1])), ('label', '-1')),
    (dict(label=np.zeros(6)), ('label', 'float64', 'integers')),
    (dict(image_present=np.ones((6, 1), bool)), ('image_present', '(6, 1)')),
    (dict(image_present=np.ones(6)), ('image_present', 'float64')),
    (dict(image_present=np.ones(5, bool)), ('image_present', '5')),
    (dict(label=np.zeros((6, 1), int)), ('label', '(6, 1)')), (dict(label=np.arange(5)), ('label', '5', '6')),
])
def test_malformed_arrays_are_refused(changes, parts):
    with pytest.raises(UserError) as e:
        ArraySource(PAIR, fields(**changes), where='here')
    assert 'here' in str(e.value) and all(p in str(e.value) for p in parts), str(e.value)


def test_other_refusals():
    with pytest.raises(UserError, match="no array for modality 'image'; found"):
        ArraySource(PAIR, {'sequence': np.zeros((2, 32, 2))})
    with pytest.raises(UserError, match='empty'):
        ArraySource(PAIR, {k: v[:0] for k, v in fields().items()})
    with pytest.raises(UserError, match='label is 3 .*allowed: 0..2'):
        sources.check_labels(np.array([0, 3]), ('a', 'b', 'c'), 'label')
    for text, match in ((np.full((2, 6), 7), 'ids 7..7.*0..6'), (np.full((2, 6), -1), '-1'),
                        (np.zeros((2, 6)), 'integers')):
        with pytest.raises(UserError, match=match):
            ArraySource({'text': tiny.TEXT}, {'text': text})


def test_subset():
    source = ArraySource(PAIR, fields())
    part = Subset(source, [5, 3, 1], ('sequence',))
    out = part.take(np.array([2, 0]))
    assert out['id'].tolist() == [1, 5] and set(out['inputs']) == {'sequence'} == set(out['targets'])
    assert list(part.modalities) == ['sequence'] and len(part) == 3 and part.classes == source.classes
    assert sources.labels_of(part).tolist() == [2, 0, 1]
    assert sources.labels_of(Subset(part, [0])).tolist() == [2]


def test_labelled_subset_draws_exactly_so_many_of_each_class_by_seed():
    source = ArraySource(PAIR, fields(60))
    labels = sources.labels_of(source)
    rows = {seed: sources.labelled_subset(source, labels, 4, seed).rows for seed in (0, 1)}
    for r in rows.values():
        assert np.bincount(labels[r]).tolist() == [4, 4, 4] and len(set(r.tolist())) == 12
    assert rows[0].tolist() == sources.labelled_subset(source, labels, 4, 0).rows.tolist() != rows[1].tolist()
    # More labels are the same ones and others, so that label counts can be compared.
    assert set(rows[0].tolist()) < set(sources.labelled_subset(source, labels, 7, 0).rows.tolist())
    assert len(sources.labelled_subset(source, labels, 0, 0)) == 60
    with pytest.raises(UserError, match="labels_per_class is 21, but class '0' has only 20"):
        sources.labelled_subset(source, labels, 21, 0)


def test_labels_of_sources_without():
    with pytest.raises(UserError, match='label'):
        sources.labels_of(ArraySource({'sequence': tiny.SEQUENCE}, {'sequence': np.zeros((2, 32, 2))}, where='here'))


# --- Building -----------------------------------------------------------------------------------------------

def test_build_keeps_one_data_set_in_memory(tmp_path):
    np.savez(tmp_path / 'a.npz', **tiny.arrays())
    data = tiny.config(data__path=str(tmp_path / 'a.npz')).data
    assert sources.build(data) is sources.build(data)
    other = tiny.config(data__path=str(tmp_path / 'a.npz'), data__cache=False).data
    assert sources.build(other) is not sources.build(other)


# --- Other sources ------------------------------------------------------------------------------------------

class Records:
    """Random access as `tfds.data_source` gives it."""

    def __init__(self, n, **features):
        self.n, self.features = n, features

    def __len__(self):
        return self.n

    def __getitems__(self, rows):
        return [{k: v[r] for k, v in self.features.items()} for r in rows]


def test_tfds_source_reads_records_by_number_and_in_memory_is_the_same():
    given = {k: v for k, v in fields(7).items()}
    source = sources.TfdsSource(Records(7, **given), PAIR, ('a', 'b', 'c'), id_offset=100)
    out = source.take(np.array([6, 2]))
    assert out['id'].tolist() == [106, 102] and out['label'].tolist() == [0, 2]
    np.testing.assert_array_equal(out['inputs']['image'], given['image'][[6, 2]].astype(np.float32))
    assert sources.labels_of(source).tolist() == given['label'].tolist()
    kept = sources.in_memory(source, progress=False, what='train')
    again = kept.take(np.array([6, 2]))
    assert kept.classes == ('a', 'b', 'c') and len(kept) == 7
    for part in ('inputs', 'targets', 'present', 'meta'):
        assert set(again[part]) == set(out[part])
        for k in out[part]:
            np.testing.assert_array_equal(again[part][k], out[part][k])
    assert again['id'].tolist() == [106, 102] and again['label'].tolist() == [0, 2]


def test_tfds_source_refuses_what_does_not_fit():
    with pytest.raises(UserError, match='empty'):
        sources.TfdsSource(Records(0), PAIR)
    with pytest.raises(UserError, match='no array for modality'):
        sources.TfdsSource(Records(2, image=fields()['image']), PAIR)


def test_modalities_of_a_config():
    assert sources.modalities_of(tiny.config().data) == PAIR
    with pytest.raises(UserError, match='data.modalities is empty'):
        sources.modalities_of(types.SimpleNamespace(modalities={}))


def test_unknown_source_and_empty_generated_split():
    c = tiny.config()
    c.data.source = 'magic'
    with pytest.raises(UserError, match="data.source is 'magic'; allowed: constellation, arrays, wheel, tfds"):
        sources.build(c.data)
    c = config_lib.base({'iq': {'kind': 'sequence', 'shape': (512, 2), 'patch': 32}})
    c.data.test_examples = 0
    with pytest.raises(UserError, match='data.test_examples is 0'):
        sources.build(c.data)
