"""TFDS builder of recorded radio frames: views made once, kept as array_record, read anywhere.

  python -m fipjax.data.builders.recorded --config=configs/fip/radioml.py --config.data.path=RML2016.10a_dict.pkl \
    --data_dir=data

prepares what a config's `data` describe (see fipjax.data.recorded) and says how to use it. What is read back is what
data.source=recorded gives, example for example: inputs, targets, labels, SNRs, ids, splits, names of classes. Frames
are read from the file as they are written, a shard's at a time. There are no clean views; see
fipjax.data.builders.views.
"""
from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import os
import pathlib
import re

import numpy as np
import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from fipjax import bars
from fipjax.data import recorded
from fipjax.data.builders import views
from fipjax.data.sources import SPLITS, modalities_of

SHARD = 2 ** 26  # bytes of views in a file: TFDS keeps the examples of one in memory until it is written
PIECE, PIECES = 2 ** 16, 16  # bytes; of a large file as many pieces are hashed, head and tail among them


@dataclasses.dataclass(eq=False)
class RecordedConfig(tfds.core.BuilderConfig):
    """split -> recorded.Source, none of them empty, and whether to show progress."""

    sources: dict = dataclasses.field(default_factory=dict, repr=False)
    progress: bool = True


class Recorded(tfds.core.ShardBasedBuilder):
    """Views of recorded radio frames; make it with `prepare`."""

    # Not a GeneratorBasedBuilder: that keeps a gigabyte in memory and needs TensorFlow for more.
    VERSION = tfds.core.Version('1.0.0')
    RELEASE_NOTES = {'1.0.0': 'First version.'}

    def _info(self) -> tfds.core.DatasetInfo:
        source = self.builder_config.sources['train']
        return views.info(self, source.modalities, source.classes, False, self.__doc__)

    def _shard_iterators_per_split(self, dl_manager):
        del dl_manager  # nothing is downloaded
        return {split: self._shards(split, source) for split, source in self.builder_config.sources.items()}

    def _shards(self, split, source):
        """A function for each file; called one after the other, each takes the examples that come next."""
        size = sum(np.prod(m.shape) * (1 if name == 'image' else 4) for name, m in source.modalities.items())
        rows, stream = max(1, int(SHARD // size)), self._stream(split, source)
        return [functools.partial(itertools.islice, stream, rows) for _ in range(0, len(source), rows)]

    def _stream(self, split, source):
        yield from bars.bar(views.examples(source, False), desc=f'data: {split}', total=len(source), unit='example',
                            show=self.builder_config.progress)


def identity(path: str | os.PathLike) -> list[tuple[str, int, str]]:
    """(name, bytes, hash) of a file, or of each SigMF file of a folder, at the cost of reading a megabyte.

    The hash is of the whole of metadata and of files up to PIECE * PIECES bytes; of larger ones it is of that many
    bytes, in pieces that are evenly spread from head to tail.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        return [one for suffix in ('meta', 'data') for file in sorted(path.glob(f'*.sigmf-{suffix}'))
                for one in identity(file)]
    size, digest = path.stat().st_size, hashlib.sha256()
    with path.open('rb') as f:
        if size <= PIECE * PIECES or path.suffix == '.sigmf-meta':
            digest.update(f.read())
        else:
            for start in np.linspace(0, size - PIECE, PIECES).astype(int):
                f.seek(start)
                digest.update(f.read(PIECE))
    return [(path.name, size, digest.hexdigest())]


def prepare(data_dir: str | os.PathLike, data: ConfigDict, progress: bool = True) -> Recorded:
    """Writes the four splits under data_dir as array_record, unless they are there, and returns the builder.

    Args:
      data_dir: folder for prepared datasets.
      data: config.data as fipjax.data.recorded.build takes it; `cache` does not matter.
      progress: show progress bars.

    Raises:
      UserError: as fipjax.data.recorded.build, or a frame is damaged; nothing is left in data_dir then.
    """
    modalities = modalities_of(data)
    splits = recorded.build(ConfigDict({**data.to_dict(), 'cache': False}), modalities, progress)
    sources = {split: getattr(splits, split) for split in SPLITS}
    name, facts = views.name_of(re.sub(r'\W+', '_', pathlib.Path(data.path).stem) or 'recorded', identity(data.path),
                                views.shapes(modalities), {s: len(source) for s, source in sources.items()}, data.seed,
                                list(splits.train.classes), list(data.signal.snr_db))
    builder = Recorded(data_dir=os.fspath(data_dir), file_format='array_record',
                       config=RecordedConfig(name=name, description=facts, sources=sources, progress=progress))
    views.write(builder)
    return builder


def main(overrides: list[tuple[str, str]]) -> int:
    """Prepares the data of a config; prints the folder and the options that read it."""
    return views.command(overrides, 'recorded', prepare)


if __name__ == '__main__':
    views.start(main)
