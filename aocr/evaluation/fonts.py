"""A font for labels of any alphabet, from what the machine has."""

from collections.abc import Iterable

from PIL import ImageFont

from aocr.charset import NO_CHARACTER

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

# Fonts of many alphabets, by the names that systems have them under; Pillow finds them where systems keep fonts.
NAMES = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "LiberationSans-Regular.ttf", "Arial Unicode.ttf", "arial.ttf")


def font_for(texts: Iterable[str], size: int) -> Font:
    """The font that has the most of the characters of some texts: Pillow's own, if it has all. `size`: pixels."""
    wanted = {character for text in texts for character in text}
    own = ImageFont.load_default(size=size)
    if not lacking(wanted, own):
        return own
    fonts = [own]
    for name in NAMES:
        try:
            fonts.append(ImageFont.truetype(name, size))
        except OSError:  # this machine has no such font
            continue
    return min(fonts, key=lambda font: len(lacking(wanted, font)))


def lacking(characters: Iterable[str], font: Font) -> set[str]:
    """Those of some characters that a font does not have."""
    missing = bytes(font.getmask(NO_CHARACTER))
    return {character for character in characters
            if not character.isprintable() or bytes(font.getmask(character)) == missing}


def drawable(text: str, font: Font) -> str:
    """A text in the characters that a font has; others become escapes."""
    absent = lacking(set(text), font)
    return "".join(character.encode("unicode_escape").decode() if character in absent else character
                   for character in text)


def cut(text: str, font: Font, width: int) -> str:
    """A text, or as much of its start as fits into a number of pixels, and a mark that there was more."""
    if len(text) <= width and font.getlength(text) <= width:
        return text
    text = text[:width]  # no character takes less than a pixel
    while font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."
