"""Batch norm's population statistics, estimated from a fixed sample of the training images."""

from collections.abc import Sequence

import numpy as np
import tensorflow.compat.v1 as tf

from aocr.graph.layers import Moments
from aocr.graph.preprocess import PreparedImages
from aocr.inputs import Examples

MOST_IMAGES, MOST_COLUMNS = 512, 65_536  # of the sample; columns of pixels, in images of which fewer do
LEAST_IMAGES = 130
Images = tuple[np.ndarray, np.ndarray]  # of a batch: pixels [N, H, W, C], widths [N]


def sample_size(images: int, mean_width: float) -> int:
    """How many of so many images of a mean width (pixels) statistics are estimated from."""
    return min(images, MOST_IMAGES, max(LEAST_IMAGES, round(MOST_COLUMNS / mean_width)))


class Sample:
    """The first batches of a pass over the training images, kept in memory once they are needed."""

    def __init__(self, examples: Examples, epoch: int):
        """`epoch`: the pass's number."""
        self._examples, self._epoch = examples, epoch
        self._batches: list[Images] = []
        self._started = self._whole = False

    def take(self, session: tf.Session, images: int) -> list[Images]:
        """The first batches that together hold at least so many images, or all."""
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
        """Whether there is a batch of this number, which is at most one beyond those in memory."""
        if number == len(self._batches) and not self._whole:
            try:
                self._batches.append(session.run(tuple(self._examples.images)))
            except tf.errors.OutOfRangeError:
                self._whole = True
        return number < len(self._batches)


class Statistics:
    """Sets the statistics of the batch norm layers that are trained.

    During the first hundreds of steps weights change faster than a moving average can follow, so none is kept: the
    statistics are estimated anew before each checkpoint, and follow from the weights alone.
    """

    def __init__(self, images: PreparedImages, moments: Sequence[Moments]):
        """`images`: tensors that batches are fed to. `moments`: of each layer in them."""
        self._images = images
        self._moments = [(layer.mean, layer.variance) for layer in moments]
        kept = [variable for layer in moments for variable in (layer.population_mean, layer.population_variance)]
        self._given = [tf.placeholder(tf.float32, variable.shape) for variable in kept]
        self._assign = [variable.assign(value) for variable, value in zip(kept, self._given)]

    def estimate(self, session: tf.Session, batches: Sequence[Images]) -> None:
        """Sets them from batches, at least one, with the weights as they are."""
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
