"""What config values of the wing 'caption' may be."""
from __future__ import annotations

from ml_collections import ConfigDict

from fipjax import optim
from fipjax.data.vl_sets import is_own
from fipjax.models import captioner
from fipjax.parallel import MODES as PARALLEL_MODES
from fipjax.validation import divisible, ranges, require
from fipjax.validation_vlp import check_common

BATCHES = ('caption.batch_size', 'eval_batch_size')
AT_LEAST_ONE = (*BATCHES, 'caption.steps', 'caption.eval_every', 'threads', 'checkpoint.every', 'checkpoint.keep',
                'log_every', 'sets.coco', 'sets.cc', 'sets.vqa')
NOT_NEGATIVE = ('seed', 'sets.seed', 'caption.temperature',
                *(f'caption.optimizer.{k}' for k in ('weight_decay', 'warmup_steps', 'clip')))
CHOICES = {'parallel.mode': PARALLEL_MODES, 'caption.optimizer.kind': optim.KINDS,
           'regions.features': ('crops', 'frozen')}
SETS = {'train': ('coco', 'cc'), 'pictures': ('coco', 'cc', 'vqa', 'easy_vqa')}


def check(config: ConfigDict, devices: int = 1) -> None:
    """Checks a config of fipjax.config.caption_base whose keys are the known ones.

    Args:
      config: of the wing 'caption'.
      devices: number of devices that share a batch.

    Raises:
      UserError: names the key, the value and what is allowed.
    """
    check_common(config)
    ranges(config, AT_LEAST_ONE, NOT_NEGATIVE, ('device_memory', 'caption.optimizer.learning_rate'), CHOICES)
    divisible(config, BATCHES, devices)
    for key, names in SETS.items():
        value = config.caption[key]
        require(f'caption.{key}', value, value in names or is_own(value),
                f'{", ".join(names)}, tfds:NAME or a folder')
    captioner.sizes_of(config.network)
