"""FIP on your own arrays: one .npz file, no config to write.

  python -m fipjax.main --config=configs/fip/arrays.py:cosine --workdir=runs/mine --config.data.path=mine.npz \
    --config.pretrain.fip.target=emg

Papers: Finetune-Informed Pretraining, arXiv 2601.20884; for estimated weights see fipjax/algorithms/importance.py.
Settings are ours. A variant is `fip` (the user's levers on the target) or an arm of fipjax/arms.py.

The file, e.g. np.savez('mine.npz', emg=..., imu=..., imu_present=..., label=...), n examples:

  <m>            [n, ...], an array for each modality m: [n, L] or [n, L, C] measurements, [n, H, W] or [n, H, W, C]
                 pictures (uint8 becomes -1 to 1), [n, L] whole numbers from 0 (token ids). Channels come last.
  label          [n] integers 0..K-1, the downstream task. -1 where an example has none: it is pretrained on only.
  <m>_present    [n], False where m is missing; what stands there in <m> is not looked at (NaN will do).
  <m>_target     as <m>, a clean version that pretraining predicts instead.
  split          [n], 'pretrain', 'train', 'validation' or 'test'; drawn without it, 70 / 15 / 15 % of the labelled
                 examples, and pretraining sees the training split and what has no label.
  group          [n], subject or session: a group is never torn apart where splits are drawn.
  anything [n]   facts about examples; `snr_db` gives accuracy by SNR.

What each array is, is read off its shape (fipjax/data/kinds.py has the rules) and printed. What is wrong is overridden,
and settings may be given per modality:

  --config.data.modalities.imu.kind=image --config.data.modalities.emg.patch=10 --config.pretrain.fip.mask_ratio.imu=0.5

kind: image, sequence, tokens, or none for an array that is no modality. --config.pretrain.modalities=emg,imu pretrains
on some. For vectors of features, which have no common unit: --config.data.standardise=true.

Estimated weights (:cosine and others) use labels of the training split, `pretrain.fip.downstream.labels_per_class` of
each class, or those of another file with the same arrays: --config.pretrain.fip.downstream.path=labels.npz

A TFDS dataset, prepared as array_record with features by the same names and the splits of `data.tfds.splits`:

  --config.data.source=tfds --config.data.tfds.data_dir=FOLDER (or data.tfds.name=NAME)
    --config.data.modalities.text.vocab=500 (token ids: their number is not known from the features)

All arms: V=uniform,prior,fip,cosine,cosine_shuffled,target_only,none
  python -m fipjax.compare --config=configs/fip/arrays.py --workdir=runs/mine_all --config.data.path=mine.npz \
    --config.pretrain.fip.target=emg --vary=variant=$V --seeds=0,1,2
"""
from fipjax import arms
from fipjax import config as config_lib

VARIANTS = ('fip', *arms.ARMS)


def get_config(variant: str = 'fip'):
    """The experiment; see VARIANTS."""
    if variant not in VARIANTS:
        raise config_lib.UserError(f'variant {variant!r} is unknown; allowed: {", ".join(VARIANTS)}')
    c = config_lib.base({})
    c.name, c.variant = 'arrays', variant
    c.data.source = 'arrays'
    c.model.update({'dim': 96, 'depth': 4, 'heads': 4, 'decoder_dim': 64, 'decoder_heads': 4})
    c.pretrain.steps, c.pretrain.batch_size = 1000, 64
    c.finetune.labels_per_class = (5,)
    c.pretrain.fip.downstream.labels_per_class = 5
    if variant == 'fip':
        f = c.pretrain.fip
        f.mask_ratio.target, f.loss_weight.target, f.decoder_depth.target = 0.85, 3.0, 3
        return c
    return arms.apply(c, variant)
