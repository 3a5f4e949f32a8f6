"""What an evaluator does: it validates the checkpoints that a run writes, beside it, until the run is over."""

import contextlib
import dataclasses
import logging
import posixpath
import time

import tensorflow.compat.v1 as tf

from aocr import checkpoint, job
from aocr.config import TrainConfig
from aocr.errors import UserError
from aocr.files import cause, make_directory, read_bytes, write_text
from aocr.model import STATE_VARIABLE
from aocr.training.prepare import look_at_data
from aocr.training.reports import Reports
from aocr.training.state import RunState
from aocr.training.transfer import read_weights
from aocr.training.validation import Validator, judge

log = logging.getLogger(__name__)

DIRECTORY = "evaluator"  # of its history and events, in those of the run
STATE_NAME = "state.json"  # what it notes of itself there
LOOK_AGAIN = 2.0  # seconds between two looks for a new checkpoint


def evaluate(dataset: str, model_dir: str, config: TrainConfig, session_config: tf.ConfigProto) -> int:
    """Validates each new checkpoint in a model directory, and keeps the best one, until the last one of a run.

    A checkpoint of a finished run that is there at the start is an earlier run's: a newer one is waited for.

    Returns: the exit code. UserError if the data or the model cannot be read.
    """
    known = set()
    newest = checkpoint.latest_checkpoint(model_dir)
    if newest and _run_state(newest).finished:
        known.update(existing_checkpoints(model_dir))
    log.info("evaluator: waiting for checkpoints in %s", model_dir)
    evaluator = None
    while True:
        new = [found for found in existing_checkpoints(model_dir) if found not in known]
        for path, written in new:
            known.add((path, written))
            try:
                description = checkpoint.read_description(model_dir)
                if not (evaluator and evaluator.knows(description)):
                    evaluator = _Evaluator(dataset, model_dir, description, config, session_config)
                finished = evaluator.look_at(path)
            except tf.errors.NotFoundError:
                log.warning("%s: gone before it was validated; fewer checkpoints (--steps-per-checkpoint) or more that "
                            "are kept (--keep) help", path)
                continue
            if finished:
                log.info("evaluator: the run has ended")
                return 0
        if not new:
            time.sleep(LOOK_AGAIN)


def existing_checkpoints(model_dir: str) -> list[tuple[str, int]]:
    """The checkpoints in a model directory, the oldest first: (path, when it was written, in nanoseconds) of each. A
    run that starts anew uses the paths of the one before again.
    """
    found = []
    for path in checkpoint.known_checkpoints(model_dir):
        with contextlib.suppress(tf.errors.NotFoundError):  # dropped meanwhile
            found.append((path, tf.io.gfile.stat(f"{path}.index").mtime_nsec))
    return found


def _run_state(path):
    """The RunState in a checkpoint; one that has none, of an earlier version, is of a finished run."""
    reader = tf.train.load_checkpoint(path)
    text = reader.get_tensor(STATE_VARIABLE).decode() if reader.has_tensor(STATE_VARIABLE) else ""
    return RunState.from_json(text, path)


class _Evaluator:
    """Validates checkpoints of one model."""

    def __init__(self, dataset, model_dir, description, config, session_config):
        """`description`: checkpoint.Description. The rest as in `evaluate`."""
        self.description, self._config, self._model_dir = description, config, model_dir
        _, scan = look_at_data(dataset, config, description.config.graphemes)
        self._validator = Validator(scan, description, config.precision, session_config)
        self._best_dir = posixpath.join(model_dir, checkpoint.BEST_NAME)
        self._directory = posixpath.join(job.told(job.LOG_DIR) or model_dir, DIRECTORY)
        make_directory(self._directory)

    def knows(self, description):
        """Whether it is of a model of this Description, however that decodes."""
        return (description.config, description.charset) == (self.description.config, self.description.charset)

    def look_at(self, path):
        """Validates a checkpoint; returns whether it is the last one of its run. Raises tf.errors.OpError."""
        step, finished = checkpoint.step_of(path), _run_state(path).finished
        metrics, readings = self._validator.validate(read_weights(path), lambda: False)
        state = self._state()
        best = judge(state, metrics, step, self._config.monitor, self._validator.data)
        # An event file for each validation: they are seldom, and so what is there is always whole.
        with tf.Graph().as_default() as nothing, Reports(
                self._directory, self._directory, nothing, first_step=step, steps=None, done=0, log_step=1) as reports:
            if best:
                try:
                    checkpoint.copy_checkpoint(path, self._best_dir)
                    checkpoint.write_description(self._model_dir, dataclasses.replace(
                        self.description, decoding=metrics.chosen))
                except (OSError, tf.errors.PermissionDeniedError, tf.errors.ResourceExhaustedError) as error:
                    raise UserError(f"{self._best_dir}: cannot be written: {cause(error)}") from None
            reports.validation(step, metrics, best, readings, self._validator)
        write_text(posixpath.join(self._directory, STATE_NAME), state.to_json())
        return finished

    def _state(self):
        """A RunState with the best validation so far; none if the best checkpoint is gone, as when a run starts anew.
        """
        path = posixpath.join(self._directory, STATE_NAME)
        if not checkpoint.known_checkpoints(self._best_dir) or not tf.io.gfile.exists(path):
            return RunState()
        return RunState.from_json(read_bytes(path).decode(), path)
