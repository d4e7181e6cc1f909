"""A tiny config of the wing 'mona' with its arrays: a source of pictures, targets of one and two dimensions."""
from __future__ import annotations

import numpy as np

from fipjax import config as config_lib

SOURCE_CLASSES, CLASSES = 4, 3
OUTPUTS = ('classes', 'multilabel', 'dense')


def pictures(n=80, seed=0):
    """Source arrays: pictures [n, 1, 8, 8] whose brightness in one quarter tells the class."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % SOURCE_CLASSES
    x = rng.normal(0, 0.5, (n, 1, 8, 8)).astype(np.float32)
    for row, k in enumerate(y):
        x[row, 0, 4 * (k // 2):4 * (k // 2) + 4, 4 * (k % 2):4 * (k % 2) + 4] += 2
    return {'x': x, 'y': y}


def target(output='classes', n=72, seed=1):
    """Target arrays: signals [n, 2, 24] of a class each, or pictures with a field to predict."""
    rng = np.random.default_rng(seed)
    if output == 'dense':
        x = rng.normal(size=(n, 8, 8)).astype(np.float32)
        return {'x': x, 'y': np.roll(x, 1, 2) * 3 + 1}
    y = np.arange(n) % CLASSES
    x = rng.normal(0, 0.5, (n, 2, 24)).astype(np.float32) + np.sin(np.arange(24) * (1 + y[:, None, None]) / 2)
    return {'x': x.astype(np.float32), 'y': y if output == 'classes' else np.eye(CLASSES)[y] + np.eye(CLASSES)[y - 1]}


def write(folder):
    """Writes source.npz and one file for each of OUTPUTS into a folder."""
    np.savez(folder / 'source.npz', **pictures())
    for output in OUTPUTS:
        fields = target(output)
        fields['y'] = fields['y'].astype(np.int32) if output == 'multilabel' else fields['y']
        np.savez(folder / f'{output}.npz', **fields)
    return folder


def config(folder, output='classes', **changes):
    """A config of a few steps; `changes` are dotted keys with __ for the dot."""
    c = config_lib.transfer_base()
    c.name = 'tiny_mona'
    c.encoder.update({'width': 8, 'depth': 2, 'heads': 2, 'image_size': 8, 'patch': 4})
    c.source.path, c.target.path = str(folder / 'source.npz'), str(folder / f'{output}.npz')
    c.source.steps, c.source.batch_size, c.source.eval_every = 6, 8, 3
    for stage in (c.transfer.stage_1, c.transfer.stage_2):
        stage.steps, stage.batch_size, stage.eval_every = 6, 8, 3
        stage.optimizer.warmup_steps = 1
    c.transfer.labels_per_class = (4,) if output == 'classes' else (0,)
    c.transfer.observed = (0.0, 0.5, 1.0)
    c.mona.source_batch, c.orca.source_examples, c.orca.per_class, c.orca.clusters = 8, 16, 4, 3
    c.probe.train_examples, c.probe.test_examples = 24, 12
    c.checkpoint.every, c.log_every, c.eval_batch_size = 2, 1, 16
    for key, value in changes.items():
        group, _, leaf = key.replace('__', '.').rpartition('.')
        (config_lib.get(c, group) if group else c)[leaf] = value
    return c
