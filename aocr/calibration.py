"""Calibration: one parameter that turns probabilities into confidences which are right as often as they say."""

from typing import TypeVar

Probability = TypeVar("Probability")  # a float, an array or a tensor

UNCALIBRATED = 1.0
LEAST, MOST = 0.02, 50.0  # limits of the temperature


def calibrated(probability: Probability, temperature: float) -> Probability:
    """Returns p^(1 / temperature): keeps 0, 1 and the order; raises what is between if the temperature is above 1.

    The inverse is that of 1 / temperature.
    """
    return probability if temperature == UNCALIBRATED else probability ** (1.0 / temperature)  # type: ignore[operator]
