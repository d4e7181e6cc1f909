"""Scores of the modalities by each estimator with labels, draw after draw; for fipjax.analysis.importance."""
from __future__ import annotations

import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from fipjax import bars, checkpoint, validation
from fipjax import config as config_lib
from fipjax.algorithms import estimated, fip, importance
from fipjax.algorithms.base import State
from fipjax.analysis import runs
from fipjax.data import downstream, sources
from fipjax.errors import NonFinite, UserError
from fipjax.evaluators import trivial
from fipjax.experiments import fip as experiment
from fipjax.overrides import override
from fipjax.parallel import identity

FEATURES = 512  # most numbers of a modality's raw code
GROUP = 'pretrain.fip.downstream.'


class Opened(NamedTuple):
    """What is asked.

    Attributes:
      config: checked.
      parts: with model, settings and modalities.
      params: with params['importance'], whose 'z' are the weights of 'meta'.
      source: of unlabelled examples of these modalities.
      labelled: examples.
      classes: their names.
      trained: whether the encoder is; False: data alone.
      step: of the parameters.
    """

    config: ConfigDict
    parts: experiment.Pretraining
    params: dict
    source: Any
    labelled: downstream.Labelled
    classes: tuple[str, ...]
    trained: bool
    step: int

    @property
    def settings(self) -> importance.Settings:
        """Of the estimates, as the config has them."""
        return importance.Settings(**{k: self.config.pretrain.fip.downstream[k] for k in importance.Settings._fields})


# --- Scores of draws --------------------------------------------------------------------------------------------------

def raw_codes(modalities: Mapping, rows) -> list[np.ndarray]:
    """Examples as plain numbers, what 'ablation' of data alone takes for codes: float32 [D, F_m] of each modality.

    Values channel after channel, of token ids how often each occurs; more than FEATURES are averaged down evenly. A
    modality that is missing in an example is 0; the probe standardises.

    Args:
      modalities: name -> Modality.
      rows: 'inputs' {m: [D, *shape]}, 'present' {m: bool [D]}.
    """
    out = []
    for m, spec in modalities.items():
        x = np.asarray(rows['inputs'][m])
        x = trivial.features(x, spec.vocab) if spec.kind == 'tokens' else np.moveaxis(x, -1, 1).reshape(len(x), -1)
        x = trivial.pool_axis(x.astype(np.float64), 1, FEATURES)
        out.append(np.where(rows['present'][m][:, None], x, 0).astype(np.float32))
    return out


def scorer(opened: Opened, method: str):
    """The compiled function (state, batch, rows, raw, labels int [D]) -> s_m [M].

    Not to be mapped over labels by jax.vmap: solves of many matrices that XLA starts side by side on few CPU cores wait
    for each other for ever (jaxlib 0.10.2).

    Args:
      opened: what is asked.
      method: one of importance.LABELLED. For 'ablation' `raw`, from `raw_codes`, takes the place of the encoder's codes
        unless it is None. They are many more numbers; the probe's penalty grows with them, so that a number more or
        less does not change how much the probe overfits.
    """
    parts, n = opened.parts, len(opened.labelled)
    how = opened.settings._replace(method=method)
    estimator = estimated.Estimator(how, parts.model, parts.modalities, parts.settings.target, len(opened.classes), n)

    def score(state, batch, rows, raw, labels):
        counts = fip.loss_counts(parts.modalities, parts.settings, batch, state.key, state.step)
        losses = fip.losses_by_encoder(parts.model, parts.modalities, parts.settings, state, batch, counts)
        task = estimator.task(state, {**rows, 'label': labels}, identity)
        settings = how
        if raw is not None:
            features = sum(x.shape[1] for x in raw)
            settings = how._replace(penalty=how.penalty * features / opened.config.model.dim)
            task = task._replace(code_without=lambda left_out: jnp.concatenate(
                [x for i, x in enumerate(raw) if i != left_out], 1))
        return importance.update(state.params[fip.IMPORTANCE], settings, losses, state.params['encoder'], task,
                                 identity)['score']

    return jax.jit(score)


def unlabelled(opened: Opened, draw: int) -> dict:
    """The batch of a draw, from the unlabelled split."""
    size, source = opened.config.pretrain.batch_size, opened.source
    order = np.random.default_rng([opened.config.seed, 80, draw]).permutation(len(source))
    given = source.take(order[np.arange(size) % len(source)])
    return {**{k: given[k] for k in ('id', 'inputs', 'targets', 'present')}, 'mask': np.ones(size, bool)}


