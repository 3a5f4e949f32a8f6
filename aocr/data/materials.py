"""What words are drawn with: fonts, and images to draw on."""

import functools
import glob
import os
import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image, ImageFont

from aocr.charset import NO_CHARACTER, named
from aocr.errors import UserError

FONT_SUFFIXES = (".ttf", ".otf")

BUILT_IN = "Pillow's built-in font"  # in place of a path
SIZE_TO_LOOK_AT = 32  # pixels; for telling glyphs apart
FONTS_KEPT = 64  # of one size each; an open file each
IMAGES_KEPT = 16
LONGEST_SIDE = 1600  # pixels of a background in memory; a word needs no more


def find_files(option: str, patterns: Iterable[str], suffixes: tuple[str, ...]) -> list[str]:
    """The files that paths, directories and glob patterns stand for: sorted, none twice.

    Args: option: for messages. suffixes: in lower case; those that count in a directory.
    Raises: UserError if one stands for no file.
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
            raise UserError(f"{option} {pattern}: no files there; name a file, a directory with files in "
                            f"{' '.join(suffixes)}, or a quoted pattern")
        found.update(files)
    return sorted(found)


class Fonts:
    """Fonts by path, and which characters they have."""

    def __init__(self, paths: Iterable[str]):
        """`paths`: from `find_files`; empty: the built-in font."""
        self.paths = list(paths) or [BUILT_IN]
        self._sized = functools.lru_cache(FONTS_KEPT)(_load_font)
        self._has = functools.lru_cache(None)(self._look_for)

    def at(self, path: str, size: int) -> ImageFont.FreeTypeFont:
        """A font in a size in pixels. UserError if it cannot be read."""
        return self._sized(path, size)

    def lacks(self, path: str, word: str) -> str | None:
        """The first character of a word that a font does not have; None if it has all."""
        return next((character for character in word if not self._has(path, character)), None)

    def check(self, alphabet: Iterable[str]) -> None:
        """UserError if a font cannot be read, or a character of an alphabet cannot be drawn with any."""
        for path in self.paths:
            self.at(path, SIZE_TO_LOOK_AT)
        for character in sorted(alphabet):
            if unicodedata.category(character)[0] == "M" or unicodedata.bidirectional(character) in ("R", "AL"):
                raise UserError(f"the character {named(character)} cannot be drawn: each character is drawn by "
                                "itself, from left to right; leave out its words, or compose its accents (NFC)")
            if not any(self._has(path, character) for path in self.paths):
                raise UserError(f"no font has the character {named(character)}; give one that has it with --fonts")

    def choose(self, word: str, random: np.random.Generator) -> tuple[str, list[tuple[str, str]]]:
        """A font that has all characters of a word, each such font as likely as the others.

        Returns: (path, [(path of a font that was passed over, a character that it lacks)]).
        Raises: UserError if there is none.
        """
        passed_over = []
        for number in random.permutation(len(self.paths)):
            path = self.paths[number]
            lacking = self.lacks(path, word)
            if lacking is None:
                return path, passed_over
            passed_over.append((path, lacking))
        path, lacking = passed_over[0]
        raise UserError(f"no font has all characters of {word!r}: {path} lacks {named(lacking)}; give one that "
                        "has them with --fonts")

    def _look_for(self, path, character):
        font = self.at(path, SIZE_TO_LOOK_AT)
        glyph, missing = (bytes(font.getmask(c)) for c in (character, NO_CHARACTER))
        if character.isspace():
            return not any(glyph)
        return any(glyph) and glyph != missing


def _load_font(path, size):
    if path == BUILT_IN:
        return ImageFont.load_default(size=size)
    try:
        # Characters are drawn one by one, so nothing is to be laid out, and the pictures are the same without Raqm.
        font = ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)
        font.getmask(NO_CHARACTER)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as a font of {size} pixels: {error}; give outline fonts (.ttf, .otf) "
                        "with --fonts") from None
    return font


class Backgrounds:
    """Images to draw on, by path."""

    def __init__(self, paths: Sequence[str], mode: str):
        """`paths`: from `find_files`. `mode`: of the images given: L or RGB."""
        self.paths, self._mode = paths, mode
        self._image = functools.lru_cache(IMAGES_KEPT)(self._load)

    def check(self) -> None:
        """UserError if a file is no image. What is within is read when it is used."""
        for path in self.paths:
            try:
                Image.open(path).close()
            except (OSError, Image.DecompressionBombError) as error:
                raise _unreadable(path, error) from None

    def crop(self, width: int, height: int, least_shrink: float, most_shrink: float,
             random: np.random.Generator) -> Image.Image:
        """A piece of one of the images, in the wanted size.

        Args:
          width, height: pixels.
          least_shrink, most_shrink: the piece is so many times the wanted size, unless the image is too small.

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
                if image.mode.startswith("I"):  # 16 bits: Pillow would clip them to 8
                    image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
                image = image.convert("RGB").convert(self._mode)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise _unreadable(path, error) from None
        image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
        return image


def _unreadable(path, error):
    return UserError(f"{path}: cannot be read as an image: {error}; fix it, or leave it out of --backgrounds")
