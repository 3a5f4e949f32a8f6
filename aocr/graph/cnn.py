"""The sliding CNN: turns an image into one feature vector for every few columns of pixels."""

from typing import NamedTuple

import tensorflow.compat.v1 as tf

from aocr.graph.layers import GLOROT, Initializers, Moments, batch_norm, conv
from aocr.networks import Network


class Features(NamedTuple):
    """Output of the CNN; F is the network's number of features."""

    values: tf.Tensor  # [N, S, F] float32 >= 0, 0 in the padding
    lengths: tf.Tensor  # [N] int32: steps of each image, ceil(width / stride)
    moments: list[Moments]  # of this batch, one per batch norm layer


def width_mask(widths: tf.Tensor, width: tf.Tensor | int, dtype: tf.DType = tf.float32) -> tf.Tensor:
    """Returns 1 inside an image and 0 in its padding: widths [N], W -> [N, 1, W, 1]."""
    return tf.sequence_mask(widths, width, dtype)[:, tf.newaxis, :, tf.newaxis]


def sliding_cnn(images: tf.Tensor, widths: tf.Tensor, network: Network, *, is_training: bool,
                dtype: tf.DType = tf.float32, initializers: Initializers = GLOROT) -> Features:
    """Applies the convolutions. An image's features do not depend on the padding to its right.

    The padding is reset to 0 before every pooling, as a convolution pads an image that is not in a batch; in a pooling
    window it is harmless, since relu follows.

    Args:
      images: float32 [N, 32, W, C], 0 beyond each image's width.
      widths: int32 [N], 1 <= width <= W.
      is_training: normalise with the moments of this batch.
      dtype: of the convolutions and activations; variables and batch norm are float32.
      initializers: of new weights.

    Returns: Features of S = ceil(W / network.stride) steps.
    """
    moments = []

    def convolve(x, layer, widths):
        """Applies convolution, batch norm, mask, max pooling and relu; returns the new (x, widths).

        Relu comes last, on the smallest tensor: it commutes with the maximum, and with a mask of 0 and 1.
        """
        he = initializers.he and not layer.batch_norm
        x = conv(x, layer.filters, layer.kernel, layer.stride,
                 initializer=tf.initializers.he_normal() if he else None)  # [N, H / stride, W / stride, filters]
        widths = shrunk(widths, layer.stride[1])
        mask = width_mask(widths, tf.shape(x)[2], dtype)
        if layer.batch_norm:
            x, of_batch = batch_norm(tf.cast(x, tf.float32), tf.cast(mask, tf.float32), is_training)
            x = tf.cast(x, dtype)
            moments.append(of_batch)
        x *= mask
        if layer.pool != (1, 1):
            x = tf.nn.max_pool2d(x, ksize=layer.pool, strides=layer.pool, padding="SAME")
        return tf.nn.relu(x), shrunk(widths, layer.pool[1])

    with tf.variable_scope("cnn"):
        x = tf.cast(images, dtype)
        for number, layer in enumerate(network.layers, 1):
            with tf.variable_scope(f"conv{number}"):
                x, widths = convolve(x, layer, widths)
        values = tf.identity(tf.cast(tf.squeeze(x, 1), tf.float32), "features")  # [N, 1, S, F] -> [N, S, F]
        return Features(values, tf.identity(widths, "lengths"), moments)


def shrunk(widths: tf.Tensor, stride: int) -> tf.Tensor:
    """Returns the widths after a layer with this horizontal stride: ceil(widths / stride)."""
    return (widths + stride - 1) // stride if stride > 1 else widths
