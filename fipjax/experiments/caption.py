"""A captioner trained on one set captions the pictures of another, and both become a pretraining set.

The study (arXiv 2004.08744) calls it CCG: pictures of Conceptual Captions with captions in the words of COCO.
"""
from __future__ import annotations

import functools
import time

import jax
import numpy as np
from ml_collections import ConfigDict

from fipjax import checkpoint, optim, train
from fipjax.algorithms import captioning
from fipjax.analysis import pictures
from fipjax.data import expected, vl, vl_files, vl_sets
from fipjax.data import words as words_lib
from fipjax.errors import UserError
from fipjax.evaluators import captions
from fipjax.evaluators.reconstruction import to_png
from fipjax.experiments import base
from fipjax.experiments.base import size
from fipjax.models import captioner

FOLDER = 'captions'   # what is written, in the workdir
SCORED = 2000         # pictures whose objects are compared with what their captions name
EXAMPLES = 6
CROP = (8, 8, 3)      # region features that are pictures, see fipjax.data.regions


class Experiment(base.Experiment):
    """One captioner, and the captions it says; the last step is what is used."""

    def __init__(self, config, path, stopped, progress):
        super().__init__(config, path, stopped, progress)
        began, c = time.monotonic(), config.caption
        self.tokenizer = words_lib.build(config.text.tokenizer, 'text.tokenizer')
        learned, self.shown = self.learned(), vl_sets.build_pretraining(c.pictures, config, progress)
        one, other = ((s.regions.features.shape[-1], s.regions.detector) for s in (learned, self.shown))
        if one != other:
            raise UserError(f'caption.train has regions of {one[0]} numbers ({one[1]}) and caption.pictures of '
                            f'{other[0]} ({other[1]}); both need features of the same detector')
        self.prepare(vl.pretraining(learned, self.tokenizer, config.text.length))
        if vl_sets.is_own(c.train):
            expected.check_pictures(config, self.train)
        if progress:
            print(f'learns from: {learned.description}\ncaptions: {self.shown.description}', flush=True)
        cut = self.train.text.cut + self.validation.text.cut
        self.result |= {'target': f'{learned.name}: {learned.description}; captions for {self.shown.name}: '
                                  f'{self.shown.description}', 'tokenizer': self.tokenizer.record(),
                        'test_examples': 0, 'cut_captions': cut, 'references': {}}
        self.result['seconds']['data'] = time.monotonic() - began

    def learned(self) -> vl.Set:
        """What it learns from; the classes of regions are left out."""
        name = self.config.caption.train
        found = vl_sets.build_pretraining(name, self.config, self.progress)
        if found.answers is not None:
            raise UserError(f'caption.train is {name!r}: questions with answers; a captioner learns from captions')
        return found._replace(regions=found.regions._replace(classes=None))

    def prepare(self, sources) -> None:
        """The model of what it learns from: sources of training and validation."""
        self.train, self.validation = sources
        self.features = self.train.regions.features.shape[-1]
        self.made = self._model()

    def _model(self, **changes):
        t, c = self.tokenizer, self.config
        return captioner.build(ConfigDict({**c.network.to_dict(), **changes}), vocab=t.size,
                               features=self.features, length=c.text.length,
                               special=captioner.Special(t.cls, t.sep, t.pad, (t.mask, t.unk)))

    def stage(self):
        """train.Stage of the captioner, and the algorithm to count FLOPs of."""
        c = self.config.caption
        algorithm, counted = (captioning.make(made.logits, made.init, optim.make(c.optimizer, c.steps))
                              for made in (self.made, self._model(layers='unroll', remat=False)))
        return train.Stage('captioner', algorithm, self.train, self.validation, c.steps, c.batch_size, c.eval_every,
                           self.config.seed, '', optim.learning_rate(c.optimizer, c.steps)), counted

    def stages(self) -> None:
        """See the class."""
        r = self.result
        fitted = self.fit(*self.stage())
        checkpoint.save_params(self.path / 'parameters' / 'captioner', fitted.params)
        r['parameters'] = {'captioner': size(fitted.params)}
        r['metrics'] = {f'validation/{k}': v for k, v in fitted.validation.items()}
        r['metrics']['validation/loss_other_pictures'] = self._loss_with_other_pictures(fitted.params)
        began = time.monotonic()
        rows, said = self._captions(fitted.params)
        r['seconds']['captions'] = time.monotonic() - began
        self._score(rows, said)
        self._write(rows, said)
        found = captions.bigrams(*map(_pairs, (self.train, self.validation)), self.tokenizer.size)
        r['references']['word before alone'] = {f'validation/{k}': v for k, v in found.items()}
        r['headline'] = [k for k in ('validation/loss', 'validation/loss_other_pictures', 'validation/accuracy',
                                     *(f'captions/{k}' for k in ('precision', 'precision_other_pictures', 'distinct')))
                         if k in r['metrics']]

    def _loss_with_other_pictures(self, params) -> float:
        """Validation loss where every caption stands beside another picture: what the picture is worth."""
        v = self.validation
        there = np.unique(v.picture)
        other = np.roll(there, len(there) // 2)[np.searchsorted(there, v.picture)]
        beside = vl.Source(v.regions, other, v.text, v.ids)
        loss, _, count = self.rows(functools.partial(captioning.by_caption, self.made.logits), params, beside).sum(0)
        return float(loss / count)

    def _captions(self, params):
        """Pictures (rows of the set's regions) and a caption of each, those of training and validation."""
        shown, c = self.shown, self.config
        rows = np.unique(shown.picture[np.isin(shown.split, ('train', 'validation'))])
        none = vl.Encoded(*(np.zeros((len(rows), 1), kind) for kind in (np.int32, np.int32, bool)), 0)
        key = jax.random.fold_in(jax.random.key(c.seed), 1)

        def generate(params, batch):
            return self.made.generate(params, batch, key, c.caption.temperature, c.text.length)
        tokens = self.rows(generate, params, vl.Source(shown.regions._replace(classes=None), rows, none, rows))
        said = [self.tokenizer.decode(t) for t in tokens]
        kept = [i for i, text in enumerate(said) if text.strip()]  # some vocabularies have pieces of white space
        return rows[kept], [said[i] for i in kept]

    def _score(self, rows, said):
        """Scores of captions, and of the set's own texts where there is one for each of the pictures."""
        name, r = self.config.caption.pictures, self.result
        objects = None
        if name in ('coco', 'cc', 'vqa'):
            some = rows[rows < SCORED]
            texts = int(np.searchsorted(self.shown.picture, some[-1], 'right'))  # of generated sets in order
            found = captions.objects_of(name, texts, self.config.sets.seed)
            objects = [found[i] for i in some]
        r['metrics'] |= {f'captions/{k}': v for k, v in captions.scores(said, objects).items()}
        own = dict(zip(self.shown.picture[::-1].tolist(), self.shown.text[::-1]))  # the first of each
        r['references']["pictures' own texts"] = {
            f'captions/{k}': v for k, v in captions.scores([own[i] for i in rows.tolist()], objects).items()}
        r['examples'] = [{'caption': text, 'own text': own[i]} for i, text in zip(rows[:EXAMPLES].tolist(), said)]
        if self.shown.regions.features.shape[-1] == np.prod(CROP) and self.shown.regions.detector == 'crops':
            r['pictures'] = [_examples(self.shown.regions, rows[:EXAMPLES], said)]

    def _write(self, rows, said):
        """The captions as a pretraining set; of several processes the first does so. One that is there is complete."""
        folder, shown = self.path / FOLDER, self.shown
        if jax.process_index() == 0 and not folder.exists():
            first = {p: i for i, p in reversed(list(enumerate(shown.picture.tolist())))}
            split = shown.split[[first[p] for p in rows.tolist()]]
            learned = self.config.caption.train
            vl_files.write(folder, vl.Set(
                f'{shown.name}_captioned', shown.regions, rows.astype(np.int32), tuple(said), None, '', split, (),
                f'{len(rows)} pictures of {shown.name} with captions by a captioner trained on {learned}'))
        self.result['captions'] = FOLDER


def _pairs(source):
    """Neighbouring word pieces of all texts, int [n, 2]."""
    tokens, mask = source.text.tokens, source.text.mask
    valid = mask[:, 1:]
    return np.stack([tokens[:, :-1][valid], tokens[:, 1:][valid]], 1).astype(np.int64)


def _examples(regions, rows, said):
    """A line a picture: what the model sees of its regions, with the caption above."""
    figure, axes = pictures.panels(len(rows), width=2 * pictures.HALF, height=1.5, columns=1)
    most = int(regions.count[rows].max())
    for axis, row, text in zip(axes, rows, said):
        crops = regions.features[row, :most].reshape(most, *CROP)
        crops = np.where(np.arange(most)[:, None, None, None] < regions.count[row], crops, 1)  # white
        strip = np.concatenate(np.pad(crops, ((0, 0), (0, 0), (0, 1), (0, 0)), constant_values=1), 1)
        axis.imshow((strip.clip(-1, 1) + 1) / 2, interpolation='nearest')
        axis.set_title(pictures.plain(text), fontsize=pictures.SMALL + 1, loc='left')
        axis.axis('off')
    return {'title': 'Captions', 'png': to_png(figure), 'wide': True,
            'caption': 'Regions as the captioner sees them, 8 x 8 pixels each: the whole picture first.'}
