"""Whole runs of the wing 'mona': what each method starts from and changes, what is read when, resuming, bad input."""
import json

import jax
import numpy as np
import pytest
import tiny_mona

from fipjax import checkpoint, compare, experiment, validation
from fipjax import config as config_lib
from fipjax.algorithms import transfer
from fipjax.analysis import runs
from fipjax.data import labelled
from fipjax.errors import Interrupted, UserError
from fipjax.experiments import shared
from fipjax.experiments import source as source_lib
from fipjax.experiments import transfer as transfer_experiment
from fipjax.workdir import claim

TIMING = ('seconds', 'steps_per_second')


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    """A folder with the arrays."""
    return tiny_mona.write(tmp_path_factory.mktemp('mona'))


@pytest.fixture(scope='module')
def finished(place):
    """method -> (workdir, result), all methods, sharing one source model."""
    out = {}
    for method in transfer.METHODS:
        config = tiny_mona.config(place, transfer__method=method)
        result = experiment.run(config, place / method, progress=False, shared=place / 'shared')
        out[method] = place / method, result
    return out


def parameters(folder, name):
    return checkpoint.read_params(folder / 'parameters' / name)


def equal(a, b):
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


@pytest.fixture(scope='module')
def source_params(finished, place):
    folders = list((place / 'shared').glob('source-????????????'))
    assert len(folders) == 1  # trained once for all
    return checkpoint.read_params(folders[0] / 'parameters')


@pytest.mark.parametrize('method', transfer.METHODS)
def test_where_stage_2_starts_and_what_it_changes(method, finished, source_params):
    folder, result = finished[method]
    first, last = (parameters(folder, f'stage_2_4/{step}') for step in (0, 6))
    fresh = parameters(finished['finetune'][0], 'stage_2_4/0')
    assert equal(first['encoder'], source_params['encoder']) == (method != 'scratch')
    assert equal(first['embedder'], fresh['embedder']) == (method not in transfer.STAGE_1)
    assert equal(first['predictor'], fresh['predictor'])  # always fresh, whatever stage 1 did to its own
    assert equal(last['encoder'], first['encoder']) == (method == 'frozen')
    assert not equal(last['embedder'], first['embedder']) and not equal(last['predictor'], first['predictor'])
    stages = {r['stage'] for r in runs.read_metrics(folder / 'metrics.jsonl')}
    assert stages == ({'stage_1_4', 'stage_2_4'} if method in transfer.STAGE_1 else {'stage_2_4'})
    assert ('stage_1/seconds@4' in result['metrics']) == (method in transfer.STAGE_1)


@pytest.mark.parametrize('method', transfer.METHODS)
def test_the_result_has_evidence_and_controls(method, finished):
    result = finished[method][1]
    m = result['metrics']
    assert 0 <= m['test/error@4'] <= 1 and 0 <= m['source/discrepancy@4'] <= 1
    assert result['headline'] == ['test/error@4', 'source/probe_error@4', 'source/discrepancy@4']
    assert set(result['references']) == {'majority', 'logistic regression', 'nearest neighbour'}
    assert np.sum(result['details']['test/error@4']['confusion']) == result['test_examples']
    probes = {o['step']: o['probe_error'] for o in result['observed']}
    assert sorted(probes) == [0, 3, 6] and m['source/probe_error@4'] == probes[6]
    if method != 'scratch':
        assert probes[0] == m['source/probe_error_before']
    if method == 'frozen':
        assert set(probes.values()) == {probes[0]}
    assert result['flops']['stage_2_4'] == 6 * result['flops']['stage_2_4_step'] > 0
    assert ('stage_1_4' in result['flops']) == (method in ('embedder', 'mona'))  # Sinkhorn is not countable


def test_meta_steps_cost_more_than_plain_ones(finished):
    plain, meta = (finished[m][1]['flops']['stage_1_4_step'] for m in ('embedder', 'mona'))
    assert 2 < meta / plain < 6


def test_micro_batches_give_the_same_run_and_are_counted_whole(finished, place):
    changes = {'source__micro_batch': 2, 'transfer__stage_1__micro_batch': 4, 'transfer__stage_2__micro_batch': 2}
    result = experiment.run(tiny_mona.config(place, transfer__method='embedder', **changes), place / 'micro',
                            progress=False)
    wanted = finished['embedder'][1]
    assert result['flops'] == wanted['flops']
    for k in ('validation/loss@4', 'source/discrepancy@4', 'selected_step@4', 'test/error@4'):
        assert result['metrics'][k] == pytest.approx(wanted['metrics'][k], rel=1e-4)


