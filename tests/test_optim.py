"""The optimiser against AdamW written out in NumPy."""
import math
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from fipjax import optim


def settings(**changes):
    return types.SimpleNamespace(**{'learning_rate': 0.1, 'warmup_steps': 3, 'weight_decay': 0.05, 'b2': 0.95,
                                    'clip': 1.0, **changes})


def test_learning_rate_rises_linearly_and_falls_as_a_cosine_to_zero():
    rate = optim.learning_rate(settings(), 11)
    wanted = [0.1 * i / 3 for i in range(3)] + [0.05 * (1 + math.cos(math.pi * i / 8)) for i in range(9)]
    assert [float(rate(i)) for i in range(12)] == pytest.approx(wanted, abs=1e-7)


@pytest.mark.parametrize('steps', [1, 2, 3])
def test_schedules_shorter_than_the_warm_up_stay_finite(steps):
    values = [float(optim.learning_rate(settings(warmup_steps=100), steps)(i)) for i in range(steps + 1)]
    assert all(math.isfinite(v) and 0 <= v <= 0.1 * (1 + 1e-6) for v in values)
    assert max(values) == pytest.approx(0.1)


@pytest.mark.parametrize('clip', [1.0, 0.0])
def test_updates_are_those_of_adamw(clip):
    rng, s = np.random.default_rng(0), settings(clip=clip)
    params = {'w': rng.normal(size=(3, 2)), 'b': rng.normal(size=2)}
    optimizer = optim.make(s, 11)
    with jax.enable_x64(True):
        update = jax.jit(optimizer.update)
        mine, theirs, state = params, params, optimizer.init(params)
        m, v = ({k: np.zeros_like(x) for k, x in params.items()} for _ in range(2))
        for t in range(1, 5):
            g = {k: rng.normal(size=x.shape) * 2 for k, x in params.items()}
            changes, state = update(g, state, theirs)
            theirs = jax.tree.map(np.asarray, optax.apply_updates(theirs, changes))
            norm = math.sqrt(sum((x ** 2).sum() for x in g.values()))
            g = {k: x / max(norm, 1.0) for k, x in g.items()} if clip else g
            lr = [0.1 * i / 3 for i in range(3)] + [0.1]
            for k in params:
                m[k] = 0.9 * m[k] + 0.1 * g[k]
                v[k] = 0.95 * v[k] + 0.05 * g[k] ** 2
                step = m[k] / (1 - 0.9 ** t) / (np.sqrt(v[k] / (1 - 0.95 ** t)) + 1e-8)
                decay = 0.05 * mine[k] if k == 'w' else 0  # biases are not decayed
                mine = {**mine, k: mine[k] - lr[t - 1] * (step + decay)}
            for k in params:
                np.testing.assert_allclose(theirs[k], mine[k], rtol=1e-6)


def test_decay_is_for_matrices_only():
    params = {'kernel': np.zeros((2, 3)), 'bias': np.zeros(3), 'scale': np.zeros(1), 'table': np.zeros((1, 2, 3))}
    assert optim.decayed(params) == {'kernel': True, 'bias': False, 'scale': False, 'table': True}


def test_a_rate_in_the_state_is_as_one_in_the_schedule():
    settings = ConfigDict({'learning_rate': 1e-3, 'warmup_steps': 2, 'weight_decay': 0.1, 'b2': 0.99, 'clip': 0.5})
    params = {'w': jnp.linspace(-1.0, 1.0, 6).reshape(2, 3), 'b': jnp.ones(3)}
    tunable = optim.tunable(settings, 8)
    for rate in (1e-3, 3e-2):
        wanted = optim.make(ConfigDict({**settings.to_dict(), 'learning_rate': rate}), 8)
        ours, theirs = optim.with_rate(tunable.init(params), rate), wanted.init(params)
        p = q = params
        for step in range(5):
            grads = {k: jnp.sin(v * (step + 1)) for k, v in params.items()}
            change, ours = tunable.update(grads, ours, p)
            p = optax.apply_updates(p, change)
            change, theirs = wanted.update(grads, theirs, q)
            q = optax.apply_updates(q, change)
        for k in params:
            np.testing.assert_allclose(p[k], q[k], rtol=1e-6, atol=1e-8)
            assert np.abs(p[k] - params[k]).max() > rate / 10
