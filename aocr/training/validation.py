"""How good the weights are while they are trained."""

import functools
import logging
from typing import NamedTuple

from tqdm import tqdm

from aocr.charset import splitter
from aocr.data import pipeline
from aocr.evaluation.metrics import Totals
from aocr.model import Model

log = logging.getLogger(__name__)

BATCH_SIZE = 64
SHOWN = 4  # samples that each validation shows


class Figures(NamedTuple):
    """What a validation finds."""

    exact: float  # exact match, in [0, 1]
    cer: float
    loss: float  # teacher forced; nats a step

    def better_than(self, other, monitor):
        """Whether this is the better one of two by one of its fields, and by the loss where that is equal."""
        mine, its = getattr(self, monitor), getattr(other, monitor)
        if mine == its:
            return self.loss < other.loss
        return mine > its if monitor == "exact" else mine < its

    def __str__(self):
        return f"exact match {self.exact:.4f}, CER {self.cer:.4f}, loss {self.loss:.4f}"


class Validator:
    """Reads a dataset with weights that are given: greedy decoding, inference statistics, in a graph of its own."""

    def __init__(self, scan, description, precision, session_config):
        """`scan`: scanning.Scan of what to read. The rest as in Model."""
        self.scan, self._description = scan, description
        self.split = splitter(description.config.graphemes)  # a text -> its characters
        self._how = dict(precision=precision, session_config=session_config, batches=functools.partial(
            pipeline.batches, scan, batch_size=BATCH_SIZE, image_bytes=description.config.image_bytes))
        self._model = None

    @functools.cached_property
    def data(self):
        """What a figure is of, for comparing and for people."""
        return f"{self.scan.usable} records with the digest {self.scan.digest()}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._model:
            self._model.session.close()

    def validate(self, weights, stop):
        """(Figures, list of the first few model.Reading), or None if `stop` (a function) says so meanwhile.

        `weights`: as `Model.weights` gives them.
        """
        if not self._model:  # only now, so that training begins sooner
            self._model = Model(self._description.config, self._description.charset, **self._how)
        self._model.load(weights)
        totals, losses, shown = Totals(use_distance=True), 0.0, []
        bar = tqdm(desc="validate", total=self.scan.usable, unit=" images", disable=None, leave=False)
        with bar:
            for reading in self._model.read():
                totals.add(self.split(reading.text), self.split(reading.label), reading.probability)
                losses += reading.loss
                if len(shown) < SHOWN:
                    shown.append(reading)
                bar.update()
                if stop():
                    return None
        return Figures(totals.exact_match, totals.cer, losses / max(totals.samples, 1)), shown

    def drawn_width(self, width, height):
        """Width in prepared pixels of an image of this size."""
        return self._model.drawn_width(width, height)


def judge(state, figures, step, monitor, data):
    """Compares a validation with the best one so far and notes it in the run's state.

    Args: state: RunState. figures: Figures. step: int. monitor: the field that counts. data: str, what was read.
    Returns: whether it is the best.
    """
    if state.best and state.best_of != data:
        log.warning("the best checkpoint, of step %d, was measured on other data (%s), so that figures of %s do not "
                    "compare with its: that of step %d takes its place", state.best["step"], state.best_of, data, step)
    elif state.best:
        best = Figures(**{name: state.best[name] for name in Figures._fields})
        if not figures.better_than(best, monitor):
            state.without_gain += 1
            return False
    state.best, state.best_of, state.without_gain = dict(figures._asdict(), step=step), data, 0
    return True
