"""What augmentation may do to training images: recipes by name, or from a file. `graph/augment.py` carries them out."""

import dataclasses
import json

from aocr.config import AUGMENTED_RECORDS, AUTO_AUGMENTATION, NO_AUGMENTATION, Options, option
from aocr.errors import UserError
from aocr.files import load_json, read_bytes


@dataclasses.dataclass(frozen=True)
class Recipe(Options):
    """How far each operation goes. What is drawn is uniform in its range; by default nothing is done.

    Pixels are those of the prepared image, 32 high; levels are the 256 of an 8-bit image.
    """

    rotation: float = option(0.0, "degrees, either way; less for long and for narrow images, whose ends would leave",
                             flags=("rotation",), least=0, most=45)
    shear: float = option(0.0, "slant of upright strokes in degrees, either way; less for narrow images",
                          flags=("shear",), least=0, most=45)
    perspective: float = option(0.0, "share of the height that each corner moves, either way",
                                flags=("perspective",), least=0, most=0.2)
    elastic: float = option(0.0, "pixels that places inside of the image move, either way",
                            flags=("elastic",), least=0, most=2)
    blur: float = option(0.0, "standard deviation of a Gaussian, in pixels", flags=("blur",), least=0, most=2)
    noise: float = option(0.0, "standard deviation of Gaussian noise, in levels; less in images of little contrast",
                         flags=("noise",), least=0, most=40)
    contrast: float = option(0.0, "differences from the mean are scaled by 1 - this to 1 + this",
                             flags=("contrast",), least=0, most=0.7)
    brightness: float = option(0.0, "levels up or down; less where it would drive the image into black or white",
                               flags=("brightness",), least=0, most=128)
    invert: float = option(0.0, "probability of exchanging light and dark", flags=("invert",), least=0, most=1)
    jpeg: int = option(100, "least quality of JPEG compression, of 100; with 100 there is none",
                       flags=("jpeg",), least=5, most=100)

    @property
    def moves(self) -> bool:
        """Whether pixels change their places."""
        return bool(self.rotation or self.shear or self.perspective or self.elastic)

    def __str__(self) -> str:
        return ", ".join(f"{name} {value:g}" for name, value in dataclasses.asdict(self).items())


# Where the ranges come from:
# [K] kraken's augmentation of text lines (kraken/lib/dataset/augment.py, 2026): rotation 2 and shear 3 degrees, blur up
#     to a sigma of 1, noise of 0.04 of the range (10 levels), contrast 0.7 to 1.3.
# [A] the augmentation that ABINet trains with (Fang et al., arXiv 2103.06495; its code): brightness and contrast 0.5,
#     shear up to 45 and 15 degrees.
# [S] STRAug (Atienza, arXiv 2108.06949; its code), the weakest of its three magnitudes: rotation up to 20 degrees,
#     a perspective that takes 0.1 to 0.2 of the height at the top and the bottom of one end, noise of 0.08 to 0.11 of
#     the range (20 to 28 levels), JPEG of quality 25; and brightness 0.2 (51 levels), the one in the middle.
# [O] our own choice: looked at in `aocr augment`, and, but for "light", not tuned by trainings.
PRESETS = {
    # What hardly any image minds: what `--augment auto` does. [O], chosen among few by trainings on captchas, plates
    # and lines; blur and JPEG cost more time than they gave.
    "light": Recipe(rotation=2, shear=6, perspective=0.03, elastic=0.7, noise=6, contrast=0.3, brightness=30),
    # Pages from a scanner or a camera held straight. [K]; perspective, elastic, brightness and jpeg [O].
    "scan": Recipe(rotation=2, shear=3, perspective=0.03, elastic=0.7, blur=1, noise=10, contrast=0.3, brightness=30,
                   jpeg=60),
    # Words in photographs. Shear and contrast [A], rotation, perspective, noise, brightness, jpeg [S], at most those;
    # elastic, blur, and that some signs are light on dark [O].
    "scene": Recipe(rotation=15, shear=15, perspective=0.1, elastic=1, blur=1.2, noise=20, contrast=0.5, brightness=50,
                    invert=0.1, jpeg=25),
    # Drawn by programs that bend and shift their characters, then delivered without a camera between: [O] throughout.
    "captcha": Recipe(rotation=5, shear=10, perspective=0.05, elastic=1.5, blur=0.7, noise=10, contrast=0.3,
                      brightness=30, jpeg=70),
    # Stiff plates, seen from aside, often dark or in motion. Perspective, noise [S], contrast [A]; the rest [O].
    "plate": Recipe(rotation=5, shear=10, perspective=0.1, blur=1.5, noise=20, contrast=0.5, brightness=60, jpeg=30),
}


def automatic(records: int, optimizer: str = "adam") -> str:
    """The name of what `auto` stands for in a training on so many records with this optimizer."""
    return "light" if records <= AUGMENTED_RECORDS and optimizer != "adadelta" else NO_AUGMENTATION


def find_recipe(name: str) -> Recipe | None:
    """The recipe of this name, or in the JSON file of this path; None for `none`.

    UserError if there is neither, or the file is no recipe.
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
    """The recipe in a JSON file's content. UserError, naming `path` and the key, if it is none."""
    try:
        values = load_json(content)
    except ValueError as error:  # UnicodeDecodeError is one too
        raise UserError(f"{path}: no JSON ({error}); write a recipe such as {{\"rotation\": 5}}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: holds no object; write a recipe such as {{\"rotation\": 5}}")
    fields = {field.name: field for field in dataclasses.fields(Recipe)}
    for key, value in values.items():
        if key not in fields:
            raise UserError(f"{path}: unknown key {key!r}; the keys are {', '.join(fields)}")
        if isinstance(value, bool) or not isinstance(value, (int, type(fields[key].default))):
            kind = "a whole number" if fields[key].type is int else "a number"
            raise UserError(f"{path}: {key} is {json.dumps(value)}; give {kind}")
    try:
        return Recipe(**values)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None
