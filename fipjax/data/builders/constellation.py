"""TFDS builder of the constellation data: prepare once as array_record, read anywhere with
`tfds.data_source`.

  python -m fipjax.data.builders.constellation --config=configs/fip/constellation.py --data_dir=data

prepares what a config describes and says how to use it. It needs neither TensorFlow nor a network. Each example holds,
for modality m, 'm' (the noisy view) and 'm_target' (the clean one); see fipjax.data.builders.views.
"""
from __future__ import annotations

import dataclasses
import os

import tensorflow_datasets as tfds

from fipjax.data import constellation
from fipjax.data.builders import views


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
    ordered = views.check_sizes(sizes)
    constellation.check_modalities(signal, modalities)
    name, facts = views.name_of(signal.mode, dataclasses.asdict(signal), views.shapes(modalities), ordered, seed)
    return ConstellationConfig(name=name, description=facts, signal=signal, modalities=dict(modalities),
                               sizes=ordered, seed=seed)


class Constellation(tfds.core.GeneratorBasedBuilder):
    """Noisy and clean views of modulated signals; make it with `prepare`."""

    VERSION = tfds.core.Version('1.0.0')
    RELEASE_NOTES = {'1.0.0': 'First version.'}

    def _info(self) -> tfds.core.DatasetInfo:
        chosen = self.builder_config
        reason = constellation.Source(chosen.signal, chosen.modalities, 0, chosen.seed, 'test').ceiling_reason
        return views.info(self, chosen.modalities, chosen.signal.classes, True, f'{self.__doc__} {reason}'.strip())

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
        return views.examples(source, True)


def prepare(data_dir: str | os.PathLike, signal: constellation.Signal, modalities: dict,
            sizes: dict[str, int], seed: int) -> Constellation:
    """Writes the splits under data_dir as array_record, unless they are there, and returns the builder.

    sizes: split -> number of examples, splits out of `constellation.SPLITS`; ids count through the splits in
    that order, and the records of a split have the order of their ids. Raises UserError for bad modalities
    and sizes.
    """
    builder = Constellation(data_dir=os.fspath(data_dir), config=config(signal, modalities, sizes, seed),
                            file_format='array_record')
    views.write(builder)
    return builder


def _of_config(data_dir, data) -> Constellation:
    from fipjax.data.sources import modalities_of
    signal = constellation.Signal(**{**data.signal.to_dict(), 'snr_grid': data.signal.snr_grid or None})
    sizes = {split: data[f'{split}_examples'] for split in constellation.SPLITS}
    return prepare(data_dir, signal, modalities_of(data), sizes, data.seed)


def main(overrides: list[tuple[str, str]]) -> int:
    """Prepares the data of a config; prints the folder and the options that read it."""
    return views.command(overrides, 'constellation', _of_config)


if __name__ == '__main__':
    views.start(main)
