"""How important each modality is: from scores to text by hand, scores of raw values and of a run, the command."""
import base64
import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from fipjax import experiment
from fipjax.algorithms import fip, importance
from fipjax.algorithms.base import State
from fipjax.analysis import importance as report
from fipjax.analysis import importance_draws, importance_pictures
from fipjax.errors import NonFinite, UserError
from fipjax.modality import Modality
from fipjax.parallel import identity

DRAWS = 10


# --- From scores to text ----------------------------------------------------------------------------------------------

def test_means_intervals_and_gains_by_hand():
    own = np.stack([np.arange(41.0), np.full(41, 19.0), np.full(41, -20.0)], 1)
    shuffled = np.stack([np.arange(41.0) - 20] * 3, 1)
    first, second, third = report.summarise(own, shuffled)
    assert first == report.Score(20, 1, 39, 0, -19, 19, 20, True)  # 2.5 % of 41 values: the second
    assert second == report.Score(19, 19, 19, 0, -19, 19, 19, False)
    assert third.gain == -20 and third.told_apart


def test_agreement_is_spearmans():
    assert report.agreement([3, 1, 2], [0.9, 0.2, 0.1]) == pytest.approx(0.5)
    assert report.agreement([1, 2], [5, 4]) == pytest.approx(-1)
    assert report.agreement([1, 1], [5, 4]) is None


def score(gain, told_apart=True):
    return report.Score(0, 0, 0, 0, 0, 0, gain, told_apart)


HOW = importance.Settings('cosine', 1, rate=0.5, floor=0.2, temperature=2.0, penalty=1.0, alpha=0.1)


def test_suggestion_by_hand():
    found = report.suggest([score(1.0), score(0.5, False), score(-1.0)], HOW, 4, [0.75, 0.75, 0.75], [2, 2, 2])
    share = np.exp([1, 0, -1]) / np.exp([1, 0, -1]).sum()  # z = 0.5 * 4 * (1, 0, -1)
    weights = 3 * 0.8 * share + 0.2
    np.testing.assert_allclose([s.weight for s in found], weights, rtol=1e-6)
    np.testing.assert_allclose([s.mask_ratio for s in found], [0.8135, 0.7183, 0.6124], atol=1e-4)
    np.testing.assert_allclose(1 - 0.25 / np.sqrt(weights), [s.mask_ratio for s in found], rtol=1e-6)
    np.testing.assert_allclose(weights * 2, [3.59, 1.57, 0.83], atol=0.01)
    assert [s.decoder_depth for s in found] == [4, 2, 1]


def test_suggestions_stay_in_range_and_leave_alone_what_has_weight_one():
    strong = report.suggest([score(9.0), score(-9.0)], HOW, 4, [0.85, 0.6], [3, 1])
    assert [s[1:] for s in strong] == [(pytest.approx(1 - 0.15 / 1.8 ** 0.5), 4), (0.5, 1)]
    assert report.suggest([score(9.0), score(-9.0)], HOW, 4, [0.89, 0.6], [3, 1])[0].mask_ratio == 0.9
    alone = report.suggest([score(9.0, False), score(-9.0, False)], HOW, 4, [0.95, 0.2], [6, 1])
    assert alone == [report.Suggestion(1.0, 0.95, 6), report.Suggestion(1.0, 0.2, 1)]


def test_options_are_those_of_the_command_line():
    given = {'image': report.Suggestion(1.23456, 0.78901, 3)}
    wanted = ['--config.pretrain.fip.loss_weight.image=1.23', '--config.pretrain.fip.mask_ratio.image=0.789',
              '--config.pretrain.fip.decoder_depth.image=3']
    assert report.options(given, 'prior') == wanted
    assert report.options(given, 'uniform') == ['--config.pretrain.fip.weights=prior', *wanted]


