"""Finetune-Informed Pretraining, FIP (arXiv 2601.20884): masked pretraining biased towards one target modality.

Modalities m = 1..M, target t. A share r_m of the tokens of m is masked; the shared encoder sees the visible tokens of
all modalities together; a decoder for each modality predicts its masked tokens.

    L_m = sum over masked tokens of m of the token's error / number of them                                       (1)
    L   = sum_m w_m L_m / sum_m w_m + c R                                                                         (2)

The five levers, each alone a setting: r_t > r_m (mask_counts), w_t > w_m (weighted_loss), depth_t > depth_m (the
model's decoders), keys of modality m counted a_m times (attention_log_bias), and the regulariser R (consistency).
The paper's values are not public; every number is configuration.

Modalities may be missing in an example (batch['present']) or in the whole batch: they enter neither attention nor
loss, and w_m of a modality without a single masked token leaves both sums of (2).

The weights are the user's, or estimated during pretraining from labels of the task (algorithms/estimated.py).
"""
from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fipjax import metrics as metrics_lib
from fipjax.algorithms import importance
from fipjax.algorithms.base import Algorithm, State, example_keys, initial, update
from fipjax.modality import Modality, normalise_patches, patchify
from fipjax.models.multimodal import Model, standardise
from fipjax.models.predictors import mean_token
from fipjax.models.transformer import MASKED

CONSISTENCY, IMPORTANCE = 'consistency', 'importance'


class Settings(NamedTuple):
    """FIP's settings, resolved: one value for each modality by name.

    Attributes:
      target: name of the target modality t.
      masking: 'fixed' or 'dirichlet'.
      dirichlet_alpha: concentration of the shares under 'dirichlet'.
      mask_ratio: r_m in [0, 1).
      loss_weight: w_m >= 0, at least one positive.
      attention_bias: a_m > 0.
      consistency: c >= 0.
      normalise_targets: predict tokens normalised to mean 0 and variance 1.
    """

    target: str
    masking: str
    dirichlet_alpha: float
    mask_ratio: Mapping[str, float]
    loss_weight: Mapping[str, float]
    attention_bias: Mapping[str, float]
    consistency: float
    normalise_targets: bool


class Masks(NamedTuple):
    """Which tokens are visible; all modalities one after the other in the order of the model, N tokens together.

    Attributes:
      visible: bool [B, N].
      kept: int [B, K], the positions that the encoder is given; those not visible are padding.
      asked: name -> int [B, Q_m], positions within modality m that are predicted.
      lost: name -> bool [B, Q_m], whether the asked position is masked (it counts in the loss).
    """

    visible: jax.Array
    kept: jax.Array
    asked: dict
    lost: dict


# --- Lever 1: masking -----------------------------------------------------------------------------------------------

def mask_counts(modalities: Mapping[str, Modality], mask_ratio: Mapping[str, float]) -> dict[str, int]:
    """Visible tokens of each modality: N_m - round(r_m N_m), at least one."""
    return {m: max(1, s.tokens - int(np.floor(mask_ratio[m] * s.tokens + 0.5))) for m, s in modalities.items()}


def random_ranks(key, tokens: int):
    """A random order of the tokens: rank of each, int [tokens], 0 is the first to be visible."""
    return jnp.argsort(jnp.argsort(jax.random.uniform(key, (tokens,))))


def dirichlet_scores(key, ranks: Mapping[str, jax.Array], present, alpha: float):
    """Scores for one example: the K tokens of lowest score are visible (MultiMAE, arXiv 2204.01678, section 3.3).

    The modalities' shares p_m of the K visible tokens are drawn from a symmetric Dirichlet over those present. The
    token of rank r in modality m scores (r + 1/2) / p_m: taking the K lowest hands out the tokens by Webster's
    method, that is round(p_m K) each, exactly K together and never more than a modality has.

    Args:
      ranks: name -> int [N_m].
      present: bool [M].

    Returns:
      float32 [N], infinite for modalities that are not present.
    """
    gamma = jnp.where(present, jax.random.gamma(key, alpha, (len(ranks),)) + 1e-6, 0.0)
    share = gamma / jnp.maximum(gamma.sum(), 1e-6)
    return jnp.concatenate([jnp.where(share[i] > 0, (r + 0.5) / jnp.maximum(share[i], 1e-9), jnp.inf)
                            for i, r in enumerate(ranks.values())])


