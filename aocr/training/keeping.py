"""The checkpoints of a run: writing them, dropping old ones, rolling back."""

import contextlib
import dataclasses
import logging
import posixpath
import re

import tensorflow.compat.v1 as tf

from aocr import checkpoint
from aocr.calibration import UNCALIBRATED
from aocr.config import Decoding
from aocr.errors import UserError
from aocr.evaluation import validations
from aocr.files import cause, names_in
from aocr.training import history
from aocr.training.graph import TrainingGraph
from aocr.training.state import RunState

log = logging.getLogger(__name__)


# Temporary files of tf.train.Saver, left by a killed run: of weights, of graphs and of the list of checkpoints.
LEFTOVER = re.compile(re.escape(checkpoint.CHECKPOINT_PREFIX) + r"-\d+\.(index|data-\d{5}-of-\d{5})\.tempstate\d+|"
                      rf"({re.escape(checkpoint.CHECKPOINT_PREFIX)}-\d+\.meta|{checkpoint.STATE_NAME})\.tmp[0-9a-f]{{32}}")


def clear_leftovers(model_dir: str) -> None:
    """Removes the temporary files of killed runs from a model directory in which no other run writes."""
    for name in filter(LEFTOVER.fullmatch, names_in(model_dir)):
        tf.io.gfile.remove(posixpath.join(model_dir, name))


class Keeper:
    """Writes the checkpoints of a run atomically, and rolls back to them."""

    def __init__(self, training: TrainingGraph, model_dir: str, description: checkpoint.Description,
                 newest: str | None):
        """
        Args:
          training: the graph to save.
          newest: path of the checkpoint to resume. None: the first `save` starts a new model.
        """
        self._training, self._model_dir, self._description = training, model_dir, description
        with training.model.graph.as_default():
            self._saver = tf.train.Saver(training.model.variables)
            self._unfinite = _unfinite(training.model.variables)
        self._known: list[str] = []  # paths of the checkpoints to keep, oldest first
        self._fresh, self._cleared = not newest, False
        self._rolled_back = False  # whether `newest` was rolled back to and not saved since
        self.newest = newest  # path of the newest checkpoint; None before the first

    def know_earlier(self) -> None:
        """Finds the checkpoints of earlier runs, which count among those to keep. UserError if unreadable.

        If there are too many, each save deletes only one.
        """
        self._known = checkpoint.known_checkpoints(self._model_dir)

    def spoilt(self) -> list[str]:
        """Returns the names of the variables, averages and optimizer's among them, that are NaN or infinite."""
        return [name for name, spoilt in self._training.session.run(self._unfinite).items() if spoilt]

    def save(self, state: RunState) -> None:
        """Writes a checkpoint with the run's state. UserError if it cannot be written.

        The caller makes sure that nothing is `spoilt`.
        """
        self.start_model()
        with self._writing():
            if not self._cleared:
                clear_leftovers(self._model_dir)
                self._cleared = True
            if self.newest and checkpoint.step_of(self.newest) == self._training.step() and (
                    self.newest in self.kept()[1:]):
                checkpoint.hide_checkpoint(self.newest)  # the only one is replaced by renaming instead
            self._forget_temperature()
            prefix = posixpath.join(self._model_dir, checkpoint.CHECKPOINT_PREFIX)
            self.newest = self._write(prefix, state)
        self._rolled_back = False
        log.info("checkpoint %s", self.newest)

    def choose(self, decoding: Decoding) -> None:
        """Sets the model's decoding. UserError if it cannot be written."""
        self._description = dataclasses.replace(self._description, decoding=decoding)
        if not self._fresh:
            with self._writing():
                checkpoint.set_decoding(self._model_dir, decoding)

    def kept(self) -> list[str]:
        """Returns the paths of the run's existing checkpoints, oldest first. UserError if unreadable."""
        return checkpoint.known_checkpoints(self._model_dir) if self.newest else []

    def fall_back(self, kept: list[str], first_step: int) -> None:
        """Restores the newest of the checkpoints `kept()` (at least one) and hides later ones.

        If the run already rolled back to the newest, that may be spoilt too: the one before it is restored, unless it
        is older than `first_step`. UserError if it cannot be restored.
        """
        if self._rolled_back and len(kept) > 1 and checkpoint.step_of(kept[-2]) >= first_step:
            kept = kept[:-1]
        self._rolled_back, self.newest = True, kept[-1]
        checkpoint.attempt(self._training.resume, self.newest)
        with self._writing():  # so that a run killed now resumes from it too
            checkpoint.keep_checkpoints(self._model_dir, kept)
        self.know_earlier()

    def _forget_temperature(self):
        """Drops a temperature that was fitted to other weights than those about to be saved."""
        if self.newest and checkpoint.step_of(self.newest) == self._training.step():
            return
        if checkpoint.set_temperature(self._model_dir, UNCALIBRATED):
            log.info("%s: the temperature is dropped, as the weights have changed; run `aocr calibrate` again",
                     self._model_dir)

    def _write(self, prefix, state):
        """Writes the checkpoint `prefix`-STEP atomically and deletes the oldest one, if there are too many. Returns its
        path. TensorFlow's own list and deletion fail in a directory with glob characters in its name.
        """
        self._training.state = state.to_json()
        with self._training.model.graph.as_default():
            path = self._saver.save(self._training.session, prefix, global_step=self._training.train_ops.global_step,
                                    write_state=False)
        self._known = [*(known for known in self._known if known != path), path]
        dropped = self._known.pop(0) if len(self._known) > self._training.config.keep else None
        checkpoint.keep_checkpoints(self._model_dir, self._known)
        if dropped:
            checkpoint.remove_checkpoint(dropped)
        return path

    def start_model(self) -> None:
        """Starts a new model in the directory, on the first call: hides the checkpoints of an earlier one, writes the
        description, and deletes history and validations. UserError if this fails.
        """
        if self._fresh:
            with self._writing():
                self._replace_model()
            self._fresh = False

    def _replace_model(self):
        # In this order, a kill at any point leaves no checkpoint beside another model's description.
        checkpoint.forget_checkpoints(self._model_dir)
        checkpoint.forget_checkpoints(posixpath.join(self._model_dir, checkpoint.BEST_NAME))
        checkpoint.write_description(self._model_dir, self._description)
        for name in (history.NAME, validations.NAME):
            path = posixpath.join(self._model_dir, name)
            if tf.io.gfile.exists(path):
                tf.io.gfile.remove(path)

    @contextlib.contextmanager
    def _writing(self):
        try:
            yield
        except (tf.errors.OpError, OSError, SystemError) as error:
            raise UserError(f"{self._model_dir}: the checkpoint of step {self._training.step()} cannot be written: "
                            f"{cause(error)}; fix this and start the run again: earlier checkpoints are "
                            "intact") from error


def _unfinite(variables):
    """Returns {name: whether the variable has a NaN or infinite value, bool []} of the variables of numbers."""
    return {name: tf.logical_not(tf.reduce_all(tf.math.is_finite(variable.read_value())))
            for name, variable in variables.items() if variable.dtype.is_floating}
