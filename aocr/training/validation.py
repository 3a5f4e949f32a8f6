"""Validation of checkpoints, in single processes, chiefs and evaluators alike."""

import functools
import posixpath
from collections.abc import Callable
from typing import TYPE_CHECKING

import tensorflow.compat.v1 as tf
from tqdm import tqdm

from aocr import checkpoint
from aocr.charset import splitter
from aocr.checkpoint import Description
from aocr.config import ATTENTION, CTC, JOINT, Decoding, TrainConfig
from aocr.data.pipeline import Source
from aocr.data.scanning import DatasetStatistics
from aocr.errors import UserError
from aocr.evaluation import validations
from aocr.evaluation.measure import Measurement
from aocr.evaluation.validations import Validation, Validations
from aocr.files import cause
from aocr.model import open_model
from aocr.network import Network
from aocr.prediction import Prediction
from aocr.training.watch import Watch
from aocr.weights import read_weights

if TYPE_CHECKING:
    import numpy as np

BATCH_SIZE = 64
SHOWN = 4  # samples shown in TensorBoard after each validation
# Shares of CTC to try in joint decoding; ties go to the first.
CTC_SHARES = (0.5, 0.4, 0.6, 0.3, 0.7, 0.2)
TRIED = (*(Decoding(JOINT, share) for share in CTC_SHARES), Decoding(ATTENTION), Decoding(CTC))
# Limits of the training images that the decoding is chosen on without validation data: images, columns of pixels.
SAMPLE, SAMPLE_COLUMNS = 256, 32_768


class Validator:
    """Measures given weights and statistics on a dataset, under each decoding, in its own graph."""

    def __init__(self, scan: DatasetStatistics, description: Description, precision: str,
                 session_config: tf.ConfigProto | None):
        """`scan`: of the dataset. `description`: of the model. The rest as in Model."""
        self.scan, self._description = scan, description
        self.split = splitter(description.config.graphemes)  # text -> characters
        self._precision, self._session_config = precision, session_config
        self._watch = Watch(scan)

    @functools.cached_property
    def _model(self):
        """The Model, built at the first validation so that training starts sooner."""
        config = self._description.config
        return open_model(Network(config, self._description.charset), source=Source(self.scan, BATCH_SIZE),
                          decoding=Decoding(JOINT if config.ctc else ATTENTION), precision=self._precision,
                          session_config=self._session_config)

    @functools.cached_property
    def data(self) -> str:
        """Identifies the data; metrics are comparable only if it is equal."""
        return f"{self.scan.usable} records with the digest {self.scan.digest()}"

    def __enter__(self) -> "Validator":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Closes the session, if one was opened."""
        if "_model" in vars(self):
            self._model.session.close()

    def validate(self, weights: "dict[str, np.ndarray]",
                 stop: Callable[[], object]) -> tuple[Validation, list[Prediction]] | None:
        """Returns the outcome and the first SHOWN predictions; None once `stop()` is true.

        `weights`: by name, from `TrainingGraph.weights` or `read_weights`. Raises: UserError if the data changed.
        """
        self._watch.check()
        with self._watch.explaining():
            found = self._measure(weights, stop)
        self._watch.check()
        return found

    def _measure(self, weights, stop):
        self._model.load(weights)
        measured = Measurement(TRIED if self._description.config.ctc else [Decoding(ATTENTION)], self.split)
        shown: list[Prediction] = []
        with tqdm(desc="validate", total=self.scan.usable, unit=" images", disable=None, leave=False) as bar:
            for prediction in measured.measure(self._model.read()):
                if len(shown) < SHOWN:
                    shown.append(prediction)
                bar.update()
                if stop():
                    return None
        best = measured.best
        return Validation(measured.totals[best].metrics(), best), shown

    def drawn_steps(self, width: int, height: int) -> float:
        """Returns the encoder steps that an image of this size takes."""
        return self._model.network.drawn_steps(width, height)


class CheckpointValidator:
    """Validates checkpoints of one model directory, records the outcomes and keeps the best checkpoint."""

    def __init__(self, validator: Validator, model_dir: str, outcomes: Validations, path: str, config: TrainConfig):
        """`outcomes`: those of earlier checkpoints. `path`: of their file."""
        self.validator, self.outcomes = validator, outcomes
        self._model_dir, self._path, self._config = model_dir, path, config

    def validate(self, path: str, first_step: int, stop: Callable[[], object], report: Callable) -> bool:
        """Validates one checkpoint. Returns whether it finished; it does not once `stop()` is true.

        The outcome is recorded last, so that a validation cut short by a kill is repeated.

        Args:
          path: of the checkpoint. first_step: of its run.
          report: function of the step, the Validation, whether it is the best, the predictions shown, the Validator.

        Raises: UserError if the outcome cannot be written; tf.errors.NotFoundError if the checkpoint no longer exists.
        """
        found = self.validator.validate(read_weights(path), stop)
        if not found:
            return False
        validation, shown = found
        step, config = checkpoint.step_of(path), self._config
        best = self.outcomes.add(step, validation, config.monitor, self.validator.data, first_step=first_step,
                                 plateau=config.schedule == "plateau")
        report(step, validation, best, shown, self.validator)
        try:
            if best:
                checkpoint.copy_checkpoint(path, posixpath.join(self._model_dir, checkpoint.BEST_NAME))
                checkpoint.set_decoding(self._model_dir, validation.decoding)
            self.outcomes.write(self._path)
        except tf.errors.NotFoundError:
            raise
        except (OSError, tf.errors.OpError) as error:
            raise UserError(f"{self._model_dir}: the validation of step {step} cannot be written: {cause(error)}; fix "
                            "this and start the run again: its checkpoint is intact") from error
        return True


def read_outcomes(model_dir: str) -> Validations:
    """Returns the validations of a model directory. UserError if their file is damaged."""
    return Validations.read(posixpath.join(model_dir, validations.NAME))
