"""Checkpoints of VisualBERT, ViLBERT and BERT as a user has them: from a folder through a config to the model."""
import json
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_vlp as tv
import vl_batches
from safetensors.numpy import save_file
from tokenizers import Tokenizer as Words

from fipjax import checkpoint, experiment
from fipjax import config as config_lib
from fipjax.data import completion, wheels, words
from fipjax.errors import UserError
from fipjax.experiments import pretrained
from fipjax.models import bert, published_vl, stack, vilbert
from fipjax.validation import validate

QUICK = str(pathlib.Path(__file__).parents[1] / 'configs' / 'vlp' / 'quick.py')
SIZES = vilbert.Sizes(width=16, depth=3, heads=4, region_width=12, rounds=2, region_heads=3, co_width=20, co_heads=5)
HEADS = {'num_attention_heads': 4, 'layer_norm_eps': 1e-12, 'hidden_act': 'gelu'}
CONFIGS = {'visualbert': {'model_type': 'visual_bert', **HEADS}, 'bert': {'model_type': 'bert', **HEADS},
           'vilbert': {**HEADS, 'v_num_attention_heads': 3, 'bi_num_attention_heads': 5, 'v_hidden_act': 'gelu',
                       't_biattention_id': [1, 2], 'v_biattention_id': [0, 1]}}
NAMES = ('[PAD]', '[CLS]', '[SEP]', '[MASK]', '[UNK]', *'abcdef')  # as many as the golden files have words
MMF = {'visual_bert.embeddings.visual_projection': 'model.bert.embeddings.projection',
       'visual_bert.embeddings.visual_token_type_embeddings': 'model.bert.embeddings.token_type_embeddings_visual',
       'visual_bert.embeddings.visual_position_embeddings': 'model.bert.embeddings.position_embeddings_visual',
       'visual_bert.': 'model.bert.', 'cls.': 'model.cls.'}
OURS = {'model.bert.': 'bert.bert.', 'model.cls.': 'bert.cls.'}  # the authors'


@pytest.fixture(autouse=True)
def sizes_of_the_golden_file(monkeypatch):
    monkeypatch.setitem(vilbert.VARIANTS, 'golden', SIZES)


def golden(name):
    """Weights under their published names; 'bert': the words of VisualBERT alone."""
    state = vl_batches.golden('visualbert' if name == 'bert' else name, False)[1]
    if name != 'bert':
        return state
    own = {k.removeprefix('visual_bert.'): v for k, v in state.items() if '.visual_' not in k and 'pooler' not in k}
    return own | {'pooler.dense.weight': np.ones((16, 16), np.float32)}


def renamed(state, names):
    out = {}
    for key, value in state.items():
        old = next((n for n in names if key.startswith(n)), '')
        out[names.get(old, '') + key.removeprefix(old)] = value
    return out


