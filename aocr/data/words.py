"""Which words are drawn: those of a list, or of a pattern."""

import dataclasses
from typing import TYPE_CHECKING

from aocr.config import SynthConfig
from aocr.data.patterns import LONGEST_WORD, Pattern, PatternError, parse_pattern
from aocr.errors import UserError, usage_error

if TYPE_CHECKING:
    import numpy as np


@dataclasses.dataclass(frozen=True)
class WordList:
    """Words of a list, each line as likely as the others."""

    words: tuple[str, ...]

    def draw(self, random: "np.random.Generator") -> str:
        """A word."""
        return self.words[random.integers(len(self.words))]

    @property
    def alphabet(self) -> frozenset[str]:
        """All characters that a word can hold."""
        return frozenset().union(*self.words)


def read_words(path: str) -> WordList:
    """The words of a file, one a line, in UTF-8. Blanks at the ends of a line and blank lines do not count.

    Raises: UserError if it cannot be read, is not UTF-8, holds no word or one of more than LONGEST_WORD characters.
    """
    try:
        with open(path, "rb") as file:
            lines = file.read().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    except OSError as error:
        raise UserError(f"--words {path}: cannot be read: {error.strerror or error}; name a text file") from None
    words = []
    for number, line in enumerate(lines, 1):
        try:
            word = line.decode("utf-8").strip()
        except UnicodeDecodeError as error:
            raise UserError(f"--words {path}:{number}: not UTF-8: byte 0x{line[error.start]:02x} at {error.start}; "
                            "save the file as UTF-8") from None
        if len(word) > LONGEST_WORD:
            raise UserError(f"--words {path}:{number}: {len(word)} characters; the most is {LONGEST_WORD}")
        if word:
            words.append(word)
    if not words:
        raise UserError(f"--words {path}: no words in it; write one a line")
    return WordList(tuple(words))


def words_of(config: SynthConfig) -> WordList | Pattern:
    """What the words of a run are drawn from.

    Raises: UserError if its list or its pattern cannot be read.
    """
    if config.words is not None:
        return read_words(config.words)
    try:
        return parse_pattern(config.pattern)
    except PatternError as error:
        raise usage_error(f"--pattern {config.pattern}: {error}") from None
