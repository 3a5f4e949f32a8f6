"""A cluster process that loses the others at moments that no test of whole processes would hit."""

from types import SimpleNamespace

import numpy as np
import tensorflow.compat.v1 as tf

from aocr.data.shard import Shard
from aocr.training.cluster import replica
from aocr.training.graph import TrainStep


class TwoPasses:
    """Replaces a training graph: endless epochs of three batches each."""

    def train(self, first_epoch, epochs, first_batch, learning_rate):
        """Yields TrainSteps like TrainingGraph.train."""
        while True:
            for index in range(first_batch, 3):
                yield TrainStep(1.0, 1.0, 0.0, 0, 1.0, 0.1, 0, first_epoch, index, np.arange(2), 0.0)
            first_epoch, first_batch = first_epoch + 1, 0


class Losing(replica.Replica):
    """Loses the servers once, between the gradients of its second batch and their update."""

    losses = 1

    def _begin(self):
        pass

    def _complete(self, step):
        if step.index == 1 and self.losses:
            self.losses -= 1
            raise tf.errors.UnavailableError(None, None, "gone")
        return step


def test_a_batch_whose_update_was_lost_is_trained_on_again(monkeypatch):
    monkeypatch.setattr(replica, "RETRY", 0.0)
    steps = Losing(TwoPasses(), SimpleNamespace(shard=Shard(), name="chief 0"), None, True).train(5, None, 0, None)
    assert [(step.epoch, step.index) for step in (next(steps) for _ in range(5))] == [
        (5, 0), (5, 1), (5, 2), (6, 0), (6, 1)]
