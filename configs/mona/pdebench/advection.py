"""PDEBench, Advection, 256 points (nRMSE): MoNA from RoBERTa-base.

Paper: Modality Knowledge Alignment, MoNA, ICML 2024 (arXiv 2406.18864). Epochs, batch, optimiser, rate, weight decay,
clipping and warm-up are those of ORCA's public config for this task (arXiv 2302.05738), with a cosine instead of a
linear decay; MoNA's own stage 1, lambda and alpha are not public, those here are ours. The loss here is the mean square
of standardised values, ORCA's the nRMSE. u0 moved by 0.8 is the answer up to the error of the solver that made the
data: mean nRMSE 0.0054 and median 0.0037 of 100 trajectories made anew, below what a third-party listing has for
transfer (0.0088 to 0.0098).

  python -m fipjax.main --config=configs/mona/pdebench/advection.py --workdir=runs/advection

Needs the prepared task in data/ (--config.target.data_dir for another place): python -m fipjax.data.builders.prepare
--task=pdebench/advection --data_dir=data says from which file; a network once for the checkpoint (or
--config.init.checkpoint=FOLDER). That the published file has 10000 trajectories, on which the number of steps goes, is
not verified here; for files of lower resolution set --config.target.expected.shape and .target_shape.
--config.plan=True says what it costs with neither. Not run yet by us: no time and no number to expect.
"""
from fipjax import recipes


def get_config():
    """The experiment."""
    return recipes.pdebench(
        'advection', shape=(256, 1), target_shape=(256, 1), chunk=1,
        examples=8000, exact=False, epochs=200, batch_size=4, accumulate=1, warmup_epochs=5,
        optimizer={'kind': 'adam', 'learning_rate': 0.0001, 'weight_decay': 1e-05, 'clip': 1.0})
