"""The stages of a config of the wing 'vlp' for a plan, on data as they are or as they are expected."""
from __future__ import annotations

from fipjax.data import blank, vl_sets
from fipjax.data import words as words_lib
from fipjax.experiments import base, pretrained, vlp

FULL = 'FLOPs are those of texts of full length, as the data were not read'


class Plan(base.Dry, vlp.Experiment):
    """The stages of the experiment: the model of texts, pretraining, fine-tuning on each task and fraction."""

    def __init__(self, config, progress):
        super().__init__(config, progress)
        vocab = config.expected.vocab
        self.tokenizer = words_lib.blank(vocab) if vocab else words_lib.build(config.text.tokenizer)
        tasks = {name: self.task(name) for name in config.finetune.tasks}
        self.prepare(tasks, self._pretraining())
        self.base = base.zeros(self.made.model.init)['base']

    def expects(self, name) -> bool:
        """Whether the plan goes by what is expected of a set."""
        return vl_sets.is_own(name) and self.config.expected.features > 0

    def task(self, name):
        """Zeros for sets that are expected."""
        f = self.config.finetune
        return blank.task(self.config, name, f.batch_size) if self.expects(name) else super().task(name)

    def _pretraining(self):
        c, p = self.config, self.config.pretrain
        if not self.expects(p.data):
            return pretrained.data(c, self.tokenizer, self.progress)
        return pretrained.expected_data(c)

    def planned(self) -> list[base.Planned]:
        """In the order in which they would be run."""
        c, out = self.config, []
        params = base.zeros(self.made.model.init)
        if c.text.start == 'texts':
            texts = pretrained.texts_config(c)
            stage, counted = pretrained.stage(texts, pretrained.data(texts, self.tokenizer, self.progress), self.made,
                                              self.tokenizer, params)
            out.append(base.Planned(stage._replace(name='texts'), counted, ('pretrain.batch_size',)))
        if self.found:
            stage, counted = pretrained.stage(pretrained.settings(c), self.found, self.made, self.tokenizer, params)
            blanks = self.expects(c.pretrain.data)
            out.append(base.Planned(stage, counted, ('pretrain.batch_size',),
                                    not blanks or c.expected.pretrain_examples > 0, notes=(FULL,) if blanks else ()))
        names = {vl_sets.label(name): name for name in c.finetune.tasks}
        for name, splits in self.tasks.items():
            parts, seen = self.parts(splits)
            known = not self.expects(names[name]) or c.expected.examples > 0
            for at, share in self.shares.items():
                found = list(self.stages_of(parts, seen, name, at, share))
                _, stage, counted = found[0]
                out.append(base.Planned(stage._replace(name=f'{name}@{at}'), counted, ('finetune.batch_size',), known,
                                        len(found)))
        return out
