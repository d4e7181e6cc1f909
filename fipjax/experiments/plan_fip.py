"""The stages of a config of the wing 'fip' for a plan, on data as they are or as they are expected."""
from __future__ import annotations

import jax
import numpy as np

from fipjax import parallel as parallel_lib
from fipjax import train
from fipjax.algorithms import importance
from fipjax.data import blank, downstream, sources
from fipjax.data.constellation import Signal
from fipjax.experiments import base, fip


class Plan(base.Dry, fip.Experiment):
    """The stages of the experiment: pretraining, a fine-tuning for each number of labels."""

    def __init__(self, config, progress):
        super().__init__(config, progress)
        expected = config.data.expected
        self.known = True
        if config.data.source == 'constellation':
            settings = {**config.data.signal.to_dict(), 'snr_grid': None}
            self.prepare(blank.multimodal(config.data, len(Signal(**settings).classes), {
                k: config.data[f'{k}_examples'] for k in sources.SPLITS}))
        elif expected.classes:
            least = max(config.pretrain.batch_size, expected.classes * max(1, *config.finetune.labels_per_class,
                                                                           config.finetune.batch_size))
            self.known = expected.examples > 0
            self.prepare(blank.multimodal(config.data, expected.classes, {
                **dict.fromkeys(sources.SPLITS, least), 'pretrain': expected.examples or least}))
        else:
            self.prepare(sources.build(config.data, progress))
        f = config.pretrain.fip
        if self.pretrains() and f.weights == 'estimated' and f.downstream.method in importance.LABELLED:
            n = f.downstream.labels_per_class * len(self.splits.train.classes) or len(self.splits.train)
            rows = sources.Subset(self.splits.train, np.arange(n) % len(self.splits.train))
            found = downstream.Labelled(rows, np.zeros(n, np.int32), self.parallel.size)
            self.labelled = fip.beside(config, found, tuple(self.splits.train.classes))

    def planned(self) -> list[base.Planned]:
        """In the order in which they would be run."""
        c, out = self.config, []
        if self.pretrains():
            parts, stage, counted = self.pretraining_stage()
            notes = ()
            if c.pretrain.fip.weights == 'estimated':
                batch, state = train.first_batch(stage), jax.eval_shape(counted.init, jax.random.key(0))
                cost = fip.estimate_flops(parts, batch, parallel_lib.flops(counted.step, state, batch))
                notes = (f'every {c.pretrain.fip.downstream.every} steps an estimate of the weights costs {cost:.4g} '
                         'FLOPs more',)
            out.append(base.Planned(stage, counted, ('pretrain.batch_size',), self.known, notes=notes))
        for n in c.finetune.labels_per_class:
            stage = self.finetuning_stage(None, n)[2]
            known = n > 0 or c.data.source == 'constellation' or not c.data.expected.classes
            out.append(base.Planned(stage, stage.algorithm, ('finetune.batch_size',), known))
        return out
