"""The history of a run: a file with a line of JSON for each mean of training steps and each validation.

Lines are written before the checkpoint of their step. Those of later steps than the checkpoint that a run resumes from
are removed, since the run repeats them: each line is there once, whenever the run was killed.
"""

import contextlib
import json
import logging
from typing import Any

import tensorflow.compat.v1 as tf

from aocr.files import append_text, cause, exists, load_json, read_bytes, write_bytes

log = logging.getLogger(__name__)

NAME = "history.jsonl"
VALIDATION = "validation"  # kind of the lines of validations


class History:
    """The file and the lines that are not written yet."""

    def __init__(self, path: str):
        self._path = path
        self._lines: list[tuple[int, str]] = []  # step and line
        self._ours = False  # whether the file is of the run's own model, not of one that it may replace

    def add(self, kind: str, step: int, metrics: dict[str, Any]) -> None:
        """Adds a line, to be written later."""
        self._lines.append((step, json.dumps(dict(kind=kind, step=step, **metrics)) + "\n"))

    def write(self) -> None:
        """Appends the new lines to the file. A failure is logged, and the lines stay to be written later."""
        self._ours = True
        try:
            if self._lines:
                append_text(self._path, "".join(line for _, line in self._lines))
            self._lines.clear()
        except (OSError, tf.errors.OpError) as error:
            log.warning("%s: cannot be written, retrying later: %s", self._path, cause(error))

    def close(self) -> None:
        """Writes the rest, unless the file is of another model, which the run has not replaced yet."""
        with contextlib.suppress(OSError):
            if self._ours or not exists(self._path):
                self.write()

    def go_back(self, step: int, *, validated: bool = True) -> None:
        """Removes the lines of later steps, and a line that was cut short; unless `validated`, also the validation of
        this step, which is to be repeated. A failure is logged.
        """
        self._ours = True
        self._lines = [(of, line) for of, line in self._lines if of <= step]
        try:
            if not exists(self._path):
                return
            lines = read_bytes(self._path).splitlines(keepends=True)
            kept = [line for line in lines if _stays(line, step, validated)]
            if kept != lines:
                write_bytes(self._path, b"".join(kept))
        except (OSError, tf.errors.OpError) as error:
            log.warning("%s: cannot be read or written, lines may be repeated in it: %s", self._path, cause(error))


def _stays(line, step, validated):
    """Returns whether a line (bytes) of the file is of this step or an earlier one; lines of others stay, too."""
    try:
        values = load_json(line)
        if values["kind"] == VALIDATION and values["step"] == step:
            return validated
        return values["step"] <= step
    except (ValueError, KeyError, TypeError):
        return line.endswith(b"\n")
