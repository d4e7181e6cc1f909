"""FIP with estimated weights on forearm signals of the Italian Sign Language alphabet; target EMG, auxiliary IMU.

Data: 26 letters, 30 recordings each, 8 channels of electromyogram and 10 of motion, truly recorded together
(doi 10.1016/j.dib.2020.106455, research and education), prepared as an .npz of own arrays:
  python benchmarks/study_arrays.py --lis=lis_emg_imu.npz --out=data
which takes envelopes and splits by time: the three recordings of each letter from the later sitting are the test split,
of the 27 from the first sitting the last seven are validation, so no sitting is in training and in test.
Papers: see fipjax/algorithms/importance.py; FIP, arXiv 2601.20884. Settings are ours.

Commands (a variant is an arm of fipjax/arms.py):
  python -m fipjax.main --config=configs/fip/lis_emg_imu.py:cosine --workdir=runs/lis
  V=uniform,prior,cosine,dot,meta,ablation,gradnorm,uncertainty,dwa,cosine_shuffled,target_only,none
  python -m fipjax.compare --config=configs/fip/lis_emg_imu.py --workdir=runs/lis --baseline=uniform \
    --vary=variant=$V --seeds=0,1,2,3,4
"""
from fipjax import arms
from fipjax import config as config_lib

MODALITIES = {
    'emg': {'kind': 'sequence', 'shape': (80, 8), 'patch': 8},
    'imu': {'kind': 'sequence', 'shape': (80, 10), 'patch': 8},
}


def get_config(variant: str = 'cosine'):
    """The experiment for an arm."""
    c = config_lib.base(MODALITIES)
    c.name = 'lis_emg_imu'
    c.data.source, c.data.path = 'arrays', 'data/lis_emg_imu.npz'
    c.model.update({'dim': 64, 'depth': 3, 'heads': 4, 'decoder_dim': 48, 'decoder_heads': 4})
    c.pretrain.steps, c.pretrain.batch_size, c.pretrain.eval_every = 400, 128, 200
    c.pretrain.optimizer.learning_rate = 2e-3
    c.finetune.labels_per_class = (4, 0)
    c.pretrain.fip.downstream.labels_per_class = 4
    c.finetune.steps, c.finetune.eval_every = 150, 30
    c.finetune.optimizer.learning_rate = 2e-3
    return arms.apply(c, variant)