def test_kept_weights_find_their_modalities_by_the_weights_of_the_run():
    z = {'b': 0.5, 'a': -1.0, 'c': 2.0}  # in the order that the run had them; config.json has a, b, c
    w = dict(zip(z, importance.weights({'z': jnp.array(list(z.values()))}, HOW), strict=True))
    assert importance_draws.by_name(np.array(list(z.values())), [w[m] for m in 'abc']).tolist() == [-1.0, 0.5, 2.0]


def test_raw_codes_against_loops():
    modalities = {'text': Modality('text', 'tokens', (6,), 1, vocab=7),
                  'image': Modality('image', 'image', (32, 16, 2), 8), 'iq': Modality('iq', 'sequence', (4, 2), 2)}
    rng = np.random.default_rng(0)
    inputs = {'text': rng.integers(0, 7, (3, 6)).astype(np.int32),
              'image': rng.normal(size=(3, 32, 16, 2)).astype(np.float32), 'iq': rng.normal(size=(3, 4, 2))}
    present = {m: np.array([True, True, m == 'iq']) for m in modalities}
    text, image, iq = importance_draws.raw_codes(modalities, {'inputs': inputs, 'present': present})
    assert text.shape == (3, 7) and image.shape == (3, 512) and iq.shape == (3, 8)
    for row in (0, 1):
        assert text[row].tolist() == [inputs['text'][row].tolist().count(k) for k in range(7)]
        channels = [inputs['image'][row, :, :, c].ravel() for c in (0, 1)]
        np.testing.assert_allclose(image[row], [(c[i] + c[i + 1]) / 2 for c in channels for i in range(0, 512, 2)],
                                   rtol=1e-5, atol=1e-6)
    assert not text[2].any() and not image[2].any()
    np.testing.assert_allclose(iq[2], [*inputs['iq'][2, :, 0], *inputs['iq'][2, :, 1]], rtol=1e-6)


# --- Raw values -------------------------------------------------------------------------------------------------------

def ridge_error(x, targets, fitted, asked, penalty):
    """Held-out squared error of ridge regression, in float64; columns that do not vary say nothing."""
    x = np.asarray(x, np.float64)[:, np.ptp(x[fitted], axis=0) > 0]
    mean, level = x[fitted].mean(0), targets[fitted].mean(0)
    z = (x - mean) / np.sqrt(x[fitted].var(0) + 1e-6)
    n = fitted.sum()
    weights = np.linalg.solve(z[fitted].T @ z[fitted] + penalty * n * np.eye(z.shape[1]),
                              z[fitted].T @ (targets[fitted] - level))
    return ((z[asked] @ weights + level - targets[asked]) ** 2).sum(1).mean()


@pytest.fixture(scope='module')
def alone(tmp_path_factory):
    """A config, and what is asked of its data: 'image' shows the label, 'sequence' is noise; 20 labels a class."""
    folder = tmp_path_factory.mktemp('alone')
    np.savez(folder / 'data.npz', **tiny.arrays(240))
    path = tiny.config_file(folder / 'config.py', data__path=str(folder / 'data.npz'),
                            pretrain__fip__downstream__labels_per_class=20, pretrain__fip__downstream__every=2)
    return path, importance_draws.open_config(path, progress=False)


def test_ablation_of_raw_values_finds_the_modality_that_shows_the_label(alone):
    opened = alone[1]
    found, seconds = importance_draws.measure(opened, DRAWS, False, ('ablation',))
    assert found['ablation'].shape == (2, DRAWS, 2) and set(seconds) == {'ablation'}
    image, noise = report.summarise(*found['ablation'])
    assert image.told_apart and image.gain > 0.2
    assert not noise.told_apart and abs(noise.gain) < image.gain / 2

    rows = opened.labelled.take(np.arange(60))
    image, sequence = (rows['inputs'][m].reshape(60, -1) for m in ('image', 'sequence'))
    key = jax.random.key_data(jax.random.key(0))
    for which, labels in enumerate((rows['label'], np.random.default_rng([0, 4]).permutation(rows['label']))):
        fitted = np.asarray(importance.halves(key, 4, rows['id'], labels, np.ones(60, bool)))
        targets = np.eye(3)[labels]
        error = lambda x, t=targets, f=fitted: ridge_error(x, t, f, ~f, (128 + 64) / 16)  # noqa: E731
        whole, constant = error(np.concatenate([image, sequence], 1)), error(np.zeros((60, 1)))
        np.testing.assert_allclose(found['ablation'][which, 4], [(error(sequence) - whole) / constant,
                                                                 (error(image) - whole) / constant], atol=1e-4)


