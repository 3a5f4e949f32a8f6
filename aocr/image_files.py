"""Turns any image file into one that the network's decoder shows as people see it; datasets and `predict` use it.

Free of TensorFlow, so that worker processes start fast.
"""

import errno
import io
import os
import re
import stat
import struct
import warnings
from typing import NamedTuple, Protocol

from PIL import Image, UnidentifiedImageError

from aocr.colors import WHITE, rgb
from aocr.config import MOST_BYTES
from aocr.files import is_remote, read_bytes

ORIENTATION, SHORT = 0x0112, 3  # the EXIF tag, and the usual type of its value
EXIF_BYTES = 1 << 16  # the most of EXIF data that is looked at
EXIF_MARKS = {"JPEG": b"Exif\0\0", "MPO": b"Exif\0\0", "PNG": b"eXIf", "WEBP": b"EXIF"}  # EXIF data follows
TURNS = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
         5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
         8: Image.Transpose.ROTATE_90}
XMP_ORIENTATION = re.compile(rb'tiff:Orientation(="|>)[2-8]')
INTEGERS = ("I", "I;16", "I;16B", "I;16L", "I;16N")  # modes of more than 8 bits
WITH_ALPHA = ("RGBA", "LA", "PA", "RGBa", "La")
PNG_DEPTH = 24  # position of the bit depth in a PNG file
TIFF_BITS, TIFF_PHOTOMETRIC, WHITE_IS_ZERO = 258, 262, 0
LEAST_COLOUR = 64  # 16-bit colours whose upper bytes are all lower than this hold fewer bits
FRAMES = "more than one frame"


class BadImage(ValueError):
    """Raised for an unusable image file: `BadImage(kind, reason)`, as in rows.Rejected."""


class Limits(Protocol):
    """The options that matter here: a DatasetConfig or a ModelConfig."""

    @property
    def background(self) -> str | None:
        """Canonical colour behind transparent images; None: white."""

    @property
    def max_pixels(self) -> int:
        """Most pixels of an image."""


class StandardImage(NamedTuple):
    """An image file that TensorFlow decodes as displayed."""

    content: bytes  # the original file, or a PNG of the displayed image
    size: tuple[int, int]  # (width, height)
    kind: str  # format and mode of the original file, "PNG RGB"
    notes: tuple[tuple[str, str], ...]  # (kind, text) of what is left out


def read_image_file(path: str) -> bytes:
    """Returns the content of an image file of at most MOST_BYTES, local or remote.

    Raises: OSError, FileNotFoundError and Unreachable among others; FIFOs and devices are not opened.
    """
    try:
        if not is_remote(path):
            check_kind(path)
        return read_bytes(path, MOST_BYTES)
    except ValueError:  # a NUL byte or a lone surrogate
        raise OSError(errno.EINVAL, "path is not valid text", path) from None


def check_kind(path: str) -> None:
    """Raises OSError unless a local path is a regular file: reading others may block, never end or have effects."""
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "is a directory; name an image file", path)
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "is a device, pipe or socket; name an image file", path)


