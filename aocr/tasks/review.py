"""The list of images that people should read: those that a model is unsure of, or could not read."""

import contextlib
import csv
import io
import os
import re
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from aocr.errors import UserError, usage_error
from aocr.files import cause, is_remote, os_errors, whole_file
from aocr.outputs import Kind, Output, check_outputs, start_of
from aocr.reading.results import ReadResult

COLUMNS = ("path", "text", "confidence", "error")  # `aocr dataset` reads the first two
DELIMITERS = {".csv": ",", ".tsv": "\t"}  # extension -> delimiter, as `aocr dataset` reads these files


class Review:
    """Collects the results below a confidence in a table that `aocr dataset` reads after its texts were corrected."""

    def __init__(self, file: BinaryIO, path: str, delimiter: str, least: float):
        """`path`: the file's, for errors. `least`: a result of at least this confidence is left out."""
        self._file, self._path, self._delimiter, self._least = file, path, delimiter, least
        self._write(COLUMNS)

    def add(self, path: str, result: ReadResult) -> None:
        """Adds a result, if it is unsure or an error."""
        if result.error is not None:
            self._write((path, "", "", result.error))
        elif result.confidence < self._least:
            self._write((path, result.text, f"{result.confidence:.6f}", ""))

    def _write(self, fields):
        if self._delimiter == "\t":  # read without quotes
            line = "\t".join(" ".join(re.split("[\t\n\r]", field)) for field in fields)
        else:
            text = io.StringIO()
            csv.writer(text, delimiter=self._delimiter, lineterminator="").writerow(fields)
            line = text.getvalue()
        # A path that is not UTF-8 stays as it is; `aocr dataset` tells that it cannot read it.
        with self._named():
            self._file.write(line.encode("utf-8", "surrogateescape") + b"\n")

    def flush(self) -> None:
        """Writes what is left. Raises: OSError, as `add`, with the file's path."""
        with self._named():
            self._file.flush()

    @contextlib.contextmanager
    def _named(self):
        try:
            yield
        except OSError as error:  # of an open file, which does not know its name
            raise OSError(error.errno, error.strerror, self._path) from None


def check_review(path: str, inputs: Iterable[str]) -> str:
    """Returns the delimiter of a review. UserError if the file may not be written, or its name tells no form."""
    delimiter = DELIMITERS.get(os.path.splitext(path)[1].lower())
    if not delimiter:
        raise usage_error(f"--review {path}: name a file with the extension .tsv or .csv, which `aocr dataset` reads")
    check_outputs([Output(path, REVIEW, "--review")], inputs)
    return delimiter


@contextlib.contextmanager
def review_in(path: str, delimiter: str, least: float) -> Iterator[Review]:
    """Yields a Review; its file appears when the block succeeds. UserError if it cannot be written."""
    try:
        with _tf_errors(path), whole_file(path) as part, _opened(part) as file:
            review = Review(file, path, delimiter, least)
            yield review
            review.flush()
    except OSError as error:
        if error.filename != path:
            raise
        raise UserError(f"--review {path}: cannot be written: {cause(error)}") from None


def _tf_errors(path):
    """Returns a context manager that makes errors of remote storage OSErrors."""
    return os_errors(path) if is_remote(path) else contextlib.nullcontext()


def _opened(path):
    """Opens a file to write to, local or remote."""
    if not is_remote(path):
        return open(path, "wb")
    import tensorflow.compat.v1 as tf

    return tf.io.gfile.GFile(path, "wb")


def _is_review(path):
    return any(start_of(path).startswith(delimiter.join(COLUMNS).encode() + b"\n") for delimiter in DELIMITERS.values())


REVIEW = Kind("a list of images to review", _is_review)
