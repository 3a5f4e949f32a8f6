"""TensorBoard's event files: records of `tf.Event`.

Written here and not by tf.summary.FileWriter, whose thread dies with a traceback when the disk is full.
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
FLUSH_SECONDS = 30.0  # after which what was added can be seen


class EventFile:
    """Events of one run. A failed write is logged once and does not end a training."""

    def __init__(self, directory: str, graph: tf.Graph, first_step: int):
        """`directory`: made if missing. `graph`: to show. `first_step`: the step before the run's first: points of
        later steps, by a run that was killed before it saved them, are forgotten.
        """
        self._writer, self._flushed = None, time.monotonic()
        name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}"
        with self._told():
            make_directory(directory)
            self._writer = tf.io.TFRecordWriter(posixpath.join(directory, name))
        self._add(file_version=FILE_VERSION)
        self._add(graph_def=graph.as_graph_def(add_shapes=True).SerializeToString())
        self._add(step=first_step + 1, session_log=tf.SessionLog(status=tf.SessionLog.START))

    def add(self, step: int, values: Iterable[tf.Summary.Value]) -> None:
        """Adds values of a step."""
        self._add(step=step, summary=tf.Summary(value=values))
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self.flush()

    def _add(self, **what):
        with self._told():
            if self._writer:
                self._writer.write(tf.Event(wall_time=time.time(), **what).SerializeToString())

    def flush(self) -> None:
        """Lets others see what was added."""
        self._flushed = time.monotonic()
        with self._told():
            if self._writer:
                self._writer.flush()

    def close(self) -> None:
        """Ends the file."""
        with self._told():
            if self._writer:
                self._writer.close()

    @contextlib.contextmanager
    def _told(self):
        try:
            yield
        except (OSError, tf.errors.OpError) as error:
            log.warning("no more TensorBoard events: they cannot be written: %s", cause(error))
            self._writer = None
