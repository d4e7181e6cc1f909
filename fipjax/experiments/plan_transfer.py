"""The stages of a config of the wing 'mona' for a plan, on data as they are or as they are expected."""
from __future__ import annotations

from fipjax.algorithms import transfer as transfer_lib
from fipjax.data import blank, labelled
from fipjax.experiments import base, transfer
from fipjax.experiments import source as source_lib


class Plan(base.Dry, transfer.Experiment):
    """The stages of the experiment: source model, stage 1 by method, stage 2 for each number of labels."""

    def __init__(self, config, progress):
        super().__init__(config, progress)
        splits, source_splits = (self._splits(side) for side in ('target', 'source'))
        self.prepare(splits, source_splits)
        network, fresh = source_lib.network(source_splits.task, self.encoder, config.embedder.chunk,
                                            source_lib.published_embedder(config, source_splits.task))
        params = {part: base.zeros(init) for part, init in fresh.items()}
        self.source = source_lib.SourceModel(params, network, self.encoder, source_splits, None)

    def _splits(self, side):
        settings = self.config[side]
        if tuple(settings.expected.shape):
            return blank.labelled(settings, side, self._least(settings))
        return labelled.build(settings, self.progress) if side == 'target' else source_lib.data(self.config,
                                                                                               self.progress)

    def _least(self, settings):
        """As many examples as any draw of the experiment takes."""
        c = self.config
        labels = max(c.transfer.labels_per_class) * max(settings.expected.classes, 10)
        return max(labels, c.source.batch_size, c.mona.source_batch, c.orca.source_examples,
                   *(c.transfer[s].batch_size for s in ('stage_1', 'stage_2')), *c.probe.values())

    def _known(self, side):
        settings = self.config[side]
        return bool(not tuple(settings.expected.shape) or settings.expected.examples or settings.examples)

    def planned(self) -> list[base.Planned]:
        """In the order in which they would be run."""
        c, method = self.config, self.config.transfer.method
        out = []
        if not c.init.checkpoint:  # else the source model is not trained
            stage, counted, _ = source_lib.stage(source_lib.settings(c), self.source.splits, self.source.params)
            out.append(base.Planned(stage, counted, ('source.batch_size',), self._known('source')))
        start = self.start()
        stage_1, stage_2 = self.parts(start)
        for n in c.transfer.labels_per_class:
            known = n > 0 or self._known('target')
            if stage_1:
                keys = {'mona': ('transfer.stage_1.batch_size', 'mona.source_batch'), 'orca': ()}
                out.append(base.Planned(*self.stage_1(stage_1, start, n),
                                        keys.get(method, ('transfer.stage_1.batch_size',)), known))
                if method == 'orca':
                    out[-1] = out[-1]._replace(notes=(
                        'FLOPs are not counted: Sinkhorn loops. A batch is an epoch, a row for each class.',))
            found = list(self.stages_2(stage_2, start, n))
            _, stage, counted = found[0]
            out.append(base.Planned(stage._replace(name=f'stage_2_{n}'), counted, ('transfer.stage_2.batch_size',),
                                    known, len(found)))
        return out

    def start(self):
        """Zeros in place of fresh parameters and of the source model's."""
        return {part: base.zeros(self.fresh[part]) for part in transfer_lib.PARTS}
