"""Variants of a prepared image for training, each following from a seed alone.

Shape letters as in aocr/network.py. Points are (x, y). In the frame's own units the image's edges are at -1 and 1.

All of this is done for each image of each pass, on processors that train meanwhile, so what an operation costs decides
how it is written. Of images as small as these, most is the number of operations, a few microseconds each. Then
broadcasting along a last axis of 2, `tf.stack` and slices along it take ten times as long as arithmetic on an x and a y
of [H, w] each: `_points` and `tf.unstack` go from one to the other. And an element gathered costs as much as ten sums.
"""

import math

import numpy as np
import tensorflow.compat.v1 as tf

from aocr.augmentation import Recipe
from aocr.config import IMAGE_HEIGHT

DARKEST, LIGHTEST = -1.0, 127.0 / 128.0  # levels 0 and 255
LEVELS = 128.0  # in a unit of pixel value
MOST_SHIFT = 0.15  # of the height or the width, that rotation and shear move a corner
MOST_NOISE = 0.5  # of the image's own standard deviation
WAVE = 6.4  # pixels between two nodes of the elastic grid, at the least; IMAGE_HEIGHT holds five
CORNERS = ((-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0))


def variant_seed(run_seed: tf.Tensor | int, epoch: tf.Tensor | int, number: tf.Tensor | int) -> tf.Tensor:
    """The seed of a record's variant: ints or int64 [] each -> int64 [2]."""
    fold_in = tf.random.experimental.stateless_fold_in
    seed = tf.stack([tf.cast(run_seed, tf.int64), tf.constant(0, tf.int64)])
    return fold_in(fold_in(seed, tf.cast(epoch, tf.int64)), tf.cast(number, tf.int64))


def augment(pixels: tf.Tensor, recipe: Recipe, seed: tf.Tensor) -> tf.Tensor:
    """A variant of an image.

    Args:
      pixels: float32 [H, w, C] in [-1, 1), as `prepare_image` gives it; H = 32, w >= 1.
      recipe: what it leaves out costs nothing.
      seed: int64 [2]; the same seed gives the same variant.

    Returns: the same shape, type and range.
    """
    with tf.name_scope("augment"):
        seeds = _split(seed, 6)
        shape = pixels.shape
        if recipe.invert:
            pixels = inverted(pixels, _uniform([], seeds[0]) < recipe.invert)
        if recipe.moves:
            pixels = resampled(pixels, moved_places(tf.shape(pixels)[1], recipe, seeds[1]))
        if recipe.contrast or recipe.brightness:
            contrast, brightness = tf.unstack(_either_way([recipe.contrast, recipe.brightness / LEVELS], [2], seeds[2]))
            pixels = lit(pixels, 1.0 + contrast, brightness)
        if recipe.blur:
            pixels = blurred(pixels, recipe.blur * _uniform([], seeds[3]), recipe.blur)
        if recipe.noise:
            pixels = noisy(pixels, recipe.noise / LEVELS, seeds[4])
        pixels = tf.clip_by_value(pixels, DARKEST, LIGHTEST)
        if recipe.jpeg < 100:
            pixels = compressed(pixels, tf.random.stateless_uniform([], seeds[5], recipe.jpeg, 101, tf.int32))
        return tf.ensure_shape(pixels, shape)


# ---- draws

def _split(seed, count):
    """So many seeds of one: int64 [2] -> list of int64 [2]. As tf.random.experimental.stateless_split, in one op."""
    return tf.unstack(tf.raw_ops.StatelessRandomUniformFullInt(shape=[count, 2], seed=seed, dtype=tf.int64))


def _uniform(shape, seed):
    """Uniform in [0, 1): float32. As tf.random.stateless_uniform, in one op."""
    return tf.raw_ops.StatelessRandomUniform(shape=shape, seed=seed)


def _either_way(most, shape, seed):
    """Uniform in [-most, most): float32 of this shape. most: float32, broadcast."""
    return most * (2.0 * _uniform(shape, seed) - 1.0)


