"""Are encoders at their published sizes the same here and in PyTorch? Random weights through files, both ways.

    python tests/golden/check_base_size.py [--models=vit,bert] [--peer_python=PYTHON]

Swin-B, RoBERTa-base, ViT-B/16, DINOv2-S/14 and BERT-base are made by `transformers` with random weights, saved, and
read here through init.checkpoint: first the last hidden state of two random examples in float32. Then the way back: the
encoder of ViT is saved by fipjax.models.convert.saved and read by transformers. Prints a table; the exit code is 1
where a difference exceeds 1e-4 of the largest value, 2 without torch and transformers. Where they live in an
environment of their own, --peer_python names its interpreter. Not a test of pytest: it takes minutes and 4 GB.
"""
from __future__ import annotations

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np

MODELS = ('swin', 'roberta', 'vit', 'dinov2', 'bert')
BACK = 'vit'
TOLERANCE = 1e-4  # of the largest value
EXAMPLES, WORDS, SIDE = 2, 32, 224
NAMES = {'swin': 'Swin-B', 'roberta': 'RoBERTa-base', 'vit': 'ViT-B/16', 'dinov2': 'DINOv2-S/14', 'bert': 'BERT-base'}
AS_THEY_ARE = {'do_normalize': False, 'do_resize': True, 'resample': 2, 'do_center_crop': False}


# --- The side of PyTorch ----------------------------------------------------------------------------------------------

def torch_model(name):
    """A model of random weights, none of them 0 or 1."""
    import torch
    import transformers as t
    makers = {
        'swin': lambda: t.SwinModel(t.SwinConfig(embed_dim=128, depths=[2, 2, 18, 2], num_heads=[4, 8, 16, 32],
                                                 window_size=7, image_size=SIDE), add_pooling_layer=False),
        'roberta': lambda: t.RobertaModel(t.RobertaConfig(vocab_size=50265, max_position_embeddings=514,
                                                          type_vocab_size=1, layer_norm_eps=1e-5),
                                          add_pooling_layer=False),
        'vit': lambda: t.ViTModel(t.ViTConfig(), add_pooling_layer=False),
        'dinov2': lambda: t.Dinov2Model(t.Dinov2Config(hidden_size=384, num_attention_heads=6, image_size=SIDE)),
        'bert': lambda: t.BertModel(t.BertConfig(), add_pooling_layer=False)}
    torch.manual_seed(MODELS.index(name))
    model = makers[name]()
    for p in model.parameters():
        p.data += 0.02 * torch.randn_like(p)
    return model.eval()


def torch_output(model, x):
    """The last hidden state of all tokens."""
    import torch
    with torch.no_grad():
        given = {'input_ids': torch.tensor(x)} if x.ndim == 2 else {'pixel_values': torch.tensor(x).permute(0, 3, 1, 2)}
        return model(**given).last_hidden_state.numpy()


def example(name):
    """Two random examples: pictures [B, 224, 224, 3], or word pieces [B, 32] without padding."""
    rng = np.random.default_rng(MODELS.index(name))
    if name in ('roberta', 'bert'):
        return rng.integers(10, 30000, (EXAMPLES, WORDS))
    return rng.uniform(size=(EXAMPLES, SIDE, SIDE, 3)).astype(np.float32)


def make(name, folder):
    """Writes checkpoint, preprocessor_config.json and output.npy into a folder."""
    model = torch_model(name)
    model.save_pretrained(folder)
    (folder / 'preprocessor_config.json').write_text(json.dumps(AS_THEY_ARE))
    np.save(folder / 'output.npy', torch_output(model, example(name)))


def again(name, folder):
    """Writes output.npy of a checkpoint that was saved here."""
    import transformers
    model = transformers.AutoModel.from_pretrained(folder, add_pooling_layer=False)
    np.save(folder / 'output.npy', torch_output(model.eval(), example(name)))


def peer(python, what, name, folder):
    """Runs `make` or `again`, here or by another interpreter."""
    if not python:
        {'make': make, 'again': again}[what](name, folder)
        return
    done = subprocess.run([python, __file__, f'--peer={what}', f'--models={name}', f'--folder={folder}'], check=False)
    if done.returncode:
        raise SystemExit(done.returncode)