def sample_masks(modalities: Mapping[str, Modality], settings: Settings, key, step, ids, present) -> Masks:
    """Draws the masks of a batch; static shapes, so that masked tokens cost the encoder nothing.

    Args:
      key: uint32 [2], as in State; step: int scalar; ids: int [B]; present: bool [B, M].

    Returns:
      Masks. Under 'fixed' modality m shows mask_counts(m) tokens and the others are asked for. Under 'dirichlet' the
      same number of tokens in all is split at random and every position is asked for.
    """
    names, counts = list(modalities), mask_counts(modalities, settings.mask_ratio)
    budget = sum(counts.values())

    def one(key, here):
        ranks = {m: random_ranks(jax.random.fold_in(key, i), s.tokens) for i, (m, s) in enumerate(modalities.items())}
        if settings.masking == 'fixed':
            visible = {m: (ranks[m] < counts[m]) & here[i] for i, m in enumerate(names)}
            # Padding positions of missing modalities keep K static; they are not visible and get no attention.
            kept = jnp.concatenate([jnp.argsort(ranks[m])[:counts[m]] + offset
                                    for m, offset in zip(names, _offsets(modalities), strict=True)])
            asked = {m: jnp.argsort(ranks[m])[counts[m]:] for m in names}
        else:
            score = dirichlet_scores(jax.random.fold_in(key, len(names)), ranks, here, settings.dirichlet_alpha)
            kept = jnp.argsort(score)[:budget]
            chosen = jnp.zeros(score.shape, bool).at[kept].set(True) & jnp.isfinite(score)
            visible = dict(zip(names, jnp.split(chosen, _offsets(modalities)[1:]), strict=True))
            asked = {m: jnp.arange(s.tokens) for m, s in modalities.items()}
        lost = {m: ~visible[m][asked[m]] & here[i] for i, m in enumerate(names)}
        return Masks(jnp.concatenate([visible[m] for m in names]), kept, asked, lost)

    return jax.vmap(one)(example_keys(key, step, ids), present)


def _offsets(modalities):
    return [int(x) for x in np.cumsum([0] + [s.tokens for s in modalities.values()])[:-1]]


# --- Lever 2: loss weights (lever 3, decoder depth, is in the model) --------------------------------------------------

def weighted_loss(losses: Mapping, counts: Mapping, weights: Mapping):
    """Equation (2) without R: sum_m w_m L_m / sum_m w_m over the modalities with a masked token; 0 if there is none.

    Args:
      losses: name -> L_m (anything where counts[m] is 0); counts: name -> masked tokens; weights: name -> w_m.
    """
    coefficients = loss_coefficients(counts, weights)
    return sum(coefficients[m] * jnp.where(counts[m] > 0, losses[m] * counts[m], 0.0) for m in losses)


def loss_coefficients(counts: Mapping, weights: Mapping) -> dict:
    """What the summed error of each modality is multiplied with: w_m / (count_m sum w), 0 where the count is 0."""
    total = sum(jnp.where(counts[m] > 0, weights[m], 0.0) for m in counts)
    return {m: jnp.where((counts[m] > 0) & (total > 0), weights[m], 0.0)
            / (jnp.maximum(counts[m], 1) * jnp.where(total > 0, total, 1.0)) for m in counts}


def token_error(modality: Modality, predicted, tokens):
    """Error of each token: mean squared over its D numbers, or cross-entropy for ids.

    Args:
      predicted: [B, Q, D]; tokens: [B, Q, D] ([B, Q] ids for kind 'tokens').

    Returns:
      [B, Q].
    """
    if modality.kind == 'tokens':
        return optax.softmax_cross_entropy_with_integer_labels(predicted, tokens)
    return jnp.mean((predicted - tokens) ** 2, axis=-1)


# --- Lever 4: modality-aware attention --------------------------------------------------------------------------------

def attention_log_bias(modalities: Mapping[str, Modality], attention_bias: Mapping[str, float]) -> np.ndarray:
    """log a_m for each of the N tokens, added to the attention logits of keys: the same as counting them a_m times."""
    return np.concatenate([np.full(s.tokens, np.log(attention_bias[m]), np.float32) for m, s in modalities.items()])


# --- Lever 5: consistency ---------------------------------------------------------------------------------------------

def consistency(target_code, full_code):
    """R for each example: 1 - cosine of the target-only code and the full code, which gets no gradient. [B, dim]."""
    unit = lambda z: z / jnp.sqrt((z ** 2).sum(-1, keepdims=True) + 1e-12)  # noqa: E731
    return 1 - (unit(target_code) * unit(jax.lax.stop_gradient(full_code))).sum(-1)


# --- The algorithm ----------------------------------------------------------------------------------------------------

def present_mask(modalities: Mapping[str, Modality], batch):
    """bool [B, M]: modality m is there and the row is not padding."""
    given = batch.get('present', {})
    return jnp.stack([given[m] & batch['mask'] if m in given else batch['mask'] for m in modalities], axis=1)


