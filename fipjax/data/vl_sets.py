"""The pretraining sets and the tasks of the wing 'vlp' by name: generated, from a wheel, from a folder or from TFDS.

    coco, cc, vqa    generated captions, alt texts, questions with answers (fipjax.data.scenes); cc_small a tenth of cc
    ccg              the folder `sets.ccg`: captions that fipjax.caption wrote for the pictures of cc
    easy_vqa         real pictures with questions and answers, from the wheel easy-vqa
    texts            the texts of coco, cc and vqa (questions alone), for a model that sees no pictures
    vqa, vizwiz, entailment, genres     generated tasks
    tfds:NAME, a folder                 one's own, see fipjax.data.vl_files
"""
from __future__ import annotations

import json
import pathlib

import numpy as np
from ml_collections import ConfigDict

from fipjax.data import vl
from fipjax.errors import UserError

GENERATED = ('coco', 'cc', 'vqa')
PRETRAINING = (*GENERATED, 'cc_small', 'ccg', 'easy_vqa', 'texts')
TASKS = ('vqa', 'vizwiz', 'entailment', 'genres', 'easy_vqa')
SMALL = 0.1  # of cc
MOST_KEPT = 12

_CACHE: dict[str, vl.Set] = {}


def is_own(name: str) -> bool:
    """Whether a name is not one of ours but a user's: tfds:NAME or a folder."""
    return name.startswith('tfds:') or '/' in name or pathlib.Path(name).is_dir()


def label(name: str) -> str:
    """A set's name in metrics and file names."""
    return name.removeprefix('tfds:').replace(':', '_').rstrip('/').rpartition('/')[2]


def share(name: str) -> float:
    """The share of its training pictures that a name stands for."""
    return SMALL if name == 'cc_small' else 1.0


def build_pretraining(name: str, config: ConfigDict, progress: bool = False) -> vl.Set:
    """The pretraining set `name`; kept in memory for this process's next run.

    Args:
      name: see this module's docstring.
      config: with the groups `sets` and `regions`.
      progress: show progress bars.

    Raises:
      UserError: no such set, or its files are wrong.
    """
    return _kept('pretraining', {'cc_small': 'cc'}.get(name, name), config, progress)


def build_task(name: str, config: ConfigDict, progress: bool = False) -> vl.Set:
    """The task `name`; arguments and errors as `build_pretraining`."""
    return _kept('task', name, config, progress)


def _kept(kind, name, config, progress):
    key = json.dumps([kind, name, config.sets.to_dict(), config.regions.to_dict()], sort_keys=True)
    if key not in _CACHE:
        made = _make(kind, name, config, progress)
        if len(_CACHE) >= MOST_KEPT:
            _CACHE.pop(next(iter(_CACHE)))
        _CACHE[key] = made
    return _CACHE[key]


def _make(kind, name, config, progress):
    from fipjax.data import vl_files  # here: generated data need no readers
    s, where = config.sets, 'pretrain.data' if kind == 'pretraining' else 'finetune.tasks'
    if name == 'ccg':
        if not pathlib.Path(s.ccg).is_dir():
            raise UserError(f'pretrain.data is ccg: no folder sets.ccg={s.ccg}; the captioner writes it: python -m '
                            'fipjax.caption --config=configs/vlp/captioner.py --workdir=runs/captioner')
        return vl_files.read(s.ccg, config.regions, 'sets.ccg', progress)
    if name == 'easy_vqa':
        return vl_files.easy_vqa(config.regions)
    if is_own(name):
        return vl_files.read(name, config.regions, where, progress, data_dir=s.data_dir)
    from fipjax.data import scenes
    how = {'features': config.regions.features, 'confusion': s.confusion}
    if name == 'texts':
        return _texts([build_pretraining(k, config, progress) for k in GENERATED])
    if kind == 'pretraining':
        return scenes.pretraining(name, s[name], s.seed, **how)
    return scenes.task(name, {k: s[k] for k in ('train', 'validation', 'test')}, s.seed, **how)


def _texts(sets) -> vl.Set:
    """Several sets as one of texts alone: each with the first picture of the first set, which nobody is to look at."""
    regions, text = sets[0].regions, tuple(t for s in sets for t in s.text)
    regions = regions._replace(**{k: getattr(regions, k)[:1] for k in ('features', 'boxes', 'count')}, classes=None)
    split = np.concatenate([s.split for s in sets])
    return vl.Set('texts', regions, np.zeros(len(text), np.int32), text, None, '', split, (),
                  f'{len(text)} texts of {", ".join(s.name for s in sets)}')
