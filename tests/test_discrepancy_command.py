"""The command line of fipjax.analysis.discrepancy; tests/test_finished.py has what it computes."""
import subprocess
import sys

import fake_runs
import numpy as np
import pytest

from fipjax.analysis import knowledge, knowledge_pictures, matched
from fipjax.errors import UserError


def command(*arguments):
    return subprocess.run([sys.executable, '-m', 'fipjax.analysis.discrepancy', *arguments], capture_output=True,
                          text=True, timeout=300)


def test_help_helps_and_wrong_input_is_said():
    done = command('--help')
    assert '--against' in done.stdout and '--distance' in done.stdout and 'renormalised' in done.stdout
    done = command('--distance=far', '--workdir=x')
    assert done.returncode == 2 and 'cross_entropy' in done.stderr and 'Traceback' not in done.stderr
    with pytest.raises(UserError, match='--workdir is missing; usage: python -m fipjax.analysis.discrepancy'):
        matched.write([])


def test_runs_of_another_wing_are_refused(tmp_path):
    folder = fake_runs.write_run(tmp_path, config={'wing': 'fip'})
    with pytest.raises(UserError, match="a run of wing 'fip'; fipjax.analysis.discrepancy needs"):
        matched.write([str(folder)])


def test_bars_stand_by_target_or_by_labels(tmp_path):
    one = knowledge.points(knowledge.find([fake_runs.write_transfers(tmp_path / 'a')], ''))
    two = one + [p._replace(target='other') for p in one]
    small, large = (knowledge_pictures.discrepancy_bars(p, baseline='finetune') for p in (one, two))
    assert not small['wide'] and large['wide']  # two numbers of labels: side by side in one panel, or a panel each
    assert knowledge_pictures.discrepancy_bars(one, baseline='finetune') == small


def test_match_is_drawn_with_classes_that_no_sample_has():
    costs = np.array([[0.1, np.nan], [0.9, np.nan], [0.5, np.nan]])
    found = knowledge_pictures.matching([('all', costs, [(0, 0), (1, 1)])], 'abc', ['$x', 'y'], 'cross_entropy')
    assert found['title'] == 'Match of source and target classes' and not found['wide']
