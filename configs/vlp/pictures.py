"""Does pretraining help on real pictures and questions? easy-VQA, and NLVR, whose sentences people wrote.

Paper: Are we pretraining it right? (arXiv 2004.08744), its question at a size for two CPU cores and without generated
tasks. Each a variant:

  easy_vqa  48,248 questions about 5,000 pictures of one coloured shape (the wheel easy-vqa), a tenth for training
  nlvr      is a sentence true of a picture of three boxes; 764 examples for training, sentences by people

Pretraining by masked language modelling on captions of generated scenes (coco), on names of emoji, or on the training
questions of the tasks with their answers (the study's VQA-P).

Pictures: benchmarks/study_pictures.py writes them from the public data sets into the folder `arrays`.
Commands, for each variant V:
  python -m fipjax.compare --config=configs/vlp/pictures.py:V --workdir=runs/pictures/V --seeds=0,1,2 --baseline=none \
    --vary=pretrain.data=none,coco,easy_vqa,arrays/emoji,arrays/nlvr

Two CPU cores: three minutes a run and core. Expect 74 to 79 % on easy-VQA and 55 to 57 % on NLVR, whatever the
pretraining, where linear models have 70 and 57 and the majority 37 and 56: docs/results.md, section 7.
"""
from fipjax import config as config_lib

VARIANTS = ('easy_vqa', 'nlvr')


def get_config(variant: str = 'easy_vqa'):
    """The experiment on one of VARIANTS."""
    if variant not in VARIANTS:
        raise config_lib.UserError(f'variant {variant!r} is unknown; allowed: {", ".join(VARIANTS)}')
    c = config_lib.vlp_base()
    c.name, c.variant = 'pictures', variant
    c.network.layers = 'unroll'
    c.pretrain.steps, c.pretrain.batch_size, c.pretrain.eval_every = 1000, 128, 500
    c.pretrain.optimizer.learning_rate = 3e-3
    c.finetune.steps, c.finetune.batch_size, c.finetune.eval_every = 800, 64, 100
    c.finetune.optimizer.learning_rate, c.finetune.optimizer.warmup_steps = 3e-3, 30
    c.checkpoint.every = 1000
    if variant == 'easy_vqa':
        c.finetune.tasks, c.finetune.fractions = ('easy_vqa',), (0.1,)
    else:
        c.finetune.tasks, c.text.length = ('arrays/nlvr',), 40  # many of its words are spelled
        c.regions.grid = (2, 8)  # its boxes end where cells of 16 pixels do
    return c
