"""Metrics that say how well texts were read."""

import functools
from collections.abc import Sequence

from distance import levenshtein


def accuracy(text: Sequence[str], label: Sequence[str], use_distance: bool) -> float:
    """How right one reading is.

    Args: text: what was read, a str or its characters. label: the same, what is there.
    Returns: in [0, 1]: 1 - edit distance / label length, not below 0; without `use_distance`, and for an empty
      label, 1.0 if both are the same and 0.0 otherwise.
    """
    return _accuracy(edit_distance(text, label), len(label), use_distance)


class Totals:
    """Metrics over all samples that were added; each float is 0.0 as long as there is none."""

    def __init__(self, use_distance: bool):
        """`use_distance`: as in `accuracy`."""
        self._use_distance = use_distance
        self._samples = self._exact = self._edits = self._characters = self._word_edits = self._words = 0
        self._accuracy = self._probability = 0.0

    def add(self, text: Sequence[str], label: Sequence[str], probability: float) -> None:
        """Adds one sample. text, label: as in `accuracy`. probability: the model's own of `text`."""
        edits = edit_distance(text, label)
        self._samples += 1
        self._exact += edits == 0
        self._edits += edits
        self._characters += len(label)
        read, written = words_of(text), words_of(label)
        self._word_edits += edit_distance(read, written)
        self._words += len(written)
        self._accuracy += _accuracy(edits, len(label), self._use_distance)
        self._probability += probability

    @property
    def samples(self) -> int:
        """How many samples were added."""
        return self._samples

    @property
    def exact_match(self) -> float:
        """Share of the samples that were read without a mistake, in [0, 1]."""
        return self._mean(self._exact)

    @property
    def accuracy(self) -> float:
        """Mean of the samples' `accuracy`, in [0, 1]."""
        return self._mean(self._accuracy)

    @property
    def cer(self) -> float:
        """Character error rate: all edits / all characters of the labels; above 1 if far too much is read.

        If no label has a character it is 0.0 when nothing was read either, else 1.0.
        """
        return _error_rate(self._edits, self._characters)

    @property
    def wer(self) -> float:
        """Word error rate: the same for words, which white space parts."""
        return _error_rate(self._word_edits, self._words)

    @property
    def edits(self) -> int:
        """All edits of characters."""
        return self._edits

    @property
    def mean_probability(self) -> float:
        """Mean of the probabilities."""
        return self._mean(self._probability)

    def _mean(self, total):
        return total / self._samples if self._samples else 0.0


def edit_distance(text: Sequence[str], label: Sequence[str]) -> int:
    """Insertions, deletions and replacements that make one of two sequences of str of the other."""
    return _edit_distance(tuple(text), tuple(label))


@functools.lru_cache(maxsize=64)  # of one image, several readings are compared, most of which are the same
def _edit_distance(text, label):
    return levenshtein(text, label)


def words_of(text: Sequence[str]) -> list[str]:
    """The words of a text (a str or its characters), which white space parts."""
    return "".join(text).split()


def _error_rate(edits, count):
    """Edits for each of `count` things that were to be read."""
    return edits / count if count else float(edits > 0)


def _accuracy(edits, length, use_distance):
    """`accuracy` from the edit distance and the label's length."""
    if not use_distance or not length:
        return float(edits == 0)
    return 1.0 - min(1.0, edits / length)
