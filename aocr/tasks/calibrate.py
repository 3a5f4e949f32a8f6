"""Calibrates a model: fits the temperature of its probabilities to a dataset."""

import logging
from typing import NamedTuple

import tensorflow.compat.v1 as tf
from tqdm import tqdm

from aocr.calibration import LEAST, MOST, UNCALIBRATED, calibrated
from aocr.checkpoint import (
    DESCRIPTION_NAME,
    Trained,
    find_model,
    latest_checkpoint,
    read_description,
    set_temperature,
)
from aocr.config import CalibrateConfig
from aocr.data import scanning
from aocr.data.background import warn_of_other_background
from aocr.data.pipeline import Source
from aocr.data.records import reading
from aocr.errors import UserError
from aocr.evaluation.reliability import Reliability
from aocr.evaluation.temperature import fit_temperature, negative_log_likelihood
from aocr.files import cause
from aocr.metrics import normalized

log = logging.getLogger(__name__)

FEW = 100  # samples; fewer are hardly enough
AT_LIMIT = 1.01  # factor within which a temperature counts as one of its limits


class Calibration(NamedTuple):
    """The outcome of a calibration, on the samples that it was fitted to."""

    decoding: str
    samples: int
    skipped: int  # records that cannot be read
    temperature: float
    calibration_error_before: float  # with the temperature 1
    calibration_error: float
    nll_before: float  # nats per text: see temperature.negative_log_likelihood
    nll: float


def calibrate(dataset: str, model_dir: str, config: CalibrateConfig, session_config: tf.ConfigProto) -> Calibration:
    """Fits the temperature of a directory's model to a dataset and stores it in the model's description.

    Raises: UserError if there is no model or it is the original's, if the dataset cannot be read or has no samples, or
      if the description cannot be written.
    """
    trained = _find(model_dir)
    scan = scanning.scan(dataset, max_pixels=trained.config.max_pixels)
    warn_of_other_background(scan, trained.config.background)
    probabilities, right = _read(scan, trained._replace(temperature=UNCALIBRATED), config, session_config)
    if len(right) < FEW:
        log.warning("%s: only %d samples; the temperature is reliable from about %d on", dataset, len(right), FEW)
    temperature = fit_temperature(probabilities, right)
    if not LEAST * AT_LIMIT < temperature < MOST / AT_LIMIT:
        log.warning("the temperature is at its limit, as %d of %d texts are right; give samples that the model reads "
                    "partly", sum(right), len(right))
    try:
        set_temperature(model_dir, temperature)
    except (tf.errors.OpError, OSError) as error:
        raise UserError(f"{model_dir}: {DESCRIPTION_NAME} cannot be written: {cause(error)}") from None
    return Calibration(trained.decoding.method, len(right), len(scan.unreadable), temperature,
                       _error(probabilities, right, UNCALIBRATED), _error(probabilities, right, temperature),
                       negative_log_likelihood(probabilities, right, UNCALIBRATED),
                       negative_log_likelihood(probabilities, right, temperature))


def _find(model_dir: str) -> Trained:
    if not read_description(model_dir) and latest_checkpoint(model_dir):
        raise UserError(f"{model_dir}: no {DESCRIPTION_NAME} to store a temperature in. A model of the original has "
                        "none: start a new model from it with `aocr train --init-from`")
    return find_model(model_dir, {})


def _read(scan, trained, config, session_config):
    """Returns the probability of each text, and whether it is right."""
    probabilities, right = [], []
    with trained.open(source=Source(scan, config.batch_size), session_config=session_config) as model, tqdm(
            desc="calibrate", total=scan.usable, unit=" images", disable=None) as bar, reading(scan.path):
        for prediction in model.read():
            probabilities.append(prediction.probability)
            right.append(normalized(prediction.text) == normalized(prediction.label))
            bar.update()
    return probabilities, right


def _error(probabilities, right, temperature):
    found = Reliability()
    for probability, exact in zip(probabilities, right):
        found.add_confidence(calibrated(probability, temperature), exact)
    return found.calibration_error