# --- Runs and the command ---------------------------------------------------------------------------------------------

def direct(opened, k, fields):
    """field -> cosine, dot, meta of one draw with its labels, without fipjax.analysis and importance.update."""
    parts, config = opened.parts, opened.config
    size, n = config.pretrain.batch_size, len(opened.labelled)
    order = np.random.default_rng([config.seed, 80, k]).permutation(len(opened.source))
    batch = {**opened.source.take(order[np.arange(size) % len(order)]), 'mask': np.ones(size, bool)}
    rows, key = opened.labelled.take(np.arange(n)), jax.random.key_data(jax.random.key(config.seed))
    how = opened.settings

    @jax.jit
    def scores(params, labels, fitted):
        def code(theta):
            tokens = parts.model.tokenize(params, 'image', rows['inputs']['image'])
            return parts.model.encode({**params, 'encoder': theta}, tokens, jnp.zeros(tokens.shape[:2])).mean(1)

        task = importance.Task(jnp.eye(3)[labels], fitted, ~fitted, code, None)
        state = State(jnp.int32(k), key, params, None)
        counts = fip.loss_counts(parts.modalities, parts.settings, batch, key, k)
        losses = fip.losses_by_encoder(parts.model, parts.modalities, parts.settings, state, batch, counts)
        g = importance.gradients(losses, params['encoder'])[1]
        loss = importance.held_out(code, params['encoder'], task, how.penalty, identity)
        target = jax.grad(loss)(params['encoder'])
        w = importance.weights(params['importance'], how)
        return {'cosine': importance.cosine(g, target), 'dot': importance.dot(g, target),
                'meta': importance.meta(g, w, params['encoder'], how.alpha, loss, identity)}

    halves = {f: importance.halves(key, k, rows['id'], y, np.ones(n, bool)) for f, y in fields.items()}
    return {f: scores(opened.params, y, np.asarray(halves[f])) for f, y in fields.items()}


def assert_draw(said, opened, k):
    labels = opened.labelled.labels
    shuffled = np.random.default_rng([opened.config.seed, k]).permutation(labels)
    for field, found in direct(opened, k, {'scores': labels, 'shuffled_scores': shuffled}).items():
        for method, wanted in found.items():
            np.testing.assert_allclose([said['estimators'][method][field][m][k] for m in ('image', 'sequence')], wanted,
                                       rtol=2e-3, atol=2e-5, err_msg=f'{method} {field}')


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """A run with estimated weights, asked; its workdir and what the command says."""
    folder = tmp_path_factory.mktemp('run')
    np.savez(folder / 'data.npz', **tiny.arrays(60))
    config = tiny.config(**{
        'data__path': str(folder / 'data.npz'), 'seed': 3, 'pretrain__fip__weights': 'estimated',
        'pretrain__fip__downstream__every': 2, 'pretrain__fip__downstream__labels_per_class': 4,
        'pretrain__fip__downstream__shuffled': True, 'finetune__steps': 2, 'finetune__eval_every': 2})
    experiment.run(config, folder / 'run', progress=False)
    return folder / 'run', report.write(run=str(folder / 'run'), draws=DRAWS, progress=False)


