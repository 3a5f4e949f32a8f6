"""Measures a dataset's predictions under one or more decodings, in validation."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from aocr.config import ATTENTION, CTC, Decoding
from aocr.metrics import Totals, normalized
from aocr.prediction import Prediction


class Measurement:
    """Totals of the predictions under each decoding."""

    def __init__(self, decodings: Sequence[Decoding], split: Callable[[str], Sequence[str]]):
        """
        Args:
          decodings: those that the predictions have candidates for, or the one that produced them.
          split: splits a text into characters.
        """
        self.totals = {decoding: Totals() for decoding in decodings}
        self._split = split

    def measure(self, predictions: Iterable[Prediction]) -> Iterator[Prediction]:
        """Adds each prediction to the totals, then yields it."""
        for prediction in predictions:
            label = self._split(normalized(prediction.label))
            for decoding, totals in self.totals.items():
                text = prediction.text if len(self.totals) == 1 else text_by(decoding, prediction)
                totals.add(self._split(normalized(text)), label, prediction.probability, prediction.loss)
            yield prediction

    @property
    def best(self) -> Decoding:
        """The decoding with the fewest character edits; ties go to more exact matches, then to the first."""
        return min(self.totals, key=lambda decoding: (self.totals[decoding].edits, -self.totals[decoding].exact))


def text_by(decoding: Decoding, prediction: Prediction) -> str:
    """Returns the candidate that a decoding chooses; the prediction's own text if it has no candidates."""
    candidates = prediction.candidates
    if not candidates:
        return prediction.text
    if decoding.method == CTC:
        return candidates[0].text
    if decoding.method == ATTENTION:
        return candidates[-1].text
    share = decoding.ctc_share
    return max(candidates, key=lambda found: (1.0 - share) * found.by_attention + share * found.by_ctc).text
