"""The small modalities, settings, batches and configs that the tests share."""
from __future__ import annotations

import functools
import json
import types

import jax
import numpy as np
import optax

from fipjax import config as config_lib
from fipjax import parallel
from fipjax.algorithms import estimated, finetune, fip, importance
from fipjax.algorithms.base import State
from fipjax.modality import Modality
from fipjax.models import multimodal

IMAGE = Modality('image', 'image', (8, 8, 2), 4)           # 4 tokens of 32 numbers
SEQUENCE = Modality('sequence', 'sequence', (32, 2), 8)    # 4 tokens of 16 numbers
TEXT = Modality('text', 'tokens', (6,), 1, vocab=7)        # 6 tokens
MODALITIES = {m.name: m for m in (IMAGE, SEQUENCE, TEXT)}
CLASSES = 3
WIDTHS = types.SimpleNamespace(dim=16, depth=1, heads=2, mlp_ratio=2, decoder_dim=8, decoder_heads=2)
DEPTHS = {'image': 1, 'sequence': 1, 'text': 1}
NAMES, SHALLOW = tuple(MODALITIES), tuple(DEPTHS.items())  # hashable, as the caches need them

PLAIN = fip.Settings(target='image', masking='fixed', dirichlet_alpha=1.0,
                     mask_ratio={'image': 0.5, 'sequence': 0.5, 'text': 0.5},
                     loss_weight={'image': 1.0, 'sequence': 1.0, 'text': 1.0},
                     attention_bias={'image': 1.0, 'sequence': 1.0, 'text': 1.0},
                     consistency=0.0, normalise_targets=False)
SGD = optax.sgd(1.0)  # with it, a step subtracts the gradient
KEY = np.array([0, 3], np.uint32)  # of the masks; the key data of jax.random.key(3)
# All five levers at once; decoder depth, the third, is DEPTHS.
LEVERS = PLAIN._replace(mask_ratio={'image': 0.75, 'sequence': 0.5, 'text': 0.34},
                        loss_weight={'image': 3.0, 'sequence': 1.0, 'text': 0.5},
                        attention_bias={'image': 2.0, 'sequence': 1.0, 'text': 0.5}, consistency=0.3)
DIRICHLET = LEVERS._replace(masking='dirichlet', normalise_targets=True)


@functools.cache
def model(names=NAMES, depths=SHALLOW):
    """The tiny model of these modalities; `depths` () builds no decoders."""
    chosen = dict(depths)
    return multimodal.build({m: MODALITIES[m] for m in names}, WIDTHS, {m: chosen[m] for m in names if m in chosen})


@functools.cache
def params():
    """Parameters and statistics of the tiny model, all moved off their initial zeros and ones; float32, host."""
    rng = np.random.default_rng(0)
    with jax.enable_x64(False):
        return jax.tree.map(lambda x: np.asarray(x) + rng.normal(0, 0.1, x.shape).astype(np.float32),
                            model().init(jax.random.key(0)))


def batch(n: int, seed: int = 0, first_id: int = 0, *, missing: bool = False, padded: int = 0, labels: bool = False):
    """A batch of all modalities. `missing` leaves out modalities at random (row 0 has all, row 1 only 'sequence');
    `padded` rows at the end are copies of the last example with mask False."""
    rng = np.random.default_rng([seed, n])
    real = n - padded
    x = {'image': rng.normal(size=(real, 8, 8, 2)), 'sequence': rng.normal(size=(real, 32, 2))}
    inputs = {m: v.astype(np.float32) for m, v in x.items()} | {'text': rng.integers(0, 7, (real, 6)).astype(np.int32)}
    targets = {**inputs, 'image': (inputs['image'] * np.float32(0.9) + np.float32(0.1))}
    here = {m: rng.random(real) < 0.6 if missing else np.ones(real, bool) for m in MODALITIES}
    if missing:
        for m in here:
            here[m][0], here[m][1:2] = True, m == 'sequence'
    out = {'id': np.arange(first_id, first_id + real, dtype=np.int32), 'inputs': inputs, 'targets': targets,
           'present': here}
    if labels:
        out['label'] = rng.integers(0, CLASSES, real).astype(np.int32)
    rows = np.minimum(np.arange(n), real - 1)
    return {**jax.tree.map(lambda v: v[rows], out), 'mask': np.arange(n) < real}


