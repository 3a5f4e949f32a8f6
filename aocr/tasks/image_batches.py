"""Image files in batches, prepared as for a dataset; free of TensorFlow."""

import itertools
import logging
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import BinaryIO

from aocr.files import Unreachable, cause
from aocr.image_files import BadImage, Limits, StandardImage, read_image_file, standard_image
from aocr.prediction import FilePrediction, Reading

log = logging.getLogger(__name__)

QUEUED = 4  # batches of lines that wait at most
LONGEST_LINE = 1 << 16  # bytes; no path is as long


def read_chunks(chunks: Iterable[list[str]], limits: Limits,
                read: Callable[[list[bytes]], Sequence[Reading | BadImage]]) -> Iterator[FilePrediction]:
    """Reads image files; yields the text, or the problem, of each, in order.

    Args:
      chunks: lists of paths; each is loaded as a whole.
      limits: of images, and the background of transparent ones.
      read: returns the readings of images prepared by `standard_image`, or the problem with one, in its place.

    Raises: Unreachable if remote storage is down.
    """
    for chunk in chunks:
        results = [_load(path, limits) for path in chunk]
        for images in _groups(results, limits.max_pixels):
            for k, found in zip(images, read([results[k].content for k in images])):
                results[k] = found
        for path, found in zip(chunk, results):
            if isinstance(found, Reading):
                yield FilePrediction(path, found.text, found.confidence)
            else:
                yield FilePrediction(path, problem=_problem(found))


def _load(path, limits):
    """Returns an image file as a dataset would hold it, or what is wrong with it: OSError or BadImage."""
    try:
        image = standard_image(read_image_file(path), limits)
    except Unreachable:
        raise
    except (OSError, BadImage) as error:
        return error
    for kind, text in image.notes:
        log.warning("%s: %s: %s", path, kind, text)
    return image


def _problem(error):
    """Returns one line about a file that could not be read."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    return ": ".join(error.args) if isinstance(error, BadImage) else cause(error)


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


def chunks_of(items: Iterable[str], size: int) -> Iterator[list[str]]:
    """Yields lists of at most `size` paths."""
    items = iter(items)
    return iter(lambda: list(itertools.islice(items, size)), [])


def waiting_lines(lines: BinaryIO, size: int) -> Iterator[list[str]]:
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
