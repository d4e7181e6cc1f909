"""What imports what: no TensorFlow, light models and algorithms, algorithms that know neither Flax nor devices."""
import ast
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tiny

ROOT = pathlib.Path(__file__).parents[1]
ALGORITHMS = sorted((ROOT / 'fipjax' / 'algorithms').glob('*.py'))
SOURCES = [p for folder in ('fipjax', 'configs', 'benchmarks', 'tests', 'notebooks')
           for p in sorted((ROOT / folder).rglob('*.py')) if p != pathlib.Path(__file__)]


def loaded(code, *names):
    """Which of the modules `names` a fresh process has loaded after running `code`."""
    code = f'{code}\nimport sys\nprint([n for n in {names!r} if n in sys.modules])'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return ast.literal_eval(done.stdout.strip().splitlines()[-1])


def test_the_probe_sees_what_is_loaded():
    assert loaded('import json', 'json', 'tensorflow') == ['json']


def test_running_never_loads_tensorflow(tmp_path):
    """Not even where it is installed: a stand-in that can be imported would be seen."""
    stand_in = tmp_path / 'site' / 'tensorflow'
    stand_in.mkdir(parents=True)
    (stand_in / '__init__.py').write_text('')
    np.savez(tmp_path / 'data.npz', **tiny.arrays(60))
    code = f"""
import sys
sys.path.insert(0, {str(tmp_path / 'site')!r})
import importlib.util
assert importlib.util.find_spec('tensorflow') is not None
from absl import flags
import fipjax.main, fipjax.experiment, fipjax.compare
flags.FLAGS.mark_as_parsed()
from fipjax.checkpoint import Checkpoints
from fipjax.data import pipeline, sources
sys.path.insert(0, {str(ROOT / 'tests')!r})
import tiny
splits = sources.build(tiny.config(data__path={str(tmp_path / 'data.npz')!r}).data, progress=False)
batches = pipeline.training(splits.train, 4, 0)
assert next(batches)['mask'].all() and len(list(pipeline.evaluation(splits.test, 5))) > 1
checkpoints = Checkpoints({str(tmp_path / 'c')!r})
import jax.numpy as jnp
checkpoints.save(1, {{'w': jnp.ones(2)}}, batches)
checkpoints.close()
"""
    assert loaded(code, 'tensorflow', 'torch', 'grain', 'orbax.checkpoint') == ['grain', 'orbax.checkpoint']


def test_tfds_reads_without_tensorflow():
    assert loaded('import tensorflow_datasets as tfds\ntfds.core.DatasetInfo', 'tensorflow') == []


def test_models_and_algorithms_are_light():
    code = ('import fipjax.models.multimodal, fipjax.models.embedders, fipjax.models.predictors\n'
            'from fipjax.algorithms import finetune, fip, mona, orca, transfer')
    heavy = ('grain', 'tensorflow_datasets', 'sklearn', 'orbax', 'tensorflow', 'matplotlib', 'ott', 'ml_collections',
             'h5py')
    assert loaded(code, *heavy) == []


def test_a_wrong_command_line_is_answered_before_jax_is_loaded():
    assert loaded('import fipjax.main', 'jax', 'grain', 'tensorflow_datasets', 'sklearn', 'matplotlib') == []


def imported(path):
    """Modules that a file imports anywhere, with the names taken from them."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f'{node.module}.{a.name}' for a in node.names)


LATE = ('ott', 'sklearn')  # heavy: only inside the functions that need them


@pytest.mark.parametrize('path', ALGORITHMS, ids=lambda p: p.name)
def test_algorithms_do_not_import_flax_data_or_devices(path):
    allowed = ('__future__', 'collections', 'functools', 'typing', 'dataclasses', 'math', 'jax', 'numpy', 'optax',
               'fipjax')
    outside = [n for n in ast.parse(path.read_text()).body if isinstance(n, ast.Import | ast.ImportFrom)]
    assert not [n for n in outside if ast.unparse(n).split()[1].split('.')[0] in LATE]
    for name in imported(path):
        top, *rest = name.split('.')
        assert top in (*allowed, *LATE), f'{path.name} imports {name}'
        assert not (top == 'fipjax' and rest and rest[0] in ('parallel', 'data', 'train', 'checkpoint', 'experiment'))
        assert not (top == 'jax' and rest and rest[0] in ('sharding', 'experimental', 'distributed'))


DEVICES = ('devices', 'local_devices', 'device_count', 'local_device_count', 'process_index', 'process_count', 'pmap',
           'shard_map', 'device_put', 'pmean', 'axis_index', 'all_gather', 'NamedSharding', 'Mesh', 'PartitionSpec',
           'with_sharding_constraint')


@pytest.mark.parametrize('path', ALGORITHMS + sorted((ROOT / 'fipjax' / 'models').glob('*.py')), ids=lambda p: p.name)
def test_algorithms_and_models_name_no_device(path):
    """`psum` is an argument of their steps, never jax.lax.psum."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            assert node.attr not in DEVICES and node.attr != 'psum', f'{path.name}:{node.lineno} {node.attr}'
        if isinstance(node, ast.Name):
            assert node.id not in DEVICES, f'{path.name}:{node.lineno} {node.id}'


@pytest.mark.parametrize('path', [p for p in SOURCES if p.parts[-2] != 'tests' and 'fipjax' in p.parts],
                         ids=lambda p: str(p.relative_to(ROOT)))
def test_only_parallel_maps_over_devices(path):
    if path.name == 'parallel.py':
        return
    used = {n.attr for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Attribute)}
    assert not used & {'pmap', 'shard_map', 'NamedSharding', 'Mesh', 'make_array_from_process_local_data'}


REMOVED = ('jax.tree_map', 'jax.tree_multimap', 'jax.experimental.shard_map', 'jax.experimental.maps',
           'jax.experimental.pjit', 'jax.experimental.host_callback', 'jax.core.', 'jax.random.KeyArray',
           'jax.abstract_arrays', 'jax.device_put_replicated', 'jax.device_put_sharded', 'jax.linear_util',
           'jax.xla_computation', 'flax.training.checkpoints', 'flax.optim', 'flax.deprecated',
           'orbax.checkpoint.PyTreeCheckpointer',
           'tf.data', 'import tensorflow as')


@pytest.mark.parametrize('path', SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_removed_interfaces(path):
    text = path.read_text()
    assert [name for name in REMOVED if name in text] == []


def test_the_checks_would_find_an_offender(tmp_path):
    bad = tmp_path / 'bad.py'
    bad.write_text('import flax.linen as nn\nfrom jax import sharding\ndef f(x):\n  return jax.lax.psum(x, "batch")\n')
    for check in (test_algorithms_do_not_import_flax_data_or_devices, test_algorithms_and_models_name_no_device):
        with pytest.raises(AssertionError):
            check(bad)
    bad.write_text('jax.tree_map(f, x)\n')
    with pytest.raises(AssertionError):
        test_no_removed_interfaces(bad)