def test_every_way_to_train_at_once(place, tmp_path):
    how = {'layer_decay': 0.7, 'kind': 'adam'}
    changes = {f'{stage}__optimizer__{k}': v for k, v in how.items() for stage in ('source', 'transfer__stage_2')}
    changes |= {'compute': 'bfloat16', 'mona__micro_batch': 4, 'transfer__stage_2__micro_batch': 4}
    config = tiny_mona.config(place, **changes)
    metrics = experiment.run(config, tmp_path / 'run', progress=False)['metrics']
    assert 0 <= metrics['test/error@4'] <= 1
    for leaf in jax.tree.leaves(parameters(tmp_path / 'run', 'chosen_4')):
        assert leaf.dtype == np.float32


def test_micro_batches_on_several_devices_need_pmap(place):
    for key in ('source__micro_batch', 'transfer__stage_1__micro_batch', 'mona__micro_batch'):
        config = tiny_mona.config(place, **{key: 4})
        with pytest.raises(UserError, match=f"parallel.mode is 'jit'; allowed: 'pmap' with {key.replace('__', '.')}"):
            validation.validate(config, devices=2)
        config.parallel.mode = 'pmap'
        validation.validate(config, devices=2)


def test_one_seed_gives_the_same_run_again(finished, place):
    config = tiny_mona.config(place, transfer__method='mona')
    again = experiment.run(config, place / 'again', progress=False, shared=place / 'shared')
    wanted = finished['mona'][1]['metrics']
    assert {k: v for k, v in again['metrics'].items() if 'seconds' not in k} \
        == {k: v for k, v in wanted.items() if 'seconds' not in k}


@pytest.mark.parametrize('output, metric, method', [('multilabel', 'map', 'mona'), ('dense', 'relative_l2', 'orca')])
def test_targets_without_classes(output, metric, method, place):
    config = tiny_mona.config(place, output, transfer__method=method)
    result = experiment.run(config, place / f'{output}-{method}', progress=False, shared=place / 'shared')
    assert result['headline'][0] == f'test/{metric}@0' and np.isfinite(result['metrics'][f'test/{metric}@0'])
    assert set(result['references']) == {'constant', 'ridge', 'nearest neighbour'}


class Guarded:
    """A test split that may not be read while parameters are still to be chosen."""

    def __init__(self, source, chosen):
        self.task, self.classes, self._source, self._chosen, self.read = source.task, source.classes, source, chosen, 0

    def __len__(self):
        return len(self._source)

    def _open(self):
        assert all(p.exists() for p in self._chosen), 'the test split was read before the end'
        self.read += 1
        return self._source

    @property
    def y(self):
        return self._open().y

    def take(self, rows):
        return self._open().take(rows)


@pytest.mark.parametrize('method', ['frozen', 'orca', 'mona'])
def test_nothing_reads_the_test_split_before_the_end(method, place, tmp_path):
    config = tiny_mona.config(place, transfer__method=method, transfer__labels_per_class=(4, 0),
                              transfer__stage_2__learning_rates=(1e-3, 1e-2))
    splits = labelled.build(config.target)
    guarded = Guarded(splits.test, [tmp_path / 'run' / 'parameters' / f'chosen_{n}' for n in (4, 0)])
    with pytest.raises(AssertionError, match='before the end'):
        guarded.take(np.arange(1))
    result = experiment.run(config, tmp_path / 'run', progress=False, shared=place / 'shared',
                            splits=splits._replace(test=guarded))
    assert guarded.read > 0 and {'test/error@4', 'test/error@0'} <= set(result['metrics'])
    assert result['metrics']['selected_rate@4'] in (1e-3, 1e-2)
    best = [p.name for p in (tmp_path / 'run' / 'parameters').glob('stage_2_4*')]
    assert len(best) == 1  # what was tried and not chosen is not kept


def rows(folder):
    return [{k: v for k, v in r.items() if k not in TIMING} for r in runs.read_metrics(folder / 'metrics.jsonl')]


class StopAfter:
    """Says yes once, at the k-th time it is asked."""

    def __init__(self, k):
        self.left = k

    def __call__(self):
        self.left -= 1
        return self.left == 0


