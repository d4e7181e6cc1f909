"""VisualBERT and ViLBERT from published checkpoints: whole, or with the words of a BERT.

`init.checkpoint` names the checkpoint (fipjax.models.convert.files says how). What it may hold for `model`:

    visualbert    a VisualBERT, or a BERT or MiniLM
    vilbert       a ViLBERT, or a BERT or MiniLM

When a config is loaded, `complete` reads off the file what it is, and writes its sizes into the group `network`; those
of ViLBERT are those of a variant, which must be the file's. The sha256 of the weights goes into `init.sha256`. `start`
puts the weights where fresh ones were. Of a BERT come embeddings, layers and the head of words; a model of fewer layers
takes the first ones.
"""
from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from fipjax.data import words
from fipjax.errors import UserError
from fipjax.models import bert, published, vl
from fipjax.models.convert import bert as bert_tables
from fipjax.models.convert import files, positions, sizes, tables, vilbert, visualbert
from fipjax.models.published import KEY

KINDS = {'visualbert': 'VisualBERT', 'vilbert': 'ViLBERT'}  # by `model`; of words alone: BERT
BERT = 'BERT'
TYPES = ('bert', 'visual_bert', 'vilbert')  # model_type in config.json
LAYERS = {'mlp_ratio': 4, 'epsilon': bert.EPSILON, 'gelu': 'exact'}  # as all models of this wing have them
UNLIKE = {'v_hidden_act': 'gelu', 'fusion_method': 'mul', 'with_coattention': True, 'dynamic_attention': False,
          'task_specific_tokens': False, 'bypass_transformer': False}  # of config.json; others mean another model


class Described(NamedTuple):
    """What a file holds: one of KINDS' values or BERT, the sizes that it settles, and heads
    that it does not, with what is taken where no variant says them."""

    kind: str
    sizes: dict
    assumed: dict


class Start(NamedTuple):
    """Parameters to start from.

    Attributes:
      params: as those of fipjax.models.vl, host arrays.
      regions: whether the projection of regions is the checkpoint's.
      report: a line for each tensor of the file, and for each that stays fresh.
    """

    params: Any
    regions: bool
    report: str


@functools.lru_cache(maxsize=2)
def _read(name, fetch: bool = True) -> tuple[files.Checkpoint, Described]:
    found = files.read(name, KEY, fetch)
    return found, _describe(found.state, found.config, f'{KEY}={name}')


def _describe(state, config, where):
    own = bert_tables.places(state)[0]
    kind = next((KINDS[n] for n, t in (('visualbert', visualbert), ('vilbert', vilbert)) if t.is_in(state)), BERT)
    said = config.get('model_type') or 'bert'
    segments = state.get(f'{own}embeddings.token_type_embeddings.weight', np.zeros((2, 0)))
    if 'roberta' in f'{own}{said}' or len(segments) == 1:
        raise UserError(f'{where} holds a RoBERTa, whose positions begin two rows later and whose LayerNorms have '
                        f'another epsilon; read for model are {", ".join(KINDS.values())} and {BERT}')
    if said not in TYPES or f'{own}{bert_tables.WORDS}' not in state:
        raise UserError(f'{where} holds no {", ".join(KINDS.values())} or {BERT}: ' + (
            f'model_type in config.json is {said!r}' if said not in TYPES else
            f'of its {len(state)} tensors none is called {bert_tables.WORDS}'))
    for key, wanted in UNLIKE.items():
        if config.get(key) not in (wanted, None):
            raise UserError(f'{where}: {key} in config.json is {config[key]!r}; only {wanted!r} is read')
    text = {k: v for k, v in state.items() if k.startswith((f'{own}embeddings.', f'{own}encoder.layer.'))}
    layers = sizes.describe(text, {**config, 'model_type': 'bert'} if config else {}, where)
    for key, wanted in LAYERS.items():
        if (value := {**layers.sizes, **layers.assumed}[key]) != wanted:
            raise UserError(f'{where}: {key} is {value!r}; the layers of {", ".join(vl.VARIANTS)} have {wanted!r}')
    settled, assumed = ({k: v for k, v in d.items() if k in vl.SIZES} for d in (layers.sizes, layers.assumed))
    if kind == KINDS['vilbert']:
        settled |= vilbert.sizes(state, config)
        assumed |= {k: 0 for k in ('region_heads', 'co_heads') if k not in settled}
        first, rounds = settled['depth'] - settled['rounds'], settled['rounds']
        for key, ids in (('t_biattention_id', range(first, first + rounds)), ('v_biattention_id', range(rounds))):
            if config.get(key) not in (list(ids), None):
                raise UserError(f'{where}: {key} in config.json is {config[key]}; read is {list(ids)}, a co-attention '
                                'before each of the last layers of words')
    return Described(kind, settled, assumed)


