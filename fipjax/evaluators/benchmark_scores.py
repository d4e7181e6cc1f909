"""Metrics of NAS-Bench-360 and PDEBench that `scores` does not have, and what ORCA's public code computes instead.

All are of a whole split at once, and lower is better. Names that begin with orca_ are for comparison with numbers that
came out of that code (sjunhongshen/ORCA, arXiv 2302.05738): it averages metrics that are no means over chunks of about
a thousand examples, takes the length of the first protein for all, and ranks pixels by whether they are above the
threshold. What is defined is NAS-Bench-360's (arXiv 2110.05668) and PDEBench's (arXiv 2210.07182).
"""
from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fipjax.evaluators import scores

CHUNK = 1000
MARGIN, APART, NEAR, LEAST = 5, 24, 8.0, 0.01  # see `mae_8`
EXTRAS = {'fsd50k': ('group',), 'cosmic': ('ignore',), 'psicov': ('residues',)}
ORCA_ROWS = {'deepsea': 16, 'ecg': 4, 'cosmic': 4}  # examples in a batch of its evaluation: chunks are whole batches


def in_chunks(metric: Callable, outputs, y, rows: int = 1) -> float:
    """Mean of metric(outputs, y) over chunks of CHUNK examples, rounded up to whole batches of `rows`.

    The last counts as much as the others, however short. As ORCA evaluates.
    """
    size = -(-CHUNK // rows) * rows
    return float(np.mean([metric(outputs[i:i + size], y[i:i + size]) for i in range(0, len(y), size)]))


def by_group(outputs, y, group):
    """(outputs, y) of whole clips: means of outputs [n, ...] over the examples of a group, in the order of its name.

    Args:
      y: [n, ...], the same for all examples of a group.
      group: [n].
    """
    _, first, index, count = np.unique(group, return_index=True, return_inverse=True, return_counts=True)
    total = np.zeros((len(count), *np.shape(outputs)[1:]))
    np.add.at(total, index, np.asarray(outputs, np.float64))
    return total / count.reshape(-1, *[1] * (total.ndim - 1)), np.asarray(y)[first]


def false_negative_rate(values, y, threshold: float) -> float:
    """FN / (TP + FN) over all pixels of all examples: the share of those that hold which are not above the threshold.

    Args:
      values: float [n, ...].
      y: 0/1 [n, ...].
    """
    holds = np.asarray(y) > 0
    return float(np.mean(np.asarray(values)[holds] <= threshold)) if holds.any() else float('nan')


def pixel_auroc(values, y, counted=None) -> float:
    """AUROC over all pixels [n, ...] of all examples as one set, or those where `counted` [n, ...] is not 0."""
    chosen = np.ones(np.shape(y), bool) if counted is None else np.asarray(counted) > 0
    return scores.auroc(np.asarray(values)[chosen][:, None], np.asarray(y)[chosen][:, None])


def thresholded_auroc(values, y, threshold: float) -> float:
    """AUROC of whether pixels are above the threshold: (1 + true positive rate - false positive rate) / 2."""
    return pixel_auroc((np.asarray(values) > threshold).astype(float), y)


def mae_8(distances, y, residues) -> float:
    """Mean over proteins of the mean error, in angstrom, of distances of at most 8 between residues 24 or more apart.

    As the benchmark's code (and ORCA's) has it: upper triangles alone count; a prediction is the mean of its lower
    triangle's value and of the mean of both, none below 0.01. Proteins without such a pair are left out.

    Args:
      distances, y: [n, S, S, 1], predicted and true, proteins from row and column 5 on.
      residues: int [n], lengths.
    """
    found = []
    for p, true, length in zip(np.asarray(distances, np.float64)[..., 0], np.asarray(y)[..., 0], residues):
        inside = slice(MARGIN, MARGIN + int(length))
        lower, upper, true = p[inside, inside].T, p[inside, inside], true[inside, inside]
        predicted = (np.maximum(lower, LEAST) + np.maximum((lower + upper) / 2, LEAST)) / 2
        pairs = np.triu(true <= NEAR, APART)
        if pairs.any():
            found.append(np.abs(predicted - true)[pairs].mean())
    return float(np.mean(found)) if found else float('inf')


def nmse(prediction, y) -> float:
    """Mean over examples of RMSE / RMS(y) over all channels and positions at once [n, ...].

    ORCA's name for it; PDEBench's nRMSE (`scores.nrmse`) is the mean over channels of the same of each. For
    Navier-Stokes ORCA feeds it fields that were standardised point by point, which is yet another number.
    """
    return scores.relative_l2(prediction, y)


def of(settings, task, outputs, y) -> dict[str, float]:
    """What a prepared benchmark task is scored with besides `scores.score`; {} for anything else.

    Args:
      settings: config group of the data, as fipjax.data.labelled.build takes it.
      task, outputs, y: as scores.score takes them, of the whole published test split.
    """
    family, _, name = settings.name.partition('/')
    if settings.data != 'tfds' or settings.test_groups or family not in ('nas_bench_360', 'pdebench'):
        return {}
    outputs, y = np.asarray(outputs, np.float64), np.asarray(y)
    if task.output == 'dense':
        outputs, y = (v * np.float64(task.scale['deviation']) + task.scale['mean'] for v in (outputs, y))
    if family == 'pdebench':
        return {'orca_nmse': nmse(outputs, y)}
    rows = ORCA_ROWS.get(name, 1)
    if name == 'ecg':
        f1 = lambda o, t: 1 - scores.macro_f1(o.argmax(1), t)  # noqa: E731
        return {'macro_f1_error': f1(outputs, y), 'orca_macro_f1_error': in_chunks(f1, outputs, y, rows)}
    if name == 'deepsea':
        auroc = lambda o, t: 1 - scores.auroc(o, t)  # noqa: E731
        return {'auroc_error': auroc(outputs, y), 'orca_auroc_error': in_chunks(auroc, outputs, y, rows)}
    if name not in EXTRAS:
        return {}
    extra = _extra(settings, EXTRAS[name][0])
    if len(extra) != len(y):
        raise ValueError(f'of: {len(y)} outputs, but the test split of {settings.name} has {len(extra)} examples')
    if name == 'fsd50k':
        return {'map_error': 1 - scores.mean_average_precision(*by_group(outputs, y, extra))}
    if name == 'psicov':
        return {'mae_8': mae_8(outputs, y, extra), 'orca_mae_8': mae_8(outputs, y, [extra[0]] * len(extra))}
    y = (y > 0.5).astype(int)
    masked, ignored = np.where(extra, 0, outputs), y * (extra == 0)
    orca = lambda o, t: 1 - thresholded_auroc(o, t, 0.5)  # noqa: E731
    return {'false_negative_rate': false_negative_rate(outputs, y, 0.5),
            'auroc_error': 1 - pixel_auroc(outputs, y, extra == 0),
            'orca_auroc_error': in_chunks(orca, masked, ignored, rows)}


def _extra(settings, feature):
    """A feature of all test examples [n, ...], which the wing's sources do not have."""
    import tensorflow_datasets as tfds
    data = tfds.builder(settings.name, data_dir=settings.data_dir or None).as_data_source(split=settings.splits[2])
    return np.array([data[i][feature] for i in range(len(data))])
