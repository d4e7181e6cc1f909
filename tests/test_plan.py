"""Plans: the numbers are those of the runs, data are not needed, the advice holds, nothing is run or written."""
import functools
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
import tiny
import tiny_mona
import tiny_vlp

from fipjax import config as config_lib
from fipjax import experiment, parallel, plan, train, workdir
from fipjax.algorithms import transfer
from fipjax.analysis import runs
from fipjax.data import expected
from fipjax.errors import UserError
from fipjax.experiments import base

ROOT = pathlib.Path(__file__).parents[1]
EXPECTED = {'classes': {'shape': (24, 2), 'classes': 3}, 'multilabel': {'shape': (24, 2), 'classes': 3},
            'dense': {'shape': (8, 8, 1), 'target_shape': (8, 8, 1)}}


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    """A folder with the arrays of all wings."""
    folder = tiny_mona.write(tmp_path_factory.mktemp('plan'))
    np.savez(folder / 'fip.npz', **tiny.arrays())
    return folder


def signature(stage):
    """Shapes and types of the first training batch of a stage."""
    return parallel.shapes(train.first_batch(stage))


@pytest.fixture
def seen(monkeypatch):
    """stage name -> (signature, size of the parameters it leaves), of whatever is run in the test."""
    found, fit = {}, base.Experiment.fit

    def watched(self, stage, *rest):
        fitted = fit(self, stage, *rest)
        found[stage.name] = signature(stage), base.size(fitted.params)
        return fitted
    monkeypatch.setattr(base.Experiment, 'fit', watched)
    return found


def state(algorithm):
    return jax.eval_shape(algorithm.init, jax.random.key(0))


def agree(stages, flops, seen):
    """Stages of a plan have the FLOPs, parameters and batches of a run."""
    for planned in stages:
        stage, counted = planned.stage, planned.counted
        shapes = signature(stage)
        assert (shapes, base.size(state(stage.algorithm).params)) == seen[stage.name]
        found = counted and parallel.flops(counted.step, state(counted), shapes)
        assert found == flops.get(f'{stage.name}_step')


def unread(config, side, output, examples=0):
    """Takes the data of a side of a config of wing 'mona' away and says what they are."""
    config[side].path = 'nowhere.npz'
    config[side].expected.update({**EXPECTED[output], 'examples': examples} if side == 'target' else
                                 {'shape': (8, 8, 1), 'classes': 4, 'examples': examples})
    if side == 'target' and output == 'multilabel':
        config.target.output = output


@pytest.mark.parametrize('method, output', [('mona', 'classes'), ('orca', 'dense'), ('frozen', 'multilabel'),
                                            ('embedder', 'classes'), ('scratch', 'dense')])
def test_plans_of_transfer_are_what_runs_say_and_need_no_data(method, output, place, tmp_path, seen):
    config = tiny_mona.config(place, output, transfer__method=method)
    result = experiment.run(config, tmp_path / 'run', progress=False)
    source, = (tmp_path / 'run' / 'shared').glob('source-*')
    flops = {**result['flops'], **runs.load_json(source / 'result.json')['flops']}
    agree(plan.stages(config), flops, seen)
    for side in ('source', 'target'):
        unread(config, side, output)
    stages = plan.stages(config)
    agree(stages, flops, seen)
    n = config.transfer.labels_per_class[0]
    assert {s.stage.name: s.known for s in stages} == {
        'source': False, **({f'stage_1_{n}': n > 0} if method in transfer.STAGE_1 else {}), f'stage_2_{n}': n > 0}
    if method not in ('frozen', 'orca'):
        return
    costs = plan.costs(config)
    assert [c.flops for c in costs] == [flops.get(f'{c.planned.stage.name}_step') for c in costs]
    assert costs[-1].parameters == result['parameters']
    trained = {'frozen': ('embedder', 'predictor')}.get(method, transfer.PARTS)
    assert costs[-1].trained == sum(result['parameters'][k] for k in trained)
    assert 'not counted' in plan.report(config, costs) or method == 'frozen'


@pytest.mark.parametrize('weights', ['prior', 'estimated'])
def test_plans_of_fip(weights, place, tmp_path, seen):
    config = tiny.config(data__path=str(place / 'fip.npz'), pretrain__fip__weights=weights,
                         pretrain__fip__downstream__labels_per_class=2, pretrain__fip__downstream__every=2)
    result = experiment.run(config, tmp_path / 'run', progress=False)
    stages = plan.stages(config)
    agree(stages, result['flops'], seen)
    assert [s.stage.name for s in stages] == ['pretrain', 'finetune_2']
    if weights == 'estimated':
        assert f'costs {result["flops"]["estimates_step"]:.4g} FLOPs' in stages[0].notes[0]
    config.data.path = 'nowhere.npz'
    with pytest.raises(UserError, match='nowhere.npz'):
        plan.stages(config)
    config.data.expected.update({'classes': tiny.CLASSES, 'examples': 12})
    agree(plan.stages(config), result['flops'], seen)


