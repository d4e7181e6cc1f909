"""Draws synthetic scenes with boxes and texts, to look at: `.venv/bin/python benchmarks/scene_sheet.py OUT.png`."""
from __future__ import annotations

import sys
import textwrap

import matplotlib
import numpy as np

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402

from fipjax.data import scenes  # noqa: E402
from fipjax.data.vl import Set  # noqa: E402

EACH = 8


def row(axes, data: Set, pictures: np.ndarray) -> None:
    """Draws the first pictures of a set with their boxes, the detector's classes and one text of each."""
    for k, ax in enumerate(axes):
        where = np.flatnonzero(data.picture == k)[0]
        side = pictures.shape[1]
        ax.imshow(pictures[k])
        for box, classes in list(zip(data.regions.boxes[k], data.regions.classes[k]))[1:data.regions.count[k]]:
            x1, y1, x2, y2 = box * side - 0.5
            ax.plot([x1, x2, x2, x1, x1], [y1, y1, y2, y2, y1], 'c-', linewidth=0.8)
            ax.text(x1, y1, scenes.CLASSES[classes.argmax()], fontsize=5, color='w',
                    bbox={'facecolor': 'k', 'pad': 0.4, 'linewidth': 0})
        said = data.text[where]
        if data.answers is not None:
            said += f' [{", ".join(dict.fromkeys(data.answers[where]))}]'
        ax.set_title('\n'.join(textwrap.wrap(said, 32)[:9]), fontsize=6, loc='left')
        ax.axis('off')
    axes[0].text(-0.05, 0.5, data.name, rotation=90, transform=axes[0].transAxes, ha='right', va='center')


def main(out: str) -> None:
    """Writes the picture `out`: a row for each pretraining set and each task."""
    sets = [scenes.pretraining(name, 5 * EACH, 0) for name in scenes.PRETRAINING]
    sets += [scenes.task(name, {'train': 3 * EACH, 'validation': 1, 'test': 1}, 0) for name in scenes.TASKS]
    names = [*(f'pretraining/{name}' for name in scenes.PRETRAINING), *(f'task/{name}/train' for name in scenes.TASKS)]
    figure, axes = plt.subplots(len(sets), EACH, figsize=(2 * EACH, 2.6 * len(sets)))
    for line, data, name in zip(axes, sets, names):
        row(line, data, scenes.pictures(name, EACH, 0))
    figure.tight_layout()
    figure.savefig(out, dpi=90)


if __name__ == '__main__':
    main(*sys.argv[1:])
