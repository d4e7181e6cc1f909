"""What the configs of a published study have in common: encoders at the papers' sizes, and how epochs become steps.

Compute is bfloat16 with float32 parameters, activations are computed again in the backward pass, batches go through a
device in parts (`micro_batch`), and layers nearer to the input learn more slowly (`layer_decay`; the papers train all
layers at one rate, which is layer_decay=1).
"""
from __future__ import annotations

import math
import pathlib

from ml_collections import ConfigDict

from fipjax import config as config_lib

SWIN_B = 'hf://microsoft/swin-base-patch4-window7-224-in22k'
ROBERTA_BASE = 'hf://FacebookAI/roberta-base'
BERT_BASE = 'hf://google-bert/bert-base-uncased'
LAYER_DECAY = 0.75  # ours
STAGE_1_STEPS = 200  # ours: MoNA's own length is not public
EVAL_VALUES = 2**27  # numbers of x in a batch that is evaluated, at most


def nas_bench_360(name: str, **task) -> ConfigDict:
    """A task of NAS-Bench-360 with MoNA from Swin-B (pictures) or RoBERTa-base (sequences); arguments as `pdebench`."""
    return _benchmark('nas_bench_360', name, **task)


def pdebench(name: str, **task) -> ConfigDict:
    """A task of PDEBench, as ORCA poses it, with MoNA from Swin-B (fields) or RoBERTa-base (lines).

    Args:
      name: of the task, which is to be prepared (fipjax.data.builders.prepare) in data/.
      shape: of one x, channels last: (H, W, C) or (L, C).
      examples: of the training split.
      exact: whether `examples` is their number and not only about as many; then data that have others are refused.
      epochs, warmup_epochs: of fine-tuning, stage 2.
      batch_size: rows at a time; `accumulate` of them make an update.
      optimizer: kind, learning_rate, weight_decay and clip.
      classes: of classes or labels; 0 where y is a field of `target_shape`.
      multilabel: whether an example has several labels.
      chunk: samples of a token of a sequence; 0 chooses.
    """
    return _benchmark('pdebench', name, **task)


