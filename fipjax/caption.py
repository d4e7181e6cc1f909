"""Trains a captioner on one set and captions the pictures of another, for pretraining on generated captions.

    python -m fipjax.caption --config=configs/vlp/captioner.py --workdir=runs/captioner

The captions lie in WORKDIR/captions, a folder as every pretraining set of one's own: --config.pretrain.data=ccg reads
it where --config.sets.ccg points to it. The same command again goes on where it was stopped or killed.
"""
from __future__ import annotations

import pathlib

from absl import flags

from fipjax import config as config_lib
from fipjax import launch, main
from fipjax.errors import UserError


def command(overrides: list[tuple[str, str]]) -> int:
    """Trains, captions, prints the table, examples and where the captions are; returns the exit code."""
    given = flags.FLAGS
    if given.config and not any(key == 'help' for key, _ in overrides):
        config = config_lib.load(given.config, None, overrides)
        if config.get('wing') != 'caption':
            raise UserError(f"--config={given.config} is of wing {config.get('wing')!r}; fipjax.caption needs one of "
                            "wing 'caption', e.g. configs/vlp/captioner.py")
    code = main.main(overrides)
    if given.workdir and (pathlib.Path(given.workdir) / 'result.json').exists():
        from fipjax.analysis import runs
        found = runs.load_json(pathlib.Path(given.workdir) / 'result.json')
        for example in found.get('examples', ()):
            print(f'- {example["caption"]}   (its own text: {example["own text"]})')
        print(f'captions: {pathlib.Path(given.workdir) / found["captions"]}')
    return code


if __name__ == '__main__':
    launch.start(command)
