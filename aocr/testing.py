"""The test run: a model reads a dataset and is measured."""

import functools
import heapq
import io
import logging
import math
import os
import time
from collections.abc import Container, Iterable, Iterator
from typing import NamedTuple

import tensorflow.compat.v1 as tf
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from aocr.charset import splitter
from aocr.checkpoint import Trained
from aocr.config import TestConfig
from aocr.data import pipeline, scanning
from aocr.evaluation.metrics import Totals, accuracy
from aocr.evaluation.visualize import write_sample
from aocr.model import Prediction

log = logging.getLogger(__name__)


class TestResult(NamedTuple):
    """What a test found; shares are in [0, 1], metrics as in evaluation.metrics.Totals."""

    decoding: str
    samples: int
    skipped: int  # records that cannot be read
    exact_match: float
    accuracy: float
    cer: float
    wer: float
    mean_probability: float
    seconds: float
    images_per_second: float


def test(dataset: str, trained: Trained, config: TestConfig, session_config: tf.ConfigProto) -> TestResult:
    """Tests a model: a line for each sample to the log, pictures to config.output_dir.

    Raises: UserError if there is no such dataset, the model's files are broken, or the package for its characters is
      not installed.
    """
    split = splitter(trained.config.graphemes)
    found = scanning.scan(dataset)
    batches = functools.partial(pipeline.batches, found, batch_size=config.batch_size,
                                image_bytes=trained.config.image_bytes)
    with trained.open(batches=batches, precision=config.precision, session_config=session_config) as model:
        totals, started = Totals(use_distance=config.distance), time.monotonic()
        bar = tqdm(desc="test", total=found.usable, unit=" images", disable=None)
        with bar, logging_redirect_tqdm([logging.getLogger("aocr")]):
            for reading in in_order(model.read(), found.unreadable):
                _report(reading, split, totals, found.usable, config)
                if config.visualize:
                    _draw(reading, split(reading.text), model, config.output_dir)
                bar.update()
        seconds = time.monotonic() - started
    squeezed = found.wider_than(trained.config.canvas_width)
    log.info("%d images were wider than the canvas of %d and squeezed to it", squeezed, trained.config.canvas_width)
    return TestResult(trained.decoding.method, totals.samples, len(found.unreadable), totals.exact_match,
                      totals.accuracy, totals.cer, totals.wer, totals.mean_probability, seconds,
                      totals.samples / seconds)


def in_order(readings: Iterable[Prediction], skipped: Container[int]) -> Iterator[Prediction]:
    """Readings that come sorted by width in windows -> the same in the order of the records.

    `skipped`: numbers of the records that there is no reading of.
    """
    waiting, due = [], 0
    for reading in readings:
        heapq.heappush(waiting, (reading.number, reading))
        while due in skipped or (waiting and waiting[0][0] == due):
            if due not in skipped:
                yield heapq.heappop(waiting)[1]
            due += 1


def _draw(reading, characters, model, output_dir):
    name = f"{reading.number}-{os.path.basename(reading.comment) or 'record'}"
    try:
        with Image.open(io.BytesIO(reading.encoded)) as image:
            drawn_steps = model.network.drawn_steps(*image.size)
        write_sample(output_dir, name, reading.encoded, characters, reading.label, reading.attention, drawn_steps)
    except (UnidentifiedImageError, Image.DecompressionBombError) as error:
        # TensorFlow has decoded it; Pillow is stricter about some files.
        log.warning("record %d: no picture of it: %s", reading.number, error)


def _report(reading, split, totals, samples, config):
    text, label = split(reading.text), split(reading.label)
    totals.add(text, label, reading.probability)
    exact = "correct" if reading.text == reading.label else f"{reading.text!r} instead of {reading.label!r}"
    log.info("sample %d of %d (record %d): accuracy %.4f, so far %.4f, loss %.4f, perplexity %.3f, probability %.4f, "
             "%s", totals.samples, samples, reading.number, accuracy(text, label, config.distance),
             totals.accuracy, reading.loss, math.exp(min(reading.loss, 300.0)), reading.probability, exact)
