"""Patterns of words: a small part of the language of regular expressions, read to draw words and not to find them.

A pattern is made of characters that stand for themselves, `\\` and a punctuation mark for that mark, classes such as
`[A-Z_]`, groups `(...)`, alternatives `...|...`, and after any of these `?`, `{n}` or `{n,m}`.
"""

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

LONGEST_WORD = 1000  # characters; no model writes longer texts
DEEPEST_GROUP = 50
MOST_CHARACTERS = 1_000_000  # in all classes, which are memory

SPECIAL = frozenset("\\[](){}?|*+.^$")


class PatternError(ValueError):
    """A pattern that cannot be read; its text says where and why."""

    def __init__(self, position: int, reason: str):
        """`position`: from 0."""
        super().__init__(f"at character {position + 1}: {reason}")


@dataclasses.dataclass(frozen=True)
class Characters:
    """One of these characters, each as likely as the others."""

    characters: str  # no character twice

    def draw(self, random: "np.random.Generator") -> str:
        """A word."""
        return self.characters[random.integers(len(self.characters))]

    @property
    def alphabet(self) -> frozenset[str]:
        """All characters that a word can hold."""
        return frozenset(self.characters)

    @property
    def least(self) -> int:
        """The least number of characters, blanks apart, in a word."""
        return int(not any(character.isspace() for character in self.characters))

    @property
    def most(self) -> int:
        """The length of the longest word."""
        return 1


@dataclasses.dataclass(frozen=True)
class Sequence:
    """Its parts, one after the other."""

    parts: tuple["Pattern", ...]

    def draw(self, random: "np.random.Generator") -> str:
        """As of Characters."""
        return "".join(part.draw(random) for part in self.parts)

    @property
    def alphabet(self) -> frozenset[str]:
        """As of Characters."""
        return frozenset().union(*(part.alphabet for part in self.parts))

    @property
    def least(self) -> int:
        """As of Characters."""
        return sum(part.least for part in self.parts)

    @property
    def most(self) -> int:
        """As of Characters."""
        return sum(part.most for part in self.parts)


@dataclasses.dataclass(frozen=True)
class Alternatives:
    """One of its parts, each as likely as the others."""

    parts: tuple["Pattern", ...]

    def draw(self, random: "np.random.Generator") -> str:
        """As of Characters."""
        return self.parts[random.integers(len(self.parts))].draw(random)

    @property
    def alphabet(self) -> frozenset[str]:
        """As of Characters."""
        return frozenset().union(*(part.alphabet for part in self.parts))

    @property
    def least(self) -> int:
        """As of Characters."""
        return min(part.least for part in self.parts)

    @property
    def most(self) -> int:
        """As of Characters."""
        return max(part.most for part in self.parts)


@dataclasses.dataclass(frozen=True)
class Repeat:
    """Its part, some times over, each number as likely as the others."""

    part: "Pattern"
    fewest: int
    many: int

    def draw(self, random: "np.random.Generator") -> str:
        """As of Characters."""
        return "".join(self.part.draw(random) for _ in range(random.integers(self.fewest, self.many + 1)))

    @property
    def alphabet(self) -> frozenset[str]:
        """As of Characters."""
        return self.part.alphabet if self.many else frozenset()

    @property
    def least(self) -> int:
        """As of Characters."""
        return self.fewest * self.part.least

    @property
    def most(self) -> int:
        """As of Characters."""
        return self.many * self.part.most


Pattern = Characters | Sequence | Alternatives | Repeat


def parse_pattern(text: str) -> Pattern:
    """Reads a pattern.

    Raises: PatternError if it is none, or if a word could be empty, or all blank, or longer than LONGEST_WORD.
    """
    pattern = _Reader(text).whole()
    if not pattern.least:
        raise PatternError(0, "a word could be empty or blank; let one character that is no blank be in every word")
    if pattern.most > LONGEST_WORD:
        raise PatternError(0, f"a word could have {pattern.most} characters; the most is {LONGEST_WORD}")
    return pattern


class _Reader:
    """Goes through a pattern once, from left to right."""

    def __init__(self, text):
        self._text, self._at, self._depth, self._characters = text, 0, 0, 0

    def whole(self) -> Pattern:
        """The whole text."""
        pattern = self._alternatives()
        if self._next():
            raise PatternError(self._at, "`)` without its `(`; write `\\)` for the character itself")
        return pattern

    def _next(self):
        """The next character; '' at the end."""
        return self._text[self._at:self._at + 1]

    def _take(self, start, reason_at_end):
        """The next character, which is passed; of what began at `start`."""
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
            raise PatternError(start, f"`{character}` has nothing before it to repeat; write `\\{character}` for the "
                                      "character itself")
        if character in SPECIAL:
            raise PatternError(start, f"`{character}` has no meaning here; write `\\{character}` for the character "
                                      "itself")
        return Characters(character)

    def _group(self, start):
        self._depth += 1
        if self._depth > DEEPEST_GROUP:
            raise PatternError(start, f"groups within groups, more than {DEEPEST_GROUP} deep")
        inside = self._alternatives()
        if not self._next():
            raise PatternError(start, "`(` without its `)`; write `\\(` for the character itself")
        self._at += 1
        self._depth -= 1
        return inside

    def _escaped(self):
        """The character after a backslash."""
        start = self._at - 1
        character = self._take(start, "`\\` at the end; write `\\\\` for the character itself")
        if character.isalnum():
            raise PatternError(start, f"`\\{character}` has no meaning here; write a class such as [0-9] or [A-Za-z]")
        return character

    def _class(self, start):
        unclosed = "`[` without its `]`; write `\\[` for the character itself"
        if self._next() == "^":
            raise PatternError(self._at, "a class of all characters but some; name those that are wanted, or write "
                                         "`\\^` for the character itself")
        characters = {}  # in their order
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
                raise PatternError(at, f"classes of more than {MOST_CHARACTERS} characters in all; name fewer")
            characters.update(dict.fromkeys(map(chr, range(ord(first), ord(last) + 1))))
        if not characters:
            raise PatternError(start, "an empty class; put characters between `[` and `]`")
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
            part = Sequence(())  # nothing at all, which would else be drawn some times over
        if self._next() in ("?", "{"):
            raise PatternError(self._at, f"`{self._next()}` after `{self._text[start:self._at]}`; put what is to be "
                                         "repeated in a group")
        return part

    def _numbers(self, start):
        end = self._text.find("}", start)
        inside = self._text[start + 1:max(end, start)]
        numbers = inside.split(",")
        if end < 0 or len(numbers) > 2 or not all(n.isascii() and n.isdigit() and len(n) < 10 for n in numbers):
            raise PatternError(start, "`{` is to be followed by `n}` or `n,m}`; write `\\{` for the character itself")
        fewest, many = int(numbers[0]), int(numbers[-1])
        if many < fewest:
            raise PatternError(start, f"{{{inside}}}: {many} is less than {fewest}")
        self._at = end + 1
        return fewest, many
