"""Does pretraining help on easy-VQA? A small VisualBERT, pretrained on captions of scenes, on questions, or not at all.

Paper: Are we pretraining it right? (arXiv 2004.08744), at toy size. Task: easy-VQA, 48,248 questions about 5,000
pictures of one coloured shape (the wheel easy-vqa); pictures are cut into a grid of crops. Pretraining by masked
language modelling on generated scenes with captions (coco) or on the task's own training questions with their answers
(easy_vqa, the study's VQA-P); fine-tuning on a tenth of the training questions.

Command: bash launch/local.sh --config=configs/vlp/quick.py --workdir=runs/vlp_quick
     or: python -m fipjax.main --config=configs/vlp/quick.py --workdir=runs/vlp_quick

Two CPU cores: four minutes. Expect 79 % without pretraining and 75 % with either, where text alone gives 67: one seed
shows that everything runs, and docs/results.md has seeds and controls.
"""
from fipjax import config as config_lib


def get_config():
    """The three runs."""
    c = config_lib.vlp_base()
    c.name = 'vlp_quick'
    c.network.layers = 'unroll'
    c.sets.coco = 4000
    c.pretrain.steps, c.pretrain.batch_size, c.pretrain.eval_every = 500, 128, 250
    c.pretrain.optimizer.learning_rate = 3e-3
    c.finetune.tasks = ('easy_vqa',)
    c.finetune.fractions = (0.1,)
    c.finetune.steps, c.finetune.batch_size, c.finetune.eval_every = 800, 64, 100
    c.finetune.optimizer.learning_rate, c.finetune.optimizer.warmup_steps = 3e-3, 30
    c.compare.vary = 'pretrain.data=none,coco,easy_vqa'
    c.compare.seeds, c.compare.baseline = (0,), 'none'
    return c
