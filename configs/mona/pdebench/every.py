"""All tasks of this folder as variants of one config, for one comparison over tasks and methods.

Paper: Modality Knowledge Alignment, MoNA, ICML 2024 (arXiv 2406.18864), table of PDEBench. Each variant is the
config of that name beside this file, whose docstring says what the task needs and what is known of its numbers.

  python -m fipjax.compare --config=configs/mona/pdebench/every.py --workdir=runs/pdebench --seeds=0,1,2 \
    --vary=variant=advection,burgers,darcy,transfer.method=scratch,finetune,embedder,orca,mona --baseline=finetune

prints the table with ranks, trivial baselines and published numbers, and writes it to benchmark.md in the workdir. Not
run yet by us: no time and no number to expect.
"""
from fipjax import recipes


def get_config(variant: str = 'advection'):
    """The experiment on one of the tasks."""
    return recipes.beside(__file__, variant)
