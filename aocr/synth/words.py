"""Sources of the words to draw: a list or a pattern."""

import dataclasses
from typing import TYPE_CHECKING

from aocr.config import SynthConfig
from aocr.errors import UserError, usage_error
from aocr.files import read_bytes
from aocr.synth.patterns import LONGEST_WORD, Pattern, PatternError, parse_pattern

if TYPE_CHECKING:
    import numpy as np


@dataclasses.dataclass(frozen=True)
class WordList:
    """Words of a list; each line is equally likely."""

    words: tuple[str, ...]

    def draw(self, random: "np.random.Generator") -> str:
        """Returns a random word."""
        return self.words[random.integers(len(self.words))]

    @property
    def alphabet(self) -> frozenset[str]:
        """All characters that can occur in a word."""
        return frozenset().union(*self.words)


def read_words(path: str, flag: str = "--words") -> WordList:
    """Reads a UTF-8 file of words, one per line. Ignores surrounding whitespace and blank lines.

    `flag`: the option that names the file, for messages.

    Raises: UserError if it cannot be read, is not UTF-8, has no words or one of more than LONGEST_WORD characters.
    """
    try:
        lines = read_bytes(path).removeprefix(b"\xef\xbb\xbf").split(b"\n")
    except OSError as error:
        raise UserError(f"{flag} {path}: cannot be read: {error.strerror or error}; name a text file") from None
    words = []
    for number, line in enumerate(lines, 1):
        try:
            word = line.decode("utf-8").strip()
        except UnicodeDecodeError as error:
            raise UserError(f"{flag} {path}:{number}: not UTF-8: byte 0x{line[error.start]:02x} at {error.start}; "
                            "save the file as UTF-8") from None
        if len(word) > LONGEST_WORD:
            raise UserError(f"{flag} {path}:{number}: {len(word)} characters; the maximum is {LONGEST_WORD}")
        if word:
            words.append(word)
    if not words:
        raise UserError(f"{flag} {path}: contains no words; write one per line")
    return WordList(tuple(words))


def words_of(config: SynthConfig) -> WordList | Pattern:
    """Returns the source of the words of a run.

    Raises: UserError if the list cannot be read or the pattern is invalid.
    """
    if config.words is not None:
        return read_words(config.words)
    try:
        return parse_pattern(config.pattern)
    except PatternError as error:
        raise usage_error(f"--pattern {config.pattern}: {error}") from None
