"""The evaluator: a process that validates the checkpoints of a run until the run ends."""

import contextlib
import logging
import posixpath
import time

import tensorflow.compat.v1 as tf

from aocr import checkpoint, job
from aocr.config import TrainConfig
from aocr.errors import UserError
from aocr.evaluation import validations
from aocr.evaluation.validations import Validations
from aocr.files import make_directory
from aocr.model import STATE_VARIABLE
from aocr.training.prepare import look_at_data
from aocr.training.reports import Reports
from aocr.training.state import RunState
from aocr.training.validation import CheckpointValidator, Validator
from aocr.weights import reader_of

log = logging.getLogger(__name__)

DIRECTORY = "evaluator"  # of its history and events, below those of the run
LOOK_AGAIN = 2.0  # seconds between searches for new checkpoints


def evaluate(dataset: str, model_dir: str, config: TrainConfig, session_config: tf.ConfigProto) -> int:
    """Validates each new checkpoint in a model directory and keeps the best one, until the last one of a run.

    If the newest checkpoint at the start is of a finished run, the evaluator waits for those of the next run.

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
                if not description:
                    raise UserError(f"{model_dir}: no {checkpoint.DESCRIPTION_NAME} beside the checkpoints; restore it "
                                    "from a copy")
                if evaluator and not evaluator.knows(description):
                    evaluator.close()
                    evaluator = None
                evaluator = evaluator or _Evaluator(dataset, model_dir, description, config, session_config)
                finished = evaluator.validate(path)
            except tf.errors.NotFoundError:
                log.warning("%s: deleted before it was validated; raise --steps-per-checkpoint or --keep", path)
                continue
            if finished:
                log.info("evaluator: the run has ended")
                return 0
        if not new:
            time.sleep(LOOK_AGAIN)


def existing_checkpoints(model_dir: str) -> list[tuple[str, int]]:
    """Returns the checkpoints in a model directory, oldest first: (path, modification time in ns) of each, since a run
    from scratch reuses the paths of the one before.
    """
    found = []
    for path in checkpoint.known_checkpoints(model_dir):
        with contextlib.suppress(tf.errors.NotFoundError):  # deleted meanwhile
            found.append((path, tf.io.gfile.stat(f"{path}.index").mtime_nsec))
    return found


def _run_state(path):
    """Returns the RunState in a checkpoint; without one (earlier versions), that of a finished run."""
    with reader_of(path) as reader:
        text = reader.get_tensor(STATE_VARIABLE).decode() if reader.has_tensor(STATE_VARIABLE) else ""
    return RunState.from_json(text, path)


class _Evaluator:
    """Validates checkpoints of one model."""

    def __init__(self, dataset, model_dir, description, config, session_config):
        """`description`: checkpoint.Description. The rest as in `evaluate`."""
        self._description = description
        _, scan = look_at_data(dataset, config, description.config.graphemes, description.config.max_pixels)
        self._directory = posixpath.join(job.setting(job.LOG_DIR) or model_dir, DIRECTORY)
        make_directory(self._directory)
        path = posixpath.join(self._directory, validations.NAME)
        best = checkpoint.known_checkpoints(posixpath.join(model_dir, checkpoint.BEST_NAME))
        outcomes = Validations.read(path) if best else Validations()  # without it the run started from scratch
        self._validation = CheckpointValidator(
            Validator(scan, description, config.precision, session_config), model_dir, outcomes, path, config)

    def close(self):
        """Frees the validation graph."""
        self._validation.validator.close()

    def knows(self, description):
        """Returns whether a Description is of this model, whatever its decoding."""
        return (description.config, description.charset) == (self._description.config, self._description.charset)

    def validate(self, path):
        """Validates a checkpoint; returns whether it is the last one of its run. Raises tf.errors.OpError."""
        state, step = _run_state(path), checkpoint.step_of(path)
        # One event file per validation: validations are rare, and each file is complete.
        with tf.Graph().as_default() as empty, Reports(
                self._directory, self._directory, empty, first_step=step, steps=None, done=0, log_step=1) as reports:
            self._validation.validate(path, state.first_step, lambda: False, reports.validation)
        return state.finished
