"""Encoders from published checkpoints: their sizes become settings, their weights become e0 and f0.

`init.checkpoint` names the checkpoint (fipjax.models.convert.files says how). When a config is loaded, `complete` reads
family and sizes off the file and writes them into the group `encoder`, and the sha256 of the weights into
`init.sha256`, so that the config of a run says all of it. The encoder is the file's; e0 is the file's own embedding, of
pictures (ViT, DeiT, DINOv2, Swin) or of word pieces (BERT, MiniLM, RoBERTa).
"""
from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import jax
import numpy as np
from ml_collections import ConfigDict

from fipjax.data.labelled import Task
from fipjax.errors import UserError
from fipjax.models import bert, embedders, encoders
from fipjax.models.convert import bert as bert_tables
from fipjax.models.convert import files, pictures, positions, sizes, swin, tables, vit

KEY = 'init.checkpoint'
SKIPPED = {'roberta': 2}  # rows of the position table before that of the first token
TABLES = {'vit': vit, 'swin': swin, 'bert': bert_tables}


@functools.lru_cache(maxsize=2)
def _read(name, fetch: bool = True) -> tuple[files.Checkpoint, sizes.Described]:
    found = files.read(name, KEY, fetch)
    where = f'{KEY}={name}'
    described = sizes.describe(found.state, found.config, where)
    if described.family == 'vit':
        found = found._replace(state=vit.prepared(found.state))
    return found, described


def complete(config: ConfigDict, say: Callable[[str], None] | None = None) -> None:
    """Writes what the checkpoint of a config of the wing 'mona' is into the config; nothing without a checkpoint.

    Args:
      config: with `init` and `encoder`; changed.
      say: told what was read off.

    Raises:
      UserError: the checkpoint cannot be read, or settings that differ from the file's.
    """
    if not config.init.checkpoint:
        return
    try:
        found, described = _read(config.init.checkpoint, not config.plan)
    except UserError as e:
        if not config.plan:
            raise
        # A plan needs sizes alone, and fetches nothing.
        if say:
            say(f'{e}: the plan goes by encoder.family={config.encoder.family}, encoder.variant='
                f'{config.encoder.variant}')
        _prepare(config, {}, len(pictures.IMAGENET['mean']))
        return
    pin(config, found)
    e = config.encoder
    for key in encoders.SIZES:
        settled, given = described.sizes.get(key), e[key]
        if settled is not None and given and given != settled and key != 'image_size':
            raise UserError(f'encoder.{key} is {given!r}, but {KEY}={config.init.checkpoint} has {settled!r}; leave it '
                            'out, the file says it')
        e[key] = given or settled or described.assumed.get(key, e[key])
    e.family, e.variant = described.family, encoders.CHECKPOINT
    if e.family != 'bert':
        _prepare(config, found.pictures, _channels(found.state, e.patch))
    if say:
        assumed = {k: e[k] for k in described.assumed if k not in ('image_size', 'patch')}
        say(f'{KEY}: {described.kind} of {found.path}, '
            + ', '.join(f'{k} {v}' for k, v in described.sizes.items())
            + (f'; the file does not say, taken as {", ".join(f"{k} {v}" for k, v in assumed.items())}'
               if assumed else '') + _many_patches(e))


def _many_patches(encoder):
    """Words about pictures of very many tokens, whose attention does not fit usual memories, DINOv2's for one."""
    side = encoder.image_size // encoder.patch if encoder.family == 'vit' else 0
    return (f'; {side ** 2:,} patches of a picture: encoder.image_size={16 * encoder.patch} would make them 256 '
            '(positions are resized); a smaller eval_batch_size, encoder.remat=True and micro-batches save memory'
            if side > 24 else '')


def make_room(config: ConfigDict) -> None:
    """Takes back the sizes that a config file gives its own encoder: a checkpoint named beside it brings others."""
    config.encoder.update({key: type(config.encoder[key])() for key in encoders.SIZES})


def _prepare(config, given, channels):
    for key, value in pictures.settings(given, channels, f'{KEY}={config.init.checkpoint}').items():
        config.init[key] = config.init[key] or value


