"""Reads image files for `aocr predict`, in order; free of TensorFlow."""

from collections.abc import Generator, Iterable
from typing import NamedTuple

from aocr.image_files import StandardImage
from aocr.reading.reader import Reader
from aocr.reading.results import ReadResult


class FileReading(NamedTuple):
    """What was read from a file."""

    path: str
    result: ReadResult
    image: StandardImage | None = None  # as the network got it; None if the file could not be read


def read_files(reader: Reader, parts: Iterable[list[str]]) -> Generator[FileReading, None, None]:
    """Reads image files, in order. `parts`: paths, as for `Reader.stream`. Raises: Unreachable if storage is down."""
    sources = ([reader.source(path, path) for path in part] for part in parts)
    for prepared, result in reader.stream(sources):
        yield FileReading(prepared.source.name, result, prepared.image)
