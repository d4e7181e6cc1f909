"""Encoders of the transfer wing: equal to transformers, the same numbers in every form, what may be asked for."""
import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from ml_collections import ConfigDict

from fipjax import config as config_lib
from fipjax.errors import UserError
from fipjax.models import bert, embedders, encoders, stack, swin, vit
from fipjax.models.convert import bert as convert_bert
from fipjax.models.convert import swin as convert_swin
from fipjax.models.convert import tables
from fipjax.models.convert import vit as convert_vit

GOLDEN = pathlib.Path(__file__).parent / 'golden'
SWIN = {'swin': {'side': 8, 'embed': 8, 'depths': (4, 2), 'heads': (2, 4), 'window': 4},
        'swin_window7': {'side': 14, 'embed': 8, 'depths': (2,), 'heads': (2,), 'window': 7}}
HOW = {'layers': 'scan', 'remat': False}
CONVERT = {'bert': convert_bert, 'swin': convert_swin, 'vit': convert_vit}


def read(table, state):
    return tables.read(table(state), state, 'golden')[0]


def golden(name, dtype=np.float64):
    """The arrays of a golden file, and its weights under their published names."""
    with np.load(GOLDEN / f'{name}.npz') as file:
        arrays = tiny.cast({k: file[k] for k in file.files if k != 'made_with'}, dtype)
    return arrays, {k.removeprefix('state/'): v for k, v in arrays.items() if k.startswith('state/')}


def settings(**changes):
    """The config group of an encoder."""
    return ConfigDict({**config_lib.ENCODER, 'remat': False, **changes})


@functools.cache
def small(family, layers='scan', remat=False):
    """init and apply of an encoder with more than one layer, stage and window."""
    if family == 'swin':
        return swin.build(4, 4, (4, 2), (1, 2), 2, layers, remat)
    return {'vit': vit, 'bert': bert}[family].build(8, 3, 2, layers, remat)


@functools.cache
def start(family):
    """Random parameters of `small`, none of them 0 or 1, and tokens."""
    rng = np.random.default_rng(3)
    shapes = jax.eval_shape(small(family)[0], jax.random.key(0))
    params = jax.tree.map(lambda s: rng.normal(0, 0.4, s.shape), shapes)
    return params, rng.normal(size=(2, 16, 4) if family == 'swin' else (3, 5, 8))


