"""Files of sheets: which existing files they may replace."""

import io
import warnings

import numpy as np
from PIL import Image

from aocr.files import is_remote, read_bytes
from aocr.outputs import Kind

VARIANTS_GROUND, SAMPLES_GROUND = 96, 232  # levels of the ground of `augment`'s and `inspect`'s sheets


def is_sheet(path: str) -> bool:
    """Returns whether a file is a sheet of this program: a PNG with a first row of one of the grounds."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a picture beyond Pillow's limit is none of ours
            image = Image.open(io.BytesIO(read_bytes(path)) if is_remote(path) else path, formats=["PNG"])
        with image:
            row = np.asarray(image.convert("L").crop((0, 0, image.width, 1)))
            gray = image.mode in ("L", "RGB")
    except Exception:  # Pillow raises errors of any kind
        return False
    return gray and any((row == level).all() for level in (VARIANTS_GROUND, SAMPLES_GROUND))


SHEET = Kind("a sheet that aocr has drawn", is_sheet)
