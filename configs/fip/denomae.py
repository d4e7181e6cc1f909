"""FIP on the signals of the public DenoMAE generator, kept with its quirks for comparison.

Two pairs of its ten classes are the same signals under two names, so no classifier exceeds 80 % on average; tables and
reports of this config say so. The generator is described in fipjax/data/denomae.py. Use configs/fip/constellation.py
for everything else.

Paper: DenoMAE, arXiv 2501.11538; FIP, arXiv 2601.20884 (its settings are not public; these are ours).
Command: python -m fipjax.main --config=configs/fip/denomae.py --workdir=runs/denomae
Variants: those of configs/fip/constellation.py, e.g. configs/fip/denomae.py:uniform
"""
import pathlib

from fipjax import config as config_lib


def get_config(variant: str = 'fip'):
    """configs/fip/constellation.py with the other generator; the same variants."""
    c = config_lib.load(str(pathlib.Path(__file__).with_name('constellation.py')), variant)
    c.name = 'denomae'
    c.data.signal.mode, c.data.signal.classes = 'denomae', ()
    return c
