"""What a run keeps of its model: the last checkpoints and, below them, the best one."""

import contextlib
import dataclasses
import logging
import posixpath

import tensorflow.compat.v1 as tf

from aocr import checkpoint
from aocr.config import Decoding
from aocr.errors import UserError
from aocr.files import cause, make_directory
from aocr.training.graph import TrainingGraph
from aocr.training.reports import forget_history
from aocr.training.state import RunState

log = logging.getLogger(__name__)


class Keeper:
    """Writes the checkpoints of a run, each complete at once, and goes back to them."""

    def __init__(self, training: TrainingGraph, model_dir: str, description: checkpoint.Description,
                 newest: str | None):
        """
        Args:
          training: whose weights are saved.
          newest: path of the checkpoint that the run goes on from. None: with its first one a new model begins.
        """
        self._training, self._model_dir, self._description = training, model_dir, description
        with training.model.graph.as_default():
            self._saver, self._best_saver = (
                tf.train.Saver(training.model.variables, max_to_keep=count, save_relative_paths=True)
                for count in (training.config.keep, 1))
        self._best_dir = posixpath.join(model_dir, checkpoint.BEST_NAME)
        self._fresh = not newest
        self._fallen = False  # whether the run fell back to the newest
        self.newest = newest  # path of the newest checkpoint; None before the first

    def know_earlier(self) -> None:
        """Finds the checkpoints of earlier runs, which are dropped in their turn. UserError if unreadable.

        Of more than are to be kept, each one that is saved takes the place of one.
        """
        self._saver.recover_last_checkpoints(checkpoint.known_checkpoints(self._model_dir))
        self._best_saver.recover_last_checkpoints(checkpoint.known_checkpoints(self._best_dir))

    def save(self, state: RunState) -> None:
        """Writes a checkpoint with the run's state. UserError if that fails."""
        with self._writing():
            self._begin()
            if self.newest and checkpoint.step_of(self.newest) == self._training.step() and len(self.kept()) > 1:
                checkpoint.hide_checkpoint(self.newest)  # the only one is better replaced, by renaming, than hidden
            prefix = posixpath.join(self._model_dir, checkpoint.CHECKPOINT_PREFIX)
            self.newest = self._write(self._saver, prefix, state)
        self._fallen = False
        log.info("checkpoint %s", self.newest)

    def save_best(self, state: RunState) -> None:
        """Writes the best checkpoint with the run's state. UserError if that fails."""
        prefix = posixpath.join(self._best_dir, checkpoint.CHECKPOINT_PREFIX)
        path = f"{prefix}-{self._training.step()}"
        with self._writing():
            make_directory(self._best_dir)
            self._begin()
            if path in checkpoint.known_checkpoints(self._best_dir):
                checkpoint.hide_checkpoint(path)
            self._write(self._best_saver, prefix, state)

    def choose(self, decoding: Decoding) -> None:
        """Describes the model as one that reads by this decoding. UserError if that cannot be written."""
        if decoding == self._description.decoding:
            return
        self._description = dataclasses.replace(self._description, decoding=decoding)
        with self._writing():
            if not self._fresh:
                checkpoint.write_description(self._model_dir, self._description)

    def kept(self) -> list[str]:
        """Paths of the run's checkpoints that there are, the oldest first. UserError if unreadable."""
        return checkpoint.known_checkpoints(self._model_dir) if self.newest else []

    def fall_back(self, kept: list[str], first_step: int) -> None:
        """Restores the newest of the checkpoints that there are (`kept`, at least one), or the one before if the run
        fell back to the newest already, since that may have been spoilt; but none from before `first_step`. Those after
        it are given up.

        UserError if it cannot be restored.
        """
        if self._fallen and len(kept) > 1 and checkpoint.step_of(kept[-2]) >= first_step:
            kept = kept[:-1]
        self._fallen, self.newest = True, kept[-1]
        checkpoint.attempt(self._training.resume, self.newest)
        with self._writing():  # so that a run that is killed now goes on from it too
            checkpoint.keep_checkpoints(self._model_dir, kept)
        self.know_earlier()

    def _write(self, saver, prefix, state):
        """Writes the checkpoint `prefix`-STEP, complete at once, and drops the oldest ones. Returns its path."""
        self._training.state = state.to_json()
        with self._training.model.graph.as_default():
            return saver.save(self._training.session, prefix, global_step=self._training.train_ops.global_step)

    def _begin(self):
        """Begins a new model in the directory, unless that was done: no checkpoint of an earlier one is known any more,
        its description and history are new.
        """
        if not self._fresh:
            return
        # In this order, whenever a run is killed, no checkpoint is described by another model's description.
        checkpoint.forget_checkpoints(self._model_dir)
        checkpoint.forget_checkpoints(self._best_dir)
        checkpoint.write_description(self._model_dir, self._description)
        forget_history(self._model_dir)
        self._fresh = False

    @contextlib.contextmanager
    def _writing(self):
        try:
            yield
        except (tf.errors.OpError, OSError, SystemError) as error:
            raise UserError(f"{self._model_dir}: the checkpoint of step {self._training.step()} cannot be written: "
                            f"{cause(error)}; the one before it stays usable") from error
