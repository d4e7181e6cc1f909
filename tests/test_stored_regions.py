"""Regions that are read when they are asked for are those that would be in memory."""
import numpy as np
import pytest
from ml_collections import ConfigDict

from fipjax.data import pipeline, region_files, stored_regions, vl
from fipjax.errors import UserError

SETTINGS = ConfigDict({'features': 'crops', 'grid': (2, 2), 'maximum': 5})


def records(n=40, classes=True):
    """Records of n pictures with 1 to 5 regions."""
    rng, out = np.random.default_rng(0), []
    for i in range(n):
        low, count = rng.uniform(0, 0.5, (1 + i % 5, 2)), 1 + i % 5
        boxes = np.concatenate([low, low + 0.4], 1) * [64, 48, 64, 48]
        more = {'class_probs': rng.dirichlet(np.ones(3), count).astype(np.float32)} if classes else {}
        out.append({'features': rng.normal(size=(count, 6)).astype(np.float32), 'boxes': boxes.astype(np.float32),
                    'width': np.float32(64), 'height': np.float32(48), **more})
    return out


class Counted(list):
    """A data source that counts what is read."""

    read = 0

    def __getitem__(self, i):
        self.read += 1
        return super().__getitem__(i)


def both(monkeypatch, given):
    """(in memory, stored, what it is read from)."""
    source = Counted(given)
    found = [(f'record {i}', r, (source, i)) for i, r in enumerate(given)]
    whole = region_files.stack([f[:2] for f in found], SETTINGS)
    monkeypatch.setattr(stored_regions, 'IN_MEMORY', 500)
    stored = stored_regions.gather(iter(found), SETTINGS)
    assert isinstance(stored.features, stored_regions.Stored) and source.read == 0
    return whole, stored, source


@pytest.mark.parametrize('classes', [True, False])
def test_the_same_as_in_memory(monkeypatch, classes):
    whole, stored, _ = both(monkeypatch, records(classes=classes))
    assert stored.detector == whole.detector and stored.features.shape == whole.features.shape
    np.testing.assert_array_equal(stored.boxes, whole.boxes)
    np.testing.assert_array_equal(stored.count, whole.count)
    assert (stored.classes is None) == (not classes)
    for name in ('features', 'classes')[:1 + classes]:
        a, b = getattr(whole, name), getattr(stored, name)
        for rows in (3, -1, np.array([5, 0, 5]), slice(2, 9), np.arange(6).reshape(2, 3), np.arange(40) % 7 == 0, []):
            found = b[np.asarray(rows, int) if isinstance(rows, list) else rows]
            np.testing.assert_array_equal(found, a[np.asarray(rows, int) if isinstance(rows, list) else rows])
            assert found.dtype == np.float32
        np.testing.assert_array_equal(np.asarray(b), a)
        assert (len(b), b.ndim, b.dtype) == (len(a), 3, a.dtype)
        with pytest.raises(IndexError):
            b[40]


def test_few_stay_in_memory():
    given = records(4)
    found = stored_regions.gather([(f'{i}', r, ([], i)) for i, r in enumerate(given)], SETTINGS)
    assert isinstance(found.features, np.ndarray)
    np.testing.assert_array_equal(found.features[3, :4], given[3]['features'])


def test_a_batch_reads_a_picture_once(monkeypatch):
    _, stored, source = both(monkeypatch, records())
    rows = np.array([1, 2, 1, 30])
    stored.features[rows], stored.classes[rows], stored.features[rows]
    assert source.read == 3
    monkeypatch.setattr(stored_regions, 'RECENT', 3 * 36 + 1)  # features and classes of three regions, not more
    for row in (2, 7, 2):  # three regions each
        stored.features[row]
    assert source.read == 5  # 2 was there; 7 pushed everything else out; 2 had to be read again


def test_batches_of_training(monkeypatch):
    whole, stored, _ = both(monkeypatch, records())
    text = vl.Encoded(np.zeros((80, 4), np.int32), np.zeros((80, 4), np.int32), np.ones((80, 4), bool), 0)
    sources = [vl.Source(r, np.arange(80) // 2, text, np.arange(80), with_classes=True) for r in (whole, stored)]
    streams = [pipeline.training(s, 16, 3, threads=2) for s in sources]
    for _ in range(6):
        a, b = (next(s) for s in streams)
        assert sorted(a) == sorted(b)
        for k in a:
            np.testing.assert_array_equal(a[k], b[k])


@pytest.mark.parametrize('change, message', [
    ({'features': np.zeros((2, 7))}, 'record 11: features are 7 wide .*record 0 are 6'),
    ({'class_probs': np.full((2, 4), 0.25)}, 'record 11: class_probs of 4 classes, record 0 has 3'),
    ({'features': np.full((2, 6), np.nan)}, "record 11: NaN or infinity in 'features'"),
    ({k: np.repeat(v, 3, 0) for k, v in records()[1].items() if v.ndim}, 'record 11: 6 regions; regions.maximum is 5')])
def test_bad_pictures(monkeypatch, change, message):
    given = records()
    given[11] = {**given[11], **change}
    monkeypatch.setattr(stored_regions, 'IN_MEMORY', 500)
    with pytest.raises(UserError, match=message):
        stored_regions.gather([(f'record {i}', r, (given, i)) for i, r in enumerate(given)], SETTINGS)
