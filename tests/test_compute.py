"""Computing in bfloat16 with float32 parameters: what is rounded and what is not, gradients, steps, attention."""
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import reference
import tiny
import tiny_transfer as tt
import tiny_vlp as tv
from ml_collections import ConfigDict

from fipjax import config as config_lib
from fipjax.algorithms import mona, transfer, vlp
from fipjax.models import encoders, stack, swin, transformer

SIZES = {'vit': {'width': 8, 'depth': 2, 'heads': 2, 'image_size': 8, 'patch': 2},
         'bert': {'width': 8, 'depth': 2, 'heads': 2},
         'swin': {'width': 4, 'depths': (2, 2), 'stage_heads': (1, 2), 'window': 2, 'image_size': 8, 'patch': 2}}
MODELS = (*SIZES, 'visualbert', 'vilbert')


@functools.cache
def function(name, compute):
    """(params, inputs) -> outputs of an encoder, or of all three functions of a model of words and regions."""
    if name in SIZES:
        settings = ConfigDict({**config_lib.ENCODER, 'family': name, **SIZES[name]})
        apply = encoders.build(settings, compute=compute).apply
        return lambda params, tokens: apply(params, tokens, None)
    model = tv.model(name, compute=compute)

    def of(params, batch):
        seen = model.encode(params['base'], batch)
        return *seen, model.word_logits(params, seen.words), model.region_outputs(params, seen.regions)
    return of


@functools.cache
def given(name):
    """Random float32 parameters and inputs."""
    if name not in SIZES:
        return tiny.cast((tv.params(name), tv.batch(3)), np.float32)
    rng, encoder = np.random.default_rng(0), encoders.build(ConfigDict({**config_lib.ENCODER, 'family': name,
                                                                         **SIZES[name]}))
    shapes = jax.eval_shape(encoder.init, jax.random.key(0))
    params = jax.tree_util.tree_map_with_path(lambda path, s: rng.normal(path[-1].key == 'scale', 0.3, s.shape), shapes)
    return tiny.cast((params, rng.normal(size=(2, 16, encoder.token_width))), np.float32)


def equations(jaxpr):
    """All equations of a program, those of inner programs among them."""
    for e in jaxpr.eqns:
        yield e
        for inner in jax.tree.leaves(list(e.params.values()), is_leaf=lambda v: hasattr(v, 'eqns')):
            inner = getattr(inner, 'jaxpr', inner)
            yield from equations(inner) if hasattr(inner, 'eqns') else ()


@pytest.mark.parametrize('name', MODELS)
def test_products_are_in_bfloat16_and_sums_that_need_it_are_not(name):
    program = jax.make_jaxpr(function(name, 'bfloat16'))(*given(name))
    found = {}
    for e in equations(program.jaxpr):
        found.setdefault(e.primitive.name, set()).update(v.aval.dtype.name for v in e.invars)
    assert found['dot_general'] == {'bfloat16'}
    assert found['exp'] == found['rsqrt'] == {'float32'}  # of softmax and LayerNorm
    assert {v.dtype for v in program.out_avals} == {np.dtype(np.float32)}
    plain = jax.make_jaxpr(function(name, 'float32'))(*given(name))
    assert 'bf16' not in str(plain)


@pytest.mark.parametrize('name', ['vit', 'swin'])
def test_gradients_are_float32_and_near_those_of_float32(name):
    params, inputs = given(name)
    rng = np.random.default_rng(1)
    shapes = jax.tree.leaves(jax.eval_shape(function(name, 'float32'), params, inputs))
    along = [rng.normal(size=s.shape) for s in shapes]

    def gradient(compute):
        def loss(params):
            out = jax.tree.leaves(function(name, compute)(params, inputs))
            return sum((x * a).sum() for x, a in zip(out, along, strict=True))
        return jax.jit(jax.grad(loss))(params)

    got, wanted = gradient('bfloat16'), gradient('float32')
    assert {x.dtype for x in jax.tree.leaves(got)} == {np.dtype(np.float32)}
    size = optax.tree.norm(wanted)
    assert 1e-4 < optax.tree.norm(jax.tree.map(jnp.subtract, got, wanted)) / size < 0.03  # a number has 8 bits: 0.004


