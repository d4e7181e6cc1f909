"""PDEBench, Diffusion-reaction, 1024 points (nRMSE): MoNA from RoBERTa-base.

Paper: Modality Knowledge Alignment, MoNA, ICML 2024 (arXiv 2406.18864). Epochs, batch, optimiser, rate, weight decay,
clipping and warm-up are those of ORCA's public config for this task (arXiv 2302.05738), with a cosine instead of a
linear decay; MoNA's own stage 1, lambda and alpha are not public, those here are ours. The loss here is the mean square
of standardised values, ORCA's the nRMSE. The logistic growth of the mean of u0 alone has nRMSE 0.0014 (1000
trajectories made anew), below what a third-party listing has for transfer (0.0028 to 0.0032). SGD's momentum is 0.9
here, 0.99 in ORCA.

  python -m fipjax.main --config=configs/mona/pdebench/diffusion_reaction_1d.py --workdir=runs/diffusion_reaction_1d

Needs the prepared task in data/ (--config.target.data_dir for another place): python -m fipjax.data.builders.prepare
--task=pdebench/diffusion_reaction_1d --data_dir=data says from which file; a network once for the checkpoint (or
--config.init.checkpoint=FOLDER). That the published file has 10000 trajectories, on which the number of steps goes, is
not verified here; for files of lower resolution set --config.target.expected.shape and .target_shape.
--config.plan=True says what it costs with neither. Not run yet by us: no time and no number to expect.
"""
from fipjax import recipes


def get_config():
    """The experiment."""
    return recipes.pdebench(
        'diffusion_reaction_1d', shape=(1024, 1), target_shape=(1024, 1), chunk=4,
        examples=8000, exact=False, epochs=200, batch_size=4, accumulate=1, warmup_epochs=5,
        optimizer={'kind': 'sgd', 'learning_rate': 0.001, 'weight_decay': 1e-05, 'clip': 1.0})
