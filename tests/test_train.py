"""The loop: what it logs, saves and chooses; stopping, resuming and giving up. With a straight line as model."""
import itertools
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny

from fipjax import metrics, train
from fipjax.algorithms.base import Algorithm, initial, update
from fipjax.checkpoint import Checkpoints
from fipjax.data.sources import ArraySource
from fipjax.errors import Interrupted, NonFinite, UserError
from fipjax.parallel import Parallel
from fipjax.writer import MetricsWriter

TIMING = ('seconds', 'steps_per_second')
OPTIMIZER = optax.adam(0.05)


def data(n, seed):
    x = np.random.default_rng(seed).normal(size=(n, 32, 2)).astype(np.float32)
    return ArraySource({'sequence': tiny.SEQUENCE}, {'sequence': x})


def make(poison_at=None):
    """Fits mean(w x) = x[0, 0]; `poison_at` makes the metric of 'sequence' infinite in that step."""

    def sums(params, batch):
        x = batch['inputs']['sequence']
        error = ((x * params['w']).mean((1, 2)) - x[:, 0, 0]) ** 2
        return {'loss': (jnp.where(batch['mask'], error, 0).sum(), batch['mask'].sum())}

    def init(key):
        params = {'w': jax.random.normal(key, (32, 2)), 'steps': jnp.zeros(())}
        return initial(key, params, params, OPTIMIZER)

    def step(state, batch, *, psum):
        grads = psum(jax.grad(lambda p: sums(p, batch)['loss'][0])(state.params))
        parts = psum(sums(state.params, batch))
        loss, n = parts['loss']
        poison = jnp.where(state.step + 1 == (poison_at or -1), jnp.inf, 0.0)
        state, norm = update(OPTIMIZER, state, state.params, grads)
        state = state._replace(params={**state.params, 'steps': state.params['steps'] + 1})
        return state, {**parts, 'loss/sequence': (loss + poison, n), **norm}

    def eval_step(state, batch, *, psum):
        loss, n = psum(sums(state.params, batch))['loss']
        # Falls and rises again: the best step is in the middle.
        return {'loss': (loss, n), 'score': (-jnp.abs(state.params['steps'] - 6.0) * n, n)}

    return Algorithm(init, step, eval_step, metrics.ratio)


ALGORITHM = make()


@pytest.fixture
def run(tmp_path):
    """A function that runs (or goes on with) the stage in a folder and returns its Result."""
    def call(folder='run', *, name='one', algorithm=ALGORITHM, select='', stop=None, steps=11,
             checkpoint_every=4, seed=0, keep=10, log_every=2):
        (tmp_path / folder).mkdir(exist_ok=True)
        stage = train.Stage(name, algorithm, data(20, 0), data(10, 1), steps, 4, 3, seed, select, lambda i: 0.1 * i)
        settings = train.Settings(log_every, checkpoint_every, keep, 4, 1)
        count = itertools.count()
        return train.fit(stage, Parallel('jit', jax.devices()[:1]), settings, tmp_path / folder / 'checkpoints' / name,
                         MetricsWriter(tmp_path / folder / 'metrics.jsonl'),
                         (lambda: next(count) >= stop) if stop is not None else lambda: False, progress=False)
    call.path = tmp_path
    return call


def rows(path):
    return [{k: v for k, v in json.loads(line).items() if k not in TIMING}
            for line in (path / 'metrics.jsonl').read_text().splitlines()]


def same(a, b):
    for x, y in zip(jax.tree.leaves(a.params), jax.tree.leaves(b.params), strict=True):
        np.testing.assert_array_equal(x, y)
    assert (a.step, a.validation) == (b.step, b.validation)


