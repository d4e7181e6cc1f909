"""Configs of published studies: one config for all tasks of a folder. What the single ones hold: test_validation.py."""
import pathlib

import pytest

from fipjax import config as config_lib
from fipjax.errors import UserError

CONFIGS = pathlib.Path(__file__).parents[1] / 'configs' / 'mona'


@pytest.mark.parametrize('family, count', [('nas_bench_360', 10), ('pdebench', 8)])
def test_every_task_is_a_variant_of_one_config(family, count):
    tasks = [path.stem for path in (CONFIGS / family).glob('*.py') if path.stem != 'every']
    assert len(tasks) == count
    for task in tasks:
        own = config_lib.load(str(CONFIGS / family / f'{task}.py'), complete=False)
        same = config_lib.load(f'{CONFIGS / family / "every.py"}:{task}', complete=False)
        assert same.variant == task and config_lib.differences(own.to_dict(), same.to_dict()) == [
            f'variant: {own.variant!r} != {task!r}']


def test_other_variants_are_refused():
    for variant in ('mnist', 'every', '../quick'):
        with pytest.raises(UserError, match='variant .* is unknown; allowed: advection, burgers, darcy'):
            config_lib.load(f'{CONFIGS / "pdebench" / "every.py"}:{variant}', complete=False)
