"""Predicts the texts of image files with a model, in batches, and yields each result when it is ready."""

from collections.abc import Iterable, Iterator
from typing import BinaryIO

import tensorflow.compat.v1 as tf

from aocr.image_files import BadImage
from aocr.images import problem_of
from aocr.model import Model
from aocr.prediction import FilePrediction, Reading
from aocr.tasks.image_batches import chunks_of, read_chunks, waiting_lines


def predict_files(model: Model, paths: Iterable[str], batch_size: int) -> Iterator[FilePrediction]:
    """Reads image files, in order, at most `batch_size` at once. Raises: Unreachable if remote storage is down."""
    return _predict(model, chunks_of(paths, batch_size))


def predict_lines(model: Model, lines: BinaryIO, batch_size: int) -> Iterator[FilePrediction]:
    """Reads image files whose paths are lines of a stream, each as soon as it arrives."""
    return _predict(model, waiting_lines(lines, batch_size))


def _predict(model, chunks):
    return read_chunks(chunks, model.config, lambda images: _read(model, images))


def _read(model, images):
    """Returns a Reading, or a BadImage, for each encoded image."""
    try:
        return [Reading(*found) for found in model.predict(images)]
    except tf.errors.InvalidArgumentError as error:
        problem = BadImage("unreadable image", problem_of(error))
    except tf.errors.ResourceExhaustedError:
        problem = BadImage("not enough memory for this image; reduce its size")
    return [problem] if len(images) == 1 else [found for image in images for found in _read(model, [image])]
