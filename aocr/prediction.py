"""Reading image files: batches of paths in, lines out."""

import itertools
import logging
import queue
import sys
import threading

import tensorflow.compat.v1 as tf

from aocr.files import Unreachable, cause, read_bytes

log = logging.getLogger(__name__)


def predict_files(model, paths, batch_size, lines=None, out=None):
    """Reads image files and prints `path<TAB>probability<TAB>text` for each, in order.

    Args:
      model: Model. paths: list of str; empty: the lines of `lines`. batch_size: int, files read at once at the most.
      lines: binary stream of paths (default: standard input). out: text stream (default: standard output).

    Returns: whether every file could be read; each that could not is one line in the log.
    Raises: Unreachable if remote storage does not answer.
    """
    out = out or sys.stdout
    good = True
    for chunk in _chunks(paths, batch_size) if paths else _waiting_lines(lines or sys.stdin.buffer, batch_size):
        for path, reading in zip(chunk, _read(model, chunk)):
            if isinstance(reading, Exception):
                good = False
                log.error("%s: %s", path, _told(reading))
                continue
            text, probability = reading
            log.info("Result: OK. %.2f %s", probability, text)
            print(path, f"{probability:.6f}", text, sep="\t", file=out, flush=True)
    return good


def _read(model, paths):
    """(text, probability), or the exception, of each file."""
    results = [_or_error(read_bytes, path) for path in paths]
    images = [k for k, content in enumerate(results) if isinstance(content, bytes)]
    if images:
        try:
            readings = model.predict([results[k] for k in images])
        except tf.errors.InvalidArgumentError:  # one of them is no image: find out which
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


def _told(error):
    """One line about a file that could not be read."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, tf.errors.InvalidArgumentError):
        return "not an image that can be decoded (PNG, JPEG, GIF, BMP and WebP can)"
    return cause(error)


def _chunks(items, size):
    items = iter(items)
    return iter(lambda: list(itertools.islice(items, size)), [])


def _waiting_lines(lines, size):
    """Chunks of the lines that are there, at most `size` of them: nobody waits for an answer to fill a batch."""
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
