"""What config values may be: every check that needs no data and no compilation, with messages for the user."""
from __future__ import annotations

import math

from ml_collections import ConfigDict

from fipjax import config as config_lib
from fipjax import optim
from fipjax.algorithms.finetune import MODES as FINETUNE_MODES
from fipjax.algorithms.importance import METHODS
from fipjax.config import get
from fipjax.data.sources import modalities_of
from fipjax.errors import UserError
from fipjax.parallel import MODES as PARALLEL_MODES

WINGS = ('fip', 'mona', 'vlp', 'caption')
MASKINGS = ('fixed', 'dirichlet')
WEIGHTS = ('prior', 'uniform', 'estimated')
ALGORITHMS = ('fip', 'none')
AT_LEAST_ONE = ('pretrain.batch_size', 'pretrain.steps', 'pretrain.eval_every', 'finetune.batch_size', 'finetune.steps',
                'finetune.eval_every', 'finetune.hidden', 'checkpoint.every', 'checkpoint.keep', 'log_every',
                'eval_batch_size', 'model.dim', 'model.depth', 'model.heads', 'model.mlp_ratio', 'model.decoder_dim',
                'model.decoder_heads', 'data.threads', 'pretrain.fip.downstream.every')
NOT_NEGATIVE = ('pretrain.fip.consistency', 'pretrain.optimizer.weight_decay', 'pretrain.optimizer.warmup_steps',
                'pretrain.optimizer.clip', 'finetune.optimizer.weight_decay', 'finetune.optimizer.warmup_steps',
                'finetune.optimizer.clip', 'seed', 'data.seed', 'pretrain.fip.downstream.labels_per_class',
                'pretrain.fip.downstream.floor', 'data.expected.classes', 'data.expected.examples')
POSITIVE = ('pretrain.optimizer.learning_rate', 'finetune.optimizer.learning_rate', 'pretrain.fip.dirichlet_alpha',
            'device_memory', *(f'pretrain.fip.downstream.{k}' for k in ('rate', 'temperature', 'penalty', 'alpha')))


def validate(config: ConfigDict, devices: int = 1) -> None:
    """Checks a whole config.

    Args:
      config: as from `fipjax.config.base`.
      devices: number of devices that share a batch.

    Raises:
      UserError: names the key, the value and what is allowed.
    """
    require('wing', config.get('wing'), config.get('wing') in WINGS, ' or '.join(WINGS))
    _known_keys(config)
    if config.wing == 'mona':
        from fipjax import validation_transfer  # here: the other wing's models need not be imported
        return validation_transfer.check(config, devices)
    if config.wing == 'vlp':
        from fipjax import validation_vlp
        return validation_vlp.check(config, devices)
    if config.wing == 'caption':
        from fipjax import validation_caption
        return validation_caption.check(config, devices)
    ranges(config, AT_LEAST_ONE, NOT_NEGATIVE, POSITIVE,
           {'parallel.mode': PARALLEL_MODES, 'pretrain.algorithm': ALGORITHMS, 'finetune.mode': FINETUNE_MODES,
            'pretrain.fip.masking': MASKINGS, 'pretrain.fip.weights': WEIGHTS,
            'pretrain.fip.downstream.method': METHODS,
            'pretrain.optimizer.kind': optim.KINDS, 'finetune.optimizer.kind': optim.KINDS,
            'data.source': ('constellation', 'arrays', 'wheel', 'tfds', 'recorded')})
    divisible(config, ('pretrain.batch_size', 'finetune.batch_size', 'eval_batch_size'), devices)
    different_labels(config, 'finetune.labels_per_class')
    model = config.model
    for key, width, heads in (('model.dim', model.dim, model.heads),
                              ('model.decoder_dim', model.decoder_dim, model.decoder_heads)):
        require(key, width, width % heads == 0 and width % 4 == 0, f'divisible by 4 and by its {heads} heads')
    _fip(config)


def ranges(config, at_least_one, not_negative, positive, choices) -> None:
    """Checks keys by group: integers of at least 1, numbers from 0, numbers above 0, words of a list (key -> words)."""
    for key in at_least_one:
        require(key, get(config, key), get(config, key) >= 1, 'an integer of at least 1')
    for key in not_negative:
        require(key, get(config, key), get(config, key) >= 0 and math.isfinite(get(config, key)), '0 or more')
    for key in positive:
        require(key, get(config, key), 0 < get(config, key) < math.inf, 'more than 0')
    for key, allowed in choices.items():
        require(key, get(config, key), get(config, key) in allowed, ' or '.join(allowed))


