"""What config values of the wing 'vlp' may be."""
from __future__ import annotations

from ml_collections import ConfigDict

from fipjax import optim
from fipjax.algorithms import vlp
from fipjax.data.vl import INPUTS, OUTPUTS
from fipjax.data.vl_sets import PRETRAINING, TASKS, is_own
from fipjax.models import stack, vl
from fipjax.parallel import MODES as PARALLEL_MODES
from fipjax.validation import divisible, layer_decay, micro_batch, ranges, require

STAGES = ('pretrain', 'finetune')
BATCHES = (*(f'{s}.batch_size' for s in STAGES), 'eval_batch_size')
AT_LEAST_ONE = (*BATCHES, *(f'{s}.{k}' for s in STAGES for k in ('steps', 'eval_every')), 'threads',
                'checkpoint.every', 'checkpoint.keep', 'log_every', 'text.steps',
                *(f'sets.{k}' for k in ('coco', 'cc', 'vqa', 'train', 'validation', 'test')))
NOT_NEGATIVE = ('seed', 'sets.seed', 'network.width', 'network.depth', 'network.heads',
                *(f'{s}.optimizer.{k}' for s in STAGES for k in ('weight_decay', 'warmup_steps', 'clip')))
POSITIVE = ('device_memory', *(f'{s}.optimizer.learning_rate' for s in STAGES))
CHOICES = {'parallel.mode': PARALLEL_MODES, 'compute': stack.COMPUTE, 'model': tuple(vl.VARIANTS),
           'text.start': ('', 'texts'),
           'regions.features': ('crops', 'frozen'), **{f'{s}.optimizer.kind': optim.KINDS for s in STAGES},
           'pretrain.objective': vlp.OBJECTIVES, 'pretrain.region_loss': vlp.REGION_LOSSES,
           'pretrain.inputs': ('both', 'text'), 'finetune.mode': vlp.MODES, 'finetune.inputs': INPUTS}


def check(config: ConfigDict, devices: int = 1) -> None:
    """Checks a config of fipjax.config.vlp_base whose keys are the known ones.

    Args:
      config: of the wing 'vlp'.
      devices: number of devices that share a batch.

    Raises:
      UserError: names the key, the value and what is allowed.
    """
    check_common(config)
    ranges(config, AT_LEAST_ONE, NOT_NEGATIVE, POSITIVE, CHOICES)
    divisible(config, BATCHES, devices)
    layer_decay(config, (f'{s}.optimizer.layer_decay' for s in STAGES))
    for stage in STAGES:
        micro_batch(config, f'{stage}.micro_batch', (f'{stage}.batch_size',), devices)
    p, f = config.pretrain, config.finetune
    require('pretrain.data', p.data, p.data in ('none', *PRETRAINING) or is_own(p.data),
            f'none, {", ".join(PRETRAINING)}, tfds:NAME or a folder')
    require('pretrain.share', p.share, 0 < p.share <= 1, 'in (0, 1]')
    require('finetune.tasks', f.tasks, len(f.tasks) > 0 and len(set(f.tasks)) == len(f.tasks)
            and all(t in TASKS or is_own(t) for t in f.tasks), f'some of {", ".join(TASKS)}, tfds:NAME or folders')
    require('finetune.fractions', f.fractions, len(f.fractions) > 0 and len(set(f.fractions)) == len(f.fractions)
            and all(0 < x <= 1 for x in f.fractions), 'different numbers in (0, 1]')
    for rate in f.learning_rates:
        require('finetune.learning_rates', rate, isinstance(rate, float | int) and rate > 0, 'numbers above 0')
    mmm = p.objective == 'mmm' and p.data != 'none'
    require('pretrain.region_loss', p.region_loss, not (mmm and p.region_loss == 'kl' and p.data == 'easy_vqa'),
            "'regression' with easy_vqa, whose regions are cells of a grid: no detector says their classes")
    given = bool(config.init.checkpoint)
    require('text.start', config.text.start, not (given and config.text.start),
            "'' with init.checkpoint, which has words of its own")
    require('init.sha256', config.init.sha256, bool(config.init.sha256 or config.plan) or not given,
            'what fipjax.models.published_vl.complete(config) writes down, along with the sizes of the model')


def check_common(config: ConfigDict) -> None:
    """Checks what the wing shares with the captioner: text, regions and generated sets."""
    grid, most = config.regions.grid, config.regions.maximum
    for key, value in config.expected.items():
        require(f'expected.{key}', value, value in OUTPUTS if key == 'output' else value >= 0,
                ' or '.join(OUTPUTS) if key == 'output' else '0 or more')
    require('text.length', config.text.length, config.text.length >= 4, 'at least 4')
    require('regions.grid', grid, len(grid) == 2 and all(isinstance(n, int) and n >= 1 for n in grid),
            'two integers of at least 1')
    require('regions.maximum', most, most >= 2, 'an integer of at least 2')
    require('sets.confusion', config.sets.confusion, 0 <= config.sets.confusion <= 0.8, 'in [0, 0.8]')
