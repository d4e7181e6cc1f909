"""ORCA (Shen et al., ICML 2023, arXiv 2302.05738): the embedder minimises the optimal-transport dataset distance.

The distance between labelled sets, OTDD (Alvarez-Melis and Fusi, NeurIPS 2020, arXiv 2002.02923), compares samples
z = (x, y) with

    c(z, z') = (lambda_x |x - x'|^2 + lambda_y W(y, y')) / 2                                                      (1)

where W(y, y') is a squared distance between the samples of label y and those of label y', and takes the debiased
Sinkhorn divergence (Feydy et al., AISTATS 2019, arXiv 1810.08278) of the two sets of samples under c:

    OT(a, b) = min over couplings P of <P, c> + epsilon KL(P | a b^T)                                             (2)
    S(a, b)  = OT(a, b) - (OT(a, a) + OT(b, b)) / 2                                                               (3)

W is the squared Bures-Wasserstein distance of two Gaussians ('gaussian'), or S of the two classes under |x - x'|^2,
not halved ('exact', what ORCA does).

Conventions are those of the published code on geomloss: costs of order p = 2 are halved in (1), no root is taken of
(3), and epsilon = blur^p = `Settings.entropic`, which is also ott's `epsilon`, an absolute number and no share of the
cost. Two things differ: (2) is solved to convergence where geomloss stops after one sweep for each epsilon of its
schedule, and the gradient also flows through W, which the published code holds fixed.

What concerns the source alone is computed once, by `source_side`.
"""
from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fipjax import metrics as metrics_lib
from fipjax.algorithms.base import Algorithm, initial, update
from fipjax.algorithms.sinkhorn import squared_distances, transport
from fipjax.errors import UserError

LABEL_DISTANCES = ('gaussian', 'exact')


class Settings(NamedTuple):
    """How the distance is computed.

    Attributes:
      label_distance: 'exact' or 'gaussian', the W of equation (1).
      entropic: epsilon > 0 of equation (2), in units of the squared features.
      feature_weight, label_weight: lambda_x and lambda_y of equation (1), at least 0.
      iterations: of Sinkhorn in the log domain, after the warm start, for each of the three terms.
    """

    label_distance: str = 'exact'
    entropic: float = 0.1
    feature_weight: float = 1.0
    label_weight: float = 1.0
    iterations: int = 8


class SourceSide(NamedTuple):
    """All that the distances to many targets need of the source; n samples of K classes, at most r of one class.

    Attributes:
      features: [n, d].
      labels: int [n], in [0, K).
      rows: int [K, r], the samples of each class; where a class has fewer, any.
      weights: [K, r], 1 / (size of the class), 0 where there is no sample.
      own_labels: [K], OT(a, a) of each class under |x - x'|^2; zeros if the label distance is 'gaussian'.
      means: [K, d].
      roots: [K, q, d], R with R^T R the covariance of the class, q = min(r, d); [K, 0, d] if it is 'exact'.
      own: OT(a, a) of the source under (1).
    """

    features: jax.Array
    labels: jax.Array
    rows: jax.Array
    weights: jax.Array
    own_labels: jax.Array
    means: jax.Array
    roots: jax.Array
    own: jax.Array


# --- Label distances -------------------------------------------------------------------------------------------------

@jax.custom_vjp
def nuclear_norm(x):
    """Sum of the singular values of x [p, q], by the eigenvalues of the smaller of x x^T and x^T x."""
    return _nuclear(x)[0]


def _nuclear(x):
    flat = x if x.shape[0] <= x.shape[1] else x.T
    values, vectors = jnp.linalg.eigh(jnp.matmul(flat, flat.T, precision=jax.lax.Precision.HIGHEST))
    # What rounding makes of singular values of 0 would add up, and 1 / root of it has no meaning.
    kept = values > jnp.finfo(x.dtype).eps * len(values) * values[-1]
    roots = jnp.sqrt(jnp.where(kept, values, 1.0))
    return jnp.where(kept, roots, 0.0).sum(), (x, vectors, jnp.where(kept, 1 / roots, 0.0))


