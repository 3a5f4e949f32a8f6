"""How texts are searched for: the width of the beam, and the texts that may be read or are preferred."""

import logging
import unicodedata
from typing import NamedTuple

import numpy as np

from aocr.charset import FIRST_ID, Charset, UnknownCharacter, splitter
from aocr.config import SearchConfig
from aocr.errors import usage_error
from aocr.search.automaton import NEVER, Automaton, Words, accepted, any_of, of_words
from aocr.search.pattern_automaton import of_pattern
from aocr.synth.patterns import PatternError, parse_pattern
from aocr.synth.words import read_words

log = logging.getLogger(__name__)


class Search(NamedTuple):
    """A search, for one charset."""

    beam: int = 1  # texts that are followed side by side
    n_best: int | None = None  # texts to find, at most `beam`; None: the best one
    required: Automaton | None = None  # of the texts that may be read; None: any
    preferred: Automaton | None = None  # of texts with a bonus, all of them allowed
    bonus: float = 0.0  # added to their log probabilities, in nats

    @property
    def greedy(self) -> bool:
        """Whether this is a reading without beam and constraints."""
        return self.beam == 1 and not self.required and not self.preferred


def search_of(config: SearchConfig, charset: Charset, longest: int) -> Search:
    """Returns the search that some options describe.

    Warns of words and texts that cannot be read. `longest`: characters of the longest text that the model can write.

    Raises: UserError if the lexicon cannot be read, the pattern is invalid or too large, or the charset has none of the
      characters of --pattern or --allow.
    """
    required, preferred = _pattern(config, charset), None
    if config.lexicon is not None:
        words = _words_of(config.lexicon, charset, longest)
        if required:
            words = words.where(accepted(required, words))
        lexicon = of_words(words)
        if config.lexicon_weight is None:
            required = lexicon
        else:
            preferred = lexicon
    if required and required.shortest > longest:
        length = "" if required.shortest >= NEVER else f", whose texts have at most {longest} characters"
        log.warning("no text that is asked for can be written with the characters of the model%s; every image will be "
                    "read as an empty text of confidence 0", length)
    return Search(config.width, config.n_best, required, preferred, config.lexicon_weight or 0.0)


def _pattern(config, charset):
    """Returns the automaton of --pattern and --allow; None without them."""
    classes = _allowed(config.allow, charset)
    if config.pattern is None:
        return None if config.allow is None else any_of(classes)
    try:
        pattern = parse_pattern(config.pattern)
        points = {point for k in classes for point in charset.characters[k]}
        if not points & pattern.alphabet:
            raise usage_error(f"--pattern {config.pattern}: has none of the characters that may be read: "
                              f"{charset.listed(charset.characters[k] for k in classes)}")
        return of_pattern(pattern, charset.characters, classes)
    except PatternError as error:
        raise usage_error(f"--pattern {config.pattern}: {error}") from None


def _allowed(characters, charset):
    """Returns the classes of --allow, ascending; all of them without it."""
    if characters is None:
        return range(len(charset.characters))
    asked = dict.fromkeys(splitter(charset.graphemes)(characters))
    classes = [k for k, character in enumerate(charset.characters) if character in asked]
    if not classes:
        raise usage_error(f"--allow {characters}: has none of the model's {charset.summary()}")
    if unknown := [character for character in asked if character not in charset]:
        log.warning("--allow: %d characters are not in the charset of the model: %s", len(unknown),
                    charset.listed(unknown))
    return classes


def _words_of(path, charset, longest):
    """Reads a lexicon. Warns of words that the model cannot write, and leaves them out: Words."""
    words = read_words(path, "--lexicon").words
    encode = _by_clusters if charset.graphemes else _by_points
    found, strange = encode(words, charset)
    if strange.any():  # datasets are normalized by default
        others = [unicodedata.normalize("NFC", words[k]) for k in np.flatnonzero(strange)]
        normalized, strange = encode(others, charset)
        found = Words(*(np.concatenate(parts) for parts in zip(found, normalized)))
    if strange.any():
        log.warning("--lexicon %s: %d of %d words have characters that are not in the charset of the model, and are "
                    "never read", path, strange.sum(), len(words))
    long = found.lengths > longest
    if long.any():
        log.warning("--lexicon %s: %d of %d words have more than %d characters, the longest text of the model, and are "
                    "never read", path, long.sum(), len(words), longest)
    return found.where(~long)


def _by_points(words, charset):
    """Encodes words: (Words of those whose characters are all in the charset, which are not: bool [n])."""
    table = np.full(0x110000, -1, np.int32)
    table[[ord(character) for character in charset.characters]] = np.arange(len(charset.characters))
    points = np.frombuffer("".join(f"{word}\n" for word in words).encode("utf-32-le"), np.uint32)
    ends = np.flatnonzero(points == ord("\n"))
    classes = table[points]
    classes[ends] = 0
    strange = np.logical_or.reduceat(classes < 0, np.append(0, ends[:-1] + 1))
    found = Words(np.delete(classes, ends), np.diff(ends, prepend=-1).astype(np.int32) - 1)
    return found.where(~strange), strange


def _by_clusters(words, charset):
    """The same for grapheme clusters."""
    encoded, strange = [], np.zeros(len(words), bool)
    for number, word in enumerate(words):
        try:
            encoded.append(np.array(charset.encode(word), np.int32) - FIRST_ID)
        except UnknownCharacter:
            strange[number] = True
    lengths = np.array([len(ids) for ids in encoded], np.int32)
    return Words(np.concatenate([np.zeros(0, np.int32), *encoded]), lengths), strange
