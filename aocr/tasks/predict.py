"""Predicts the texts of image files, in batches, and yields each result when it is ready."""

import itertools
import logging
import queue
import threading
from collections.abc import Iterable, Iterator
from typing import BinaryIO, NamedTuple

import tensorflow.compat.v1 as tf

from aocr.config import ModelConfig
from aocr.files import Unreachable, cause
from aocr.image_files import BadImage, StandardImage, read_image_file, standard_image
from aocr.images import problem_of
from aocr.model import Model

log = logging.getLogger(__name__)

QUEUED = 4  # batches of lines that wait at most
LONGEST_LINE = 1 << 16  # bytes; no path is as long

# An image that cannot be decoded, or that needs more memory than there is.
ONE_IMAGE = (tf.errors.InvalidArgumentError, tf.errors.ResourceExhaustedError)


class FilePrediction(NamedTuple):
    """The text read from a file, or the problem with it."""

    path: str
    text: str = ""
    probability: float = 0.0
    problem: str | None = None


def predict_files(model: Model, paths: Iterable[str], batch_size: int) -> Iterator[FilePrediction]:
    """Reads image files, in order, at most `batch_size` at once. Raises: Unreachable if remote storage is down."""
    return _predict(model, _chunks(paths, batch_size))


def predict_lines(model: Model, lines: BinaryIO, batch_size: int) -> Iterator[FilePrediction]:
    """Reads image files whose paths are lines of a stream, each as soon as it arrives."""
    return _predict(model, _waiting_lines(lines, batch_size))


def _predict(model, chunks):
    for chunk in chunks:
        for path, reading in zip(chunk, _read(model, chunk)):
            if isinstance(reading, Exception):
                yield FilePrediction(path, problem=_problem(reading))
            else:
                yield FilePrediction(path, *reading)


def _read(model, paths):
    """Returns (text, probability), or the exception, for each file."""
    results = [_or_error(_load, path, model.config) for path in paths]
    for images in _groups(results, model.config.max_pixels):
        files = [results[k].content for k in images]
        try:
            readings = model.predict(files)
        except ONE_IMAGE:  # find out which
            readings = [_or_error(lambda file=file: model.predict([file])[0]) for file in files]
        for k, reading in zip(images, readings):
            results[k] = reading
    return results


def _load(path: str, config: ModelConfig) -> StandardImage:
    """Returns an image file as a dataset would hold it. Raises OSError and BadImage."""
    image = standard_image(read_image_file(path), config)
    for kind, text in image.notes:
        log.warning("%s: %s: %s", path, kind, text)
    return image


def _groups(results, max_pixels):
    """Yields the indices of the StandardImages in groups that are decoded together: of at most `max_pixels` in total,
    so that a batch of large images takes no more memory than one."""
    group, total = [], 0
    for k, image in enumerate(results):
        if isinstance(image, StandardImage):
            pixels = image.size[0] * image.size[1]
            if group and total + pixels > max_pixels:
                yield group
                group, total = [], 0
            group.append(k)
            total += pixels
    if group:
        yield group


def _or_error(function, *args):
    try:
        return function(*args)
    except Unreachable:
        raise
    except (OSError, BadImage, tf.errors.OpError) as error:
        return error


def _problem(error):
    """Returns one line about a file that could not be read."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, BadImage):
        return ": ".join(error.args)
    if isinstance(error, tf.errors.InvalidArgumentError):
        return f"unreadable image: {problem_of(error)}"
    if isinstance(error, tf.errors.ResourceExhaustedError):
        return "not enough memory for this image; reduce its size"
    return cause(error)


def _chunks(items, size):
    items = iter(items)
    return iter(lambda: list(itertools.islice(items, size)), [])


def _waiting_lines(lines, size):
    """Yields chunks of the lines received so far, at most `size` each: no line waits for a batch to fill.

    A line is cut after LONGEST_LINE bytes, so that its path is one that does not exist.
    """
    waiting, end = queue.Queue(QUEUED * size), object()

    def collect():
        while line := lines.readline(LONGEST_LINE):
            part = line
            while part and not part.endswith(b"\n"):  # the rest of a longer line
                part = lines.readline(LONGEST_LINE)
            waiting.put(line)
        waiting.put(end)

    threading.Thread(target=collect, daemon=True).start()
    ended = False
    while not ended:
        chunk = [waiting.get()]
        while len(chunk) < size and not waiting.empty():
            chunk.append(waiting.get())
        ended = chunk[-1] is end
        paths = [line.decode(errors="surrogateescape").rstrip("\r\n") for line in chunk if line is not end]
        if paths := [path for path in paths if path]:
            yield paths