def write(folder, state, config=None, vocabulary=NAMES):
    """A folder as transformers writes it; its path."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({k: np.ascontiguousarray(v) for k, v in state.items()}, folder / 'model.safetensors')
    (folder / 'config.json').write_text(json.dumps(config or {}))
    if vocabulary:
        (folder / 'vocab.txt').write_text('\n'.join(vocabulary))
    return str(folder)


def load(name, *options, model='visualbert', say=None, tokenizer=None):
    """A config that starts from the checkpoint `name`, complete and checked."""
    given = [('init.checkpoint', name), ('model', model), ('text.tokenizer', tokenizer or name), ('text.length', '9'),
             ('pretrain.tied', 'False'), *([('network.variant', 'golden')] if model == 'vilbert' else []),
             *(o.split('=', 1) for o in options)]
    c = config_lib.load(QUICK, None, given, say)
    validate(c)
    return c


def begin(config, features=6, outputs=4):
    """(model, fresh parameters, Start, tokenizer) of a config."""
    tokenizer = words.build(config.text.tokenizer)
    made = pretrained.build(config, tokenizer, features, outputs).model
    fresh = jax.device_get(made.init(jax.random.key(1)))
    return made, fresh, published_vl.start(config, fresh, tokenizer)


def equal(a, b):
    return jax.tree.structure(a) == jax.tree.structure(b) and all(
        np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


# --- What the model then computes ------------------------------------------------------------------------------------

@pytest.mark.parametrize('name', ['visualbert', 'vilbert'])
def test_golden_outputs_from_a_folder(name, tmp_path):
    batch, state, want = vl_batches.golden(name, False)
    said = []
    c = load(write(tmp_path / 'a', state, CONFIGS[name]), model=name, say=said.append)
    assert len(said) == 1 and 'width 16, depth 3, heads 4' in said[0] and 'does not say' not in said[0]
    sizes = (16, 3, 4) if name == 'visualbert' else (0, 0, 0)
    assert tuple(c.network[k] for k in ('width', 'depth', 'heads')) == sizes and len(c.init.sha256) == 64
    made, fresh, found = begin(c)
    seen = made.encode(found.params['base'], batch)
    close = lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5)  # noqa: E731
    there, valid = batch['token_mask'], batch['region_mask']
    close(seen.words[there], want['words'][there])
    close(seen.regions[valid], want['regions'][valid])
    close(made.pooled(found.params['base'], seen, batch, 'first'), want['pooled'])
    close(made.word_logits(found.params, seen.words)[there], want['untied'][there])
    if name == 'vilbert':
        close(made.region_outputs(found.params, seen.regions)[valid], want['region_outputs'][valid])
    else:
        assert equal(found.params['regions'], fresh['regions'])
    assert found.regions
    lines = found.report.splitlines()
    assert {line.split()[0] for line in lines} == {'loaded', 'reshaped'} | (
        {'fresh'} if name == 'visualbert' else set())
    assert all(sum(f' {key} ' in line for line in lines) == 1 for key in state)
    assert sum(line.startswith('fresh  regions.') for line in lines) == (6 if name == 'visualbert' else 0)


@pytest.mark.parametrize('name, names', [('visualbert', (MMF,)), ('visualbert', (MMF, OURS)),
                                         ('vilbert', ({'': 'model.'},))])
def test_other_names_are_the_same_parameters(name, names, tmp_path):
    state = golden(name)
    want = begin(load(write(tmp_path / 'a', state, CONFIGS[name]), model=name))[2].params
    for change in names:
        state = renamed(state, change)
    assert not set(state) & set(golden(name))
    said = []
    other = load(write(tmp_path / 'b', state), *(['network.heads=4'] if name == 'visualbert' else []), model=name,
                 say=said.append)
    assert f'does not say, taken as heads 4{", region_heads 3, co_heads 5" if name == "vilbert" else ""}' in said[0]
    assert equal(begin(other)[2].params, want)


def test_heads_that_no_file_says():
    layers = {f'encoder.layer.{i}.intermediate.dense.weight': np.zeros((512, 128), np.float32) for i in range(2)}
    described = published_vl._describe({'embeddings.word_embeddings.weight': np.zeros((3, 128)), **layers}, {}, 'file')
    assert described == ('BERT', {'width': 128, 'depth': 2}, {'heads': 2})


@pytest.mark.parametrize('model, prefix', [('visualbert', ''), ('visualbert', 'bert.'), ('vilbert', '')])
def test_of_a_bert_come_words_alone(model, prefix, tmp_path, monkeypatch):
    monkeypatch.setitem(vilbert.VARIANTS, 'golden', SIZES._replace(depth=2, rounds=1))
    theirs = golden('bert')
    state = {k if k.startswith('cls.') else prefix + k: v for k, v in theirs.items()}
    own = 'blocks' if model == 'visualbert' else 'text_blocks'
    made, fresh, found = begin(load(write(tmp_path / 'a', state, CONFIGS['bert']), *(
        ['network.depth=2'] if model == 'visualbert' else []), 'text.length=5', model=model))
    base, table = found.params['base'], theirs['embeddings.position_embeddings.weight']
    np.testing.assert_array_equal(base['embeddings']['words'], theirs['embeddings.word_embeddings.weight'])
    np.testing.assert_array_equal(base['embeddings']['positions'], table[:5])
    query = base[own]['attention']['query']['kernel']
    assert query.shape == (2, 16, 16)
    for i in range(2):
        np.testing.assert_array_equal(query[i], theirs[f'encoder.layer.{i}.attention.self.query.weight'].T)
    np.testing.assert_array_equal(found.params['words']['decoder'], theirs['cls.predictions.decoder.weight'])
    assert not found.regions and equal(found.params['regions'], fresh['regions'])
    taken = {own, 'embeddings'}
    assert equal({k: v for k, v in base.items() if k not in taken},
                 {k: v for k, v in fresh['base'].items() if k not in taken})
    if model == 'visualbert':
        assert equal(base['embeddings']['projection'], fresh['base']['embeddings']['projection'])
        np.testing.assert_array_equal(base['embeddings']['region_position'], table[0])
        np.testing.assert_array_equal(base['embeddings']['region_segments'],
                                      theirs['embeddings.token_type_embeddings.weight'])
    assert f'unused  {prefix}encoder.layer.2.output.dense.bias [16]' in found.report.splitlines()
    assert f'unused  {prefix}pooler.dense.weight [16x16]' in found.report.splitlines()


def test_a_decoder_that_the_file_has_not_is_its_word_embeddings(tmp_path):
    state = golden('visualbert')
    own = state.pop('cls.predictions.decoder.weight')
    shared = state['visual_bert.embeddings.word_embeddings.weight']
    untied, tied = (begin(load(write(tmp_path / 'a', state, CONFIGS['visualbert']), f'pretrain.tied={t}'))[2].params
                    for t in (False, True))
    np.testing.assert_array_equal(untied['words'].pop('decoder'), shared)
    assert equal(untied, tied)
    # Without pretraining nobody needs the decoder.
    whole = write(tmp_path / 'b', state | {'cls.predictions.decoder.weight': own}, CONFIGS['visualbert'])
    assert equal(begin(load(whole, 'pretrain.tied=True', 'pretrain.data=none'))[2].params['base'], tied['base'])


def test_a_region_head_of_other_outputs_stays_fresh(tmp_path):
    where = write(tmp_path / 'a', golden('vilbert'), CONFIGS['vilbert'])
    _, fresh, found = begin(load(where, model='vilbert'), outputs=5)
    assert equal(found.params['regions'], fresh['regions'])
    assert 'unused  cls.imagePredictions.decoder.bias [4]' in found.report.splitlines()
    assert 'fresh  regions.linear.kernel [12x5]' in found.report.splitlines()


def sentence_vectors(params, sentences):
    """Mean over the valid states of BERT's layers, as all-MiniLM-L6-v2 does."""
    model = Words.from_file(str(wheels.path('minilm_tokenizer', 'text.tokenizer')))
    model.enable_padding(length=6)
    rows = model.encode_batch(sentences)
    tokens, mask = (np.array([getattr(r, k) for r in rows]) for k in ('ids', 'attention_mask'))
    x = bert.norm(params['embeddings']['norm'], bert.embed(params['embeddings'], jnp.asarray(tokens), tokens * 0))
    bias = stack.key_bias(mask > 0, x, -1e9)
    x = stack.run(lambda p, x: bert.Block(12).apply({'params': p}, x, bias), params['blocks'], x, 'scan', False)
    mean = (x * mask[:, :, None]).sum(1) / mask.sum(1, keepdims=True)
    return np.asarray(mean / jnp.linalg.norm(mean, axis=1, keepdims=True))


