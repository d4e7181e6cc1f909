"""FIP with estimated weights: when, from what, and what the step then does; on the tiny model."""
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from fipjax import checkpoint, experiment, train
from fipjax.algorithms import finetune, fip, importance
from fipjax.analysis import pictures, runs
from fipjax.data import arrays
from fipjax.errors import Interrupted, UserError
from fipjax.experiments import fip as fip_experiment
from fipjax.parallel import identity

NAMES = tiny.NAMES
MODEL, MODALITIES = tiny.multimodal_of(NAMES)


def params(z=(0.0, 0.3, -0.2)):
    """Parameters with what earlier estimates left."""
    kept = {**importance.start(3), 'z': jnp.asarray(z), 'sum': jnp.array([2.0, 3.0, 8.0]), 'count': jnp.full(3, 4.0),
            'updates': jnp.int32(1), 'first': jnp.array([1.0, 1.0, 2.0]), 'last': jnp.array([0.9, 1.0, 2.0])}
    return {**tiny.params(), 'importance': kept}


def state(step, z=(0.0, 0.3, -0.2)):
    here = params(z)
    return tiny.State(np.int32(step), tiny.KEY, here, tiny.SGD.init(fip.trained(here)))


def batch():
    return {**tiny.batch(6, missing=True, padded=1), 'downstream': tiny.downstream()}


def stepped(method, step, z=(0.0, 0.3, -0.2)):
    before = state(step, z)
    after, metrics = tiny.compiled(tiny.estimating(method))(before, batch())
    return before.params, jax.device_get(after.params), {k: float(v[0]) for k, v in metrics.items() if 'weight' in k}


def gradients_of_each(step):
    """g_m by one jax.grad for each modality, through FIP's own step with that modality's weight alone."""
    out = []
    for m in NAMES:
        only = tiny.PLAIN._replace(loss_weight={k: float(k == m) for k in NAMES})
        given = {k: v for k, v in batch().items() if k != 'downstream'}
        before = tiny.State(np.int32(step), tiny.KEY, tiny.params(), tiny.SGD.init(fip.trained(tiny.params())))
        after, _ = tiny.compiled(tiny.pretraining(only))(before, given)
        out.append(jax.tree.map(lambda a, b: np.asarray(a) - np.asarray(b), before.params['encoder'],
                                after.params['encoder']))
    return jax.tree.map(lambda *x: np.stack(x), *out)


def halves(step):
    d = tiny.downstream()
    fitted = np.asarray(importance.halves(tiny.KEY, step, d['id'], d['label'], d['valid']))
    return d, fitted, d['valid'] & ~fitted


@pytest.mark.parametrize('method', ['cosine', 'ablation'])
@pytest.mark.parametrize('step', [0, 1, 2, 3, 4])
def test_estimates_are_made_every_second_step_but_not_at_the_first(method, step):
    before, after, shown = stepped(method, step)
    due = step in (2, 4)
    assert (after['importance']['updates'] == 2) == due
    assert np.array_equal(after['importance']['z'], before['importance']['z']) == (not due)
    how = importance.Settings(method, 2, 2.0, 0.05, 0.8, 0.3, 0.05)
    np.testing.assert_allclose([shown[f'weight/{m}'] for m in NAMES], importance.weights(after['importance'], how),
                               rtol=1e-6)


def test_cosine_is_that_of_separate_gradients_and_a_probe_of_its_own():
    _, after, _ = stepped('cosine', 2)
    d, fitted, asked = halves(2)
    code = finetune.code(MODEL, 'image')
    targets = np.eye(tiny.CLASSES, dtype=np.float32)[d['label']]

    def loss(encoder, probe):
        codes = code({**tiny.params(), 'encoder': encoder}, d)
        return importance.probe_error(probe, codes, targets)[asked].mean()

    encoder = tiny.params()['encoder']
    probe = importance.fit_probe(code(tiny.params(), d), targets, jnp.asarray(fitted), 0.3, identity)
    expected = importance.cosine(gradients_of_each(2), jax.grad(loss)(encoder, probe))
    np.testing.assert_allclose(after['importance']['score'], expected, rtol=2e-4)
    np.testing.assert_allclose(after['importance']['z'], np.array([0, 0.3, -0.2]) + 2.0 * np.asarray(expected),
                               rtol=2e-4)


