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


METHODS = ('scratch', 'finetune', 'frozen', 'embedder', 'orca', 'mona')
BEFORE = 0.2  # probe error of the source encoder


def transfer(method='mona', seed=0, labels=(5, 0), place=0.0, output='error', **changes):
    """result.json of a run of wing 'mona'; `place` moves all its numbers, `output` is the headline metric."""
    turn = METHODS.index(method) if method in METHODS else 0
    noise = np.random.default_rng([seed, turn]).normal(0, 0.01)
    score = {n: 0.5 - 0.2 * (n == 0) - 0.03 * turn + noise + place / 10 for n in labels}
    rise = {n: 0.0 if method == 'frozen' else 0.3 - 0.04 * turn + noise + place / 5 for n in labels}
    d = {n: 0.9 - 0.02 * turn + noise + place for n in labels}
    metrics = {f'test/{output}@{n}': score[n] for n in labels}
    metrics |= {f'test/macro_f1@{n}': 1 - score[n] for n in labels} if output == 'error' else {}
    metrics |= {f'validation/accuracy@{n}': 1 - score[n] for n in labels} | {'source/probe_error_before': BEFORE}
    metrics |= {f'source/probe_error@{n}': BEFORE + rise[n] for n in labels}
    metrics |= {f'source/discrepancy@{n}': d[n] for n in labels}
    stage_1 = method in ('embedder', 'orca', 'mona')
    metrics |= {f'stage_1/seconds@{n}': 10.0 + seed for n in labels if stage_1}
    classes = [str(k) for k in range(4)]
    details = {f'test/error@{n}': {'confusion': np.diag([25] * 4).tolist(), 'classes': classes, 'count': 100}
               for n in labels if output == 'error'}
    details |= {f'discrepancy@{n}': {'distance': 'probability', 'pairs': [[k, k] for k in range(4)]} for n in labels}
    stages = [f'{stage}_{n}' for n in labels for stage in (('stage_1',) if stage_1 else ()) + ('stage_2',)]
    content = {
        'name': 'transfer', 'variant': '', 'seed': seed, 'method': method, 'target': 'x float32: 1d',
        'metrics': metrics, 'headline': [f'{k}@{n}' for k in (f'test/{output}', 'source/probe_error',
                                                              'source/discrepancy') for n in labels],
        'references': {name: {f'test/{output}@{n}': value + seed / 100 for n in labels}
                       for name, value in (('majority', 0.75), ('logistic regression', 0.36))},
        'observed': [{'labels': n, 'step': step, 'folder': f'parameters/stage_2_{n}/{step}',
                      'probe_error': BEFORE + (step / 100 * rise[n] if method != 'scratch' else rise[n])}
                     for n in labels for step in (0, 25, 50, 100)],
        'details': details, 'trivial': {}, 'trivial_name': '', 'chance': None, 'ceiling': None, 'ceiling_reason': '',
        'test_examples': 100, 'pictures': [], 'seconds': {**dict.fromkeys(stages, 5.0), 'total': 5.0 * len(stages)},
        'steps_per_second': dict.fromkeys(stages, 4.0), 'host_share': dict.fromkeys(stages, 0.1),
        'flops': {s: 2e9 for s in stages if not (method == 'orca' and s.startswith('stage_1'))} | {'total': 8e9},
        'parameters': {'embedder': 100, 'encoder': 1000, 'predictor': 10}, 'commit': 'abc1234',
        'versions': {'python': '3.11.7'}, 'device': 'cpu x 1', 'date': '2026-11-23'}
    return {**content, **changes}


def transfer_config(seed=0, labels=(5, 0), **target):
    """config.json of such a run, as far as analysis looks."""
    return {'wing': 'mona', 'seed': seed, 'variant': '',
            'target': {'name': 'digits', 'path': '', 'view': 'raw', **target},
            'transfer': {'labels_per_class': list(labels)}}


def write_transfers(folder, methods=METHODS, seeds=(0, 1, 2), target=None, **how):
    """A comparison of methods; `target` are keys of config.target, `how` goes to `transfer`."""
    folder = pathlib.Path(folder)
    plan = {'config': 'configs/mona/quick.py', 'vary': {'transfer.method': list(methods)}, 'labels': list(methods),
            'baseline': 'finetune' if 'finetune' in methods else methods[0], 'seeds': list(seeds), 'runs': []}
    rows = [{'stage': stage, 'split': split, 'step': step, 'loss': 2 - step / 80}
            for stage in ('stage_1_5', 'stage_2_5') for step in (20, 40) for split in ('train', 'validation')]
    for method in methods:
        for seed in seeds:
            name = f'{method}-seed{seed}'
            plan['runs'].append({'folder': name, 'label': method, 'seed': seed})
            config = transfer_config(seed, **(target or {}))
            write_run(folder / 'runs' / name, transfer(method, seed, **how), config, rows)
    (folder / 'comparison.json').write_text(json.dumps(plan))
    return folder


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
