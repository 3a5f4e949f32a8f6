"""What every input is read into: rows, and rows that are unusable. `formats` reads them."""

from typing import NamedTuple

STDIN = "-"
PATH_NAMES = ("image", "path", "file", "filename", "file_name", "image_path", "img_path", "filepath", "file_path",
              "image_name", "img_name", "image_file", "img")
LABEL_NAMES = ("label", "text", "words", "word", "transcription", "transcript", "ground_truth", "gt")


class Row(NamedTuple):
    """One annotated image, with its path, its bytes or both."""

    source: str  # file or directory that it was read from
    number: int  # line, file of a directory or item of a JSON document (from 1), or record (from 0)
    raw: bytes | None  # original row, to be written to --rejects; None for records
    label: str
    path: str | None = None
    image: bytes | None = None
    comment: str | None = None
    header: bytes | None = None  # header of its table, if any
    notes: tuple[tuple[str, str], ...] = ()  # (kind, text) of what makes the label doubtful


class Rejected(NamedTuple):
    """An unusable row."""

    source: str
    number: int
    raw: bytes | None
    kind: str  # short name of the problem, by which rows are counted
    reason: str  # with value and remedy
    header: bytes | None = None  # as in Row


class BadRow(ValueError):
    """Raised for an unusable row: `BadRow(kind, reason)`, as in Rejected."""


def decode(line: bytes) -> str:
    """Decodes UTF-8. Raises BadRow."""
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadRow("not UTF-8", f"byte 0x{line[error.start]:02x} at {error.start}; save the file as UTF-8") from None
