"""Draws a sheet of samples with their labels, for visual checks."""

import io
import math
from collections.abc import Sequence

from PIL import Image, ImageDraw

from aocr.evaluation.fonts import cut, drawable, font_for
from aocr.evaluation.sheets import SAMPLES_GROUND

COLUMNS = 4
CELL_WIDTH, IMAGE_HEIGHT, TEXT_HEIGHT, GAP = 300, 64, 18, 6  # pixels
LETTER_SIZE = 13  # pixels


def draw_contact_sheet(samples: Sequence[tuple[int, str, bytes]]) -> Image.Image:
    """Draws samples row by row, each image scaled into its cell, its number and label below it.

    Args: samples: (number, label, image file) each, at least one.
    Returns: RGB. If Pillow cannot read an image, its cell shows the error's name instead.
    """
    rows = math.ceil(len(samples) / COLUMNS)
    height = IMAGE_HEIGHT + TEXT_HEIGHT + GAP
    sheet = Image.new("RGB", (COLUMNS * (CELL_WIDTH + GAP) + GAP, rows * height + GAP), (SAMPLES_GROUND,) * 3)
    draw, font = ImageDraw.Draw(sheet), font_for((label for _, label, _ in samples), LETTER_SIZE)
    for k, (number, label, encoded) in enumerate(samples):
        left, top = GAP + k % COLUMNS * (CELL_WIDTH + GAP), GAP + k // COLUMNS * height
        try:
            with Image.open(io.BytesIO(encoded)) as image:
                image = _on_white(image)
                image.thumbnail((CELL_WIDTH, IMAGE_HEIGHT))
                sheet.paste(image, (left, top + IMAGE_HEIGHT - image.height))
        except Exception as error:  # Pillow raises errors of any kind for unknown files
            draw.text((left, top), type(error).__name__, fill="#a00000", font=font)
        line = cut(f"{number}  {drawable(label, font)}", font, CELL_WIDTH)
        draw.text((left, top + IMAGE_HEIGHT), line, fill="black", font=font)
    return sheet


def _on_white(image):
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
