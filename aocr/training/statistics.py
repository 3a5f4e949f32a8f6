"""Batch norm's population statistics, estimated from training batches."""

from collections.abc import Sequence

import numpy as np
import tensorflow.compat.v1 as tf

from aocr.graph.layers import Moments
from aocr.graph.preprocess import PreparedImages


class Statistics:
    """Sets the statistics of the batch norm layers that are trained.

    During the first hundreds of steps weights change faster than a moving average can follow, so none is kept: the
    statistics are estimated anew before each checkpoint.
    """

    def __init__(self, images: PreparedImages, moments: Sequence[Moments]):
        """`images`: tensors that batches are fed to. `moments`: of each layer in them."""
        self._images = images
        self._moments = [(layer.mean, layer.variance) for layer in moments]
        kept = [variable for layer in moments for variable in (layer.population_mean, layer.population_variance)]
        self._given = [tf.placeholder(tf.float32, variable.shape) for variable in kept]
        self._assign = [variable.assign(value) for variable, value in zip(kept, self._given)]

    def estimate(self, session: tf.Session, batches: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
        """Sets them from training batches, with the weights as they are.

        `batches`: pixels [N, H, W, C] and widths [N] of each, at least one.
        """
        seen = [session.run(self._moments, {self._images.pixels: pixels, self._images.widths: widths})
                for pixels, widths in batches]
        sizes = np.array([np.sum(widths) for _, widths in batches], np.float64)
        values = []
        for layer in zip(*seen):
            means, variances = (np.array(part, np.float64) for part in zip(*layer))  # [batches, C]
            mean = np.average(means, axis=0, weights=sizes)
            # The law of total variance: what varies within the batches, and between them.
            variance = np.average(variances + np.square(means - mean), axis=0, weights=sizes)
            values += [mean, variance]
        session.run(self._assign, dict(zip(self._given, values)))
