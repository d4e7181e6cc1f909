"""FIP and its controls on constellation pictures, I/Q sequences and spectrograms; target: the picture.

Paper: Finetune-Informed Pretraining, arXiv 2601.20884. Its settings are not public; mask ratios, weights, depths and
sizes here are ours. Data: generated, 10 modulations, Es/N0 from -10 to 10 dB, see fipjax/data/constellation.py.

Commands:
  python -m fipjax.main --config=configs/fip/constellation.py:fip --workdir=runs/fip
  V=uniform,fip,masking,weight,decoder,attention,consistency,none,target_only,compute_matched,parameter_matched,dirichlet
  python -m fipjax.compare --config=configs/fip/constellation.py --workdir=runs/constellation --baseline=uniform \
    --vary=variant=$V --seeds=0,1,2,3,4

Two CPU cores: the comparison took 52 minutes with two processes on one workdir (start the command twice), about 80
seconds a run. Expect 26 % with 5 and 40 % with 50 labels a class for uniform, and no gain of fip: docs/results.md.
"""
from fipjax import arms
from fipjax import config as config_lib

MODALITIES = {
    'image': {'kind': 'image', 'shape': (32, 32, 3), 'patch': 8},
    'iq': {'kind': 'sequence', 'shape': (256, 2), 'patch': 16},
    'spectrogram': {'kind': 'image', 'shape': (32, 32, 1), 'patch': 8},
}
# The levers of FIP, each as the keys that it changes in config.pretrain.fip.
LEVERS = {
    'masking': {'mask_ratio': {'target': 0.85}},
    'weight': {'loss_weight': {'target': 3.0}},
    'decoder': {'decoder_depth': {'target': 4}},
    'attention': {'attention_bias': {'target': 2.0}},
    'consistency': {'consistency': 0.1},
}
VARIANTS = {
    'fip': {key: value for lever in LEVERS.values() for key, value in lever.items()},
    **LEVERS,
    'compute_matched': {},     # uniform with the FLOPs of fip
    'parameter_matched': {'decoder_depth': {'target': 2, 'others': 2}},  # uniform with the parameters of fip
    'dirichlet': {'masking': 'dirichlet'},  # MultiMAE's way to share a budget of visible tokens
}                              # and the arms of fipjax/arms.py, whose names mean the same here


def get_config(variant: str = 'fip'):
    """The experiment for one of VARIANTS or of the arms of a study of estimated weights."""
    if variant not in VARIANTS and variant not in arms.ARMS:
        allowed = dict.fromkeys((*VARIANTS, *arms.ARMS))
        raise config_lib.UserError(f'variant {variant!r} is unknown; allowed: {", ".join(allowed)}')
    c = config_lib.base(MODALITIES)
    c.name, c.variant = 'constellation', variant
    c.data.signal.classes = ('OOK', '4ASK', 'BPSK', 'QPSK', 'OQPSK', '8PSK', '16QAM', '16APSK', 'CPFSK', 'GMSK')
    c.data.pretrain_examples, c.data.train_examples = 10000, 6000
    c.data.validation_examples, c.data.test_examples = 1100, 2200
    c.model.update({'dim': 64, 'depth': 3, 'heads': 4, 'decoder_dim': 48, 'decoder_heads': 4})
    c.pretrain.steps, c.pretrain.batch_size, c.pretrain.eval_every = 1000, 32, 500
    c.pretrain.optimizer.learning_rate = 2e-3
    c.finetune.labels_per_class = (5, 50)
    c.finetune.steps, c.finetune.eval_every = 150, 30
    c.finetune.optimizer.learning_rate = 2e-3
    c.pretrain.fip.normalise_targets = True
    for key, value in VARIANTS.get(variant, {}).items():
        if isinstance(value, dict):
            c.pretrain.fip[key].update(value)
        else:
            c.pretrain.fip[key] = value
    c.pretrain.fip.downstream.labels_per_class = 5
    if variant in arms.ARMS:
        arms.apply(c, variant)
    if variant == 'compute_matched':
        from fipjax.experiments import fip
        c.pretrain.steps = fip.steps_for_flops(c, get_config('fip'))
    return c
