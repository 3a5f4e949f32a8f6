"""Tests a model: reads a dataset and computes metrics."""

import heapq
import logging
import math
import os
import time
from collections.abc import Container, Iterable, Iterator
from typing import NamedTuple

import tensorflow.compat.v1 as tf
from PIL import Image
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from aocr.charset import splitter
from aocr.checkpoint import Trained
from aocr.config import TestConfig
from aocr.data import scanning
from aocr.data.background import warn_of_other_background
from aocr.data.pipeline import Source
from aocr.errors import UserError
from aocr.evaluation.measure import Measurement
from aocr.evaluation.visualize import write_sample
from aocr.image_files import BadImage, standard_image
from aocr.metrics import accuracy
from aocr.prediction import Prediction

log = logging.getLogger(__name__)


class TestResult(NamedTuple):
    """The outcome of a test."""

    decoding: str
    samples: int
    skipped: int  # records that cannot be read
    metrics: dict[str, float]  # by names of metrics.METRICS
    seconds: float
    images_per_second: float


def test(dataset: str, trained: Trained, config: TestConfig, session_config: tf.ConfigProto) -> TestResult:
    """Tests a model: logs a line for each sample, writes pictures to config.output_dir.

    Raises: UserError if the dataset or the model cannot be read, or the package that splits graphemes is missing.
    """
    split = splitter(trained.config.graphemes)
    scan = scanning.scan(dataset, max_pixels=trained.config.max_pixels)
    warn_of_other_background(scan, trained.config.background)
    measurement = Measurement([trained.decoding], split, config.distance)
    totals = measurement.totals[trained.decoding]
    with trained.open(source=Source(scan, config.batch_size), precision=config.precision,
                      session_config=session_config) as model:
        started = time.monotonic()
        bar = tqdm(desc="test", total=scan.usable, unit=" images", disable=None)
        with bar, logging_redirect_tqdm([logging.getLogger("aocr")]):
            for prediction in measurement.measure(in_order(model.read(), scan.unreadable)):
                _report(prediction, split, totals, scan.usable, config)
                if config.visualize:
                    _draw(prediction, split(prediction.text), model, config.output_dir)
                bar.update()
        seconds = time.monotonic() - started
    squeezed = scan.wider_than(trained.config.canvas_width)
    log.info("%d images were wider than the canvas of %d pixels and squeezed to it", squeezed,
             trained.config.canvas_width)
    return TestResult(trained.decoding.method, totals.samples, len(scan.unreadable), totals.metrics(), seconds,
                      totals.samples / seconds)


def in_order(predictions: Iterable[Prediction], skipped: Container[int]) -> Iterator[Prediction]:
    """Yields predictions, which come sorted by width within windows, in the order of the records.

    `skipped`: numbers of the records without a prediction.
    """
    waiting, due = [], 0
    for prediction in predictions:
        heapq.heappush(waiting, (prediction.number, prediction))
        while due in skipped or (waiting and waiting[0][0] == due):
            if due not in skipped:
                yield heapq.heappop(waiting)[1]
            due += 1


def _draw(prediction, characters, model, output_dir):
    name = f"{prediction.number}-{os.path.basename(prediction.comment) or 'record'}"
    try:
        image = standard_image(prediction.encoded, model.config)
        write_sample(output_dir, name, image.content, characters, prediction.label, prediction.attention,
                     model.network.drawn_steps(*image.size))
    except (BadImage, OSError, Image.DecompressionBombError) as error:
        if isinstance(error, OSError) and error.errno:
            raise UserError(f"{error.filename or output_dir}: cannot be written: {error.strerror}; name another "
                            "--output-dir") from None
        # TensorFlow has decoded it; Pillow is stricter about some files.
        log.warning("record %d: cannot be drawn: %s", prediction.number, ": ".join(error.args))


def _report(prediction, split, totals, samples, config):
    text, label = prediction.text, prediction.label
    exact = "correct" if text == label else f"{text!r} instead of {label!r}"
    log.info("sample %d of %d (record %d): accuracy %.4f, so far %.4f, loss %.4f, perplexity %.3f, probability %.4f, "
             "%s", totals.samples, samples, prediction.number, accuracy(split(text), split(label), config.distance),
             totals.mean(totals.accuracy), prediction.loss, math.exp(min(prediction.loss, 300.0)),
             prediction.probability, exact)
