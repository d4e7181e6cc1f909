"""For all tests: where compiled programs are kept, flags, and that tests/multidevice runs alone."""
import importlib.metadata
import os
import pathlib

HERE = pathlib.Path(__file__).parent
CACHE = pathlib.Path.home() / '.cache' / 'fipjax' / 'tests'

# Before JAX is imported, and through the environment, so that the processes which tests start have them too.
os.environ.setdefault('NPROC', '16')  # threads of fake CPU devices: with fewer, queued all-reduces can block for ever
os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', str(CACHE))
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0')
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES', '-1')
# Tiny programs: compiling them takes seconds and running them does not, so XLA need not optimise (half the time).
# Without fusion emitters MoNA's meta-gradients took half of that once more. Only jaxlib 0.10 is known to have the flag,
# and one that is unknown ends the process, so the tests of later versions are with them.
QUICK = ['--xla_backend_optimization_level=0']
if importlib.metadata.version('jaxlib').startswith('0.10.'):
    QUICK += ['--xla_cpu_use_fusion_emitters=false']
given = os.environ.get('XLA_FLAGS', '')
os.environ['XLA_FLAGS'] = ' '.join([*(f for f in QUICK if f.split('=')[0] not in given), given])

import jax  # noqa: E402
import pytest  # noqa: E402
from absl import flags  # noqa: E402

flags.FLAGS.mark_as_parsed()  # grain and Orbax read absl flags, which nobody parses under pytest


def pytest_ignore_collect(collection_path, config):
    """tests/multidevice needs four devices and float64, so only `pytest tests/multidevice` collects it."""
    if collection_path == HERE / 'multidevice':
        return not any('multidevice' in str(argument) for argument in config.args) or None
    return None


@pytest.fixture
def float64():
    """Float64 for one test. Not for all: a run computes in float32."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(autouse=True, scope='module')
def let_programs_go():
    """Compiled programs of one file are dropped after it: each takes memory maps, and Linux gives a process 65,530."""
    yield
    jax.clear_caches()
