"""Fits the temperature of a model to texts that are known to be right or wrong."""

import math
from collections.abc import Callable, Sequence

import numpy as np

from aocr.calibration import LEAST, MOST, calibrated

SMALLEST = 1e-12  # distance of log p from 0, and 1e-300 of p from 0: a sure error has a finite loss
GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0
STEPS = 60  # of the search, which narrows the temperature's logarithm to 1e-12 of its range


def fit_temperature(probabilities: Sequence[float], right: Sequence[bool]) -> float:
    """Returns the temperature, LEAST to MOST, with the least loss, of which there is one: the loss is convex in its
    inverse.

    Right and wrong count as (R + 1) / (R + 2) and 1 / (W + 2), for R right and W wrong texts (Platt 1999), so that a
    few texts, all of them right, are no proof of certainty.

    Args: probabilities: of the texts, uncalibrated, in [0, 1]; at least one.
    """
    known = np.asarray(right, bool)
    rights, wrongs = np.count_nonzero(known), np.count_nonzero(~known)
    targets = np.where(known, (rights + 1.0) / (rights + 2.0), 1.0 / (wrongs + 2.0))
    log_probabilities = _logarithms(probabilities)
    return math.exp(_minimum(lambda x: _loss(log_probabilities / math.exp(x), targets), math.log(LEAST),
                             math.log(MOST)))


def negative_log_likelihood(probabilities: Sequence[float], right: Sequence[bool], temperature: float) -> float:
    """Returns the mean loss of calibrated probabilities as predictions of what is right, in nats per text."""
    values = calibrated(np.asarray(probabilities, np.float64), temperature)
    return _loss(_logarithms(values), np.asarray(right, np.float64))


def _logarithms(probabilities):
    return np.log(np.clip(np.nan_to_num(np.asarray(probabilities, np.float64)), 1e-300, 1.0))


def _loss(log_probabilities, targets):
    """Returns the mean cross-entropy of targets in [0, 1] and probabilities."""
    logs = np.minimum(log_probabilities, -SMALLEST)
    return float(-np.mean(targets * logs + (1.0 - targets) * np.log(-np.expm1(logs))))


def _minimum(function: Callable[[float], float], low: float, high: float) -> float:
    """Returns where a function with one minimum between `low` and `high` has it (golden section search)."""
    a, b = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
    at_a, at_b = function(a), function(b)
    for _ in range(STEPS):
        if at_a <= at_b:
            high, b, at_b = b, a, at_a
            a = high - GOLDEN * (high - low)
            at_a = function(a)
        else:
            low, a, at_a = a, b, at_b
            b = low + GOLDEN * (high - low)
            at_b = function(b)
    return (low + high) / 2.0