def test_sentence_vectors_are_those_of_transformers():
    c = load('wheel:minilm', tokenizer='minilm')
    assert tuple(c.network[k] for k in ('width', 'depth', 'heads')) == (384, 6, 12)
    cat, kitten, movie, film, car, banana = sentence_vectors(
        begin(c)[2].params['base'], ['cat', 'kitten', 'movie', 'film', 'a fast car', 'bananas are yellow'])
    # Computed by transformers 5.23 from the same file.
    got = [cat @ kitten, movie @ film, car @ banana, cat @ movie]
    np.testing.assert_allclose(got, [0.7882, 0.8426, 0.0714, 0.3826], atol=1e-4)
    mini = load('wheel:minilm', 'network.variant=mini', model='vilbert', tokenizer='minilm')
    assert mini.network.width == 0
    assert 'base.text_blocks.mlp.out.kernel' in begin(mini)[2].report


# --- Configs ---------------------------------------------------------------------------------------------------------

def test_completing_again_changes_nothing(tmp_path):
    where = write(tmp_path / 'a', golden('bert'), CONFIGS['bert'])
    for c in (load(where, 'network.depth=2'), load(where)):
        again = completion.complete(c.copy_and_resolve_references())
        assert config_lib.to_json(again) == config_lib.to_json(c)
    assert load(where, 'network.depth=2').network.depth == 2


