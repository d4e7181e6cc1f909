"""Checkpoints: what comes back, what is kept, damage of every kind, saving in the background."""
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from fipjax import checkpoint
from fipjax.checkpoint import Checkpoints
from fipjax.data import pipeline
from fipjax.data.sources import ArraySource
from fipjax.errors import UserError

SOURCE = ArraySource({'sequence': tiny.SEQUENCE}, {'sequence': np.zeros((20, 32, 2), np.float32)})


def tree(value):
    return {'state': {'params': {'w': jnp.arange(6.0).reshape(2, 3) + value, 'b': jnp.zeros(3) - value},
                      'step': jnp.array(value, jnp.int32)}, 'clock': {'seconds': np.array(value / 2)}}


ABSTRACT = jax.tree.map(lambda x: x if isinstance(x, np.ndarray) else
                        jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), tree(0))


def iterator():
    return pipeline.training(SOURCE, 4, seed=1)


@pytest.fixture
def three(tmp_path):
    """Steps 1, 2, 3 with all of them kept; the iterator has given as many batches."""
    checkpoints, data = Checkpoints(tmp_path / 'c', keep=3), iterator()
    for step in (1, 2, 3):
        next(data)
        checkpoints.save(step, tree(step), data)
    checkpoints.close()
    return tmp_path / 'c'


def restore(path):
    warnings, data = [], iterator()
    checkpoints = Checkpoints(path, keep=3, warn=warnings.append)
    got = checkpoints.restore(ABSTRACT, data)
    checkpoints.close()
    return got, data, warnings


def assert_is(got, data, step):
    assert got[0] == step
    jax.tree.map(np.testing.assert_array_equal, got[1], tree(step))
    wanted = iterator()
    for _ in range(step):
        next(wanted)
    np.testing.assert_array_equal(next(data)['id'], next(wanted)['id'])


def test_round_trip_of_state_and_iterator(three):
    got, data, warnings = restore(three)
    assert_is(got, data, 3)
    assert warnings == []
    assert isinstance(got[1]['clock']['seconds'], np.ndarray) and isinstance(got[1]['state']['step'], jax.Array)


def test_nothing_there(tmp_path):
    got, data, warnings = restore(tmp_path / 'new')
    assert got is None and warnings == []
    np.testing.assert_array_equal(next(data)['id'], next(iterator())['id'])


def test_only_the_newest_are_kept(tmp_path):
    checkpoints, data = Checkpoints(tmp_path, keep=2), iterator()
    for step in (2, 4, 6, 8):
        checkpoints.save(step, tree(step), data)
    checkpoints.close()
    assert checkpoints.steps() == [6, 8]
    assert sorted(p.name for p in tmp_path.glob('*.json')) == ['6.sha256.json', '8.sha256.json']


def test_a_step_that_is_there_is_not_written_again(three):
    before = {p: p.stat().st_mtime_ns for p in three.rglob('*')}
    checkpoints = Checkpoints(three, keep=3)
    checkpoints.save(3, tree(7), iterator())
    checkpoints.close()
    assert {p: p.stat().st_mtime_ns for p in three.rglob('*')} == before
    assert_is(*restore(three)[:2], 3)


def largest(path):
    return max((p for p in path.rglob('*') if p.is_file()), key=lambda p: (p.stat().st_size, p.name))


def truncate(path):
    file = largest(path / '3')
    file.write_bytes(file.read_bytes()[:-5])
    return file.name


def flip(path):
    file = largest(path / '3')
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    return file.name


def remove(path):
    file = largest(path / '3')
    file.unlink()
    return file.name


def empty(path):
    for file in (path / '3').rglob('*'):
        if file.is_file():
            file.write_bytes(b'')
    return '0 bytes'


def garbage_hashes(path):
    (path / '3.sha256.json').write_text('{"a": [1, ')
    return '3.sha256.json'


def binary_hashes(path):
    (path / '3.sha256.json').write_bytes(b'\xff\xfe\x00')
    return '3.sha256.json'


def other_json(path):
    (path / '3.sha256.json').write_text('[1, 2]')
    return '3.sha256.json'


