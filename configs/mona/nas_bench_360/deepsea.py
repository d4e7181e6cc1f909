"""NAS-Bench-360, DeepSEA, 1000 letters of DNA (1 - AUROC, 36 labels): MoNA from RoBERTa-base.

Paper: Modality Knowledge Alignment, MoNA, ICML 2024 (arXiv 2406.18864). Epochs, batch, optimiser, rate, weight decay,
clipping and warm-up are those of ORCA's public config for this task (arXiv 2302.05738), with a cosine instead of a
linear decay; MoNA's own stage 1, lambda and alpha are not public, those here are ours. ORCA weighs positive labels by
4; the loss here is unweighted.

  python -m fipjax.main --config=configs/mona/nas_bench_360/deepsea.py --workdir=runs/deepsea

Needs the prepared task in data/ (--config.target.data_dir for another place): python -m fipjax.data.builders.prepare
--task=nas_bench_360/deepsea --data_dir=data says from which files; a network once for the checkpoint (or
--config.init.checkpoint=FOLDER). --config.plan=True says what it costs with neither. Not run yet by us: no time and no
number to expect.
"""
from fipjax import recipes


def get_config():
    """The experiment."""
    return recipes.nas_bench_360(
        'deepsea', shape=(1000, 4), classes=36, multilabel=True, chunk=2,
        examples=71000, exact=False, epochs=13, batch_size=16, accumulate=1, warmup_epochs=10,
        optimizer={'kind': 'adam', 'learning_rate': 1e-05, 'weight_decay': 0.0, 'clip': 1.0})
