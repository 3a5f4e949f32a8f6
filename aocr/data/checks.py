"""What a row must be to become a record: its label clean, its image one that everybody decodes alike.

No TensorFlow here, so that worker processes start fast.
"""

import hashlib
import io
import os
import unicodedata
import warnings
from typing import NamedTuple

from PIL import Image, ImageColor, ImageOps

from aocr.config import DatasetConfig
from aocr.data.rows import BadRow, Rejected, Row
from aocr.files import Unreachable, exists, is_remote, read_bytes

# Unicode categories that a label may not hold: control characters, ends of lines and paragraphs, halves of surrogates.
FORBIDDEN = ("Cc", "Zl", "Zp", "Cs")
ORIENTATION = 0x0112  # the EXIF tag
SIXTEEN_BITS = ("I", "I;16", "I;16B", "I;16L", "I;16N")
WITH_ALPHA = ("RGBA", "LA", "PA", "RGBa", "La")


class Checked(NamedTuple):
    """A row that can be used."""

    row: Row
    label: str
    image: bytes  # the file, or a PNG of what it shows
    size: tuple[int, int]  # (width, height)
    kind: str  # format and mode of the file as it came, "PNG RGB"
    rewritten: bool  # whether `image` is not the file as it came
    digests: tuple[bytes, bytes]  # SHA-256 of image and label
    notes: tuple[tuple[str, str], ...]  # (kind, text): what was changed, and is worth a line


def check_chunk(chunk: list[Row | Rejected], config: DatasetConfig) -> list[Checked | Rejected]:
    """`check` for each of some rows."""
    return [check(row, config) for row in chunk]


def check(row: Row | Rejected, config: DatasetConfig) -> Checked | Rejected:
    """Checks a row; a Rejected stays as it is.

    Raises: Unreachable if the image is in remote storage that does not answer.
    """
    if isinstance(row, Rejected):
        return row
    try:
        label, notes = clean_label(row.label, config)
        encoded = row.image if row.image is not None else _read(row, config)
        image, size, kind = standard_image(encoded, config)
        digests = hashlib.sha256(image).digest(), hashlib.sha256(label.encode()).digest()
        return Checked(row, label, image, size, kind, image is not encoded, digests, notes)
    except BadRow as error:
        return _rejected(row, error)


def _rejected(row, error):
    kind, reason = error.args
    reason = f"{row.path}: {reason}" if row.path else reason
    return Rejected(row.source, row.number, row.raw, kind, reason, row.header)


def clean_label(label: str, config: DatasetConfig) -> tuple[str, tuple[tuple[str, str], ...]]:
    """A label as it is stored, and notes as in Checked. Raises BadRow for what no text should hold."""
    notes = []
    for place, character in enumerate(label):
        if unicodedata.category(character) in FORBIDDEN:
            raise BadRow("control character", f"U+{ord(character):04X} at {place} of the label {label!r}; remove it")
    if label != label.strip():
        notes.append(("blank around the label", f"{label!r}; the blanks are left out"))
    label = _normalized(label, config)
    if config.force_uppercase:
        label = _normalized(label.upper(), config)  # some capitals come in pieces
    return label.strip(), tuple(notes)


def _normalized(label, config):
    return label if config.normalize == "none" else unicodedata.normalize(config.normalize, label)


def fetch(row: Row | Rejected, config: DatasetConfig) -> Row | Rejected:
    """A Row whose image may be in remote storage -> the same with the image's bytes, or Rejected; others as they are.

    Raises: as `check`.
    """
    if isinstance(row, Rejected) or row.image is not None or not any(map(is_remote, _places(row, config))):
        return row
    try:
        return row._replace(image=_read(row, config))
    except BadRow as error:
        return _rejected(row, error)


