"""The log file."""

import logging
import sys


class LogFile(logging.FileHandler):
    """Appends to a UTF-8 file. If that fails in the middle of the work, the work goes on without it."""

    def __init__(self, path: str):
        """Raises OSError or ValueError if the file cannot be opened."""
        # Logged file names need not be valid UTF-8.
        super().__init__(path, encoding="utf-8", errors="backslashreplace")
        self.failed = False
        self._name = path

    def emit(self, record: logging.LogRecord) -> None:
        """Writes a record, unless an earlier one could not be written."""
        if not self.failed:
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """Tells once that the file cannot be written."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
            return
        self.failed = True
        logging.getLogger(__name__).warning(
            "%s: the log cannot be written: %s; continuing without it", self._name, error.strerror or error)

    def close(self) -> None:
        """Closes the file, whether or not it can be written."""
        try:
            super().close()
        except OSError:
            self.failed = True