def test_a_run_is_asked_with_its_encoder_and_its_weights(run):
    said = json.loads((run[0] / 'importance' / 'importance.json').read_text())
    about = said['about']
    assert about['trained'] and (about['step'], about['seed'], about['draws'], about['labelled_examples']) == (
        8, 3, DRAWS, 12)
    assert set(about['seconds']) == set(said['estimators']) == {'cosine', 'dot', 'meta', 'ablation'}
    opened = importance_draws.open_run(str(run[0]), progress=False)
    weights = json.loads((run[0] / 'result.json').read_text())['metrics']
    np.testing.assert_allclose(importance.weights(opened.params['importance'], opened.settings),
                               [weights[f'pretrain/weight/{m}'] for m in ('image', 'sequence')], rtol=1e-6)
    assert np.ptp(opened.params['importance']['z']) > 0
    assert_draw(said, opened, 6)


def test_what_is_written_follows_from_the_scores(run):
    folder = run[0] / 'importance'
    said, text = json.loads((folder / 'importance.json').read_text()), (folder / 'importance.md').read_text()
    assert run[1].startswith(text)
    assert all(f'- file: {folder}/importance.{s}\n' in run[1] for s in ('md', 'json', 'png'))
    assert (folder / 'importance.png').read_bytes().startswith(b'\x89PNG')
    assert said['updates'] == 3 and said['suggested_by'] == 'cosine'  # of 8 steps: before steps 2, 4 and 6
    for method, estimator in said['estimators'].items():
        both = [np.transpose([estimator[f][m] for m in ('image', 'sequence')]) for f in ('scores', 'shuffled_scores')]
        assert both[0].shape == both[1].shape == (DRAWS, 2) and (both[0] != both[1]).all()
        assert [estimator['modalities'][m] for m in ('image', 'sequence')] == [
            s._asdict() for s in report.summarise(*both)]
        assert len(np.unique(both[0][:, 0])) == DRAWS
        assert f'| {method} | image | {estimator["modalities"]["image"]["mean"]:+.3g} |' in text
    assert 'it can only be +1, -1 or undefined' in text


def numbers(opened, gains):
    """What importance.json would have of scores without spread, `gains` [M] above those of shuffled labels."""
    scores = {m: np.stack([np.tile(gains, (DRAWS, 1)), np.zeros((DRAWS, 2))]) for m in importance.LABELLED}
    about = dict.fromkeys(('run', 'config_file', 'name', 'variant', 'seed', 'step', 'target', 'draws', 'batch_size',
                           'labelled_examples', 'labelled_from', 'unlabelled_examples', 'commit', 'device', 'date'))
    return {'about': {**about, 'overrides': [], 'classes': [], 'seconds': {}, 'trained': True},
            **report.results(opened, scores)}


def test_the_text_says_what_to_paste_or_that_nothing_is_called_for(alone):
    text = importance_pictures.text(numbers(alone[1], [0.5, 0.0]))
    assert '- dot: told apart from shuffled labels: image (higher).' in text and 'Our rule' in text
    weight = 1.8 / (1 + np.exp(-1.5)) + 0.1  # three estimates of 0.5 and of 0
    assert f'--config.pretrain.fip.loss_weight.image={weight:.3g} \\\n' in text and '| sequence | 0.428 |' in text
    assert text.count('--config.') == 6
    lower = importance_pictures.text(numbers(alone[1], [0.0, -0.5]))
    assert '- meta: told apart from shuffled labels: sequence (lower).' in lower
    text = importance_pictures.text(numbers(alone[1], [0.0, 0.0]))
    assert 'By cosine: no modality is told apart from shuffled labels. There is no evidence that weights other than ' \
           'equal ones are called for.' in text
    assert '--config' not in text and '| dot | - |' in text


def test_the_picture_fills_what_is_told_apart(alone):
    both, none = (importance_pictures.picture(numbers(alone[1], g)) for g in ([0.5, 0.1], [0.0, 0.0]))
    assert both['wide'] and base64.b64decode(both['png']).startswith(b'\x89PNG') and both['png'] != none['png']


