"""What configs may hold. Each case changes one thing of a config that passes."""
import pathlib

import numpy as np
import pytest
import tiny

from fipjax import config as config_lib
from fipjax.errors import UserError
from fipjax.overrides import override
from fipjax.validation import validate

CONFIGS = sorted((pathlib.Path(__file__).parents[1] / 'configs').rglob('*.py'))


def test_the_base_of_the_table_passes():
    validate(tiny.config())
    validate(tiny.config(), devices=2)


@pytest.mark.parametrize('path', CONFIGS, ids=lambda p: p.stem)
def test_shipped_configs_pass(path, tmp_path):
    options = []
    if path.parts[-2:] == ('fip', 'arrays.py'):  # reads off a file what the modalities are
        np.savez(tmp_path / 'mine.npz', **tiny.arrays())
        options = [('data.path', str(tmp_path / 'mine.npz')), ('pretrain.fip.target', 'image')]
    if path.parent.name in ('nas_bench_360', 'pdebench', 'paper'):  # a plan does without their checkpoints of the Hub
        options = [('plan', 'True')]
    validate(config_lib.load(str(path), None, options), devices=4)


@pytest.mark.parametrize('changes, parts', [
    (dict(pretrain__fip__target='audio'), ('pretrain.fip.target', 'audio', 'image, sequence')),
    (dict(pretrain__modalities=('image', 'audio')), ('pretrain.modalities', 'audio', 'image, sequence')),
    (dict(pretrain__modalities=('sequence',)), ('pretrain.modalities', 'sequence', 'target image')),
    (dict(pretrain__modalities=('image', 'image')), ('pretrain.modalities', 'each once')),
    (dict(pretrain__fip__mask_ratio__target=1.0), ('pretrain.fip.mask_ratio.target', '1.0', '[0, 1)')),
    (dict(pretrain__fip__mask_ratio__image=-0.1), ('pretrain.fip.mask_ratio.image', '-0.1', '[0, 1)')),
    (dict(pretrain__fip__mask_ratio__others=float('nan')), ('pretrain.fip.mask_ratio.others', 'nan', '[0, 1)')),
    (dict(pretrain__fip__mask_ratio__target=0.0, pretrain__fip__mask_ratio__others=0.0),
     ('pretrain.fip.mask_ratio', '0.0', 'masked token')),
    (dict(pretrain__fip__mask_ratio__target=0.0, pretrain__fip__loss_weight__others=0.0),
     ('pretrain.fip.mask_ratio', 'masked token')),
    (dict(pretrain__fip__loss_weight__others=-1.0), ('pretrain.fip.loss_weight.others', '-1.0', '0 or more')),
    (dict(pretrain__fip__loss_weight__target=0.0, pretrain__fip__loss_weight__others=0.0),
     ('pretrain.fip.loss_weight', '0.0', 'above 0')),
    (dict(pretrain__fip__decoder_depth__target=0), ('pretrain.fip.decoder_depth.target', '0', 'at least 1')),
    (dict(pretrain__fip__attention_bias__sequence=0.0), ('pretrain.fip.attention_bias.sequence', '0.0', 'more than 0')),
    (dict(pretrain__fip__attention_bias__target=float('inf')), ('pretrain.fip.attention_bias.target', 'inf')),
    (dict(pretrain__fip__consistency=-0.5), ('pretrain.fip.consistency', '-0.5', '0 or more')),
    (dict(pretrain__fip__masking='random'), ('pretrain.fip.masking', 'random', 'fixed or dirichlet')),
    (dict(pretrain__fip__weights='learned'), ('pretrain.fip.weights', 'learned', 'prior or uniform')),
    (dict(pretrain__fip__dirichlet_alpha=0.0), ('pretrain.fip.dirichlet_alpha', '0.0', 'more than 0')),
    (dict(pretrain__algorithm='mae'), ('pretrain.algorithm', 'mae', 'fip or none')),
    (dict(pretrain__steps=0), ('pretrain.steps', '0', 'at least 1')),
    (dict(pretrain__batch_size=0), ('pretrain.batch_size', '0')),
    (dict(pretrain__optimizer__learning_rate=0.0), ('pretrain.optimizer.learning_rate', '0.0', 'more than 0')),
    (dict(finetune__optimizer__kind='lion'), ('finetune.optimizer.kind', 'lion', 'adamw or adam or sgd')),
    (dict(pretrain__optimizer__weight_decay=float('nan')), ('pretrain.optimizer.weight_decay', 'nan')),
    (dict(finetune__mode='lora'), ('finetune.mode', 'lora', 'full or frozen or probe')),
    (dict(finetune__labels_per_class=()), ('finetune.labels_per_class', '()')),
    (dict(finetune__labels_per_class=(5, 5)), ('finetune.labels_per_class', '(5, 5)', 'different')),
    (dict(finetune__labels_per_class=(-5,)), ('finetune.labels_per_class', '-5')),
    (dict(parallel__mode='fsdp'), ('parallel.mode', 'fsdp', 'pmap or jit')),
    (dict(data__source='hdf5'), ('data.source', 'hdf5', 'constellation or arrays or wheel or tfds')),
    (dict(data__modalities__image__patch=3), ('data.modalities.image.patch', '3', '(8, 8)')),
    (dict(data__modalities__image__kind='video'), ('data.modalities.image.kind', 'video')),
    (dict(model__dim=18), ('model.dim', '18', 'divisible')), (dict(model__heads=3), ('model.dim', '16', '3 heads')),
    (dict(model__decoder_heads=16), ('model.decoder_dim', '8', '16 heads')),
    (dict(checkpoint__every=0), ('checkpoint.every', '0')), (dict(checkpoint__keep=0), ('checkpoint.keep', '0')),
    (dict(eval_batch_size=0), ('eval_batch_size', '0')), (dict(seed=-1), ('seed', '-1', '0 or more')),
])
def test_refused(changes, parts):
    with pytest.raises(UserError) as e:
        validate(tiny.config(**changes))
    assert all(p in str(e.value) for p in parts), str(e.value)