def cast(tree, dtype):
    """Floating-point leaves as `dtype`, on the host."""
    return jax.tree.map(lambda v: np.asarray(v, dtype) if np.issubdtype(np.asarray(v).dtype, np.floating)
                        else np.asarray(v), tree)


def float64_batch(**how):
    """A batch of 6 in float64."""
    return cast(batch(6, **how), np.float64)


@functools.cache
def _sampler(masking, ratios):
    settings = PLAIN._replace(masking=masking, mask_ratio=dict(ratios))
    return jax.jit(functools.partial(fip.sample_masks, MODALITIES, settings))


def masks_of(settings, batch, step):
    """bool [B, N], which tokens a step shows."""
    present = np.stack([batch['present'][m] & batch['mask'] for m in MODALITIES], 1)
    sample = _sampler(settings.masking, tuple(settings.mask_ratio.items()))
    return np.asarray(sample(KEY, step, batch['id'], present).visible)


def relative(a, b):
    """Largest difference of two trees relative to the largest number in the second."""
    flat = lambda t: np.concatenate([np.ravel(np.asarray(x, np.float64)) for x in jax.tree.leaves(t)])  # noqa: E731
    a, b = flat(a), flat(b)
    assert a.shape == b.shape
    return np.max(np.abs(a - b)) / max(np.max(np.abs(b)), 1e-30)


def state(params, step: int = 0, optimizer=None):
    """A state at given parameters, as if after `step` steps; fine-tuning trains all of them."""
    return State(np.int32(step), KEY, params, (optimizer or SGD).init(params))


def gradients(algorithm, params, batch, step: int = 0):
    """What one step of an algorithm with `optax.sgd(1.0)` subtracts from the parameters, and its metrics."""
    before = state(params, step)
    after, metrics = compiled(algorithm)(before, batch)
    return jax.tree.map(lambda a, b: np.asarray(a) - np.asarray(b), before.params, after.params), metrics


@functools.cache
def compiled(algorithm):
    """The step of an algorithm on one device, compiled once for each shape."""
    return jax.jit(functools.partial(algorithm.step, psum=parallel.identity))


@functools.cache
def _pretraining(settings, names, depths, optimizer):
    settings = fip.Settings(*[dict(v) if isinstance(v, tuple) else v for v in settings])
    return fip.make(model(names, depths), {m: MODALITIES[m] for m in names}, settings, optimizer)


def pretraining(settings=PLAIN, names=NAMES, depths=SHALLOW, optimizer=SGD):
    """FIP as an algorithm, the same object for the same arguments, so that `compiled` is shared."""
    frozen = tuple(tuple(sorted(v.items())) if isinstance(v, dict) else v for v in settings)
    return _pretraining(frozen, tuple(names), depths, optimizer)


@functools.cache
def estimating(method, names=NAMES, every=2, target='image', optimizer=SGD, examples=12):
    """FIP with weights estimated by `method` from `examples` labelled ones; the settings are strong enough to see."""
    shared = multimodal_of(names)
    how = importance.Settings(method, every, rate=2.0, floor=0.05, temperature=0.8, penalty=0.3, alpha=0.05)
    estimator = estimated.Estimator(how, *shared, target, CLASSES, examples)
    return fip.make(*shared, PLAIN._replace(target=target), optimizer, estimator=estimator)


def multimodal_of(names):
    """The tiny model and its modalities."""
    return model(names, SHALLOW), {m: MODALITIES[m] for m in names}


