"""The state of a run, saved in its checkpoints, from which another process resumes it exactly."""

import dataclasses
import json
from typing import Any

from aocr.config import ATTENTION
from aocr.errors import UserError
from aocr.metrics import METRICS

VERSION = 1


@dataclasses.dataclass
class RunState:
    """The state that changes from step to step. Outcomes of validations are in evaluation.validations."""

    first_step: int = 0  # the global step at which the run began
    finished: bool = False  # the run made its last step; the next start is a new run
    epoch: int = 0  # current epoch
    batch: int = 0  # number of its next batch
    order: str = ""  # fingerprint of the order of the batches
    rate_factor: float = 1.0  # of the learning rate, after rollbacks
    rollbacks: int = 0
    images: int = 0  # trained on so far
    minutes: float = 0.0  # of training so far
    validation_due: bool = False  # for this checkpoint, until validations.json has its step
    earlier_best: dict[str, Any] | None = None  # the best validation, from a checkpoint of aocr 0.10.0 or earlier

    def to_json(self) -> str:
        """Returns the state as one line of text."""
        values = dataclasses.asdict(self)
        del values["earlier_best"]
        return json.dumps(dict(values, version=VERSION))

    @classmethod
    def from_json(cls, text: str, path: str) -> "RunState":
        """Parses a checkpoint's text; '' (a checkpoint without a state) counts as a finished run.

        UserError, naming `path` (the checkpoint), if it is broken or of another version.
        """
        if not text:
            return cls(finished=True)
        try:
            values = json.loads(text)
            if values.pop("version") != VERSION:
                raise ValueError("written by another version of aocr")
            state = cls(**_current(values))
            _check_types(state)
            return state
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise UserError(f"{path}: the state of its run cannot be read ({error}); start from scratch with "
                            "--no-resume, or from its weights with another --model-dir and --init-from") from None

    def begin(self, step: int, seed: int, order: str) -> bool:
        """Resumes an unfinished run, or begins a new one at a global step. The position in the data is kept.

        Args: seed: number of the first epoch of a new model. order: fingerprint of the order of the batches.
        Returns: whether the run is resumed.
        """
        resumed = not self.finished or self.validation_due
        if not resumed:
            self.first_step, self.finished = step, False
            self.rate_factor, self.rollbacks = 1.0, 0
            self.images, self.minutes = 0, 0.0
        if self.order != order:
            self.epoch, self.batch = self.epoch + 1 if self.order else seed, 0
            self.order = order
        return resumed


def _check_types(state):
    """Raises TypeError or ValueError if a RunState's value is of another type than its field, or negative."""
    for field in dataclasses.fields(state):
        value, kinds = getattr(state, field.name), (int, float) if field.type is float else (field.type,)
        if field.name != "earlier_best" and type(value) not in kinds:
            raise TypeError(f"{field.name} is {value!r}")
        if type(value) in (int, float) and not value >= 0:
            raise ValueError(f"{field.name} is {value}")


def _current(values):
    """Returns the fields of a state, converting those of aocr 0.10.0 and earlier."""
    for name in ("first_epoch", "without_gain", "decoding"):
        values.pop(name, None)
    values["validation_due"] = values.pop("owes_validation", values.get("validation_due", False))
    best, data = values.pop("best", None), values.pop("best_of", "")
    if best:
        metrics = {name: float(best.get(name, 0.0)) for name in METRICS} | {"exact_match": float(best["exact"])}
        values["earlier_best"] = dict(
            step=int(best["step"]), data=data, **metrics, decoding=best.get("decoding", ATTENTION),
            ctc_share=float(best.get("ctc_share", 0.0)), best=True, halved=False)
    return values
