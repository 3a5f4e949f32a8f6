"""Fonts and background images for drawing words."""

import functools
import glob
import os
import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image, ImageFont

from aocr.charset import named
from aocr.errors import UserError
from aocr.glyphs import NO_CHARACTER, has_glyph
from aocr.image_files import check_kind

FONT_SUFFIXES = (".ttf", ".otf")

BUILT_IN = "Pillow's built-in font"  # used as a path
SIZE_TO_LOOK_AT = 32  # pixels; for comparing glyphs
FONTS_KEPT = 64  # one size and one open file each
IMAGES_KEPT = 16
LONGEST_SIDE = 1600  # pixels of a background in memory, enough for any word


def find_files(option: str, patterns: Iterable[str], suffixes: tuple[str, ...]) -> list[str]:
    """Returns the files that paths, directories and glob patterns match: sorted, without duplicates.

    Args: option: for messages. suffixes: lower case; selects files in directories.
    Raises: UserError if one matches no file.
    """
    found = set()
    for pattern in patterns:
        if os.path.isdir(pattern):
            paths = [path for path in glob.glob(os.path.join(glob.escape(pattern), "*"))
                     if path.lower().endswith(suffixes)]
        else:
            paths = [pattern] if os.path.exists(pattern) else glob.glob(pattern, recursive=True)
        files = [path for path in paths if os.path.isfile(path)]
        if not files:
            raise UserError(f"{option} {pattern}: no files found; name a file, a directory with "
                            f"{' '.join(suffixes)} files, or a quoted pattern")
        found.update(files)
    return sorted(found)


class Fonts:
    """Fonts by path, and the characters that they contain."""

    def __init__(self, paths: Iterable[str]):
        """`paths`: from `find_files`; empty: the built-in font."""
        self.paths = list(paths) or [BUILT_IN]
        self._sized = functools.lru_cache(FONTS_KEPT)(_load_font)
        self._has = functools.lru_cache(None)(self._look_for)

    def at(self, path: str, size: int) -> ImageFont.FreeTypeFont:
        """Returns a font at a size in pixels. Raises UserError if it cannot be read."""
        return self._sized(path, size)

    def lacks(self, path: str, word: str) -> str | None:
        """Returns the first character of a word that a font lacks; None if it has all."""
        return next((character for character in word if not self._has(path, character)), None)

    def check(self, alphabet: Iterable[str]) -> None:
        """Raises UserError if a font cannot be read, or no font can draw a character of `alphabet`."""
        for path in self.paths:
            self.at(path, SIZE_TO_LOOK_AT)
        for character in sorted(alphabet):
            if unicodedata.category(character)[0] == "M" or unicodedata.bidirectional(character) in ("R", "AL"):
                raise UserError(f"character {named(character)} cannot be drawn: characters are drawn one by one, left "
                                "to right; remove words with it, or compose accents (NFC)")
            if not any(self._has(path, character) for path in self.paths):
                raise UserError(f"no font has the character {named(character)}; add one that has it with --fonts")

    def choose(self, word: str, random: np.random.Generator) -> tuple[str, list[tuple[str, str]]]:
        """Picks a random font, uniformly among those that have all characters of a word.

        Returns: (path, [(path of a skipped font, a character that it lacks)]).
        Raises: UserError if no font has all characters.
        """
        passed_over = []
        for number in random.permutation(len(self.paths)):
            path = self.paths[number]
            lacking = self.lacks(path, word)
            if lacking is None:
                return path, passed_over
            passed_over.append((path, lacking))
        path, lacking = passed_over[0]
        raise UserError(f"no font has all characters of {word!r}: {path} lacks {named(lacking)}; add one that "
                        "has them with --fonts")

    def _look_for(self, path, character):
        return has_glyph(self.at(path, SIZE_TO_LOOK_AT), character)


def _load_font(path, size):
    if path == BUILT_IN:
        return ImageFont.load_default(size=size)
    try:
        # Characters are drawn one by one: no layout is needed, and images are the same with and without Raqm.
        font = ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)
        font.getmask(NO_CHARACTER)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as a font of {size} pixels: {error}; name outline fonts (.ttf, .otf) "
                        "with --fonts") from None
    return font


class Backgrounds:
    """Background images by path."""

    def __init__(self, paths: Sequence[str], mode: str):
        """`paths`: from `find_files`. `mode`: of the images returned, L or RGB."""
        self.paths, self._mode = paths, mode
        self._image = functools.lru_cache(IMAGES_KEPT)(self._load)

    def check(self) -> None:
        """Raises UserError if a file is not an image. Reads headers only; pixels are decoded on use."""
        for path in self.paths:
            try:
                check_kind(path)
                Image.open(path).close()
            except (OSError, Image.DecompressionBombError) as error:
                raise _unreadable(path, error) from None

    def crop(self, width: int, height: int, least_shrink: float, most_shrink: float,
             random: np.random.Generator) -> Image.Image:
        """Returns a random crop of a random image, resized to the requested size.

        Args:
          width, height: pixels.
          least_shrink, most_shrink: range of the crop's size relative to the result's, unless the image is too small.

        Raises: UserError if the image cannot be read.
        """
        image = self._image(self.paths[int(random.integers(len(self.paths)))])
        fits = min(image.width / width, image.height / height)
        shrink = random.uniform(min(least_shrink, fits), min(most_shrink, fits))
        left = random.uniform(0.0, max(image.width - width * shrink, 0.0))
        top = random.uniform(0.0, max(image.height - height * shrink, 0.0))
        box = (left, top, min(left + width * shrink, image.width), min(top + height * shrink, image.height))
        return image.resize((width, height), Image.Resampling.BILINEAR, box)

    def _load(self, path):
        try:
            with Image.open(path) as image:
                if image.mode.startswith("I"):  # 16 bits, which Pillow would clip to 8
                    image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
                image = image.convert("RGB").convert(self._mode)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise _unreadable(path, error) from None
        image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
        return image


def _unreadable(path, error):
    return UserError(f"{path}: cannot be read as an image: {error}; fix it or remove it from --backgrounds")