def _places(row, config):
    """Where a row's image may be. A relative path is one from the working directory, else from the folder of the file
    that names it, else from --image-root."""
    if os.path.isabs(row.path) or is_remote(row.path):
        return [row.path]
    folders = filter(None, (os.path.dirname(row.source), config.image_root))
    return [row.path, *(os.path.join(folder, row.path) for folder in folders)]


def _read(row, config):
    """The content of a row's image file."""
    places = _places(row, config)
    try:
        path = next((place for place in places if exists(place)), row.path) if places[1:] else row.path
        content = read_bytes(path)
    except Unreachable:
        raise
    except FileNotFoundError:
        raise BadRow("missing image", f"no such file; looked at {', '.join(places)}") from None
    except (OSError, ValueError) as error:  # ValueError: a zero byte in a path
        raise BadRow("unreadable image", getattr(error, "strerror", None) or str(error)) from None
    if not content:
        raise BadRow("unreadable image", "empty file")
    return content


def standard_image(encoded: bytes, config: DatasetConfig) -> tuple[bytes, tuple[int, int], str]:
    """An image file that TensorFlow decodes to what it shows: the file itself, or a PNG without loss.

    Rewritten are formats that TensorFlow does not know (TIFF and others), and what it reads otherwise: EXIF
    orientation, CMYK, a transparent colour of a PNG without palette, GIF, BMP (of which it knows some kinds only).

    Returns: (image file, (width, height), kind as in Checked). Raises BadRow.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own, of which the limit below is the stricter one
            with Image.open(io.BytesIO(encoded)) as image:
                kind = f"{image.format} {image.mode}"
                if image.format == "EPS":
                    raise BadRow("unreadable image", "PostScript, a program that is not run; save it as a PNG")
                _check_size(image, config.max_pixels)
                if image.format == "PNG":
                    image.verify()  # the checksums; the file must be opened anew then
            with Image.open(io.BytesIO(encoded)) as image:
                if image.format == "WEBP" and getattr(image, "is_animated", False):
                    raise BadRow("unreadable image", "an animated WebP; save one frame of it")
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
    except Exception as error:  # Pillow raises errors of any kind for files that are broken
        told = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadRow("unreadable image", f"{told.replace(' <_io.BytesIO', '').split(' object at ')[0]}; fix the file "
                                         "or remove the row") from None


def _check_size(image, most):
    width, height = image.size
    if width * height > most:
        raise BadRow("too many pixels", f"{width} x {height}; the limit is --max-pixels {most}")
    if not width * height:
        raise BadRow("unreadable image", f"{width} x {height} pixels")


def _is_standard(image, background):
    """Whether TensorFlow decodes the file of a loaded image to what it shows."""
    if image.getexif().get(ORIENTATION, 1) != 1:
        return False
    if image.format in ("JPEG", "MPO"):
        return image.mode in ("L", "RGB")
    if image.format == "PNG":
        plain = image.mode in ("1", "L", "RGB", *SIXTEEN_BITS)
        if plain or image.mode == "P" and "transparency" not in image.info:
            return "transparency" not in image.info
        return background == DatasetConfig.background  # the network's own
    return image.format == "WEBP" and (image.mode == "RGB" or background == DatasetConfig.background)


def _as_shown(image, background):
    """A loaded image -> mode L or RGB, upright, laid on a background where it is transparent."""
    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise BadRow("unreadable image", "pixels are floating point numbers, whose range nobody knows; save 8 bits")
    if image.mode in SIXTEEN_BITS:
        depth = 256 if image.getextrema()[1] > 255 else 1  # mode I is 16 bits cut or 8 bits wide
        return image.point(lambda value: value * (1 / depth)).convert("L")
    if image.mode in WITH_ALPHA or "transparency" in image.info:
        grey = image.mode in ("L", "LA", "La", "1")
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, ImageColor.getrgb(background))
        image = Image.alpha_composite(ground, image).convert("RGB")
        return image.convert("L") if grey else image
    return image.convert("L" if image.mode in ("1", "L") else "RGB")