class Pass(NamedTuple):
    """One masked pass: the masks, all tokens [B, N, dim], the encoder's output [B, K, dim], which modalities are
    present [B, M], and the predictions, name -> [B, Q_m, D_m]."""

    masks: Masks
    tokens: jax.Array
    memory: jax.Array
    present: jax.Array
    predicted: dict


def reconstruct(model: Model, modalities, settings: Settings, params, batch, key, step) -> Pass:
    """Masks a batch, encodes what is visible, predicts what is asked."""
    present = present_mask(modalities, batch)
    masks = sample_masks(modalities, settings, key, step, batch['id'], present)
    tokens = jnp.concatenate([model.tokenize(params, m, batch['inputs'][m]) for m in modalities], axis=1)
    visible = jnp.take_along_axis(masks.visible, masks.kept, axis=1)
    bias = jnp.asarray(attention_log_bias(modalities, settings.attention_bias))[masks.kept]
    memory = model.encode(params, jnp.take_along_axis(tokens, masks.kept[..., None], axis=1),
                          jnp.where(visible, bias, MASKED))
    # The bias belongs to the encoder: decoders only need to know which tokens are padding.
    seen = jnp.where(visible, 0.0, MASKED)
    predicted = {m: model.decode(params, m, masks.asked[m], memory, seen) for m in modalities}
    return Pass(masks, tokens, memory, present, predicted)


def true_tokens(modality: Modality, settings: Settings, params, batch, asked):
    """What is to be predicted at the positions asked. [B, Q, D] (ids [B, Q]).

    Clean targets, each channel standardised, so that an error of 1 is that of predicting the mean and the losses of
    different modalities can be weighed; or each patch normalised, if so set.
    """
    x = batch['targets'][modality.name]
    if modality.kind == 'tokens':
        return jnp.take_along_axis(patchify(modality, x), asked, axis=1)
    if settings.normalise_targets:
        tokens = normalise_patches(patchify(modality, x))
    else:
        tokens = patchify(modality, standardise(x, params['statistics'][modality.name]['target']))
    return jnp.take_along_axis(tokens, asked[..., None], axis=1)


def consistency_errors(model: Model, modalities, settings: Settings, params, tokens, masks: Masks, memory, present):
    """R for each example and whether it counts (the target and another modality are there). Both [B].

    Input means what pretraining shows: the visible tokens. The full code is that of the pass which reconstructs, so
    that only the few visible tokens of the target are encoded once more.

    Args:
      tokens: [B, N, dim]; memory: [B, K, dim], the encoder's output at masks.kept; present: bool [B, M].
    """
    names, offsets = list(modalities), _offsets(modalities)
    t = names.index(settings.target)
    own = slice(offsets[t], offsets[t] + modalities[settings.target].tokens)
    shown = masks.visible[:, own]
    most = min(modalities[settings.target].tokens, masks.kept.shape[1])
    if settings.masking == 'fixed':
        most = mask_counts(modalities, settings.mask_ratio)[settings.target]
    kept = jnp.argsort(~shown, axis=1)[:, :most]
    valid = jnp.take_along_axis(shown, kept, axis=1)
    alone = model.encode(params, jnp.take_along_axis(tokens[:, own], kept[..., None], axis=1),
                         jnp.where(valid, 0.0, MASKED))
    full = mean_token(memory, jnp.take_along_axis(masks.visible, masks.kept, axis=1))
    counts = present[:, t] & (present.sum(1) > 1)
    return consistency(mean_token(alone, valid), full), counts


def _regularised(modalities, settings: Settings) -> bool:
    return settings.consistency > 0 and len(modalities) > 1


def loss_sums(model: Model, modalities, settings: Settings, params, batch, key, step) -> dict:
    """name -> (summed error, count), local to the device; with c > 0 CONSISTENCY, too."""
    masks, tokens, memory, present, predicted = reconstruct(model, modalities, settings, params, batch, key, step)
    out = {}
    for m, spec in modalities.items():
        error = token_error(spec, predicted[m], true_tokens(spec, settings, params, batch, masks.asked[m]))
        out[m] = jnp.where(masks.lost[m], error, 0.0).sum(), masks.lost[m].sum()
    if _regularised(modalities, settings):
        error, valid = consistency_errors(model, modalities, settings, params, tokens, masks, memory, present)
        out[CONSISTENCY] = jnp.where(valid, error, 0.0).sum(), valid.sum()
    return out


