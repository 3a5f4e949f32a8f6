"""A model's prediction for one image."""

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np


class Candidate(NamedTuple):
    """A candidate text of an image, with its log probabilities under both branches."""

    text: str
    by_attention: float
    by_ctc: float


class Alternative(NamedTuple):
    """A character that could stand in a place of the text."""

    text: str
    probability: float  # in [0, 1]


class Character(NamedTuple):
    """One character of a text, with where it was found."""

    text: str
    confidence: float  # in [0, 1]
    alternatives: tuple[Alternative, ...]  # the most probable characters of this place, best first
    left: float  # its edges, as fractions of the image's width, 0 <= left <= right <= 1
    right: float


class Hypothesis(NamedTuple):
    """One of the n best texts of an image."""

    text: str
    confidence: float  # in [0, 1]


class Reading(NamedTuple):
    """What was read in one image."""

    text: str
    confidence: float  # in [0, 1]
    characters: tuple[Character, ...] = ()  # of the text; empty unless asked for
    hypotheses: tuple[Hypothesis, ...] = ()  # the n best texts, best first; empty unless asked for


class Prediction(NamedTuple):
    """The prediction for one sample of a dataset."""

    number: int  # of the record
    label: str
    comment: str
    encoded: bytes  # the image file
    width: int  # of the prepared image, in pixels
    text: str
    probability: float
    loss: float  # with teacher forcing; nats per step
    attention: "np.ndarray"  # [steps, S]: steps of the text and EOS; encoder steps without padding
    candidates: tuple  # of Candidate, in joint decoding: CTC's best texts, then the attention decoder's greedy text
    characters: tuple[Character, ...] = ()  # of the text; empty unless asked for
