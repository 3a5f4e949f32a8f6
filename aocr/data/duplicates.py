"""Finds images that come twice with different labels, in memory that does not grow with the rows."""

import contextlib
import tempfile
from collections.abc import Iterator

import numpy as np

PARTITIONS = 64  # files that the rows are spread over, by their images' hashes
ENTRY = np.dtype([("image", "<u8"), ("label", "<u8"), ("source", "<u4"), ("number", "<u8")])


class Duplicates:
    """Remembers rows on disk, 28 bytes each. A context, at the end of which they are forgotten."""

    def __enter__(self) -> "Duplicates":
        with contextlib.ExitStack() as stack:
            self._files = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(PARTITIONS)]
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_) -> None:
        self._stack.close()

    def add(self, image: bytes, label: bytes, source: int, number: int) -> None:
        """Adds a row: digests of its image and its label, of 9 bytes or more; numbers that say where it comes from."""
        entry = np.array((int.from_bytes(image[:8], "big"), int.from_bytes(label[:8], "big"), source, number), ENTRY)
        self._files[image[8] % PARTITIONS].write(entry.tobytes())

    def copies(self) -> int:
        """How many rows have an image that an earlier one has."""
        return sum(len(rows) - len(np.unique(rows["image"])) for rows in self._partitions())

    def _partitions(self):
        for file in self._files:
            file.seek(0)
            rows = np.frombuffer(file.read(), ENTRY)
            yield rows[np.argsort(rows["image"], kind="stable")]

    def conflicts(self) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
        """Yields ((source, number), (source, number)): a row, and the first one with its image but another label."""
        for rows in self._partitions():
            first = np.searchsorted(rows["image"], rows["image"])  # the place of the first row with each one's image
            for k in np.flatnonzero(rows["label"] != rows["label"][first]):
                row, other = rows[k], rows[first[k]]
                yield (int(row["source"]), int(row["number"])), (int(other["source"]), int(other["number"]))
