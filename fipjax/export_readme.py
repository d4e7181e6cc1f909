"""README.md of an exported model: what each file is, and the PyTorch code that runs it."""
from __future__ import annotations

from collections.abc import Mapping

from fipjax.models import bert
from fipjax.models.embedders import EPSILON

LOAD = """import pathlib

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
"""

TRANSFER = """# {title}

From the run {run}, {labels}. Target: {description}.

* `config.json`, `model.safetensors`: {encoder}
* `target.safetensors`: the target's parameters under fipjax's paths, kernels as [in, out]. `embedder.*` makes tokens,
  `predictor.*` is what comes after the encoder; `inputs.mean` and `inputs.deviation` standardise x by channel{outputs}.

```python
{code}```

x has channels last, as fipjax.data.labelled has it before it is standardised{view}.{notes}
"""

STANDARDISE = "    x = (x - t['inputs.mean']) / t['inputs.deviation']\n"

RESIZE = """    x = F.interpolate(x.movedim(-1, 1), ({size}, {size}), mode='bilinear', align_corners=False)
"""

PATCHES = """    x = x.unfold(2, {patch}, {patch}).unfold(3, {patch}, {patch})  # [B, C, rows, columns, ...]
    x = x.permute(0, 2, 3, 4, 5, 1).reshape(len(x), {tokens}, -1)
"""

CHUNKS = """    x = F.pad(x, (0, 0, 0, {tokens} * {chunk} - x.shape[1])).reshape(len(x), {tokens}, -1)
"""

WORDS = """    x = t['embedder.words'][x] + t['embedder.positions'][:x.shape[1]] + t['embedder.segments'][0]
"""

PIECES = """    x = x @ t['embedder.projection.kernel'] + t['embedder.projection.bias']
"""

NORM = """F.layer_norm(x, x.shape[-1:], t['embedder.norm.scale'], t['embedder.norm.bias'], {epsilon})"""

PREDICT = """    return {states}.mean(1) @ t['predictor.linear.kernel'] + t['predictor.linear.bias']
"""


def transfer(kind: str, own: Mapping, task, params: Mapping, labels: int, run: str, origin: str) -> str:
    """README of a run of wing 'mona'.

    Args:
      kind: of fipjax.models.convert.sizes.FAMILIES.
      own: sizes of the encoder.
      task: fipjax.data.labelled.Task, the target's.
      params: 'embedder', 'encoder', 'predictor'.
      labels: labels a class, 0 for all.
      run: its workdir.
      origin: the checkpoint that the encoder came from, '' for none.
    """
    whole = kind == 'swin' and task.output != 'dense'
    dense = task.output == 'dense'
    if kind == 'swin':
        encoder = ('the whole network, from resized pixels to logits (`SwinForImageClassification`).' if whole else
                   'embedding and encoder (`SwinModel`), without the predictor.')
    elif origin:
        encoder = (f'{origin} with the fine-tuned encoder in it; everything beside the encoder (embeddings, pooler, '
                   'heads) is as it was there.')
    else:
        encoder = (f'the fine-tuned encoder of a {kind}. It has no embeddings of its own and no pooler: transformers '
                   'says so when it loads it, and they are not used below.')
    first = len(params['encoder'].get('cls', ()))
    code = _swin(own, whole) if kind == 'swin' else _tokens(kind, own, task, params, first, dense)
    notes = ''
    if ', lengths ' in task.description and task.kind != '2d':
        notes = ('\nSequences differ in length: x is 0 (of texts: padding) beyond the end, a token counts where it has '
                 'a valid\nsample or word piece (`attention_mask`), and the mean is over those.')
    if dense:
        notes += (f'\nWhat the predictor makes of the states: fipjax.models.predictors.dense_'
                  f'{"image" if task.kind == "2d" else "sequence"}.')
    return TRANSFER.format(
        title=f'{kind}, fine-tuned on another modality', run=run, description=task.description, encoder=encoder,
        labels='all labels' if labels == 0 else f'{labels} labels a class', code=code, notes=notes,
        outputs=',\n  `outputs.*` belong to y the same way' if dense else '',
        view=', here as a log-power spectrogram (fipjax.data.spectrogram)' if 'spectrogram' in task.description else '')


def _swin(own, whole):
    model, result = (('SwinForImageClassification', 'logits') if whole else ('SwinModel', 'last_hidden_state'))
    return (LOAD + f'from transformers import {model}\n\nfolder = pathlib.Path(__file__).parent\n'
            f'model, t = {model}.from_pretrained(folder).eval(), load_file(folder / \'target.safetensors\')\n\n\n'
            f'def run(x):  # [B, H, W, C]\n' + STANDARDISE + RESIZE.format(size=own['image_size'])
            + f'    return model(pixel_values=x).{result}\n')


