"""Colours by name, in one spelling."""

import re

WHITE = "#ffffff"


def canonical(color: str) -> str:
    """Returns a colour (name or #RRGGBB) as #rrggbb. Raises ValueError."""
    if color == "white":
        return WHITE
    if re.fullmatch("#[0-9a-fA-F]{6}", color):
        return color.lower()
    from PIL import ImageColor  # late: `aocr --help` imports no Pillow

    parts = ImageColor.getrgb(color)
    if len(parts) != 3:
        raise ValueError("transparent")
    return "#" + bytes(parts).hex()


def rgb(color: str) -> tuple[int, int, int]:
    """Returns red, green and blue, 0 to 255, of a canonical colour."""
    red, green, blue = bytes.fromhex(color[1:])
    return red, green, blue