def test_ablation_encodes_all_modalities_but_one():
    _, after, _ = stepped('ablation', 2)
    d, fitted, asked = halves(2)
    targets = np.eye(tiny.CLASSES, dtype=np.float32)[d['label']]

    def error(left_out):
        """One example at a time, with the tokens that it has and no others."""
        codes = []
        for i in range(12):
            tokens = [MODEL.tokenize(tiny.params(), m, d['inputs'][m][i:i + 1]) for m in NAMES
                      if m != left_out and d['present'][m][i]]
            tokens = jnp.concatenate(tokens, 1) if tokens else None
            codes.append(jnp.zeros(16) if tokens is None else
                         MODEL.encode(tiny.params(), tokens, jnp.zeros(tokens.shape[:2]))[0].mean(0))
        codes = jnp.stack(codes)
        probe = importance.fit_probe(codes, targets, jnp.asarray(fitted), 0.3, identity)
        return float(importance.probe_error(probe, codes, targets)[asked].mean())

    constant = ((targets[asked] - targets[fitted].mean(0)) ** 2).sum(1).mean()
    expected = [(error(m) - error(None)) / constant for m in NAMES]
    np.testing.assert_allclose(after['importance']['score'], expected, rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize('method', ['cosine', 'uncertainty'])
def test_a_step_is_that_of_fip_with_these_weights(method):
    """With optax.sgd(1.0): what is subtracted is the gradient, by a step with the same weights given."""
    before, after, shown = stepped(method, 2)
    weights = {m: shown[f'weight/{m}'] for m in NAMES}
    assert np.ptp(list(weights.values())) > 0.1
    plain = tiny.pretraining(tiny.PLAIN._replace(loss_weight=weights))
    given = {k: v for k, v in batch().items() if k != 'downstream'}
    same = tiny.State(np.int32(2), tiny.KEY, tiny.params(), tiny.SGD.init(fip.trained(tiny.params())))
    wanted, metrics = jax.jit(functools.partial(plain.step, psum=identity))(same, given)
    assert tiny.relative({k: v for k, v in after.items() if k != 'importance'}, wanted.params) < 1e-6
    algorithm = tiny.estimating(method)
    own = algorithm.eval_step(state(0)._replace(params=after), batch(), psum=identity)
    other = plain.eval_step(same._replace(params=wanted.params), batch(), psum=identity)
    np.testing.assert_allclose(algorithm.summarise(jax.device_get(own))['loss'],
                               plain.summarise(jax.device_get(other))['loss'], rtol=1e-5)
    seen = after['importance']
    np.testing.assert_allclose(seen['sum'], [metrics[f'loss/{m}'][0] / metrics[f'loss/{m}'][1] for m in NAMES],
                               rtol=1e-5)
    assert seen['count'].tolist() == [1, 1, 1]


def test_methods_without_labels_need_no_labelled_examples():
    algorithm = tiny.estimating('dwa')
    after, _ = tiny.compiled(algorithm)(state(2), {k: v for k, v in batch().items() if k != 'downstream'})
    ratio = np.array([0.5, 0.75, 2.0]) / np.array([0.9, 1.0, 2.0])
    np.testing.assert_allclose(after.params['importance']['z'], ratio, rtol=1e-6)


def test_a_fresh_state_weighs_all_the_same():
    start = tiny.estimating('cosine').init(jax.random.key(0))
    np.testing.assert_allclose(importance.weights(start.params['importance'], importance.Settings(
        'cosine', 1, 1.0, 0.1, 1.0, 1.0, 0.1)), 1)


# --- A whole run ------------------------------------------------------------------------------------------------------

def run(folder, splits, stop_at=(), monkeypatch=None, **changes):
    """Pretraining of 8 steps with an estimate every 2, on arrays of 60 examples."""
    config = tiny.config(**{'pretrain__fip__weights': 'estimated', 'pretrain__fip__downstream__every': 2,
                            'pretrain__fip__downstream__labels_per_class': 4, 'finetune__labels_per_class': (4,),
                            'finetune__steps': 2, 'finetune__eval_every': 2, **changes})
    for stop in stop_at:
        asked = iter(range(100))

        def fit(stage, parallel, settings, directory, writer, _, progress, observe=None, how=(train.fit, asked, stop)):
            return how[0](stage, parallel, settings, directory, writer, lambda: next(how[1]) >= how[2], progress,
                          observe)

        with monkeypatch.context() as patch, pytest.raises(Interrupted):
            patch.setattr(train, 'fit', fit)
            experiment.run(config, folder, progress=False, splits=splits)
    return experiment.run(config, folder, progress=False, splits=splits)


def logged(folder):
    """The weights of each training step of pretraining."""
    rows = [json.loads(line) for line in (folder / 'metrics.jsonl').read_text().splitlines()]
    return {r['step']: [r['weight/image'], r['weight/sequence']] for r in rows
            if r['stage'] == 'pretrain' and r['split'] == 'train'}


@pytest.fixture(scope='module')
def splits():
    modalities = {m: tiny.MODALITIES[m] for m in ('image', 'sequence')}
    return arrays.from_arrays(tiny.arrays(60), modalities, 0)


@pytest.fixture(scope='module')
def whole(splits, tmp_path_factory):
    folder = tmp_path_factory.mktemp('estimated')
    return folder, run(folder, splits)


def test_a_run_logs_its_weights_and_keeps_them(whole):
    folder, result = whole
    shown = logged(folder)
    assert shown[1] == shown[2] == [1, 1]  # the third step is the first with an estimate behind it
    assert shown[3] == shown[4] != shown[5] == shown[6] != shown[7] and shown[3] != [1, 1]
    for pair in shown.values():
        assert abs(sum(pair) - 2) < 1e-5 and min(pair) >= 0.1
    assert [result['metrics'][f'pretrain/weight/{m}'] for m in ('image', 'sequence')] == shown[8]
    kept = checkpoint.load_params(folder, 'pretrain')['importance']
    assert kept['updates'] == 3
    titles = [p['title'] for p in pictures.curves(runs.load_run(folder))]
    assert titles[0] == 'Curves: pretrain'


def test_a_stopped_run_goes_on_with_the_same_weights(whole, splits, tmp_path, monkeypatch):
    result = run(tmp_path / 'again', splits, (3, 2), monkeypatch)
    assert logged(tmp_path / 'again') == logged(whole[0])
    assert result['metrics'] == whole[1]['metrics']


def test_shuffled_labels_are_a_control_that_changes_nothing_else(whole, splits, tmp_path):
    run(tmp_path / 'shuffled', splits, pretrain__fip__downstream__shuffled=True)
    other, own = logged(tmp_path / 'shuffled'), logged(whole[0])
    assert other[1] == own[1] and other[3] != own[3]


def test_flops_count_the_estimates_beside_the_steps(whole, splits, tmp_path):
    flops = whole[1]['flops']
    plain = run(tmp_path / 'plain', splits, pretrain__fip__weights='uniform')['flops']
    assert flops['pretrain_step'] == plain['pretrain_step'] and 'estimates' not in plain
    assert flops['estimates'] == 3 * flops['estimates_step']  # 8 steps, one before each second of them but the first
    assert 0.5 < flops['estimates_step'] / flops['pretrain_step'] < 3  # M = 2: at most M + 1 steps
    assert flops['total'] == pytest.approx(plain['total'] + flops['estimates'])


def test_an_estimate_takes_no_more_labelled_examples_than_a_batch_has(splits):
    c = tiny.config(pretrain__fip__weights='estimated', pretrain__fip__downstream__labels_per_class=0)
    labelled = fip_experiment.labelled_examples(c, splits, 1)
    assert len(labelled.beside.source) == 24 and labelled.beside.batch_size == c.pretrain.batch_size == 6
    c.pretrain.batch_size = 30
    assert fip_experiment.labelled_examples(c, splits, 1).beside.batch_size == 24
    for key, value in (('weights', 'uniform'), ('weights', 'prior')):
        c.pretrain.fip[key] = value
        assert fip_experiment.labelled_examples(c, splits, 1) is None


@pytest.mark.parametrize('method', ['meta', 'dwa'])
def test_other_methods_run(splits, tmp_path, method):
    run(tmp_path / method, splits, pretrain__fip__downstream__method=method)
    shown = logged(tmp_path / method)
    assert np.isfinite(list(shown.values())).all() and shown[8] != [1, 1]


@pytest.mark.parametrize('changes, message', [
    ({'pretrain__fip__downstream__method': 'cosines'}, 'pretrain.fip.downstream.method is .cosines.; allowed: cosine'),
    ({'pretrain__fip__downstream__floor': 1.0}, 'pretrain.fip.downstream.floor is 1.0; allowed: in'),
    ({'pretrain__fip__downstream__every': 0}, 'pretrain.fip.downstream.every is 0; allowed: an integer of at least 1'),
    ({'pretrain__modalities': ('image',)}, 'pretrain.fip.weights is .estimated.; allowed: prior or uniform'),
    ({'pretrain__fip__downstream__labels_per_class': 400}, 'downstream.labels_per_class is 400, but class'),
])
def test_bad_input(splits, tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        run(tmp_path / 'bad', splits, **changes)
