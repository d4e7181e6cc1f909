"""TFDS builder of the constellation data: prepare once as array_record, read anywhere with
`tfds.data_source`.

  python -m fipjax.data.builders.constellation --config=configs/fip/constellation.py --data_dir=data

prepares what a config describes and says how to use it. It needs neither TensorFlow nor a network. Each example holds,
for modality m, 'm' (the noisy view) and 'm_target' (the clean one), then 'label', 'snr_db' and 'id'; images are raw
uint8, so that `constellation.decode` gives bit for bit what the in-memory `constellation.Source` gives.
"""
from __future__ import annotations

import dataclasses
import hashlib
import json
import os

import numpy as np
import tensorflow_datasets as tfds

from fipjax.data import constellation
from fipjax.errors import UserError

BATCH = 64  # examples made at once


@dataclasses.dataclass(eq=False)
class ConstellationConfig(tfds.core.BuilderConfig):
    """The generator's signal and modalities, the number of examples of each split, and the seed."""

    signal: constellation.Signal = constellation.Signal()
    modalities: dict = dataclasses.field(default_factory=dict)
    sizes: dict = dataclasses.field(default_factory=dict)
    seed: int = 0


def config(signal: constellation.Signal, modalities: dict, sizes: dict[str, int],
           seed: int) -> ConstellationConfig:
    """The builder's config; its name, hence the folder, is a hash of everything that determines the data.

    Raises UserError for a split that is not in `constellation.SPLITS` or without examples.
    """
    for split, size in sizes.items():
        if split not in constellation.SPLITS or size < 1:
            raise UserError(f'sizes: {size} examples of split {split!r} are not allowed; expected at least '
                            f'1 example of some of {constellation.SPLITS}.')
    if not sizes:
        raise UserError(f'sizes: empty; expected numbers of examples of some of {constellation.SPLITS}.')
    constellation.check_modalities(signal, modalities)
    ordered = {split: int(sizes[split]) for split in constellation.SPLITS if split in sizes}
    shapes = {name: list(modality.shape) for name, modality in sorted(modalities.items())}
    facts = json.dumps([dataclasses.asdict(signal), shapes, ordered, seed], sort_keys=True)
    name = f'{signal.mode}-{hashlib.sha256(facts.encode()).hexdigest()[:12]}'
    return ConstellationConfig(name=name, description=facts, signal=signal, modalities=dict(modalities),
                               sizes=ordered, seed=seed)


class Constellation(tfds.core.GeneratorBasedBuilder):
    """Noisy and clean views of modulated signals; make it with `prepare`."""

    VERSION = tfds.core.Version('1.0.0')
    RELEASE_NOTES = {'1.0.0': 'First version.'}

    def _info(self) -> tfds.core.DatasetInfo:
        chosen, features = self.builder_config, {}
        for name, modality in chosen.modalities.items():
            kind = np.uint8 if name == 'image' else np.float32
            for key in (name, f'{name}_target'):
                features[key] = tfds.features.Tensor(shape=tuple(modality.shape), dtype=kind,
                                                     encoding=tfds.features.Encoding.BYTES)
        features |= {'label': tfds.features.ClassLabel(names=list(chosen.signal.classes)),
                     'snr_db': tfds.features.Scalar(np.float32), 'id': tfds.features.Scalar(np.int32)}
        reason = constellation.Source(chosen.signal, chosen.modalities, 0, chosen.seed, 'test').ceiling_reason
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features),
                                     disable_shuffling=True,  # record i of a split is example i
                                     description=f'{self.__doc__} {reason}'.strip())

    def _split_generators(self, dl_manager):
        del dl_manager  # nothing is downloaded
        chosen, offset, splits = self.builder_config, 0, {}
        for split, size in chosen.sizes.items():
            # The grid of SNR values is for labelled splits, as in fipjax.data.sources.
            signal = dataclasses.replace(chosen.signal, snr_grid=None) if split == 'pretrain' else chosen.signal
            source = constellation.Source(signal, chosen.modalities, size, chosen.seed, split, offset)
            splits[split] = self._generate_examples(source)
            offset += size
        return splits

    def _generate_examples(self, source: constellation.Source):
        for start in range(0, len(source), BATCH):
            batch = source.raw(np.arange(start, min(start + BATCH, len(source))))
            for row, number in enumerate(batch['id']):
                example = {'label': int(batch['label'][row]), 'snr_db': batch['snr_db'][row], 'id': number}
                for name in source.modalities:
                    example[name] = batch['inputs'][name][row]
                    example[f'{name}_target'] = batch['targets'][name][row]
                yield int(number), example


def prepare(data_dir: str | os.PathLike, signal: constellation.Signal, modalities: dict,
            sizes: dict[str, int], seed: int) -> Constellation:
    """Writes the splits under data_dir as array_record, unless they are there, and returns the builder.

    sizes: split -> number of examples, splits out of `constellation.SPLITS`; ids count through the splits in
    that order, and the records of a split have the order of their ids. Raises UserError for bad modalities
    and sizes.
    """
    builder = Constellation(data_dir=os.fspath(data_dir), config=config(signal, modalities, sizes, seed),
                            file_format='array_record')
    builder.download_and_prepare()
    return builder


def main(overrides: list[tuple[str, str]]) -> int:
    """Prepares the data of a config; prints the folder and the options that read it."""
    from absl import flags

    from fipjax import config as config_lib
    from fipjax.data.sources import modalities_of
    given = flags.FLAGS
    if not given.config or not given.data_dir:
        raise UserError('--config and --data_dir are needed, e.g. --config=configs/fip/quick.py --data_dir=data')
    data = config_lib.load(given.config, None, overrides).data
    signal = constellation.Signal(**{**data.signal.to_dict(), 'snr_grid': data.signal.snr_grid or None})
    sizes = {split: data[f'{split}_examples'] for split in constellation.SPLITS}
    builder = prepare(given.data_dir, signal, modalities_of(data), sizes, data.seed)
    print(f'prepared {builder.data_dir}\nuse it with --config.data.source=tfds '
          f'--config.data.tfds.data_dir={builder.data_dir}')
    return 0


if __name__ == '__main__':
    from absl import flags as _flags

    from fipjax import launch
    _flags.DEFINE_string('config', None, 'Config file whose `data` is prepared.')
    _flags.DEFINE_string('data_dir', None, 'Folder for prepared datasets.')
    launch.start(main)
