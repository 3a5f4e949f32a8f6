"""Characters and their ids."""

import string

PAD_ID, GO_ID, EOS_ID = 0, 1, 2
FIRST_ID = 3  # of the first character

ALPHANUMERIC = string.digits + string.ascii_uppercase
FULL_ASCII = "".join(map(chr, range(32, 127)))


class UnknownCharacter(ValueError):
    """A label holds a character that the charset lacks; `character` is that character."""

    def __init__(self, character):
        super().__init__(f"character {character!r} (U+{ord(character):04X}) is not in the charset")
        self.character = character


class Charset:
    """An ordered set of characters; ids 0, 1, 2 are padding, GO and EOS, the characters follow from 3 on."""

    def __init__(self, characters):
        """`characters`: an iterable of single Unicode code points. ValueError if one is repeated, or there are none."""
        self.characters = tuple(characters)
        self._ids = {character: FIRST_ID + k for k, character in enumerate(self.characters)}
        if not self.characters:
            raise ValueError("a charset needs at least one character")
        for character in self.characters:
            if len(character) != 1:
                raise ValueError(f"a charset holds single characters; {character!r} is not one")
        if len(self._ids) != len(self.characters):
            repeated = sorted({c for c in self.characters if self.characters.count(c) > 1})
            raise ValueError(f"the charset repeats {', '.join(map(repr, repeated))}")

    def __len__(self):
        """Number of ids, the three special ones included (V)."""
        return FIRST_ID + len(self.characters)

    def __contains__(self, character):
        return character in self._ids

    def __eq__(self, other):
        return isinstance(other, Charset) and self.characters == other.characters

    def __hash__(self):
        return hash(self.characters)

    def __repr__(self):
        return f"Charset({''.join(self.characters)!r})"

    def encode(self, text):
        """Ids of a text's characters (no GO, no EOS). Raises UnknownCharacter."""
        try:
            return [self._ids[character] for character in text]
        except KeyError as error:
            raise UnknownCharacter(error.args[0]) from None

    def decode(self, ids):
        """The text before the first EOS; padding and GO give nothing. IndexError beyond the last id."""
        text = []
        for k in ids:
            if k == EOS_ID:
                break
            if k >= FIRST_ID:
                text.append(self.characters[k - FIRST_ID])
        return "".join(text)

    def summary(self):
        """For people: how many characters, and which."""
        return f"{len(self.characters)} characters: {''.join(self.characters)}"


def charset_for(characters):
    """The original's default alphabet, widened by whatever of `characters` it lacks, in code point order."""
    missing = set(characters) - set(ALPHANUMERIC)
    return Charset(ALPHANUMERIC) if not missing else Charset(sorted(set(ALPHANUMERIC) | missing))
