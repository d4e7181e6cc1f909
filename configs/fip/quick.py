"""FIP against uniform pretraining and no pretraining, small: constellation pictures with few labels.

Paper: Finetune-Informed Pretraining, arXiv 2601.20884 (its settings are not public; these are ours).
Command: python -m fipjax.main --config=configs/fip/quick.py --workdir=runs/fip_quick
"""
from fipjax import config as config_lib

MODALITIES = {
    'image': {'kind': 'image', 'shape': (32, 32, 3), 'patch': 4},
    'iq': {'kind': 'sequence', 'shape': (512, 2), 'patch': 32},
    'spectrogram': {'kind': 'image', 'shape': (32, 32, 1), 'patch': 8},
}


def get_config(variant: str = 'fip'):
    c = config_lib.base(MODALITIES)
    c.name, c.variant = 'fip_quick', variant
    c.data.signal.classes = ('OOK', '4ASK', 'BPSK', 'QPSK', 'OQPSK', '8PSK', '16QAM', '16APSK', 'CPFSK', 'GMSK')
    c.data.pretrain_examples, c.data.train_examples = 4000, 1000
    c.data.validation_examples, c.data.test_examples = 500, 1100
    c.model.update({'dim': 96, 'depth': 3, 'heads': 4, 'decoder_dim': 64, 'decoder_heads': 4})
    c.pretrain.steps, c.pretrain.batch_size, c.pretrain.eval_every = 400, 64, 100
    c.finetune.steps, c.finetune.eval_every, c.finetune.labels_per_class = 100, 20, (5,)
    c.checkpoint.every = 200
    f = c.pretrain.fip
    if variant == 'fip':
        f.mask_ratio.target, f.loss_weight.target, f.decoder_depth.target = 0.85, 3.0, 3
        f.attention_bias.target, f.consistency = 2.0, 0.1
    return c
