"""NAS-Bench-360, Spherical, CIFAR-100 projected on a sphere, 60 x 60 (error): MoNA from Swin-B.

Paper: Modality Knowledge Alignment, MoNA, ICML 2024 (arXiv 2406.18864). Epochs, batch, optimiser, rate, weight decay,
clipping and warm-up are those of ORCA's public config for this task (arXiv 2302.05738), with a cosine instead of a
linear decay; MoNA's own stage 1, lambda and alpha are not public, those here are ours. Values over 255.

  python -m fipjax.main --config=configs/mona/nas_bench_360/spherical.py --workdir=runs/spherical

Needs the prepared task in data/ (--config.target.data_dir for another place): python -m fipjax.data.builders.prepare
--task=nas_bench_360/spherical --data_dir=data says from which files; arrays/cifar10.npz, and a network once for the
checkpoint (or --config.init.checkpoint=FOLDER). --config.plan=True says what it costs with neither. Not run yet by us:
no time and no number to expect.
"""
from fipjax import recipes


def get_config():
    """The experiment."""
    return recipes.nas_bench_360(
        'spherical', shape=(60, 60, 3), classes=100,
        examples=40000, epochs=60, batch_size=32, accumulate=4, warmup_epochs=5,
        optimizer={'kind': 'adamw', 'learning_rate': 0.0001, 'weight_decay': 0.1, 'clip': 0.0})