def test_rows_checkpoints_and_result(run):
    result = run()
    got = rows(run.path / 'run')
    assert [r['step'] for r in got if r['split'] == 'train'] == [2, 4, 6, 8, 10, 11]
    assert [r['step'] for r in got if r['split'] == 'validation'] == [0, 3, 6, 9, 11]
    for r in got:
        assert r['stage'] == 'one'
        if r['split'] == 'train':
            assert set(r) == {'stage', 'split', 'step', 'loss', 'loss/sequence', 'grad_norm', 'lr'}
            assert r['lr'] == pytest.approx(0.1 * (r['step'] - 1))
    raw = [json.loads(line) for line in (run.path / 'run' / 'metrics.jsonl').read_text().splitlines()]
    assert all(r['seconds'] >= 0 for r in raw)
    assert [r['seconds'] for r in raw] == sorted(r['seconds'] for r in raw)
    assert Checkpoints(run.path / 'run' / 'checkpoints' / 'one').steps() == [4, 8, 11]
    assert result.step == 11 and result.seconds > result.host_seconds > 0
    assert result.validation == pytest.approx({k: got[-1][k] for k in ('loss', 'score')})


def test_the_loop_computes_what_a_plain_loop_computes(run):
    """Against steps on the batches of the pipeline in NumPy order, with no loop machinery."""
    from fipjax.data import pipeline
    result = run()
    state, batches = ALGORITHM.init(jax.random.key(0)), pipeline.training(data(20, 0), 4, 0)
    step = jax.jit(lambda s, b: ALGORITHM.step(s, b, psum=lambda x: x))
    losses = []
    for _ in range(11):
        batch = {k: v for k, v in next(batches).items() if k != 'meta'}
        state, m = step(state, batch)
        losses.append(float(m['loss'][0] / m['loss'][1]))
    np.testing.assert_allclose(result.params['w'], state.params['w'], rtol=1e-5)
    logged = {r['step']: r['loss'] for r in rows(run.path / 'run') if r['split'] == 'train'}
    assert logged == pytest.approx({s: losses[s - 1] for s in logged}, rel=1e-5)
    x = data(10, 1).take(np.arange(10))['inputs']['sequence']
    wanted = (((x * np.asarray(state.params['w'])).mean((1, 2)) - x[:, 0, 0]) ** 2).mean()
    assert result.validation['loss'] == pytest.approx(wanted, rel=1e-5)  # 10 is not a multiple of 4: no padding in it


@pytest.mark.parametrize('select', ['', 'score'])
@pytest.mark.parametrize('stop', [0, 1, 4, 6, 10])
def test_stopped_and_gone_on_is_as_never_stopped(run, select, stop):
    """By SIGTERM: saved at the step where it came, which is no multiple of anything."""
    whole = run('whole', select=select)
    with pytest.raises(Interrupted, match=f'step {stop} of stage one'):
        run('parts', select=select, stop=stop)
    assert Checkpoints(run.path / 'parts' / 'checkpoints' / 'one').steps() == sorted({*range(4, stop, 4), stop} - {0})
    same(run('parts', select=select), whole)
    assert rows(run.path / 'parts') == rows(run.path / 'whole')


@pytest.mark.parametrize('kept', [4, 8])
def test_killed_after_a_checkpoint_and_gone_on_is_as_never_killed(run, kept):
    """As a kill leaves it: rows and half a row beyond the last checkpoint."""
    whole = run('whole', select='score')
    shutil.copytree(run.path / 'whole', run.path / 'killed')
    for step in (4, 8, 11):
        if step > kept:
            shutil.rmtree(run.path / 'killed' / 'checkpoints' / 'one' / str(step))
    with (run.path / 'killed' / 'metrics.jsonl').open('a') as f:
        f.write('{"stage": "one", "split": "tr')
    same(run('killed', select='score'), whole)
    assert rows(run.path / 'killed') == rows(run.path / 'whole')


def test_a_stage_that_is_done_is_not_run_again_and_keeps_its_rows(run):
    whole = run()
    before = (run.path / 'run' / 'metrics.jsonl').read_text()
    again = run(stop=0)  # would raise if a step were left
    same(again, whole)
    assert (run.path / 'run' / 'metrics.jsonl').read_text() == before