@pytest.mark.parametrize('method', ['embedder', 'orca', 'mona'])
def test_stopped_in_each_stage_and_gone_on_is_as_never_stopped(method, finished, place, tmp_path):
    config = tiny_mona.config(place, transfer__method=method)
    stops = 0
    while stops < 20:
        with claim(tmp_path / 'run', config) as path:
            try:
                result = transfer_experiment.Experiment(config, path, StopAfter(5), False, None,
                                                        tmp_path / 'shared').all()
                break
            except Interrupted:
                stops += 1
    assert 3 <= stops < 20  # in the source model, in stage 1, in stage 2
    wanted_folder, wanted = finished[method]
    assert rows(tmp_path / 'run') == rows(wanted_folder)
    assert {k: v for k, v in result['metrics'].items() if 'seconds' not in k} \
        == {k: v for k, v in wanted['metrics'].items() if 'seconds' not in k}


def test_a_source_model_of_ones_own_is_used_and_checked(finished, place, tmp_path):
    folder, = (place / 'shared').glob('source-????????????')
    config = tiny_mona.config(place, transfer__method='frozen', source__workdir=str(folder))
    result = experiment.run(config, tmp_path / 'run', progress=False)
    assert result['metrics']['test/error@4'] == finished['frozen'][1]['metrics']['test/error@4']
    assert not (tmp_path / 'run' / 'shared').exists()
    for changes, words in (({'encoder__depth': 1}, 'encoder.depth: 2 != 1'), ({'source__steps': 7}, 'source.steps: 6'),
                           ({'compute': 'bfloat16'}, "compute: 'float32' != 'bfloat16'")):
        config = tiny_mona.config(place, source__workdir=str(folder), **changes)
        with pytest.raises(UserError, match=f'source.workdir.*another source model.*{words}'):
            experiment.run(config, tmp_path / 'other', progress=False)
    config = tiny_mona.config(place, source__workdir=str(finished['mona'][0]))
    with pytest.raises(UserError, match="is a run of wing 'mona', not a source model"):
        experiment.run(config, tmp_path / 'third', progress=False)


def test_source_models_differ_by_what_makes_them(place):
    names = [source_lib.identity(tiny_mona.config(place, **changes)) for changes in (
        {}, {'source__model_seed': 1}, {'encoder__depth': 1}, {'source__steps': 7}, {'source__examples': 8},
        {'compute': 'bfloat16'}, {'source__optimizer__layer_decay': 0.5}, {'source__optimizer__kind': 'sgd'})]
    assert len(set(names)) == len(names)
    same = [{'seed': 3}, {'transfer__method': 'orca'}, {'encoder__layers': 'unroll'}, {'encoder__remat': False},
            {'source__micro_batch': 2}]
    assert {source_lib.identity(tiny_mona.config(place, **changes)) for changes in same} == {names[0]}
    # Names of models that were made when there were no such keys.
    settings, keys = source_lib.settings(tiny_mona.config(place)), ('encoder', 'source', 'embedder', 'seed', 'compute')
    for key in ('compute', 'source.optimizer.kind', 'source.optimizer.layer_decay'):
        group, _, leaf = key.rpartition('.')
        del (config_lib.get(settings, group) if group else settings)[leaf]
    assert shared.identity(settings, keys) == names[0]


def broken(place, tmp_path, **fields):
    given = {**tiny_mona.target(), **fields}
    np.savez(tmp_path / 'mine.npz', **given)
    return str(tmp_path / 'mine.npz')


