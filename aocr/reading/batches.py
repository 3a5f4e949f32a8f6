"""Reads a stream of images in order: files are decoded while others are read, in batches of similar width."""

import collections
import concurrent.futures
import itertools
import os
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import NamedTuple

from aocr.config import scaled_width
from aocr.image_files import StandardImage
from aocr.reading.images import Prepared, Source
from aocr.reading.results import ReadResult

WINDOW = 16  # batches whose images are sorted by width together; the first windows are smaller, for a soon first result
WINDOW_BYTES = 64 << 20  # of image files, after which a window ends early
AHEAD = 4  # batches that are decoded ahead
READERS = 2  # batches in the graph at once: a decoder's steps are too small for all cores


class Threads:
    """The threads of a reader: some decode files, some wait for the graph."""

    def __init__(self) -> None:
        pool = concurrent.futures.ThreadPoolExecutor
        self.decoding = pool(min(4, max(1, (os.cpu_count() or 1) // 2)), "aocr-decode")
        self.reading = pool(READERS, "aocr-read")

    def close(self) -> None:
        """Ends the threads after their current work."""
        self.decoding.shutdown(cancel_futures=True)
        self.reading.shutdown(cancel_futures=True)


class Work(NamedTuple):
    """What is done with a stream."""

    prepare: Callable[[Source], Prepared]
    read: Callable[[Sequence[StandardImage]], list[ReadResult]]  # of a batch
    batch_size: int
    max_pixels: int  # that are decoded at once


def read_in_order(parts: Iterable[list[Source]], work: Work,
                  threads: Threads) -> Generator[tuple[Prepared, ReadResult], None, None]:
    """Yields each image with its result, in order; problems are in the results.

    Args: parts: lists of at most `batch_size` images. A shorter one tells that no more are waiting: what came so far is
      then read, without waiting for a window to fill.

    Memory is bounded: at most three windows and AHEAD parts are held.
    """
    preparing: collections.deque[concurrent.futures.Future] = collections.deque()
    reading: collections.deque[_Window] = collections.deque()
    window = _Window(work, batches=1)

    def start():
        window.start(threads.reading)
        reading.append(window)
        return _Window(work, min(2 * window.batches, WINDOW))

    try:
        for part in itertools.chain(parts, [[]]):
            drained = len(part) < work.batch_size
            if part:
                preparing.append(threads.decoding.submit(_prepared, work.prepare, part))
            while preparing and (drained or len(preparing) > AHEAD):
                window.images += preparing.popleft().result()
                if window.is_full:
                    window = start()
            if drained and window.images:
                window = start()
            while reading and (drained or len(reading) > 1):
                yield from reading.popleft().results()
    finally:
        for future in (*preparing, *(future for one in reading for future in one.futures)):
            future.cancel()


def _prepared(prepare, items):
    return [prepare(item) for item in items]


class _Window:
    """Consecutive images, read in batches of similar width."""

    def __init__(self, work: Work, batches: int):
        self._work, self.batches = work, batches  # batches: most of them
        self.images: list[Prepared] = []
        self.futures: dict[concurrent.futures.Future, list[int]] = {}  # -> numbers of its images

    @property
    def is_full(self) -> bool:
        """Whether no image should be added."""
        total = sum(len(prepared.image.content) for prepared in self.images if prepared.image)
        return len(self.images) >= self.batches * self._work.batch_size or total >= WINDOW_BYTES

    def start(self, pool: concurrent.futures.Executor) -> None:
        """Begins to read."""
        for numbers in _batches(self.images, self._work):
            batch = [self.images[number].image for number in numbers]
            self.futures[pool.submit(self._work.read, batch)] = numbers

    def results(self) -> Iterable[tuple[Prepared, ReadResult]]:
        """Returns the images with their results, in order."""
        found = [ReadResult(error=prepared.problem) for prepared in self.images]
        for future, numbers in self.futures.items():
            for number, result in zip(numbers, future.result()):
                found[number] = result
        return zip(self.images, found)


def _batches(images, work):
    """Returns the numbers of images that are read together: of similar width, and of at most `max_pixels` in total, so
    that a batch of large images takes no more memory than one."""
    sizes = {number: prepared.image.size for number, prepared in enumerate(images) if prepared.image}
    found, total = [], 0
    for number in sorted(sizes, key=lambda number: scaled_width(*sizes[number])):
        pixels = sizes[number][0] * sizes[number][1]
        if not found or len(found[-1]) == work.batch_size or total + pixels > work.max_pixels:
            found.append([])
            total = 0
        found[-1].append(number)
        total += pixels
    return found