def complete(config: ConfigDict, say: Callable[[str], None] | None = None) -> None:
    """Writes what the checkpoint of a config of the wing 'vlp' is into the config; nothing without a checkpoint.

    Args:
      config: with `init`, `model` and `network`; changed.
      say: told what was read off.

    Raises:
      UserError: the checkpoint cannot be read, holds another model, or settings differ from the file's.
    """
    if not config.init.checkpoint or config.model not in KINDS:  # an unknown model is validation's to name
        return
    try:
        found, (kind, settled, assumed) = _read(config.init.checkpoint, not config.plan)
    except UserError as e:
        if not config.plan:
            raise
        if say:  # a plan needs sizes alone, and fetches nothing
            say(f'{e}: the plan goes by network.variant={config.network.variant}')
        return
    n, where = config.network, f'{KEY}={config.init.checkpoint}'
    if kind not in (KINDS[config.model], BERT):
        other = next(k for k, v in KINDS.items() if v == kind)
        raise UserError(f'model is {config.model!r}, but {where} holds a {kind}; set model to {other}')
    published.pin(config, found)
    if config.model == 'vilbert':
        _same_variant(n, kind, settled, where)
    for key in vl.SIZES if config.model == 'visualbert' else ():
        given, theirs = n[key], settled.get(key)
        fewer = key == 'depth' and kind == BERT and 0 < given <= settled['depth']
        if theirs and given not in (0, theirs) and not fewer:
            raise UserError(f'network.{key} is {given}, but {where} has {theirs}; leave it out, the file says it'
                            + (' (fewer layers are the first ones)' if key == 'depth' and kind == BERT else ''))
        n[key] = given or theirs or assumed[key]
    if say:
        ours = vl.sizes_of(config.model, n)._asdict()
        say(f'{KEY}: {kind} of {found.path}, {_listed(settled)}'
            + (f'; the file does not say, taken as {_listed({k: ours[k] for k in assumed})}' if assumed else ''))


def _same_variant(network, kind, settled, where):
    """Raises UserError unless the sizes of a variant of ViLBERT are the file's."""
    def agrees(ours):
        ours = ours._asdict()
        return all(ours[k] == v or (k == 'depth' and kind == BERT and ours[k] < v) for k, v in settled.items())

    ours = vl.sizes_of('vilbert', network)
    if not agrees(ours):
        found = {k: ours._asdict()[k] for k in settled}
        fit = [name for name, s in vl.VARIANTS['vilbert'].items() if agrees(s)]
        raise UserError(f'network.variant is {network.variant!r} with {_listed(found)}, but {where} has '
                        f'{_listed(settled)}; '
                        + (f'set network.variant to {fit[0]}' if fit else 'no variant has the sizes of the file'))


