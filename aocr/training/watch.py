"""Notices that a dataset changes while a run reads it."""

import contextlib
import logging
import time
from collections.abc import Iterator

import tensorflow.compat.v1 as tf

from aocr.charset import Charset, UnknownCharacter
from aocr.data.records import damage
from aocr.data.scanning import FINGERPRINT_BYTES, DatasetStatistics, fingerprint, labels_in, stamp_of
from aocr.errors import UserError
from aocr.files import cause, storage_problem
from aocr.graph.text import UNKNOWN

log = logging.getLogger(__name__)

SELDOM = 1000  # least time between two looks, in times that a look takes: remote files need a request each
# Raised by reading a file that was replaced, cut or removed.
FAULTS = (tf.errors.DataLossError, tf.errors.NotFoundError, tf.errors.InvalidArgumentError, tf.errors.UnknownError,
          tf.errors.FailedPreconditionError, tf.errors.PermissionDeniedError)
REMEDY = "start again to use it as it is now, or restore it"


class Watch:
    """The files of a dataset, as they were when it was scanned."""

    def __init__(self, scan: DatasetStatistics, charset: Charset | None = None):
        """`charset`: the one that all labels are in; None if they may hold other characters."""
        self._scan, self._charset = scan, charset
        self._prints = dict(scan.prints)
        self._took, self._ended = 0.0, 0.0  # seconds of the last look; when it ended

    def change(self) -> str | None:
        """Returns what changed since the scan, in a line that begins with the file; None if nothing did."""
        began = time.monotonic()
        found = next(filter(None, map(self._change_of, list(self._prints))), None)
        self._ended = time.monotonic()
        self._took = self._ended - began
        return found

    def check(self, *, seldom: bool = False) -> None:
        """Raises UserError if the dataset changed since the scan. `seldom`: does nothing soon after the last look."""
        if seldom and time.monotonic() - self._ended < SELDOM * self._took:
            return
        if change := self.change():
            raise UserError(f"{change} while it was in use; {REMEDY}")

    @contextlib.contextmanager
    def explaining(self) -> Iterator[None]:
        """Converts the errors of TensorFlow that the dataset caused within a block to UserError."""
        try:
            yield
        except tf.errors.OpError as error:
            damaged = damage(self._scan.path, error)
            if storage_problem(error) or not (damaged or isinstance(error, FAULTS)):  # reported as it is
                raise
            if UNKNOWN in str(error) and (problem := self._unknown()):
                raise UserError(f"{problem}; the dataset changed while it was in use: {REMEDY}") from None
            self.check()
            if damaged:
                raise damaged from None
            raise

    def _change_of(self, file):
        stamp, content = self._prints[file]
        try:
            now = stamp_of(file)
            if now == stamp:
                return None
            same = fingerprint(file) == content
        except (OSError, tf.errors.OpError) as error:
            return f"{file}: became unreadable ({cause(error)})"
        if not same:
            return f"{file}: changed, from {stamp[0]} to {now[0]} bytes,"
        if now[0] > 2 * FINGERPRINT_BYTES:
            log.warning("%s: written again while it is in use; only its length, start and end are known to be the same",
                        file)
        self._prints[file] = self._prints[file]._replace(stamp=now)
        return None

    def _unknown(self):
        """Returns a line on the first label with a character that the charset lacks; None if there is none."""
        with contextlib.suppress(UserError, OSError, tf.errors.OpError):  # the search is only for the message
            for file, start in zip(self._scan.files, self._scan.starts):
                for number, label in enumerate(labels_in(file), start):
                    if number not in self._scan.unreadable and (problem := _problem(label, self._charset)):
                        return f"{file}: record {number}: {problem}"
        return None


class TrainingWatch(Watch):
    """Watches training data, of which a run with a cache needs the files only until it has read all images."""

    def __init__(self, scan: DatasetStatistics, charset: Charset, cached: bool):
        super().__init__(scan, charset)
        self._cached, self._first_epoch = cached, -1
        self._in_memory = False
        self.sampled = False  # whether the images for batch norm statistics are in memory, which are read separately
        self.changed = False  # after the images were in memory

    def look(self, epoch: int, *, seldom: bool = False) -> None:
        """As `check`, in this epoch. Once the images are in memory, a change is only logged."""
        if self._first_epoch < 0:
            self._first_epoch = epoch
        if not self._in_memory:
            complete = self._cached and self.sampled and epoch > self._first_epoch
            self.check(seldom=seldom and not complete)
            self._in_memory = complete
        elif not seldom and not self.changed and (change := self.change()):
            self.changed = True
            log.warning("%s while it is in use; the run continues with the images in memory", change)


def _problem(label, charset):
    """Returns what is wrong with a label (bytes); None if nothing is."""
    try:
        charset.encode(label.decode())
    except UnicodeDecodeError as error:
        return f"the label is not UTF-8: byte 0x{label[error.start]:02x} at {error.start}"
    except UnknownCharacter as error:
        return f"label {label.decode()!r}: {error}"
    return None
