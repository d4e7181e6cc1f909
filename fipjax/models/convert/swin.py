"""Swin: files of Hugging Face's `transformers`, and fipjax.models.swin."""
from __future__ import annotations

from collections.abc import Mapping

from fipjax.models.convert import tables
from fipjax.models.convert.tables import Entry, linear, norm, patches

STAGES = 'encoder.layers.{i}'
BIAS = 'attention.self.relative_position_bias_table'
BLOCK = [*tables.block('attention.self', 'attention.output.dense', 'intermediate.dense', 'output.dense',
                       ('layernorm_before', 'layernorm_after')),
         Entry('attention.relative_bias', BIAS)]
PROJECTION = 'embeddings.patch_embeddings.projection'


def encoder(state: Mapping) -> list[Entry]:
    """Of the encoder."""
    entries, stages = norm('norm', 'layernorm'), tables.depth(state, STAGES)
    for stage in range(stages):
        own = STAGES.replace('{i}', str(stage))
        layers = f'{own}.blocks.{{i}}'
        for first, name in enumerate(('plain', 'shifted')):
            entries += tables.stacked(BLOCK, f'stage_{stage}.blocks.{name}', layers,
                                      range(first, tables.depth(state, layers), 2))
        if stage + 1 < stages:
            entries += [*norm(f'stage_{stage}.merge.norm', f'{own}.downsample.norm'),
                        *linear(f'stage_{stage}.merge.reduction', f'{own}.downsample.reduction', bias=False)]
    return entries


def embedding(state: Mapping) -> list[Entry]:
    """Of the patches: {'projection', 'norm'}, what `fipjax.models.embedders.image` has."""
    side = next(v.shape[-1] for k, v in state.items() if k.endswith(f'{PROJECTION}.weight'))
    return [Entry('projection.kernel', f'{PROJECTION}.weight', patches(side)),
            Entry('projection.bias', f'{PROJECTION}.bias'), *norm('norm', 'embeddings.norm')]