def downstream(n=12, padded=2, seed=5):
    """Labelled examples as a batch brings them along; two of the last are padding."""
    rows = batch(n, seed, 1000, missing=True, padded=padded, labels=True)
    rows['label'][:CLASSES] = np.arange(CLASSES)
    return {'id': rows['id'], 'inputs': rows['inputs'], 'present': rows['present'], 'label': rows['label'],
            'valid': rows['mask'], 'row': np.arange(n, dtype=np.int32)}


@functools.cache
def finetuning_start(pretrained=True):
    """What fine-tuning on 'image' starts from: `params()` or fresh ones, and some statistics of the code."""
    with jax.enable_x64(False):
        start = params() if pretrained else model().init(jax.random.key(9))
    rng = np.random.default_rng(1)
    code = {'mean': rng.normal(size=WIDTHS.dim), 'deviation': rng.uniform(0.5, 2, WIDTHS.dim)}
    return {**finetune.target_params(start, 'image'), 'code': cast(code, np.float32)}


@functools.cache
def finetuning(mode='full', optimizer=SGD, pretrained=True):
    """Fine-tuning on 'image' as an algorithm."""
    head = multimodal.head(WIDTHS.dim, CLASSES, 8 if mode == 'frozen' else 0)
    return finetune.make(model(('image',), ()), head, 'image', mode, optimizer, finetuning_start(pretrained))


def arrays(n: int = 60, seed: int = 0) -> dict:
    """Arrays as an .npz file has them: two modalities, labels that the image shows, and the four splits."""
    rng = np.random.default_rng(seed)
    label = np.arange(n) % CLASSES
    image = rng.normal(size=(n, 8, 8, 2)).astype(np.float32) + label[:, None, None, None].astype(np.float32)
    split = np.array(['pretrain', 'train', 'train', 'validation', 'test'])[np.arange(n) // CLASSES % 5]
    return {'image': image, 'sequence': rng.normal(size=(n, 32, 2)).astype(np.float32), 'label': label,
            'snr_db': (np.arange(n) % 4).astype(np.float32), 'split': split}


def config(**changes):
    """A config of a few steps on arrays of 'image' and 'sequence'; `changes` are dotted keys with __ for the dot."""
    specs = {m.name: {'kind': m.kind, 'shape': m.shape, 'patch': m.patch} for m in (IMAGE, SEQUENCE)}
    c = config_lib.base(specs)
    c.name = 'tiny'
    c.data.source, c.data.path = 'arrays', 'data.npz'
    c.model.update(vars(WIDTHS))
    for stage in (c.pretrain, c.finetune):
        stage.steps, stage.batch_size, stage.eval_every = 8, 6, 4
        stage.optimizer.warmup_steps = 2
    c.finetune.labels_per_class = (2,)
    c.checkpoint.every, c.log_every, c.eval_batch_size = 2, 1, 8
    for key, value in changes.items():
        group, _, leaf = key.replace('__', '.').rpartition('.')
        (config_lib.get(c, group) if group else c)[leaf] = value
    return c


def config_file(path, **changes) -> str:
    """Writes a config file with `config(**changes)` and the variants 'tiny' and 'other'; returns its path."""
    changed = {key: value for key, value in changes.items()}
    path.write_text(f"""from fipjax import config as config_lib

SPECS = {json.dumps(config().data.modalities.to_dict())}
MODALITIES = {{m: dict(v, shape=tuple(v['shape'])) for m, v in SPECS.items()}}


def get_config(variant='tiny'):
    if variant not in ('tiny', 'other'):
        raise config_lib.UserError(f'variant {{variant!r}} is unknown; allowed: tiny, other')
    c = config_lib.base(MODALITIES)
    c.update({_as_python(config())})
    c.variant = variant
    for key, value in {changed!r}.items():
        group, _, leaf = key.replace('__', '.').rpartition('.')
        (config_lib.get(c, group) if group else c)[leaf] = value
    return c
""")
    return str(path)


def _as_python(c):
    keep = ('name', 'data', 'model', 'pretrain', 'finetune', 'checkpoint', 'log_every', 'eval_batch_size')
    full = c.to_dict()
    return repr({k: full[k] for k in keep})