def test_rows_of_later_stages_stay_when_an_earlier_one_is_looked_up_or_repeated(run):
    first, second = run(), run(name='two', seed=1)
    before = rows(run.path / 'run')
    run()
    assert rows(run.path / 'run') == before
    # The newest checkpoint of the first stage is lost: it repeats steps, the second is as it was.
    shutil.rmtree(run.path / 'run' / 'checkpoints' / 'one' / '11')
    same(run(), first)
    key = lambda r: (r['stage'], r['step'], r['split'])  # noqa: E731
    assert sorted(rows(run.path / 'run'), key=key) == sorted(before, key=key)
    same(run(name='two', seed=1), second)


def test_a_damaged_newest_checkpoint_costs_steps_and_nothing_else(run, capsys):
    whole = run()
    before = rows(run.path / 'run')
    file = max((p for p in (run.path / 'run' / 'checkpoints' / 'one' / '11').rglob('*') if p.is_file()),
               key=lambda p: p.stat().st_size)
    file.write_bytes(file.read_bytes()[:-1])
    same(run(), whole)
    assert 'one/11 is damaged' in capsys.readouterr().out
    assert rows(run.path / 'run') == before


def test_the_best_step_on_validation_is_used(run):
    result = run(select='score')  # evaluated at 0, 3, 6, 9, 11; best at 6
    assert result.step == 6 and result.validation['score'] == 0
    at_six = run('six', steps=6)
    np.testing.assert_array_equal(result.params['w'], at_six.params['w'])
    assert (run('last').params['w'] != result.params['w']).any()
    same(run(select='score'), result)  # from the checkpoint


def test_of_equal_steps_the_first_is_used():
    best = train._Best('score', None)
    for step, value in ((0, 0.2), (3, 0.5), (6, 0.5), (9, 0.4)):
        best.offer(step, {'score': value}, {'w': jnp.array(float(step))})
    assert best.step == 3 and best.params['w'] == 3 and best.value == 0.5


def test_other_seeds_train_otherwise(run):
    assert (run('a').params['w'] != run('b', seed=1).params['w']).any()


@pytest.mark.parametrize('step, good', [(3, 'none was saved yet'), (7, 'checkpoints/one/4')])
def test_a_non_finite_loss_stops_the_run_and_names_step_modality_and_checkpoint(run, step, good):
    with pytest.raises(NonFinite) as e:
        run(algorithm=make(poison_at=step))
    text = str(e.value)
    assert f'step {step} ' in text and 'modality: sequence' in text and good in text and 'stage one' in text
    assert isinstance(e.value, UserError)
    # Nothing after it was logged or saved.
    assert max(r['step'] for r in rows(run.path / 'run') if r['split'] == 'train') < step
    assert all(s < step for s in Checkpoints(run.path / 'run' / 'checkpoints' / 'one').steps())


def test_no_checkpoint_is_ever_saved_of_a_step_that_was_not_finite(run):
    """Saving waits for the metrics of all steps before it."""
    with pytest.raises(NonFinite):
        run(algorithm=make(poison_at=8), checkpoint_every=8)
    assert Checkpoints(run.path / 'run' / 'checkpoints' / 'one').steps() == []


def test_only_a_few_steps_are_in_flight(run, monkeypatch):
    """With more, fake CPU devices block each other for ever."""
    longest = []
    add = train._Log.add
    monkeypatch.setattr(train._Log, 'add', lambda self, *a: (add(self, *a), longest.append(len(self.waiting)))[0])
    run(checkpoint_every=1000)
    assert 0 < max(longest) <= train.IN_FLIGHT <= 10


def test_several_processes_stop_together(monkeypatch):
    """Each asks the others, at the same steps; one of them being told is enough."""
    asked = []

    def gather(mine):
        asked.append(bool(mine))
        return np.array([mine, True])
    monkeypatch.setattr(train.multihost_utils, 'process_allgather', gather)
    assert [train._agreed(lambda: False, done, 2) for done in range(21)] == [d % 10 == 0 for d in range(21)]
    assert asked == [False] * 3
    assert train._agreed(lambda: True, 7, 1) and not train._agreed(lambda: False, 7, 1)