def test_data_alone_asks_an_untrained_encoder_and_raw_values(alone, tmp_path):
    text = report.write(config=alone[0], overrides=[('pretrain.fip.downstream.labels_per_class', '5')], draws=DRAWS,
                        out=str(tmp_path), progress=False)
    assert 'data alone: nothing was trained' in text and 'labels: 15 examples of 3 classes' in text
    said = json.loads((tmp_path / 'importance.json').read_text())
    assert not said['about']['trained'] and said['about']['step'] == 0 and said['about']['run'] is None
    opened = importance_draws.open_config(alone[0], [('pretrain.fip.downstream.labels_per_class', '5')], None, False)
    statistics = opened.params['statistics']['image']['input']
    assert 0.5 < float(statistics['mean'][0]) < 1.5  # of the data: labels 0, 1, 2 and noise
    assert_draw(said, opened, 2)


# --- What is refused --------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('given, message', [
    ({}, 'neither of --run and --config given'),
    ({'run': 'a', 'config': 'b'}, 'both of --run and --config given'),
    ({'run': 'a', 'draws': 9}, '--draws=9; allowed: 10 or more'),
    ({'config': 'a.py'}, '--out=DIR is missing'),
    ({'run': 'nowhere'}, 'nowhere: no finished run there .no result.json.'),
    ({'config': 'nowhere.py', 'out': 'x'}, '--config=nowhere.py: no such file'),
])
def test_wrong_options(given, message):
    with pytest.raises(UserError, match=message):
        report.write(**given)


@pytest.mark.parametrize('changes, message', [
    ({'wing': 'mona'}, "here: wing is 'mona'; allowed: 'fip'"),
    ({'pretrain__algorithm': 'none'}, "here: pretrain.algorithm is 'none'; allowed: 'fip'"),
    ({'pretrain__modalities': ('image',)}, 'here: pretraining sees the modality image alone; allowed: two or more'),
])
def test_configs_that_pretrain_on_nothing_or_on_one_modality(changes, message):
    with pytest.raises(UserError, match=message):
        importance_draws.check(tiny.config(**changes), 'here')


def test_runs_that_cannot_be_asked(run, tmp_path):
    with pytest.raises(UserError, match='of a run only --config.pretrain.fip.downstream.KEY=VALUE can be given'):
        importance_draws.open_run(str(run[0]), [('pretrain.steps', '3')], progress=False)
    for name in ('result.json', 'metrics.jsonl', 'config.json'):
        (tmp_path / name).write_text((run[0] / name).read_text())
    with pytest.raises(UserError, match='checkpoints/pretrain: no checkpoint there'):
        importance_draws.open_run(str(tmp_path), progress=False)
    config = json.loads((run[0] / 'config.json').read_text())
    config['finetune']['encoder_from'] = 'other'
    (tmp_path / 'config.json').write_text(json.dumps(config))
    with pytest.raises(UserError, match="finetune.encoder_from is 'other'; allowed: a run that pretrained"):
        importance_draws.open_run(str(tmp_path), progress=False)


def test_scores_that_are_not_finite_are_named(alone, monkeypatch):
    monkeypatch.setattr(importance_draws, 'scorer', lambda opened, method: lambda *a: np.array([0.0, np.nan]))
    with pytest.raises(NonFinite, match='dot: the score of sequence is not finite in draw 0'):
        importance_draws.measure(alone[1], DRAWS, False, ('dot',))


def test_the_command_answers_wrong_input_in_a_line():
    done = subprocess.run([sys.executable, '-m', 'fipjax.analysis.importance', '--run=x', '--draws=2'],
                          capture_output=True, text=True, timeout=300)
    assert done.returncode == 2 and done.stderr == 'error: --draws=2; allowed: 10 or more\n' and not done.stdout
