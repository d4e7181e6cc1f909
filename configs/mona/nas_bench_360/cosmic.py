"""NAS-Bench-360, Cosmic, pictures of the Hubble telescope to masks of cosmic rays, 128 x 128: MoNA from Swin-B.

Paper: Modality Knowledge Alignment, MoNA, ICML 2024 (arXiv 2406.18864). Epochs, batch, optimiser, rate, weight decay,
clipping and warm-up are those of ORCA's public config for this task (arXiv 2302.05738), with a cosine instead of a
linear decay; MoNA's own stage 1, lambda and alpha are not public, those here are ours. Crops [64:192] of both sides;
one channel (assumed, not verified).

  python -m fipjax.main --config=configs/mona/nas_bench_360/cosmic.py --workdir=runs/cosmic

Needs the prepared task in data/ (--config.target.data_dir for another place): python -m fipjax.data.builders.prepare
--task=nas_bench_360/cosmic --data_dir=data says from which files; arrays/cifar10.npz, and a network once for the
checkpoint (or --config.init.checkpoint=FOLDER). --config.plan=True says what it costs with neither. Not run yet by us:
no time and no number to expect.
"""
from fipjax import recipes


def get_config():
    """The experiment."""
    return recipes.nas_bench_360(
        'cosmic', shape=(128, 128, 1), target_shape=(128, 128, 1),
        examples=4347, epochs=60, batch_size=4, accumulate=1, warmup_epochs=5,
        optimizer={'kind': 'adamw', 'learning_rate': 0.001, 'weight_decay': 0.0, 'clip': 0.0})
