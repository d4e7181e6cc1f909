"""PDEBench's eight tasks at a size for two CPU cores, from regenerated data: docs/results.md, section 11.

Paper: Modality Knowledge Alignment, MoNA, ICML 2024 (arXiv 2406.18864), its tasks of PDEBench (arXiv 2210.07182), with
600 examples each (480 training, 60 validation, 60 test), 64 points of lines and 32 x 32 of fields. Source: the MNIST
subset of a data wheel, a ViT of four layers (width 64, 16 tokens), trained once. Rates, lengths, lambda and alpha are
ours; the rate of stage 2 is the one of 1e-3 and 4e-3 with which plain fine-tuning was better on the validation split of
advection with seed 100, which is none of the study's. Each variant is a task of TASKS.

Data, three minutes on two cores, for each TASK (FILE as `python -m fipjax.data.pde --help` lists it, POINTS 64 or 32):
  python -m fipjax.data.pde --task=TASK --n=600 --resolution=POINTS --out=downloads/FILE
  python -m fipjax.data.builders.prepare --task=pdebench/TASK --manual_dir=downloads --data_dir=data/pde_small
Command:
  python -m fipjax.compare --config=configs/mona/pde_small.py --workdir=runs/pde_small --seeds=0,1,2 \
    --vary=variant=advection,burgers,diffusion_reaction_1d,diffusion_sorption,navier_stokes_1d,darcy,shallow_water,\
diffusion_reaction_2d,transfer.method=scratch,finetune,frozen,embedder,orca,mona --baseline=finetune

Time and numbers: docs/results.md.
"""
from fipjax import config as config_lib

LINES = ('advection', 'burgers', 'diffusion_reaction_1d', 'diffusion_sorption', 'navier_stokes_1d')
FIELDS = ('darcy', 'shallow_water', 'diffusion_reaction_2d')
TASKS = LINES + FIELDS


def get_config(variant: str = 'advection'):
    """The experiment on one of TASKS."""
    if variant not in TASKS:
        raise config_lib.UserError(f'variant {variant!r} is unknown; allowed: {", ".join(TASKS)}')
    c = config_lib.transfer_base()
    c.name, c.variant = 'pde_small', variant
    c.encoder.update({'image_size': 28, 'patch': 7, 'remat': False})
    c.source.data, c.source.name, c.source.workdir = 'wheel', 'mnist_5k', 'runs/pde_small_source'
    c.source.steps, c.source.eval_every = 600, 100
    c.source.optimizer.learning_rate, c.source.optimizer.warmup_steps = 3e-3, 30
    c.target.update({'data': 'tfds', 'name': f'pdebench/{variant}', 'data_dir': 'data/pde_small', 'output': 'dense',
                     'kind': '1d' if variant in LINES else '2d'})
    c.embedder.chunk = 4 if variant in LINES else 0
    c.discrepancy.distance = 'none'  # fields have no classes
    c.transfer.stage_1.steps, c.transfer.stage_1.eval_every = 60, 60
    c.transfer.stage_1.optimizer.learning_rate = 2e-3
    c.transfer.stage_2.steps, c.transfer.stage_2.eval_every = 400, 100
    c.transfer.stage_2.optimizer.learning_rate = 4e-3
    c.transfer.observed = (0.0, 1.0)
    c.mona.alpha, c.mona.source_batch = 0.3, 32
    c.orca.source_examples = 500
    c.checkpoint.every = 1000
    return c
