"""The vision-language wing gives the same numbers on 1, 2 and 4 devices, with pmap and jit, in float64.

Batches have padded rows: the last of four devices has padding only. Chosen positions are packed by device.
"""
import functools

import jax
import numpy as np
import pytest
import tiny
import tiny_vlp as tv
from common import OPTIMIZER, SETUPS, TOLERANCE, assert_close, parallel, plainly, train

from fipjax import config as config_lib
from fipjax import metrics as metrics_lib
from fipjax.algorithms import captioning, vlp
from fipjax.models import captioner, predictors

CASES = [('visualbert', 'mmm', 'kl'), ('vilbert', 'mmm', 'regression'), ('vilbert', 'mlm', 'kl')]
OUTPUTS = ('answers', 'labels')


def batches(output=''):
    out = [tv.batch(8, seed, padded, 10 * seed) for seed, padded in ((0, 2), (1, 0), (2, 3))]
    return [{**b, 'y': tv.targets(output, 8, i)} for i, b in enumerate(out)] if output else out


@functools.cache
def pretraining(name, objective, region_loss):
    return tv.pretraining(name, OPTIMIZER, objective=objective, region_loss=region_loss)


@functools.cache
def finetuning(output, micro_batch=0):
    head = predictors.answers(tv.model().pooled_width, tv.ANSWERS)
    with jax.enable_x64(False):
        start = {'base': tv.params()['base'], 'head': tiny.cast(head.init(jax.random.key(1)), np.float64)}
    return vlp.finetune(vlp.logits(tv.model(), head, output), output, ('base', 'head'), OPTIMIZER, start,
                        micro_batch)


@functools.cache
def captions():
    sizes = config_lib.caption_base().network.copy_and_resolve_references().unlock()
    sizes.update({'width': 8, 'depth': 2, 'heads': 2})
    model = captioner.build(sizes, vocab=tv.VOCAB, features=tv.FEATURES, length=tv.LENGTH,
                            special=captioner.Special(tv.CLS, tv.SEP, tv.PAD))
    rng = np.random.default_rng(0)
    start = jax.tree.map(lambda s: rng.normal(0, 0.3, s.shape), jax.eval_shape(model.init, jax.random.key(0)))
    return captioning.make(model.logits, lambda key: start, OPTIMIZER)


def check(made, given, setups, plain=None):
    begin = lambda: made.init(jax.random.wrap_key_data(tiny.KEY))  # noqa: E731
    wanted = plainly(plain or made, begin(), given)
    assert all(x.dtype == np.float64 for x in jax.tree.leaves(wanted[-1][2]))
    assert max(np.abs(x).max() for x in jax.tree.leaves(wanted[0][1])) > 1e-3
    for mode, count in setups:
        assert_close(train(made, begin(), given, parallel(mode, count)), wanted)


@pytest.mark.parametrize('case', CASES, ids='-'.join)
def test_pretraining_gives_the_same_numbers(case):
    check(pretraining(*case), batches(), SETUPS[1:] if case == CASES[0] else (('pmap', 4), ('jit', 2)))


@pytest.mark.parametrize('output', OUTPUTS)
def test_fine_tuning_gives_the_same_numbers(output):
    check(finetuning(output), batches(output), (('pmap', 4), ('jit', 4)))


def test_micro_batches_give_the_same_numbers():
    start = pretraining(*CASES[0]).init(jax.random.wrap_key_data(tiny.KEY)).params
    made = vlp.make(tv.model(), tv.SETTINGS, OPTIMIZER, lambda key: start, micro_batch=1)
    check(made, batches(), (('pmap', 2), ('pmap', 4), ('jit', 4)), pretraining(*CASES[0]))
    check(finetuning('labels', 1), batches('labels'), (('pmap', 4),), finetuning('labels'))


def test_captioning_gives_the_same_numbers():
    given = batches()
    words = [(b['token_mask'][:, 1:] & b['mask'][:, None]).sum(1).reshape(4, -1).sum(1) for b in given]
    assert all(len({*w}) > 1 for w in words) and min(w.min() for w in words) == 0  # shards with other numbers of words
    check(captions(), given, (('pmap', 4), ('jit', 4)))


@pytest.mark.parametrize('made, counts', [(lambda: pretraining(*CASES[0]), ('words', 'regions')),
                                          (captions, ('loss', 'accuracy'))], ids=('pretraining', 'captioning'))
def test_evaluation_gives_the_same_numbers(made, counts):
    made, wanted = made(), None
    state = made.init(jax.random.wrap_key_data(tiny.KEY))
    for mode, count in (('jit', 1), ('pmap', 4), ('jit', 4)):
        where = parallel(mode, count)
        evaluate, total = where.eval_step(made.eval_step), None
        for batch in batches():
            total = metrics_lib.add(total, jax.device_get(evaluate(where.place_state(state), where.place_batch(batch))))
        wanted = wanted or total
        assert all(total[k][1] > 0 for k in counts)
        for k in wanted:
            np.testing.assert_allclose(total[k], wanted[k], rtol=TOLERANCE)
