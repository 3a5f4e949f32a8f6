"""Which characters a font can draw."""

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

NO_CHARACTER = "\U0010ffff"  # a noncharacter, which fonts draw as their missing glyph


def has_glyph(font: Font, character: str) -> bool:
    """Returns whether a font draws a character: visibly, other than its missing glyph, or as white space."""
    glyph = bytes(font.getmask(character))
    if character.isspace():
        return not any(glyph)
    return any(glyph) and glyph != bytes(font.getmask(NO_CHARACTER))
