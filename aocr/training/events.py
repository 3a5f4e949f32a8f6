"""TensorBoard event files: TFRecords of `tf.Event`.

Used instead of tf.summary.FileWriter, whose thread dies with a traceback when the disk is full.
"""

import contextlib
import logging
import os
import posixpath
import socket
import time
from collections.abc import Iterable

import tensorflow.compat.v1 as tf

from aocr.files import cause, make_directory

log = logging.getLogger(__name__)

FILE_VERSION = "brain.Event:2"
FLUSH_SECONDS = 30.0  # least time between flushes by `add`


class EventFile:
    """The event file of one run. A failed write is logged once and does not end the run."""

    def __init__(self, directory: str, graph: tf.Graph, first_step: int):
        """`directory`: created if missing. `graph`: shown in TensorBoard. `first_step`: global step at the start;
        TensorBoard drops points of later steps, left by a run that was killed before it saved them.
        """
        self._writer, self._flushed = None, time.monotonic()
        name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}"
        with self._disable_on_error():
            make_directory(directory)
            self._writer = tf.io.TFRecordWriter(posixpath.join(directory, name))
        self._add(file_version=FILE_VERSION)
        self._add(graph_def=graph.as_graph_def(add_shapes=True).SerializeToString())
        self._add(step=first_step + 1, session_log=tf.SessionLog(status=tf.SessionLog.START))

    def add(self, step: int, values: Iterable[tf.Summary.Value]) -> None:
        """Adds the values of a step."""
        self._add(step=step, summary=tf.Summary(value=values))
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self.flush()

    def _add(self, **fields):
        with self._disable_on_error():
            if self._writer:
                self._writer.write(tf.Event(wall_time=time.time(), **fields).SerializeToString())

    def flush(self) -> None:
        """Makes all added events visible to readers."""
        self._flushed = time.monotonic()
        with self._disable_on_error():
            if self._writer:
                self._writer.flush()

    def close(self) -> None:
        """Closes the file."""
        with self._disable_on_error():
            if self._writer:
                self._writer.close()

    @contextlib.contextmanager
    def _disable_on_error(self):
        try:
            yield
        except (OSError, tf.errors.OpError) as error:
            log.warning("no further TensorBoard events: they cannot be written: %s", cause(error))
            self._writer = None
