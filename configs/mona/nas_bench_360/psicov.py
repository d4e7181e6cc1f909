"""NAS-Bench-360, PSICOV, 57 features of residue pairs to distances, 512 x 512 (MAE_8): MoNA from Swin-B.

Paper: Modality Knowledge Alignment, MoNA, ICML 2024 (arXiv 2406.18864). Epochs, batch, optimiser, rate, weight decay,
clipping and warm-up are those of ORCA's public config for this task (arXiv 2302.05738), with a cosine instead of a
linear decay; MoNA's own stage 1, lambda and alpha are not public, those here are ours. Distances above 16 are clipped
in training. An example is 61 MB; x is read batch by batch, all distances (3.5 GB) are held.

  python -m fipjax.main --config=configs/mona/nas_bench_360/psicov.py --workdir=runs/psicov

Needs the prepared task in data/ (--config.target.data_dir for another place): python -m fipjax.data.builders.prepare
--task=nas_bench_360/psicov --data_dir=data says from which files; arrays/cifar10.npz, and a network once for the
checkpoint (or --config.init.checkpoint=FOLDER). --config.plan=True says what it costs with neither. Not run yet by us:
no time and no number to expect.
"""
from fipjax import recipes


def get_config():
    """The experiment."""
    return recipes.nas_bench_360(
        'psicov', shape=(512, 512, 57), target_shape=(512, 512, 1),
        examples=3356, epochs=10, batch_size=1, accumulate=32, warmup_epochs=5,
        optimizer={'kind': 'adam', 'learning_rate': 5e-06, 'weight_decay': 1e-05, 'clip': 0.0})