def standard_image(encoded: bytes, limits: Limits) -> StandardImage:
    """Returns an image file that TensorFlow decodes as displayed: the file itself, or a lossless PNG.

    Rewrites formats that TensorFlow does not support (TIFF and others) and files that it decodes differently: EXIF
    orientation, CMYK, a transparent colour in a PNG without palette, GIF, BMP (only partly supported), 16 bits of which
    fewer are used.

    Raises: BadImage.
    """
    if len(encoded) > MOST_BYTES:
        raise BadImage("unreadable image", f"{len(encoded)} bytes; the limit is {MOST_BYTES}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of large images; the limit below is stricter
            return _standard_image(encoded, limits)
    except BadImage:
        raise
    except UnidentifiedImageError:
        raise BadImage("unreadable image", "not a supported image (cannot identify its format); fix or replace the "
                                           "file") from None
    except Image.DecompressionBombError as error:
        raise BadImage("too many pixels", f"{error}; the limit is --max-pixels {limits.max_pixels}") from None
    except Exception as error:  # Pillow raises arbitrary exceptions for corrupt files
        message = str(error).splitlines()[0] if str(error) else type(error).__name__
        message = message.replace(" <_io.BytesIO", "").split(" object at ")[0]
        raise BadImage("unreadable image", f"{message}; fix or replace the file") from None


def _standard_image(encoded, limits):
    with Image.open(io.BytesIO(encoded)) as image:
        kind = f"{image.format} {image.mode}"
        check_readable(image, limits.max_pixels)
        if image.format == "PNG":
            image.verify()  # checks the checksums, after which the file must be reopened
    with Image.open(io.BytesIO(encoded)) as image:
        if image.format == "WEBP" and getattr(image, "is_animated", False):
            raise BadImage("unreadable image", "animated WebP; save a single frame")
        image.load()
        notes = _notes(image)
        _check_depth(image, encoded)
        background = limits.background or WHITE
        if _is_standard(image, encoded, background):
            return StandardImage(encoded, image.size, kind, notes)
        shown = _as_shown(image, background, TURNS.get(_orientation(image, encoded)))
        file = io.BytesIO()
        shown.save(file, "PNG")
        return StandardImage(file.getvalue(), shown.size, kind, notes)


def check_readable(image: Image.Image, most: int) -> None:
    """Raises BadImage for an image that must not be decoded: PostScript, or of more than `most` pixels or none."""
    if image.format == "EPS":
        raise BadImage("unreadable image", "PostScript is not executed; save the image as PNG")
    width, height = image.size
    if width * height > most:
        raise BadImage("too many pixels", f"{width} x {height}; the limit is --max-pixels {most}")
    if not width * height:
        raise BadImage("unreadable image", f"{width} x {height} pixels")


def _notes(image):
    """Notes of frames that are left out. The further ones of an MPO file are previews and depth maps of a camera."""
    if image.format == "MPO" or not getattr(image, "is_animated", False):
        return ()
    return ((FRAMES, "only the first page or frame is used; save the others as files of their own"),)


def _check_depth(image, encoded):
    """Raises BadImage for 16-bit colours whose upper bytes, all that Pillow keeps, hold next to nothing."""
    deep = (image.format == "PNG" and encoded[PNG_DEPTH] == 16
            or image.format == "TIFF" and max(image.tag_v2.get(TIFF_BITS, (8,))) == 16)
    if deep and image.mode == "RGB" and max(most for _, most in image.getextrema()) < LEAST_COLOUR:
        raise BadImage("unreadable image", "16-bit colours that use the lower bits only; save the image with 8 bits")


def _orientation(image, encoded):
    """Returns the orientation of a loaded image, 1 if there is none or it cannot be read, as viewers do.

    The network's decoder knows none but that of `exif_orientation`.
    """
    turned = exif_orientation(encoded, image.format)
    if turned != 1:
        return turned
    try:
        return image.getexif().get(ORIENTATION, 1)
    except Exception:  # Pillow raises arbitrary exceptions for corrupt metadata
        return 1


def exif_orientation(encoded: bytes, kind: str) -> int:
    """Returns the EXIF orientation, 1 to 8, of a JPEG, PNG or WebP file as the network's decoder finds it (headers.py).

    `kind`: the format's name in Pillow; 1 for others.
    """
    mark = EXIF_MARKS.get(kind, b"")
    place = encoded.find(mark) if mark else -1
    if place < 0 or kind == "WEBP" and encoded[15:16] != b"X":
        return 1
    data = encoded[place + len(mark):place + len(mark) + EXIF_BYTES]
    if kind == "WEBP":  # the length of the chunk and, from some programs, a prefix as in JPEG files
        data = data[4:].removeprefix(b"Exif\0\0")
    order, data = "<" if data[:1] == b"I" else ">", data + bytes(16)
    start = min(struct.unpack_from(order + "I", data, 4)[0], len(data) - 2)
    count = min(struct.unpack_from(order + "H", data, start)[0], (len(data) - start - 2) // 12)
    found = 1
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind_of_value = struct.unpack_from(order + "HH", data, entry)
        value, = struct.unpack_from(order + ("H" if kind_of_value == SHORT else "I"), data, entry + 8)
        if tag == ORIENTATION and value in TURNS:
            found = max(found, value)
    return found


def _is_standard(image, encoded, background):
    """Returns whether TensorFlow decodes the file of a loaded image as displayed."""
    if _orientation(image, encoded) != 1 or XMP_ORIENTATION.search(encoded):
        return False
    if image.format in ("JPEG", "MPO"):
        return image.mode in ("L", "RGB")
    if image.format == "PNG":
        if image.mode in INTEGERS:
            return "transparency" not in image.info and _bits(image) == 16
        if image.mode in ("1", "L", "RGB") or image.mode == "P" and "transparency" not in image.info:
            return "transparency" not in image.info
        return background == WHITE  # what other readers of a dataset assume
    return image.format == "WEBP" and (image.mode == "RGB" or background == WHITE)


def _as_shown(image, background, turn):
    """Converts a loaded image to mode L or RGB, turned, composited on a background where transparent."""
    transparent = image.mode in WITH_ALPHA or "transparency" in image.info
    if image.mode in ("F", *INTEGERS):
        image = _to_eight_bits(image)
    elif transparent:
        grey = image.mode in ("L", "LA", "La", "1") and len(set(rgb(background))) == 1
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, background), image).convert("RGB")
        image = image.convert("L") if grey else image
    else:
        image = image.convert("L" if image.mode in ("1", "L") else "RGB")
    return image.transpose(turn) if turn is not None else image


def _bits(image):
    """Returns how many bits the values of an integer image take: 8, 10, 12, 14, 16 or any more. Cameras and scanners
    store such values in files of 16 and 32 bits. Raises BadImage for negative values."""
    least, most = image.getextrema()
    if least < 0:
        raise BadImage("unreadable image", f"pixels from {least} to {most}; save the image with 8 bits")
    bits = max(8, most.bit_length())
    return bits + bits % 2 if bits < 16 else bits


def _to_eight_bits(image):
    """Converts an image of one channel with integers of any size, or floats, to mode L."""
    if image.format == "TIFF" and image.tag_v2.get(TIFF_PHOTOMETRIC) == WHITE_IS_ZERO:
        raise BadImage("unreadable image", f"mode {image.mode} with 0 as white; save the image with 8 bits")
    if image.mode != "F":
        scale = 1 / (1 << _bits(image) - 8)
        return image.convert("I").point(lambda value: value * scale).convert("L")
    least, most = image.getextrema()
    if not 0 <= least < most <= 255:
        raise BadImage("unreadable image", f"floating point pixels from {least:g} to {most:g}, which is neither 0 to 1 "
                                           "nor 0 to 255; save the image with 8 bits")
    scale = 255 if most <= 1 else 1
    return image.point(lambda value: value * scale + 0.5).convert("L")