def _benchmark(family, name, *, shape, examples, epochs, batch_size, accumulate, optimizer, warmup_epochs, exact=True,
               classes=0, target_shape=(), multilabel=False, chunk=0):
    c = config_lib.transfer_base()
    c.name, c.compute, c.parallel.mode = f'{family}_{name}', 'bfloat16', 'pmap'
    pictures = len(shape) == 3
    c.encoder.update({'family': 'swin' if pictures else 'bert', 'variant': 'base'})
    c.init.checkpoint = SWIN_B if pictures else ROBERTA_BASE
    if pictures:
        c.source.path, c.source.examples = 'arrays/cifar10.npz', 5000
        c.source.expected.update({'shape': (32, 32, 3), 'classes': 10})
    else:
        c.source.update({'data': 'wheel', 'name': 'chatterbot', 'tokenizer': ROBERTA_BASE, 'length': 32})
        c.source.expected.update({'shape': (32,), 'classes': 12, 'vocab': 50265, 'lengths': True})
    c.target.update({'data': 'tfds', 'name': f'{family}/{name}', 'data_dir': 'data'})
    c.target.kind = '2d' if pictures else '1d'
    c.target.expected.update({'shape': shape, 'classes': classes, 'target_shape': target_shape,
                              'examples': examples if exact else 0})
    c.target.output = 'multilabel' if multilabel else 'classes' if classes else 'dense'
    c.embedder.chunk = chunk
    c.discrepancy.distance = 'none'  # it needs as many classes in the source
    rows = batch_size * accumulate
    epoch = math.ceil(examples / rows)
    for stage, steps, warmup, every in ((c.transfer.stage_1, STAGE_1_STEPS, STAGE_1_STEPS // 10, STAGE_1_STEPS),
                                        (c.transfer.stage_2, epochs * epoch, warmup_epochs * epoch, epoch)):
        stage.update({'steps': steps, 'eval_every': every, 'batch_size': rows})
        stage.optimizer.update({**optimizer, 'warmup_steps': warmup, 'layer_decay': LAYER_DECAY})
    c.mona.source_batch = 32
    c.eval_batch_size = min(256, 2 ** int(math.log2(EVAL_VALUES / math.prod(shape))))
    if accumulate > 1:  # of stage 1 it is MoNA's own key; with 8 rows four devices still have enough of the source
        c.mona.micro_batch, c.transfer.stage_2.micro_batch = min(batch_size, 8), batch_size
    c.checkpoint.every = epoch
    return c


def beside(file: str, variant: str) -> ConfigDict:
    """The config of the file VARIANT.py in the folder of a config file, with the variant's name.

    Raises:
      UserError: there is no such file.
    """
    folder = pathlib.Path(file).parent
    names = sorted(path.stem for path in folder.glob('*.py') if path != pathlib.Path(file))
    if variant not in names:
        raise config_lib.UserError(f'variant {variant!r} is unknown; allowed: {", ".join(names)}')
    c = config_lib.load(str(folder / f'{variant}.py'), complete=False)
    c.variant = variant
    return c


def vision_and_language(name: str, variant: str, *, answers: int, output: str, examples: int, length: int,
                        warmup_steps: int, schedule: int) -> ConfigDict:
    """A task of 'Are we pretraining it right?' at the study's size: 11,000 updates of pretraining, then fine-tuning.

    Args:
      name: of the task, a TFDS data set.
      variant: '<model>_<pretraining set>', e.g. visualbert_none; the objective is the one that the model has in the
        public configs, MLM of VisualBERT and MMM of ViLBERT.
      answers: of the task; `output` answers, classes or labels, as in config.expected.
      examples: of training.
      length: most word pieces of a text.
      warmup_steps, schedule: of fine-tuning.
    """
    model, _, data = variant.partition('_')
    if model not in ('visualbert', 'vilbert') or data not in PRETRAINING:
        raise config_lib.UserError(f'variant {variant!r} is unknown; allowed: visualbert_ or vilbert_ and one of '
                                   f'{", ".join(PRETRAINING)}')
    c = config_lib.vlp_base()
    c.name, c.variant, c.compute = f'paper_{name}', variant, 'bfloat16'
    c.model, c.network.variant, c.network.remat = model, 'base', True
    c.init.checkpoint = c.text.tokenizer = BERT_BASE
    c.text.length, c.regions.maximum = length, 100
    c.expected.update({'features': 2048, 'regions': 100, 'detector_classes': 1601, 'output': output, 'answers': answers,
                       'examples': examples, 'pretrain_examples': PRETRAINING[data] or 0, 'vocab': 30522})
    c.pretrain.data = 'none' if data == 'none' else f'tfds:{data}'
    c.pretrain.objective = 'mlm' if model == 'visualbert' else 'mmm'
    c.pretrain.tied = model == 'visualbert'  # as MMF has them
    c.finetune.tasks = (f'tfds:{name}',)
    for stage, steps, warmup in ((c.pretrain, 11000, 1000), (c.finetune, schedule, warmup_steps)):
        stage.update({'steps': steps, 'batch_size': 480, 'micro_batch': 60, 'eval_every': 1000})
        stage.optimizer.update({'learning_rate': 5e-5, 'weight_decay': 0.01, 'warmup_steps': warmup, 'clip': 0.0})
    c.finetune.optimizer.layer_decay = LAYER_DECAY
    c.checkpoint.every = 1000
    return c


# Pretraining sets of the study and how many texts of training they have (of VQA 2 each of 443,757 questions with each
# of ten answers); None: not known exactly.
PRETRAINING = {'none': None, 'coco_captions': None, 'vqa2_masked': 4437570, 'conceptual_captions': None}
