"""A small comparison of FIP with uniform and with no pretraining: constellation pictures with few labels.

Paper: Finetune-Informed Pretraining, arXiv 2601.20884 (its settings are not public; these are ours).
Command: bash launch/local.sh
     or: python -m fipjax.main --config=configs/fip/quick.py --workdir=runs/fip_quick

Two CPU cores: some minutes. One seed: expect accuracies around 40 % and differences of a few points either way, which
say nothing yet; docs/results.md has five seeds.
"""
import pathlib

from fipjax import config as config_lib


def get_config(variant: str = 'fip'):
    """configs/fip/constellation.py with less data and fewer steps; the same variants."""
    c = config_lib.load(str(pathlib.Path(__file__).with_name('constellation.py')), variant)
    c.name = 'fip_quick'
    c.data.pretrain_examples, c.data.train_examples = 4000, 1000
    c.data.validation_examples, c.data.test_examples = 550, 1100
    c.pretrain.steps, c.pretrain.eval_every = 600, 200
    c.finetune.labels_per_class = (50,)
    c.checkpoint.every = 200
    c.compare.vary, c.compare.seeds, c.compare.baseline = 'variant=uniform,fip,none', (0,), 'uniform'
    return c
