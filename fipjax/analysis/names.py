"""What metrics are called and how their values are written, in tables and pictures."""
from __future__ import annotations

import math
import re

LOW = re.compile('error|loss|entropy|relative_l2|nrmse|nmse|mae|false_negative|discrepancy|seconds')


def natural(name: str) -> list:
    """A key for sorting: numbers inside names by value; '@0', all labels, last."""
    return [int(part) if part.isdigit() else part for part in re.split(r'(\d+)', re.sub('@0$', '@all', name))]


def is_share(metric: str) -> bool:
    """Whether the metric is an accuracy, a 0-1 error or an F1, in [0, 1] and shown in percent."""
    return 'accuracy' in metric or 'error' in metric or '_f1' in metric


def lower_is_better(metric: str) -> bool:
    """Whether a small value of the metric is a good one: errors, losses, discrepancy, seconds."""
    return LOW.search(metric) is not None


def heading(metric: str) -> str:
    """A metric's name for people: 'test/accuracy@5' -> 'test accuracy, 5 labels a class (%)'.

    After '@' comes the number of labels a class, or the share of all examples: 'test/vqa/accuracy@10%'.
    """
    name, _, labels = metric.partition('@')
    name = {'source/discrepancy': 'discrepancy D'}.get(name, name.replace('/', ' ').replace('_', ' '))
    if labels.isdigit():
        labels = {'0': 'all labels', '1': '1 label a class'}.get(labels, f'{labels} labels a class')
    if labels:
        name += f', {labels}'
    return name + (' (%)' if is_share(metric) else '')


def number(metric: str, value: float | None, signed: bool = False) -> str:
    """A value of the metric as text: shares in percent with one decimal, others with four digits."""
    if value is None or not math.isfinite(value):
        return '-' if value is None else str(value)
    sign = '+' if signed else ''
    return f'{100 * value:{sign}.1f}' if is_share(metric) else f'{value:{sign}.4g}'


def amount(value: float | None) -> str:
    """A cost as text: three digits, thousands separated."""
    if value is None or not math.isfinite(value):
        return '-'
    return f'{value:,.0f}' if abs(value) >= 100 else f'{value:.3g}'
