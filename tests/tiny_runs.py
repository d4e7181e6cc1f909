"""A comparison of the wing 'mona' at the smallest sizes: a run, really made once a process, and a copy of it.

The copy goes by another method's name, to save its time: what it says of itself is what its files say.
"""
import atexit
import functools
import json
import pathlib
import shutil
import tempfile

import numpy as np

from fipjax import config as config_lib
from fipjax import experiment
from fipjax.analysis import runs

METHODS, LABELS, STEPS = ('finetune', 'mona'), (2, 0), 4
SOURCE_CLASSES, CLASSES = tuple('wxyz'), tuple('abc')


def write_data(folder):
    """source.npz: pictures of four classes; target.npz: signals of three."""
    rng = np.random.default_rng(0)
    y = np.arange(120) % 4
    np.savez(folder / 'source.npz', x=rng.normal(size=(120, 1, 8, 8)) + y[:, None, None, None],
             y=np.array(SOURCE_CLASSES)[y])
    y = np.arange(60) % 3
    np.savez(folder / 'target.npz', x=rng.normal(size=(60, 2, 12)) + y[:, None, None], y=np.array(CLASSES)[y])


def config(folder, method):
    """Encoder of width 8 and one layer, a few steps of everything."""
    c = config_lib.transfer_base()
    c.name = 'tiny'
    c.source.path, c.target.path = str(folder / 'source.npz'), str(folder / 'target.npz')
    c.encoder.update({'width': 8, 'depth': 1, 'heads': 2, 'image_size': 8, 'patch': 4, 'remat': False})
    c.transfer.method, c.transfer.labels_per_class, c.transfer.observed = method, LABELS, (0.0, 0.5, 1.0)
    for stage in (c.source, c.transfer.stage_1, c.transfer.stage_2):
        stage.steps, stage.batch_size, stage.eval_every = STEPS, 8, 2
    c.eval_batch_size, c.log_every = 16, 2
    c.probe.update({'train_examples': 40, 'test_examples': 12})
    return c


@functools.cache
def comparison() -> pathlib.Path:
    """Workdir of the comparison; tests may not change it."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix='fipjax-tests-'))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    write_data(folder)
    plan = {'config': 'tiny.py', 'vary': {'transfer.method': list(METHODS)}, 'labels': list(METHODS),
            'baseline': 'finetune', 'seeds': [0], 'runs': []}
    for method in METHODS:
        plan['runs'].append({'folder': f'{method}-seed0', 'label': method, 'seed': 0})
    first, second = (folder / 'runs' / run['folder'] for run in plan['runs'])
    experiment.run(config(folder, METHODS[0]), first, progress=False, shared=folder / 'shared')
    shutil.copytree(first, second)
    for name, change in ((runs.RESULT, {'method': METHODS[1]}), (runs.CONFIG, {'variant': 'copy'})):
        (second / name).write_text(json.dumps({**runs.load_json(second / name), **change}))
    (folder / runs.PLAN).write_text(json.dumps(plan))
    return folder


def copy(folder) -> pathlib.Path:
    """The comparison in a folder that a test may change."""
    return pathlib.Path(shutil.copytree(comparison(), pathlib.Path(folder) / 'comparison'))
