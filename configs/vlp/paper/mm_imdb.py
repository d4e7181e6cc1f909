"""MM-IMDB, genres from poster and plot: VisualBERT or ViLBERT at the study's size.

Paper: Are we pretraining it right? (arXiv 2004.08744). Updates, batch, optimiser, rate and warm-up are those of the
public configs of MMF's project pretrain_vl_right, with a cosine instead of a linear decay. The schedule is 88,000
updates long, of which the public configs make 60,000; how many films train is read off the data. Variants: MODEL_SET
with MODEL visualbert (MLM) or vilbert (MMM) and SET none, coco_captions, vqa2_masked or conceptual_captions.

  python -m fipjax.main --config=configs/vlp/paper/mm_imdb.py:visualbert_coco_captions --workdir=runs/mm_imdb

Needs the sets prepared (python -m fipjax.data.builders.prepare; --config.sets.data_dir), or folders instead
(--config.pretrain.data=DIR --config.finetune.tasks=DIR), and a network once for BERT-base (or
--config.init.checkpoint=FOLDER, which may also be a released VisualBERT or ViLBERT). --config.plan=True says what it
costs with none of them. Not run yet by us: no time and no number to expect.
"""
from fipjax import recipes


def get_config(variant: str = 'visualbert_coco_captions'):
    """The experiment for one model and pretraining set."""
    return recipes.vision_and_language('mm_imdb', variant, answers=24, output='labels', examples=0, length=256,
                                       warmup_steps=2000, schedule=88000)
