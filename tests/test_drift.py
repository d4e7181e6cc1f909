"""Drift of attention weights: distances against loops and closed forms, which kernels are found, the command."""
import json
import math
import subprocess
import sys

import fake_runs
import numpy as np
import pytest

from fipjax import checkpoint
from fipjax.analysis import drift
from fipjax.errors import UserError

RNG = np.random.default_rng(0)
A, B = RNG.normal(size=(2, 5, 3))


def angle(u, v):
    return math.acos(sum(x * y for x, y in zip(u, v)) / math.hypot(*u) / math.hypot(*v)) / math.pi


def attention(*shape, seed=0, inner=None):
    """Query, key, value and out kernels [*shape, 4, 4], or [*shape, 4, inner] and [*shape, inner, 4]."""
    rng, inner = np.random.default_rng(seed), inner or 4
    return {p: {'kernel': rng.normal(size=(*shape, *((inner, 4) if p == 'out' else (4, inner)))).astype(np.float32),
                'bias': rng.normal(size=(*shape, 4))} for p in drift.PROJECTIONS}


def test_distances_are_those_of_loops():
    assert drift.l1(A, B) == pytest.approx(sum(abs(A[i, j] - B[i, j]) for i in range(5) for j in range(3)) / 15)
    assert drift.angular(A, B) == pytest.approx(angle(A.ravel(), B.ravel()), rel=1e-12)
    columns = [angle(A[:, j], B[:, j]) for j in range(3)]
    assert drift.angular_rows(A, B) == pytest.approx(sum(columns) / 3, rel=1e-12)
    assert drift.angular_rows(A, B) != pytest.approx(np.mean([angle(A[i], B[i]) for i in range(5)]), rel=1e-3)
    # Rows are of one length, so the mean over rows of L1 says nothing new.
    assert drift.l1(A, B) == pytest.approx(np.mean([drift.l1(A[:, j], B[:, j]) for j in range(3)]))


@pytest.mark.parametrize('measure', [drift.angular, drift.angular_rows])
def test_angles_of_known_pairs(measure):
    zero = np.zeros_like(A)
    assert measure(A, A) == 0
    assert measure(A, 3 * A) < 1e-15 and measure(A.astype(np.float32), 1e-20 * A.astype(np.float32)) < 1e-7
    assert measure(A, -A) == pytest.approx(1, abs=1e-12)
    assert measure(np.array([[1.0], [0.0]]), np.array([[0.0], [2.0]])) == pytest.approx(0.5, abs=1e-15)
    assert measure(A, zero) == pytest.approx(0.5) and measure(zero, zero) == 0
    # A rotation by an angle so small that arccos of the cosine would give 0.
    small = 1e-9
    assert measure(np.array([[1.0], [0.0]]), np.array([[np.cos(small)], [np.sin(small)]])) == pytest.approx(
        small / np.pi, rel=1e-6)


def test_groups_of_all_models_are_found():
    tree = {'base': {'embeddings': {'words': np.ones((3, 4))}, 'blocks': {'attention': attention(2)},
                     'co_blocks': {'text_attention': attention(3), 'region_attention': attention(3, inner=2),
                                   'text_mlp': {'hidden': {'kernel': np.ones((3, 4, 4))}}}},
            'words': {'attention': attention(5)}}
    found = drift.kernels(tree)
    assert {k: list(v) for k, v in found.items()} == {
        'blocks/attention': [0, 1], 'co_blocks/text_attention': [0, 1, 2], 'co_blocks/region_attention': [0, 1, 2]}
    got = found['co_blocks/region_attention'][2]['out']
    np.testing.assert_array_equal(got, tree['base']['co_blocks']['region_attention']['out']['kernel'][2])
    encoder = {f'attention_{i}': attention(seed=i) for i in (0, 1, 10)} | {'mlp_0': {'out': {'kernel': np.ones(4)}}}
    found = drift.kernels({'encoder': encoder, 'own': {'attention': attention()}})
    assert {k: list(v) for k, v in found.items()} == {'encoder/attention': [0, 1, 10], 'own/attention': [0]}
    np.testing.assert_array_equal(found['encoder/attention'][10]['key'], encoder['attention_10']['key']['kernel'])
    assert drift.kernels({'attention': {p: v for p, v in attention().items() if p != 'out'}}) == {}


def test_rows_hold_the_distances_of_their_kernels():
    a, b = attention(2), attention(2, seed=1)
    rows = drift.measure({'base': {'blocks': {'attention': a}}, 'head': {'attention': attention(7)}},
                         {'base': {'blocks': {'attention': b}, 'other': {'attention': attention(1)}}})
    assert [(r.group, r.layer, r.projection) for r in rows] == [
        ('blocks/attention', layer, p) for layer in (0, 1) for p in drift.PROJECTIONS]
    x, y = (np.asarray(t['value']['kernel'][1], np.float64) for t in (a, b))
    assert rows[6][3:] == pytest.approx((np.abs(x - y).mean(), angle(x.ravel(), y.ravel()),
                                         np.mean([angle(x[:, j], y[:, j]) for j in range(4)])))
    found = drift.grid(rows)
    assert [cells[1] for _, cells in found.rows] == ['0', '1', 'mean'] and len(found.header) == 14
    column = found.header.index('L1, value')
    assert float(found.rows[2][1][column]) == pytest.approx((rows[2].l1 + rows[6].l1) / 2, rel=1e-3)