def test_plans_of_generated_signals_render_none(monkeypatch):
    from fipjax.data import constellation
    config = config_lib.load(str(ROOT / 'configs' / 'fip' / 'quick.py'), None, [('pretrain.steps', '10')])
    rendered = constellation.raw_views
    monkeypatch.setattr(constellation, 'raw_views', None)
    stages = plan.stages(config)
    monkeypatch.setattr(constellation, 'raw_views', rendered)
    config.data.update({f'{k}_examples': 600 for k in ('pretrain', 'train', 'validation', 'test')})
    from fipjax.data import sources
    splits = sources.build(config.data, False)
    assert len(stages[0].stage.train) == 4000 and len(stages[1].stage.train) == 500
    for planned, split in zip(stages, (splits.pretrain, splits.train), strict=True):
        given = signature(planned.stage)
        other = signature(planned.stage._replace(train=split))
        assert {k: v for k, v in given.items() if k not in ('inputs', 'targets', 'present')} == \
            {k: v for k, v in other.items() if k not in ('inputs', 'targets', 'present')}
        for group in ('inputs', 'targets', 'present'):  # fine-tuning sees the target alone
            assert {m: other[group][m] for m in given[group]} == given[group]


@pytest.mark.parametrize('changes', [{'pretrain__objective': 'mmm'}, {'finetune__mode': 'frozen', 'model': 'vilbert'},
                                     {'pretrain__data': 'none', 'text__start': 'texts'}])
def test_plans_of_vision_and_language(changes, tmp_path, seen):
    config = tiny_vlp.config(**changes, finetune__fractions=(1.0, 0.5), finetune__learning_rates=(1e-3, 2e-3))
    if config.model == 'vilbert':
        config.network.update(tiny_vlp.SIZES['vilbert'])
    result = experiment.run(config, tmp_path / 'run', progress=False)
    flops = {k.replace('_rate0', ''): v for k, v in result['flops'].items()}
    model, = (tmp_path / 'run' / 'shared').glob('pretrained-*')
    first = 'texts' if config.text.start else 'pretrain'
    flops[f'{first}_step'] = runs.load_json(model / 'result.json')['flops']['pretrain_step']
    seen[first] = seen['pretrain']
    stages = plan.stages(config)
    agree(stages, flops, {k.replace('_rate0', ''): v for k, v in seen.items()})
    assert [(s.stage.name, s.times) for s in stages] == [
        (first, 1), ('vqa@100%', 2), ('vqa@50%', 2), ('entailment@100%', 2),
        ('entailment@50%', 2)]


def test_plans_of_ones_own_pictures_go_by_what_is_expected(tmp_path, seen):
    from fipjax.data import vl_files, vl_sets
    config = tiny_vlp.config(pretrain__objective='mmm', finetune__tasks=('entailment',))
    for kind in ('pretraining', 'task'):
        made = (vl_sets.build_pretraining('coco', config) if kind == 'pretraining'
                else vl_sets.build_task('entailment', config))
        vl_files.write(tmp_path / kind, made)
    config.regions.maximum = 20
    config.pretrain.data, config.finetune.tasks = str(tmp_path / 'pretraining'), (str(tmp_path / 'task'),)
    shape = made.regions.features.shape
    config.expected.update({'features': shape[-1], 'regions': shape[1], 'detector_classes': 65, 'output': 'classes',
                            'answers': 3, 'examples': 24, 'pretrain_examples': 55})
    experiment.run(config, tmp_path / 'run', progress=False)  # the data are as expected
    read = {k: (signature(s.stage), len(s.stage.train)) for k, s in
            {s.stage.name: s for s in plan.stages(config)}.items()}
    assert {k: v[0] for k, v in read.items()} == {k: v[0] for k, v in seen.items()}
    for key, wrong in {'features': 7, 'regions': 3, 'detector_classes': 9, 'output': 'labels', 'answers': 5,
                       'examples': 25, 'pretrain_examples': 53}.items():
        other = config.copy_and_resolve_references()
        other.expected[key] = wrong
        with pytest.raises(UserError, match=f'expected.{key} is {wrong!r}, but the data have'):
            experiment.run(other, tmp_path / 'other', progress=False)
    config.expected.features = 0
    assert {s.stage.name: (signature(s.stage), len(s.stage.train)) for s in plan.stages(config)} == read


