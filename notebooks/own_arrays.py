# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # FIP on your own arrays
#
# Two modalities recorded together, few labels, and only one of the two at test time. The data here are made up in the
# first cell; put your own arrays there. Settings are small, so that this runs in a minute or two on two cores. In
# Colab, clone the project and `%pip install -q -e .` in its folder first.

# %%
import base64
import pathlib
import tempfile

import numpy as np

from fipjax import config as config_lib
from fipjax import experiment
from fipjax.analysis import runs, table
from fipjax.data import sources
from fipjax.data.arrays import from_arrays

rng = np.random.default_rng(0)
n, length, classes = 600, 64, 4
label = np.arange(n) % classes
time = np.arange(length) / length
frequency = (2.0 + 1.5 * label)[:, None] * time + 0.15 * rng.uniform(size=(n, 1))
wave = np.stack([np.sin(2 * np.pi * frequency), np.cos(2 * np.pi * frequency)], -1)
arrays = {
    'emg': wave + 1.5 * rng.normal(size=(n, length, 2)),      # the target: noisy
    'imu': wave[..., :1] + 0.3 * rng.normal(size=(n, length, 1)),  # recorded with it, not there at test time
    'label': label,
}

# %% [markdown]
# A modality is a kind, a shape and a patch size. `config_lib.base` gives every key its default, and the target is the
# first modality unless told otherwise.

# %%
modalities = {'emg': {'kind': 'sequence', 'shape': (length, 2), 'patch': 8},
              'imu': {'kind': 'sequence', 'shape': (length, 1), 'patch': 8}}


def make_config(variant):
    c = config_lib.base(modalities)
    c.name, c.variant, c.data.source = 'own arrays', variant, 'arrays'
    c.model.update({'dim': 32, 'depth': 2, 'heads': 2, 'decoder_dim': 32, 'decoder_heads': 2})
    c.pretrain.steps, c.pretrain.batch_size, c.pretrain.eval_every = 200, 32, 100
    c.finetune.steps, c.finetune.labels_per_class = 60, (5,)
    if variant == 'fip':
        f = c.pretrain.fip
        f.mask_ratio.target, f.loss_weight.target, f.decoder_depth.target = 0.85, 3.0, 2
    return c


# %%
folder = pathlib.Path(tempfile.mkdtemp())
for variant in ('uniform', 'fip'):
    c = make_config(variant)
    splits = from_arrays(arrays, sources.modalities_of(c.data), seed=0)
    experiment.run(c, folder / variant, splits=splits, progress=False)

# %% [markdown]
# One table for both, and the picture of what the target's decoder makes of masked patches. One seed says little:
# `python -m fipjax.compare` runs many.

# %%
print(table.markdown(table.rows([runs.load_run(folder / v) for v in ('uniform', 'fip')])))
picture = runs.load_run(folder / 'fip').result['pictures'][0]
(folder / 'reconstruction.png').write_bytes(base64.b64decode(picture['png']))
print(picture['caption'])
try:
    from IPython.display import Image, display
    display(Image(folder / 'reconstruction.png'))
except ImportError:
    print(folder / 'reconstruction.png')
