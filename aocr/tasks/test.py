"""Tests a model: reads a dataset, computes metrics, writes a report."""

import heapq
import logging
import math
import os
import time
from collections.abc import Callable, Container, Iterable, Iterator
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
from aocr.data.records import reading
from aocr.errors import UserError
from aocr.evaluation.analysis import Analysis, Sample, sample_of
from aocr.evaluation.report.writer import report_in
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
    metrics: dict[str, float]  # by names of analysis.FIGURES
    calibration: dict[str, float]  # as of Analysis.calibration
    seconds: float
    images_per_second: float


def test(dataset: str, trained: Trained, config: TestConfig, session_config: tf.ConfigProto,
         observe: Callable[[Sample], None] | None = None) -> TestResult:
    """Tests a model: logs a line for each sample, writes pictures to config.output_dir and a report to config.report.

    `observe`: called with each sample. Raises: UserError if the dataset or the model cannot be read, the report cannot
    be written, or a package is missing that splits graphemes or makes reports.
    """
    split, search = splitter(trained.config.graphemes), trained.search(config)
    scan = scanning.scan(dataset, max_pixels=trained.config.max_pixels)
    warn_of_other_background(scan, trained.config.background)
    analysis = Analysis(config.distance, trained.temperature)
    with report_in(config.report) as report, trained.open(
            source=Source(scan, config.batch_size), search=search, details=bool(config.report),
            precision=config.precision,
            session_config=session_config) as model:
        started = time.monotonic()
        bar = tqdm(desc="test", total=scan.usable, unit=" images", disable=None)
        with bar, logging_redirect_tqdm([logging.getLogger("aocr")]):
            for prediction in in_order(_read(model, dataset), scan.unreadable):
                sample = sample_of(prediction, split)
                analysis.add(sample)
                _log(sample, analysis.tally, scan.usable, config)
                if observe:
                    observe(sample)
                if report:
                    report.add(sample, prediction.encoded, prediction.attention, model.network.drawn_steps)
                if config.visualize:
                    _draw(prediction, split(prediction.text), model, config.output_dir)
                bar.update()
        result = _result(trained, scan, analysis, time.monotonic() - started)
        if report:
            report.finish(_facts(dataset, trained, result), result.metrics, analysis)
    squeezed = scan.wider_than(trained.config.canvas_width)
    log.info("%d images were wider than the canvas of %d pixels and squeezed to it", squeezed,
             trained.config.canvas_width)
    return result


def _read(model, dataset):
    with reading(dataset):
        yield from model.read()


def _result(trained, scan, analysis, seconds):
    samples = analysis.tally.samples
    return TestResult(trained.decoding.method, samples, len(scan.unreadable), analysis.tally.figures(),
                      analysis.calibration(), seconds, samples / seconds)


def _facts(dataset, trained, result):
    """Returns what a report says of a test, beside its metrics."""
    return dict(dataset=dataset, checkpoint=trained.checkpoint, decoding=result.decoding,
                graphemes=trained.config.graphemes, samples=result.samples, skipped=result.skipped,
                **result.calibration,
                seconds=round(result.seconds, 3), images_per_second=round(result.images_per_second, 1))


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


def _log(sample, tally, samples, config):
    text, label = "".join(sample.text), "".join(sample.label)
    exact = "correct" if sample.exact else f"{text!r} instead of {label!r}"
    log.info("sample %d of %d (record %d): accuracy %.4f, so far %.4f, loss %.4f, perplexity %.3f, probability %.4f, "
             "%s", tally.samples, samples, sample.record, accuracy(sample.text, sample.label, config.distance),
             tally.mean(tally.accuracy), sample.loss, math.exp(min(sample.loss, 300.0)), sample.confidence, exact)
