"""The loop of `aocr test` and of validation: a dataset's predictions, measured under one or more decodings."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from aocr.config import ATTENTION, CTC, Decoding
from aocr.evaluation.metrics import Totals
from aocr.prediction import Prediction


class Measurement:
    """Totals of the predictions under each decoding."""

    def __init__(self, decodings: Sequence[Decoding], split: Callable[[str], Sequence[str]], use_distance: bool = True):
        """
        Args:
          decodings: that the predictions hold candidates for, or the one they were decoded by.
          split: splits a text into characters. use_distance: as of Totals.
        """
        self.totals = {decoding: Totals(use_distance) for decoding in decodings}
        self._split = split

    def measure(self, predictions: Iterable[Prediction]) -> Iterator[Prediction]:
        """Yields each prediction once it is in the totals."""
        for prediction in predictions:
            label = self._split(prediction.label)
            for decoding, totals in self.totals.items():
                text = prediction.text if len(self.totals) == 1 else text_by(decoding, prediction)
                totals.add(self._split(text), label, prediction.probability, prediction.loss)
            yield prediction

    @property
    def best(self) -> Decoding:
        """The decoding with the fewest character edits; of equal ones that with more exact matches, then the first."""
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
