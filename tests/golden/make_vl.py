"""Writes the golden files of VisualBERT and ViLBERT: small random weights, a batch, and what PyTorch makes of them.

VisualBERT is that of `transformers`, with segment 0 for the regions as MMF has it; ViLBERT is that of MMF. Run from the
repository (the tests need none of it) in an environment with torch 2.14 and transformers 5.23, and

    python -m pip install --no-deps mmf==1.0.0rc10
    python tests/golden/make_vl.py

MMF is of 2020: one file of it is loaded by itself, with stand-ins for what it imports and does not need here.

Each file holds `state/<name>`, the weights under the names of published checkpoints, float32; the batch; outputs
computed in float64; and `made_with`, the versions.
"""
from __future__ import annotations

import importlib.util
import pathlib
import sys
import types

import numpy as np
import torch
import transformers
from transformers.models.bert import modeling_bert

HERE = pathlib.Path(__file__).parent
B, T, R, F, VOCAB, CLASSES = 3, 7, 5, 6, 11, 4
LENGTHS, COUNTS = (7, 4, 3), (5, 2, 1)


def mmf_vilbert():
    """MMF's module of ViLBERT."""
    nothing = types.SimpleNamespace(register_model=lambda name: lambda cls: cls)
    old = types.ModuleType('transformers.modeling_bert')
    old.__dict__.update({k: v for k, v in vars(modeling_bert).items() if k.startswith('Bert')},
                        BertLayerNorm=torch.nn.LayerNorm, ACT2FN=transformers.activations.ACT2FN,
                        BertConfig=transformers.BertConfig)
    stand_ins = {
        'transformers.modeling_bert': old,
        'omegaconf': {'OmegaConf': types.SimpleNamespace(to_container=lambda config, resolve: config.to_dict())},
        'mmf': {}, 'mmf.common': {}, 'mmf.utils': {}, 'mmf.common.registry': {'registry': nothing},
        'mmf.models': {'BaseModel': object}, 'mmf.utils.configuration': {'get_mmf_cache_dir': lambda: ''},
        'mmf.utils.modeling': {'get_optimizer_parameters_for_bert': None}}
    folder = pathlib.Path(importlib.util.find_spec('mmf').submodule_search_locations[0])
    for name, content in stand_ins.items():
        if isinstance(content, dict):
            module = types.ModuleType(name)
            module.__dict__.update(content)
            content = module
        sys.modules[name] = content
    spec = importlib.util.spec_from_file_location('mmf_vilbert', folder / 'models' / 'vilbert.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def randomise(model):
    """The model, computing in float64 from weights that float32 holds and of which none is 0 or 1; those weights."""
    for name, p in model.named_parameters():
        ordinary = torch.randn(p.shape) * (0.5 if p.ndim < 2 else 1 / p.shape[-1] ** 0.5)
        norm = name.endswith('weight') and p.ndim == 1
        p.data = (1 + 0.5 * ordinary if norm else ordinary).float()
    state = {k: v.numpy().copy() for k, v in model.state_dict().items() if v.is_floating_point()}
    return model.double().eval(), state


def batch():
    """Padded texts and regions; labels of a few word pieces and regions, -1 elsewhere."""
    first = lambda counts, n: torch.arange(n) < torch.tensor(counts)[:, None]  # noqa: E731
    token_mask, region_mask = first(LENGTHS, T), first(COUNTS, R)
    segments = (torch.arange(T) >= torch.tensor([4, 2, 9])[:, None]).long() * token_mask
    words = torch.randint(0, VOCAB, (B, T))
    labels = torch.where(token_mask & (torch.rand(B, T) < 0.4), words, -1)
    labels[0, 2], labels[1, 1] = 3, 5
    hidden = region_mask & (torch.rand(B, R) < 0.5)
    hidden[0, 1] = True
    return {'tokens': torch.randint(0, VOCAB, (B, T)), 'segments': segments, 'token_mask': token_mask,
            'features': torch.randn(B, R, F), 'boxes': torch.rand(B, R, 5), 'region_mask': region_mask,
            'labels': labels, 'hidden': hidden, 'classes': torch.rand(B, R, CLASSES).softmax(-1)}


def write(name, state, unused, given, **outputs):
    arrays = {k: v.detach().numpy() for k, v in {**given, **outputs}.items()}
    kept = {f'state/{k}': v for k, v in state.items() if not any(u in k for u in unused)}
    made_with = np.array([f'torch {torch.__version__}', f'transformers {transformers.__version__}', 'mmf 1.0.0rc10'])
    np.savez_compressed(HERE / f'{name}.npz', made_with=made_with, **kept, **arrays)


@torch.no_grad()
def visualbert():
    config = transformers.VisualBertConfig(
        vocab_size=VOCAB, hidden_size=16, visual_embedding_dim=F, num_hidden_layers=3, num_attention_heads=4,
        intermediate_size=64, max_position_embeddings=9, attn_implementation='eager')
    model, state = randomise(transformers.VisualBertForPreTraining(config))
    given = batch()
    inputs = {'input_ids': given['tokens'], 'token_type_ids': given['segments'],
              'attention_mask': given['token_mask'].long(), 'visual_embeds': given['features'].double(),
              'visual_attention_mask': given['region_mask'].long(),
              'visual_token_type_ids': torch.zeros(B, R, dtype=torch.long)}
    labels = torch.cat([given['labels'], torch.full((B, R), -1)], 1)
    labels = torch.where(labels < 0, -100, labels)
    run = lambda: model(**inputs, labels=labels)  # noqa: E731
    body, tied = model.visual_bert(**inputs), run()
    assert model.cls.predictions.decoder.weight is model.visual_bert.embeddings.word_embeddings.weight
    own = torch.randn(VOCAB, 16)
    model.cls.predictions.decoder.weight = torch.nn.Parameter(own.double())
    untied = run()
    state['cls.predictions.decoder.weight'] = own.numpy()
    write('visualbert', state, ['seq_relationship', 'decoder.bias'], given,
          words=body.last_hidden_state[:, :T], regions=body.last_hidden_state[:, T:], pooled=body.pooler_output,
          tied=tied.prediction_logits[:, :T], tied_loss=tied.loss,
          untied=untied.prediction_logits[:, :T], untied_loss=untied.loss)


@torch.no_grad()
def vilbert():
    module = mmf_vilbert()
    config = transformers.BertConfig(
        vocab_size=VOCAB, hidden_size=16, num_hidden_layers=3, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=9, layer_norm_eps=1e-12, v_feature_size=F, v_target_size=CLASSES, v_hidden_size=12,
        v_num_hidden_layers=2, v_num_attention_heads=3, v_intermediate_size=12, bi_hidden_size=20,
        bi_num_attention_heads=5, v_attention_probs_dropout_prob=0.0, v_hidden_act='gelu', v_hidden_dropout_prob=0.0,
        v_biattention_id=[0, 1], t_biattention_id=[1, 2], dynamic_attention=False, fast_mode=False, fixed_t_layer=0,
        fixed_v_layer=0, fusion_method='mul', in_batch_pairs=False, num_negative=1, visual_target=0,
        task_specific_tokens=False, visualization=False, with_coattention=True, random_initialize=False,
        bert_model_name='none', attn_implementation='eager')
    module.ViLBERTBase.init_weights = lambda self: None  # `randomise` does
    module.ViLBERTBase.from_pretrained = classmethod(lambda cls, name, config, cache_dir: cls(config))
    model = module.ViLBERTForPretraining(config)
    model.cls.predictions.decoder.bias = model.cls.predictions.bias  # one bias, as it was in 2020
    model, state = randomise(model)
    given = batch()
    inputs = (given['tokens'], given['features'].double(), given['boxes'].double(), given['segments'],
              given['token_mask'].long(), given['region_mask'].long())
    run = lambda: model(*inputs, given['labels'], given['hidden'].long() * 2 - 1, given['classes'].double())  # noqa: E731
    words, regions, pooled_text, pooled_regions, _ = model.bert(*inputs)
    outputs, losses = model.cls(words, regions, pooled_text, pooled_regions), run()
    model.cls.predictions.decoder.weight = model.bert.embeddings.word_embeddings.weight
    unused = ['seq_relationship', 'q_dense', 'predictions.decoder.bias']
    write('vilbert', state, unused, given, words=words, regions=regions, pooled=pooled_text * pooled_regions,
          untied=outputs[0], untied_loss=losses['masked_lm_loss'][0],
          region_outputs=outputs[1], region_loss=losses['masked_img_loss'][0],
          tied=model.cls.predictions(words), tied_loss=run()['masked_lm_loss'][0])


if __name__ == '__main__':
    torch.manual_seed(1)
    visualbert()
    vilbert()