def _normal(count, seed):
    """Normally distributed: float32 [count], an even number.

    As tf.random.stateless_normal up to rounding, which computes one number at a time where this does several.
    """
    pairs = tf.bitcast(_uniform([count // 2, 2], seed), tf.complex64)  # [count / 2]
    radius = tf.sqrt(-2.0 * tf.log(tf.maximum(tf.math.real(pairs), 1e-7)))
    angle = 2.0 * math.pi * tf.math.imag(pairs)
    return tf.reshape(_points(radius * tf.sin(angle), radius * tf.cos(angle)), [-1])  # Box and Muller


# ---- places

def moved_places(width: tf.Tensor, recipe: Recipe, seed: tf.Tensor) -> tf.Tensor:
    """Where each pixel of a variant comes from: the map of the moved corners after the elastic one.

    Args: width: int32 []; seed: int64 [2].
    Returns: float32 [H, w, 2], pixel coordinates in the image, also outside of it.
    """
    seeds = _split(seed, 3)
    width = tf.cast(width, tf.float32)
    size = tf.stack([width, IMAGE_HEIGHT])  # [2]
    ratio = width / IMAGE_HEIGHT
    angle, slant = tf.unstack(_either_way([  # what moves the ends and the sides of the frame by MOST_SHIFT, at most
        tf.minimum(math.radians(recipe.rotation), tf.asin(2.0 * MOST_SHIFT * tf.minimum(ratio, 1.0 / ratio))),
        tf.minimum(math.radians(recipe.shear), tf.atan(2.0 * MOST_SHIFT * ratio))], [2], seeds[0]))
    # Of the frame's own units, 2 are a side.
    jitter = _either_way(2.0 * recipe.perspective * tf.minimum(IMAGE_HEIGHT / size, 1.0), [4, 2], seeds[1])
    to_frame = corner_map(fitted(turned_corners(size, angle, slant) + jitter))
    # To pixels from the middle of the frame: from its corner they would be rounded twice as much.
    half = size / 2.0
    matrix = tf.pad(half, [[0, 1]], constant_values=1.0)[:, tf.newaxis] * to_frame  # [3, 3]
    shift = None
    if recipe.elastic:
        # But for its division, the map is linear: so it can be applied to the grid's few nodes instead of each pixel.
        shift = elastic_shift(width, recipe.elastic, seeds[2], tf.transpose(matrix[:, :2] / half))
    x, y = _frame_axes(width)
    x, y = _projected(x, y, matrix, shift)
    middle_x, middle_y = tf.unstack(half - 0.5)
    return _points(x + middle_x, y + middle_y)


def frame_places(width: tf.Tensor | int) -> tf.Tensor:
    """The pixels' centres in the frame's own units: float32 [H, w, 2]."""
    with tf.name_scope("frame_places"):
        return tf.stack(tf.meshgrid(*_frame_axes(tf.cast(width, tf.float32))), axis=2)


def _frame_axes(width):
    """The pixels' centres in the frame's own units: x, float32 [w], and y, [H, 1]. width: float32 []."""
    x = (2.0 * tf.range(width) + 1.0) / width - 1.0
    y = (2.0 * np.arange(IMAGE_HEIGHT) + 1.0) / IMAGE_HEIGHT - 1.0
    return x, tf.constant(y[:, np.newaxis], tf.float32)


def _points(x, y):
    """Points of their x and y: float32 [...] both -> [..., 2]. A complex number lies in memory as such a pair does."""
    return tf.bitcast(tf.complex(x, y), tf.float32)


def turned_corners(size: tf.Tensor, angle: tf.Tensor, slant: tf.Tensor) -> tf.Tensor:
    """The corners after shear and then rotation about the middle.

    Args: size: float32 [2], width and height in pixels; angle, slant: float32 [], radians; positive turns clockwise
      and leans the head to the left.
    Returns: float32 [4, 2] in the frame's own units, in the order of CORNERS.
    """
    with tf.name_scope("turned_corners"):
        x, y = tf.unstack(CORNERS * size, axis=1)  # [4], in half pixels
        x += tf.tan(slant) * y
        turned = tf.stack([tf.cos(angle) * x - tf.sin(angle) * y, tf.sin(angle) * x + tf.cos(angle) * y], axis=1)
        return turned / size


def fitted(corners: tf.Tensor) -> tf.Tensor:
    """Corners shrunk and shifted, along each axis, so that they lie in the frame: float32 [4, 2] -> [4, 2]."""
    with tf.name_scope("fitted"):
        low, high = tf.reduce_min(corners, 0), tf.reduce_max(corners, 0)  # [2]
        scale = tf.minimum(2.0 / (high - low), 1.0)
        low, high = low * scale, high * scale
        return corners * scale + tf.maximum(-1.0 - low, 0.0) - tf.maximum(high - 1.0, 0.0)


def corner_map(corners: tf.Tensor) -> tf.Tensor:
    """The projective map that takes four points back to the frame's corners: float32 [4, 2] -> [3, 3], up to a factor.

    With 1 as their third coordinate, the fourth point is a sum of the other three, each by its share, and so is the
    fourth corner, by 1, -1 and 1. What takes each of the three points, times its share, to its corner, times that
    number, is linear and takes the fourth to the fourth.
    """
    with tf.name_scope("corner_map"):
        points = tf.pad(corners, [[0, 0], [0, 1]], constant_values=1.0)  # [4, 3]
        inverse = tf.linalg.inv(points[:3])
        shares = tf.matmul(points[3:], inverse)  # [1, 3]
        targets = [(x * sign, y * sign, sign) for (x, y), sign in zip(CORNERS, (1.0, -1.0, 1.0))]
        return tf.matmul(np.transpose(targets).astype(np.float32) / shares, inverse, transpose_b=True)


def projected(points: tf.Tensor, matrix: tf.Tensor) -> tf.Tensor:
    """Points through a projective map: float32 [H, w, 2], [3, 3] -> [H, w, 2]."""
    with tf.name_scope("projected"):
        x, y = tf.unstack(points, axis=2)
        return _points(*_projected(x, y, matrix))


def _projected(x, y, matrix, shift=None):
    """Points through a projective map.

    Args:
      x, y: float32, broadcast against each other to [H, w].
      matrix: float32 [3, 3].
      shift: float32 [H, w, 3], how far the points are shifted before: (dx, dy) through the matrix's first two columns.

    Returns: x and y, float32 [H, w] both.
    """
    parts = [(a * x + c) + b * y for a, b, c in (tf.unstack(row) for row in tf.unstack(matrix))]
    if shift is not None:
        parts = [part + more for part, more in zip(parts, tf.unstack(shift, axis=2))]
    x, y, divisor = parts
    return x / divisor, y / divisor


def elastic_shift(width: tf.Tensor, most: float, seed: tf.Tensor, through: tf.Tensor | None = None) -> tf.Tensor:
    """A smooth random shift of each pixel, on a coarse grid whose border stays (Simard et al., ICDAR 2003, smooth
    theirs with a Gaussian).

    Since nodes are WAVE pixels apart and move less than a third of that, nothing folds; since the border stays (but for
    the cubic's overshoot, some tenth of `most`), nothing leaves.

    Args: width: int32 or float32 []; most: pixels; seed: int64 [2]; through: float32 [2, D], a linear map that the
      shifts are taken through, None for none.
    Returns: float32 [H, w, 2] in [-1.2 most, 1.2 most], about, or [H, w, D] after the map; 0 where the image is
      narrower than three nodes.
    """
    with tf.name_scope("elastic_shift"):
        inner = tf.maximum(tf.cast(tf.cast(width, tf.float32) / WAVE, tf.int32) - 2, 0)
        nodes = _either_way(most, [round(IMAGE_HEIGHT / WAVE) - 2, inner, 2], seed)
        nodes = tf.pad(nodes, [[1, 1], [1, 1], [0, 0]])
        if through is not None:
            nodes = tf.matmul(nodes, through)
        size = [IMAGE_HEIGHT, tf.cast(width, tf.int32)]
        # As tf.image.resize, without its checks.
        return tf.raw_ops.ResizeBicubic(images=nodes[tf.newaxis], size=size, half_pixel_centers=True)[0]  # [H, w, D]


def resampled(pixels: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
    """The image at other places, bilinearly; outside, its nearest edge: [H, w, C], [H, w, 2] -> [H, w, C]."""
    with tf.name_scope("resampled"):
        height, width, _ = tf.unstack(tf.shape(pixels))
        x, y = (tf.clip_by_value(place, 0.0, tf.cast(count - 1, tf.float32))
                for place, count in zip(tf.unstack(places, axis=2), (width, height)))  # [H, w]
        left, top = tf.cast(x, tf.int32), tf.cast(y, tf.int32)  # rounded down
        x, y = ((place - tf.cast(near, tf.float32))[:, :, tf.newaxis] for place, near in ((x, left), (y, top)))
        # Each pixel and the next one as one complex number: gathered for little more than one. What is next to the last
        # of a row or column does not matter, it counts 0.
        flat = tf.reshape(pixels, [-1, pixels.shape[2]])  # [H w, C]
        pairs = tf.complex(flat, tf.roll(flat, -1, axis=0))
        upper = (top * width + left)[:, :, tf.newaxis]
        lower = tf.minimum(upper + width, height * width - 1)

        def row(index):
            pair = tf.gather_nd(pairs, index)  # [H, w, C]
            left, right = tf.math.real(pair), tf.math.imag(pair)
            return left + (right - left) * x

        upper, lower = row(upper), row(lower)
        return upper + (lower - upper) * y


# ---- levels

def inverted(pixels: tf.Tensor, chosen: tf.Tensor) -> tf.Tensor:
    """Level l becomes 255 - l if `chosen` (bool []): [H, w, C] -> [H, w, C]."""
    with tf.name_scope("inverted"):
        return tf.where(chosen, DARKEST + LIGHTEST - pixels, pixels)


def lit(pixels: tf.Tensor, contrast: tf.Tensor, brightness: tf.Tensor) -> tf.Tensor:
    """Another light: differences from the mean times `contrast`, and a shift by `brightness`, both float32 [].

    The shift goes no further than to where one standard deviation about the mean is still in range: ink and ground
    would become one otherwise. [H, w, C] -> [H, w, C], not clipped.
    """
    with tf.name_scope("lit"):
        mean = tf.reduce_mean(pixels)
        pixels -= mean
        spread = contrast * tf.sqrt(tf.reduce_mean(tf.square(pixels)))
        shift = tf.clip_by_value(brightness, tf.minimum(DARKEST - (mean - spread), 0.0),
                                 tf.maximum(LIGHTEST - (mean + spread), 0.0))
        return contrast * pixels + (mean + shift)


def blurred(pixels: tf.Tensor, sigma: tf.Tensor, most: float) -> tf.Tensor:
    """Convolution with a Gaussian, its edges repeated: [H, w, C] -> [H, w, C].

    Args: sigma: float32 [], pixels, at most `most`.
    """
    with tf.name_scope("blurred"):
        radius = math.ceil(3.0 * most)
        offsets = tf.range(-radius, radius + 1, dtype=tf.float32)
        weights = tf.exp(-0.5 * tf.square(offsets / tf.maximum(sigma, 1e-3)))
        weights /= tf.reduce_sum(weights)  # [2 radius + 1]
        for axis in (0, 1):
            count = tf.shape(pixels)[axis]
            pixels = tf.gather(pixels, tf.clip_by_value(tf.range(-radius, count + radius), 0, count - 1), axis=axis)
        channels = pixels.shape[2]
        pixels = pixels[tf.newaxis]  # [1, H + 2 radius, w + 2 radius, C]
        for size in ([-1, 1, 1, 1], [1, -1, 1, 1]):
            kernel = tf.tile(tf.reshape(weights, size), [1, 1, channels, 1])
            pixels = tf.nn.depthwise_conv2d(pixels, kernel, [1, 1, 1, 1], "VALID")
        return pixels[0]


def noisy(pixels: tf.Tensor, most: tf.Tensor | float, seed: tf.Tensor) -> tf.Tensor:
    """Gaussian noise: [H, w, C] -> [H, w, C], not clipped.

    Its standard deviation is uniform in [0, most), but MOST_NOISE of the image's own at the most: faint words would
    drown otherwise.
    """
    with tf.name_scope("noisy"):
        deviation_seed, noise_seed = _split(seed, 2)
        deviation = tf.minimum(most * _uniform([], deviation_seed), MOST_NOISE * tf.math.reduce_std(pixels))
        noise = tf.reshape(_normal(tf.size(pixels), noise_seed), tf.shape(pixels))  # of an even number: H is
        return pixels + deviation * noise


def compressed(pixels: tf.Tensor, quality: tf.Tensor) -> tf.Tensor:
    """Through JPEG and back: [H, w, C] in [-1, 1) -> [H, w, C]. quality: int32 [], of 100."""
    with tf.name_scope("compressed"):
        levels = tf.cast(tf.round((pixels - DARKEST) * LEVELS), tf.uint8)
        encoded = tf.raw_ops.EncodeJpegVariableQuality(images=levels, quality=quality)
        return tf.cast(tf.io.decode_jpeg(encoded, channels=pixels.shape[2]), tf.float32) / LEVELS + DARKEST
