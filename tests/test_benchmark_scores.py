"""Metrics of the benchmarks and ORCA's variants of them, against computations of their own on whole splits."""
import numpy as np
import official_files
import pytest
from test_scores import area, average_precision, classes, dense, multilabel

from fipjax import config as config_lib
from fipjax.analysis.names import lower_is_better
from fipjax.data.builders import prepared
from fipjax.data.builders.nas_bench_360 import TASKS, psicov
from fipjax.evaluators import benchmark_scores, scores


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def settings(name, data_dir='', **changes):
    c = config_lib.transfer_base().target
    c.update({'data': 'tfds', 'name': name, 'data_dir': str(data_dir), **changes})
    return c


def f1(predicted, y):
    found = []
    for k in set(predicted) | set(y):
        hit = ((predicted == k) & (y == k)).sum()
        found.append(2 * hit / ((predicted == k).sum() + (y == k).sum()))
    return np.mean(found)


def test_ecg(rng):
    logits, y = rng.normal(size=(2300, 4)), rng.integers(0, 4, 2300)
    y[2000:] = 1  # the last chunk, of 300, has one class
    found = benchmark_scores.of(settings('nas_bench_360/ecg'), classes(4), logits, y)
    predicted = logits.argmax(1)
    assert found['macro_f1_error'] == pytest.approx(1 - f1(predicted, y), abs=1e-12)
    parts = [1 - f1(predicted[s], y[s]) for s in (slice(1000), slice(1000, 2000), slice(2000, None))]
    assert found['orca_macro_f1_error'] == pytest.approx(np.mean(parts), abs=1e-12)
    assert abs(found['macro_f1_error'] - found['orca_macro_f1_error']) > 0.01


def test_deepsea(rng):
    logits, y = rng.normal(size=(1500, 3)), rng.integers(0, 2, (1500, 3))
    y[1008:, 0] = 0  # undefined in the last chunk: batches of 16 make chunks of 1008
    found = benchmark_scores.of(settings('nas_bench_360/deepsea'), multilabel(3), logits, y)
    assert found['auroc_error'] == pytest.approx(1 - np.mean([area(logits[:, k], y[:, k] == 1) for k in range(3)]))
    first = np.mean([area(logits[:1008, k], y[:1008, k] == 1) for k in range(3)])
    last = np.mean([area(logits[1008:, k], y[1008:, k] == 1) for k in (1, 2)])
    assert found['orca_auroc_error'] == pytest.approx(1 - (first + last) / 2)


def prepare(name, tmp_path):
    (tmp_path / 'files').mkdir()
    expected = official_files.WRITERS[name](tmp_path / 'files')['test']
    prepared.prepare(TASKS[name], tmp_path / 'files', tmp_path / 'data', progress=False)
    return expected


def test_fsd50k(rng, tmp_path):
    expected = prepare('nas_bench_360/fsd50k', tmp_path)
    logits = rng.normal(size=(4, 200))
    logits[:, 3] = 5, -3, 0, 0.1  # a clip is found though one of its chunks is not
    found = benchmark_scores.of(settings('nas_bench_360/fsd50k', tmp_path / 'data'), multilabel(200)._replace(
        target_shape=(200,)), logits, expected['y'])
    clips, y = np.array([logits[:2].mean(0), logits[2:].mean(0)]), expected['y'][::2]
    wanted = np.mean([average_precision(clips[:, k], y[:, k] == 1) for k in np.flatnonzero(y.any(0))])
    assert found == {'map_error': pytest.approx(1 - wanted)}
    assert abs(found['map_error'] - 1 + scores.mean_average_precision(logits, expected['y'])) > 1e-3


def test_groups_in_any_order(rng):
    outputs, group = rng.normal(size=(5, 2)), np.array(['b', 'a', 'b', 'c', 'a'])
    values, y = benchmark_scores.by_group(outputs, np.array([1, 0, 1, 2, 0]), group)
    np.testing.assert_allclose(values, [outputs[[1, 4]].mean(0), outputs[[0, 2]].mean(0), outputs[3]])
    assert y.tolist() == [0, 1, 2]


