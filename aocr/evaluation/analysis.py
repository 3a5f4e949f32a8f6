"""What `aocr test` finds beyond validation's METRICS: kinds of edits, lengths, characters, calibration."""

import collections
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from aocr.calibration import UNCALIBRATED, calibrated
from aocr.evaluation.alignment import EditCounts, Pair, align, edit_counts
from aocr.evaluation.reliability import Reliability
from aocr.metrics import METRICS, Metric, Totals, normalized, words_of
from aocr.prediction import Prediction

EDITS = ("insertions", "deletions", "substitutions")
WORD_CHARACTERS = ("L", "M", "N")  # Unicode categories: letters with their marks, and digits
SHORT_NAMES = {"exact": "exact_match"}


class Sample(NamedTuple):
    """The reading of one sample."""

    record: int
    image: str  # path, if the dataset has it
    label: Sequence[str]  # characters, in NFC, as is the text
    text: Sequence[str]
    confidence: float  # probability of the text
    loss: float
    pairs: Sequence[Pair]  # alignment of text and label
    confidences: Sequence[float] = ()  # of the text's characters, if they are known

    @property
    def exact(self) -> bool:
        """Whether the text equals the label."""
        return self.text == self.label

    @property
    def edit_counts(self) -> EditCounts:
        """Edits of characters, by kind."""
        return edit_counts(self.pairs)

    @property
    def edits(self) -> int:
        """Edit distance between text and label, in characters."""
        return sum(self.edit_counts)

    @property
    def similarity(self) -> float:
        """1 - edits / length of the longer one, in [0, 1]; 1 if both are empty."""
        longer = max(len(self.text), len(self.label))
        return 1.0 - self.edits / longer if longer else 1.0


def sample_of(prediction: Prediction, split: Callable[[str], list[str]]) -> Sample:
    """Returns the Sample of a prediction; `split`: splits a text into characters."""
    sample = make_sample(prediction.number, prediction.comment, prediction.label, prediction.text,
                         prediction.probability, prediction.loss, split)
    if [character.text for character in prediction.characters] != sample.text:  # NFC has changed them
        return sample
    return sample._replace(confidences=[character.confidence for character in prediction.characters])


def make_sample(record: int, image: str, label: str, text: str, confidence: float, loss: float,
                split: Callable[[str], list[str]]) -> Sample:
    """Returns a Sample; arguments as its fields, texts as str."""
    characters, reference = split(normalized(text)), split(normalized(label))
    return Sample(record, image, reference, characters, confidence, loss, align(characters, reference))


class Tally(Totals, Reliability):
    """Totals, and the other sums over samples that FIGURES are computed from."""

    def __init__(self, use_distance: bool = True):
        Totals.__init__(self, use_distance)
        Reliability.__init__(self)
        self.case_insensitive = self.alphanumeric = 0
        self.similarity = 0.0
        self.insertions = self.deletions = self.substitutions = 0
        self.word_insertions = self.word_deletions = self.word_substitutions = 0

    def add_sample(self, sample: Sample) -> None:
        """Adds one sample."""
        self.add(sample.text, sample.label, sample.confidence, sample.loss)
        text, label = "".join(sample.text), "".join(sample.label)
        self.case_insensitive += sample.exact or folded(text) == folded(label)
        self.alphanumeric += sample.exact or alphanumeric(text) == alphanumeric(label)
        self.similarity += sample.similarity
        self.add_confidence(sample.confidence, sample.exact)
        if not sample.exact:
            self._add_edits("", sample.pairs)
            self._add_edits("word_", align(words_of(text), words_of(label)))

    def _add_edits(self, prefix, pairs):
        for name, count in edit_counts(pairs)._asdict().items():
            setattr(self, prefix + name, getattr(self, prefix + name) + count)

    def vector(self) -> list[float]:
        """Returns all sums as numbers; vectors of several tallies may be added."""
        return [number for name, value in vars(self).items() if name != "use_distance"
                for number in (value if isinstance(value, list) else [value])]

    @classmethod
    def of_vector(cls, vector: Sequence[float]) -> "Tally":
        """Returns the tally with the sums of a `vector`."""
        tally, numbers = cls(), iter(vector)
        for name, value in vars(tally).items():
            if name != "use_distance":
                setattr(tally, name, [next(numbers) for _ in value] if isinstance(value, list) else next(numbers))
        return tally

    def figures(self) -> dict[str, float]:
        """Returns the values of FIGURES by name."""
        return {name: figure.compute(self) for name, figure in FIGURES.items()}


