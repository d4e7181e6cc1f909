"""PDEBench, Diffusion-reaction, 128 x 128 (nRMSE): MoNA from Swin-B.

Paper: Modality Knowledge Alignment, MoNA, ICML 2024 (arXiv 2406.18864). Epochs, batch, optimiser, rate, weight decay,
clipping and warm-up are those of ORCA's public config for this task (arXiv 2302.05738), with a cosine instead of a
linear decay; MoNA's own stage 1, lambda and alpha are not public, those here are ours. The loss here is the mean square
of standardised values, ORCA's the nRMSE. From u(t=0), white noise, to v(t=5), as ORCA has wired it: a radial linear
filter has nRMSE 0.72 (64 x 64, 8 trajectories made anew), zero has 1, and a third-party listing has 0.82 for transfer.

  python -m fipjax.main --config=configs/mona/pdebench/diffusion_reaction_2d.py --workdir=runs/diffusion_reaction_2d

Needs the prepared task in data/ (--config.target.data_dir for another place): python -m fipjax.data.builders.prepare
--task=pdebench/diffusion_reaction_2d --data_dir=data says from which file; arrays/cifar10.npz and a network once for
the checkpoint (or --config.init.checkpoint=FOLDER). That the published file has 1000 trajectories, on which the number
of steps goes, is not verified here; for files of lower resolution set --config.target.expected.shape and .target_shape.
--config.plan=True says what it costs with neither. Not run yet by us: no time and no number to expect.
"""
from fipjax import recipes


def get_config():
    """The experiment."""
    return recipes.pdebench(
        'diffusion_reaction_2d', shape=(128, 128, 1), target_shape=(128, 128, 1),
        examples=800, exact=False, epochs=200, batch_size=4, accumulate=1, warmup_epochs=5,
        optimizer={'kind': 'adam', 'learning_rate': 0.0001, 'weight_decay': 0.001, 'clip': 1.0})