def test_cosmic(rng, tmp_path):
    expected = prepare('nas_bench_360/cosmic', tmp_path)
    y, ignore = expected['y'][..., 0] == 1, expected['ignore'][..., 0] == 1
    task = dense((128, 128, 1), 0.3, 0.5)
    values = 0.5 + 0.6 * (y - 0.5) + rng.normal(size=y.shape)
    found = benchmark_scores.of(settings('nas_bench_360/cosmic', tmp_path / 'data'), task,
                                (values[..., None] - 0.3) / 0.5, (expected['y'] - 0.3) / 0.5)
    assert found['false_negative_rate'] == pytest.approx(np.sum((values <= 0.5) & y) / y.sum())
    keep = ~ignore
    rank = np.argsort(np.argsort(values[keep]))
    m = y[keep].sum()
    above = (rank[y[keep]].sum() - m * (m - 1) / 2) / (m * (keep.sum() - m))  # Mann and Whitney
    assert found['auroc_error'] == pytest.approx(1 - above, abs=1e-9)
    sure, holds = (values > 0.5) & keep, y & keep  # what is ignored is predicted not to hold, and does not
    two_rates = (1 + sure[holds].mean() - sure[~holds].mean()) / 2
    assert found['orca_auroc_error'] == pytest.approx(1 - two_rates, abs=1e-9)


def slow_mae_8(p, y, residues):
    """Pair by pair, as the benchmark's definition reads: padding away, triangles averaged, then both again."""
    out = []
    for i, n in enumerate(residues):
        total = []
        for a in range(n):
            for b in range(a + 24, n):
                if y[i, a + 5, b + 5, 0] <= 8:
                    low, high = p[i, b + 5, a + 5, 0], p[i, a + 5, b + 5, 0]
                    first = max(0.01, (low + high) / 2)
                    total.append(abs((max(0.01, low) + first) / 2 - y[i, a + 5, b + 5, 0]))
        if total:
            out.append(sum(total) / len(total))
    return sum(out) / len(out)


def test_psicov(rng):
    y, residues = 20 * rng.random((3, 60, 60, 1)), [50, 30, 24]  # the last has no pair that far apart
    p = np.abs(y + rng.normal(size=y.shape)) - 0.5
    found = benchmark_scores.mae_8(p, y, residues)
    assert found == pytest.approx(slow_mae_8(p, y, residues), rel=1e-12)
    of_the_first = benchmark_scores.mae_8(p, y, [50] * 3)
    assert of_the_first == pytest.approx(slow_mae_8(p, y, [50] * 3), rel=1e-12) and abs(of_the_first - found) > 1e-3
    assert benchmark_scores.mae_8(p[2:], y[2:], residues[2:]) == np.inf
    assert benchmark_scores.mae_8(y, y, residues) > 0  # unless what is predicted is symmetric:
    symmetric = np.maximum(y, 0.01) + np.maximum(y, 0.01).transpose(0, 2, 1, 3)
    assert benchmark_scores.mae_8(symmetric, symmetric, residues[:1]) == 0


def test_psicov_with_its_lengths(rng, tmp_path, monkeypatch):
    monkeypatch.setattr(psicov, 'SIZE', 24)
    monkeypatch.setattr(benchmark_scores, 'APART', 2)
    expected = prepare('nas_bench_360/psicov', tmp_path)
    task, p = dense((24, 24, 1), 10.0, 4.0), 20 * rng.random(expected['y'].shape)
    found = benchmark_scores.of(settings('nas_bench_360/psicov', tmp_path / 'data'), task, (p - 10) / 4,
                                (expected['y'] - 10) / 4)
    assert found['mae_8'] == pytest.approx(benchmark_scores.mae_8(p, expected['y'], [6, 7]), rel=1e-6)
    assert found['orca_mae_8'] == pytest.approx(benchmark_scores.mae_8(p, expected['y'], [6, 6]), rel=1e-6)


def test_pdebench(rng):
    task, p, y = dense((8, 3)), rng.normal(size=(5, 8, 3)), rng.normal(size=(5, 8, 3)) * [1, 5, 9]
    found = benchmark_scores.of(settings('pdebench/navier_stokes_1d'), task, p, y)
    ratios = [np.sqrt(np.mean((a - b) ** 2)) / np.sqrt(np.mean(b ** 2)) for a, b in zip(p, y)]
    assert found == {'orca_nmse': pytest.approx(np.mean(ratios))}
    assert abs(found['orca_nmse'] - scores.nrmse(p, y)) > 1e-2


def test_other_data_have_none(rng):
    for given in (settings('nas_bench_360/ninapro'), settings('mnist'), settings('nas_bench_360/ecg', data='arrays'),
                  settings('nas_bench_360/ecg', test_groups=('a',))):
        assert benchmark_scores.of(given, classes(4), rng.normal(size=(5, 4)), np.arange(5) % 4) == {}


def test_directions():
    for name in ('macro_f1_error', 'auroc_error', 'map_error', 'false_negative_rate', 'mae_8'):
        assert lower_is_better(f'test/{name}@0') and lower_is_better(f'test/orca_{name}@0')
    assert lower_is_better('test/orca_nmse@0') and not lower_is_better('test/auroc@0')
