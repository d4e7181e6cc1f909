"""What the builders of views of signals share: how an example is stored, how a dataset is written, and the command.

Each example holds, for modality m, 'm' and, where the data have one, 'm_target' (the clean view), then 'label',
'snr_db' and 'id'; images are raw uint8, so that what is read back is bit for bit what the source gives in memory.
"""
from __future__ import annotations

import contextlib
import hashlib
import json
import pathlib
import signal
import tempfile
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow_datasets as tfds

from fipjax.data.sources import SPLITS
from fipjax.errors import Interrupted, UserError

BATCH = 64  # examples made at once


def check_sizes(sizes: dict[str, int]) -> dict[str, int]:
    """Numbers of examples by split, in the order of SPLITS.

    Raises:
      UserError: a split that is not one of SPLITS or without examples; none at all.
    """
    for split, size in sizes.items():
        if split not in SPLITS or size < 1:
            raise UserError(f'sizes: {size} examples of split {split!r} are not allowed; expected at least '
                            f'1 example of some of {SPLITS}.')
    if not sizes:
        raise UserError(f'sizes: empty; expected numbers of examples of some of {SPLITS}.')
    return {split: int(sizes[split]) for split in SPLITS if split in sizes}


def name_of(prefix: str, *facts) -> tuple[str, str]:
    """The name of a builder's config, PREFIX-HASH, and its description: the facts, which the hash is of, as JSON."""
    text = json.dumps(facts, sort_keys=True)
    return f'{prefix}-{hashlib.sha256(text.encode()).hexdigest()[:12]}', text


def shapes(modalities: dict) -> dict[str, list[int]]:
    """Name -> shape, as `name_of` takes it."""
    return {name: list(modality.shape) for name, modality in sorted(modalities.items())}


def info(builder, modalities: dict, classes, clean: bool, description: str) -> tfds.core.DatasetInfo:
    """What TFDS notes about a dataset of views.

    Args:
      builder: it belongs to.
      modalities: name -> Modality.
      classes: names.
      clean: whether there are clean views to predict; without them the views are their own targets.
      description: text.

    Raises:
      UserError: names of classes that would not be read back as they are.
    """
    _check_names(classes)
    features = {}
    for name, modality in modalities.items():
        kind = np.uint8 if name == 'image' else np.float32
        for key in (name, f'{name}_target') if clean else (name,):
            features[key] = tfds.features.Tensor(shape=tuple(modality.shape), dtype=kind,
                                                 encoding=tfds.features.Encoding.BYTES)
    features |= {'label': tfds.features.ClassLabel(names=list(classes)),
                 'snr_db': tfds.features.Scalar(np.float32), 'id': tfds.features.Scalar(np.int32)}
    return tfds.core.DatasetInfo(builder=builder, features=tfds.features.FeaturesDict(features),
                                 disable_shuffling=True,  # record i of a split is example i
                                 description=description)


def _check_names(classes):
    for name in classes:
        if [name.strip()] != name.splitlines():  # TFDS keeps them in a text file, one a line
            raise UserError(f'the class {name!r} cannot be stored: names of classes are one line, not empty, without '
                            'blanks around them')
    if len(set(classes)) < len(classes):
        raise UserError(f'classes: {", ".join(classes)}; each is allowed once')


def examples(source, clean: bool) -> Iterator[tuple[int, dict]]:
    """(id, example) of a source in the order of its rows, BATCH at a time; `clean` as in `info`."""
    for start in range(0, len(source), BATCH):
        batch = source.raw(np.arange(start, min(start + BATCH, len(source))))
        snr_db = batch.get('meta', batch)['snr_db']
        for row, number in enumerate(batch['id']):
            example = {'label': int(batch['label'][row]), 'snr_db': snr_db[row], 'id': number}
            for name in source.modalities:
                example[name] = batch['inputs'][name][row]
                if clean:
                    example[f'{name}_target'] = batch['targets'][name][row]
            yield int(number), example


def write(builder) -> None:
    """Writes a builder's dataset unless it is there.

    TFDS writes into a folder incomplete.* and renames it at the end. If that fails or is interrupted, nothing is left,
    no empty folders either; a process that is killed leaves the folder incomplete.*, which may be deleted.
    """
    parents = pathlib.Path(builder.data_dir).parents
    there = next(folder for folder in parents if folder.exists())
    try:
        with tempfile.TemporaryDirectory() as unused:  # for downloads: there are none
            builder.download_and_prepare(download_dir=unused)
    except BaseException:
        with contextlib.suppress(OSError):  # not empty: another dataset is beside it
            for folder in parents[:parents.index(there)]:
                folder.rmdir()
        raise


def command(overrides: list[tuple[str, str]], source: str, prepare: Callable) -> int:
    """Prepares the data of the config in --config under --data_dir; prints the folder and the options that read it.

    Args:
      overrides: [(dotted key, text)].
      source: the value of data.source that the builder stands for.
      prepare: (data_dir, config.data) -> builder.

    Raises:
      UserError: a flag is missing; the config's data are of another source; what `prepare` says.
      Interrupted: SIGTERM.
    """
    from absl import flags

    from fipjax import config as config_lib
    given = flags.FLAGS
    if not given.config or not given.data_dir:
        raise UserError('--config and --data_dir are needed, e.g. --config=configs/fip/quick.py --data_dir=data')
    data = config_lib.load(given.config, None, overrides).data
    if data.source not in (source, 'tfds'):  # tfds: a config that reads what is prepared here
        raise UserError(f'data.source is {data.source!r}; this command prepares {source!r}')
    signal.signal(signal.SIGTERM, _stop)
    builder = prepare(given.data_dir, data)
    print(f'prepared {builder.data_dir}\nuse it with --config.data.source=tfds '
          f'--config.data.tfds.data_dir={builder.data_dir}')
    return 0


def _stop(*_):
    raise Interrupted('stopped by SIGTERM; nothing is prepared')


def start(main: Callable[[list[tuple[str, str]]], int]) -> None:
    """Runs a builder's `main` as a command with the flags --config and --data_dir."""
    from absl import flags

    from fipjax import launch
    flags.DEFINE_string('config', None, 'Config file whose `data` is prepared.')
    flags.DEFINE_string('data_dir', None, 'Folder for prepared datasets.')
    launch.start(main)
