"""FIP with estimated weights on radio frames of RadioML or SigMF files; target: the constellation picture, auxiliary:
the I/Q sequence and the spectrogram.

Data: RadioML 2016.10a, RML2016.10a_dict.pkl (generator: github.com/radioML/dataset): frames of 128 samples of 11
modulations at SNRs from -20 to 18 dB; get it from DeepSig, and see there for the terms. The sizes below are equal
shares of each modulation and SNR, which data.seed draws. How files are read and checked: fipjax/data/recorded.py.
Papers: see fipjax/algorithms/importance.py; FIP, arXiv 2601.20884. Settings are ours, those of
configs/fip/constellation.py.

Commands (a variant is an arm of fipjax/arms.py):
  D=--config.data.path=RML2016.10a_dict.pkl
  python -m fipjax.main --config=configs/fip/radioml.py:cosine --workdir=runs/radioml $D
  V=uniform,prior,cosine,dot,meta,ablation,gradnorm,uncertainty,dwa,cosine_shuffled,target_only,none
  python -m fipjax.compare --config=configs/fip/radioml.py --workdir=runs/radioml --baseline=uniform \
    --vary=variant=$V --seeds=0,1,2,3,4 $D
Views made once instead of in each process; the command says which options read them:
  python -m fipjax.data.builders.recorded --config=configs/fip/radioml.py --data_dir=data $D

RadioML 2018.01A (24 modulations, 1024 samples, from -20 to 30 dB):
  --config.data.path=GOLD_XYZ_OSC.0001_1024.hdf5 --config.data.modalities.iq.shape=1024,2 \
    --config.data.modalities.iq.patch=64
SigMF: --config.data.path=FOLDER, and as modalities.iq.shape the length of a frame, in samples, and 2.

Time and accuracy on these files are not known: they were not at hand, and what has been run are small files of the same
layouts. Sizes of model, batches and steps are those of configs/fip/constellation.py, made for two CPU cores.
"""
from fipjax import arms
from fipjax import config as config_lib

MODALITIES = {
    'image': {'kind': 'image', 'shape': (32, 32, 3), 'patch': 8},
    'iq': {'kind': 'sequence', 'shape': (128, 2), 'patch': 8},
    'spectrogram': {'kind': 'image', 'shape': (32, 32, 1), 'patch': 8},
}


def get_config(variant: str = 'uniform'):
    """The experiment for an arm."""
    c = config_lib.base(MODALITIES)
    c.name = 'radioml'
    c.data.source, c.data.path = 'recorded', 'RML2016.10a_dict.pkl'
    c.data.signal.snr_db = (-20.0, 30.0)  # all of both files
    c.data.pretrain_examples, c.data.train_examples = 11000, 6600
    c.data.validation_examples, c.data.test_examples = 1100, 2200
    c.model.update({'dim': 64, 'depth': 3, 'heads': 4, 'decoder_dim': 48, 'decoder_heads': 4})
    c.pretrain.steps, c.pretrain.batch_size, c.pretrain.eval_every = 1000, 32, 500
    c.pretrain.optimizer.learning_rate = 2e-3
    c.pretrain.fip.normalise_targets = True
    c.pretrain.fip.downstream.labels_per_class = 5
    c.finetune.labels_per_class = (5, 50)
    c.finetune.steps, c.finetune.eval_every = 150, 30
    c.finetune.optimizer.learning_rate = 2e-3
    return arms.apply(c, variant)
