"""What can be read: paths, bytes, PIL images and arrays, all prepared as the files that `aocr dataset` stores."""

import io
import os
import sys
from collections.abc import Callable
from typing import NamedTuple

from PIL import Image

from aocr.files import Unreachable, cause
from aocr.image_files import (
    ORIENTATION,
    TURNS,
    BadImage,
    Limits,
    StandardImage,
    check_readable,
    read_image_file,
    standard_image,
)

PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")  # that a PNG file holds without loss
TIFF_MODES = ("I", "F", "CMYK", "YCbCr", "LAB")  # likewise, of those that are left
# Modes that no file has -> one that shows the same.
WITHOUT_LOSS = {"RGBa": "RGBA", "La": "LA", "PA": "RGBA", "HSV": "RGB", "RGBX": "RGB", "I;16B": "I", "I;16L": "I",
                "I;16N": "I"}
FASTEST = 1  # level of compression; the files are read once
CHANNELS = (1, 3, 4)


class Source(NamedTuple):
    """An image to read."""

    name: str  # for messages
    encoded: Callable[[], bytes]  # returns its file; raises OSError and BadImage


class Prepared(NamedTuple):
    """A source as the network gets it, or the problem with it."""

    source: Source
    image: StandardImage | None
    problem: str | None = None


def source_of(given: object, name: str, limits: Limits) -> Source:
    """Returns what to read: a path (str or os.PathLike), bytes of a file, a PIL image or an array.

    Images and arrays are copied, so that a caller may change them afterwards.

    Args: name: of an input without a path.
    Raises: TypeError for anything else.
    """
    if isinstance(given, (str, os.PathLike)):
        path = os.fspath(given)
        path = os.fsdecode(path) if isinstance(path, bytes) else path
        return Source(path, lambda: read_image_file(path))
    if isinstance(given, (bytes, bytearray, memoryview)):
        content = bytes(given)
        return Source(name, lambda: content)
    numpy = sys.modules.get("numpy")  # whoever has an array has imported it
    if numpy and isinstance(given, numpy.ndarray):
        array = given.copy()
        return Source(name, lambda: _encoded_array(array))
    if isinstance(given, Image.Image):
        return _of_picture(given, name, limits)
    raise TypeError(f"{name}: cannot read a {type(given).__name__}; give a path, bytes of an image file, a PIL image "
                    "or a NumPy array, or a list or an iterator of them")


def prepare(source: Source, limits: Limits) -> Prepared:
    """Returns a source as a dataset would hold it. Raises: Unreachable if remote storage does not respond."""
    try:
        return Prepared(source, standard_image(source.encoded(), limits))
    except Unreachable:
        raise
    except FileNotFoundError:
        return Prepared(source, None, "no such file")
    except BadImage as error:
        return Prepared(source, None, ": ".join(error.args))
    except OSError as error:
        return Prepared(source, None, cause(error))


def _of_picture(picture, name, limits):
    """Returns the Source of a PIL image, loaded here: a picture that is given twice cannot be loaded in two threads."""
    try:
        check_readable(picture, limits.max_pixels)
        copy = picture.copy()  # loads the picture, which turns a TIFF file and takes its orientation away
        turn = picture.getexif().get(ORIENTATION, 1)
    except BadImage as error:
        return _broken(name, error)
    except Exception as error:  # Pillow raises arbitrary exceptions for corrupt files
        return _broken(name, BadImage("unreadable image", str(error) or type(error).__name__))
    return Source(name, lambda: _encoded_picture(copy, turn))


def _broken(name, error):
    def fail():
        raise error

    return Source(name, fail)


def _encoded_picture(picture, turn):
    """Returns a file that holds a PIL image and its orientation without loss."""
    file = io.BytesIO()
    if picture.mode in WITHOUT_LOSS:
        picture = picture.convert(WITHOUT_LOSS[picture.mode])
    if picture.mode in PNG_MODES:
        exif = Image.Exif()
        if turn in TURNS:
            exif[ORIENTATION] = turn
        picture.save(file, "PNG", compress_level=FASTEST, exif=exif.tobytes() if turn in TURNS else b"")
    elif picture.mode in TIFF_MODES:
        turned = picture.transpose(TURNS[turn]) if turn in TURNS else picture
        turned.save(file, "TIFF")
    else:
        raise BadImage("unreadable image", f"a PIL image of mode {picture.mode}; convert it to RGB or L")
    return file.getvalue()


def _encoded_array(array):
    """Returns a PNG of an array. Raises BadImage if its shape, type or range is not that of an image."""
    shape = " x ".join(map(str, array.shape)) or "a single number"
    if array.ndim not in (2, 3) or array.ndim == 3 and array.shape[2] not in CHANNELS or not array.size:
        raise BadImage("not an image", f"an array of {shape}; give [height, width] or [height, width, 1, 3 or 4]")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    file = io.BytesIO()
    Image.fromarray(_as_bytes(array)).save(file, "PNG", compress_level=FASTEST)
    return file.getvalue()


def _as_bytes(array):
    """Converts an array of bool, uint8, or floats from 0 to 1 to contiguous uint8."""
    import numpy as np  # late: those who read files need none

    if array.dtype == bool:
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if not np.issubdtype(array.dtype, np.floating):
        raise BadImage("not an image", f"an array of {array.dtype}; give uint8, bool, or floats from 0 to 1")
    array = array.astype(np.promote_types(array.dtype, np.float32))
    least, most = array.min(), array.max()
    if not (least >= 0 and most <= 1):  # NaN too
        raise BadImage("not an image", f"floats from {least:g} to {most:g}; scale them to 0 to 1")
    return np.ascontiguousarray((array * 255.0 + 0.5).astype(np.uint8))