def _count(name):
    return Metric(lambda tally: getattr(tally, name), False, name.replace("_", " "))


# The metrics of a Tally.
FIGURES: dict[str, Metric] = {
    **METRICS,
    # As in the scene text literature: ignoring case; ignoring case and all but letters and digits. In [0, 1].
    "case_insensitive_match": Metric(lambda tally: tally.mean(tally.case_insensitive), True, "case-insensitive match"),
    "alphanumeric_match": Metric(lambda tally: tally.mean(tally.alphanumeric), True, "alphanumeric match"),
    # Mean `Sample.similarity`, in [0, 1].
    "one_minus_ned": Metric(lambda tally: tally.mean(tally.similarity), True, "1-NED"),
    **{name: _count(name) for name in (*EDITS, *(f"word_{name}" for name in EDITS))},
    "calibration_error": Metric(lambda tally: tally.calibration_error, False, "calibration error"),
}


class Analysis:
    """Figures over all samples added so far, by label length and by character. Memory does not grow with samples."""

    def __init__(self, use_distance: bool = True, temperature: float = UNCALIBRATED):
        """
        Args: use_distance: as in Totals. temperature: of the samples' confidences: see aocr/calibration.py.
        """
        self.tally, self.temperature = Tally(use_distance), temperature
        self.uncalibrated = Reliability() if temperature != UNCALIBRATED else None  # of the same texts without it
        self.lengths: dict[int, Tally] = {}
        # By character: how often labels and texts have it, and how often they agree on it.
        self.labelled, self.written, self.correct = (collections.Counter() for _ in range(3))
        self.confusions: collections.Counter[tuple[str, str]] = collections.Counter()  # (label, text); "": none

    def add(self, sample: Sample) -> None:
        """Adds one sample."""
        self.tally.add_sample(sample)
        if self.uncalibrated:
            self.uncalibrated.add_confidence(calibrated(sample.confidence, 1.0 / self.temperature), sample.exact)
        self.lengths.setdefault(len(sample.label), Tally()).add_sample(sample)
        for text, label in sample.pairs:
            self.labelled[label] += 1
            self.written[text] += 1
            if text == label:
                self.correct[text] += 1
            else:
                self.confusions[label, text] += 1

    def by_length(self) -> list[dict[str, float]]:
        """Returns samples, exact match, CER and 1-NED for each length of labels, ascending."""
        names = ("exact_match", "cer", "one_minus_ned")
        return [dict(length=length, samples=tally.samples, **{name: FIGURES[name].compute(tally) for name in names})
                for length, tally in sorted(self.lengths.items())]

    def by_character(self) -> list[dict[str, Any]]:
        """Returns counts, precision and recall of each character, most frequent first; None: never written."""
        found = sorted({*self.labelled, *self.written} - {""}, key=lambda c: (-self.labelled[c], c))
        return [dict(character=c, labelled=self.labelled[c], written=self.written[c], correct=self.correct[c],
                     precision=_ratio(self.correct[c], self.written[c]),
                     recall=_ratio(self.correct[c], self.labelled[c])) for c in found]

    def confused(self) -> list[dict[str, Any]]:
        """Returns the confusions, most frequent first; an empty label or text stands for an insertion or deletion."""
        ordered = sorted(self.confusions.items(), key=lambda item: (-item[1], item[0]))
        return [dict(label=label, text=text, count=count) for (label, text), count in ordered]

    def as_dict(self) -> dict[str, Any]:
        """Returns everything but the metrics, as plain values for JSON."""
        before = dict(reliability_before=self.uncalibrated.reliability()) if self.uncalibrated else {}
        return dict(by_length=self.by_length(), by_character=self.by_character(), confusions=self.confused(),
                    reliability=self.tally.reliability(), **before)

    def calibration(self) -> dict[str, float]:
        """Returns the temperature and the calibration error without it, by name; nothing if there is none."""
        return dict(temperature=self.temperature, calibration_error_before=self.uncalibrated.calibration_error) if (
            self.uncalibrated) else {}


def folded(text: str) -> str:
    """Returns a text without differences of case."""
    return normalized(text.casefold())


def alphanumeric(text: str) -> str:
    """Returns the letters (with their marks) and digits of a text, without differences of case."""
    return "".join(c for c in folded(text) if unicodedata.category(c)[0] in WORD_CHARACTERS)


def _ratio(part, whole):
    return part / whole if whole else None
