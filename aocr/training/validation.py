"""How good the weights are while they are trained."""

import functools
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from tqdm import tqdm

from aocr.charset import splitter
from aocr.checkpoint import Description
from aocr.config import ATTENTION, CTC, JOINT, Decoding
from aocr.data import pipeline
from aocr.data.scanning import DatasetStatistics
from aocr.evaluation.metrics import Totals
from aocr.model import Prediction, open_model
from aocr.network import Network
from aocr.training.state import RunState

if TYPE_CHECKING:
    import numpy as np
    import tensorflow.compat.v1 as tf

log = logging.getLogger(__name__)

BATCH_SIZE = 64
SHOWN = 4  # samples that each validation shows


# The shares of CTC that joint decoding is tried with; among those that read equally well, the first one is taken.
CTC_SHARES = (0.3, 0.2, 0.4, 0.1, 0.5, 0.7)
TRIED = (*(Decoding(JOINT, share) for share in CTC_SHARES), Decoding(ATTENTION), Decoding(CTC))
# Images to train on that the decoding is chosen by, where there are none to validate on, and their columns of pixels.
SAMPLE, SAMPLE_COLUMNS = 256, 32_768


class Metrics(NamedTuple):
    """What a validation finds."""

    exact: float  # exact match, in [0, 1]
    cer: float
    loss: float  # teacher forced; nats a step
    wer: float = 0.0
    decoding: str = ATTENTION  # that read best,
    ctc_share: float = Decoding._field_defaults["ctc_share"]  # and its share of CTC, which count for all of these

    @property
    def chosen(self) -> Decoding:
        """What read best."""
        return Decoding(self.decoding, self.ctc_share)

    def better_than(self, other: "Metrics", monitor: str) -> bool:
        """Whether this is the better one of two by one of its fields, and by the loss where that is equal."""
        mine, its = getattr(self, monitor), getattr(other, monitor)
        if mine == its:
            return self.loss < other.loss
        return mine > its if monitor == "exact" else mine < its

    def __str__(self) -> str:
        return (f"exact match {self.exact:.4f}, CER {self.cer:.4f}, WER {self.wer:.4f}, loss {self.loss:.4f}, "
                f"{self.decoding} decoding")


class Validator:
    """Reads a dataset with weights that are given, by each decoding, with inference statistics, in a graph of its own.
    """

    def __init__(self, scan: DatasetStatistics, description: Description, precision: str,
                 session_config: "tf.ConfigProto | None"):
        """`scan`: of what to read. `description`: of the model. The rest as in Model."""
        self.scan, self._description = scan, description
        self.split = splitter(description.config.graphemes)  # a text -> its characters
        self._precision, self._session_config = precision, session_config

    @functools.cached_property
    def _model(self):
        """Opened when it is needed, so that training begins sooner."""
        config = self._description.config
        batches = functools.partial(pipeline.batches, self.scan, batch_size=BATCH_SIZE, image_bytes=config.image_bytes)
        return open_model(Network(config, self._description.charset), batches=batches, precision=self._precision,
                          decoding=Decoding(JOINT if config.ctc else ATTENTION), session_config=self._session_config)

    @functools.cached_property
    def data(self) -> str:
        """What a figure is of, for comparing and for people."""
        return f"{self.scan.usable} records with the digest {self.scan.digest()}"

    def __enter__(self) -> "Validator":
        return self

    def __exit__(self, *_) -> None:
        if "_model" in vars(self):
            self._model.session.close()

    def validate(self, weights: "dict[str, np.ndarray]",
                 stop: Callable[[], object]) -> tuple[Metrics, list[Prediction]] | None:
        """What it finds, and the first few images as they were read; None if `stop` says so meanwhile.

        `weights`: as `TrainingGraph.weights` gives them.
        """
        self._model.load(weights)
        tried = {decoding: Totals(use_distance=True)
                 for decoding in (TRIED if self._description.config.ctc else (Decoding(ATTENTION),))}
        losses = 0.0
        shown: list[Prediction] = []
        bar = tqdm(desc="validate", total=self.scan.usable, unit=" images", disable=None, leave=False)
        with bar:
            for reading in self._model.read():
                label = self.split(reading.label)
                for decoding, totals in tried.items():
                    totals.add(self.split(text_by(decoding, reading)), label, reading.probability)
                losses += reading.loss
                if len(shown) < SHOWN:
                    shown.append(reading)
                bar.update()
                if stop():
                    return None
        best = min(tried, key=lambda decoding: (tried[decoding].edits, -tried[decoding].exact_match))
        totals = tried[best]
        return Metrics(totals.exact_match, totals.cer, losses / max(totals.samples, 1), totals.wer, best.method,
                       best.ctc_share), shown

    def drawn_steps(self, width: int, height: int) -> float:
        """Steps of the encoder that an image of this size takes."""
        return self._model.network.drawn_steps(width, height)


def text_by(decoding: Decoding, reading: Prediction) -> str:
    """The text that a decoding chooses among the candidates; without any, what was read."""
    if not reading.candidates:
        return reading.text
    if decoding.method == CTC:
        return reading.candidates[0].text
    if decoding.method == ATTENTION:
        return reading.candidates[-1].text
    share = decoding.ctc_share
    return max(reading.candidates, key=lambda found: (1.0 - share) * found.by_attention + share * found.by_ctc).text


def judge(state: RunState, metrics: Metrics, step: int, monitor: str, data: str) -> bool:
    """Compares a validation with the best one so far and notes it in the run's state.

    Args: monitor: the field that counts. data: what was read.
    Returns: whether it is the best.
    """
    if state.best and state.best_of != data:
        log.warning("the best checkpoint, of step %d, was measured on other data (%s), so that metrics of %s do not "
                    "compare with its: that of step %d takes its place", state.best["step"], state.best_of, data, step)
    elif state.best:
        best = Metrics(**{name: state.best[name] for name in Metrics._fields if name in state.best})
        if not metrics.better_than(best, monitor):
            state.without_gain += 1
            return False
    state.best, state.best_of, state.without_gain = dict(metrics._asdict(), step=step), data, 0
    return True