def _nuclear_gradient(saved, cotangent):
    """U V^T = (x x^T)^(-1/2) x on the range of x."""
    x, vectors, inverse = saved
    flat = x if x.shape[0] <= x.shape[1] else x.T
    polar = (vectors * inverse) @ (vectors.T @ flat)
    return (cotangent * (polar if x.shape[0] <= x.shape[1] else polar.T),)


nuclear_norm.defvjp(_nuclear, _nuclear_gradient)


def bures(mean1, root1, mean2, root2):
    """Squared Wasserstein distance of two Gaussians (Bures): |m1 - m2|^2 + tr S1 + tr S2 - 2 tr (S1^½ S2 S1^½)^½.

    With S = R^T R the last trace is the nuclear norm of R1 R2^T, so no [d, d] matrix is ever made.

    Args:
      mean1, mean2: [d].
      root1, root2: R, [q1, d] and [q2, d].
    """
    cross = jnp.matmul(root1, root2.T, precision=jax.lax.Precision.HIGHEST)
    return ((mean1 - mean2)**2).sum() + (root1**2).sum() + (root2**2).sum() - 2 * nuclear_norm(cross)


def label_distances(source: SourceSide, features, weights, between, settings: Settings):
    """W of equation (1) between every class of the source and every label of the target. [K, L].

    Args:
      features: [m, d], of the target.
      weights: [L, m], those of the samples of each label, each row of sum 1.
      between: |x - x'|^2 [n, m].
    """
    if settings.label_distance == 'gaussian':
        means = weights @ features
        roots = jnp.sqrt(weights)[:, :, None] * (features - means[:, None, :])
        one = lambda mean, root: jax.vmap(lambda m, r: bures(mean, root, m, r))(means, roots)  # noqa: E731
        return jax.lax.map(lambda s: one(*s), (source.means, source.roots))
    own = _own_labels(features, weights, settings)

    def row(given):
        rows, shares = given
        cost = between[rows]
        return jax.vmap(lambda w: transport(cost, shares, w, settings))(weights)

    across = jax.lax.map(row, (source.rows, source.weights))
    return across - (source.own_labels[:, None] + own[None, :]) / 2


def _own_labels(features, weights, settings):
    """OT(b, b) under |x - x'|^2 of each label. weights [L, m] -> [L]."""
    cost = squared_distances(features, features)
    return jax.vmap(lambda w: transport(cost, w, w, settings, symmetric=True))(weights)


def _cost(distances, labels_of_pairs, settings):
    """Equation (1)."""
    return (settings.feature_weight * distances + settings.label_weight * labels_of_pairs) / 2


# --- The two sides ---------------------------------------------------------------------------------------------------

def source_side(features, labels, classes: int, settings: Settings) -> SourceSide:
    """What concerns the source alone.

    Args:
      features: [n, d].
      labels: int [n], in [0, classes).
      classes: K.

    Raises:
      UserError: an unknown label distance, labels that are not as many as the features, a class without a sample.
    """
    if settings.label_distance not in LABEL_DISTANCES:
        raise UserError(f'orca.label_distance is {settings.label_distance!r}; allowed: {", ".join(LABEL_DISTANCES)}')
    features, labels = np.asarray(features), np.asarray(labels)
    if features.ndim != 2 or labels.shape != features.shape[:1]:
        raise UserError(f'source: features have shape {features.shape} and labels {labels.shape}; '
                        f'allowed: [n, d] and [n]')
    sizes = np.bincount(labels, minlength=classes)
    if len(sizes) > classes or not sizes.all():
        wrong = f'labels up to {len(sizes) - 1}' if len(sizes) > classes else f'no sample of {sizes.argmin()}'
        raise UserError(f'source: {wrong}; each of the {classes} classes 0 to {classes - 1} needs a sample')
    order, starts = np.argsort(labels, kind='stable'), np.cumsum(sizes) - sizes
    within = np.arange(sizes.max())
    there = within < sizes[:, None]
    rows = order[np.where(there, starts[:, None] + within, starts[:, None])]
    weights = (there / sizes[:, None]).astype(features.dtype)
    means = np.stack([features[labels == c].mean(0) for c in range(classes)])
    roots = np.zeros((classes, 0, features.shape[1]), features.dtype)
    if settings.label_distance == 'gaussian':
        roots = np.stack([_root(features[labels == c], min(len(within), features.shape[1])) for c in range(classes)])
    side = SourceSide(*map(jnp.asarray, (features, labels, rows, weights, np.zeros(classes, features.dtype), means,
                                         roots, features.dtype.type(0))))
    return jax.jit(own_terms, static_argnums=1)(side, settings)


