"""Completes a config: what `data.modalities` leaves open is read off the data, sizes of a checkpoint off its file.

It is done when a config is loaded, so that the config of a run is complete wherever it is seen: in config.json, in a
comparison, in an analysis.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from fipjax.data import arrays, kinds, sources
from fipjax.errors import UserError
from fipjax.overrides import override

PREFIX = 'data.modalities.'
SOURCES = ('arrays', 'tfds')  # data that can be asked what they are


def complete(config: ConfigDict, overrides: Sequence[tuple[str, str]] = (),
             say: Callable[[str], None] | None = None) -> ConfigDict:
    """Reads off the data what is open, then applies overrides, which may be of what was read off. Changes `config`.

    Wing 'fip': a modality is open where its kind, shape, patch or (of tokens) vocab is '', () or 0. No modality at all
    stands for all that the data have. In `pretrain.modalities`, 'target' becomes the target's name.

    Args:
      config: of any wing; one without open modalities only has its overrides applied.
      overrides: [(dotted key, text)].
      say: gets what was read off, in words for people.

    Returns:
      `config`.

    Raises:
      UserError: as `override`; data that cannot be read; what kinds.describe, published.complete and
        published_vl.complete say.
    """
    given, later = {}, overrides
    if config.get('wing') == 'fip' and 'modalities' in config.get('data', {}):
        given, others = _given(config.data.modalities.to_dict(), overrides)
        if not len(config.data.modalities) or any(map(kinds.is_open, given.values())):
            later = others
            for key, text in later:
                if key in ('data.source', 'data.path') or key.startswith('data.tfds.'):
                    override(config, key, text)
            _fill(config, given, say)
    if config.get('wing') == 'mona' and any(key == 'init.checkpoint' and text for key, text in later):
        from fipjax.models import published  # here: it needs JAX
        published.make_room(config)
    for key, text in later:
        override(config, key, text)
    if config.get('init', {}).get('checkpoint'):
        from fipjax.models import published, published_vl  # here: they need JAX
        (published_vl if config.wing == 'vlp' else published).complete(config, say)
    if 'target' in config.get('pretrain', {}).get('modalities', ()):
        config.pretrain.modalities = tuple(config.pretrain.fip.target if m == 'target' else m
                                           for m in config.pretrain.modalities)
    return config


def _given(modalities, overrides):
    """What the config and the overrides say of each modality, and the overrides that say something else."""
    named, later = {name: {**kinds.OPEN, **m} for name, m in modalities.items()}, []
    for key, text in overrides:
        name, _, leaf = key.removeprefix(PREFIX).rpartition('.')
        if not key.startswith(PREFIX) or leaf not in kinds.OPEN or '.' in name or (modalities and name not in named):
            later.append((key, text))
            continue
        scratch = ConfigDict({'data': {'modalities': {name: named.get(name, kinds.OPEN)}}})
        override(scratch, key, text)
        named[name] = scratch.data.modalities[name].to_dict()
    return named, later


def _fill(config, given, say):
    """Puts complete modalities into config.data and their names into settings per modality."""
    data, everything = config.data, not len(config.data.modalities)
    if not everything and all(m['kind'] and m['shape'] and (m['kind'] != 'tokens' or m['vocab'])
                              for m in given.values()):
        found = {name: kinds.modality(name, None, m, 'data.modalities')[0] for name, m in given.items()}  # patches only
    elif data.source not in SOURCES:
        raise UserError(f'data.modalities {"is empty" if everything else "leaves kind, shape or vocab open"}; they are '
                        f'read off the data where data.source is {" or ".join(SOURCES)}, and it is {data.source!r}')
    else:
        where = data.path if data.source == 'arrays' else f'data.tfds {data.tfds.name or data.tfds.data_dir}'
        facts = arrays.facts(data.path) if data.source == 'arrays' else tfds_facts(data.tfds)
        found, words = kinds.describe(facts, given, () if everything else tuple(given), where)
        if say:
            say(words)
    with config.unlocked():
        data.modalities = ConfigDict(found)
        for setting in config.pretrain.fip.values():
            if isinstance(setting, ConfigDict) and {'target', 'others'} <= set(setting):
                for name in found:
                    if name not in setting:
                        setting[name] = placeholder(type(setting.target))


def tfds_facts(settings) -> dict[str, kinds.Fact]:
    """What the features of a prepared TFDS dataset are, by name, except groups of features.

    Raises:
      UserError: there is no such dataset (config.data.tfds).
    """
    features = sources.tfds_builder(settings).info.features.items()
    return {name: kinds.Fact(tuple(f.shape), np.dtype(f.np_dtype)) for name, f in features
            if isinstance(f.shape, tuple)}