def no_hashes_and_truncated(path):
    (path / '3.sha256.json').unlink()
    for file in (path / '3').rglob('*'):
        if file.is_file():
            file.write_bytes(file.read_bytes()[:len(file.read_bytes()) // 2])
    return '3'


DAMAGE = (truncate, flip, remove, empty, garbage_hashes, binary_hashes, other_json, no_hashes_and_truncated)


@pytest.mark.parametrize('damage', DAMAGE, ids=lambda f: f.__name__)
def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_is_used(three, damage):
    named = damage(three)
    got, data, warnings = restore(three)
    assert_is(got, data, 2)
    assert len(warnings) == 1 and '\n' not in warnings[0]
    assert str(three / '3') in warnings[0] and named in warnings[0] and 'damaged-3' in warnings[0]
    # It is set aside, not deleted, and step 3 can be saved again.
    assert (three / 'damaged-3').is_dir() and not (three / '3').exists()
    checkpoints = Checkpoints(three, keep=3)
    next(data)
    checkpoints.save(3, tree(3), data)
    checkpoints.close()
    assert checkpoints.steps() == [1, 2, 3]
    got, _, warnings = restore(three)
    assert got[0] == 3 and warnings == []


def test_two_damaged_ones(three):
    truncate(three)
    largest(three / '2').unlink()
    got, data, warnings = restore(three)
    assert_is(got, data, 1)
    assert [str(three / s) in w for s, w in zip('32', warnings, strict=True)] == [True, True]


def test_all_damaged_is_an_error_and_stays_one(three):
    for step in '123':
        largest(three / step).unlink()
    for _ in range(2):  # starting again must not silently begin from nothing
        with pytest.raises(UserError, match='none of the checkpoints') as e:
            restore(three)
        assert str(three) in str(e.value) and '--workdir' in str(e.value)


def test_a_checkpoint_of_another_model_is_not_used(three):
    other = jax.tree.map(lambda x: x, ABSTRACT)
    other['state']['params']['extra'] = ABSTRACT['state']['params']['b']
    checkpoints = Checkpoints(three, keep=3, warn=lambda text: None)
    with pytest.raises(UserError, match='none of the checkpoints'):
        checkpoints.restore(other, iterator())


def test_saving_in_the_background_survives_donation(tmp_path):
    """What is saved is the state when `save` was called, though the next step reuses its memory at once."""
    from fipjax.parallel import Parallel
    parallel = Parallel('jit', jax.devices()[:1])
    step = jax.jit(lambda x: jax.tree.map(lambda y: y + 1, x), donate_argnums=0)
    state = parallel.place_state({'params': {f'w{i}': jnp.full((400, 400), float(i)) for i in range(8)}})
    checkpoints, data = Checkpoints(tmp_path, keep=5), iterator()
    checkpoints.save(1, parallel.snapshot(state), data)
    donated = state
    for _ in range(20):
        state = step(state)
    next(data)
    assert all(x.is_deleted() for x in jax.tree.leaves(donated))
    checkpoints.close()
    abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)
    data = iterator()
    got = Checkpoints(tmp_path).restore(abstract, data)[1]
    for i in range(8):
        np.testing.assert_array_equal(got['params'][f'w{i}'], np.full((400, 400), float(i)))
        assert float(state['params'][f'w{i}'][0, 0]) == i + 20
    np.testing.assert_array_equal(next(data)['id'], next(iterator())['id'])


def test_placed_states_share_no_memory_with_their_source():
    from fipjax.parallel import Parallel
    source = jax.device_put(jnp.arange(4.0))
    placed = Parallel('jit', jax.devices()[:1]).place_state({'x': source})
    jax.jit(lambda t: {'x': t['x'] * 2}, donate_argnums=0)(placed)
    assert not source.is_deleted() and source.tolist() == [0, 1, 2, 3]
    host = np.arange(4.0)
    placed = Parallel('jit', jax.devices()[:1]).place_state({'x': host})
    jax.block_until_ready(jax.jit(lambda t: {'x': t['x'] * 2}, donate_argnums=0)(placed))
    assert host.tolist() == [0, 1, 2, 3]


def test_hashes_are_those_of_the_files(three):
    import hashlib
    written = json.loads((three / '2.sha256.json').read_text())
    files = {str(p.relative_to(three / '2')): p for p in (three / '2').rglob('*') if p.is_file()}
    assert set(written) == set(files)
    for name, path in files.items():
        assert written[name] == [path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest()]


# --- Parameters of another run ------------------------------------------------------------------------------

@pytest.fixture
def run_of_another(three):
    workdir = three.parent / 'run'
    (workdir / 'checkpoints').mkdir(parents=True)
    three.rename(workdir / 'checkpoints' / 'pretrain')
    return workdir


def test_load_params_takes_the_newest(run_of_another):
    got = checkpoint.load_params(run_of_another)
    assert set(got) == {'w', 'b'} and all(type(x) is np.ndarray for x in got.values())
    np.testing.assert_array_equal(got['w'], tree(3)['state']['params']['w'])


@pytest.mark.parametrize('workdir', ['none', 'run'])
def test_load_params_without_a_checkpoint(tmp_path, workdir):
    (tmp_path / 'run').mkdir()
    with pytest.raises(UserError, match='no checkpoint there'):
        checkpoint.load_params(tmp_path / workdir)
    assert not pathlib.Path(tmp_path / 'none').exists()


@pytest.mark.parametrize('damage', [truncate, flip, remove, binary_hashes, no_hashes_and_truncated],
                         ids=lambda f: f.__name__)
def test_load_params_refuses_a_damaged_checkpoint_and_leaves_it_where_it_is(run_of_another, damage):
    path = run_of_another / 'checkpoints' / 'pretrain'
    damage(path)
    with pytest.raises(UserError, match='damaged') as e:
        checkpoint.load_params(run_of_another)
    assert str(path / '3') in str(e.value) and (path / '3').is_dir()


def test_parameters_kept_for_analysis_come_back_and_are_replaced(tmp_path):
    for value in (1.0, 2.0):
        params = {'encoder': {'w': np.full((2, 3), value, np.float32)}, 'count': np.arange(3)}
        checkpoint.save_params(tmp_path / 'kept', params)
        back = checkpoint.read_params(tmp_path / 'kept')
        assert jax.tree.structure(back) == jax.tree.structure(params)
        for a, b in zip(jax.tree.leaves(back), jax.tree.leaves(params), strict=True):
            assert isinstance(a, np.ndarray) and a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)


def test_damaged_and_missing_parameters_are_named(tmp_path):
    with pytest.raises(UserError, match='nothing: no parameters there'):
        checkpoint.read_params(tmp_path / 'nothing')
    checkpoint.save_params(tmp_path / 'kept', {'w': np.arange(1000.0)})
    largest = max((p for p in (tmp_path / 'kept').rglob('*') if p.is_file()), key=lambda p: p.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 255
    largest.write_bytes(bytes(data))
    with pytest.raises(UserError, match='kept: the parameters are damaged'):
        checkpoint.read_params(tmp_path / 'kept')
