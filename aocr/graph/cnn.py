"""The sliding CNN: a picture becomes one feature vector for every four columns of pixels."""

from typing import NamedTuple

import tensorflow.compat.v1 as tf

from aocr.graph.layers import Start, batch_norm, conv

FEATURES = 512


class Features(NamedTuple):
    """Output of the CNN."""

    values: tf.Tensor  # [N, S, 512] float32 >= 0, 0 beyond an image's own length
    lengths: tf.Tensor  # [N] int32: steps of each image, ceil(width / 4)
    moments: list  # Moments of each batch norm layer in this batch


def width_mask(widths, width, dtype=tf.float32):
    """1 where an image is and 0 in its padding: widths [N], W -> [N, 1, W, 1]."""
    return tf.sequence_mask(widths, width, dtype)[:, tf.newaxis, :, tf.newaxis]


def sliding_cnn(images, widths, *, is_training, dtype=tf.float32, start=None):
    """The convolutions. What an image gives does not depend on the padding to its right.

    The padding is 0 after every layer, as SAME convolution has it beyond the edge of an image that is alone, and
    values are >= 0 where a pool window reaches into it.

    Args:
      images: float32 [N, 32, W, C], 0 beyond each image's width.
      widths: int32 [N], 1 <= width <= W.
      is_training: bool; batch norm by this batch's moments.
      dtype: tf.DType of the convolutions and what flows between them; variables and batch norm are float32.
      start: layers.Start of fresh weights.

    Returns: Features, S = ceil(W / 4).
    """
    moments, start = [], start or Start()

    def convolve(x, name, filters, size, mask, *, normalise=False, pool=None):
        """Convolution, batch norm, mask, max pooling that halves the height and divides the width by `pool`, relu.

        Relu comes last, where there is less of it: it commutes with the maximum, and with a mask of 0 and 1.
        """
        with tf.variable_scope(name):
            he = start.he and not normalise
            x = conv(x, filters, size, initializer=tf.initializers.he_normal() if he else None)
            if normalise:
                x, of_batch = batch_norm(tf.cast(x, tf.float32), tf.cast(mask, tf.float32), is_training)
                x = tf.cast(x, dtype)
                moments.append(of_batch)
            x *= mask
            if pool:
                x = tf.nn.max_pool2d(x, ksize=[2, pool], strides=[2, pool], padding="SAME")
            return tf.nn.relu(x)

    with tf.variable_scope("cnn"):
        mask = width_mask(widths, tf.shape(images)[2], dtype)
        x = convolve(tf.cast(images, dtype), "conv1", 64, 3, mask, pool=2)  # [N, 16, W/2, 64]
        widths = (widths + 1) // 2
        mask = width_mask(widths, tf.shape(x)[2], dtype)
        x = convolve(x, "conv2", 128, 3, mask, pool=2)  # [N, 8, S, 128]
        widths = (widths + 1) // 2
        mask = width_mask(widths, tf.shape(x)[2], dtype)
        x = convolve(x, "conv3", 256, 3, mask, normalise=True)
        x = convolve(x, "conv4", 256, 3, mask, pool=1)  # [N, 4, S, 256]
        x = convolve(x, "conv5", 512, 3, mask, normalise=True)
        x = convolve(x, "conv6", 512, 3, mask, pool=1)  # [N, 2, S, 512]
        x = convolve(x, "conv7", FEATURES, 2, mask, normalise=True, pool=1)  # [N, 1, S, 512]
        values = tf.identity(tf.cast(tf.squeeze(x, 1), tf.float32), "features")
        return Features(values, tf.identity(widths, "lengths"), moments)
