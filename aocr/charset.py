"""Characters and their ids. Characters are code points or, with `--graphemes`, extended grapheme clusters (UAX #29)."""

import functools
import string
from collections.abc import Callable, Iterable

from aocr.errors import UserError

PAD_ID, GO_ID, EOS_ID = 0, 1, 2
FIRST_ID = 3  # of the first character

NO_CHARACTER = "\U0010ffff"  # never a character, so no font has it: it is drawn as what is missing

ALPHANUMERIC = string.digits + string.ascii_uppercase
FULL_ASCII = "".join(map(chr, range(32, 127)))


@functools.cache
def splitter(graphemes: bool) -> Callable[[str], list[str]]:
    """What takes texts apart: a function of a text -> its characters.

    UserError if they are to be grapheme clusters, and what knows those is not installed.
    """
    if not graphemes:
        return list
    try:
        import regex
    except ImportError as error:
        raise UserError(f"--graphemes needs the package regex ({error}): in aocr's sources, pip install "
                        "'.[graphemes]'") from None
    return regex.compile(r"\X").findall


def code_points(character: str) -> str:
    """The code points of a character, as Unicode writes them: "U+0065 U+0301"."""
    return " ".join(f"U+{ord(point):04X}" for point in character)


def named(character: str) -> str:
    """A character as messages name it."""
    return f"{character!r} ({code_points(character)})"


class UnknownCharacter(ValueError):
    """A label holds a character that the charset lacks; `character` is that character."""

    def __init__(self, character: str):
        super().__init__(f"character {named(character)} is not in the charset")
        self.character = character


class Charset:
    """An ordered set of characters; ids 0, 1, 2 are padding, GO and EOS, the characters follow from 3 on."""

    def __init__(self, characters: Iterable[str], graphemes: bool = False):
        """`characters`: single Unicode code points or, with `graphemes`, whole grapheme clusters.

        ValueError if one is repeated, or there are none.
        """
        self.characters, self.graphemes = tuple(characters), graphemes
        self._ids = {character: FIRST_ID + k for k, character in enumerate(self.characters)}
        if not self.characters:
            raise ValueError("a charset needs at least one character")
        for character in self.characters:
            if not character or len(character) > 1 and not graphemes:
                raise ValueError(f"a charset holds single characters; {character!r} is not one")
        if len(self._ids) != len(self.characters):
            repeated = sorted({c for c in self.characters if self.characters.count(c) > 1})
            raise ValueError(f"the charset repeats {', '.join(map(repr, repeated))}")

    def __len__(self) -> int:
        """Number of ids, the three special ones included (V)."""
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
        """Ids of a text's characters (no GO, no EOS). Raises UnknownCharacter, and UserError as `splitter`."""
        try:
            return [self._ids[character] for character in splitter(self.graphemes)(text)]
        except KeyError as error:
            raise UnknownCharacter(error.args[0]) from None

    def decode(self, ids: Iterable[int]) -> str:
        """The text before the first EOS; padding and GO give nothing. IndexError beyond the last id."""
        text = []
        for k in ids:
            if k == EOS_ID:
                break
            if k >= FIRST_ID:
                text.append(self.characters[k - FIRST_ID])
        return "".join(text)

    def summary(self) -> str:
        """For people: how many characters, and which."""
        return f"{len(self.characters)} characters: {self.listed(self.characters)}"

    def listed(self, characters: Iterable[str]) -> str:
        """Some of its characters for people; clusters stand apart, since side by side they may look like another."""
        return (" " if self.graphemes else "").join(characters)


def charset_for(characters: Iterable[str], graphemes: bool = False) -> Charset:
    """The original's default alphabet, widened by whatever of `characters` it lacks, in code point order."""
    missing = set(characters) - set(ALPHANUMERIC)
    return Charset(sorted(set(ALPHANUMERIC) | missing) if missing else ALPHANUMERIC, graphemes)