@pytest.mark.parametrize('wide', [True, False], ids=['float64', 'float32'])
@pytest.mark.parametrize('name', ['vit', 'bert', 'roberta', 'swin', 'swin_window7'])
def test_equal_to_transformers(name, wide):
    with jax.enable_x64(wide):
        arrays, state = golden(name, np.float64 if wide else np.float32)
        close = functools.partial(np.testing.assert_allclose, rtol=0, atol=1e-10 if wide else 1e-5)
        if name in SWIN:
            size, channels = arrays['pixels'].shape[1], arrays['pixels'].shape[-1]
            own = SWIN[name]
            embedder = embedders.image((size, size, channels), size, size // own['side'], own['embed'], False)
            tokens, mask = embedder.apply(read(convert_swin.embedding, state), arrays['pixels'], None)
            close(tokens, arrays['embedded'])
            params, (_, apply) = read(convert_swin.encoder, state), swin.build(**own, **HOW)
        elif name == 'vit':
            # ViT has no LayerNorm in its embedding, so the patches are made by hand.
            own, p = read(convert_vit.embedding, convert_vit.prepared(state)), 4
            pieces = arrays['pixels'].reshape(2, 3, p, 3, p, 3).swapaxes(2, 3).reshape(2, 9, -1)
            tokens = pieces @ own['projection']['kernel'] + own['projection']['bias'] + own['positions']
            close(tokens, arrays['embedded'][:, 1:])
            # The class token is seen by the others and not returned.
            arrays['output'] = arrays['output'][:, 1:]
            params, mask = read(convert_vit.encoder, convert_vit.prepared(state)), None
            _, apply = vit.build(16, 3, 2, **HOW)
        else:
            tokens, mask = arrays['tokens'], arrays['mask']
            params, (_, apply) = read(convert_bert.encoder, state), bert.build(16, 3, 4, **HOW)
        apply = jax.jit(apply)
        close(apply(params, tokens, mask), arrays['output'])
        if 'whole' in arrays:
            assert np.abs(arrays['whole'] - arrays['output']).max() > 0.01
            close(apply(params, tokens, None), arrays['whole'])


def test_mapped_weights_have_the_forms_that_init_makes(float64):
    for name in ('vit', 'bert', 'swin'):
        state = golden(name)[1]
        mapped = read(CONVERT[name].encoder, convert_vit.prepared(state) if name == 'vit' else state)
        mapped.pop('cls', None)
        init, _ = {'vit': lambda: vit.build(16, 3, 2, **HOW), 'bert': lambda: bert.build(16, 3, 4, **HOW),
                   'swin': lambda: swin.build(**SWIN['swin'], **HOW)}[name]()
        shapes = jax.eval_shape(init, jax.random.key(0))
        assert jax.tree.map(lambda s: s.shape, shapes) == jax.tree.map(lambda v: v.shape, mapped)


@pytest.mark.parametrize('family', encoders.FAMILIES)
def test_scanned_unrolled_and_rematerialised_layers_are_equal(family, float64):
    params, tokens = start(family)
    mask = None if family == 'swin' else np.arange(5) < np.array([5, 2, 4])[:, None]
    direction = np.random.default_rng(4).normal(size=jax.eval_shape(small(family)[1], params, tokens, mask).shape)
    forms, results = [('scan', False), ('scan', True), ('unroll', False)], []
    for layers, remat in forms + [('unroll', True)] * (family == 'vit'):  # compiling Swin's takes longest
        _, apply = small(family, layers, remat)

        def value(params, tokens, apply=apply):
            out = apply(params, tokens, mask)
            return (out * direction).sum(), out

        program = jax.make_jaxpr(value)(params, tokens)
        names = {str(e.primitive) for e in program.eqns}
        assert ('scan' in names) == (layers == 'scan')
        assert ('remat' in str(program) or 'checkpoint' in str(program)) == remat
        results.append(jax.jit(jax.value_and_grad(value, (0, 1), has_aux=True))(params, tokens))
    for other in results[1:]:
        assert tiny.relative(other, results[0]) < 1e-10
    # Every parameter counts, but for the bias of the keys, which the softmax does not see.
    for path, g in jax.tree_util.tree_leaves_with_path(results[0][1]):
        unseen = jax.tree_util.keystr(path).endswith("['key']['bias']")
        assert (np.abs(g).max() < 1e-10) if unseen else (np.abs(g).reshape(len(g), -1).max(1) > 1e-6).all(), path


@pytest.mark.parametrize('family', ['vit', 'bert'])
def test_tokens_that_are_not_valid_change_nothing(family, float64):
    params, tokens = start(family)
    apply = jax.jit(small(family)[1])
    mask = np.arange(5) < np.array([5, 3, 0])[:, None]
    got = apply(params, tokens, mask)
    np.testing.assert_allclose(got[0], apply(params, tokens, None)[0], atol=1e-12)
    np.testing.assert_allclose(got[1, :3], apply(params, tokens[1:2, :3], None)[0], atol=1e-12)
    changed = apply(params, np.where(mask[:, :, None], tokens, 7.0), mask)
    np.testing.assert_array_equal(changed[1, :3], got[1, :3])
    assert np.isfinite(got).all()


@pytest.mark.parametrize('count', [1, 2])
def test_first_tokens_are_seen_and_not_returned(count, float64):
    params, tokens = start('vit')
    apply = jax.jit(small('vit')[1])
    mask = np.arange(5) < np.array([5, 3, 1])[:, None]
    plain, cls = apply(params, tokens, mask), np.linspace(-1, 1, 8 * count).reshape(count, 8)
    got = apply({**params, 'cls': cls}, tokens, mask)
    assert got.shape == plain.shape and np.abs(got - plain).max() > 0.01
    # The same as a token in front that somebody else put there.
    longer = np.concatenate([np.broadcast_to(cls, (3, count, 8)), tokens], 1)
    wanted = apply(params, longer, np.concatenate([np.ones((3, count), bool), mask], 1))[:, count:]
    np.testing.assert_allclose(got, wanted, atol=1e-12)


def parameters(sizes):
    """How many parameters an encoder has, counted from the papers' descriptions."""
    block = lambda d: 12 * d * d + 13 * d  # noqa: E731  # 4 d^2 + 4 d attention, 8 d^2 + 5 d MLP, 4 d norms
    if 'depths' not in sizes:
        return sizes['depth'] * block(sizes['width'])
    side, d, total = sizes['image_size'] // sizes['patch'], sizes['width'], 0
    for i, (depth, heads) in enumerate(zip(sizes['depths'], sizes['stage_heads'])):
        window = min(sizes['window'], side >> i)
        total += depth * (block(d << i) + (2 * window - 1) ** 2 * heads)
    merges = sum(8 * (d << i) ** 2 + 8 * (d << i) for i in range(len(sizes['depths']) - 1))
    return total + merges


@pytest.mark.parametrize('family, variant', [(f, v) for f in encoders.FAMILIES for v in encoders.VARIANTS[f]])
def test_variants(family, variant):
    encoder, sizes = encoders.build(settings(family=family, variant=variant)), encoders.VARIANTS[family][variant]
    params = jax.eval_shape(encoder.init, jax.random.key(0))
    last = 0 if family == 'bert' else 2 * encoder.width
    assert sum(p.size for p in jax.tree.leaves(params)) == parameters(sizes) + last
    side = encoder.image_size // encoder.patch
    assert (encoder.image_size, encoder.patch) == (sizes['image_size'], sizes['patch'])
    assert encoder.positions == (family != 'swin') and encoder.grid == ((side, side) if family == 'swin' else None)
    out = jax.eval_shape(encoder.apply, params, jax.ShapeDtypeStruct((2, side * side, encoder.token_width),
                                                                     jnp.float32), None)
    assert out.shape == (2, encoder.output_grid[0] * encoder.output_grid[1], encoder.width)


def test_published_sizes():
    # ViT-B/16 and Swin-B without heads, embeddings and positions: 86.6 and 87.8 million with them (their papers).
    sizes = {('vit', 'base'): 85.05e6, ('bert', 'base'): 85.05e6, ('swin', 'base'): 86.73e6, ('swin', 'tiny'): 27.51e6}
    for (family, variant), wanted in sizes.items():
        assert parameters(encoders.VARIANTS[family][variant]) == pytest.approx(wanted, rel=1e-3)
    for sizes in encoders.VARIANTS['swin'].values():  # heads of 32 numbers in every stage; 12 in the smallest variant
        widths = {(sizes['width'] << i) // heads for i, heads in enumerate(sizes['stage_heads'])}
        assert widths == {12 if sizes['width'] == 24 else 32}
    assert encoders.build(settings(family='swin', variant='base')).output_grid == (7, 7)


def test_sizes_that_are_given_replace_the_variants():
    encoder = encoders.build(settings(family='bert', width=12, depth=2, heads=3, image_size=24, patch=8))
    params = jax.eval_shape(encoder.init, jax.random.key(0))
    assert params['blocks']['mlp']['hidden']['kernel'].shape == (2, 12, 48)
    assert (encoder.width, encoder.token_width, encoder.patch, encoder.output_grid) == (12, 12, 8, (3, 3))
    encoder = encoders.build(settings(family='swin', image_size=64, patch=4))
    assert (encoder.grid, encoder.output_grid, encoder.width) == ((16, 16), (8, 8), 48)
    encoder = encoders.build(settings(family='swin', width=8, depths=(2,), stage_heads=(2,), window=2, mlp_ratio=3))
    params = jax.eval_shape(encoder.init, jax.random.key(0))
    assert set(params) == {'stage_0', 'norm'} and encoder.width == encoder.token_width == 8
    assert params['stage_0']['blocks']['plain']['mlp']['hidden']['kernel'].shape == (1, 8, 24)


@pytest.mark.parametrize('family', encoders.FAMILIES)
def test_epsilon_and_gelu_reach_every_layer(family, float64):
    """By what they do where they do most: deviations of the size of epsilon, and GELU around 0.7."""
    own = {'depths': (2,), 'stage_heads': (1,), 'window': 2} if family == 'swin' else {'depth': 2, 'heads': 1}
    one = {k: encoders.build(settings(family=family, width=4, image_size=4, patch=2, **own, **changes))
           for k, changes in {'plain': {}, 'epsilon': {'epsilon': 0.5}, 'gelu': {'gelu': 'tanh'}}.items()}
    x = np.random.default_rng(0).normal(size=(1, 4, 4))
    params = tiny.cast(jax.device_get(one['plain'].init(jax.random.key(1))), np.float64)
    out = {k: np.asarray(e.apply(params, x, None)) for k, e in one.items()}
    assert np.abs(out['epsilon'] - out['plain']).max() > 0.05
    assert 1e-6 < np.abs(out['gelu'] - out['plain']).max() < 1e-2
    flat = jax.tree_util.tree_map_with_path(
        lambda path, p: np.zeros_like(p) if path[-1].key in ('kernel', 'relative_bias') else p, params)
    # Layers add nothing now, so that norms alone are left.
    for k, epsilon in {'plain': encoders.MODULES[family].EPSILON, 'epsilon': 0.5}.items():
        wanted = x
        for _ in range(4 if family == 'bert' else 1):
            centred = wanted - wanted.mean(-1, keepdims=True)
            wanted = centred / np.sqrt((centred ** 2).mean(-1, keepdims=True) + epsilon)
        np.testing.assert_allclose(one[k].apply(flat, x, None), wanted, rtol=1e-10)


@pytest.mark.parametrize('changes, said', [
    ({'family': 'resnet'}, "encoder.family is 'resnet'; allowed: vit, bert, swin"),
    ({'variant': 'huge'}, "encoder.variant is 'huge'; allowed: cpu, tiny, small, base, checkpoint"),
    ({'gelu': 'sigmoid'}, "encoder.gelu is 'sigmoid'; allowed: , exact, tanh"),
    ({'window': 4}, "encoder.window is 4, but encoder.family is 'vit'; its sizes are encoder.width, encoder.depth"),
    ({'family': 'swin', 'depths': (2, 3)}, r'encoder.depths is \(2, 3\); allowed: even numbers'),
    ({'family': 'swin', 'depths': (2, -2)}, r'encoder.depths is \(2, -2\); allowed: 0'),
    ({'family': 'swin', 'stage_heads': (5, 2)}, 'encoder.stage_heads is .5, 2.; allowed: 2 numbers.*24, 48'),
    ({'layers': 'loop'}, "encoder.layers is 'loop'; allowed: scan, unroll"),
    ({'width': 30}, 'encoder.width is 30; it must be divisible by encoder.heads, 4'),
    ({'depth': -1}, 'encoder.depth is -1; allowed: 0'),
    ({'patch': 5}, 'encoder.image_size is 32; it must be divisible by encoder.patch, 5'),
    ({'family': 'swin', 'heads': 2}, "encoder.heads is 2, but encoder.family is 'swin'; its sizes .*encoder.depths"),
    ({'family': 'swin', 'image_size': 36}, 'encoder.image_size is 36.*stage 1 of 2.*multiples of 16 do'),
    ({'family': 'swin', 'image_size': 6}, 'encoder.image_size is 6.*stage 2 of 2'),
])
def test_wrong_settings_are_named(changes, said):
    with pytest.raises(UserError, match=said):
        encoders.build(settings(**changes))


def test_each_layer_starts_with_its_own_numbers():
    kernels = np.asarray(small('vit')[0](jax.random.key(0))['blocks']['mlp']['out']['kernel'])
    assert kernels.shape == (3, 32, 8)
    assert np.abs(np.corrcoef(kernels.reshape(3, -1)) - np.eye(3)).max() < 0.3


def test_key_bias_of_any_dtype():
    tokens = jnp.zeros((1, 3, 2), jnp.bfloat16)
    got = stack.key_bias(jnp.array([[True, False, True]]), tokens, -1e9)
    assert got.dtype == jnp.bfloat16 and np.asarray(got, np.float32)[0, 1] < -9e8
    assert (stack.key_bias(None, tokens, -1e9) == 0).all()
