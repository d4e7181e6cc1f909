"""Runs of the wing 'vlp' from config to result, at the smallest sizes."""
import json

import jax
import numpy as np
import pytest
import tiny_vlp as tv

from fipjax import checkpoint, experiment, train
from fipjax.analysis import runs
from fipjax.data import vl, vl_sets, words
from fipjax.errors import Interrupted, UserError
from fipjax.evaluators import vqa
from fipjax.experiments import vlp

TASKS = ('vqa', 'entailment')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('vlp')


@pytest.fixture(scope='module')
def full(folder):
    """Workdir of a finished run: pretraining on captions, full fine-tuning."""
    experiment.run(tv.config(finetune__fractions=(1.0, 0.5)), folder / 'full', progress=False, shared=folder / 'shared')
    return folder / 'full'


def run(folder, name, **changes):
    experiment.run(tv.config(**changes), folder / name, progress=False, shared=folder / 'shared')
    return runs.load_run(folder / name).result


def params(workdir, which):
    return checkpoint.read_params(workdir / 'parameters' / which)


def equal(a, b):
    return all(jax.tree.leaves(jax.tree.map(lambda x, y: np.array_equal(x, y), a, b)))


def test_result(full):
    result = runs.load_run(full).result
    metrics = result['metrics']
    assert result['headline'] == ['test/vqa/soft_accuracy@100%', 'test/entailment/accuracy@100%',
                                  'test/vqa/soft_accuracy@50%', 'test/entailment/accuracy@50%']
    for name in result['headline']:
        assert 0 <= metrics[name] <= 1
        assert set(result['references']) == {'majority', 'linear, text', 'linear, regions', 'linear, both'}
        assert all(0 <= reference[name] <= 1 for reference in result['references'].values())
    assert {'pretrain/validation/words', 'test/entailment/macro_f1@50%', 'selected_step/vqa@50%'} <= set(metrics)
    assert set(result['seconds']) == {'data', 'pretrain', 'vqa@100%', 'vqa@50%', 'entailment@100%', 'entailment@50%',
                                      'total'}
    assert result['flops']['vqa@100%'] == result['flops']['vqa@50%'] > 0
    assert 'easy' not in result['target'] and (full / 'report.html').exists()


def test_metrics_are_those_of_the_parameters_kept(full):
    """The test scores again, from the files, without the experiment."""
    from fipjax.algorithms import vlp
    from fipjax.experiments import pretrained
    from fipjax.models import predictors
    config = tv.config()
    tokenizer = words.build('basic')
    splits = vl.task(vl_sets.build_task('entailment', config), tokenizer, config.text.length)
    model = pretrained.build(config, tokenizer, 64, 65).model
    head = predictors.answers(model.pooled_width, 3)
    logits = vlp.logits(model, head, 'classes')(params(full, 'entailment@50%'), splits.test.take(np.arange(12)))
    expected = vqa.score('classes', splits.task.classes, logits, splits.test.y)['accuracy']
    assert runs.load_run(full).result['metrics']['test/entailment/accuracy@50%'] == expected


def test_pretraining_is_shared_and_starts_where_none_does(full, folder):
    before = {p.name for p in (folder / 'shared').iterdir()}
    frozen = run(folder, 'frozen', finetune__mode='frozen')
    assert {p.name for p in (folder / 'shared').iterdir()} == before
    none = run(folder, 'none', pretrain__data='none')
    assert 'pretrain' not in none['seconds'] and frozen['seconds']['pretrain'] > 0
    shared = next((folder / 'shared').iterdir())
    start, end = (params(shared, which)['base'] for which in ('initial', 'pretrained'))
    fresh = params(folder / 'none', 'initial')['base']
    same = lambda tree: {k: v for k, v in tree.items() if k != 'embeddings'}  # noqa: E731
    assert equal(same(start), same(fresh))
    assert equal(start['embeddings']['words'], fresh['embeddings']['words'])
    assert not equal(start, end)
    assert not list((folder / 'frozen' / 'parameters').glob('*@*'))


def test_frozen_codes_give_what_the_whole_model_gives(full, folder):
    """A frozen run's test score, through base and head, is that of its validation codes' model."""
    result = run(folder, 'frozen', finetune__mode='frozen')
    assert result['parameters'].keys() == {'base', 'head'}
    assert result['metrics']['validation/vqa/soft_accuracy@100%'] >= 0