# --- Our side ---------------------------------------------------------------------------------------------------------

def ours(name, folder):
    """(last hidden state without first tokens, how many of these there are, numbers in f0, seconds of reading)."""
    import jax

    from fipjax import config as config_lib
    from fipjax.data import labelled
    from fipjax.models import encoders, published
    x = example(name)
    text = x.ndim == 2
    task = labelled.Task('text' if text else '2d', 'classes', x.shape[1:], (), ('a', 'b'), None, '',
                         30000 if text else 0)
    config = config_lib.transfer_base()
    config.init.checkpoint = str(folder)
    began = time.monotonic()
    published.complete(config)
    e0, f0, _ = published.parameters(config, task)
    seconds = time.monotonic() - began
    e, f = published.embedder(config, task), encoders.build(config.encoder)
    out = jax.jit(lambda e0, f0, x: f.apply(f0, *e.apply(e0, x, None)))(e0, f0, x)
    return np.asarray(out), len(f0.get('cls', ())), sum(v.size for v in jax.tree.leaves(f0)), seconds


def save(name, folder, out):
    """The encoder as read, saved as after fine-tuning."""
    from safetensors.numpy import save_file

    from fipjax import config as config_lib
    from fipjax.models import encoders, published
    from fipjax.models.convert import saved, tables
    config = config_lib.transfer_base()
    config.init.checkpoint = str(folder)
    published.complete(config)
    found, described = published.checkpoint(config)
    f0, _ = tables.read(published.TABLES[described.family].encoder(found.state), found.state, name)
    state = saved.encoder(described.kind, f0, found.state)
    out.mkdir()
    save_file(state, out / 'model.safetensors', {'format': 'pt'})
    settings = saved.settings(described.kind, encoders.sizes_of(config.encoder), state, found.config)
    (out / 'config.json').write_text(json.dumps(settings))


def line(*cells):
    """A row of the table."""
    print('| ' + ' | '.join(f'{c:>{n}}' for c, n in zip(cells, (20, 12, 12, 10, 8), strict=True)) + ' |', flush=True)


def main() -> int:
    """Compares; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--models', default=','.join(MODELS), help='some of ' + ','.join(MODELS))
    parser.add_argument('--peer_python', default='', help='interpreter with torch and transformers')
    parser.add_argument('--peer', choices=('make', 'again'), help=argparse.SUPPRESS)
    parser.add_argument('--folder', type=pathlib.Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    names = given.models.split(',')
    if set(names) - set(MODELS):
        parser.error(f'--models={given.models}; allowed: {", ".join(MODELS)}')
    if given.peer or not given.peer_python:
        try:
            import torch  # noqa: F401
            import transformers
            transformers.logging.set_verbosity_error()
            transformers.logging.disable_progress_bar()
        except ImportError as e:
            print(f'error: {e.name} is not installed here; pip install torch transformers, or name an interpreter that '
                  'has them by --peer_python', file=sys.stderr)
            return 2
    if given.peer:
        peer('', given.peer, names[0], given.folder)
        return 0
    wrong = 0
    line('model', 'parameters', '|difference|', '|value|', 'seconds')
    line(*('---',) * 5)
    with tempfile.TemporaryDirectory() as temporary:
        for name in names:
            folder, back = pathlib.Path(temporary) / name, pathlib.Path(temporary) / f'{name}_back'
            folder.mkdir()
            peer(given.peer_python, 'make', name, folder)
            want = np.load(folder / 'output.npy')
            got, first, size, seconds = ours(name, folder)
            rows = [(NAMES[name], size, got, want[:, first:], f'{seconds:.1f}')]
            if name == BACK:
                save(name, folder, back)
                peer(given.peer_python, 'again', name, back)
                rows.append((f'{NAMES[name]}, saved', size, np.load(back / 'output.npy'), want, ''))
            for title, size, got, want, seconds in rows:
                difference, most = np.abs(got - want).max(), np.abs(want).max()
                wrong += not difference <= TOLERANCE * most
                line(title, f'{size:,}', f'{difference:.2e}', f'{most:.3f}', seconds)
    print(f'{"too far apart" if wrong else "equal"}: at most {TOLERANCE:g} of the largest value is allowed')
    return 1 if wrong else 0


if __name__ == '__main__':
    sys.exit(main())
