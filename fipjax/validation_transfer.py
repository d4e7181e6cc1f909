"""What config values of the wing 'mona' may be."""
from __future__ import annotations

from ml_collections import ConfigDict

from fipjax.algorithms.mona import META_GRADIENTS, PREDICTORS
from fipjax.algorithms.transfer import METHODS
from fipjax.analysis.discrepancy import DISTANCES
from fipjax.models import encoders
from fipjax.parallel import MODES as PARALLEL_MODES
from fipjax.validation import different_labels, divisible, ranges, require

STAGES = ('source', 'transfer.stage_1', 'transfer.stage_2')
BATCHES = (*(f'{s}.batch_size' for s in STAGES), 'eval_batch_size', 'mona.source_batch')
AT_LEAST_ONE = (*BATCHES, *(f'{s}.{k}' for s in STAGES for k in ('steps', 'eval_every')), 'threads',
                'checkpoint.every', 'checkpoint.keep', 'log_every', 'orca.source_examples', 'orca.per_class',
                'probe.train_examples', 'probe.test_examples')
NOT_NEGATIVE = ('seed', 'source.seed', 'target.seed', 'source.model_seed', 'source.examples', 'target.examples',
                'embedder.chunk', 'mona.lambda_', 'mona.alpha', 'mona.micro_batch',
                *(f'{s}.optimizer.{k}' for s in STAGES for k in ('weight_decay', 'warmup_steps', 'clip')))
POSITIVE = (*(f'{s}.optimizer.learning_rate' for s in STAGES), 'orca.entropic')
DATA = ('arrays', 'tfds', 'wheel')
CHOICES = {'parallel.mode': PARALLEL_MODES, 'transfer.method': METHODS, 'mona.meta_gradient': META_GRADIENTS,
           'mona.predictor': PREDICTORS, 'orca.label_distance': ('gaussian', 'exact'),
           'discrepancy.distance': (*DISTANCES, 'none'),
           **{f'{side}.{key}': allowed for side in ('source', 'target')
              for key, allowed in (('data', DATA), ('kind', ('', '1d', '2d')), ('view', ('raw', 'spectrogram')),
                                   ('output', ('', 'classes', 'multilabel', 'dense')))}}


def check(config: ConfigDict, devices: int = 1) -> None:
    """Checks a config of fipjax.config.transfer_base whose keys are the known ones.

    Args:
      config: of the wing 'mona'.
      devices: number of devices that share a batch.

    Raises:
      UserError: names the key, the value and what is allowed.
    """
    ranges(config, AT_LEAST_ONE, NOT_NEGATIVE, POSITIVE, CHOICES)
    divisible(config, BATCHES, devices)
    different_labels(config, 'transfer.labels_per_class')
    require('orca.clusters', config.orca.clusters, config.orca.clusters >= 2, 'an integer of at least 2')
    for rate in config.transfer.stage_2.learning_rates:
        require('transfer.stage_2.learning_rates', rate, isinstance(rate, float | int) and rate > 0, 'numbers above 0')
    shares = config.transfer.observed
    require('transfer.observed', shares, len(shares) > 0 and all(0 <= s <= 1 for s in shares)
            and list(shares) == sorted(set(shares)), 'rising numbers from 0 to 1')
    require('mona.source_batch', config.mona.source_batch, config.mona.source_batch >= 2, 'at least 2, for pairs')
    micro = config.mona.micro_batch
    if micro:
        require('mona.micro_batch', micro, config.mona.meta_gradient == 'mixed',
                "0 unless mona.meta_gradient is 'mixed'")
        require('parallel.mode', config.parallel.mode, devices == 1 or config.parallel.mode == 'pmap',
                "'pmap' with mona.micro_batch on several devices: 'jit' would not share the rows of a micro-batch")
        for key, n in (('transfer.stage_1.batch_size', config.transfer.stage_1.batch_size),
                       ('mona.source_batch', config.mona.source_batch)):
            require('mona.micro_batch', micro, n // devices % micro == 0, f'a divisor of {key} on one device, '
                                                                          f'{n // devices}')
    for side in ('source', 'target'):
        for key, value in config[side].spectrogram.items():
            require(f'{side}.spectrogram.{key}', value, value >= 1, 'an integer of at least 1')
    encoders.build(config.encoder)