X, Y = tiny_mona.target()['x'], tiny_mona.target()['y']
BAD = {
    'NaN': (dict(x=np.where(np.arange(len(X))[:, None, None] == 5, np.nan, X)), {}, 'x has NaN.*the first is 5'),
    'lengths': (dict(y=Y[:-1]), {}, 'y has 71 examples, x has 72'),
    'a class without training examples': (dict(split=np.where(Y == 2, 'test', np.where(
        np.arange(len(Y)) % 5 == 0, 'validation', 'train'))), {}, "no training example of class '2'"),
    'more target classes than source classes': (dict(y=np.arange(len(Y)) % 6), {}, 'the source has 4 classes and the '
                                                                                    'target 6'),
    'too few labels': ({}, {'transfer__labels_per_class': (40,)}, 'transfer.labels_per_class is 40'),
    'signals for Swin': ({}, {'encoder__family': 'swin', 'encoder__width': 0, 'encoder__depth': 0, 'encoder__heads': 0,
                              'encoder__image_size': 0, 'encoder__patch': 0}, 'encoder.family.*Swin.*x is 1d'),
    'width and heads': ({}, {'encoder__heads': 3}, 'encoder.width is 8; it must be divisible by encoder.heads, 3'),
    'a path that nobody reads': ({}, {'source__data': 'wheel', 'source__name': 'mnist_5k', 'source__path': 'mine.npz'},
                                 "source.path is 'mine.npz'; allowed: empty where source.data is 'wheel'"),
    'source batch': ({}, {'mona__source_batch': 1000}, 'mona.source_batch is 1000'),
    'method': ({}, {'transfer__method': 'lora'}, "transfer.method is 'lora'; allowed: scratch or finetune"),
    'micro batch': ({}, {'mona__micro_batch': 3}, 'mona.micro_batch is 3; allowed: a divisor of'),
    'micro batch of a stage': ({}, {'transfer__stage_2__micro_batch': 3}, 'transfer.stage_2.micro_batch is 3; allowed: '
                               'a divisor of transfer.stage_2.batch_size on one device, 8'),
    'micro batch of the source': ({}, {'source__micro_batch': -1}, 'source.micro_batch is -1; allowed: 0 or more'),
    'micro batch of reverse': ({}, {'mona__micro_batch': 4, 'mona__meta_gradient': 'reverse'}, "0 unless mona.meta"),
    'compute': ({}, {'compute': 'float16'}, "compute is 'float16'; allowed: float32 or bfloat16"),
    'differences in bfloat16': ({}, {'compute': 'bfloat16', 'mona__meta_gradient': 'finite_difference'},
                                "meta_gradient is 'finite_difference'; allowed: another one with compute='bfloat16'"),
    'observed': ({}, {'transfer__observed': (0.5, 0.1)}, 'transfer.observed .* rising numbers'),
    'optimiser': ({}, {'source__optimizer__kind': 'lion'}, "source.optimizer.kind is 'lion'; allowed: adamw or adam"),
    'layer decay': ({}, {'transfer__stage_2__optimizer__layer_decay': 0.0},
                    r'stage_2.optimizer.layer_decay is 0.0; allowed: in \(0, 1\]'),
    'rates': ({}, {'transfer__stage_2__learning_rates': (1e-3, -1.0)}, 'learning_rates is -1.0'),
}


@pytest.mark.parametrize('case', BAD)
def test_bad_input_is_named_before_anything_is_trained(case, place, tmp_path):
    fields, changes, words = BAD[case]
    config = tiny_mona.config(place, target__path=broken(place, tmp_path, **fields), **changes)
    with pytest.raises(UserError, match=words):
        experiment.run(config, tmp_path / 'run', progress=False)
    assert not (tmp_path / 'run' / 'shared').exists()


def test_what_was_read_off_is_printed(place, tmp_path, capsys):
    y = np.array(['no', 'rest', 'yes'])[Y]
    config = tiny_mona.config(place, target__path=broken(place, tmp_path, y=y), transfer__method='frozen')
    experiment.run(config, tmp_path / 'run', progress=True, shared=place / 'shared')
    said = capsys.readouterr().out.split('target: ')[1]
    assert '1d, 2 channels of 24 samples' in said and 'yes -> 2: 3 classes' in said and 'by class' in said


def test_a_pickle_is_refused_with_the_way_to_convert_it(place, tmp_path):
    path = tmp_path / 'data.pkl'
    path.write_bytes(b'\x80\x04.')
    with pytest.raises(UserError, match='pickle.*np.savez'):
        experiment.run(tiny_mona.config(place, target__path=str(path)), tmp_path / 'run', progress=False)


def test_a_comparison_shares_the_source_model_and_goes_on(place, tmp_path, monkeypatch):
    file = tmp_path / 'config.py'
    file.write_text(f"""import pathlib
import sys

sys.path.insert(0, {str(tiny_mona.__file__.rsplit('/', 1)[0])!r})
import tiny_mona


def get_config(variant=''):
    return tiny_mona.config(pathlib.Path({str(place)!r}))
""")
    how = (str(file), None, [], tmp_path / 'all', ['transfer.method=frozen,finetune'], ['0'])
    assert compare.run(*how, baseline='finetune') == 0
    assert len(list((tmp_path / 'all' / 'shared').glob('source-????????????'))) == 1
    table = (tmp_path / 'all' / 'table.md').read_text()
    assert 'frozen' in table and 'logistic regression' in table
    called = []
    monkeypatch.setattr(transfer_experiment.Experiment, 'stages', lambda self: called.append(1))
    assert compare.run(*how, baseline='finetune') == 0 and not called
    plan = json.loads((tmp_path / 'all' / 'comparison.json').read_text())
    assert plan['labels'] == ['frozen', 'finetune']
