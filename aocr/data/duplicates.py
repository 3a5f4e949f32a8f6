"""Finds duplicate images with different labels; keeps the rows on disk to save memory."""

import contextlib
import tempfile
from collections.abc import Iterator

import numpy as np

from aocr.errors import UserError

PARTITIONS = 64  # files that the rows are spread over, by image hash
ENTRY = np.dtype([("image", "<u8"), ("label", "<u8"), ("source", "<u4"), ("number", "<u8")])


@contextlib.contextmanager
def _temporary_files():
    try:
        yield
    except OSError as error:
        raise UserError(f"temporary files cannot be written: {error.strerror}; free some space, or name another "
                        "directory in TMPDIR") from None


class Duplicates:
    """Stores rows on disk, 28 bytes each; a context manager that discards them on exit.

    Its methods raise UserError if there is no room for them.
    """

    def __enter__(self) -> "Duplicates":
        with _temporary_files(), contextlib.ExitStack() as stack:
            self._files = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(PARTITIONS)]
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_) -> None:
        with contextlib.suppress(OSError):  # rows that could not be written
            self._stack.close()

    def add(self, image: bytes, label: bytes, source: int, number: int) -> None:
        """Adds a row: digests of its image and label, 9 bytes or more each; numbers of its source and row."""
        entry = np.array((int.from_bytes(image[:8], "big"), int.from_bytes(label[:8], "big"), source, number), ENTRY)
        with _temporary_files():
            self._files[image[8] % PARTITIONS].write(entry.tobytes())

    def copies(self) -> int:
        """Returns the number of rows whose image occurred before."""
        return sum(len(rows) - len(np.unique(rows["image"])) for rows in self._partitions())

    def _partitions(self):
        for file in self._files:
            with _temporary_files():
                file.seek(0)
                rows = np.frombuffer(file.read(), ENTRY)
            yield rows[np.argsort(rows["image"], kind="stable")]

    def conflicts(self) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
        """Yields ((source, number), (source, number)): a row, and the first row of its image, whose label differs."""
        for rows in self._partitions():
            first = np.searchsorted(rows["image"], rows["image"])  # index of the first row of the same image
            for k in np.flatnonzero(rows["label"] != rows["label"][first]):
                row, other = rows[k], rows[first[k]]
                yield (int(row["source"]), int(row["number"])), (int(other["source"]), int(other["number"]))
