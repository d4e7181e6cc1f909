"""NAS-Bench-360, NinaPro, electromyograms of 16 channels as pictures of 16 x 52 (error, 18 gestures): MoNA from Swin-B.

Paper: Modality Knowledge Alignment, MoNA, ICML 2024 (arXiv 2406.18864). Epochs, batch, optimiser, rate, weight decay,
clipping and warm-up are those of ORCA's public config for this task (arXiv 2302.05738), with a cosine instead of a
linear decay; MoNA's own stage 1, lambda and alpha are not public, those here are ours. ORCA's FocalLoss has gamma 0,
which is cross-entropy; train and validation are not joined here.

  python -m fipjax.main --config=configs/mona/nas_bench_360/ninapro.py --workdir=runs/ninapro

Needs the prepared task in data/ (--config.target.data_dir for another place): python -m fipjax.data.builders.prepare
--task=nas_bench_360/ninapro --data_dir=data says from which files; arrays/cifar10.npz, and a network once for the
checkpoint (or --config.init.checkpoint=FOLDER). --config.plan=True says what it costs with neither. Not run yet by us:
no time and no number to expect.
"""
from fipjax import recipes


def get_config():
    """The experiment."""
    return recipes.nas_bench_360(
        'ninapro', shape=(16, 52, 1), classes=18,
        examples=2638, epochs=60, batch_size=32, accumulate=1, warmup_epochs=5,
        optimizer={'kind': 'adam', 'learning_rate': 0.0001, 'weight_decay': 1e-05, 'clip': 1.0})
