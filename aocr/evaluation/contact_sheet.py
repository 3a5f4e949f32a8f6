"""A sheet of samples with their labels, for a person to look over."""

import io
import math

from PIL import Image, ImageDraw, ImageFont

COLUMNS = 4
CELL_WIDTH, IMAGE_HEIGHT, TEXT_HEIGHT, GAP = 300, 64, 18, 6  # pixels
LETTERS = 44  # of a label, at the most


def draw_contact_sheet(samples):
    """Draws samples row by row, each image scaled into its cell and its number and label below it.

    Args: samples: list of (number, label, image file as bytes), at least one.
    Returns: PIL image, RGB. What Pillow cannot read leaves its cell empty but for the label.
    """
    rows = math.ceil(len(samples) / COLUMNS)
    height = IMAGE_HEIGHT + TEXT_HEIGHT + GAP
    sheet = Image.new("RGB", (COLUMNS * (CELL_WIDTH + GAP) + GAP, rows * height + GAP), "#e8e8e8")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=13)
    for k, (number, label, encoded) in enumerate(samples):
        left, top = GAP + k % COLUMNS * (CELL_WIDTH + GAP), GAP + k // COLUMNS * height
        try:
            with Image.open(io.BytesIO(encoded)) as image:
                image = _on_white(image)
                image.thumbnail((CELL_WIDTH, IMAGE_HEIGHT))
                sheet.paste(image, (left, top + IMAGE_HEIGHT - image.height))
        except Exception as error:  # Pillow raises errors of any kind for files that it does not know
            draw.text((left, top), type(error).__name__, fill="#a00000", font=font)
        shown = label if len(label) <= LETTERS else label[:LETTERS - 1] + "\u2026"
        draw.text((left, top + IMAGE_HEIGHT), f"{number}  {shown}", fill="black", font=font)
    return sheet


def _on_white(image):
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
