"""VQA 2, answers to questions about pictures: VisualBERT or ViLBERT at the study's size.

Paper: Are we pretraining it right? (arXiv 2004.08744). Updates, batch, optimiser, rate and warm-up are those of the
public configs of MMF's project pretrain_vl_right, with a cosine instead of a linear decay. Variants: MODEL_SET with
MODEL visualbert (MLM) or vilbert (MMM) and SET none, coco_captions, vqa2_masked or conceptual_captions.

  python -m fipjax.main --config=configs/vlp/paper/vqa2.py:visualbert_coco_captions --workdir=runs/vqa2

Needs the sets prepared (python -m fipjax.data.builders.prepare; --config.sets.data_dir), or folders instead
(--config.pretrain.data=DIR --config.finetune.tasks=DIR), and a network once for BERT-base (or
--config.init.checkpoint=FOLDER, which may also be a released VisualBERT or ViLBERT). --config.plan=True says what it
costs with none of them. Not run yet by us: no time and no number to expect.
"""
from fipjax import recipes


def get_config(variant: str = 'visualbert_coco_captions'):
    """The experiment for one model and pretraining set."""
    return recipes.vision_and_language('vqa2', variant, answers=3129, output='answers', examples=443757, length=128,
                                       warmup_steps=6000, schedule=60000)
