"""Renders words with random font, size, position, ink and background colours, blur and noise."""

import dataclasses
import functools
import itertools
from collections.abc import Iterable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from aocr.synth.materials import Backgrounds, Fonts

SPACING = 0.05, 0.25  # range of the space between characters, in font sizes
SIDE_MARGINS, HEAD_MARGINS = (0.1, 0.4), (0.25, 0.5)  # ranges of the horizontal and vertical margins, in font sizes
LEAST_CONTRAST = 110  # between ink and background, of 255
MOST_NOISE = 12.0  # standard deviation, of 255
MOST_BLUR = 0.8  # radius, in pixels
SHRINK = 1.0, 4.0  # range of the size of a background crop, relative to the word's image

LUMA = np.array([0.299, 0.587, 0.114])  # weights of red, green and blue in Pillow's grey conversion


@dataclasses.dataclass(frozen=True)
class RenderConfig:
    """Rendering options of a run."""

    fonts: tuple[str, ...] = ()  # paths; empty: the built-in font
    backgrounds: tuple[str, ...] = ()  # paths; empty: uniform backgrounds
    font_sizes: tuple[int, int] = (20, 40)  # minimum and maximum, in pixels
    color: bool = False


class Artist:
    """Draws words; caches fonts and backgrounds."""

    def __init__(self, rendering: RenderConfig):
        self._rendering = rendering
        self._mode = "RGB" if rendering.color else "L"
        self.fonts = Fonts(rendering.fonts)
        self.backgrounds = Backgrounds(rendering.backgrounds, self._mode)

    def check(self, alphabet: Iterable[str]) -> None:
        """Raises UserError if a font or background is unreadable, or no font has a character of `alphabet`."""
        self.fonts.check(alphabet)
        self.backgrounds.check()

    def draw(self, text: str, random: np.random.Generator) -> tuple[Image.Image, list[tuple[str, str]]]:
        """Draws a word.

        Args: text: has at least one non-blank character.
        Returns: (image of mode L or RGB, no ink cut off; skipped fonts, as in Fonts.choose).
        Raises: UserError if no font has all its characters, or a font or background cannot be read.
        """
        path, passed_over = self.fonts.choose(text, random)
        least, most = self._rendering.font_sizes
        size = int(random.integers(least, most + 1))
        ink_mask = _ink_mask(text, self.fonts.at(path, size), size, random)
        ink, image = self._ink_and_ground(ink_mask.size, random)
        image.paste(ink, mask=ink_mask)
        image = image.filter(ImageFilter.GaussianBlur(random.uniform(0.0, MOST_BLUR)))
        pixels = np.asarray(image, np.float32)
        noise = random.normal(0.0, random.uniform(0.0, MOST_NOISE), pixels.shape)
        return _image(pixels + noise), passed_over

    def _ink_and_ground(self, size, random):
        """Returns (ink colour, background image)."""
        if not self.backgrounds.paths:
            ink, ground = (self._colored(shade, random) for shade in _shades(random))
            return ink, Image.new(self._mode, size, ground)
        ground = np.asarray(self.backgrounds.crop(*size, *SHRINK, random), np.float64)
        ground, shade = _calmed(ground)
        # The ink takes the side of the background's shade with the larger range.
        room = (0, int(shade) - LEAST_CONTRAST) if shade >= 127.5 else (int(shade) + LEAST_CONTRAST + 1, 255)
        return self._colored(int(random.integers(room[0], room[1] + 1)), random), _image(ground)

    def _colored(self, shade, random):
        """Returns a random colour with the luma of `shade`; `shade` itself in grey mode."""
        if not self._rendering.color:
            return shade
        tint = random.uniform(-1.0, 1.0, 3)
        tint -= tint @ LUMA
        room = np.where(tint > 0.0, 255.0 - shade, shade) / np.maximum(np.abs(tint), 1e-9)
        return tuple(int(value + 0.5) for value in shade + tint * random.uniform(0.0, room.min()))


@functools.lru_cache(1)
def artist_of(rendering: RenderConfig) -> Artist:
    """Returns an Artist; the last one is cached, for processes that draw batch after batch."""
    return Artist(rendering)


def _ink_mask(text, font, size, random):
    """Returns the ink mask: PIL image, mode L; 255 is full ink."""
    spacing = size * random.uniform(*SPACING)
    starts = list(itertools.accumulate([font.getlength(c) + spacing for c in text], initial=0.0))
    boxes = [font.getbbox(c) for c in text]
    # Slanted glyphs extend beyond their advance width.
    over_left = max([0.0, *(-start - box[0] for start, box in zip(starts, boxes))])
    end = max([starts[-1] - spacing, *(start + box[2] for start, box in zip(starts, boxes))])
    _, above, _, below = font.getbbox(text)
    left, right = (size * margin for margin in random.uniform(*SIDE_MARGINS, 2))
    top, bottom = (size * margin for margin in random.uniform(*HEAD_MARGINS, 2))
    left += over_left
    mask = Image.new("L", (round(left + end + right), round(top + below - above + bottom)), 0)
    draw = ImageDraw.Draw(mask)
    for start, character in zip(starts, text):
        draw.text((left + start, top - above), character, fill=255, font=font)
    return mask


def _shades(random):
    """Returns (ink, background) shades: dark on light, with LEAST_CONTRAST or more."""
    ink = int(random.integers(0, 256 - LEAST_CONTRAST))
    return ink, int(random.integers(ink + LEAST_CONTRAST, 256))


def _calmed(pixels):
    """Reduces the contrast of a background on which a word would be illegible.

    Args: pixels: float [height, width] or [height, width, 3], 0 to 255.
    Returns: (pixels within half of LEAST_CONTRAST of their mean shade; that mean shade, float).
    """
    shades = pixels @ LUMA if pixels.ndim == 3 else pixels
    shade = shades.mean()
    scale = min(1.0, LEAST_CONTRAST / 2 / max(np.abs(shades - shade).max(), 1e-9))
    mean = pixels.mean(axis=(0, 1))
    return mean + (pixels - mean) * scale, float(shade)


def _image(pixels):
    """Rounds float [height, width] or [height, width, 3], clips to 0 to 255 and returns a PIL image."""
    return Image.fromarray(np.clip(pixels + 0.5, 0, 255).astype(np.uint8))