def test_pretraining_and_its_gradient_are_near_those_of_float32():
    params, batch = tiny.cast((tv.params(), tv.batch(6, padded=1)), np.float32)
    made = [vlp.make(tv.model(compute=c), tv.SETTINGS, tiny.SGD, None) for c in ('bfloat16', 'float32')]
    (got, one), (wanted, two) = (jax.device_get(tiny.gradients(m, params, batch)) for m in made)
    assert {x.dtype for x in jax.tree.leaves((got, one['words'][0]))} == {np.dtype(np.float32)}
    difference = optax.tree.norm(jax.tree.map(np.subtract, got, wanted)) / optax.tree.norm(wanted)
    assert 1e-4 < difference < 0.03
    for k in ('words', 'regions'):
        assert one[k][0] == pytest.approx(two[k][0], rel=0.02) and one[k][1] == two[k][1]


def network(compute):
    """The network of tt.Case() with its encoder in `compute`."""
    made, source_embed, _ = tt.network(tt.Case())
    return made._replace(encode=stack.computing(compute, made.encode)), source_embed


def test_the_meta_gradient_is_near_that_of_float32():
    case, settings = tt.Case(), mona.Settings(0.7, 0.4, 'mixed', 'trained', 8, 0)
    params, batch = tiny.cast((tt.start(case), tt.with_source(tt.batch(case))), np.float32)

    def terms(compute):
        of = lambda lambda_: mona.meta_gradient(*network(compute), settings._replace(lambda_=lambda_), params, batch,  # noqa: E731
                                                lambda x: x)[0]['embedder']
        whole, plain = jax.jit(of)(0.7), jax.jit(of)(0.0)
        return whole, jax.tree.map(jnp.subtract, whole, plain)

    for got, wanted in zip(terms('bfloat16'), terms('float32'), strict=True):
        assert {x.dtype for x in jax.tree.leaves(got)} == {np.dtype(np.float32)}
        difference = optax.tree.norm(jax.tree.map(jnp.subtract, got, wanted)) / optax.tree.norm(wanted)
        assert 1e-4 < difference < 0.1


def test_steps_smaller_than_bfloat16_can_tell_are_kept():
    params, batch = tiny.cast((tt.start(tt.Case()), tt.batch(tt.Case())), np.float32)
    params.pop('source_embedder')
    optimizer = optax.adamw(1e-5)
    made = transfer.make(network('bfloat16')[0], transfer.PARTS, optimizer, params)
    state = made.init(jax.random.key(0))
    after, _ = tiny.compiled(made)(state, batch)
    assert jax.tree.map(lambda x: x.dtype, after) == jax.tree.map(lambda x: x.dtype, state)
    before, after = params['encoder']['blocks']['mlp'], after.params['encoder']['blocks']['mlp']
    for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        assert a.dtype == b.dtype == np.float32
        assert (a != b).mean() > 0.9 and np.abs(a - b).max() < 2e-5  # of numbers near 0.5 bfloat16 has every 0.002th


@pytest.mark.parametrize('window', [False, True])
def test_large_logits_are_told_apart(window):
    """Tokens i and j have logits (108 + 3/32 i j) / sqrt(8), near 38; bfloat16 has every quarter there."""
    x = np.zeros((1, 4, 8), np.float32)
    x[0, :, 0], x[0, :, 1], x[0, :, 2:6] = 16, [0, 1, 2, 3], np.eye(4) * 8
    eye = {'kernel': np.eye(8, dtype=np.float32), 'bias': np.zeros(8, np.float32)}
    key = {**eye, 'kernel': np.diag([27 / 64, 3 / 32, *[0] * 6]).astype(np.float32)}
    params = {'query': eye, 'key': key, 'value': eye, 'out': eye}
    if window:
        module = swin.WindowAttention(1, 2)
        params['relative_bias'] = np.zeros((9, 1), np.float32)
        apply = lambda p, x: module.apply({'params': p}, x, None)  # noqa: E731
    else:
        module = transformer.Attention(1)
        apply = lambda p, x: module.apply({'params': p}, x, x, jnp.zeros(x.shape[:2]))  # noqa: E731
    wanted = reference.attention(tiny.cast(params, np.float64), 1, x[0], x[0], np.ones(4))
    np.testing.assert_allclose(stack.computing('bfloat16', apply)(params, x)[0], wanted, rtol=0.006, atol=1e-3)


def test_float64_stays_float64(float64):
    params, inputs = tiny.cast(given('vit'), np.float64)
    program = str(jax.make_jaxpr(function('vit', 'float32'))(params, inputs))
    assert 'f32' not in program.replace('float32', '')
