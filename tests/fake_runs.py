"""Writes workdirs as a run or a comparison leaves them, with made-up numbers, for the tests of `analysis`."""
import json
import pathlib

import numpy as np

from fipjax.evaluators import classification

CLASSES = ('OOK', 'BPSK', 'QPSK', '8PSK', '16QAM', '64QAM')
SNR = tuple(float(snr) for snr in range(-10, 11, 2))


def details(rng, accuracy, n=330):
    """A classification report of about this accuracy, rising with SNR."""
    labels = rng.integers(0, len(CLASSES), n)
    snr = np.resize(SNR, n)
    chance = np.clip(accuracy + snr / 25, 0.05, 0.99)
    answers = np.where(rng.random(n) < chance, labels, (labels + rng.integers(1, 3, n)) % len(CLASSES))
    return classification.evaluate(np.eye(len(CLASSES))[answers], labels, CLASSES, ('snr_db', snr))


def result(variant='fip', seed=0, metrics=None, **changes):
    """Content of result.json; `changes` replace top-level keys."""
    rng = np.random.default_rng([seed, *variant.encode()])
    metrics = {'test/accuracy@5': 0.5, 'test/accuracy@50': 0.7} if metrics is None else metrics
    full = dict(metrics)
    for name, value in metrics.items():
        if name.startswith('test/accuracy'):
            full[name.replace('test', 'validation')] = value + 0.01
    content = {
        'name': 'fip', 'variant': variant, 'seed': seed, 'target': 'image',
        'metrics': {**full, 'pretrain/loss': 0.4},
        'trivial': {name: 0.35 for name in metrics if 'accuracy' in name},
        'trivial_name': 'ridge on pooled pixels', 'chance': 1 / 6, 'ceiling': None, 'ceiling_reason': '',
        'test_examples': 330,
        'details': {n: details(rng, value) for n, value in metrics.items() if 'accuracy' in n},
        'pictures': [], 'seconds': {'data': 3.0, 'pretrain': 100.0, 'finetune_5': 20.0, 'total': 123.0},
        'steps_per_second': {'pretrain': 4.0, 'finetune_5': 9.0},
        'host_share': {'pretrain': 0.02, 'finetune_5': 0.05},
        'flops': {'pretrain_step': 1.2e9, 'pretrain': 2.4e12, 'finetune_5': 0.4e12, 'total': 2.8e12},
        'parameters': {'encoder': 1000000, 'decoders': 200000, 'head': 3000}, 'commit': 'abc1234',
        'versions': {'python': '3.11.7', 'jax': '0.10.2'}, 'device': 'cpu x 1', 'date': '2026-11-23'}
    return {**content, **changes}


def metrics_rows(seed=0, steps=(20, 40, 60, 80)):
    """Rows of metrics.jsonl of one pretraining and one fine-tuning."""
    rng = np.random.default_rng(seed)
    rows = []
    for step in steps:
        for split in ('train', 'validation') if step % 40 == 0 else ('train',):
            image, iq = 1 / (1 + step / 30) + 0.05 * rng.random(2)
            rows.append({'stage': 'pretrain', 'split': split, 'step': step, 'loss': (image + iq) / 2,
                         'loss/image': image, 'loss/iq': iq, 'lr': 1e-3, 'seconds': step / 4})
    for step in steps:
        for split in ('train', 'validation') if step % 40 == 0 else ('train',):
            rows.append({'stage': 'finetune_5', 'split': split, 'step': step, 'loss': 2 - step / 80,
                         'accuracy': 0.2 + step / 200 + 0.05 * rng.random()})
    return rows


def write_run(folder, content=None, config=None, rows=None):
    """One run's config.json, metrics.jsonl and result.json."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    content = result() if content is None else content
    (folder / 'result.json').write_text(json.dumps(content))
    config = config or {'seed': content['seed'], 'pretrain': {'steps': 80}}
    (folder / 'config.json').write_text(json.dumps(config))
    rows = metrics_rows(content['seed']) if rows is None else rows
    (folder / 'metrics.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows))
    return folder


def write_comparison(folder, values, baseline=None, failures=(), **changes):
    """A comparison.

    Args:
        values: label -> {seed: metrics, or None for a run that is not finished}.
        failures: (label, seed, message) of runs among the unfinished.
        changes: for every result.
    """
    folder = pathlib.Path(folder)
    plan = {'config': 'configs/fip/constellation.py', 'vary': {'variant': list(values)},
            'labels': list(values),
            'baseline': baseline or next(iter(values)), 'command': 'python -m fipjax.compare ...',
            'seeds': sorted({seed for by_seed in values.values() for seed in by_seed}), 'runs': []}
    for label, by_seed in values.items():
        for seed, metrics in by_seed.items():
            name = f'{label}-seed{seed}'
            plan['runs'].append({'folder': name, 'label': label, 'seed': seed})
            if metrics is not None:
                write_run(folder / 'runs' / name, result(label, seed, metrics, **changes))
    for label, seed, message in failures:
        place = folder / 'runs' / f'{label}-seed{seed}'
        place.mkdir(parents=True, exist_ok=True)
        (place / 'failure.json').write_text(json.dumps({'message': message}))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'comparison.json').write_text(json.dumps(plan))
    return folder