def test_plans_of_captioners(tmp_path, seen):
    config = config_lib.caption_base()
    config.network.width, config.network.depth, config.network.heads = 16, 2, 2
    config.sets.coco, config.sets.cc = 120, 24
    config.caption.steps, config.caption.eval_every, config.caption.batch_size = 2, 2, 8
    result = experiment.run(config, tmp_path / 'run', progress=False)
    agree(plan.stages(config), result['flops'], seen)
    cost, = plan.costs(config)
    assert cost.flops == result['flops']['captioner_step']
    assert sum(cost.parameters.values()) == cost.trained == result['parameters']['captioner']


# --- Memory -----------------------------------------------------------------------------------------------------------

def direct(cost, rows):
    """Memory of a step for so many rows, compiled as a run compiles it."""
    stage = cost.planned.stage
    batch = plan.scaled(signature(stage), rows, stage.batch_size)
    step = jax.jit(functools.partial(stage.algorithm.step, psum=parallel.identity), donate_argnums=0)
    m = step.lower(state(stage.algorithm), batch).compile().memory_analysis()
    return m.argument_size_in_bytes + m.output_size_in_bytes + m.temp_size_in_bytes - m.alias_size_in_bytes


def large(place, **changes):
    """A config of wing 'mona' without its data, batches of 64."""
    config = tiny_mona.config(place, **changes)
    for side in ('source', 'target'):
        unread(config, side, 'classes', 100)
    for group in (config.source, config.transfer.stage_1, config.transfer.stage_2):
        group.batch_size = 64
    config.mona.source_batch = 64
    return config


@pytest.fixture(scope='module')
def costs(place):
    return plan.costs(large(place, transfer__method='mona'))


