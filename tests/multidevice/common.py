"""What the tests of equal numbers share: setups of devices, an optimiser that keeps gradients, training, comparison."""
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fipjax.parallel import Parallel

SETUPS = [('jit', 1), ('pmap', 1), ('pmap', 2), ('jit', 2), ('pmap', 4), ('jit', 4)]
TOLERANCE = 1e-6


def recorded() -> optax.GradientTransformation:
    """Passes gradients on and keeps them as its state."""
    return optax.GradientTransformation(lambda params: jax.tree.map(jnp.zeros_like, params),
                                        lambda updates, state, params=None: (updates, updates))


# Flattened, so that there is one array to update and not a hundred to compile.
OPTIMIZER = optax.chain(recorded(), optax.flatten(optax.chain(optax.clip_by_global_norm(1.0),
                                                              optax.adamw(1e-2, weight_decay=0.1))))


def parallel(mode, count):
    return Parallel(mode, jax.devices()[:count])


def train(algorithm, state, batches, where):
    """[(metrics, gradients, parameters)] after each of the steps."""
    step, state, out = where.step(algorithm.step), where.place_state(state), []
    for batch in batches:
        state, metrics = step(state, where.place_batch(batch))
        out.append(jax.tree.map(np.array, (dict(metrics), state.opt_state[0], state.params)))
    return out


def plainly(algorithm, state, batches):
    """As `train`, on one device without any mapping."""
    step, out = jax.jit(functools.partial(algorithm.step, psum=lambda x: x)), []
    for batch in batches:
        state, metrics = step(state, batch)
        out.append(jax.tree.map(np.array, (dict(metrics), state.opt_state[0], state.params)))
    return out


def assert_close(got, wanted):
    """Each leaf relative to the largest number of its kind (metric, gradient, parameter)."""
    for (g, w) in zip(got, wanted, strict=True):
        assert jax.tree.structure(g) == jax.tree.structure(w)
        for part_g, part_w in zip(g, w, strict=True):
            scale = max(np.abs(x).max() for x in jax.tree.leaves(part_w))
            for x, y in zip(jax.tree.leaves(part_g), jax.tree.leaves(part_w), strict=True):
                np.testing.assert_allclose(x, y, rtol=TOLERANCE, atol=TOLERANCE * 1e-3 * scale)
