"""What a run notes of itself in its checkpoints, so that another process can go on as if nothing had happened."""

import dataclasses
import json
from typing import Any

from aocr.errors import UserError

VERSION = 1


@dataclasses.dataclass
class RunState:
    """Changes from step to step, and is saved at one with the weights."""

    first_step: int = 0  # the global step that the run began at
    finished: bool = False  # all of its steps are done, or it was ended early; the next start is a new run
    epoch: int = 0  # the pass over the data that goes on,
    batch: int = 0  # and the number of its next batch
    order: str = ""  # what the order of the batches follows from
    rate_factor: float = 1.0  # of the learning rate, after roll-backs and plateaus
    rollbacks: int = 0
    images: int = 0  # that it was trained on
    minutes: float = 0.0  # that it took
    without_gain: int = 0  # validations in a row without a better figure
    owes_validation: bool = False  # one was due at this step, and a signal came before its end
    decoding: list | None = None  # method and share of CTC that read best when last looked at; None before
    best: dict[str, Any] | None = None  # the best validation: `step`, metrics; None before the first
    best_of: str = ""  # what its figure is of; others cannot be compared with it

    def to_json(self) -> str:
        """As one line of text."""
        return json.dumps(dict(dataclasses.asdict(self), version=VERSION))

    @classmethod
    def from_json(cls, text: str, path: str) -> "RunState":
        """From a checkpoint's text; '' (of a checkpoint that has none) is a run that is done.

        UserError, naming `path` (the checkpoint), if it is not of this version.
        """
        if not text:
            return cls(finished=True)
        try:
            values = json.loads(text)
            if values.pop("version") != VERSION:
                raise ValueError("written by another version of aocr")
            values.pop("first_epoch", None)  # of checkpoints up to 0.10.0
            return cls(**values)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path}: the state of its run cannot be read ({error}); start afresh with --no-resume, "
                            "or take the weights to another --model-dir with --init-from") from None

    def begin(self, step: int, seed: int, order: str) -> bool:
        """Goes on with an unfinished run, or begins a new one at a global step. Data go on where they were.

        `seed`: the first pass of a new model has this number. `order`: what the batches' order follows from.

        Returns: whether the run goes on.
        """
        goes_on = not self.finished
        if self.finished:
            self.first_step, self.finished = step, False
            self.rate_factor, self.rollbacks, self.without_gain = 1.0, 0, 0
            self.images, self.minutes = 0, 0.0
        if self.order != order:
            self.epoch, self.batch = self.epoch + 1 if self.order else seed, 0
            self.order = order
        return goes_on