def test_a_pretrained_model_is_named_by_what_the_file_holds(tmp_path):
    keys = pretrained.MADE_OF
    named = lambda c: pretrained.shared.identity(pretrained.settings(c), keys)  # noqa: E731
    here, there = (load(write(tmp_path / k, golden('visualbert'), CONFIGS['visualbert']), tokenizer='basic')
                   for k in 'ab')
    state = golden('visualbert')
    state['cls.predictions.bias'] += 1
    other = load(write(tmp_path / 'c', state, CONFIGS['visualbert']), tokenizer='basic')
    assert named(here) == named(there) != named(other)
    plain = tv.config()
    assert 'init' not in pretrained.settings(plain)  # so that models made before there was `init` are found


# --- Runs ------------------------------------------------------------------------------------------------------------

@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    """A VisualBERT for generated scenes, in the authors' names: (folder, its tensors by transformers' names)."""
    rng, state = np.random.default_rng(0), golden('visualbert')
    at, rows = 'visual_bert.embeddings.', words.build('basic').size
    for key, shape in ((f'{at}word_embeddings.weight', (rows, 16)), (f'{at}position_embeddings.weight', (20, 16)),
                       (f'{at}visual_projection.weight', (16, 64)), ('cls.predictions.bias', (rows,))):
        state[key] = rng.normal(0, 0.2, shape).astype(np.float32)
    del state['cls.predictions.decoder.weight']
    folder = tmp_path_factory.mktemp('runs')
    write(folder / 'published', renamed(state, MMF), {'num_attention_heads': 4}, vocabulary=())
    return folder, state


def tiny(where, **changes):
    return completion.complete(tv.config(**{
        'network__width': 0, 'network__depth': 0, 'network__heads': 0, 'finetune__tasks': ('entailment',),
        'init__checkpoint': str(where), **changes}))


def run(folder, name, **changes):
    experiment.run(tiny(folder / 'published', **changes), folder / name, progress=False, shared=folder / 'shared')
    return folder / name


def is_the_files(initial, state):
    e, at = initial['base']['embeddings'], 'visual_bert.embeddings.'
    np.testing.assert_array_equal(e['projection']['kernel'], state[f'{at}visual_projection.weight'].T)
    np.testing.assert_array_equal(e['projection']['bias'], state[f'{at}visual_projection.bias'])
    np.testing.assert_array_equal(e['positions'], state[f'{at}position_embeddings.weight'][:14])
    np.testing.assert_array_equal(initial['base']['pooler']['kernel'], state['visual_bert.pooler.dense.weight'].T)


