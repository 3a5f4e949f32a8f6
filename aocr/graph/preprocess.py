"""Prepares encoded image files for the network; training, testing and serving all use this code."""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow.compat.v1 as tf

from aocr.colors import WHITE, rgb
from aocr.config import IMAGE_HEIGHT, MOST_PIXELS, scaled_width
from aocr.images import decode_image

VERSION = 1  # stored with a model; increment it if the arithmetic below changes
DECODED_TOGETHER = 4  # images of a batch, to bound the memory for large ones
GREY_WEIGHTS = (0.299, 0.587, 0.114)  # ITU-R BT.601 luma of red, green, blue


class PreparedImage(NamedTuple):
    """One image, ready for the network."""

    pixels: tf.Tensor  # [H, w, C] float32 in [-1, 1)
    width: tf.Tensor  # [] int32, w, 1 <= w <= canvas_width
    squeezed: tf.Tensor  # [] bool: whether it was wider than the canvas


class PreparedImages(NamedTuple):
    """A batch of images, padded with 0 on the right to the widest of them."""

    pixels: tf.Tensor  # [N, H, W, C] float32 in [-1, 1)
    widths: tf.Tensor  # [N] int32


def prepare_image(encoded: tf.Tensor, *, canvas_width: int, channels: int, background: str = WHITE,
                  max_pixels: int = MOST_PIXELS) -> PreparedImage:
    """Decodes one image, scales it to height 32 and at most `canvas_width` wide, and normalises it.

    Args:
      encoded: string [], an image file that `decode_image` reads.
      canvas_width: a wider image is squeezed horizontally to it.
      channels: 1 (grey) or 3.
      background: canonical colour behind transparent images.
      max_pixels: a larger image is not decoded.

    Raises: InvalidArgumentError at run time if the bytes are not a supported image.
    """
    with tf.name_scope("prepare_image"):
        pixels = decode_image(encoded, max_pixels, background)  # [h, w, 1 to 4] uint8
        height, width = tf.unstack(tf.shape(pixels)[:2])
        natural = tf.maximum(scaled_width(width, height), 1)
        width = tf.minimum(natural, canvas_width)

        def resize(pixels):  # linear, so that all arithmetic on floats can follow, on fewer pixels
            return tf.compat.v2.image.resize(pixels, [IMAGE_HEIGHT, width], method="bicubic", antialias=True)

        has_alpha = tf.equal(tf.shape(pixels)[2] % 2, 0)
        pixels = tf.cond(has_alpha, lambda: lay_on(pixels, background, resize), lambda: resize(pixels))
        pixels = _to_channels(pixels, channels)  # [H, w, C]
        pixels = (tf.clip_by_value(pixels, 0.0, 255.0) - 128.0) / 128.0
        pixels.set_shape([IMAGE_HEIGHT, None, channels])
        return PreparedImage(pixels, width, natural > canvas_width)


def prepare_batch(encoded: tf.Tensor, prepare: Callable[[tf.Tensor], PreparedImage], *, canvas_width: int,
                  channels: int) -> PreparedImages:
    """Prepares a batch of encoded images inside the graph.

    Args:
      encoded: string [N].
      prepare: function of an encoded image (string []), such as `prepare_image` with its sizes bound.
      canvas_width, channels: as in `prepare_image`.

    Returns: images; W is the width of the widest image (1 for an empty batch).
    """

    def padded(image):
        pixels, width, _ = prepare(image)
        pixels = tf.pad(pixels, [[0, 0], [0, canvas_width - width], [0, 0]])
        return tf.ensure_shape(pixels, [IMAGE_HEIGHT, canvas_width, channels]), width

    with tf.name_scope("prepare_batch"):
        spec = (tf.TensorSpec([IMAGE_HEIGHT, canvas_width, channels], tf.float32), tf.TensorSpec([], tf.int32))
        pixels, widths = tf.map_fn(padded, encoded, fn_output_signature=spec,
                                   parallel_iterations=DECODED_TOGETHER)  # [N, H, canvas_width, C], [N]
        pixels = pixels[:, :, :tf.maximum(tf.reduce_max(widths), 1)]  # [N, H, W, C]
        pixels.set_shape([None, IMAGE_HEIGHT, None, channels])
        return PreparedImages(pixels, widths)


def at_least_one(images: PreparedImages) -> PreparedImages:
    """Adds a blank image to an empty batch, since some kernels (oneDNN's pooling among them) fail on empty batches."""
    blank = 1 - tf.minimum(tf.size(images.widths), 1)
    return PreparedImages(tf.pad(images.pixels, [[0, blank], [0, 0], [0, 0], [0, 0]]),
                          tf.pad(images.widths, [[0, blank]], constant_values=1))


def lay_on(pixels: tf.Tensor, background: str, resize: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
    """Composites an image with alpha, grey or RGB, on a colour, and resizes it.

    Args: pixels: uint8 [h, w, 2 or 4]. background: canonical colour. resize: linear, [h, w, c] -> [H, w', c] float32.
    Returns: [H, w', 1 or 3] float32; 3 on a background that is not grey.
    """
    red, green, blue = rgb(background)
    color = [float(red)] if red == green == blue else [float(red), float(green), float(blue)]
    # Products of two bytes are exact in 16 bits, which take half the memory of floats.
    alpha = pixels[:, :, -1:]
    weighted = resize(tf.cast(pixels[:, :, :-1], tf.uint16) * tf.cast(alpha, tf.uint16)) / 255.0
    return weighted + color * (1.0 - resize(alpha) / 255.0)


def _to_channels(pixels, channels):
    """Converts between grey and RGB as needed: [h, w, 1 or 3] -> [h, w, channels]."""
    size = tf.shape(pixels)[:2]
    if channels == 3:
        return tf.broadcast_to(pixels, tf.concat([size, [3]], 0))

    def to_grey():
        weights = tf.constant(GREY_WEIGHTS, shape=[3, 1])
        return tf.reshape(tf.matmul(tf.reshape(pixels, [-1, 3]), weights), tf.concat([size, [1]], 0))

    return tf.cond(tf.equal(tf.shape(pixels)[2], 3), to_grey, lambda: pixels)
