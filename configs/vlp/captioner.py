"""The captioner behind the pretraining set 'ccg': trained on captions of near scenes, it captions pictures of far ones.

Paper: Are we pretraining it right? (arXiv 2004.08744): captions generated for the pictures of Conceptual Captions, by a
captioner trained on COCO, made a better pretraining set for VQA than their own alt texts. How its captioner was made is
not public; this one is ours.
Command: python -m fipjax.caption --config=configs/vlp/captioner.py --workdir=runs/captioner

Two CPU cores: some ten minutes idle, 18 measured on a shared machine. Expect 65 % of the objects that captions name to
be in their picture, and 4 % of those of another picture's ('captions precision').

Variants: scenes; quick, fewer data and steps: everything runs, and the captions are poor.
"""
from fipjax import config as config_lib


def get_config(variant: str = 'scenes'):
    """Variants: scenes, quick."""
    if variant not in ('scenes', 'quick'):
        raise config_lib.UserError(f'variant {variant!r} is unknown; allowed: scenes, quick')
    c = config_lib.caption_base()
    c.variant = variant
    if variant == 'quick':
        c.sets.coco, c.sets.cc = 2000, 1000
        c.caption.steps, c.caption.eval_every, c.checkpoint.every = 300, 100, 100
    return c