def test_memory_of_a_share_is_that_of_its_compiled_step(costs):
    for cost in costs:
        assert cost.memory[256] is None
        assert {n: m.compiled for n, m in cost.memory.items() if m} == {1: True, 8: False, 64: True}
        assert cost.state < cost.memory[64].bytes
    for cost, n in zip(costs, (1, 64, 1)):
        # The options that a plan is compiled with move small arrays about.
        assert cost.memory[n].bytes == pytest.approx(direct(cost, 64 // n), rel=1e-3)


def test_memory_grows_with_the_batch_nearly_along_a_line(costs):
    for cost, rows in zip(costs, (32, 8, 32)):
        low, high = cost.memory[64].bytes, cost.memory[1].bytes
        along = low + (high - low) * (rows - 1) / 63
        assert 0.85 * along < direct(cost, rows) < 1.05 * along
        assert cost.memory[8].bytes == pytest.approx(low + (high - low) * 7 / 63, rel=1e-9)


def test_what_does_not_fit_is_said_with_what_does(place, costs):
    config = large(place, transfer__method='mona', encoder__remat=False)
    whole = max(c.memory[1].bytes for c in costs)
    config.device_memory = whole / 3 / plan.GIB
    found = plan.costs(config)
    text = plan.report(config, found)
    too_large = [c for c in found if c.fits is not None]
    assert any(c.planned.stage.name == 'stage_1_4' for c in too_large)
    for cost in too_large:
        limit = config.device_memory * plan.GIB
        assert cost.fits > 0 and direct(cost, cost.fits) <= limit < direct(cost, 2 * cost.fits)
        first = cost.planned.keys[0]
        assert f'{cost.planned.stage.name} does not fit: with {first}=64' in text
        assert f'It fits with {first}={cost.fits}' in text
    assert f'transfer.stage_1.batch_size={found[1].fits}, mona.source_batch={found[1].fits}.' in text
    assert 'mona.micro_batch' in text and 'encoder.remat=True' in text and 'Every stage fits' not in text
    config.device_memory = 1e-6
    none = plan.costs(config)
    assert all(c.fits == 0 for c in none) and 'No smaller batch fits' in plan.report(config, none)


def test_batches_that_devices_cannot_share_are_said(place):
    config = large(place, transfer__method='embedder')
    config.transfer.stage_2.batch_size = 12
    found = plan.costs(config)
    assert [n for n, m in found[2].memory.items() if m] == [1]
    text = plan.report(config, found)
    assert 'transfer.stage_2.batch_size=12 cannot be shared by 8 or 64 or 256 devices' in text
    assert 'stage_1_4: transfer.stage_1.batch_size=64 cannot be shared by 256 devices' in text
    assert 'Every stage fits in device_memory=80 GiB' in text


def test_micro_batches_are_compiled_as_they_are(place):
    config = large(place, transfer__method='mona', mona__micro_batch=8, encoder__remat=False)
    found = plan.costs(config)[1]
    assert [n for n, m in found.memory.items() if m] == [1, 8]  # 64 devices would have a row each, not 8
    assert found.memory[1].bytes < plan.costs(large(place, encoder__remat=False))[1].memory[1].bytes


# --- What is expected of data -----------------------------------------------------------------------------------------

@pytest.mark.parametrize('output, key, wrong', [
    ('classes', 'shape', (25, 2)), ('classes', 'classes', 4), ('classes', 'examples', 7), ('dense', 'classes', 2),
    ('dense', 'target_shape', (8, 8)), ('classes', 'target_shape', (3,)), ('multilabel', 'classes', 2)])
def test_data_that_differ_from_what_is_expected_are_refused(output, key, wrong, place):
    from fipjax.data import labelled
    settings = tiny_mona.config(place, output).target
    settings.expected.update(EXPECTED[output])
    labelled.build(settings)
    settings.expected[key] = wrong
    with pytest.raises(UserError, match=rf'target.expected.{key} is .*{wrong if isinstance(wrong, int) else wrong[0]}'
                                        '.*, but the data have'):
        labelled.build(settings)


def test_sequences_of_different_length_are_expected(place, tmp_path):
    from fipjax.data import labelled
    fields = tiny_mona.target()
    np.savez(tmp_path / 'x.npz', **fields, length=np.arange(len(fields['x'])) % 20 + 5)
    config = tiny_mona.config(place)
    config.target.path = str(tmp_path / 'x.npz')
    config.target.expected.update({'shape': (24, 2), 'classes': 3})
    with pytest.raises(UserError, match='target.expected.lengths is False, but sequences differ in length'):
        labelled.build(config.target)
    config.target.expected.lengths = True
    labelled.build(config.target)
    blank = [signature(s.stage) for s in plan.stages(config)]
    config.target.expected.update({'shape': (), 'lengths': False})
    assert [signature(s.stage) for s in plan.stages(config)] == blank


def test_fip_data_are_checked(place, tmp_path):
    for key, wrong in (('classes', 4), ('examples', 11)):
        config = tiny.config(data__path=str(place / 'fip.npz'))
        config.data.expected[key] = wrong
        with pytest.raises(UserError, match=f'data.expected.{key} is {wrong}, but the data have'):
            experiment.run(config, tmp_path / key, progress=False)


@pytest.mark.parametrize('changes, words', [
    ({'classes': 0}, 'target.expected.classes is 0'), ({'shape': (3,)}, 'target.expected.vocab is 0'),
    ({'shape': (2, 3, 4, 5)}, r'target.expected.shape is \(2, 3, 4, 5\)'),
    ({'shape': (-1, 2)}, 'target.expected.shape is'), ({'classes': -1}, 'target.expected.classes is -1')])
def test_expectations_that_say_too_little(changes, words, place):
    config = tiny_mona.config(place)
    config.target.expected.update({**EXPECTED['classes'], **changes})
    with pytest.raises(UserError, match=words):
        plan.costs(config)


def test_check_names_key_and_both_values():
    expected.check('a.expected', {'n': 3, 'm': 0}, {'n': 3, 'm': 5})
    with pytest.raises(UserError, match=r'^a.expected.n is 3, but the data have 4$'):
        expected.check('a.expected', {'n': 3}, {'n': 4})


# --- The command ------------------------------------------------------------------------------------------------------

def test_the_command_prints_a_plan_and_writes_nothing(place, tmp_path):
    path = tiny.config_file(tmp_path / 'config.py', data__path=str(place / 'fip.npz'))
    before = sorted(p.name for p in tmp_path.iterdir())
    done = subprocess.run([sys.executable, '-m', 'fipjax.main', f'--config={path}', '--config.plan=True',
                           '--config.device_memory=0.5'], capture_output=True, text=True, cwd=tmp_path,
                          env={**os.environ, 'PYTHONPATH': str(ROOT), 'PYTHONDONTWRITEBYTECODE': '1'})
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith('# Plan: tiny\n') and '| pretrain | 8 | 6 |' in done.stdout
    assert 'backend cpu' in done.stdout and 'device_memory=0.5 GiB' in done.stdout
    assert 'plan: pretrain: compiling' in done.stderr and 'Traceback' not in done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_plan_keys_do_not_make_another_run_and_a_plan_has_no_folder(tmp_path):
    with workdir.claim(tmp_path, tiny.config()):
        (tmp_path / 'metrics.jsonl').write_text('{}\n')
    other = tiny.config(device_memory=16.0)
    other.data.expected.classes = 3
    workdir.check_config(tmp_path, other)
    with pytest.raises(UserError, match='a plan runs nothing'):
        workdir.check_config(tmp_path / 'new', tiny.config(plan=True))


def test_options_that_this_xla_does_not_know_are_left_out(monkeypatch):
    monkeypatch.setattr(parallel, 'QUICK', {'xla_backend_optimization_level': 0, 'no_such_option': True})
    parallel.quick.cache_clear()
    try:
        assert parallel.quick() == {'xla_backend_optimization_level': 0}
    finally:
        parallel.quick.cache_clear()
