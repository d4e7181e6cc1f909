"""What config values of the wing 'mona' may be."""
from __future__ import annotations

from ml_collections import ConfigDict

from fipjax import optim
from fipjax.algorithms.mona import META_GRADIENTS, PREDICTORS
from fipjax.algorithms.transfer import METHODS
from fipjax.analysis.discrepancy import DISTANCES
from fipjax.models import encoders, stack
from fipjax.parallel import MODES as PARALLEL_MODES
from fipjax.validation import different_labels, divisible, layer_decay, micro_batch, ranges, require

STAGES = ('source', 'transfer.stage_1', 'transfer.stage_2')
BATCHES = (*(f'{s}.batch_size' for s in STAGES), 'eval_batch_size', 'mona.source_batch')
AT_LEAST_ONE = (*BATCHES, *(f'{s}.{k}' for s in STAGES for k in ('steps', 'eval_every')), 'threads',
                'checkpoint.every', 'checkpoint.keep', 'log_every', 'orca.source_examples', 'orca.per_class',
                'probe.train_examples', 'probe.test_examples')
NOT_NEGATIVE = ('seed', 'source.seed', 'target.seed', 'source.model_seed', 'source.examples', 'target.examples',
                *(f'{side}.expected.{k}' for side in ('source', 'target') for k in ('classes', 'examples')),
                'embedder.chunk', 'mona.lambda_', 'mona.alpha',
                *(f'{s}.optimizer.{k}' for s in STAGES for k in ('weight_decay', 'warmup_steps', 'clip')))
POSITIVE = ('device_memory', *(f'{s}.optimizer.learning_rate' for s in STAGES), 'orca.entropic')
DATA = ('arrays', 'tfds', 'wheel')
CHOICES = {'parallel.mode': PARALLEL_MODES, 'compute': stack.COMPUTE, 'transfer.method': METHODS,
           'mona.meta_gradient': META_GRADIENTS, 'mona.predictor': PREDICTORS,
           'orca.label_distance': ('gaussian', 'exact'),
           'discrepancy.distance': (*DISTANCES, 'none'), **{f'{s}.optimizer.kind': optim.KINDS for s in STAGES},
           **{f'{side}.{key}': allowed for side in ('source', 'target')
              for key, allowed in (('data', DATA), ('kind', ('', '1d', '2d', 'text')), ('view', ('raw', 'spectrogram')),
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
    layer_decay(config, (f'{s}.optimizer.layer_decay' for s in STAGES))
    different_labels(config, 'transfer.labels_per_class')
    require('orca.clusters', config.orca.clusters, config.orca.clusters >= 2, 'an integer of at least 2')
    for rate in config.transfer.stage_2.learning_rates:
        require('transfer.stage_2.learning_rates', rate, isinstance(rate, float | int) and rate > 0, 'numbers above 0')
    shares = config.transfer.observed
    require('transfer.observed', shares, len(shares) > 0 and all(0 <= s <= 1 for s in shares)
            and list(shares) == sorted(set(shares)), 'rising numbers from 0 to 1')
    require('mona.source_batch', config.mona.source_batch, config.mona.source_batch >= 2, 'at least 2, for pairs')
    micro, form = config.mona.micro_batch, config.mona.meta_gradient
    require('mona.micro_batch', micro, micro == 0 or form == 'mixed', "0 unless mona.meta_gradient is 'mixed'")
    require('mona.meta_gradient', form, (form, config.compute) != ('finite_difference', 'bfloat16'),
            "another one with compute='bfloat16', which rounds away the differences")
    micro_batch(config, 'mona.micro_batch', ('transfer.stage_1.batch_size', 'mona.source_batch'), devices)
    for stage in STAGES:
        micro_batch(config, f'{stage}.micro_batch', (f'{stage}.batch_size',), devices)
    for side in ('source', 'target'):
        require(f'{side}.path', config[side].path, not config[side].path or config[side].data == 'arrays',
                f"empty where {side}.data is {config[side].data!r}, or {side}.data='arrays'")
        require(f'{side}.length', config[side].length, config[side].length >= 3, 'at least 3, [CLS], [SEP] and a piece')
        for key in ('shape', 'target_shape'):
            value = config[side].expected[key]
            require(f'{side}.expected.{key}', value, all(isinstance(n, int) and n >= 1 for n in value),
                    'integers of at least 1, or none')
        for key, value in config[side].spectrogram.items():
            require(f'{side}.spectrogram.{key}', value, value >= 1, 'an integer of at least 1')
    encoders.build(config.encoder)
    require('init.sha256', config.init.sha256, bool(config.init.sha256 or config.plan) or not config.init.checkpoint,
            'what fipjax.models.published.complete(config) writes down, along with the sizes of the encoder')
