"""Joins the images of waiting requests into runs of a graph."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from aocr.config import ServeConfig
from aocr.serving.models import Servable

WIDENED = 2.0  # no image of a run is padded to more than this times its width ...
NARROW = 64  # ... unless the run's width is at most this, in pixels at the network's height

log = logging.getLogger(__name__)


class Full(Exception):
    """Raised for images that the queue has no room for."""


class Item(NamedTuple):
    """An image that waits to be read."""

    servable: Servable
    signature: str
    image: bytes
    width: int  # pixels at the network's height
    pixels: int  # of the image file
    result: Future  # its row of each output: dict of arrays
    arrived: float  # monotonic, in seconds

    @property
    def kind(self) -> tuple[int, str]:
        """What images of one run have in common."""
        return id(self.servable), self.signature


class Batcher:
    """A bounded queue of images, and threads that read them in batches.

    An image waits at most `batch_timeout_ms` for others that are known to come, and for the runs before it.
    """

    def __init__(self, config: ServeConfig, observe: Callable[[int], Any]):
        """`observe`: is called with the number of images of each run."""
        self._config, self._observe = config, observe
        self._changed = threading.Condition()
        self._waiting: list[Item] = []
        self._admitted = 0  # images of requests in progress
        self._running = 0
        self._closed = False
        self._threads = [threading.Thread(target=self._work, name=f"run-{k}", daemon=True) for k in range(config.runs)]
        for thread in self._threads:
            thread.start()

    @property
    def load(self) -> int:
        """How many images wait, are being prepared or read."""
        return self._admitted

    @property
    def waiting(self) -> int:
        """How many images wait for a run."""
        return len(self._waiting)

    def admit(self, count: int) -> None:
        """Announces images. Raises: Full. Each `admit` needs its `release`."""
        with self._changed:
            if self._admitted + count > self._config.max_queue:
                raise Full
            self._admitted += count

    def release(self, count: int) -> None:
        """Takes back what `admit` announced, when its images are done."""
        with self._changed:
            self._admitted -= count
            self._changed.notify_all()

    def submit(self, items: Sequence[Item]) -> None:
        """Adds images to the queue."""
        with self._changed:
            self._waiting.extend(items)
            self._changed.notify_all()

    def close(self) -> None:
        """Ends the threads after their runs."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    # ---- the threads

    def _work(self):
        while batch := self._next():
            try:
                _run(batch, self._observe)
            finally:
                with self._changed:
                    self._running -= len(batch)
                del batch  # or it would keep a servable alive until the next one

    def _next(self):
        """Returns the items of the next run, [] when closed."""
        with self._changed:
            while True:
                self._waiting = [item for item in self._waiting if not item.result.cancelled()]
                wait = self._patience()
                if self._closed:
                    return []
                if wait is None or wait > 0:
                    self._changed.wait(wait)
                    continue
                batch = choose(self._waiting, self._config.max_batch)
                chosen = {id(item) for item in batch}
                self._waiting = [item for item in self._waiting if id(item) not in chosen]
                batch = [item for item in batch if item.result.set_running_or_notify_cancel()]
                if batch:
                    self._running += len(batch)
                    return batch

    def _patience(self):
        """Returns for how many seconds the oldest item may still wait; None if there is none."""
        if not self._waiting:
            return None
        coming = self._admitted - self._running - len(self._waiting)
        if coming <= 0 or len(self._waiting) >= self._config.max_batch:
            return 0.0
        return self._waiting[0].arrived + self._config.batch_timeout_ms / 1000 - time.monotonic()


def choose(waiting: Sequence[Item], most: int) -> list[Item]:
    """Returns the oldest item and those to read with it: at most `most`, of its kind, close to its width.

    Their pixels together are at most those of the largest image that is allowed, or else of the oldest item alone.
    """
    oldest = waiting[0]
    alike = sorted((item for item in waiting if item.kind == oldest.kind),
                   key=lambda item: (abs(item.width - oldest.width), item.arrived))
    chosen, pixels, narrowest, widest = [oldest], oldest.pixels, oldest.width, oldest.width
    for item in alike:
        if len(chosen) == most:
            break
        least, greatest = min(narrowest, item.width), max(widest, item.width)
        if item is oldest or greatest > max(WIDENED * least, NARROW):
            continue
        if pixels + item.pixels <= oldest.servable.limits.max_pixels:
            chosen.append(item)
            pixels, narrowest, widest = pixels + item.pixels, least, greatest
    return chosen


def _run(batch, observe):
    """Reads the items of a run and sets their results. If one fails, all are read on their own."""
    first = batch[0]
    try:
        observe(len(batch))
        outputs = first.servable.read(first.signature, [item.image for item in batch])
    except (tf.errors.InvalidArgumentError, tf.errors.ResourceExhaustedError) as error:
        if len(batch) == 1:
            first.result.set_exception(error)
            return
        for item in batch:
            _run([item], observe)
    except Exception as error:
        for item in batch:
            item.result.set_exception(error)
    else:
        for k, item in enumerate(batch):
            item.result.set_result({name: value[k] for name, value in outputs.items()})


def joined(rows: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Returns the outputs of several images, which may come from different runs: each padded to the longest."""
    return {name: _stack([_as_array(row[name]) for row in rows]) for name in rows[0]}


def _as_array(value):
    """Returns a string as an array of objects: NumPy's own type would cut the longer ones of a batch."""
    return np.array(value, object if isinstance(value, bytes) else None)


def _stack(values):
    shape = tuple(np.max([value.shape for value in values], axis=0)) if values[0].ndim else ()
    padding = b"" if values[0].dtype == object else 0
    stacked = np.full((len(values), *shape), padding, values[0].dtype)
    for k, value in enumerate(values):
        place = (k, *map(slice, value.shape))
        stacked[place] = value[()]  # of an array without dimensions, its element
    return stacked
