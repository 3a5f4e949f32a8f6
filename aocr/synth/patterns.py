"""Word patterns: a small subset of regular expressions, used to generate words instead of matching them.

A pattern consists of literal characters, escapes (`\\` and a punctuation mark), classes such as `[A-Z_]`, groups
`(...)`, alternatives `...|...`, and quantifiers `?`, `{n}` or `{n,m}` after any of these.
"""

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

LONGEST_WORD = 1000  # characters; no model predicts longer texts
DEEPEST_GROUP = 50
MOST_CHARACTERS = 1_000_000  # in all classes together; bounds memory

SPECIAL = frozenset("\\[](){}?|*+.^$")


class PatternError(ValueError):
    """An invalid pattern; the message states position and reason."""

    def __init__(self, position: int, reason: str):
        """`position`: from 0 (the message counts from 1)."""
        super().__init__(f"at character {position + 1}: {reason}")


@dataclasses.dataclass(frozen=True)
class Characters:
    """One of these characters, uniformly distributed."""

    characters: str  # without duplicates

    def draw(self, random: "np.random.Generator") -> str:
        """Returns a random word."""
        return self.characters[random.integers(len(self.characters))]

    @property
    def alphabet(self) -> frozenset[str]:
        """All characters that can occur in a word."""
        return frozenset(self.characters)

    @property
    def least(self) -> int:
        """Minimum number of non-blank characters in a word."""
        return int(not any(character.isspace() for character in self.characters))

    @property
    def most(self) -> int:
        """Maximum length of a word."""
        return 1


@dataclasses.dataclass(frozen=True)
class Sequence:
    """The concatenation of its parts."""

    parts: tuple["Pattern", ...]

    def draw(self, random: "np.random.Generator") -> str:
        """As in Characters."""
        return "".join(part.draw(random) for part in self.parts)

    @property
    def alphabet(self) -> frozenset[str]:
        """As in Characters."""
        return frozenset().union(*(part.alphabet for part in self.parts))

    @property
    def least(self) -> int:
        """As in Characters."""
        return sum(part.least for part in self.parts)

    @property
    def most(self) -> int:
        """As in Characters."""
        return sum(part.most for part in self.parts)


@dataclasses.dataclass(frozen=True)
class Alternatives:
    """One of its parts, uniformly distributed."""

    parts: tuple["Pattern", ...]

    def draw(self, random: "np.random.Generator") -> str:
        """As in Characters."""
        return self.parts[random.integers(len(self.parts))].draw(random)

    @property
    def alphabet(self) -> frozenset[str]:
        """As in Characters."""
        return frozenset().union(*(part.alphabet for part in self.parts))

    @property
    def least(self) -> int:
        """As in Characters."""
        return min(part.least for part in self.parts)

    @property
    def most(self) -> int:
        """As in Characters."""
        return max(part.most for part in self.parts)


@dataclasses.dataclass(frozen=True)
class Repeat:
    """A repeated part; the number of repetitions is uniformly distributed."""

    part: "Pattern"
    fewest: int
    many: int

    def draw(self, random: "np.random.Generator") -> str:
        """As in Characters."""
        return "".join(self.part.draw(random) for _ in range(random.integers(self.fewest, self.many + 1)))

    @property
    def alphabet(self) -> frozenset[str]:
        """As in Characters."""
        return self.part.alphabet if self.many else frozenset()

    @property
    def least(self) -> int:
        """As in Characters."""
        return self.fewest * self.part.least

    @property
    def most(self) -> int:
        """As in Characters."""
        return self.many * self.part.most


Pattern = Characters | Sequence | Alternatives | Repeat


def parse_pattern(text: str) -> Pattern:
    """Parses a pattern.

    Raises: PatternError if it is invalid, or if a word could be empty, all blank or longer than LONGEST_WORD.
    """
    pattern = _Reader(text).whole()
    if not pattern.least:
        raise PatternError(0, "a word could be empty or blank; require at least one non-blank character")
    if pattern.most > LONGEST_WORD:
        raise PatternError(0, f"a word could have {pattern.most} characters; the maximum is {LONGEST_WORD}")
    return pattern


