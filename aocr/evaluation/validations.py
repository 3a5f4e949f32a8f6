"""The validations of a model directory, in a file that shows a resumed run which one is due."""

import json
import logging
from typing import Any, NamedTuple

from aocr.config import Decoding
from aocr.errors import UserError
from aocr.files import exists, load_json, read_bytes, write_text
from aocr.metrics import METRICS

log = logging.getLogger(__name__)

NAME = "validations.json"
PLATEAU = 3  # validations without improvement after which `--schedule plateau` halves the rate
KINDS = {"data": str, "best": bool, "halved": bool, "decoding": str}  # types of an entry's other values


class Validation(NamedTuple):
    """The outcome of one validation."""

    metrics: dict[str, float]  # by the names of METRICS
    decoding: Decoding  # the best one, which the metrics are of

    def better_than(self, other: dict[str, Any], monitor: str) -> bool:
        """Returns whether this beats an earlier validation in `monitor`, one of METRICS; ties go to the lower loss."""
        own, previous = self.metrics[monitor], other[monitor]
        if own == previous:
            return self.metrics["loss"] < other["loss"]
        return own > previous if METRICS[monitor].higher_is_better else own < previous

    def __str__(self) -> str:
        figures = ", ".join(f"{METRICS[name].title} {value:.4f}" for name, value in self.metrics.items())
        return f"{figures}, {self.decoding.method} decoding"


class Validations:
    """The validations so far, oldest first, each a dict of:

    step: of the checkpoint; data: identifies the validation data; the metrics; decoding, ctc_share: the best decoding;
    best: whether it was the best so far; halved: whether the learning rate was halved after it.
    """

    def __init__(self, entries: list[dict[str, Any]] | None = None):
        self.entries = entries or []

    @classmethod
    def read(cls, path: str) -> "Validations":
        """Reads a file; without one, returns no validations. UserError if it is damaged."""
        if not exists(path):
            return cls()
        try:
            entries = load_json(read_bytes(path))["validations"]
            for entry in entries:
                Decoding(entry["decoding"], float(entry["ctc_share"]))
                if type(entry["step"]) is not int or not all(type(entry[name]) in (float, int) for name in METRICS):
                    raise ValueError(f"not a validation: {entry}")
                if any(type(entry[name]) is not kind for name, kind in KINDS.items()):
                    raise ValueError(f"not a validation: {entry}")
            return cls(entries)
        except (ValueError, KeyError, TypeError, OverflowError, OSError) as error:
            raise UserError(f"{path}: cannot be read ({error!r}); restore it from a copy, or remove it and the best "
                            "checkpoint") from None

    def write(self, path: str) -> None:
        """Writes the file atomically. Raises OSError or tf.errors.OpError."""
        write_text(path, json.dumps({"validations": self.entries}, indent=1) + "\n")

    def at(self, step: int) -> dict[str, Any] | None:
        """Returns the validation of a step's checkpoint; None if it was not validated."""
        return next((entry for entry in reversed(self.entries) if entry["step"] == step), None)

    def forget_after(self, step: int) -> None:
        """Removes the validations of later steps, which will be repeated."""
        self.entries = [entry for entry in self.entries if entry["step"] <= step]

    def add(self, step: int, validation: Validation, monitor: str, data: str, *, first_step: int = 0,
            plateau: bool = False) -> bool:
        """Adds a validation; returns whether it is the best so far.

        Args:
          monitor: the metric of METRICS to compare. data: identifies the validation data.
          first_step: of the run. plateau: halve the learning rate after every PLATEAU validations of the run without
            improvement.
        """
        before = self.best
        if before and before["data"] != data:
            log.warning("the best checkpoint, of step %d, was validated on other data (%s): its metrics are not "
                        "comparable with those on %s, so the checkpoint of step %d replaces it", before["step"],
                        before["data"], data, step)
        best = not before or before["data"] != data or validation.better_than(before, monitor)
        self.entries.append(dict(step=step, data=data, **validation.metrics, decoding=validation.decoding.method,
                                 ctc_share=validation.decoding.ctc_share, best=best, halved=False))
        self.entries[-1]["halved"] = plateau and not best and self.without_gain(first_step) % PLATEAU == 0
        return best

    @property
    def best(self) -> dict[str, Any] | None:
        """The best validation; None before the first."""
        return next((entry for entry in reversed(self.entries) if entry["best"]), None)

    def without_gain(self, first_step: int) -> int:
        """Returns the number of validations since the last best one, or since the run's first step."""
        count = 0
        for entry in reversed(self.entries):
            if entry["best"] or entry["step"] <= first_step:
                break
            count += 1
        return count

    def rate_factor(self, first_step: int) -> float:
        """Returns the factor of the learning rate after the plateaus since the run's first step."""
        return 0.5 ** sum(entry["halved"] for entry in self.entries if entry["step"] > first_step)
