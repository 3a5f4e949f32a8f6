"""Decodes image files, inside a graph or eagerly; datasets, training and serving all use it."""

import tensorflow.compat.v1 as tf

from aocr.colors import WHITE, rgb
from aocr.config import MOST_BYTES
from aocr.headers import orientation_of, palette_of, read_header
from aocr.refusals import refusal_in

LEAST_COLOUR = 1 << 14  # 16-bit colours below this use the lower bits only


def decode_image(encoded: tf.Tensor, max_pixels: int, background: str = WHITE) -> tf.Tensor:
    """Decodes PNG, JPEG, GIF (first frame), BMP (8 bits or 24) and WebP (not animated) as displayed.

    Args:
      encoded: string [], an image file.
      max_pixels: a larger image is refused before it is decoded.
      background: canonical colour, laid behind a transparent GIF.

    Returns: uint8 [h, w, 1 to 4]: grey or RGB, with or without alpha; upright by its EXIF orientation.
    Raises: InvalidArgumentError at run time if the bytes are not a supported image; see `problem_of`.
    """
    header = read_header(encoded, rgb(background))
    with tf.control_dependencies([_refusal(header, encoded, max_pixels)]):
        file, way = tf.identity(header.file), tf.identity(header.way)
    pixels = tf.switch_case(way, [lambda: _decoded(file), lambda: _decoded(file, channels=4), lambda: _deep(file),
                                  lambda: _indexed(file)])
    turn = orientation_of(header.exif)
    pixels = tf.cond(turn > 1, lambda: _turned(pixels, turn), lambda: pixels)
    pixels.set_shape([None, None, None])
    return pixels


def checked(encoded: tf.Tensor, max_pixels: int) -> tf.Tensor:
    """Returns an image file (string []) that `decode_image` accepts. Raises: as there."""
    header = read_header(encoded, rgb(WHITE))
    with tf.control_dependencies([_refusal(header, encoded, max_pixels)]):
        return tf.identity(header.file)


def problem_of(error: Exception) -> str:
    """Returns why `decode_image` raised an error, in one line."""
    return refusal_in(getattr(error, "message", str(error)))


def _refusal(header, encoded, max_pixels):
    """Returns an operation that fails, with the reason, if a file is refused."""
    width, height = header.width, header.height
    size = tf.strings.join([tf.as_string(width), " x ", tf.as_string(height)])
    # Each side too, as the product of two 32-bit numbers may overflow.
    many = tf.reduce_any([width > max_pixels, height > max_pixels, width * height > max_pixels])
    few = tf.equal(tf.minimum(width, height), 0)
    large = tf.strings.length(encoded) > MOST_BYTES
    problem = tf.where(many, tf.strings.join([size, f"; the limit is --max-pixels {max_pixels}"]), header.problem)
    problem = tf.where(few, tf.strings.join([size, " pixels"]), problem)
    problem = tf.where(large, f"the limit is {MOST_BYTES} bytes", problem)
    return tf.debugging.Assert(tf.equal(problem, ""), [problem], summarize=1)


def _decoded(file, channels=0):
    return tf.io.decode_image(file, channels=channels, expand_animations=False)


def _deep(file):
    """Decodes a PNG of 16 bits. Grey values may use fewer: see image_files."""
    pixels = tf.cast(tf.io.decode_png(file, dtype=tf.uint16), tf.int32)
    most, channels = tf.reduce_max(pixels), tf.shape(pixels)[2]
    low = tf.logical_and(tf.equal(channels, 3), most < LEAST_COLOUR)
    refuse = tf.debugging.Assert(tf.logical_not(low), ["16-bit colours that use the lower bits only; save the image "
                                                       "with 8 bits"])
    with tf.control_dependencies([refuse]):
        pairs = tf.reduce_sum(tf.cast(most > tf.constant([0xff, 0x3ff, 0xfff, 0x3fff]), tf.int32))  # of bits beyond 8
    shift = tf.where(tf.equal(channels, 1), 2 * pairs, 8)
    return tf.cast(tf.bitwise.right_shift(pixels, shift), tf.uint8)


def _indexed(file):
    """Decodes a BMP file of 8 bits, which TensorFlow takes for grey, by its colours."""
    return tf.gather(palette_of(file), tf.cast(_decoded(file)[:, :, 0], tf.int32))


def _turned(pixels, orientation):
    """Turns an image ([h, w, c]) upright by its EXIF orientation, 2 to 8."""
    pixels = tf.cond(orientation > 4, lambda: tf.transpose(pixels, [1, 0, 2]), lambda: pixels)
    is_any = [tf.reduce_any(tf.equal(orientation, those)) for those in ([3, 4, 7, 8], [2, 3, 6, 7])]
    return tf.reverse(pixels, tf.where(tf.stack(is_any))[:, 0])  # bottom up; right to left
