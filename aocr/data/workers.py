"""Checks rows on all cores, in order and in bounded memory."""

import collections
import concurrent.futures
import contextlib
import functools
import itertools
import os
from collections.abc import Generator, Iterator

import tensorflow.compat.v1 as tf

from aocr.config import DatasetConfig
from aocr.data.checks import Checked, check_chunk, fetch
from aocr.data.rows import Rejected, Row
from aocr.images import decode_image, problem_of
from aocr.processes import in_processes

CHUNK_ROWS = 64  # rows per worker task
FETCHED_TOGETHER = 32  # concurrent reads from remote storage, to hide its latency


def checked_rows(rows: Iterator[Row | Rejected],
                 config: DatasetConfig) -> Generator[Checked | Rejected, None, None]:
    """Checks rows, in order. Close it if it is not exhausted.

    Raises: UserError as `in_processes`; Unreachable if images are in remote storage that does not respond.
    """
    chunks = _fetched(iter(lambda: list(itertools.islice(rows, CHUNK_ROWS)), []), config)
    workers = config.workers or os.cpu_count() or 1
    checked = in_processes(functools.partial(check_chunk, config=config), chunks, workers)
    # In a thread, so that a chunk is decoded while the previous one is written.
    with (TensorFlowDecoder(config.max_pixels) as decoder, contextlib.closing(checked),
          concurrent.futures.ThreadPoolExecutor(1) as thread):
        decoded = collections.deque()
        for chunk in checked:
            decoded.append(thread.submit(decoder.reject_undecodable, chunk))
            if len(decoded) > 1:
                yield from decoded.popleft().result()
        while decoded:
            yield from decoded.popleft().result()


def _fetched(chunks, config):
    """Adds images from remote storage to chunks; done here, so that workers need no TensorFlow."""
    with concurrent.futures.ThreadPoolExecutor(FETCHED_TOGETHER) as pool:
        for chunk in chunks:
            yield list(pool.map(lambda row: fetch(row, config), chunk))


class TensorFlowDecoder:
    """The decoder of training and serving, the final check of an image."""

    def __init__(self, max_pixels: int):
        self._max_pixels = max_pixels

    def __enter__(self) -> "TensorFlowDecoder":
        graph = tf.Graph()
        with graph.as_default():
            self._encoded = tf.placeholder(tf.string, [None])
            self._sizes = tf.map_fn(
                lambda encoded: tf.shape(decode_image(encoded, self._max_pixels))[:2], self._encoded,
                fn_output_signature=tf.TensorSpec([2], tf.int32), parallel_iterations=os.cpu_count())
        self._session = tf.Session(graph=graph, config=tf.ConfigProto(device_count={"GPU": 0}))
        return self

    def __exit__(self, *_) -> None:
        self._session.close()

    def reject_undecodable(self, chunk: list[Checked | Rejected]) -> list[Checked | Rejected]:
        """Returns the chunk with a Rejected for each undecodable image."""
        images = [checked.image for checked in chunk if isinstance(checked, Checked)]
        try:
            self._session.run(self._sizes, {self._encoded: images})
            return chunk
        except tf.errors.InvalidArgumentError:
            return [self._reject_undecodable(checked) for checked in chunk]

    def _reject_undecodable(self, checked):
        if isinstance(checked, Rejected):
            return checked
        try:
            self._session.run(self._sizes, {self._encoded: [checked.image]})
            return checked
        except tf.errors.InvalidArgumentError as error:
            row = checked.row
            return Rejected(row.source, row.number, row.raw, "unreadable image",
                            f"{row.path or 'record'}: {problem_of(error)}; save the image again", row.header)
