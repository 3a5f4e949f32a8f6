"""A model's prediction for one image."""

from typing import NamedTuple

import numpy as np


class Candidate(NamedTuple):
    """A candidate text of an image, with its log probabilities under both branches."""

    text: str
    by_attention: float
    by_ctc: float


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
    attention: np.ndarray  # [steps, S]: steps of the text and EOS; encoder steps without padding
    candidates: tuple  # of Candidate, in joint decoding: CTC's best texts, then the attention decoder's greedy text
