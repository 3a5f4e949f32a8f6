"""The sliding CNN: a picture becomes one feature vector for every few columns of pixels."""

from typing import NamedTuple

import tensorflow.compat.v1 as tf

from aocr.graph.layers import GLOROT, Initializers, Moments, batch_norm, conv
from aocr.networks import Network


class Features(NamedTuple):
    """Output of the CNN; F is the network's number of features."""

    values: tf.Tensor  # [N, S, F] float32 >= 0, 0 beyond an image's own length
    lengths: tf.Tensor  # [N] int32: steps of each image, ceil(width / stride)
    moments: list[Moments]  # of each batch norm layer in this batch


def width_mask(widths: tf.Tensor, width: tf.Tensor | int, dtype: tf.DType = tf.float32) -> tf.Tensor:
    """1 where an image is and 0 in its padding: widths [N], W -> [N, 1, W, 1]."""
    return tf.sequence_mask(widths, width, dtype)[:, tf.newaxis, :, tf.newaxis]


def sliding_cnn(images: tf.Tensor, widths: tf.Tensor, network: Network, *, is_training: bool,
                dtype: tf.DType = tf.float32, initializers: Initializers = GLOROT) -> Features:
    """The convolutions. What an image gives does not depend on the padding to its right.

    The padding is 0 after every layer, as a convolution has it beyond the edge of an image that is alone, and values
    are >= 0 where a pool window reaches into it.

    Args:
      images: float32 [N, 32, W, C], 0 beyond each image's width.
      widths: int32 [N], 1 <= width <= W.
      is_training: batch norm by this batch's moments.
      dtype: of the convolutions and what flows between them; variables and batch norm are float32.
      initializers: of fresh weights.

    Returns: Features of S = ceil(W / network.stride) steps.
    """
    moments = []

    def convolve(x, layer, widths):
        """Convolution, batch norm, mask, max pooling, relu: (x, widths) after them.

        Relu comes last, where there is less of it: it commutes with the maximum, and with a mask of 0 and 1.
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
    """Widths after a layer that takes every `stride`-th column: ceil(widths / stride)."""
    return (widths + stride - 1) // stride if stride > 1 else widths