class _Reader:
    """Recursive descent parser of patterns."""

    def __init__(self, text):
        self._text, self._at, self._depth, self._characters = text, 0, 0, 0

    def whole(self) -> Pattern:
        """Parses the whole text."""
        pattern = self._alternatives()
        if self._next():
            raise PatternError(self._at, "`)` without `(`; write `\\)` for the literal character")
        return pattern

    def _next(self):
        """Returns the next character without consuming it; '' at the end."""
        return self._text[self._at:self._at + 1]

    def _take(self, start, reason_at_end):
        """Consumes and returns the next character of the construct that begins at `start`."""
        character = self._next()
        if not character:
            raise PatternError(start, reason_at_end)
        self._at += 1
        return character

    def _alternatives(self):
        parts = [self._sequence()]
        while self._next() == "|":
            self._at += 1
            parts.append(self._sequence())
        return Alternatives(tuple(parts)) if len(parts) > 1 else parts[0]

    def _sequence(self):
        parts = []
        while self._next() not in ("", "|", ")"):
            parts.append(self._repeated(self._atom()))
        return Sequence(tuple(parts))

    def _atom(self):
        start, character = self._at, self._next()
        self._at += 1
        if character == "[":
            return self._class(start)
        if character == "(":
            return self._group(start)
        if character == "\\":
            return Characters(self._escaped())
        if character in "?{":
            raise PatternError(start, f"`{character}` has nothing to repeat; write `\\{character}` for the literal "
                                      "character")
        if character in SPECIAL:
            raise PatternError(start, f"`{character}` is not supported here; write `\\{character}` for the literal "
                                      "character")
        return Characters(character)

    def _group(self, start):
        self._depth += 1
        if self._depth > DEEPEST_GROUP:
            raise PatternError(start, f"groups nested more than {DEEPEST_GROUP} deep")
        inside = self._alternatives()
        if not self._next():
            raise PatternError(start, "`(` without `)`; write `\\(` for the literal character")
        self._at += 1
        self._depth -= 1
        return inside

    def _escaped(self):
        """Returns the character after a backslash."""
        start = self._at - 1
        character = self._take(start, "`\\` at the end; write `\\\\` for the literal character")
        if character.isalnum():
            raise PatternError(start, f"`\\{character}` is not supported; write a class such as [0-9] or [A-Za-z]")
        return character

    def _class(self, start):
        unclosed = "`[` without `]`; write `\\[` for the literal character"
        if self._next() == "^":
            raise PatternError(self._at, "negated classes are not supported; list the characters, or write `\\^` for "
                                         "the literal character")
        characters = {}  # an ordered set
        while (first := self._take(start, unclosed)) != "]":
            at = self._at - 1
            if first == "\\":
                first = self._escaped()
            last = first
            if self._next() == "-" and self._text[self._at + 1:self._at + 2] not in ("", "]"):
                self._at += 1
                last = self._take(start, unclosed)
                if last == "\\":
                    last = self._escaped()
            if last < first:
                raise PatternError(at, f"the range {first}-{last} is empty; write {last}-{first}")
            self._characters += ord(last) - ord(first) + 1
            if self._characters > MOST_CHARACTERS:
                raise PatternError(at, f"classes of more than {MOST_CHARACTERS} characters in total; list fewer")
            characters.update(dict.fromkeys(map(chr, range(ord(first), ord(last) + 1))))
        if not characters:
            raise PatternError(start, "empty class; put characters between `[` and `]`")
        return Characters("".join(characters))

    def _repeated(self, part):
        start = self._at
        if self._next() == "?":
            self._at += 1
            part = Repeat(part, 0, 1)
        elif self._next() == "{":
            part = Repeat(part, *self._numbers(start))
        else:
            return part
        if not part.most:
            part = Sequence(())  # always empty; avoids repeated draws of nothing
        if self._next() in ("?", "{"):
            raise PatternError(self._at, f"`{self._next()}` after `{self._text[start:self._at]}`; put the repeated "
                                         "part in a group")
        return part

    def _numbers(self, start):
        end = self._text.find("}", start)
        inside = self._text[start + 1:max(end, start)]
        numbers = inside.split(",")
        if end < 0 or len(numbers) > 2 or not all(n.isascii() and n.isdigit() and len(n) < 10 for n in numbers):
            raise PatternError(start, "`{` must be followed by `n}` or `n,m}`; write `\\{` for the literal character")
        fewest, many = int(numbers[0]), int(numbers[-1])
        if many < fewest:
            raise PatternError(start, f"{{{inside}}}: {many} is less than {fewest}")
        self._at = end + 1
        return fewest, many