def start(config: ConfigDict, fresh: Mapping, tokenizer: words.Tokenizer) -> Start:
    """Fresh parameters with those of the checkpoint in their place, float32.

    Args:
      config: complete, of the wing 'vlp' or of its pretrained model.
      fresh: parameters of fipjax.models.vl as the config asks for them; with shapes in place of arrays, checks alone.
      tokenizer: of `text.tokenizer`.

    Raises:
      UserError: tensors are missing; word pieces, length, features of regions or other sizes that are not the
        checkpoint's; a decoder of its own where `pretrain.tied` leaves no place for one.
    """
    found, described = _read(config.init.checkpoint)
    state, where = found.state, f'{KEY}={config.init.checkpoint}'
    entries = _entries(described.kind, config, state)
    by_name = {e.ours: e for e in entries}
    decoder, head = by_name.get('words.decoder'), by_name.get('regions.linear.kernel')
    if decoder and 'decoder' not in fresh['words']:
        same = np.array_equal(state[decoder.theirs], state[by_name['base.embeddings.words'].theirs])
        if not same and config.pretrain.data != 'none':
            raise UserError(f'pretrain.tied is True, but {where} has a decoder of words that is not its word '
                            'embeddings; set pretrain.tied to False')
        entries.remove(decoder)
    if head and len(state[head.theirs]) != len(fresh['regions']['linear']['bias']):
        entries = [e for e in entries if not e.ours.startswith('regions.')]
    known, report = tables.read(entries, state, where)
    base, ours = known['base'], fresh['base']
    rows = base['embeddings']
    _same_words(config.init.checkpoint, found.path, tokenizer, len(rows['words']), where)
    rows['positions'] = positions.first(rows['positions'], len(ours['embeddings']['positions']), 'text.length')
    theirs = _projection(base)
    if theirs and len(theirs['kernel']) != (wide := len(_projection(ours)['kernel'])):
        raise UserError(f'{where} has a projection of region features {len(theirs["kernel"])} wide, but those of the '
                        f'data (regions.features, finetune.tasks, pretrain.data) are {wide} wide; it needs features of '
                        'the detector that it was trained with')
    params = _merged(fresh, jax.tree.map(lambda x: np.asarray(x, np.float32), known))
    published.fits(params, fresh, where)
    left = sorted(published.shapes(fresh).items() - published.shapes(known).items())
    return Start(params, bool(theirs), '\n'.join([str(report), *(
        f'fresh  {path} [{"x".join(map(str, shape))}]' for path, shape in left)]))


def _entries(kind, config, state):
    """The table of what the file brings."""
    if kind != BERT:
        return (visualbert if config.model == 'visualbert' else vilbert).model(state)
    depth = vl.sizes_of(config.model, config.network).depth
    if config.model == 'visualbert':
        return visualbert.from_bert(state, depth)
    return bert_tables.text_side(state, 'text_blocks', depth)


def _same_words(name, path, tokenizer, rows, where):
    """Raises UserError unless a tokenizer is the checkpoint's, as far as can be told."""
    folder = path if path.is_dir() else path.parent
    own = 'minilm' if name == f'{files.WHEEL}minilm' else str(folder) if any(
        (folder / file).is_file() for file in words.FILES) else ''
    other = bool(own) and words.build(own).digest != tokenizer.digest
    if other or rows != tokenizer.size:
        raise UserError(f'text.tokenizer is {tokenizer.name!r} with {tokenizer.size} word pieces, but {where} has '
                        f'{rows}' + (f' of another vocabulary; use --config.text.tokenizer={own}' if other else
                                     '' if own else ' and no tokenizer.json or vocab.txt beside it'))


def _projection(base):
    """Of region features; {} where there is none."""
    return base.get('region_embeddings', base['embeddings']).get('projection', {})


def _merged(tree, other):
    """A nested dict with the leaves of another one put in."""
    return {**tree, **{k: _merged(tree[k], v) if isinstance(v, dict) and k in tree else v for k, v in other.items()}}


def _listed(settled):
    return ', '.join(f'{k} {v}' for k, v in settled.items())