def test_fine_tuning_alone(scenes):
    folder, state = scenes
    where = run(folder, 'alone', pretrain__data='none')
    result = json.loads((where / 'result.json').read_text())
    assert 0 <= result['metrics']['test/entailment/accuracy@100%'] <= 1
    is_the_files(checkpoint.read_params(where / 'parameters' / 'initial'), state)
    stored = json.loads((where / 'config.json').read_text())
    assert stored['network']['depth'] == 3 and len(stored['init']['sha256']) == 64
    report = (where / 'checkpoint.txt').read_text().splitlines()
    assert sum('model.bert.embeddings.projection.weight [16x64] -> base.embeddings.projection.kernel' in r
               for r in report) == 1


def test_pretraining_goes_on_wherever_the_file_lies(scenes):
    folder, state = scenes
    where, (made,) = run(folder, 'whole'), (folder / 'shared').iterdir()
    is_the_files(checkpoint.read_params(made / 'parameters' / 'initial'), state)
    assert '-> words.transform.dense.kernel' in (made / 'checkpoint.txt').read_text()
    assert not (where / 'checkpoint.txt').exists()
    shutil.copytree(folder / 'published', folder / 'moved')
    kept, tokenizer = {'pretrain__workdir': str(made)}, words.build('basic')
    pretrained.data(tiny(folder / 'moved', **kept), tokenizer, False)
    with pytest.raises(UserError, match='holds another pretrained model: init'):
        pretrained.data(tiny('', network__width=16, network__depth=3, network__heads=4, **kept), tokenizer, False)


# --- Wrong input -----------------------------------------------------------------------------------------------------

def without(state, *parts):
    return {k: v for k, v in state.items() if not any(p in k for p in parts)}


@pytest.mark.parametrize('name, config, options, said', [
    ('visualbert', {}, ('model=vilbert', 'network.variant=golden'),
     "model is 'vilbert', but init.checkpoint=.* holds a VisualBERT; set model to visualbert"),
    ('vilbert', {}, (), "model is 'visualbert', but .* holds a ViLBERT; set model to vilbert"),
    ('bert', {}, ('model=vilbert', 'network.variant=mini'),
     "network.variant is 'mini' with width 384, depth 6, heads 12, but .* has width 16, depth 3, heads 4; set "
     'network.variant to golden'),
    ('vilbert', {'v_num_attention_heads': 6}, ('model=vilbert', 'network.variant=golden'),
     'co_heads 5, but .* region_heads 6.*; no variant has the sizes of the file'),
    ('vilbert', {'t_biattention_id': [0, 1]}, ('model=vilbert', 'network.variant=golden'),
     r't_biattention_id in config.json is \[0, 1\]; read is \[1, 2\]'),
    ('vilbert', {'fusion_method': 'sum'}, ('model=vilbert',), "fusion_method in config.json is 'sum'; only 'mul'"),
    ('vilbert', {}, ('model=vilbert', 'network.variant=golden', 'network.width=16'), 'network.width is 16, but'),
    ('visualbert', {}, ('network.width=32',), 'network.width is 32, but .* has 16; leave it out'),
    ('visualbert', {}, ('network.depth=2',), 'network.depth is 2, but .* has 3; leave it out'),
    ('bert', {}, ('network.depth=4',), 'network.depth is 4, but .* has 3; .*fewer layers are the first ones'),
    ('bert', {}, ('network.heads=2',), 'network.heads is 2, but .* has 4'),
    ('bert', {}, ('init.sha256=abc',), 'init.sha256 is abc, but'),
    ('bert', {'layer_norm_eps': 1e-5}, (), "epsilon is 1e-05; the layers of visualbert, vilbert have 1e-12"),
    ('bert', {'hidden_act': 'gelu_new'}, (), "gelu is 'tanh'; the layers of .* have 'exact'"),
    ('bert', {'model_type': 'roberta'}, (), 'holds a RoBERTa, whose positions begin two rows later'),
    ('bert', {'model_type': 'electra'}, (), "holds no VisualBERT, ViLBERT or BERT: model_type .* is 'electra'")])
