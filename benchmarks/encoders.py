"""Time of the transfer wing's encoders: this house against PyTorch with transformers, forward and training step.

Command: python benchmarks/encoders.py [--families=bert,swin] [--variants=base,tiny] [--rounds=5]
         [--peer_python=/path/to/python]

Whole encoders at random weights, float32, no dropout, all tokens valid, AdamW, the same batch and threads on both
sides; what embeds words and pictures is left out. The other side is a process of its own, which --peer_python may run
with another interpreter than this one: PyTorch and transformers are no dependencies of fipjax
(`pip install torch transformers`). Both sides wait for each other. Rows: layers scanned and unrolled here, attention
'sdpa' (the default) and 'eager' there.

Prints a Markdown table for each family: median of `rounds` rounds, in each of which every row runs once, the spread,
and the ratio to transformers with sdpa. CPU only.
"""
from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

WORKS = ('forward', 'step')
LAYERS, ATTENTIONS = ('scan', 'unroll'), ('sdpa', 'eager')
RATE = 1e-5
PAUSE = 0.3  # seconds in which the threads of the side that has just run stop waiting for more


def threads() -> int:
    """What both sides may use."""
    return len(os.sched_getaffinity(0))


def own(family: str, variant: str, batch: int, tokens: int) -> tuple[dict, dict]:
    """A description, and (work, row) -> a function that does it once and waits for the result."""
    import jax
    import jax.numpy as jnp
    import optax
    from ml_collections import ConfigDict

    from fipjax import config as config_lib
    from fipjax import launch
    from fipjax.models import encoders
    launch.prepare_jax()
    optimizer, runs = optax.adamw(RATE), {}
    for layers in LAYERS:
        encoder = encoders.build(ConfigDict({**config_lib.ENCODER, 'family': family, 'variant': variant,
                                             'layers': layers, 'remat': False}))
        count = encoder.grid[0] * encoder.grid[1] if encoder.grid else tokens
        x = jax.random.normal(jax.random.key(1), (batch, count, encoder.token_width))
        head = jax.random.normal(jax.random.key(2), (encoder.width,))

        def loss(params, encoder=encoder, x=x, head=head):
            return jnp.mean(encoder.apply(params, x, None) @ head)

        def update(params, state, loss=loss):
            value, gradient = jax.value_and_grad(loss)(params)
            change, state = optimizer.update(gradient, state, params)
            return optax.apply_updates(params, change), state, value

        params = encoder.init(jax.random.key(0))
        state = [params, optimizer.init(params)]
        forward, step = jax.jit(loss), jax.jit(update, donate_argnums=(0, 1))

        def run_forward(forward=forward, state=state):
            forward(state[0]).block_until_ready()

        def run_step(step=step, state=state):
            *state[:], value = step(*state)
            value.block_until_ready()

        runs['forward', layers], runs['step', layers] = run_forward, run_step
    return {'versions': f'jax {jax.__version__}', 'tokens': count,
            'parameters': sum(leaf.size for leaf in jax.tree.leaves(params))}, runs


def peer(family: str, sizes: dict, batch: int, tokens: int) -> tuple[dict, dict]:
    """As `own`, of PyTorch; nothing of fipjax and JAX is needed."""
    try:
        import torch
        import transformers
    except ImportError as e:
        raise SystemExit(f'{e}: this side needs PyTorch and transformers; run  {sys.executable} -m pip install torch '
                         'transformers  or name another --peer_python') from None
    torch.set_num_threads(threads())
    torch.manual_seed(0)
    runs = {}
    for attention in ATTENTIONS:
        if family == 'swin':
            model = transformers.SwinModel(transformers.SwinConfig(
                embed_dim=sizes['width'], depths=sizes['depths'], num_heads=sizes['stage_heads'],
                window_size=sizes['window'], image_size=sizes['image_size'], patch_size=sizes['patch'],
                attn_implementation=attention), add_pooling_layer=False)
            side = sizes['image_size'] // sizes['patch']
            parts, count, width = (model.encoder, model.layernorm), side * side, sizes['width']
            encode = lambda x, model=model, side=side: model.layernorm(  # noqa: E731
                model.encoder(x, (side, side)).last_hidden_state)
        else:
            width, count = sizes['width'], tokens
            model = transformers.BertModel(transformers.BertConfig(
                hidden_size=width, num_hidden_layers=sizes['depth'], num_attention_heads=sizes['heads'],
                intermediate_size=4 * width, attn_implementation=attention), add_pooling_layer=False)
            parts = (model.encoder,)
            encode = lambda x, model=model: model.encoder(x).last_hidden_state  # noqa: E731
        model.eval()  # no dropout
        params = [p for part in parts for p in part.parameters()]
        optimizer = torch.optim.AdamW(params, RATE)
        x = torch.randn(batch, count, width)
        with torch.no_grad():
            head = torch.randn(encode(x).shape[-1])

        def run_forward(encode=encode, x=x, head=head):
            with torch.no_grad():
                (encode(x) @ head).mean().item()

        def run_step(encode=encode, x=x, head=head, optimizer=optimizer):
            loss = (encode(x) @ head).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item()

        runs['forward', attention], runs['step', attention] = run_forward, run_step
    return {'versions': f'torch {torch.__version__}, transformers {transformers.__version__}', 'tokens': count,
            'parameters': sum(p.numel() for p in params)}, runs


