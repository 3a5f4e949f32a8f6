"""The processes of a run, as the run sees them: here one that trains alone."""

from collections.abc import Callable, Iterator

from aocr.training.graph import TrainingGraph, TrainStep
from aocr.training.signals import Signals


class SingleProcess:
    """A process that trains alone. Its counterpart in a cluster is training.cluster.replica.Chief."""

    replica = (0, 1)  # its number, and how many processes train
    sync = False  # whether each step is one of all processes

    def __init__(self, graph: TrainingGraph):
        self._graph = graph

    def prepare(self, description: str, first_step: int, steps: int, signals: Signals) -> None:
        """To be called before anything else: what others must know of the run, and the signals that may end it."""

    def train(self, first_epoch: int, epochs: int | None, first_batch: int,
              learning_rate: Callable) -> Iterator[TrainStep]:
        """As TrainingGraph.train."""
        return self._graph.train(first_epoch, epochs, first_batch, learning_rate)

    def take(self) -> int:
        """Brings the newest weights to the run's graph; returns their step."""
        return self._graph.step()

    def end(self, finished: bool) -> None:
        """Lets the other processes end, or wait for another run."""