def pin(config: ConfigDict, found: files.Checkpoint) -> None:
    """Writes down the sha256 of a checkpoint; raises UserError where the config has that of another one."""
    if config.init.sha256 not in ('', found.sha256):
        raise UserError(f'init.sha256 is {config.init.sha256}, but {KEY}={config.init.checkpoint} has {found.sha256}: '
                        'another file than this config was written for')
    config.init.sha256 = found.sha256


def checkpoint(config: ConfigDict) -> tuple[files.Checkpoint, sizes.Described]:
    """The checkpoint of a complete config, of ViT and its relatives as fipjax.models.convert.vit.prepared makes it.

    Raises:
      UserError: it cannot be read, or is not the one that the config was written for.
    """
    complete(config)
    return _read(config.init.checkpoint)


def embedder(config: ConfigDict, task: Task) -> embedders.Embedder:
    """e0 of a complete config, its functions.

    Args:
      config: of the wing 'mona', or of its source model.
      task: of the source data; pictures have values from 0 to 1.

    Raises:
      UserError: data of a kind that the checkpoint does not embed.
    """
    e, wanted = encoders.build(config.encoder), 'text' if config.encoder.family == 'bert' else '2d'
    if task.kind != wanted:
        raise UserError(f'{KEY}={config.init.checkpoint} embeds {"words" if wanted == "text" else "pictures"}, but the '
                        f'source data are {task.kind} with shape {task.shape}')
    if wanted == 'text':
        return embedders.text(task.vocab, task.shape[0], e.width, config.encoder.epsilon or bert.EPSILON)
    prepare = pictures.preparation(config.init, e.image_size, task.shape[-1])
    return embedders.patches(prepare, e.image_size // e.patch, e.patch, len(config.init.mean), e.token_width,
                             positions=e.positions, norm=not e.positions)  # Swin has a LayerNorm instead


def parameters(config: ConfigDict, task: Task) -> tuple[dict, dict, str]:
    """e0 and f0 of a complete config, host arrays float32, and a line for each tensor of the file.

    Args:
      config, task: as for `embedder`.

    Raises:
      UserError: tensors are missing or have not the shapes that the settings ask for; words or positions that the
        checkpoint has not.
    """
    found, described = _read(config.init.checkpoint)
    where, table = f'{KEY}={config.init.checkpoint}', TABLES[described.family]
    entries = table.embedding(found.state)
    params, report = tables.read([*(e._replace(ours=f'e0.{e.ours}') for e in entries),
                                  *(e._replace(ours=f'f0.{e.ours}') for e in table.encoder(found.state))],
                                 found.state, where)
    e0, f0 = params['e0'], params['f0']
    if described.family == 'bert':
        if task.vocab > len(e0['words']):
            raise UserError(f'source.tokenizer has {task.vocab} word pieces, but {where} has {len(e0["words"])}: it is '
                            "not the checkpoint's")
        own = e0['positions'][SKIPPED.get(described.kind, 0):]
        e0['positions'] = positions.first(own, task.shape[0], 'source.length')
    elif 'positions' in e0:
        side = config.encoder.image_size // config.encoder.patch
        e0['positions'] = positions.resize(e0['positions'], (side, side))
    wanted = jax.eval_shape(encoders.build(config.encoder).init, jax.random.key(0))
    fits({k: v for k, v in f0.items() if k != 'cls'}, wanted, where)
    return *(jax.tree.map(lambda x: np.asarray(x, np.float32), p) for p in (e0, f0)), str(report)


def _channels(state, patch):
    """Channels of the pictures that a checkpoint embeds."""
    kernel = next(v for k, v in state.items() if k.endswith(f'{vit.PROJECTION}.weight'))
    return kernel.size // (len(kernel) * patch ** 2)


def fits(params: Mapping, wanted: Mapping, where: str) -> None:
    """Raises UserError unless two trees, of arrays or of shapes, have the same leaves of the same shapes."""
    have, need = shapes(params), shapes(wanted)
    for name in sorted(set(have) | set(need)):
        if have.get(name) != need.get(name):
            raise UserError(f'{where}: {name} is {have.get(name, "not there")}, but the settings need '
                            f'{need.get(name, "none")}')


def shapes(tree: Mapping) -> dict[str, tuple]:
    """Dotted path -> shape of each leaf."""
    return {jax.tree_util.keystr(path, simple=True, separator='.'): np.shape(leaf)
            for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
