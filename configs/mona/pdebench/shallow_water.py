"""PDEBench, Shallow water, 128 x 128 (nRMSE): MoNA from Swin-B.

Paper: Modality Knowledge Alignment, MoNA, ICML 2024 (arXiv 2406.18864). Epochs, batch, optimiser, rate, weight decay,
clipping and warm-up are those of ORCA's public config for this task (arXiv 2302.05738), with a cosine instead of a
linear decay; MoNA's own stage 1, lambda and alpha are not public, those here are ours. The loss here is the mean square
of standardised values, ORCA's the nRMSE. The field at t=0 is one number, the radius of the dam, and on 128 x 128 points
there are 81 different discs: where a cell is in the dam or not, nearly every test example is in the training split too.

  python -m fipjax.main --config=configs/mona/pdebench/shallow_water.py --workdir=runs/shallow_water

Needs the prepared task in data/ (--config.target.data_dir for another place): python -m fipjax.data.builders.prepare
--task=pdebench/shallow_water --data_dir=data says from which file; arrays/cifar10.npz and a network once for the
checkpoint (or --config.init.checkpoint=FOLDER). That the published file has 1000 trajectories, on which the number of
steps goes, is not verified here; for files of lower resolution set --config.target.expected.shape and .target_shape.
--config.plan=True says what it costs with neither. Not run yet by us: no time and no number to expect.
"""
from fipjax import recipes


def get_config():
    """The experiment."""
    return recipes.pdebench(
        'shallow_water', shape=(128, 128, 1), target_shape=(128, 128, 1),
        examples=800, exact=False, epochs=200, batch_size=4, accumulate=1, warmup_epochs=10,
        optimizer={'kind': 'adamw', 'learning_rate': 0.0001, 'weight_decay': 0.0, 'clip': 1.0})