def test_trees_that_cannot_be_compared_are_refused():
    a = {'base': {'blocks': {'attention': attention(2)}}}
    wide = {'base': {'blocks': {'attention': attention(2, inner=8)}}}
    for other, text in (({'blocks': {}}, 'B: no attention'), ({'base': {'x': {'attention': attention(2)}}}, 'nothing'),
                        ({'base': {'blocks': {'attention': attention(3)}}}, 'A has 2 layers and B 3'),
                        (wide, r'A has the shape \(4, 4\) and B \(4, 8\)')):
        with pytest.raises(UserError, match=text):
            drift.measure(a, other, ('A', 'B'))


def test_picture_is_wide_where_there_are_several_groups():
    rows = drift.measure({'x': {'attention': attention(2)}}, {'x': {'attention': attention(2, seed=1)}})
    assert not drift.picture(rows)['wide']
    assert drift.picture([*rows, *(r._replace(group='$y') for r in rows)])['wide']


@pytest.fixture(scope='module')
def workdirs(tmp_path_factory):
    """Two runs with parameters as the wing 'vlp' keeps them."""
    folder = tmp_path_factory.mktemp('runs')
    for seed, run in enumerate(('one', 'two')):
        for turn, which in enumerate(('vqa@100%', 'initial', 'vqa@10%', 'pretrained')):
            checkpoint.save_params(folder / run / 'parameters' / which,
                                   {'base': {'blocks': {'attention': attention(2, seed=10 * seed + turn)}}})
    checkpoint.save_params(folder / 'source' / 'parameters', {'encoder': {'attention_0': attention()}})
    (folder / 'empty').mkdir()
    checkpoint.save_params(folder / 'tuned' / 'parameters' / 'snli@5%', {'base': {'x': {'attention': attention()}}})
    (folder / 'tuned' / 'result.json').write_text(json.dumps({'pretrained': str(folder / 'one')}))
    return folder


def test_parameters_are_found_by_name(workdirs):
    which = lambda text: drift.find(str(workdirs / text), 'run').which  # noqa: E731
    assert [k.which for k in drift.kept(workdirs / 'one')] == ['initial', 'pretrained', 'vqa@10%', 'vqa@100%']
    assert which('one') == which('one:vqa') == 'vqa@100%' and which('one:vqa@10') == 'vqa@10%'
    assert which('one:initial') == 'initial' and which('source') == 'source'
    assert drift.find(str(workdirs / 'tuned:pretrained'), 'run').path == workdirs / 'one' / 'parameters' / 'pretrained'
    assert which('tuned') == 'snli@5%'
    for text, message in (('three', 'no such folder'), ('empty', 'no parameters there'),
                          ('one:snli', "no parameters 'snli'; there are initial, pretrained, vqa@10%, vqa@100%"),
                          ('one:../two', "no parameters '../two'")):
        with pytest.raises(UserError, match=message):
            which(text)
    with pytest.raises(UserError, match='--run is missing; usage'):
        drift.write(None, str(workdirs / 'one'))
    with pytest.raises(UserError, match='are the same parameters'):
        drift.write(str(workdirs / 'one'), str(workdirs / 'one:vqa@100%'))


def test_writes_table_numbers_and_picture(workdirs, tmp_path):
    text = drift.write(str(workdirs / 'one:pretrained'), str(workdirs / 'one:initial'))
    stem = workdirs / 'one' / 'drift-pretrained-against-initial'
    a, b = (checkpoint.read_params(workdirs / 'one' / 'parameters' / w) for w in ('pretrained', 'initial'))
    rows = drift.measure(a, b)
    said = json.loads(stem.with_suffix('.json').read_text())
    assert [drift.Row(**r) for r in said['rows']] == rows
    lines = stem.with_suffix('.csv').read_text().splitlines()
    assert lines[0] == 'group,layer,projection,l1,angular,angular_rows' and len(lines) == 9
    assert float(lines[1].split(',')[3]) == rows[0].l1
    assert stem.with_suffix('.png').read_bytes().startswith(b'\x89PNG')
    assert stem.with_suffix('.md').read_text().splitlines()[2] in text and 'one:initial' in text
    drift.write(str(workdirs / 'one'), str(workdirs / 'two'), str(tmp_path / 'out'))
    assert (tmp_path / 'out' / 'drift-vqa@100%-against-two-vqa@100%.json').exists()


def test_the_command_answers_wrong_input_in_a_line(workdirs):
    done = subprocess.run([sys.executable, '-m', 'fipjax.analysis.drift', f'--run={workdirs}/one',
                           f'--against={workdirs}/source'], capture_output=True, text=True, timeout=300)
    assert done.returncode == 2 and 'nothing to compare' in done.stderr and 'Traceback' not in done.stderr


def test_stages_of_a_run_without_kept_parameters_count(tmp_path, monkeypatch):
    fake_runs.write_run(tmp_path / 'run')
    (tmp_path / 'run' / 'checkpoints' / 'pretrain').mkdir(parents=True)
    monkeypatch.setattr(checkpoint, 'load_params', lambda workdir, stage: (workdir, stage))
    found = drift.find(str(tmp_path / 'run'), 'run')
    assert found.which == 'pretrain' and found.load() == (tmp_path / 'run', 'pretrain')
