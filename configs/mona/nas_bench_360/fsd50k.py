"""NAS-Bench-360, FSD50K, mel spectrograms of 96 x 102 (1 - mAP, 200 labels): MoNA from Swin-B.

Paper: Modality Knowledge Alignment, MoNA, ICML 2024 (arXiv 2406.18864). Epochs, batch, optimiser, rate, weight decay,
clipping and warm-up are those of ORCA's public config for this task (arXiv 2302.05738), with a cosine instead of a
linear decay; MoNA's own stage 1, lambda and alpha are not public, those here are ours. ORCA weighs positive labels by
10; the loss here is unweighted.

  python -m fipjax.main --config=configs/mona/nas_bench_360/fsd50k.py --workdir=runs/fsd50k

Needs the prepared task in data/ (--config.target.data_dir for another place): python -m fipjax.data.builders.prepare
--task=nas_bench_360/fsd50k --data_dir=data says from which files; arrays/cifar10.npz, and a network once for the
checkpoint (or --config.init.checkpoint=FOLDER). --config.plan=True says what it costs with neither. Not run yet by us:
no time and no number to expect.
"""
from fipjax import recipes


def get_config():
    """The experiment."""
    return recipes.nas_bench_360(
        'fsd50k', shape=(96, 102, 1), classes=200, multilabel=True,
        examples=37000, exact=False, epochs=100, batch_size=32, accumulate=1, warmup_epochs=5,
        optimizer={'kind': 'adam', 'learning_rate': 0.0001, 'weight_decay': 5e-05, 'clip': 0.0})
