"""Batch norm's population statistics, estimated from a fixed sample of the training images."""

from collections.abc import Sequence

import numpy as np
import tensorflow.compat.v1 as tf

from aocr.graph.layers import Moments
from aocr.graph.preprocess import PreparedImages
from aocr.inputs import Examples

MOST_IMAGES, MOST_COLUMNS = 512, 65_536  # limits of the sample: images, columns of pixels
LEAST_IMAGES = 130  # whatever their width
Images = tuple[np.ndarray, np.ndarray]  # one batch: pixels [N, H, W, C], widths [N]


def sample_size(images: int, mean_width: float) -> int:
    """Returns the sample size for a dataset of `images` images, `mean_width` pixels wide on average."""
    return min(images, MOST_IMAGES, max(LEAST_IMAGES, round(MOST_COLUMNS / mean_width)))


class Sample:
    """The first batches of an epoch, read when first needed and kept in memory."""

    def __init__(self, examples: Examples, epoch: int):
        """`epoch`: its number."""
        self._examples, self._epoch = examples, epoch
        self._batches: list[Images] = []
        self._started = self._exhausted = False

    def take(self, session: tf.Session, images: int) -> list[Images]:
        """Returns the first batches that together hold at least `images` images, or all batches."""
        if not self._started:
            self._examples.start(session, self._epoch)
            self._started = True
        taken: list[Images] = []
        count = 0
        while count < images and self._has(session, len(taken)):
            taken.append(self._batches[len(taken)])
            count += len(taken[-1][1])
        return taken

    def _has(self, session, number):
        """Returns whether batch `number` exists; it is at most one beyond those in memory."""
        if number == len(self._batches) and not self._exhausted:
            try:
                self._batches.append(session.run(tuple(self._examples.images)))
            except tf.errors.OutOfRangeError:
                self._exhausted = True
        return number < len(self._batches)


class Statistics:
    """Estimates the population statistics of the trained batch norm layers.

    In the first hundreds of steps, weights change faster than running statistics can follow, so there are none: the
    statistics are estimated again before each checkpoint, and depend on the weights alone.
    """

    def __init__(self, images: PreparedImages, moments: Sequence[Moments]):
        """`images`: tensors to feed batches to. `moments`: of each layer, on these tensors."""
        self._images = images
        self._moments = [(layer.mean, layer.variance) for layer in moments]
        population = [variable for layer in moments for variable in (layer.population_mean, layer.population_variance)]
        self._given = [tf.placeholder(tf.float32, variable.shape) for variable in population]
        self._assign = [variable.assign(value) for variable, value in zip(population, self._given)]

    def estimate(self, session: tf.Session, batches: Sequence[Images]) -> None:
        """Sets the statistics from at least one batch, under the current weights."""
        seen = [session.run(self._moments, {self._images.pixels: pixels, self._images.widths: widths})
                for pixels, widths in batches]
        sizes = np.array([np.sum(widths) for _, widths in batches], np.float64)
        values = []
        for layer in zip(*seen):
            means, variances = (np.array(part, np.float64) for part in zip(*layer))  # [batches, C]
            mean = np.average(means, axis=0, weights=sizes)
            # Law of total variance: the variance within the batches plus that between them.
            variance = np.average(variances + np.square(means - mean), axis=0, weights=sizes)
            values += [mean, variance]
        session.run(self._assign, dict(zip(self._given, values)))
