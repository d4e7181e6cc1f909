"""The stage of a config of the wing 'caption' for a plan, on data as they are or as they are expected."""
from __future__ import annotations

from fipjax.data import blank, vl, vl_sets
from fipjax.data import words as words_lib
from fipjax.experiments import base, caption


class Plan(base.Dry, caption.Experiment):
    """The training of the captioner; the captions that it says later are not planned."""

    def __init__(self, config, progress):
        super().__init__(config, progress)
        self.tokenizer = words_lib.build(config.text.tokenizer, 'text.tokenizer')
        expected, self.known = config.expected, True
        if vl_sets.is_own(config.caption.train) and expected.features:
            self.known = expected.pretrain_examples > 0
            source = blank.pictures(config, expected.pretrain_examples or config.caption.batch_size, 0)
            self.prepare((source, source))
        else:
            self.prepare(vl.pretraining(self.learned(), self.tokenizer, config.text.length))

    def planned(self) -> list[base.Planned]:
        """One stage."""
        return [base.Planned(*self.stage(), ('caption.batch_size',), self.known)]
