"""Splits a batch over several devices, and combines the moments of its parts."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow.compat.v1 as tf

from aocr.graph.layers import Moments
from aocr.graph.preprocess import PreparedImages, at_least_one


class TowerBatch(NamedTuple):
    """One device's part of a batch: at least one row, which is blank if the batch has none for it."""

    images: PreparedImages
    inputs: tf.Tensor  # [N, T] int32
    targets: tf.Tensor  # [N, T] int32
    weights: tf.Tensor  # [N, T] float32; 0 for a blank row
    size: tf.Tensor  # [] int32: number of real rows
    columns: tf.Tensor  # [] float32: pixel columns of their images


def split_batch(images: PreparedImages, batch: Any, count: int) -> list[TowerBatch]:
    """Cuts a batch into `count` TowerBatches of consecutive rows; one TowerBatch is the batch as it is.

    Args: images: of the batch. batch: any object with its `inputs`, `targets` and `weights`.
    """
    rows = tf.shape(images.widths)[0]
    if count == 1:
        return [TowerBatch(images, batch.inputs, batch.targets, batch.weights, rows, _columns(images.widths))]
    return [_tower_batch(images, batch, rows * k // count, rows * (k + 1) // count) for k in range(count)]


def _tower_batch(images, batch, first, end):
    own = PreparedImages(images.pixels[first:end], images.widths[first:end])
    blank = 1 - tf.minimum(end - first, 1)
    inputs, targets, weights = (tf.pad(part[first:end], [[0, blank], [0, 0]])
                                for part in (batch.inputs, batch.targets, batch.weights))
    return TowerBatch(at_least_one(own), inputs, targets, weights, end - first, _columns(own.widths))


def _columns(widths):
    return tf.cast(tf.reduce_sum(widths), tf.float32)


def total_moments(moments: Sequence[list[Moments]], columns: tf.Tensor) -> list[Moments]:
    """Computes the moments of a whole batch from those of its parts.

    Args: moments: for each part, one per layer. columns: float32 [parts], weight of each part.
    Returns: one per layer.
    """
    if len(moments) == 1:
        return moments[0]
    weights = (columns / tf.reduce_sum(columns))[:, tf.newaxis]  # [parts, 1]
    totals = []
    for layer in zip(*moments):
        means, variances = tf.stack([m.mean for m in layer]), tf.stack([m.variance for m in layer])  # [parts, C]
        mean = tf.reduce_sum(weights * means, 0)
        # Law of total variance: the variance within the parts plus that between them.
        variance = tf.reduce_sum(weights * (variances + tf.square(means - mean)), 0)
        totals.append(Moments(mean, variance, layer[0].population_mean, layer[0].population_variance))
    return totals
