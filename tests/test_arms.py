"""Arms of a study of estimated weights: what each changes, in every config that has them."""
import pathlib

import pytest
import tiny

from fipjax import arms, validation
from fipjax import config as config_lib
from fipjax.errors import UserError

FIP = pathlib.Path(__file__).parents[1] / 'configs' / 'fip'


def changed(arm):
    before, after = tiny.config(), arms.apply(tiny.config(), arm)
    assert after.variant == arm
    lines = config_lib.differences(before.to_dict(), after.to_dict())
    return {key: new for key, _, new in (line.replace(': ', ' != ').split(' != ') for line in lines)
            if key not in ('variant', 'pretrain.fip.weights')}, after


@pytest.mark.parametrize('arm, keys, weights', [
    ('uniform', {}, 'uniform'), ('none', {'pretrain.algorithm': "'none'"}, 'prior'),
    ('prior', {'pretrain.fip.loss_weight.target': '3.0'}, 'prior'),
    ('target_only', {'pretrain.modalities': "('image',)"}, 'uniform'),
    ('cosine', {}, 'estimated'), ('dwa', {'pretrain.fip.downstream.method': "'dwa'"}, 'estimated'),
    ('meta_shuffled', {'pretrain.fip.downstream.method': "'meta'", 'pretrain.fip.downstream.shuffled': 'True'},
     'estimated'),
])
def test_what_an_arm_changes(arm, keys, weights):
    found, after = changed(arm)
    assert found == keys and after.pretrain.fip.weights == weights


def test_there_is_an_arm_for_every_method_and_a_control_for_those_with_labels():
    assert {'cosine', 'dot', 'meta', 'ablation', 'gradnorm', 'uncertainty', 'dwa'} < set(arms.ARMS)
    assert [a for a in arms.ARMS if a.endswith('_shuffled')] == [
        'cosine_shuffled', 'dot_shuffled', 'meta_shuffled', 'ablation_shuffled']


@pytest.mark.parametrize('name', ['lis_emg_imu', 'mfeat', 'constellation', 'radioml'])
@pytest.mark.parametrize('arm', arms.ARMS)
def test_every_arm_of_every_config_is_valid(name, arm):
    c = config_lib.load(str(FIP / f'{name}.py'), arm)
    validation.validate(c)
    assert c.variant == arm


def test_targets_of_mfeat():
    c = config_lib.load(str(FIP / 'mfeat.py'), 'zer-target_only')
    validation.validate(c)
    assert (c.pretrain.fip.target, c.pretrain.modalities, c.variant) == ('zer', ('zer',), 'zer-target_only')
    with pytest.raises(UserError, match="no view 'foo'; allowed: pix, fou, fac, kar, zer, mor"):
        config_lib.load(str(FIP / 'mfeat.py'), 'foo-cosine')


def test_an_unknown_arm_names_those_that_are():
    with pytest.raises(UserError, match="variant 'cosin' is unknown; allowed: uniform, prior, cosine"):
        arms.apply(tiny.config(), 'cosin')
