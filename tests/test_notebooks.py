"""Notebooks run, and the two forms of each (.ipynb and jupytext's .py) say the same."""
import json
import os
import pathlib
import subprocess
import sys

import pytest

NOTEBOOKS = sorted((pathlib.Path(__file__).parent.parent / 'notebooks').glob('*.py'))


def cells_of_script(text):
    """[(kind, source)] of a jupytext percent script, markdown without its comment signs."""
    cells = []
    for part in text.split('\n# %%')[1:]:
        kind, _, body = part.partition('\n')
        lines = body.strip('\n').split('\n')
        if 'markdown' in kind:
            lines = [line.removeprefix('#').removeprefix(' ') for line in lines]
        cells.append(('markdown' if 'markdown' in kind else 'code', '\n'.join(lines)))
    return cells


@pytest.mark.parametrize('script', NOTEBOOKS, ids=lambda p: p.stem)
def test_forms_agree(script):
    stored = json.loads(script.with_suffix('.ipynb').read_text())
    cells = [(c['cell_type'], ''.join(c['source'])) for c in stored['cells']]
    assert cells == cells_of_script(script.read_text())


@pytest.mark.parametrize('script', NOTEBOOKS, ids=lambda p: p.stem)
def test_runs(script, tmp_path):
    text = script.read_text()
    for long, short in (('= 200, 32, 100', '= 4, 32, 2'), ('labels_per_class = 60', 'labels_per_class = 4')):
        assert long in text  # the same notebook with fewer steps
        text = text.replace(long, short)
    (tmp_path / script.name).write_text(text)
    done = subprocess.run([sys.executable, script.name], capture_output=True, text=True, cwd=tmp_path, check=False,
                          env={**os.environ, 'TMPDIR': str(tmp_path)}, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    assert '| uniform |' in done.stdout and '| fip |' in done.stdout