@pytest.mark.parametrize('changes', [
    {'pretrain__objective': 'mmm'}, {'model': 'vilbert', 'network__width': 0, 'network__depth': 0, 'network__heads': 0},
    {'pretrain__data': 'vqa', 'pretrain__objective': 'mmm', 'pretrain__region_loss': 'regression',
     'pretrain__tied': False},
    {'text__start': 'texts', 'pretrain__mismatched_captions': True, 'sets__coco': 210, 'finetune__inputs': 'regions'},
    {'pretrain__data': 'cc_small', 'pretrain__inputs': 'text', 'finetune__inputs': 'text',
     'finetune__learning_rates': (1e-3, 1e-2)},
    {'compute': 'bfloat16', 'pretrain__micro_batch': 2, 'pretrain__optimizer__layer_decay': 0.7,
     'finetune__micro_batch': 4, 'finetune__optimizer__kind': 'sgd', 'finetune__optimizer__layer_decay': 0.8}])
def test_other_choices_run(full, folder, changes):
    result = run(folder, '_'.join(str(v) for v in changes.values()).replace(' ', ''),
                 **{'finetune__tasks': ('entailment',), **changes})
    assert np.isfinite(result['metrics']['test/entailment/accuracy@100%'])
    assert ('pretrain/validation/regions' in result['metrics']) == (changes.get('pretrain__objective') == 'mmm')
    for name, known in runs.load_run(full).result['references'].items():  # they see all, whatever the model sees
        assert result['references'][name].items() <= known.items()


def test_a_stopped_run_goes_on_with_the_same_numbers(full, folder, monkeypatch):
    """Stopped in pretraining and in each fine-tuning; the shared model is made anew elsewhere."""
    config = tv.config(finetune__fractions=(1.0, 0.5))
    stops, real = [0], train.fit

    def fit(stage, parallel, settings, directory, writer, should_stop, progress, observe=None):
        def stop():
            stops[0] += 1
            return stops[0] % 7 == 6
        return real(stage, parallel, settings, directory, writer, stop, progress, observe)

    monkeypatch.setattr(train, 'fit', fit)
    stopped = 0
    for _ in range(20):
        try:
            experiment.run(config, folder / 'again', progress=False, shared=folder / 'shared_again')
            break
        except Interrupted:
            stopped += 1
    assert stopped >= 3
    one, two = (runs.load_run(w).result['metrics'] for w in (full, folder / 'again'))
    assert one == two


def test_data_are_the_same_for_all_seeds(folder):
    a, b = (vl_sets.build_task('vqa', tv.config(seed=s)) for s in (0, 1))
    assert a is b
    assert vl_sets.build_task('vqa', tv.config(sets__seed=1)).text != a.text


def test_texts_alone_have_no_pictures(folder):
    found = vl_sets.build_pretraining('texts', tv.config())
    assert len(found.text) == 60 + 40 + 60 and len(found.regions.count) == 1 and found.answers is None
    assert {*found.split} == {'train', 'validation'}


@pytest.mark.parametrize('output, classes, y', [
    ('classes', 'abc', np.array([0, 0, 1, 0], np.int32)),
    ('labels', 'abc', np.array([[1, 0, 0], [1, 1, 0], [1, 0, 0]], np.float32)),
    ('answers', ('<unk>', 'red', 'two'), np.array([[0, 1, 0.3], [0, 0.6, 0]], np.float32))])
def test_prior_knows_how_often_each_answer_is_right(output, classes, y):
    task = vl.Task('t', output, tuple(classes), '')
    found = vlp.prior(task, y)
    for k, logit in enumerate(found):
        right = sum(float(row == k) if output == 'classes' else float(row[k]) for row in y)
        share = (right + 1) / (len(y) + 2)
        if output == 'classes':
            assert logit == pytest.approx(np.log(share), abs=1e-6)
        else:
            assert 1 / (1 + np.exp(-logit)) == pytest.approx(share, abs=1e-6)  # sigmoid
    assert found.dtype == np.float32 and found.shape == (3,) and np.isfinite(found).all()


