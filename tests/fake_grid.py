"""Comparisons of wing 'vlp' as they leave their workdirs, with made-up numbers, for the tests of `analysis`."""
import itertools
import json
import pathlib

import fake_runs
import numpy as np

from fipjax import config as config_lib
from fipjax.analysis import questions
from fipjax.evaluators import vqa

OUTPUTS = {'vqa': 'answers', 'vizwiz': 'answers', 'entailment': 'classes', 'genres': 'labels'}
SETS = ('coco', 'cc', 'vqa', 'ccg')
LEVEL = {'vqa': 0.48, 'vizwiz': 0.45, 'entailment': 0.65, 'genres': 0.82}  # without pretraining
GAIN = {'none': 0.0, 'coco': 0.06, 'cc': 0.03, 'cc_small': 0.01, 'vqa': 0.08, 'ccg': 0.04}
CLASSES = ('contradiction', 'entailment', 'neutral')
REFERENCES = {'majority': 0.34, 'linear, text': 0.4, 'linear, regions': 0.2, 'linear, both': 0.5}


def metric(task, at='100%'):
    """The headline of a task."""
    return f'test/{task}/{vqa.HEADLINE[OUTPUTS[task]]}@{at}'


def config(data='coco', objective='mlm', model='visualbert', mode='full', seed=0, **pretrain):
    """config.json of a run; `pretrain` are keys of that group."""
    c = config_lib.vlp_base()
    c.name, c.seed, c.model, c.finetune.mode = 'grid', seed, model, mode
    c.pretrain.update({'data': data, 'objective': objective, **pretrain})
    return json.loads(c.to_json())


def scores(data='coco', objective='mlm', model='visualbert', mode='full', seed=0, tasks=tuple(OUTPUTS)):
    """Headline by metric: what the choices add, and noise of the seed."""
    rng = np.random.default_rng([seed, *f'{data}{objective}{model}{mode}'.encode()])
    gain = GAIN[data] + 0.02 * (objective == 'mmm') + 0.01 * (model == 'vilbert')
    return {metric(t): LEVEL[t] + gain - (0.7 * LEVEL[t] if t == 'genres' else 0.15) * (mode == 'frozen')
            + rng.normal(0, 0.01) for t in tasks}


def result(variant, seed, metrics, data='coco', **changes):
    """result.json of a run with these headline metrics."""
    tasks = [name.split('/')[1] for name in metrics]
    stages = [f'{t}@100%' for t in tasks]
    rng = np.random.default_rng([seed, *variant.encode()])
    before = {} if data == 'none' else {'pretrain': 90.0}
    full = metrics | {name.replace('test/', 'validation/'): value for name, value in metrics.items()}
    confusion = rng.multinomial(100, (0.6, 0.3, 0.1), 3).tolist()
    details = {metric(t): {'confusion': confusion, 'classes': list(CLASSES), 'count': 300}
               for t in tasks if OUTPUTS[t] == 'classes'}
    return fake_runs.result(variant, seed, full, **{
        'name': 'grid', 'headline': list(metrics), 'details': details,
        'trivial': {}, 'trivial_name': '', 'chance': None,
        'references': {name: dict.fromkeys(metrics, value) for name, value in REFERENCES.items()},
        'seconds': {**before, **dict.fromkeys(stages, 20.0), 'total': 100.0},
        'steps_per_second': dict.fromkeys(stages, 25.0), 'host_share': dict.fromkeys(stages, 0.02),
        'flops': {**{k: 4e11 for k in before}, **dict.fromkeys(stages, 2e11), 'total': 9e11},
        'parameters': {'base': 80000, 'head': 3000}, 'test_examples': ', '.join(f'{t} 2000' for t in tasks),
        'target': "scenes 'vqa': 2168 pictures", 'pretraining': data, **changes})


def rows(metrics, seed=0):
    """metrics.jsonl of the fine-tunings."""
    rng = np.random.default_rng(seed)
    return [{'stage': f'{name.split("/")[1]}@100%', 'split': split, 'step': step, 'loss': 4 - step / 200 + rng.random(),
             name.split('/')[2].partition('@')[0]: value * (0.4 + step / 1000)}
            for name, value in metrics.items() for step in range(0, 601, 100) for split in ('train', 'validation')]


def write(folder, data=SETS, objectives=('mlm', 'mmm'), models=('visualbert',), modes=('full',), seeds=(0, 1, 2),
          tasks=tuple(OUTPUTS), baseline=None, missing=()):
    """The comparison over these choices; 'none' has one objective. `missing`: (label, seed) of unfinished runs."""
    folder = pathlib.Path(folder)
    chosen = [c for c in itertools.product(data, objectives, models, modes) if c[0] != 'none' or c[1] == objectives[0]]
    labels = {'_'.join(c): c for c in chosen}
    plan = {'config': 'configs/vlp/grid.py', 'command': 'python -m fipjax.compare ...', 'seeds': list(seeds),
            'vary': {'pretrain.data': list(data), 'pretrain.objective': list(objectives), 'model': list(models),
                     'finetune.mode': list(modes)},
            'labels': list(labels), 'baseline': baseline or next(iter(labels)),
            'runs': [{'folder': f'{k}-seed{s}', 'label': k, 'seed': s} for k in labels for s in seeds]}
    for (label, choice), seed in itertools.product(labels.items(), seeds):
        if (label, seed) not in missing:
            found = scores(*choice, seed, tasks)
            fake_runs.write_run(folder / 'runs' / f'{label}-seed{seed}', result(label, seed, found, choice[0]),
                                config(*choice, seed), rows(found, seed))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'comparison.json').write_text(json.dumps(plan))
    return folder


def cell(seed=0, value=0.5, metric='test/vqa/soft_accuracy@100%', **factors):
    """A run as fipjax.analysis.questions has it; `factors` replace those of the default config."""
    known = {'data': 'coco', 'share': 1.0, 'objective': 'mlm', 'model': 'visualbert', 'mode': 'full', 'inputs': 'both',
             'seen': 'both', 'mismatched': False, 'zero': False, 'padded': False, 'tied': True, 'pretraining': '',
             'setting': ''}
    known |= factors
    if known['data'] == 'none':
        known |= dict.fromkeys(questions.PRETRAINING, 'none')
    return questions.Cell(known, seed, {metric: value})
