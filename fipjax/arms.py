"""Arms of a study of estimated weights: what a config changes for each, so that all configs mean the same by a name.

    uniform             all weights 1
    prior               the user's own guess: the target counts three times
    cosine, ...         weights estimated by a method of fipjax.algorithms.importance, with labels or without
    cosine_shuffled,..  the control of a method with labels: its labels in random order
    target_only         pretraining on the target alone
    none                no pretraining
"""
from __future__ import annotations

from ml_collections import ConfigDict

from fipjax.algorithms.importance import LABELLED, METHODS
from fipjax.errors import UserError

SHUFFLED = tuple(f'{method}_shuffled' for method in LABELLED)
ARMS = ('uniform', 'prior', *METHODS, *SHUFFLED, 'target_only', 'none')
PRIOR = 3.0  # weight of the target, that of configs/fip/constellation.py


def apply(config: ConfigDict, arm: str) -> ConfigDict:
    """Changes `config` into that arm and returns it; the target is pretrain.fip.target, '' if it is given later.

    Raises:
      UserError: no such arm.
    """
    if arm not in ARMS:
        raise UserError(f'variant {arm!r} is unknown; allowed: {", ".join(ARMS)}')
    pretrain, fip = config.pretrain, config.pretrain.fip
    config.variant = arm
    if arm in ('uniform', 'target_only'):
        fip.weights = 'uniform'
    if arm == 'prior':
        fip.loss_weight.target = PRIOR
    method, _, shuffled = arm.partition('_shuffled')
    if method in METHODS:
        fip.weights, fip.downstream.method, fip.downstream.shuffled = 'estimated', method, arm in SHUFFLED
    if arm == 'target_only':
        pretrain.modalities = (fip.target or 'target',)  # see fipjax.data.completion
    if arm == 'none':
        pretrain.algorithm = 'none'
    return config
