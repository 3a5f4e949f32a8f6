"""Decodes image files, inside a graph or eagerly; datasets, training and serving all use it."""

import tensorflow.compat.v1 as tf

ANIMATION_FLAG = 2  # in byte 20 of an extended WebP file (RFC 9649, section 2.7)


def decode_image(encoded: tf.Tensor) -> tf.Tensor:
    """Decodes PNG, JPEG, GIF (first frame), BMP (8-bit grey or 24-bit colour) and WebP (not animated).

    Args: encoded: string [], an image file.
    Returns: uint8 [h, w, 1 to 4]: grey or RGB, with or without alpha; 16 bits are cut to 8.
    Raises: InvalidArgumentError at run time if the bytes are not a supported image.
    """
    pixels = tf.io.decode_image(_without_animated_webp(encoded), channels=0, expand_animations=False)
    pixels.set_shape([None, None, None])
    return pixels


def _without_animated_webp(encoded):
    """Returns the file, or '' for an animated WebP, on which TensorFlow writes beyond its buffer."""
    head = tf.strings.substr(tf.strings.join([encoded, "\0" * 21]), 0, 21)  # padded, as a file may be shorter
    extended = tf.logical_and(tf.equal(tf.strings.substr(head, 0, 4), "RIFF"),
                              tf.equal(tf.strings.substr(head, 8, 8), "WEBPVP8X"))
    flags = tf.cast(tf.io.decode_raw(head, tf.uint8)[20], tf.int32)
    animated = tf.equal(tf.bitwise.bitwise_and(flags, ANIMATION_FLAG), ANIMATION_FLAG)
    return tf.where(tf.logical_and(extended, animated), "", encoded)
