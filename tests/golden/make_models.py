"""Writes the golden files of the transfer wing's models: small random weights, inputs, and what PyTorch makes of them.

Run from the repository, in an environment with `torch` and `transformers` (the tests need neither):

    python tests/golden/make_models.py

Each file holds `state/<name>`, the weights under the names of published checkpoints, float32; inputs, float32; outputs
computed in float64; and `made_with`, the versions.
"""
from __future__ import annotations

import pathlib
import tempfile

import numpy as np
import torch
import transformers
from safetensors.numpy import load_file

HERE = pathlib.Path(__file__).parent
VERSIONS = np.array([f'torch {torch.__version__}', f'transformers {transformers.__version__}'])


def randomise(model):
    """The model, computing in float64 from weights that float32 holds and of which none is 0 or 1; those weights."""
    for name, p in model.named_parameters():
        ordinary = torch.randn(p.shape) * (0.5 if p.ndim < 2 or 'relative' in name else 1 / p.shape[-1] ** 0.5)
        norm = name.endswith('weight') and p.ndim == 1
        p.data = (1 + 0.5 * ordinary if norm else ordinary).float()
    state = published_names(model)
    return model.double().eval(), state


def published_names(model):
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return load_file(pathlib.Path(folder) / 'model.safetensors')


def write(name, state, **arrays):
    arrays = {k: v.detach().numpy() if isinstance(v, torch.Tensor) else v for k, v in arrays.items()}
    kept = {f'state/{k}': v for k, v in state.items() if not k.startswith(('pooler', 'embeddings.word'))}
    np.savez_compressed(HERE / f'{name}.npz', made_with=VERSIONS, **kept, **arrays)


def normal(*shape):
    return torch.randn(shape).float()


@torch.no_grad()
def vit():
    config = transformers.ViTConfig(hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=64,
                                    image_size=12, patch_size=4)
    model, state = randomise(transformers.ViTModel(config))
    x = normal(2, 3, 12, 12)
    write('vit', state, pixels=x.permute(0, 2, 3, 1), embedded=model.embeddings(x.double()),
          output=model(x.double()).last_hidden_state)


@torch.no_grad()
def text_encoder(name, config_of, model_of):
    config = config_of(hidden_size=16, num_hidden_layers=3, num_attention_heads=4, intermediate_size=64, vocab_size=5,
                       max_position_embeddings=12)
    model, state = randomise(model_of(config, add_pooling_layer=False))
    x, mask = normal(3, 7, 16), torch.arange(7) < torch.tensor([7, 4, 1])[:, None]
    bias = torch.zeros(mask.shape).double().masked_fill(~mask, torch.finfo(torch.float64).min)[:, None, None, :]
    output = model.encoder(x.double(), attention_mask=bias).last_hidden_state
    state = {k: v for k, v in state.items() if k.startswith('encoder.')}
    write(name, state, tokens=x, mask=mask, output=output, whole=model.encoder(x.double()).last_hidden_state)


@torch.no_grad()
def swin(name, **sizes):
    config = transformers.SwinConfig(**sizes)
    model, state = randomise(transformers.SwinModel(config, add_pooling_layer=False))
    x = normal(2, config.num_channels, config.image_size, config.image_size)
    embedded = model.embeddings(x.double())
    write(name, state, pixels=x.permute(0, 2, 3, 1), output=model(x.double()).last_hidden_state,
          embedded=embedded[0] if isinstance(embedded, tuple) else embedded)


@torch.no_grad()
def operations():
    """Bilinear resizing, and the dense head from pixel shuffle to adaptive pooling."""
    x = normal(2, 2, 6, 9)
    arrays = {'picture': x.permute(0, 2, 3, 1)}
    for size in (5, 6, 16):
        resized = torch.nn.functional.interpolate(x.double(), (size, size), mode='bilinear', align_corners=False)
        arrays[f'resized_{size}'] = resized.permute(0, 2, 3, 1)
    tokens, kernel, bias = normal(2, 9, 4), normal(4, 48), normal(48)
    arrays |= {'tokens': tokens, 'kernel': kernel, 'bias': bias}
    squares = (tokens.double() @ kernel.double() + bias.double()).transpose(1, 2).reshape(2, 48, 3, 3)
    picture = torch.nn.functional.pixel_shuffle(squares, 4)
    for h, w, k in ((12, 12, 3), (5, 7, 1), (16, 3, 2), (4, 30, 5)):
        by_pixel = picture.permute(0, 2, 3, 1).reshape(2, 144, 3)
        pooled = torch.nn.functional.adaptive_avg_pool1d(by_pixel, k).reshape(2, 12, 12, k).permute(0, 3, 1, 2)
        arrays[f'field_{h}_{w}_{k}'] = torch.nn.functional.adaptive_avg_pool2d(pooled, (h, w)).permute(0, 2, 3, 1)
    write('operations', {}, **arrays)


@torch.no_grad()
def relatives_of_vit():
    """DeiT with its second first token, DINOv2 with its LayerScales."""
    sizes = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=12, patch_size=4)
    for name, model in (('deit', transformers.DeiTModel(transformers.DeiTConfig(intermediate_size=64, **sizes))),
                        ('dinov2', transformers.Dinov2Model(transformers.Dinov2Config(mlp_ratio=4, **sizes)))):
        model, state = randomise(model)
        x = normal(2, 3, 12, 12)
        write(name, state, pixels=x.permute(0, 2, 3, 1), output=model(x.double()).last_hidden_state)


@torch.no_grad()
def positions():
    """Bicubic resizing of a table of positions, up, down, to no square, and as ViT's own embeddings do it."""
    table = normal(25, 6)
    arrays = {'table': table}
    for rows, columns in ((3, 3), (7, 7), (4, 9), (37, 2), (1, 1)):
        grid = table.double().T.reshape(1, 6, 5, 5)
        resized = torch.nn.functional.interpolate(grid, (rows, columns), mode='bicubic', align_corners=False)
        arrays[f'grid_{rows}_{columns}'] = resized[0].permute(1, 2, 0).reshape(-1, 6)
    config = transformers.ViTConfig(hidden_size=6, num_hidden_layers=1, num_attention_heads=2, image_size=10,
                                    patch_size=2)
    embeddings = transformers.ViTModel(config).embeddings.double()
    embeddings.position_embeddings.data[:, 1:] = table.double()
    arrays['vit_7_7'] = embeddings.interpolate_pos_encoding(torch.zeros(1, 50, 6), 14, 14)[0, 1:]
    write('positions', {}, **arrays)


if __name__ == '__main__':
    torch.manual_seed(0)
    vit()
    text_encoder('bert', transformers.BertConfig, transformers.BertModel)
    text_encoder('roberta', transformers.RobertaConfig, transformers.RobertaModel)
    # Four layers, two of them shifted, then a merge to a grid that one window fills.
    swin('swin', embed_dim=8, depths=[4, 2], num_heads=[2, 4], window_size=4, image_size=16, patch_size=2)
    # Windows of 7 x 7 as at 224 pixels.
    swin('swin_window7', embed_dim=8, depths=[2], num_heads=[2], window_size=7, image_size=28, patch_size=2,
         num_channels=1)
    operations()
    # Seeds of their own: added later, they can be written without the others.
    torch.manual_seed(6)
    positions()
    torch.manual_seed(7)
    relatives_of_vit()
