"""Compares two tests on the same samples."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from aocr.evaluation.analysis import FIGURES, Sample, Tally, make_sample

COMPARED = ("exact_match", "case_insensitive_match", "alphanumeric_match", "accuracy", "cer", "wer", "one_minus_ned",
            "calibration_error", "loss")
COVERED = 95  # percent; probability mass of the intervals


class Reading(NamedTuple):
    """What a test read in one sample; fields as of Sample."""

    record: int
    image: str
    label: str
    text: str
    confidence: float
    loss: float


class Difference(NamedTuple):
    """How a metric differs between two tests."""

    name: str  # of FIGURES
    before: float
    after: float
    interval: tuple[float, float] | None  # of after - before; None if the samples are unknown

    @property
    def verdict(self) -> str:
        """`better` or `worse` if the interval excludes 0, else `unclear`; without interval, by the values."""
        low, high = self.interval or (self.after - self.before,) * 2
        if not (low > 0.0 or high < 0.0):  # NaN too
            return "same" if low == high else "unclear"
        return "better" if (low > 0.0) == FIGURES[self.name].higher_is_better else "worse"


class Comparison(NamedTuple):
    """Two tests, before and after."""

    samples: int
    differences: Sequence[Difference]
    fixed: Sequence[tuple[Reading, Reading]]  # wrong before, correct after
    broken: Sequence[tuple[Reading, Reading]]
    other: Sequence[tuple[Reading, Reading]]  # wrong in both, in other ways


def compare(pairs: Sequence[tuple[Reading, Reading]], split: Callable[[str], list[str]], resamples: int,
            seed: int) -> Comparison:
    """Compares the readings of two tests.

    The intervals are of a paired bootstrap: each resample draws samples with replacement, the same for both tests.

    Args: pairs: the readings of each sample, at least one. split: splits a text into characters.
    """
    vectors = np.array([_vectors(*pair, split) for pair in pairs], np.float64)  # [N, 2, K]
    kinds: dict[str, list[tuple[Reading, Reading]]] = dict(fixed=[], broken=[], other=[])
    for pair in pairs:
        if kind := _kind(*(make_sample(*reading, split) for reading in pair)):
            kinds[kind].append(pair)
    before, after = (_values(sums) for sums in vectors.sum(axis=0))
    drawn = np.array([after - before for before, after in _resampled(vectors, resamples, seed)])  # [resamples, metrics]
    tail = (100 - COVERED) / 2
    low, high = np.percentile(drawn, [tail, 100 - tail], axis=0)
    return Comparison(len(pairs), [Difference(name, float(before[k]), float(after[k]), (float(low[k]), float(high[k])))
                                   for k, name in enumerate(COMPARED)], **kinds)


def compare_metrics(before: Mapping[str, float], after: Mapping[str, float]) -> list[Difference]:
    """Compares metrics by name, those that both have, without intervals."""
    return [Difference(name, before[name], after[name], None) for name in COMPARED if name in before and name in after]


def _vectors(before, after, split):
    return [_tally(make_sample(*reading, split)).vector() for reading in (before, after)]


def _tally(sample: Sample) -> Tally:
    tally = Tally()
    tally.add_sample(sample)
    return tally


def _values(sums):
    """Returns the values of COMPARED of summed vectors: [metrics]."""
    tally = Tally.of_vector(sums.tolist())
    return np.array([FIGURES[name].compute(tally) for name in COMPARED])


def _resampled(vectors, resamples, seed) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields the values of both tests in each resample."""
    random = np.random.default_rng(seed)
    count = len(vectors)
    flat = vectors.reshape(count, -1)
    for _ in range(resamples):
        times = np.bincount(random.integers(count, size=count), minlength=count)
        before, after = (times @ flat).reshape(vectors.shape[1:])
        yield _values(before), _values(after)


def _kind(before, after):
    if before.text == after.text:
        return None
    if before.exact or after.exact:
        return "fixed" if after.exact else "broken"
    return "other"