def timed(run) -> float:
    """Seconds of one call."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def serve(arguments) -> None:
    """The other side. Prints a line with the description, then the seconds of each '[work, row]' that is asked for."""
    description, runs = peer(*arguments)
    print(json.dumps(description), flush=True)
    for line in sys.stdin:
        print(timed(runs[tuple(json.loads(line))]), flush=True)


def compare(family: str, variant: str, given) -> None:
    """Prints one table."""
    from fipjax.models.encoders import VARIANTS
    command = [given.peer_python, __file__, '--serve',
               json.dumps([family, VARIANTS[family][variant], given.batch, given.tokens])]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        def answer():
            line = other.stdout.readline()
            if not line:
                raise SystemExit(f'the process of {given.peer_python} stopped')
            return json.loads(line)

        def ask(key):
            other.stdin.write(json.dumps(key) + '\n')
            other.stdin.flush()
            return answer()

        theirs, (ours, runs) = answer(), own(family, variant, given.batch, given.tokens)
        if any(ours[k] != theirs[k] for k in ('tokens', 'parameters')):
            raise SystemExit(f'the sides differ: {ours} against {theirs}')
        rows = {**{('fipjax', k): lambda key: timed(runs[key]) for k in LAYERS},
                **{('transformers', k): ask for k in ATTENTIONS}}
        seconds = {(work, row): [] for work in WORKS for row in rows}
        for turn in range(given.rounds + 1):
            for (work, row), taken in seconds.items():
                time.sleep(PAUSE)
                spent = rows[row]((work, row[1]))
                if turn:  # the first compiles and allocates
                    taken.append(spent)
        other.stdin.close()
    print(f'\n{family} {variant}: {ours["parameters"] / 1e6:.1f} M parameters, batch {given.batch}, {ours["tokens"]} '
          f'tokens; {ours["versions"]}; {theirs["versions"]}; {threads()} threads; {given.rounds} rounds\n')
    print('| | forward ms | fastest to slowest | x sdpa | step ms | fastest to slowest | x sdpa |')
    print('|---|---:|---|---:|---:|---|---:|')
    middle = {k: statistics.median(s) for k, s in seconds.items()}
    for row in rows:
        cells = []
        for work in WORKS:
            s, reference = seconds[work, row], middle[work, ('transformers', ATTENTIONS[0])]
            cells += [f'{middle[work, row] * 1e3:.0f}', f'{min(s) * 1e3:.0f} to {max(s) * 1e3:.0f}',
                      f'{middle[work, row] / reference:.2f}']
        print(f'| {", ".join(row)} | {" | ".join(cells)} |', flush=True)


def main() -> None:
    """Prints the tables."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument('--families', default='bert,swin')
    arguments.add_argument('--variants', default='base,tiny', help='one for each family')
    arguments.add_argument('--batch', type=int, default=8)
    arguments.add_argument('--tokens', type=int, default=128, help="of 'bert'; 'swin' has those of its picture")
    arguments.add_argument('--rounds', type=int, default=5)
    arguments.add_argument('--peer_python', default=sys.executable, help='has PyTorch and transformers')
    arguments.add_argument('--serve', help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.serve:
        return serve(json.loads(given.serve))
    for family, variant in zip(given.families.split(','), given.variants.split(','), strict=True):
        compare(family, variant, given)


if __name__ == '__main__':
    main()
