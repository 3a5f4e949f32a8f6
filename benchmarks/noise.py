"""Batches of noise in memory, for benchmarks of the graph alone."""

import numpy as np
import tensorflow.compat.v1 as tf

from aocr.config import IMAGE_HEIGHT
from aocr.data.pipeline import Batch


class NoiseSource:
    """In place of data.pipeline.Source: one batch of `count` images, label length steps - 1, repeated forever."""

    def __init__(self, count, width, steps, vocabulary):
        random = np.random.default_rng(0)
        sizes = [count, steps]
        self._batch = Batch(
            pixels=random.uniform(-1, 1, [count, IMAGE_HEIGHT, width, 1]).astype(np.float32),
            widths=np.full(count, width, np.int32), inputs=random.integers(3, vocabulary, sizes, np.int32),
            targets=random.integers(3, vocabulary, sizes, np.int32), weights=np.ones(sizes, np.float32),
            numbers=np.arange(count), labels=[b""] * count, comments=[b""] * count, encoded=[b""] * count,
            epoch=np.int64(0), index=np.int64(0))

    def batches(self, **_):
        """As Source.batches."""
        return tf.data.Dataset.from_tensors(Batch(*map(tf.constant, self._batch))).repeat()

    def _replace(self, **_):
        return self
