"""Checks and normalizes rows before they become records: clean labels, images that every decoder reads alike.

Free of TensorFlow, so that worker processes start fast.
"""

import hashlib
import os
import unicodedata
from typing import NamedTuple

from aocr.charset import invisible_in
from aocr.config import LONGEST_LABEL, DatasetConfig
from aocr.data.rows import BadRow, Rejected, Row
from aocr.files import Unreachable, existing_form, is_remote
from aocr.image_files import BadImage, read_image_file, standard_image

# Unicode categories not allowed in labels: control characters, line and paragraph separators, lone surrogates.
FORBIDDEN = ("Cc", "Zl", "Zp", "Cs")
SHOWN_LABEL = 80  # characters of a label in messages
BREAKS = ("\0", "\n", "\r")  # not allowed in paths: no file, or a row of several lines


class Checked(NamedTuple):
    """A usable row."""

    row: Row
    label: str
    image: bytes  # the original file, or a PNG of the displayed image
    size: tuple[int, int]  # (width, height)
    kind: str  # format and mode of the original file, "PNG RGB"
    rewritten: bool  # whether `image` differs from the original file
    digests: tuple[bytes, bytes]  # SHA-256 of image and label
    notes: tuple[tuple[str, str], ...]  # (kind, text) of changes worth a warning


def check_chunk(chunk: list[Row | Rejected], config: DatasetConfig) -> list[Checked | Rejected]:
    """Applies `check` to each row."""
    return [check(row, config) for row in chunk]


def check(row: Row | Rejected, config: DatasetConfig) -> Checked | Rejected:
    """Checks a row; returns a Rejected unchanged.

    Raises: Unreachable if the image is in remote storage that does not respond.
    """
    if isinstance(row, Rejected):
        return row
    try:
        label, notes = clean_label(row.label, config)
        encoded = row.image if row.image is not None else _read(row, config)
        image, size, kind, left_out = standard_image(encoded, config)
        digests = hashlib.sha256(image).digest(), hashlib.sha256(label.encode()).digest()
        notes += tuple((what, f"{row.path}: {text}" if row.path else text) for what, text in left_out)
        return Checked(row, label, image, size, kind, image is not encoded, digests, (*row.notes, *notes))
    except (BadRow, BadImage) as error:
        return _rejected(row, error)


def _rejected(row, error):
    kind, reason = error.args
    reason = f"{row.path}: {reason}" if row.path else reason
    return Rejected(row.source, row.number, row.raw, kind, reason, row.header)


def clean_label(label: str, config: DatasetConfig) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Returns the label as stored, and notes as in Checked. Raises BadRow for forbidden characters."""
    notes = []
    if label != label.strip():
        notes.append(("whitespace around the label", f"{_start_of(label)}; stripped"))
        label = label.strip()
    for place, character in enumerate(label):
        if unicodedata.category(character) in FORBIDDEN:
            raise BadRow("control character",
                         f"U+{ord(character):04X} at position {place} of the label {_start_of(label)}; remove it")
    label = _normalized(label, config)
    if config.force_uppercase:
        label = _normalized(label.upper(), config)  # upper-casing can decompose characters
    label = label.strip()
    if len(label) > LONGEST_LABEL:
        raise BadRow("label too long", f"{len(label)} characters, {_start_of(label)}; the limit is {LONGEST_LABEL}")
    if unseen := invisible_in(label):
        notes.append(("invisible character",
                      f"{', '.join(unseen)} in the label {_start_of(label)}; remove it unless it belongs there"))
    return label, tuple(notes)


def _start_of(label):
    """Formats a label for messages, cut if it is long."""
    return repr(label if len(label) <= SHOWN_LABEL else label[:SHOWN_LABEL] + "...")


def _normalized(label, config):
    return label if config.normalize == "none" else unicodedata.normalize(config.normalize, label)


def fetch(row: Row | Rejected, config: DatasetConfig) -> Row | Rejected:
    """Adds the image's bytes to a Row whose image may be in remote storage; returns other rows unchanged.

    Returns Rejected if the image cannot be read. Raises: as `check`.
    """
    if isinstance(row, Rejected) or row.image is not None or not any(map(is_remote, _places(row, config))):
        return row
    try:
        return row._replace(image=_read(row, config))
    except BadRow as error:
        return _rejected(row, error)


def _places(row, config):
    """Returns candidate paths of a row's image: relative ones are resolved against the working directory, the
    annotation file's directory and --image-root, in this order."""
    if os.path.isabs(row.path) or is_remote(row.path):
        return [row.path]
    folders = filter(None, (os.path.dirname(row.source), config.image_root))
    return [row.path, *(os.path.join(folder, row.path) for folder in folders)]


def _read(row, config):
    """Returns the content of a row's image file. Raises BadRow and Unreachable."""
    if any(character in row.path for character in BREAKS):
        raise BadRow("unreadable image", "a zero or a line break in the path; rename the file or fix the row")
    places = _places(row, config)
    try:
        several = places[1:] or not is_remote(row.path)
        path = next(filter(None, map(existing_form, places)), row.path) if several else row.path
        content = read_image_file(path)
    except Unreachable:
        raise
    except FileNotFoundError:
        raise BadRow("missing image", f"no such file; tried {', '.join(places)}") from None
    except (OSError, ValueError) as error:  # ValueError: NUL byte in a path
        raise BadRow("unreadable image", getattr(error, "strerror", None) or str(error)) from None
    if not content:
        raise BadRow("unreadable image", "empty file")
    return content
