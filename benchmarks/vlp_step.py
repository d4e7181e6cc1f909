"""Time of a training step of VisualBERT's masked language modelling: this house against PyTorch with transformers.

Command: python benchmarks/vlp_step.py [--variant=mini] [--depth=0] [--batch=16] [--rounds=5]

Whole steps, float32, the same sizes, batch and optimiser (AdamW), no dropout on either side, on the same device. Rows:

* fipjax: masks drawn within the step; the vocabulary projection at chosen positions only.
* transformers: VisualBertForPreTraining as it is, which projects every word and region to the vocabulary.
* transformers, chosen: the same model, with the projection at chosen positions only, written by hand. What is left of
  the difference is not the projection's.

Prints a Markdown table: median of `rounds` rounds, in each of which every step runs once, the spread, the ratio to
fipjax, and the loss before the first step, which is near log(vocab) for all. PyTorch and transformers are no
dependencies of fipjax: `pip install torch transformers`.
"""
from __future__ import annotations

import argparse
import statistics
import time

import jax
import numpy as np
import optax
from ml_collections import ConfigDict

from fipjax import launch
from fipjax.algorithms import vlp
from fipjax.models import vl
from fipjax.parallel import Parallel

MASK, SPECIAL = 103, (0, 101, 102)  # of BERT's word pieces
RATE = 1e-5


def batch_of(given) -> dict:
    """Random texts and regions; some are shorter than others."""
    rng = np.random.default_rng(0)
    rows, length, regions = given.batch, given.length, given.regions
    words, boxes = rng.integers(length // 2, length + 1, rows), rng.integers(regions // 2, regions + 1, rows)
    return {'id': np.arange(rows, dtype=np.int32), 'mask': np.ones(rows, bool),
            'tokens': rng.integers(1000, given.vocab, (rows, length), np.int32),
            'segments': np.zeros((rows, length), np.int32), 'token_mask': np.arange(length) < words[:, None],
            'features': rng.normal(size=(rows, regions, given.features)).astype(np.float32),
            'boxes': rng.random((rows, regions, 5), np.float32), 'region_mask': np.arange(regions) < boxes[:, None]}


def own_step(given, sizes, batch):
    """A function that runs one step here and gives the loss before it."""
    model = vl.build('visualbert', ConfigDict({'variant': given.variant, **sizes._asdict(), 'layers': given.layers,
                                               'remat': False}),
                     vocab=given.vocab, features=given.features, region_outputs=1, length=given.length, tied=True)
    made = vlp.make(model, vlp.Settings('mlm', 'kl', given.vocab, MASK, SPECIAL), optax.adamw(RATE), model.init)
    where = Parallel('jit', jax.devices()[:1])
    state, placed = where.place_state(made.init(jax.random.key(0))), where.place_batch(batch)
    step = where.step(made.step).lower(state, placed).compile()

    def run():
        nonlocal state
        state, metrics = step(state, placed)
        return made.summarise(jax.device_get(metrics))['loss']

    return run


def torch_steps(given, sizes, batch) -> dict:
    """Name -> a function as `own_step` gives, of PyTorch."""
    try:
        import torch
        import transformers
    except ImportError as e:
        raise SystemExit(f'{e}: this comparison needs PyTorch and transformers; run  pip install torch transformers') \
            from e
    print(f'torch {torch.__version__}, transformers {transformers.__version__}, {torch.get_num_threads()} threads')
    device = 'cuda' if jax.default_backend() == 'gpu' else 'cpu'
    config = transformers.VisualBertConfig(
        vocab_size=given.vocab, hidden_size=sizes.width, visual_embedding_dim=given.features,
        num_hidden_layers=sizes.depth, num_attention_heads=sizes.heads, intermediate_size=4 * sizes.width,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    key = jax.random.key_data(jax.random.key(0))
    hidden = vlp.mask(vlp.Settings('mlm', 'kl', given.vocab, MASK, SPECIAL), key, 0, batch)
    tensor = lambda x: torch.from_numpy(np.array(x)).to(device)  # noqa: E731
    chosen = tensor(np.pad(hidden.words, ((0, 0), (0, given.regions))))
    words = tensor(np.pad(batch['tokens'], ((0, 0), (0, given.regions)))).long()
    labels = torch.where(chosen, words, -100)
    inputs = {'input_ids': tensor(hidden.tokens).long(), 'token_type_ids': tensor(batch['segments']).long(),
              'attention_mask': tensor(batch['token_mask']).long(), 'visual_embeds': tensor(batch['features']),
              'visual_attention_mask': tensor(batch['region_mask']).long(),
              'visual_token_type_ids': tensor(np.zeros(batch['region_mask'].shape, np.int64))}

    def chosen_loss(model):
        states = model.visual_bert(**inputs).last_hidden_state
        return torch.nn.functional.cross_entropy(model.cls.predictions(states[chosen]), labels[chosen])

    def step(loss_of):
        torch.manual_seed(0)
        model = transformers.VisualBertForPreTraining(config).to(device).train()
        optimizer = torch.optim.AdamW(model.parameters(), RATE)

        def run():
            loss = loss_of(model)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if device == 'cuda':
                torch.cuda.synchronize()
            return loss.item()

        return run

    return {'transformers': step(lambda model: model(**inputs, labels=labels).loss),
            'transformers, chosen': step(chosen_loss)}


def main() -> None:
    """Prints the table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument('--variant', default='mini', choices=tuple(vl.VARIANTS['visualbert']))
    arguments.add_argument('--depth', type=int, default=0, help="0: the variant's")
    arguments.add_argument('--layers', default='scan', choices=('scan', 'unroll'))
    counts = {'batch': 16, 'length': 32, 'regions': 36, 'features': 2048, 'vocab': 30522, 'rounds': 5}
    for name, value in counts.items():
        arguments.add_argument(f'--{name}', type=int, default=value)
    given = arguments.parse_args()
    launch.prepare_jax()
    sizes = vl.VARIANTS['visualbert'][given.variant]
    sizes = sizes._replace(depth=given.depth or sizes.depth)
    print(f'jax {jax.__version__}, {jax.devices()[0].device_kind}; {sizes.depth} layers of width {sizes.width}, batch '
          f'{given.batch}, {given.length} word pieces, {given.regions} regions, {given.vocab} words, '
          f'{given.rounds} rounds')
    batch = batch_of(given)
    others = torch_steps(given, sizes, batch)
    steps = {'fipjax': own_step(given, sizes, batch), **others}
    losses = {name: run() for name, run in steps.items()}  # compiles and allocates: not timed
    seconds = {name: [] for name in steps}
    for _ in range(given.rounds):
        for name, run in steps.items():
            began = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - began)
    print('\n| step | ms | fastest to slowest | x fipjax | first loss |\n|---|---|---|---|---|')
    middle = {name: statistics.median(s) for name, s in seconds.items()}
    for name, s in seconds.items():
        print(f'| {name} | {middle[name] * 1e3:.0f} | {min(s) * 1e3:.0f} to {max(s) * 1e3:.0f} '
              f'| {middle[name] / middle["fipjax"]:.2f} | {losses[name]:.3f} |')


if __name__ == '__main__':
    main()
