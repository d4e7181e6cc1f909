"""NAS-Bench-360, Satellite, series of 46 reflectances (error, 24 kinds of land cover): MoNA from RoBERTa-base.

Paper: Modality Knowledge Alignment, MoNA, ICML 2024 (arXiv 2406.18864). Epochs, batch, optimiser, rate, weight decay,
clipping and warm-up are those of ORCA's public config for this task (arXiv 2302.05738), with a cosine instead of a
linear decay; MoNA's own stage 1, lambda and alpha are not public, those here are ours. Labels from 0.

  python -m fipjax.main --config=configs/mona/nas_bench_360/satellite.py --workdir=runs/satellite

Needs the prepared task in data/ (--config.target.data_dir for another place): python -m fipjax.data.builders.prepare
--task=nas_bench_360/satellite --data_dir=data says from which files; a network once for the checkpoint (or
--config.init.checkpoint=FOLDER). --config.plan=True says what it costs with neither. Not run yet by us: no time and no
number to expect.
"""
from fipjax import recipes


def get_config():
    """The experiment."""
    return recipes.nas_bench_360(
        'satellite', shape=(46, 1), classes=24, chunk=1,
        examples=800000, exact=False, epochs=60, batch_size=16, accumulate=4, warmup_epochs=5,
        optimizer={'kind': 'adamw', 'learning_rate': 3e-05, 'weight_decay': 3e-06, 'clip': 0.0})
