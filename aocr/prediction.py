"""What a model says of one image."""

from typing import NamedTuple

import numpy as np


class Candidate(NamedTuple):
    """A possible text of an image, and its log probabilities by the two branches."""

    text: str
    by_attention: float
    by_ctc: float


class Prediction(NamedTuple):
    """The model's reading of one image of a dataset."""

    number: int  # of the record
    label: str
    comment: str
    encoded: bytes  # the image file
    width: int  # of the prepared image, in pixels
    text: str
    probability: float
    loss: float  # with teacher forcing; nats per step
    attention: np.ndarray  # [steps, S] of the characters read and EOS, over the image's own length
    candidates: tuple  # of Candidate, in joint decoding: CTC's best texts, then the attention decoder's greedy one
