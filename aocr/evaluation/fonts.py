"""Finds an installed font for labels of any script."""

from collections.abc import Iterable

from PIL import ImageFont

from aocr.charset import visible
from aocr.glyphs import Font, has_glyph

# Fonts of many scripts, by their usual file names; Pillow searches the system's font directories.
NAMES = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "LiberationSans-Regular.ttf", "Arial Unicode.ttf", "arial.ttf")


def font_for(texts: Iterable[str], size: int) -> Font:
    """Returns the font that covers most characters of some texts; Pillow's own if it has them all. `size`: pixels."""
    wanted = {character for text in texts for character in text}
    own = ImageFont.load_default(size=size)
    if not lacking(wanted, own):
        return own
    fonts = [own]
    for name in NAMES:
        try:
            fonts.append(ImageFont.truetype(name, size))
        except OSError:  # not installed
            continue
    return min(fonts, key=lambda font: len(lacking(wanted, font)))


def lacking(characters: Iterable[str], font: Font) -> set[str]:
    """Returns the characters that a font lacks."""
    return {character for character in characters if not (character.isprintable() and has_glyph(font, character))}


def drawable(text: str, font: Font) -> str:
    """Replaces the characters of a text that a font lacks with escapes, and invisible ones with their code points."""
    text = visible(text)
    absent = lacking(set(text), font)
    return "".join(character.encode("unicode_escape").decode() if character in absent else character
                   for character in text)


def cut(text: str, font: Font, width: int) -> str:
    """Truncates a text to a width in pixels, with dots at the end if it is longer."""
    if len(text) <= width and font.getlength(text) <= width:
        return text
    text = text[:width]  # every character takes at least a pixel
    while font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."