def _tokens(kind, own, task, params, first, dense):
    words = kind in ('bert', 'roberta')
    embedder = params['embedder']
    tokens, norm = embedder['positions'].shape[0], NORM.format(epsilon=EPSILON) + " + t['embedder.positions']"
    if task.kind == 'text':
        shape, cut, norm = 'B, L', WORDS, NORM.format(epsilon=bert.EPSILON)
    elif task.kind == '2d':
        shape, cut = 'B, H, W, C', STANDARDISE + RESIZE.format(size=own['image_size']) + PATCHES.format(
            patch=own['patch'], tokens=tokens) + PIECES
    else:
        chunk = embedder['projection']['kernel'].shape[0] // task.shape[-1]
        shape, cut = 'B, L, C', STANDARDISE + CHUNKS.format(tokens=tokens, chunk=chunk) + PIECES
    out = (LOAD + "from transformers import AutoModel\n\nfolder = pathlib.Path(__file__).parent\n"
           "model, t = AutoModel.from_pretrained(folder).eval(), load_file(folder / 'target.safetensors')\n\n\n"
           f'def tokens(x):  # [{shape}]\n{cut}    return {norm}\n\n\ndef run(x):\n    embedded = tokens(x)\n')
    if first:  # their positions are 0 in the file, for they are part of the tokens
        names = ('cls_token', 'distillation_token')[:first]
        listed = ', '.join(f'model.embeddings.{n}.expand(len(x), -1, -1)' for n in names)
        out += f'    embedded = torch.cat([{listed}, embedded], 1)\n'
    out += '    model.embeddings.forward = lambda *_, **__: embedded  # instead of words or patches\n'
    called = 'inputs_embeds=embedded' if words else 'pixel_values=torch.zeros(1)'
    out += f'    states = model({called}).last_hidden_state{f"[:, {first}:]" if first else ""}\n'
    return out + ('    return states\n' if dense else PREDICT.format(states='states'))


TOGETHER = """# {title}

From the run {run}: the base fine-tuned as {which}, with its classifier. Task: {description}.

* `config.json`, `model.safetensors`: {format} `classifier.*` is MMF's classifier: linear, GELU, LayerNorm, linear.
  `id2label` in config.json says what the logits are of.

Texts: tokenizer {tokenizer} of fipjax (fipjax.data.words), at most {length} word pieces with [CLS] and [SEP]. Region
features as they come, 0 where no region is.

```python
{code}```
"""

HEAD = """    x = F.gelu(F.linear(x, w['classifier.0.dense.weight'], w['classifier.0.dense.bias']))
    x = F.layer_norm(x, x.shape[-1:], w['classifier.0.LayerNorm.weight'], w['classifier.0.LayerNorm.bias'], 1e-12)
    return F.linear(x, w['classifier.1.weight'], w['classifier.1.bias'])
"""

VISUALBERT = LOAD + """from transformers import VisualBertModel

folder = pathlib.Path(__file__).parent
model, w = VisualBertModel.from_pretrained(folder).eval(), load_file(folder / 'model.safetensors')


def run(tokens, token_mask, features, region_mask):  # [B, T], [B, T], [B, R, {features}], [B, R]
    seen = model(input_ids=tokens, attention_mask=token_mask.long(), token_type_ids=torch.zeros_like(tokens),
                 visual_embeds=features, visual_attention_mask=region_mask.long(),
                 visual_token_type_ids=torch.zeros_like(region_mask.long()))  # 0 as in MMF; the default would be 1
    x = {pooled}
""" + HEAD

POOLED = {'first': 'seen.pooler_output',
          'last_word': 'seen.last_hidden_state[torch.arange(len(tokens)), token_mask.sum(1) - 2]  # before [SEP]'}

VILBERT = """# `config` is config.json as MMF's config of ViLBERTForClassification, with num_labels = {labels}
model = ViLBERTForClassification(config)
lost, unknown = model.load_state_dict(load_file('model.safetensors'), strict=False)
assert not unknown and all('q_dense' in name for name in lost)  # layers of MMF's that never run
"""


def together(model: str, task, pooler: str, text: Mapping, which: str, run: str) -> str:
    """README of a run of wing 'vlp'.

    Args:
      model: 'visualbert' or 'vilbert'.
      task: fipjax.data.vl.Task.
      pooler: see fipjax.models.vl.POOLERS.
      text: config group 'text'.
      which: task@fraction.
      run: its workdir.
    """
    own = model == 'visualbert'
    code = (VISUALBERT.replace('{pooled}', POOLED[pooler]).replace('{features}', 'D') if own else
            VILBERT.format(labels=len(task.classes)))
    return TOGETHER.format(title=f'{"VisualBERT" if own else "ViLBERT"}, fine-tuned', run=run, which=which,
                           description=task.description, code=code, tokenizer=text.tokenizer, length=text.length,
                           format='`VisualBertModel` of transformers.' if own else "MMF's `ViLBERTForClassification`.")
