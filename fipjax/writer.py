"""Files of a run's workdir: one JSON row a logged step, and whole JSON files written atomically."""
from __future__ import annotations

import json
import os
import pathlib


class MetricsWriter:
    """Appends rows to metrics.jsonl; of several processes the first does. A row is on disk when `write` returns."""

    def __init__(self, path: pathlib.Path):
        import jax  # here, because those who only write whole files need no JAX
        self.path, self.writes = pathlib.Path(path), jax.process_index() == 0

    def rewind(self, stage: str, step: int) -> None:
        """Drops what a killed process wrote after its last checkpoint, so that it is not there twice.

        Kept are rows of other stages, and of `stage` the training rows up to `step` and the validation rows before
        `step` (validation at `step` runs again after a resume). A torn last line is dropped too.
        """
        if not self.writes or not self.path.exists():
            return
        kept = []
        for line in self.path.read_text().splitlines():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                continue
            mine = row['stage'] == stage and (row['step'] <= step if row['split'] == 'train' else row['step'] < step)
            if mine or row['stage'] != stage:
                kept.append(line)
        write_atomically(self.path, ''.join(line + '\n' for line in kept))

    def write(self, row: dict) -> None:
        """Appends one row; values are numbers or strings."""
        if not self.writes:
            return
        with self.path.open('a', encoding='utf-8') as f:
            f.write(json.dumps(row) + '\n')


def write_atomically(path: pathlib.Path, text: str) -> None:
    """Writes a whole file, so that readers and a killed process see the old or the new one, never half."""
    path = pathlib.Path(path)
    temporary = path.with_name(f'.{path.name}.{os.getpid()}')
    temporary.write_text(text, encoding='utf-8')
    os.replace(temporary, path)


def write_json(path: pathlib.Path, value) -> None:
    """Writes JSON atomically, keys in the order given."""
    write_atomically(path, json.dumps(value, indent=1) + '\n')
