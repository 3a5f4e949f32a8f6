"""Augmentation recipes for training images: presets, or from a file. `graph/augment.py` applies them."""

import dataclasses
import json

from aocr.config import AUGMENTED_RECORDS, AUTO_AUGMENTATION, NO_AUGMENTATION, Options, option
from aocr.errors import UserError
from aocr.files import load_json, read_bytes


@dataclasses.dataclass(frozen=True)
class Recipe(Options):
    """Strength of each operation. Values are drawn uniformly from their ranges; by default all are off.

    Pixels are those of the prepared image, 32 high; levels are those of an 8-bit image.
    """

    rotation: float = option(0.0, "maximum angle in degrees, either way; reduced for long and for narrow images",
                             flags=("rotation",), least=0, most=45)
    shear: float = option(0.0, "maximum slant of upright strokes in degrees, either way; reduced for narrow images",
                          flags=("shear",), least=0, most=45)
    perspective: float = option(0.0, "maximum shift of each corner as a fraction of the height, either way",
                                flags=("perspective",), least=0, most=0.2)
    elastic: float = option(0.0, "maximum shift of points inside the image in pixels, either way",
                            flags=("elastic",), least=0, most=2)
    blur: float = option(0.0, "maximum sigma of a Gaussian blur, in pixels", flags=("blur",), least=0, most=2)
    noise: float = option(0.0, "maximum sigma of Gaussian noise, in levels; reduced for low-contrast images",
                         flags=("noise",), least=0, most=40)
    contrast: float = option(0.0, "differences from the mean are scaled by 1 - value to 1 + value",
                             flags=("contrast",), least=0, most=0.7)
    brightness: float = option(0.0, "maximum shift in levels, either way; reduced where the image would saturate",
                               flags=("brightness",), least=0, most=128)
    invert: float = option(0.0, "probability of inverting light and dark", flags=("invert",), least=0, most=1)
    jpeg: int = option(100, "minimum JPEG quality, of 100; 100 disables JPEG compression",
                       flags=("jpeg",), least=5, most=100)

    @property
    def moves(self) -> bool:
        """Whether the recipe has geometric operations."""
        return bool(self.rotation or self.shear or self.perspective or self.elastic)

    def __str__(self) -> str:
        return ", ".join(f"{name} {value:g}" for name, value in dataclasses.asdict(self).items())


# Sources of the ranges:
# [K] kraken's augmentation of text lines (kraken/lib/dataset/augment.py, 2026): rotation 2 and shear 3 degrees, blur up
#     to a sigma of 1, noise of 0.04 of the range (10 levels), contrast 0.7 to 1.3.
# [A] ABINet's training augmentation (Fang et al., arXiv 2103.06495; its code): brightness and contrast 0.5, shear up
#     to 45 and 15 degrees.
# [S] STRAug (Atienza, arXiv 2108.06949; its code), the weakest of its three magnitudes: rotation up to 20 degrees,
#     perspective of 0.1 to 0.2 of the height at the top and bottom of one end, noise of 0.08 to 0.11 of the range (20
#     to 28 levels), JPEG quality 25; brightness 0.2 (51 levels) from the middle magnitude.
# [O] our choice: judged by eye in `aocr augment`; only "light" was tuned by training.
PRESETS = {
    # Safe for almost any image; used by `--augment auto`. [O], the best of a few in training on captchas, plates and
    # lines; the gain from blur and JPEG was not worth their time.
    "light": Recipe(rotation=2, shear=6, perspective=0.03, elastic=0.7, noise=6, contrast=0.3, brightness=30),
    # Pages from a scanner or a level camera. [K]; perspective, elastic, brightness and jpeg [O].
    "scan": Recipe(rotation=2, shear=3, perspective=0.03, elastic=0.7, blur=1, noise=10, contrast=0.3, brightness=30,
                   jpeg=60),
    # Words in photographs. Shear and contrast [A]; rotation, perspective, noise, brightness, jpeg [S], at most those;
    # elastic, blur and invert (some signs are light on dark) [O].
    "scene": Recipe(rotation=15, shear=15, perspective=0.1, elastic=1, blur=1.2, noise=20, contrast=0.5, brightness=50,
                    invert=0.1, jpeg=25),
    # Characters warped and shifted by programs, with no camera involved: all [O].
    "captcha": Recipe(rotation=5, shear=10, perspective=0.05, elastic=1.5, blur=0.7, noise=10, contrast=0.3,
                      brightness=30, jpeg=70),
    # Rigid plates, seen from the side, often dark or in motion. Perspective, noise [S], contrast [A]; the rest [O].
    "plate": Recipe(rotation=5, shear=10, perspective=0.1, blur=1.5, noise=20, contrast=0.5, brightness=60, jpeg=30),
}


def automatic(records: int, optimizer: str = "adam") -> str:
    """Returns the recipe name that `auto` selects for a number of records and an optimizer."""
    return "light" if records <= AUGMENTED_RECORDS and optimizer != "adadelta" else NO_AUGMENTATION


def find_recipe(name: str) -> Recipe | None:
    """Returns the preset of this name, or the recipe in the JSON file at this path; None for `none`.

    Raises UserError if neither exists, or the file is not a recipe.
    """
    if name == NO_AUGMENTATION or name in PRESETS:
        return PRESETS.get(name)
    try:
        content = read_bytes(name)
    except OSError as error:
        raise UserError(f"--augment {name}: cannot be read: {error.strerror or error}; give {AUTO_AUGMENTATION}, "
                        f"{NO_AUGMENTATION}, {', '.join(PRESETS)} or the path of a JSON file") from None
    return read_recipe(content, name)


def read_recipe(content: bytes, path: str) -> Recipe:
    """Parses a recipe from the content of a JSON file. Raises UserError with `path` and key if it is invalid."""
    try:
        values = load_json(content)
    except ValueError as error:  # UnicodeDecodeError is one too
        raise UserError(f"{path}: not JSON ({error}); write a recipe such as {{\"rotation\": 5}}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: not a JSON object; write a recipe such as {{\"rotation\": 5}}")
    fields = {field.name: field for field in dataclasses.fields(Recipe)}
    for key, value in values.items():
        if key not in fields:
            raise UserError(f"{path}: unknown key {key!r}; valid keys are {', '.join(fields)}")
        if isinstance(value, bool) or not isinstance(value, (int, type(fields[key].default))):
            kind = "an integer" if fields[key].type is int else "a number"
            raise UserError(f"{path}: {key} is {json.dumps(value)}; give {kind}")
    try:
        return Recipe(**values)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None