def measure(opened: Opened, draws: int, progress: bool = True,
            methods: Sequence[str] = importance.LABELLED) -> tuple[dict, dict]:
    """Scores of all draws: (method -> [2, draws, M], with the labels and with shuffled ones; method -> seconds).

    Args:
      opened: what is asked.
      draws: how many.
      progress: show a progress bar on standard error.
      methods: of importance.LABELLED.

    Raises:
      NonFinite: a score is not finite.
    """
    n, names = len(opened.labelled), list(opened.parts.modalities)
    rows = {**opened.labelled.take(np.arange(n)), 'row': np.arange(n, dtype=np.int32)}
    raw = None if opened.trained else raw_codes(opened.parts.modalities, rows)
    params, rows, raw = jax.device_put((opened.params, rows, raw))
    key = jax.random.key_data(jax.random.key(opened.config.seed))
    scorers = {method: scorer(opened, method) for method in methods}
    found, seconds = {method: [] for method in scorers}, dict.fromkeys(scorers, 0.0)
    for k in bars.bar(range(draws), desc='importance', unit='draw', show=progress):
        state, batch = State(np.int32(k), key, params, None), unlabelled(opened, k)
        shuffled = np.random.default_rng([opened.config.seed, k]).permutation(opened.labelled.labels)
        labels = opened.labelled.labels, shuffled
        for method, score in scorers.items():
            began = time.monotonic()
            own = raw if method == 'ablation' else None
            found[method].append(np.array([score(state, batch, rows, own, y) for y in labels], float))
            seconds[method] += time.monotonic() - began
            wrong = ~np.isfinite(found[method][-1]).all(0)
            if wrong.any():
                raise NonFinite(f'{method}: the score of {names[int(wrong.argmax())]} is not finite in draw {k}')
    return {method: np.stack(parts, 1) for method, parts in found.items()}, seconds


# --- What is asked ----------------------------------------------------------------------------------------------------

def open_run(workdir: str, overrides=(), splits=None, progress: bool = True) -> Opened:
    """A finished run with its data and the parameters that it pretrained.

    Args:
      workdir: of the run.
      overrides: [(dotted key of pretrain.fip.downstream, text)].
      splits: data of a run that was given them in memory.

    Raises:
      UserError: no finished run; see also `check` and data.downstream.build.
    """
    if not (pathlib.Path(workdir) / runs.RESULT).exists():
        raise UserError(f'--run={workdir}: no finished run there (no {runs.RESULT})')
    run = runs.load_run(workdir)
    config = ConfigDict(_tuples(run.config))
    for k, text in overrides:
        if not k.startswith(GROUP):
            raise UserError(f'--config.{k}={text}: of a run only --config.{GROUP}KEY=VALUE can be given')
        override(config, k, text)
    check(config, f'--run={workdir}')
    if config.finetune.encoder_from:
        raise UserError(f'--run={workdir}: finetune.encoder_from is {config.finetune.encoder_from!r}; allowed: a run '
                        'that pretrained an encoder of its own')
    params = checkpoint.load_params(workdir)
    step = checkpoint.Checkpoints(pathlib.Path(workdir) / 'checkpoints' / 'pretrain').steps()[-1]
    opened = _open(config, splits, progress)
    z = importance.start(len(opened.parts.modalities))['z']
    if fip.IMPORTANCE in params:
        z = by_name(params[fip.IMPORTANCE]['z'], [run.result['metrics'][f'pretrain/weight/{m}']
                                                  for m in opened.parts.modalities])
    return opened._replace(params=_with(params, z), trained=True, step=step)


def open_config(path: str, overrides=(), splits=None, progress: bool = True) -> Opened:
    """The data of a config and its encoder before the first step; errors as `open_run` and config.load."""
    config = config_lib.load(path, None, overrides)
    check(config, f'--config={path}')
    opened = _open(config, splits, progress)
    params = opened.parts.algorithm.init(jax.random.key(config.seed)).params
    return opened._replace(params=_with(params, importance.start(len(opened.parts.modalities))['z']))


def check(config: ConfigDict, where: str) -> None:
    """Raises UserError unless a config pretrains by FIP on two modalities at least."""
    if config.get('wing') != 'fip':
        raise UserError(f"{where}: wing is {config.get('wing')!r}; allowed: 'fip'")
    validation.validate(config)
    if config.pretrain.algorithm != 'fip':
        raise UserError(f"{where}: pretrain.algorithm is {config.pretrain.algorithm!r}; allowed: 'fip'")
    used = tuple(config.pretrain.modalities or config.data.modalities)
    if len(used) < 2:
        raise UserError(f'{where}: pretraining sees the modality {used[0]} alone; allowed: two or more')


def by_name(kept, weights: Sequence[float]) -> np.ndarray:
    """`kept` z [M] in the order of the modalities whose weights [M] these are: config.json does not keep the order of
    the data's modalities, but weights grow with z."""
    return np.sort(np.asarray(kept))[np.argsort(np.argsort(weights, kind='stable'))]


def _open(config, splits, progress):
    splits = splits or sources.build(config.data, progress)
    settings = config.pretrain.fip.downstream.copy_and_resolve_references()
    settings.shuffled = False
    labelled, classes = downstream.build(settings, splits, config.data, config.seed, 1)
    statistics = experiment.data_statistics(splits.pretrain)
    parts = experiment.pretraining(config, statistics, estimates=False)
    source = sources.Subset(splits.pretrain, np.arange(len(splits.pretrain)), tuple(parts.modalities))
    return Opened(config, parts, {}, source, labelled, classes, False, 0)


def _with(params, z):
    return {**params, fip.IMPORTANCE: {**importance.start(len(z)), 'z': jnp.asarray(z, jnp.float32)}}


def device() -> str:
    """What the scores are computed on."""
    return jax.devices()[0].device_kind


def _tuples(value):
    if isinstance(value, dict):
        return {k: _tuples(v) for k, v in value.items()}
    return tuple(value) if isinstance(value, list) else value