@pytest.mark.parametrize('changes', [
    dict(pretrain__fip__weights='uniform', pretrain__fip__loss_weight__target=0.0,
         pretrain__fip__loss_weight__others=0.0),
    dict(pretrain__fip__loss_weight__target=0.0), dict(pretrain__modalities=('image',)),
    dict(pretrain__fip__mask_ratio__target=0.0), dict(finetune__labels_per_class=(0, 5)),
])
def test_allowed(changes):
    validate(tiny.config(**changes))


@pytest.mark.parametrize('key', ['pretrain.batch_size', 'finetune.batch_size', 'eval_batch_size'])
def test_batches_are_shared_by_the_devices(key):
    c = tiny.config(pretrain__batch_size=12, finetune__batch_size=12, eval_batch_size=12)
    validate(c, devices=4)
    override(c, key, '10')
    with pytest.raises(UserError, match=f'{key} is 10; allowed: a multiple of the 4 devices'):
        validate(c, devices=4)


def test_unknown_and_missing_keys():
    c = tiny.config()
    with c.unlocked():
        c.pretrain.momentum = 0.9
    with pytest.raises(UserError, match='pretrain.momentum.*unknown.*pretrain.steps'):
        validate(c)
    c = tiny.config()
    with c.unlocked():
        del c.pretrain.steps
    with pytest.raises(UserError, match='pretrain.steps.*missing'):
        validate(c)


def test_no_modalities():
    c = tiny.config()
    with c.unlocked():
        c.data.modalities = {}
    with pytest.raises(UserError, match='data.modalities'):
        validate(c)


def test_two_dimensional_positions_need_a_width_that_divides():
    validate(tiny.config(model__dim=20))
    with pytest.raises(UserError, match='model.dim is 22'):
        validate(tiny.config(model__dim=22))
