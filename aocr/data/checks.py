"""Checks and normalizes rows before they become records: clean labels, images that every decoder reads alike.

Free of TensorFlow, so that worker processes start fast.
"""

import hashlib
import io
import os
import unicodedata
import warnings
from typing import NamedTuple

from PIL import Image, ImageColor, ImageOps

from aocr.charset import invisible_in
from aocr.config import LONGEST_LABEL, DatasetConfig
from aocr.data.rows import BadRow, Rejected, Row
from aocr.files import Unreachable, existing_form, is_remote, read_bytes

# Unicode categories not allowed in labels: control characters, line and paragraph separators, lone surrogates.
FORBIDDEN = ("Cc", "Zl", "Zp", "Cs")
SHOWN_LABEL = 80  # characters of a label in messages
BREAKS = ("\0", "\n", "\r")  # not allowed in paths: no file, or a row of several lines
ORIENTATION = 0x0112  # the EXIF tag
SIXTEEN_BITS = ("I", "I;16", "I;16B", "I;16L", "I;16N")
WITH_ALPHA = ("RGBA", "LA", "PA", "RGBa", "La")


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
        image, size, kind = standard_image(encoded, config)
        digests = hashlib.sha256(image).digest(), hashlib.sha256(label.encode()).digest()
        return Checked(row, label, image, size, kind, image is not encoded, digests, (*row.notes, *notes))
    except BadRow as error:
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
        content = read_bytes(path)
    except Unreachable:
        raise
    except FileNotFoundError:
        raise BadRow("missing image", f"no such file; tried {', '.join(places)}") from None
    except (OSError, ValueError) as error:  # ValueError: NUL byte in a path
        raise BadRow("unreadable image", getattr(error, "strerror", None) or str(error)) from None
    if not content:
        raise BadRow("unreadable image", "empty file")
    return content


def standard_image(encoded: bytes, config: DatasetConfig) -> tuple[bytes, tuple[int, int], str]:
    """Returns an image file that TensorFlow decodes as displayed: the file itself, or a lossless PNG.

    Rewrites formats that TensorFlow does not support (TIFF and others) and files that it decodes differently: EXIF
    orientation, CMYK, a transparent colour in a PNG without palette, GIF, BMP (only partly supported).

    Returns: (image file, (width, height), kind as in Checked). Raises BadRow.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of large images; the limit below is stricter
            with Image.open(io.BytesIO(encoded)) as image:
                kind = f"{image.format} {image.mode}"
                if image.format == "EPS":
                    raise BadRow("unreadable image", "PostScript is not executed; save the image as PNG")
                _check_size(image, config.max_pixels)
                if image.format == "PNG":
                    image.verify()  # checks the checksums, after which the file must be reopened
            with Image.open(io.BytesIO(encoded)) as image:
                if image.format == "WEBP" and getattr(image, "is_animated", False):
                    raise BadRow("unreadable image", "animated WebP; save a single frame")
                image.load()
                if _is_standard(image, config.background):
                    return encoded, image.size, kind
                image = _as_shown(image, config.background)
                file = io.BytesIO()
                image.save(file, "PNG")
                return file.getvalue(), image.size, kind
    except BadRow:
        raise
    except Image.DecompressionBombError as error:
        raise BadRow("too many pixels", f"{error}; the limit is --max-pixels {config.max_pixels}") from None
    except Exception as error:  # Pillow raises arbitrary exceptions for corrupt files
        message = str(error).splitlines()[0] if str(error) else type(error).__name__
        message = message.replace(" <_io.BytesIO", "").split(" object at ")[0]
        raise BadRow("unreadable image", f"{message}; fix the file or remove the row") from None


def _check_size(image, most):
    width, height = image.size
    if width * height > most:
        raise BadRow("too many pixels", f"{width} x {height}; the limit is --max-pixels {most}")
    if not width * height:
        raise BadRow("unreadable image", f"{width} x {height} pixels")


def _is_standard(image, background):
    """Returns whether TensorFlow decodes the file of a loaded image as displayed."""
    if image.getexif().get(ORIENTATION, 1) != 1:
        return False
    if image.format in ("JPEG", "MPO"):
        return image.mode in ("L", "RGB")
    if image.format == "PNG":
        plain = image.mode in ("1", "L", "RGB", *SIXTEEN_BITS)
        if plain or image.mode == "P" and "transparency" not in image.info:
            return "transparency" not in image.info
        return background == DatasetConfig.background  # the one that the network uses
    return image.format == "WEBP" and (image.mode == "RGB" or background == DatasetConfig.background)


def _as_shown(image, background):
    """Converts a loaded image to mode L or RGB, upright, composited on a background where transparent."""
    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise BadRow("unreadable image", "floating point pixels of unknown range; save the image with 8 bits")
    if image.mode in SIXTEEN_BITS:
        depth = 256 if image.getextrema()[1] > 255 else 1  # mode I holds 16-bit or 8-bit values
        return image.point(lambda value: value * (1 / depth)).convert("L")
    if image.mode in WITH_ALPHA or "transparency" in image.info:
        grey = image.mode in ("L", "LA", "La", "1")
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, ImageColor.getrgb(background))
        image = Image.alpha_composite(ground, image).convert("RGB")
        return image.convert("L") if grey else image
    return image.convert("L" if image.mode in ("1", "L") else "RGB")
