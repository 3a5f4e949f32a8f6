"""Metrics of predictions: exact match, error rates, accuracy."""

import functools
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

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
          probability: of `text`. loss: of the label, with teacher forcing; nats per decoder step.
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
        """Returns the values of METRICS by name."""
        return {name: metric.compute(self) for name, metric in METRICS.items()}

    def mean(self, total: float) -> float:
        """Returns the mean over the samples of one of the sums; 0.0 without samples."""
        return total / self.samples if self.samples else 0.0


class Metric(NamedTuple):
    """A metric over all samples."""

    compute: Callable[[Any], float]  # of Totals; 0.0 without samples
    higher_is_better: bool
    title: str  # in messages and plots


# `aocr test`, validation, the history, TensorBoard, the curves and --monitor all take their metrics from here;
# evaluation/analysis.py adds those of tests alone.
METRICS = {
    # Fraction of the samples without an error, in [0, 1].
    "exact_match": Metric(lambda totals: totals.mean(totals.exact), True, "exact match"),
    # Mean `accuracy` of the samples, in [0, 1].
    "accuracy": Metric(lambda totals: totals.mean(totals.accuracy), True, "accuracy"),
    # Character and word error rate: total edits / total characters (words) of the labels. Can exceed 1.
    "cer": Metric(lambda totals: _error_rate(totals.edits, totals.characters), False, "CER"),
    "wer": Metric(lambda totals: _error_rate(totals.word_edits, totals.words), False, "WER"),
    # Mean probability of the predicted texts, in [0, 1].
    "mean_probability": Metric(lambda totals: totals.mean(totals.probability), True, "mean probability"),
    # Mean loss of the attention decoder with teacher forcing, in nats per decoder step.
    "loss": Metric(lambda totals: totals.mean(totals.loss), False, "loss"),
}


def accuracy(text: Sequence[str], label: Sequence[str], use_distance: bool) -> float:
    """Returns the accuracy of one text, in [0, 1].

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


def normalized(text: str) -> str:
    """Returns a text in NFC, in which texts and labels are compared."""
    return unicodedata.normalize("NFC", text)


def words_of(text: Sequence[str]) -> list[str]:
    """Splits a text (a str or its characters) at white space."""
    return "".join(text).split()


def _error_rate(edits, count):
    """Returns edits per reference item; without items, 1.0 if there are edits, else 0.0."""
    return edits / count if count else float(edits > 0)


def _accuracy(edits, length, use_distance):
    """Returns `accuracy`, from the edit distance and the label's length."""
    if not use_distance or not length:
        return float(edits == 0)
    return 1.0 - min(1.0, edits / length)
