"""What runs are to be compared with besides each other: trivial baselines, chance and ceiling."""
from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from fipjax.analysis.runs import Run


def trivial(run: Run) -> dict[str, dict[str, float]]:
    """Trivial baselines of a run: name -> {metric: value}."""
    return run.result.get('references') or (
        {run.result.get('trivial_name') or 'trivial baseline': run.result['trivial']} if run.result['trivial'] else {})


class Reference(NamedTuple):
    """One of them: `kind` is 'trivial', 'chance' or 'ceiling'; `of` are the variants that it is for, None: all."""

    kind: str
    label: str
    of: tuple[str, ...] | None
    values: dict[str, dict[int, float]]  # metric -> {seed: value}


def gather(groups: Mapping[str, Sequence[Run]], metrics: Sequence[str]) -> list[Reference]:
    """Trivial baselines, chance and ceiling of the runs of variants, one each for the variants that agree."""
    found: dict[tuple[str, str], dict[str, dict[str, dict[int, float]]]] = {}
    for kind in ('trivial', 'chance', 'ceiling'):
        for label, runs in groups.items():
            for run in runs:
                values = trivial(run) if kind == 'trivial' else {
                    kind: {metric: run.result.get(kind) for metric in metrics if 'accuracy' in metric}}
                for name, by_metric in values.items():
                    for metric in metrics:
                        if isinstance(by_metric.get(metric), int | float):
                            found.setdefault((kind, name), {}).setdefault(label, {}).setdefault(
                                metric, {})[run.seed] = by_metric[metric]
    out = []
    for (kind, name), by_label in found.items():
        everyone = {label for key, labels in found.items() if key[0] == kind for label in labels}
        agreed: list[tuple[list[str], dict[str, dict[int, float]]]] = []
        whole = by_label.keys() == everyone and _merged(by_label.values())
        for label, values in by_label.items() if not whole else ():
            for labels, known in agreed:
                together = _merged([known, values], overlap=True)
                if together:
                    labels.append(label)
                    known.update(together)
                    break
            else:
                agreed.append(([label], {metric: dict(by_seed) for metric, by_seed in values.items()}))
        for labels, values in [(None, whole)] if whole else agreed:
            out.append(Reference(kind, f'{name} ({_together(labels, groups)})' if labels else name,
                                 tuple(labels) if labels else None, values))
    return out


def _merged(several: Iterable[dict[str, dict[int, float]]], overlap: bool = False) -> dict[str, dict[int, float]]:
    """metric -> {seed: value} of all; {} where two differ, or where they share nothing though they should."""
    merged: dict[str, dict[int, float]] = {}
    shared = False
    for values in several:
        for metric, by_seed in values.items():
            known = merged.setdefault(metric, {})
            if not all(math.isclose(known.get(seed, value), value) for seed, value in by_seed.items()):
                return {}
            shared |= not known.keys().isdisjoint(by_seed)
            known.update(by_seed)
    return merged if shared or not overlap else {}


def _together(labels: Sequence[str], everyone: Iterable[str]) -> str:
    """A name for some variants: the one, what they alone begin with, or the first and how many more."""
    if len(labels) == 1:
        return labels[0]
    start = os.path.commonprefix(list(labels)).rpartition('_')[0]
    alone = start and {label for label in everyone if label.startswith(f'{start}_')} == set(labels)
    return start if alone else f'{labels[0]} and {len(labels) - 1} more'
