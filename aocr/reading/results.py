"""What reading gives: the public result types."""

import dataclasses
from typing import Any

from aocr.errors import UserError
from aocr.prediction import Alternative, Hypothesis, Reading


class ReadError(UserError):
    """An image that cannot be read: `NAME: PROBLEM` in one line."""


@dataclasses.dataclass(frozen=True, slots=True)
class ReadCharacter:
    """One character of a text. Its edges are in pixels of the image as displayed: turned by its EXIF orientation."""

    text: str
    confidence: float  # in [0, 1]
    alternatives: tuple[Alternative, ...]  # the most probable characters of this place, best first
    left: float  # 0 <= left <= right <= width of the image
    right: float


@dataclasses.dataclass(frozen=True, slots=True)
class ReadResult:
    """What was read in one image, or why it could not be read."""

    text: str = ""
    confidence: float = 0.0  # in [0, 1]; that of the whole text
    characters: tuple[ReadCharacter, ...] = ()  # of the text; empty without `details`
    hypotheses: tuple[Hypothesis, ...] = ()  # the n best texts, best first; empty unless asked for
    decoding: str | None = None  # attention, ctc or joint; None if an export does not tell
    error: str | None = None  # the problem in one line, without the image's name; None if the image was read

    def as_dict(self) -> dict[str, Any]:
        """Returns the result as values of JSON, without `decoding`."""
        return dict(
            text=self.text, confidence=self.confidence,
            characters=[dict(text=one.text, confidence=one.confidence, left=one.left, right=one.right,
                             alternatives=[dict(text=text, confidence=confidence)
                                           for text, confidence in one.alternatives]) for one in self.characters],
            hypotheses=[dict(text=text, confidence=confidence) for text, confidence in self.hypotheses],
            error=self.error)


def result_of(reading: Reading, width: int, decoding: str | None) -> ReadResult:
    """Returns the result for a Reading. `width`: of the image as displayed, in pixels."""
    characters = tuple(ReadCharacter(text, confidence, alternatives, left * width, right * width)
                       for text, confidence, alternatives, left, right in reading.characters)
    return ReadResult(reading.text, reading.confidence, characters, reading.hypotheses, decoding)