def _root(x, size):
    """R [size, d] with R^T R the covariance of x [k, d], by the QR decomposition of the centred samples."""
    r = np.linalg.qr((x - x.mean(0)) / np.sqrt(len(x)), mode='r')
    return np.pad(r, ((0, size - len(r)), (0, 0)))


def own_terms(side: SourceSide, settings: Settings) -> SourceSide:
    """The source side with `own_labels` and `own` computed from the rest, as `source_side` does once."""
    within = squared_distances(side.features, side.features)
    classes = len(side.weights)
    if settings.label_distance == 'gaussian':
        one = lambda mean, root: jax.vmap(lambda m, r: bures(mean, root, m, r))(side.means, side.roots)  # noqa: E731
        labels = jax.lax.map(lambda s: one(*s), (side.means, side.roots))
    else:
        block = lambda i, j: within[side.rows[i][:, None], side.rows[j][None, :]]  # noqa: E731
        own = jax.lax.map(lambda i: transport(block(i, i), side.weights[i], side.weights[i], settings, symmetric=True),
                          jnp.arange(classes))
        side = side._replace(own_labels=own)
        first, second = np.triu_indices(classes, 1)
        labels = jnp.zeros((classes, classes), within.dtype)
        if classes > 1:
            pairs = jax.lax.map(lambda p: transport(block(*p), side.weights[p[0]], side.weights[p[1]], settings)
                                - (own[p[0]] + own[p[1]]) / 2, (first, second))
            labels = labels.at[first, second].set(pairs).at[second, first].set(pairs)
    labels = labels * (1 - jnp.eye(classes, dtype=labels.dtype))
    n = len(within)
    uniform = jnp.full(n, 1 / n, within.dtype)
    cost = _cost(within, labels[side.labels[:, None], side.labels[None, :]], settings)
    return side._replace(own=transport(cost, uniform, uniform, settings, symmetric=True))


def class_otdd(source: SourceSide, features, valid, settings: Settings):
    """OTDD between the source and samples of one target class, which is ONE label; differentiable in the features.

    Args:
      features: [m, d].
      valid: bool [m], which rows are samples; at least one.

    Returns:
      Equation (3), a scalar.
    """
    features = jnp.where(valid[:, None], features, 0.0)
    b = valid / valid.sum().astype(features.dtype)
    between = squared_distances(source.features, features)
    labels = label_distances(source, features, b[None, :], between, settings)[:, 0]
    return _divergence(source, between, labels[source.labels][:, None], features, 0.0, b, settings)


def _divergence(source, between, labels_between, features, labels_within, b, settings):
    n = len(source.features)
    a = jnp.full(n, 1 / n, b.dtype)
    across = transport(_cost(between, labels_between, settings), a, b, settings)
    own = transport(_cost(squared_distances(features, features), labels_within, settings), b, b, settings,
                    symmetric=True)
    return across - (source.own + own) / 2


def otdd(source: SourceSide, features, labels, classes: int, weights, settings: Settings):
    """OTDD between the source and a labelled target; differentiable in the features.

    Args:
      features: [m, d].
      labels: int [m], in [0, classes); every class has a sample of positive weight.
      classes: L.
      weights: [m], at least 0 (rows of padding have 0); None for all alike.

    Returns:
      Equation (3), a scalar.
    """
    m = len(features)
    weights = jnp.ones(m, features.dtype) if weights is None else jnp.asarray(weights, features.dtype)
    features = jnp.where(weights[:, None] > 0, features, 0.0)
    b = weights / weights.sum()
    of_label = jnp.where(labels[None, :] == jnp.arange(classes)[:, None], b[None, :], 0.0)
    of_label = of_label / of_label.sum(1, keepdims=True)
    between = squared_distances(source.features, features)
    across = label_distances(source, features, of_label, between, settings)
    within = _distances_within(features, of_label, settings)
    return _divergence(source, between, across[source.labels[:, None], labels[None, :]], features,
                       within[labels[:, None], labels[None, :]], b, settings)


