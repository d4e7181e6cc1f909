"""The study of docs/results.md: six methods on audio, electromyograms and Darcy flow, from an encoder of pictures.

Paper: Modality Knowledge Alignment, MoNA, ICML 2024 (arXiv 2406.18864), at a size for two CPU cores; its own settings
are not all public, so rates, lambda, alpha and lengths are ours. Source: CIFAR-10, 10,000 training pictures, a ViT of
four layers (width 64, patches of 8 x 8). Targets, each a variant:

  fsdd_2d          spoken digits as log-spectrograms, the official test split
  fsdd_2d_speaker  the same, tested on a speaker that is nowhere else, 20 labels a class only
  fsdd_1d, fsdd_1d_speaker    the same as raw audio
  lis_1d           Italian sign language from electromyograms, 26 classes (no D: the source has only 10)
  lis_1d_rectified the same of absolute values, the usual first step with electromyograms
  darcy            coefficient to solution of Darcy flow, 16 x 16, a dense target

Arrays: benchmarks/study_arrays.py writes them from the public data sets into the folder `arrays`.
Commands, for each variant V (the source model is trained once, in runs/study/source):
  python -m fipjax.compare --config=configs/mona/study.py:V --workdir=runs/study/V --seeds=0,1,2 --baseline=finetune \
    --vary=transfer.method=scratch,finetune,frozen,embedder,orca,mona

Every method tries the same learning rates in stage 2 and validation chooses. Time and numbers: docs/results.md.
"""
from fipjax import config as config_lib

SPEAKER = 'theo'
VARIANTS = ('fsdd_2d', 'fsdd_2d_speaker', 'fsdd_1d', 'fsdd_1d_speaker', 'lis_1d',
            'lis_1d_rectified', 'darcy')


def get_config(variant: str = 'fsdd_2d'):
    """The experiment on one of VARIANTS."""
    if variant not in VARIANTS:
        raise config_lib.UserError(f'variant {variant!r} is unknown; allowed: {", ".join(VARIANTS)}')
    c = config_lib.transfer_base()
    c.name, c.variant = 'study', variant
    c.encoder.update({'image_size': 32, 'patch': 8, 'remat': False})
    c.source.path = 'arrays/cifar10.npz'
    c.source.workdir = 'runs/study/source'
    c.source.steps, c.source.eval_every = 1500, 250
    c.source.optimizer.learning_rate = 2e-3
    c.transfer.labels_per_class = (5, 20, 0)
    data, _, held_out = variant.partition('_')
    c.target.path = f'arrays/{data}.npz'
    if data == 'fsdd':
        c.embedder.chunk = 128
        if held_out.startswith('2d'):
            c.target.view = 'spectrogram'
        if held_out.endswith('speaker'):
            c.target.test_groups, c.transfer.labels_per_class = (SPEAKER,), (20,)
        else:
            c.target.group_key = ''
    if data == 'lis':
        c.embedder.chunk, c.discrepancy.distance = 25, 'none'
        if held_out.endswith('rectified'):
            c.target.path = 'arrays/lis_rectified.npz'
    c.transfer.stage_1.steps, c.transfer.stage_1.eval_every = 60, 30
    c.transfer.stage_1.optimizer.learning_rate = 2e-3
    c.transfer.stage_2.steps, c.transfer.stage_2.eval_every = 80, 20
    # The second term of the meta-gradient is then about a third of the first, on a batch before the first step.
    c.mona.alpha, c.mona.source_batch = 0.3, 32
    c.transfer.stage_2.learning_rates = (5e-4, 2e-3)
    c.transfer.observed = (0.0, 0.25, 0.5, 1.0)
    c.checkpoint.every = 1000
    return c
