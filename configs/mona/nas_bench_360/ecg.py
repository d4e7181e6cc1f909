"""NAS-Bench-360, ECG, windows of 1000 samples (1 - macro F1, 4 rhythms): MoNA from RoBERTa-base.

Paper: Modality Knowledge Alignment, MoNA, ICML 2024 (arXiv 2406.18864). Epochs, batch, optimiser, rate, weight decay,
clipping and warm-up are those of ORCA's public config for this task (arXiv 2302.05738), with a cosine instead of a
linear decay; MoNA's own stage 1, lambda and alpha are not public, those here are ours. Windows are cut when they are
prepared, recordings split before. SGD's momentum is 0.9 here, 0.99 in ORCA.

  python -m fipjax.main --config=configs/mona/nas_bench_360/ecg.py --workdir=runs/ecg

Needs the prepared task in data/ (--config.target.data_dir for another place): python -m fipjax.data.builders.prepare
--task=nas_bench_360/ecg --data_dir=data says from which files; a network once for the checkpoint (or
--config.init.checkpoint=FOLDER). --config.plan=True says what it costs with neither. Not run yet by us: no time and no
number to expect.
"""
from fipjax import recipes


def get_config():
    """The experiment."""
    return recipes.nas_bench_360(
        'ecg', shape=(1000, 1), classes=4, chunk=20,
        examples=260000, exact=False, epochs=15, batch_size=4, accumulate=16, warmup_epochs=5,
        optimizer={'kind': 'sgd', 'learning_rate': 1e-06, 'weight_decay': 0.1, 'clip': 0.0})
