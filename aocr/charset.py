"""Characters and their ids. Characters are code points or, with `--graphemes`, extended grapheme clusters (UAX #29)."""

import collections
import functools
import string
import unicodedata
from collections.abc import Callable, Iterable

from aocr.errors import UserError

PAD_ID, GO_ID, EOS_ID = 0, 1, 2
FIRST_ID = 3  # id of the first character
LISTED = 10  # repeated characters in a message
LONGEST_LIST = 2000  # code points of a charset in a message

ALPHANUMERIC = string.digits + string.ascii_uppercase
# Code points that show nothing: marks of format and direction, fillers, tags. Variation selectors are left out, since
# they change the character before them.
INVISIBLE = ((0xAD, 0xAD), (0x34F, 0x34F), (0x61C, 0x61C), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180E, 0x180E),
             (0x200B, 0x200F), (0x2028, 0x202E), (0x2060, 0x206F), (0x2800, 0x2800), (0x3164, 0x3164),
             (0xFEFF, 0xFEFF), (0xFFA0, 0xFFA0), (0xFFF9, 0xFFFB), (0x1D173, 0x1D17A), (0xE0000, 0xE007F))
# Scripts that need joiners: Arabic and its kin, those of India, Tibetan to Myanmar, Khmer and Mongolian.
JOINED = ((0x600, 0x8FF), (0x900, 0xDFF), (0xF00, 0x109F), (0x1780, 0x18AF), (0xA840, 0xA8FF), (0xFB50, 0xFDFF),
          (0xFE70, 0xFEFC), (0x11000, 0x11FFF))
JOINERS = ZWNJ, ZWJ = "\u200c\u200d"
IDEOGRAPHIC_SPACE = "\u3000"
FULL_ASCII = "".join(map(chr, range(32, 127)))


@functools.cache
def splitter(graphemes: bool) -> Callable[[str], list[str]]:
    """Returns a function that splits a text into its characters.

    Raises UserError if `graphemes` is set and the package regex is not installed.
    """
    if not graphemes:
        return list
    try:
        import regex
    except ImportError as error:
        raise UserError(f"--graphemes needs the package regex ({error}); in the aocr source tree, run "
                        "pip install '.[graphemes]'") from None
    return regex.compile(r"\X").findall


def code_points(character: str) -> str:
    """Returns the code points of a character in Unicode notation: "U+0065 U+0301"."""
    return " ".join(f"U+{ord(point):04X}" for point in character)


def is_invisible(character: str) -> bool:
    """Returns whether a code point shows nothing, or is a space other than U+0020."""
    code = ord(character)
    return any(first <= code <= last for first, last in INVISIBLE) or (
        character != " " and unicodedata.category(character) == "Zs")


def visible(text: str) -> str:
    """Replaces the invisible characters of a text by their code points, "<U+200B>", unless they belong there."""
    return text if text.isascii() else "".join(
        f"<{code_points(point)}>" if is_invisible(point) and not _belongs(text, place) else point
        for place, point in enumerate(text))


def invisible_in(text: str) -> list[str]:
    """Returns names of the invisible characters in a text that do not belong there, such as "U+200B (ZERO WIDTH SPACE)
    at position 3".

    Joiners belong between letters of scripts and emoji that need them, ideographic spaces beside wide characters.
    """
    return [] if text.isascii() else [
        f"{code_points(point)} ({unicodedata.name(point, 'unnamed')}) at position {place}"
        for place, point in enumerate(text) if is_invisible(point) and not _belongs(text, place)]


def _belongs(text, place):
    before, after = text[:place][-1:], text[place + 1:][:1]
    if text[place] in JOINERS:
        return bool(before and after) and (_is_joined(before) and _is_joined(after)
                                           or text[place] == ZWJ and _is_emoji(before) and _is_emoji(after))
    return text[place] == IDEOGRAPHIC_SPACE and any(
        unicodedata.east_asian_width(point) in "WF" for point in before + after if point != IDEOGRAPHIC_SPACE)


def _is_joined(character):
    return any(first <= ord(character) <= last for first, last in JOINED) and unicodedata.category(character)[0] in "LM"


def _is_emoji(character):
    """Returns whether a code point can stand beside a joiner in an emoji: a symbol, a modifier or a selector."""
    return unicodedata.category(character) in ("So", "Sk", "Sm") or character == "\ufe0f"


def named(character: str) -> str:
    """Formats a character for messages."""
    return f"{character!r} ({code_points(character)})"


class UnknownCharacter(ValueError):
    """Raised for a character of a label that is not in the charset: `character`."""

    def __init__(self, character: str):
        super().__init__(f"character {named(character)} is not in the charset")
        self.character = character


class Charset:
    """An ordered set of characters; ids 0, 1, 2 are padding, GO and EOS, those of characters start at 3."""

    def __init__(self, characters: Iterable[str], graphemes: bool = False):
        """`characters`: single Unicode code points or, with `graphemes`, grapheme clusters.

        Raises ValueError if there are none, one is repeated or one is invalid.
        """
        self.characters, self.graphemes = tuple(characters), graphemes
        self._ids = {character: FIRST_ID + k for k, character in enumerate(self.characters)}
        if not self.characters:
            raise ValueError("a charset needs at least one character")
        for character in self.characters:
            if not character or len(character) > 1 and not graphemes or "\ud800" <= character[0] <= "\udfff":
                raise ValueError(f"a charset holds single characters; {character!r} is not one")
        if len(self._ids) != len(self.characters):
            repeated = sorted(c for c, count in collections.Counter(self.characters).items() if count > 1)
            raise ValueError(f"the charset repeats {', '.join(map(repr, repeated[:LISTED]))}"
                             f"{' and others' if len(repeated) > LISTED else ''}")

    def __len__(self) -> int:
        """Number of ids V, including the three special ones."""
        return FIRST_ID + len(self.characters)

    def __contains__(self, character: str) -> bool:
        return character in self._ids

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Charset) and self.characters == other.characters

    def __hash__(self) -> int:
        return hash(self.characters)

    def __repr__(self) -> str:
        return f"Charset({''.join(self.characters)!r})"

    def encode(self, text: str) -> list[int]:
        """Returns the ids of a text, without GO and EOS. Raises UnknownCharacter, and UserError as `splitter`."""
        try:
            return [self._ids[character] for character in splitter(self.graphemes)(text)]
        except KeyError as error:
            raise UnknownCharacter(error.args[0]) from None

    def decode(self, ids: Iterable[int]) -> str:
        """Returns the text before the first EOS, ignoring padding and GO. Raises IndexError beyond the last id."""
        text = []
        for k in ids:
            if k == EOS_ID:
                break
            if k >= FIRST_ID:
                text.append(self.characters[k - FIRST_ID])
        return "".join(text)

    def summary(self) -> str:
        """Returns the number and list of characters, for messages."""
        return f"{len(self.characters)} characters: {self.listed(self.characters)}"

    def listed(self, characters: Iterable[str]) -> str:
        """Formats characters for messages: invisible ones by code point, cut if they are many.

        Separates clusters, since adjacent ones could read as another cluster.
        """
        text = (" " if self.graphemes else "").join(map(visible, characters))
        return text if len(text) <= LONGEST_LIST else f"{text[:LONGEST_LIST]} ..."


def charset_for(characters: Iterable[str], graphemes: bool = False) -> Charset:
    """Returns the original's default charset, extended by the other `characters`, in code point order."""
    missing = set(characters) - set(ALPHANUMERIC)
    return Charset(sorted(set(ALPHANUMERIC) | missing) if missing else ALPHANUMERIC, graphemes)
