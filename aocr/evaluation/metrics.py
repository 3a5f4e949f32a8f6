"""Metrics of predictions: exact match, error rates, accuracy."""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

from distance import levenshtein


class Totals:
    """Sums over the samples added so far, from which METRICS are computed."""

    def __init__(self, use_distance: bool = True):
        """`use_distance`: as in `accuracy`."""
        self.use_distance = use_distance
        self.samples = self.exact = self.edits = self.characters = self.word_edits = self.words = 0
        self.accuracy = self.probability = self.loss = 0.0

    def add(self, text: Sequence[str], label: Sequence[str], probability: float = 0.0, loss: float = 0.0) -> None:
        """Adds one sample.

        Args:
          text, label: as in `accuracy`.
          probability: of `text`, by the model. loss: of the label, teacher forced; nats a decoder step.
        """
        edits = edit_distance(text, label)
        self.samples += 1
        self.exact += edits == 0
        self.edits += edits
        self.characters += len(label)
        words, reference = words_of(text), words_of(label)
        self.word_edits += edit_distance(words, reference)
        self.words += len(reference)
        self.accuracy += _accuracy(edits, len(label), self.use_distance)
        self.probability += probability
        self.loss += loss

    def metrics(self) -> dict[str, float]:
        """Each of METRICS by its name."""
        return {name: metric.compute(self) for name, metric in METRICS.items()}

    def mean(self, total: float) -> float:
        """A sum over the samples as a mean; 0.0 without samples."""
        return total / self.samples if self.samples else 0.0


class Metric(NamedTuple):
    """One figure over all samples."""

    compute: Callable[[Totals], float]  # 0.0 without samples
    higher_is_better: bool
    title: str  # in messages and plots


# `aocr test`, validation, the history, TensorBoard, the curves and --monitor all take their metrics from here.
METRICS = {
    # Share of the samples that were read without a mistake, in [0, 1].
    "exact_match": Metric(lambda totals: totals.mean(totals.exact), True, "exact match"),
    # Mean `accuracy` of the samples, in [0, 1].
    "accuracy": Metric(lambda totals: totals.mean(totals.accuracy), True, "accuracy"),
    # Character and word error rate: all edits / all characters (words) of the labels. Can exceed 1.
    "cer": Metric(lambda totals: _error_rate(totals.edits, totals.characters), False, "CER"),
    "wer": Metric(lambda totals: _error_rate(totals.word_edits, totals.words), False, "WER"),
    # Mean probability that the model gives its own readings, in [0, 1].
    "mean_probability": Metric(lambda totals: totals.mean(totals.probability), True, "mean probability"),
    # Mean loss of the attention decoder, teacher forced; nats a decoder step.
    "loss": Metric(lambda totals: totals.mean(totals.loss), False, "loss"),
}


def accuracy(text: Sequence[str], label: Sequence[str], use_distance: bool) -> float:
    """Returns how much of one label was read, in [0, 1].

    That is 1 - edit distance / label length, at least 0. Without `use_distance`, and for an empty label, it is 1.0 for
    an exact match and 0.0 otherwise.

    Args: text, label: str, or sequences of characters where one character takes several code points.
    """
    return _accuracy(edit_distance(text, label), len(label), use_distance)


def edit_distance(text: Sequence[str], label: Sequence[str]) -> int:
    """Returns the Levenshtein distance: insertions, deletions and substitutions between two sequences of str."""
    return _edit_distance(tuple(text), tuple(label))


@functools.lru_cache(maxsize=64)  # the decodings of one image mostly agree
def _edit_distance(text, label):
    return levenshtein(text, label)


def words_of(text: Sequence[str]) -> list[str]:
    """Splits a text (a str or its characters) at white space."""
    return "".join(text).split()


def _error_rate(edits, count):
    """Edits per reference item; without any item, 1.0 if something was read and 0.0 if not."""
    return edits / count if count else float(edits > 0)


def _accuracy(edits, length, use_distance):
    """`accuracy` from the edit distance and the label's length."""
    if not use_distance or not length:
        return float(edits == 0)
    return 1.0 - min(1.0, edits / length)