def loss_counts(modalities, settings: Settings, batch, key, step) -> dict:
    """The counts alone: they depend on masks, not on parameters, so they are reduced before differentiating."""
    present = present_mask(modalities, batch)
    masks = sample_masks(modalities, settings, key, step, batch['id'], present)
    out = {m: masks.lost[m].sum() for m in modalities}
    if _regularised(modalities, settings):
        t = list(modalities).index(settings.target)
        out[CONSISTENCY] = (present[:, t] & (present.sum(1) > 1)).sum()
    return out


def losses_by_encoder(model: Model, modalities, settings: Settings, state: State, batch, counts):
    """The function theta -> this device's part of L_m [M], theta the encoder's parameters; `counts` of all devices."""
    def losses(theta):
        parts = loss_sums(model, modalities, settings, {**state.params, 'encoder': theta}, batch, state.key, state.step)
        return jnp.stack([parts[m][0] / jnp.maximum(counts[m], 1) for m in modalities])
    return losses


def make(model: Model, modalities: Mapping[str, Modality], settings: Settings,
         optimizer: optax.GradientTransformation, statistics=None, estimator=None) -> Algorithm:
    """FIP as an Algorithm; `statistics` of the data go into the parameters (models.multimodal.statistics).

    Batches hold 'id' int [B], 'mask' bool [B], 'inputs' and 'targets' {m: [B, *shape]}, 'present' {m: bool [B]}
    (optional; all present without it). Metrics: 'loss/<m>' for each modality, 'consistency' if c > 0, 'grad_norm'.

    Args:
      estimator: estimated.Estimator, whose weights stand in place of settings.loss_weight; batches then bring along
        what it needs, what it keeps is in the parameters ('importance'), and 'weight/<m>' are metrics, too.
    """
    sums = functools.partial(loss_sums, model, modalities, settings)
    counts_of = functools.partial(loss_counts, modalities, settings)

    def init(key):
        params = model.init(key, statistics)
        start = {IMPORTANCE: importance.start(len(modalities))} if estimator else {}
        return initial(key, {**params, **start}, trained(params), optimizer)

    def weights_of(params):
        if not estimator:
            return settings.loss_weight
        return dict(zip(modalities, importance.weights(params[IMPORTANCE], estimator.settings), strict=True))

    def step(state, batch, *, psum):
        counts = psum(counts_of(batch, state.key, state.step))
        if estimator:
            losses = losses_by_encoder(model, modalities, settings, state, batch, counts)
            kept = estimator.update(state, batch, losses, psum)
            state = state._replace(params={**state.params, IMPORTANCE: kept})
        weights = weights_of(state.params)
        coefficients = loss_coefficients({m: counts[m] for m in modalities}, weights)
        if CONSISTENCY in counts:
            coefficients[CONSISTENCY] = settings.consistency / jnp.maximum(counts[CONSISTENCY], 1)

        def local(part):
            parts = sums({**state.params, **part}, batch, state.key, state.step)
            return sum(coefficients[k] * parts[k][0] for k in parts), parts

        part = trained(state.params)
        grads, parts = jax.grad(local, has_aux=True)(part)
        grads, parts = psum((grads, parts))
        if estimator:
            seen = jnp.stack([parts[m][0] / jnp.maximum(counts[m], 1) for m in modalities])
            kept = importance.observe(kept, seen, jnp.stack([counts[m] for m in modalities]))
            state = state._replace(params={**state.params, IMPORTANCE: kept})
        state, norm = update(optimizer, state, part, grads)
        return state, {**named(parts, weights), **norm}

    def named(parts, weights):
        shown = {f'weight/{m}': (w, jnp.ones(())) for m, w in weights.items()} if estimator else {}
        return {k if k == CONSISTENCY else f'loss/{k}': v for k, v in parts.items()} | shown

    def eval_step(state, batch, *, psum):
        return named(psum(sums(state.params, batch, state.key, 0)), weights_of(state.params))

    def summarise(metrics):
        values = metrics_lib.ratio(metrics)
        seen = {m: metrics[f'loss/{m}'] for m in modalities}
        weights = {m: values[f'weight/{m}'] for m in modalities} if estimator else settings.loss_weight
        loss = weighted_loss({m: values.get(f'loss/{m}', 0.0) for m in seen},
                             {m: n for m, (_, n) in seen.items()}, weights)
        return {'loss': float(loss) + settings.consistency * values.get(CONSISTENCY, 0.0), **values}

    return Algorithm(init, step, eval_step, summarise)


def trained(params) -> dict:
    """The part of the parameters that pretraining changes by gradients."""
    return {k: v for k, v in params.items() if k not in ('statistics', IMPORTANCE)}