def test_configs_that_do_not_fit_are_named(name, config, options, said, tmp_path):
    where = write(tmp_path / 'a', golden(name), CONFIGS[name] | config)
    with pytest.raises(UserError, match=said):
        load(where, *options)


def test_files_that_hold_another_model_are_named(tmp_path):
    state = golden('bert')
    with pytest.raises(UserError, match='of its .* tensors none is called embeddings.word_embeddings.weight'):
        load(write(tmp_path / 'a', without(state, 'word_embeddings')))
    state['embeddings.token_type_embeddings.weight'] = state['embeddings.token_type_embeddings.weight'][:1]
    with pytest.raises(UserError, match='holds a RoBERTa'):
        load(write(tmp_path / 'b', state))
    wide = golden('bert')
    for i in range(3):
        wide[f'encoder.layer.{i}.intermediate.dense.weight'] = np.zeros((32, 16), np.float32)
    with pytest.raises(UserError, match='mlp_ratio is 2; the layers of visualbert, vilbert have 4'):
        load(write(tmp_path / 'c', wide))


@pytest.mark.parametrize('name, options, sizes, said', [
    ('visualbert', ('pretrain.tied=True',), {}, 'pretrain.tied is True, but .* set pretrain.tied to False'),
    ('visualbert', ('text.length=10',), {}, 'text.length is 10, but the checkpoint has positions for 9 tokens'),
    ('visualbert', (), {'features': 7}, 'features 6 wide, but those of the data .*regions.features.* are 7 wide'),
    ('visualbert', ('text.tokenizer=basic',), {},
     "text.tokenizer is 'basic' with .* has 11 of another vocabulary; use --config.text.tokenizer=.*a$"),
    ('vilbert', (), {'features': 2048}, 'features 6 wide, but .* are 2048 wide')])
def test_data_that_do_not_fit_are_named(name, options, sizes, said, tmp_path):
    config = load(write(tmp_path / 'a', golden(name), CONFIGS[name]), *options, model=name)
    with pytest.raises(UserError, match=said):
        begin(config, **sizes)


def test_word_pieces_of_another_vocabulary_as_large_are_named(tmp_path):
    where = write(tmp_path / 'a', golden('bert'), CONFIGS['bert'])
    (tmp_path / 'vocab.txt').write_text('\n'.join((*NAMES[:-1], 'g')))
    with pytest.raises(UserError, match='vocab.txt. with 11 word pieces, but .* has 11 of another vocabulary'):
        begin(load(where, tokenizer=str(tmp_path / 'vocab.txt')))
    bare = write(tmp_path / 'b', golden('bert'), CONFIGS['bert'], vocabulary=())
    begin(load(bare, tokenizer=str(tmp_path / 'vocab.txt')))  # nothing tells
    with pytest.raises(UserError, match='has 11 and no tokenizer.json or vocab.txt beside it'):
        begin(load(bare, tokenizer='basic'))
    with pytest.raises(UserError, match='use --config.text.tokenizer=minilm'):
        begin(load('wheel:minilm', tokenizer='basic'))


def test_tensors_that_are_missing_or_of_another_size_are_named(tmp_path):
    state = golden('visualbert')
    where = write(tmp_path / 'a', without(state, 'visual_projection.bias'), CONFIGS['visualbert'])
    with pytest.raises(UserError, match='1 of .* tensors are missing: visual_bert.embeddings.visual_projection.bias'):
        begin(load(where))
    state['visual_bert.pooler.dense.bias'] = np.zeros(5, np.float32)
    with pytest.raises(UserError, match=r'base.pooler.bias is \(5,\), but the settings need \(16,\)'):
        begin(load(write(tmp_path / 'b', state, CONFIGS['visualbert'])))
