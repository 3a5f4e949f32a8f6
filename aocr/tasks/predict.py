"""Predicts the texts of image files, in batches, and yields each result when it is ready."""

import itertools
import queue
import threading
from collections.abc import Iterable, Iterator
from typing import BinaryIO, NamedTuple

import tensorflow.compat.v1 as tf

from aocr.files import Unreachable, cause, read_bytes
from aocr.model import Model


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
    results = [_or_error(read_bytes, path) for path in paths]
    images = [k for k, content in enumerate(results) if isinstance(content, bytes)]
    if images:
        try:
            readings = model.predict([results[k] for k in images])
        except tf.errors.InvalidArgumentError:  # at least one is not an image: find out which
            readings = [_or_error(lambda k=k: model.predict([results[k]])[0]) for k in images]
        for k, reading in zip(images, readings):
            results[k] = reading
    return results


def _or_error(function, *args):
    try:
        return function(*args)
    except Unreachable:
        raise
    except (OSError, tf.errors.OpError) as error:
        return error


def _problem(error):
    """Returns one line about a file that could not be read."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, tf.errors.InvalidArgumentError):
        return "not a supported image (PNG, JPEG, GIF, BMP or WebP)"
    return cause(error)


def _chunks(items, size):
    items = iter(items)
    return iter(lambda: list(itertools.islice(items, size)), [])


def _waiting_lines(lines, size):
    """Yields chunks of the lines received so far, at most `size` each: no line waits for a batch to fill."""
    waiting, end = queue.Queue(), object()

    def collect():
        for line in lines:
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