def divisible(config, keys, devices: int) -> None:
    """Checks that batches at `keys` can be shared by the devices."""
    for key in keys:
        require(key, get(config, key), get(config, key) % devices == 0, f'a multiple of the {devices} devices')


def micro_batch(config, key, batches, devices: int) -> None:
    """Checks the rows of a device at a time, at `key`, that batches of the sizes at the keys `batches` are cut into."""
    micro = get(config, key)
    require(key, micro, micro >= 0, '0 or more')
    if micro:
        require('parallel.mode', config.parallel.mode, devices == 1 or config.parallel.mode == 'pmap',
                f"'pmap' with {key} on several devices: 'jit' would not share the rows of a micro-batch")
        for batch in batches:
            n = get(config, batch) // devices
            require(key, micro, n % micro == 0, f'a divisor of {batch} on one device, {n}')


def layer_decay(config, keys) -> None:
    """Checks decays of the learning rate from layer to layer at `keys`."""
    for key in keys:
        require(key, get(config, key), 0 < get(config, key) <= 1, 'in (0, 1]')


def different_labels(config, key) -> None:
    """Checks a list of numbers of labels a class."""
    labels = get(config, key)
    require(key, labels, len(labels) > 0 and len(set(labels)) == len(labels)
            and all(isinstance(n, int) and n >= 0 for n in labels), 'different integers, 0 for all labels')


def _known_keys(config):
    if config.wing == 'fip':
        if 'data' not in config or 'modalities' not in config.data:
            raise UserError('the config has no data.modalities; start from fipjax.config.base')
        modalities_of(config.data)  # an empty group or a malformed modality
        template = config_lib.base(config.data.modalities.to_dict())
    else:
        template = {'mona': config_lib.transfer_base, 'vlp': config_lib.vlp_base,
                    'caption': config_lib.caption_base}[config.wing]()
    known, found = set(config_lib.keys(template)), set(config_lib.keys(config))
    for key in sorted(found - known):
        raise UserError(f'config key {key!r} is unknown; known keys in its group: '
                        f'{", ".join(sorted(k for k in known if k.rpartition(".")[0] == key.rpartition(".")[0]))}')
    for key in sorted(known - found):
        raise UserError(f'config key {key!r} is missing; start from fipjax.config.base, transfer_base or vlp_base')


def _fip(config):
    modalities, f = modalities_of(config.data), config.pretrain.fip
    names = ', '.join(modalities)
    require('pretrain.fip.target', f.target, f.target in modalities, f'one of the modalities {names}')
    used = config.pretrain.modalities or tuple(modalities)
    for m in used:
        require('pretrain.modalities', m, m in modalities, f'some of the modalities {names}')
    require('pretrain.modalities', tuple(used), f.target in used and len(set(used)) == len(used),
             f'a list with the target {f.target}, each once')
    checks = {'mask_ratio': (lambda v: 0 <= v < 1, 'in [0, 1)'),
              'loss_weight': (lambda v: 0 <= v < math.inf, '0 or more'),
              'decoder_depth': (lambda v: v >= 1, 'an integer of at least 1'),
              'attention_bias': (lambda v: 0 < v < math.inf, 'more than 0')}
    for setting, (allowed, text) in checks.items():
        for name, value in f[setting].items():
            if value is not None:
                require(f'pretrain.fip.{setting}.{name}', value, allowed(value), text)
    weights = config_lib.by_modality(f.loss_weight, used, f.target)
    if f.weights == 'prior':
        require('pretrain.fip.loss_weight', weights, any(w > 0 for w in weights.values()),
                 'at least one weight above 0')
    floor = f.downstream.floor
    require('pretrain.fip.downstream.floor', floor, floor < 1, 'in [0, 1); the mean weight is 1')
    if f.weights == 'estimated':
        require('pretrain.fip.weights', f.weights, len(used) > 1, 'prior or uniform, as pretraining sees one modality')
    if config.pretrain.algorithm == 'fip':
        ratios = config_lib.by_modality(f.mask_ratio, used, f.target)
        masked = [m for m in used if int(ratios[m] * modalities[m].tokens + 0.5) > 0
                  and (f.weights != 'prior' or weights[m] > 0)]
        require('pretrain.fip.mask_ratio', ratios, bool(masked), 'such that a modality with weight has a masked token')


def require(key, value, holds, allowed) -> None:
    """Raises UserError with key, value and what is allowed unless `holds`."""
    if not holds:
        raise UserError(f'{key} is {value!r}; allowed: {allowed}')