def _distances_within(features, weights, settings):
    """W between the labels of one set. weights [L, m] -> [L, L], symmetric, zeros on the diagonal."""
    classes = len(weights)
    first, second = np.triu_indices(classes, 1)
    if classes == 1:
        return jnp.zeros((1, 1), features.dtype)
    if settings.label_distance == 'gaussian':
        means = weights @ features
        roots = jnp.sqrt(weights)[:, :, None] * (features - means[:, None, :])
        pairs = jax.lax.map(lambda p: bures(means[p[0]], roots[p[0]], means[p[1]], roots[p[1]]), (first, second))
    else:
        cost, own = squared_distances(features, features), _own_labels(features, weights, settings)
        pairs = jax.lax.map(lambda p: transport(cost, weights[p[0]], weights[p[1]], settings)
                            - (own[p[0]] + own[p[1]]) / 2, (first, second))
    return jnp.zeros((classes, classes), features.dtype).at[first, second].set(pairs).at[second, first].set(pairs)


# --- The algorithm ---------------------------------------------------------------------------------------------------

def pseudo_labels(y, k: int = 10, seed: int = 0) -> np.ndarray:
    """Classes of targets that have none (dense, multilabel), as ORCA makes them: k-means of the flattened targets.

    Args:
      y: [n, ...].
      k: clusters; fewer where y has fewer different values.

    Returns:
      int32 [n], numbered without gaps.
    """
    from sklearn.cluster import KMeans

    flat = np.asarray(y, np.float32).reshape(len(y), -1)
    k = min(k, len(np.unique(flat, axis=0)))
    found = KMeans(k, n_init=4, random_state=seed).fit_predict(flat)
    return np.unique(found, return_inverse=True)[1].astype(np.int32)


def make(embed, source: SourceSide, settings: Settings, optimizer: optax.GradientTransformation, start) -> Algorithm:
    """ORCA's first stage as an Algorithm: one step is one epoch of its published loop.

        L = sum over target classes of (frequency of the class) * OTDD(source, samples of the class)

    Args:
      embed: (params, x [n, *shape], length int [n] or None) -> [n, d], the mean of the embedder's tokens.
      source: from `source_side`.
      settings: the same that `source` was made with.
      optimizer: for the embedder.
      start: parameters of the embedder.

    Batches, a row for each target class (fipjax.data.by_class): 'mask' bool [C], 'x' [C, n, *shape], 'valid' bool
    [C, n], 'weight' [C], optionally 'length' int [C, n]. state.params = {'embedder': ...}. Metrics: 'loss' (over the
    weights), 'grad_norm'.
    """
    def init(key):
        params = {'embedder': jax.tree.map(jnp.asarray, start)}
        return initial(key, params, params, optimizer)

    def of_class(params, row):
        """(weight * OTDD, weight) of one row of a batch; a row of padding counts nothing."""
        counts = row['mask'] & row['valid'].any()
        # A class without samples has no distribution; any one will do where it counts nothing.
        features = embed(params['embedder'], row['x'], row.get('length'))
        distance = class_otdd(source, features, row['valid'] | ~counts, settings)
        weight = jnp.where(counts, row['weight'], 0.0)
        return weight * distance, weight

    def rows(batch):
        return {k: batch[k] for k in ('mask', 'x', 'valid', 'weight', 'length') if k in batch}

    def step(state, batch, *, psum):
        def add(total, row):
            (value, weight), grads = jax.value_and_grad(of_class, has_aux=True)(state.params, row)
            return jax.tree.map(jnp.add, total, (grads, value, weight)), None

        zero = jnp.zeros((), batch['weight'].dtype)
        # One class after the other, so that the memory is that of one.
        total, _ = jax.lax.scan(add, (jax.tree.map(jnp.zeros_like, state.params), zero, zero), rows(batch))
        grads, value, weight = psum(total)
        state, norm = update(optimizer, state, state.params, grads)
        return state, {'loss': (value, weight), **norm}

    def eval_step(state, batch, *, psum):
        values, weights = jax.lax.map(lambda row: of_class(state.params, row), rows(batch))
        return {'loss': psum((values.sum(), weights.sum()))}

    return Algorithm(init, step, eval_step, metrics_lib.ratio)
