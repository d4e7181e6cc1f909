"""Four CPU devices and float64: settings of a whole process, so these tests run as `pytest tests/multidevice`."""
import os
import pathlib

HERE = pathlib.Path(__file__).parent
COUNT = 4

os.environ['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} --xla_force_host_platform_device_count={COUNT}'

import jax  # noqa: E402
import pytest  # noqa: E402

ALONE = 'they need a process of their own: run `pytest tests/multidevice`, with no other tests'


def pytest_collection_modifyitems(items):
    """Refuses to run in a process that other tests share, or where JAX started before this file was read."""
    others = [item for item in items if HERE not in pathlib.Path(item.path).parents]
    if others and len(others) < len(items):
        raise pytest.UsageError(f'tests/multidevice cannot run together with {others[0].nodeid}: {ALONE}')
    if jax.device_count() != COUNT:
        found = jax.device_count()
        raise pytest.UsageError(f'tests/multidevice need {COUNT} devices, JAX started with {found}: {ALONE}')
    jax.config.update('jax_enable_x64', True)