def test_fine_tuning_starts_from_the_prior(full):
    """Logged before the first step: with a new head the answer is about the likeliest of training."""
    row = next(r for r in runs.load_run(full).metrics if (r['stage'], r['split'], r['step']) ==
               ('vqa@100%', 'validation', 0))
    splits = vl.task(vl_sets.build_task('vqa', tv.config()), words.build('basic'), tv.config().text.length)
    y, logits = splits.validation.y, np.float64(vlp.prior(splits.task, splits.train.y))
    wanted = (np.logaddexp(0, logits) - y * logits).sum(1).mean()
    assert row['loss'] == pytest.approx(wanted, rel=0.05)
    assert (y * 0 + np.log(2)).sum(1).mean() > 2 * wanted  # of logits of 0


# --- Wrong input ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('changes, message', [
    ({'pretrain__data': 'laion'}, "pretrain.data is 'laion'; allowed: none, coco"),
    ({'finetune__tasks': ('vqa', 'gqa')}, 'finetune.tasks is'),
    ({'finetune__tasks': ()}, 'finetune.tasks is ()'),
    ({'finetune__fractions': (0.0,)}, 'finetune.fractions is (0.0,)'),
    ({'pretrain__share': 1.5}, 'pretrain.share is 1.5'),
    ({'pretrain__objective': 'itm'}, "pretrain.objective is 'itm'; allowed: mlm or mmm"),
    ({'pretrain__data': 'easy_vqa', 'pretrain__objective': 'mmm'}, "pretrain.region_loss is 'kl'"),
    ({'finetune__optimizer__kind': 'lion'}, "finetune.optimizer.kind is 'lion'; allowed: adamw or adam or sgd"),
    ({'pretrain__optimizer__layer_decay': 1.1}, 'pretrain.optimizer.layer_decay is 1.1; allowed: in (0, 1]'),
    ({'compute': 'float16'}, "compute is 'float16'; allowed: float32 or bfloat16"),
    ({'text__start': 'texts', 'init__checkpoint': 'x'}, "text.start is 'texts'; allowed: '' with init.checkpoint"),
    ({'init__checkpoint': 'x'}, 'init.sha256 is'),
    ({'finetune__micro_batch': 3}, 'finetune.micro_batch is 3; allowed: a divisor of finetune.batch_size on one'),
    ({'text__length': 3}, 'text.length is 3'),
    ({'sets__confusion': 0.9}, 'sets.confusion is 0.9'),
    ({'model': 'vilbert'}, 'network.width is 8'),
    ({'model': 'lxmert'}, "model is 'lxmert'"),
    ({'pretrain__data': 'ccg', 'sets__ccg': 'nowhere'}, 'no folder sets.ccg=nowhere'),
    ({'text__tokenizer': 'nowhere.json'}, "text.tokenizer is 'nowhere.json'"),
    ({'finetune__tasks': ('./nowhere',)}, 'nowhere')])
def test_wrong_settings_are_named(folder, changes, message):
    with pytest.raises(UserError) as error:
        run(folder, 'wrong', **changes)
    assert message in str(error.value)


def test_pretraining_and_task_need_one_detector(folder, monkeypatch):
    other = tv.config(regions__features='crops')
    monkeypatch.setattr(vl_sets, 'build_pretraining', lambda *_: vl_sets._make('pretraining', 'coco', other, False))
    with pytest.raises(UserError, match='found vqa: frozen, 64 wide .*; pretrain.data: crops, 192 wide'):
        run(folder, 'wrong', finetune__tasks=('vqa',))


def test_a_model_given_must_be_the_one_asked_for(full, folder):
    shared = str(next((folder / 'shared').iterdir()))
    with pytest.raises(UserError, match='holds another pretrained model: pretrain.objective'):
        run(folder, 'wrong', pretrain__workdir=shared, pretrain__objective='mmm')
    with pytest.raises(UserError, match='is a run of wing .vlp., not a pretrained model'):
        run(folder, 'wrong', pretrain__workdir=str(full))


def test_a_tokenizer_that_does_not_match_is_named(full, folder, tmp_path):
    shared = next((folder / 'shared').iterdir())
    (tmp_path / 'vocab.txt').write_text('\n'.join(['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', 'a', 'circle']))
    with pytest.raises(UserError, match='text.tokenizer is .*vocab.txt.*was made with .basic'):
        run(folder, 'wrong', pretrain__workdir=str(shared), text__tokenizer=str(tmp_path / 'vocab.txt'))


def test_where_pretraining_has_a_workdir_it_is_kept_there(folder):
    where = folder / 'mine'
    run(folder, 'kept', pretrain__workdir=str(where), finetune__tasks=('vqa',))
    assert json.loads((where / 'result.json').read_text())['tokenizer']['name'] == 'basic'
