"""The training processes of a run, as the run sees them: here a single one."""

from collections.abc import Callable, Iterator

from aocr.data.shard import Shard
from aocr.training.graph import TrainingGraph, TrainStep
from aocr.training.signals import Signals


class SingleProcess:
    """A process that trains alone. Its counterpart in a cluster is training.cluster.replica.Chief."""

    shard = Shard()
    sync = False  # whether all processes share each step

    def __init__(self, graph: TrainingGraph):
        self._graph = graph

    def prepare(self, description: str, first_step: int, steps: int, signals: Signals) -> None:
        """Must be called first: passes what other processes need to know, and the signals that may end the run."""

    def train(self, first_epoch: int, epochs: int | None, first_batch: int,
              learning_rate: Callable) -> Iterator[TrainStep]:
        """Trains as TrainingGraph.train."""
        return self._graph.train(first_epoch, epochs, first_batch, learning_rate)

    def take(self) -> int:
        """Copies the newest weights to the run's graph; returns their step."""
        return self._graph.step()

    def end(self, finished: bool) -> None:
        """Makes the other processes end if the run is finished, else wait for another chief."""
