"""FIP on your own arrays: copy this file, describe your modalities, name the target.

Paper: Finetune-Informed Pretraining, arXiv 2601.20884 (its settings are not public; these are ours).
Command: python -m fipjax.main --config=configs/fip/arrays.py --workdir=runs/mine --config.data.path=mine.npz

The .npz has an array [n, *shape] for each modality by its name and an integer array `label` [n]. Optional: `split` [n]
with 'pretrain', 'train', 'validation' or 'test'; `<modality>_target`, a clean version to predict; `<modality>_present`
[n], False where the modality is missing. The shapes below are those of forearm signals: eight channels of
electromyogram and ten of motion, 400 samples each.
"""
from fipjax import config as config_lib

MODALITIES = {
    'emg': {'kind': 'sequence', 'shape': (400, 8), 'patch': 20},
    'imu': {'kind': 'sequence', 'shape': (400, 10), 'patch': 20},
}


def get_config(variant: str = 'fip'):
    """The experiment; variants are fip and uniform."""
    if variant not in ('fip', 'uniform'):
        raise config_lib.UserError(f'variant {variant!r} is unknown; allowed: fip, uniform')
    c = config_lib.base(MODALITIES)
    c.name, c.variant = 'arrays', variant
    c.data.source = 'arrays'
    c.pretrain.fip.target = 'emg'
    c.model.update({'dim': 96, 'depth': 4, 'heads': 4, 'decoder_dim': 64, 'decoder_heads': 4})
    c.pretrain.steps, c.pretrain.batch_size = 1000, 64
    c.finetune.labels_per_class = (5,)
    if variant == 'fip':
        f = c.pretrain.fip
        f.mask_ratio.target, f.loss_weight.target, f.decoder_depth.target = 0.85, 3.0, 3
    return c
