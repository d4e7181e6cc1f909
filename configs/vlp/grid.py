"""The study of docs/results.md: which pretraining fits which of four vision-language tasks, on generated scenes.

Paper: Are we pretraining it right? (arXiv 2004.08744), at a size for two CPU cores: VisualBERT and ViLBERT of width 32,
MLM or MMM, pretraining sets in the image of COCO, Conceptual Captions (CC), VQA questions with answers (VQA-P) and
captions generated for the pictures of CC (CCG); tasks in the image of VQA 2, VizWiz, SNLI-VE and MM-IMDB. Every model
starts from one that knows the language of the texts (text.start), as the study's start from BERT; every pretraining
has the same number of updates. Rates and lengths are ours.

Commands (the captioner first, for the set ccg; without pretraining there is no objective, hence two lines):
  python -m fipjax.caption --config=configs/vlp/captioner.py --workdir=runs/captioner
  V=model=visualbert,vilbert,finetune.mode=full,frozen
  python -m fipjax.compare --config=configs/vlp/grid.py --workdir=runs/grid --seeds=0,1,2 \
    --vary=pretrain.data=none,pretrain.objective=mlm,$V
  python -m fipjax.compare --config=configs/vlp/grid.py --workdir=runs/grid --seeds=0,1,2 \
    --vary=pretrain.data=coco,cc,vqa,ccg,pretrain.objective=mlm,mmm,$V --baseline=coco_mlm_visualbert_full

Two CPU cores: four minutes a run and core: half an hour for VisualBERT, full, MLM with five sets and three seeds, some
four hours for everything above with two processes on one workdir (start the command twice). Expect 50 to 55 % on vqa
where pretraining fits, 46 to 48 % without, 40 to 50 % with cc: docs/results.md, section 7.

Variants change one thing and are compared over pretrain.data with the same command: 'grid'; 'tenth', a tenth of each
task's examples.
"""
from fipjax import config as config_lib

VARIANTS = ('grid', 'tenth')


def get_config(variant: str = 'grid'):
    """The experiment for one of VARIANTS."""
    if variant not in VARIANTS:
        raise config_lib.UserError(f'variant {variant!r} is unknown; allowed: {", ".join(VARIANTS)}')
    c = config_lib.vlp_base()
    c.name, c.variant = 'grid', variant
    c.network.layers = 'unroll'
    c.text.length, c.text.start, c.text.steps = 20, 'texts', 1000
    c.pretrain.steps, c.pretrain.batch_size, c.pretrain.eval_every = 3000, 128, 1000
    c.pretrain.optimizer.learning_rate = 3e-3
    c.finetune.tasks = ('vqa', 'vizwiz', 'entailment', 'genres')
    c.finetune.steps, c.finetune.batch_size, c.finetune.eval_every = 600, 64, 100
    c.finetune.optimizer.learning_rate, c.finetune.optimizer.warmup_steps = 3e-3, 50
    c.checkpoint.every = 1000
    if variant == 'tenth':
        c.finetune.fractions = (0.1,)
    return c
