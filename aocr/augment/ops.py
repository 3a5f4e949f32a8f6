"""Random variants of a prepared image for training, each determined by its seed.

Shape letters as in aocr/network.py. Points are (x, y). In frame coordinates the image's edges are at -1 and 1.

All of this runs for each image of each epoch, on CPUs that train at the same time, so it is written for speed. Images
are so small that most of the cost is the number of ops, at a few microseconds each. Next, broadcasting along a last
axis of 2, `tf.stack` and slicing along it take ten times as long as arithmetic on separate x and y of [H, w]: `_points`
and `tf.unstack` convert between the two. Gathering an element costs as much as ten additions.
"""

import math

import numpy as np
import tensorflow.compat.v1 as tf

from aocr.augment.recipes import Recipe
from aocr.config import IMAGE_HEIGHT

DARKEST, LIGHTEST = -1.0, 127.0 / 128.0  # levels 0 and 255
LEVELS = 128.0  # per unit of pixel value
MOST_SHIFT = 0.15  # largest shift of a corner by rotation or shear, as a share of the height or the width
MOST_NOISE = 0.5  # largest noise, as a share of the image's own standard deviation
WAVE = 6.4  # least distance between nodes of the elastic grid, in pixels; IMAGE_HEIGHT holds five
CORNERS = ((-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0))


def variant_seed(run_seed: tf.Tensor | int, epoch: tf.Tensor | int, number: tf.Tensor | int) -> tf.Tensor:
    """Returns the seed of a record's variant: ints or int64 [] each -> int64 [2]."""
    fold_in = tf.random.experimental.stateless_fold_in
    seed = tf.stack([tf.cast(run_seed, tf.int64), tf.constant(0, tf.int64)])
    return fold_in(fold_in(seed, tf.cast(epoch, tf.int64)), tf.cast(number, tf.int64))


def augment(pixels: tf.Tensor, recipe: Recipe, seed: tf.Tensor) -> tf.Tensor:
    """Returns a random variant of an image.

    Args:
      pixels: float32 [H, w, C] in [-1, 1), as from `prepare_image`; H = 32, w >= 1.
      recipe: operations that it leaves out add no ops.
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
    """Splits a seed into `count`: int64 [2] -> list of int64 [2]. Like tf.random.experimental.stateless_split, in one
    op.
    """
    return tf.unstack(tf.raw_ops.StatelessRandomUniformFullInt(shape=[count, 2], seed=seed, dtype=tf.int64))


def _uniform(shape, seed):
    """Draws uniformly from [0, 1): float32. Like tf.random.stateless_uniform, in one op."""
    return tf.raw_ops.StatelessRandomUniform(shape=shape, seed=seed)


def _either_way(most, shape, seed):
    """Draws uniformly from [-most, most): float32 of this shape. most: float32, broadcast."""
    return most * (2.0 * _uniform(shape, seed) - 1.0)


def _normal(count, seed):
    """Draws from the standard normal distribution (Box and Muller 1958): float32 [count], count even.

    Matches tf.random.stateless_normal up to rounding, which computes one number at a time, not several.
    """
    pairs = tf.bitcast(_uniform([count // 2, 2], seed), tf.complex64)  # [count / 2]
    radius = tf.sqrt(-2.0 * tf.log(tf.maximum(tf.math.real(pairs), 1e-7)))
    angle = 2.0 * math.pi * tf.math.imag(pairs)
    return tf.reshape(_points(radius * tf.sin(angle), radius * tf.cos(angle)), [-1])


# ---- places

def moved_places(width: tf.Tensor, recipe: Recipe, seed: tf.Tensor) -> tf.Tensor:
    """Returns the source position of each pixel: the elastic shift, then the projective map of the moved corners.

    Args: width: int32 []; seed: int64 [2].
    Returns: float32 [H, w, 2], pixel coordinates in the image, possibly outside it.
    """
    seeds = _split(seed, 3)
    width = tf.cast(width, tf.float32)
    size = tf.stack([width, IMAGE_HEIGHT])  # [2]
    ratio = width / IMAGE_HEIGHT
    angle, slant = tf.unstack(_either_way([  # limited to move the ends and sides of the frame by at most MOST_SHIFT
        tf.minimum(math.radians(recipe.rotation), tf.asin(2.0 * MOST_SHIFT * tf.minimum(ratio, 1.0 / ratio))),
        tf.minimum(math.radians(recipe.shear), tf.atan(2.0 * MOST_SHIFT * ratio))], [2], seeds[0]))
    # In frame coordinates a side is 2 long.
    jitter = _either_way(2.0 * recipe.perspective * tf.minimum(IMAGE_HEIGHT / size, 1.0), [4, 2], seeds[1])
    to_frame = corner_map(fitted(turned_corners(size, angle, slant) + jitter))
    # To pixels, relative to the centre of the frame: relative to its corner the rounding error would double.
    half = size / 2.0
    matrix = tf.pad(half, [[0, 1]], constant_values=1.0)[:, tf.newaxis] * to_frame  # [3, 3]
    shift = None
    if recipe.elastic:
        # Up to its division, the map is linear, so it can be applied to the grid's few nodes instead of each pixel.
        shift = elastic_shift(width, recipe.elastic, seeds[2], tf.transpose(matrix[:, :2] / half))
    x, y = _frame_axes(width)
    x, y = _projected(x, y, matrix, shift)
    middle_x, middle_y = tf.unstack(half - 0.5)
    return _points(x + middle_x, y + middle_y)


def frame_places(width: tf.Tensor | int) -> tf.Tensor:
    """Returns the pixel centres in frame coordinates: float32 [H, w, 2]."""
    with tf.name_scope("frame_places"):
        return tf.stack(tf.meshgrid(*_frame_axes(tf.cast(width, tf.float32))), axis=2)


def _frame_axes(width):
    """Returns the pixel centres in frame coordinates: x, float32 [w], and y, [H, 1]. width: float32 []."""
    x = (2.0 * tf.range(width) + 1.0) / width - 1.0
    y = (2.0 * np.arange(IMAGE_HEIGHT) + 1.0) / IMAGE_HEIGHT - 1.0
    return x, tf.constant(y[:, np.newaxis], tf.float32)


def _points(x, y):
    """Joins x and y into points: float32 [...] both -> [..., 2]. A complex number has the memory layout of a pair."""
    return tf.bitcast(tf.complex(x, y), tf.float32)


def turned_corners(size: tf.Tensor, angle: tf.Tensor, slant: tf.Tensor) -> tf.Tensor:
    """Returns the corners after shear, then rotation about the centre.

    Args: size: float32 [2], width and height in pixels; angle, slant: float32 [], radians; positive values rotate
      clockwise and lean the top to the left.
    Returns: float32 [4, 2] in frame coordinates, in the order of CORNERS.
    """
    with tf.name_scope("turned_corners"):
        x, y = tf.unstack(CORNERS * size, axis=1)  # [4], in half pixels
        x += tf.tan(slant) * y
        turned = tf.stack([tf.cos(angle) * x - tf.sin(angle) * y, tf.sin(angle) * x + tf.cos(angle) * y], axis=1)
        return turned / size


def fitted(corners: tf.Tensor) -> tf.Tensor:
    """Shrinks and shifts corners along each axis so that they lie in the frame: float32 [4, 2] -> [4, 2]."""
    with tf.name_scope("fitted"):
        low, high = tf.reduce_min(corners, 0), tf.reduce_max(corners, 0)  # [2]
        scale = tf.minimum(2.0 / (high - low), 1.0)
        low, high = low * scale, high * scale
        return corners * scale + tf.maximum(-1.0 - low, 0.0) - tf.maximum(high - 1.0, 0.0)


def corner_map(corners: tf.Tensor) -> tf.Tensor:
    """Returns the homography from four points back to the frame's corners: float32 [4, 2] -> [3, 3], up to a factor.

    In homogeneous coordinates, the fourth point is a weighted sum of the other three, as the fourth corner is of the
    other corners, with weights 1, -1 and 1. The linear map from the three weighted points to the three weighted corners
    therefore takes the fourth point to the fourth corner.
    """
    with tf.name_scope("corner_map"):
        points = tf.pad(corners, [[0, 0], [0, 1]], constant_values=1.0)  # [4, 3]
        inverse = tf.linalg.inv(points[:3])
        shares = tf.matmul(points[3:], inverse)  # [1, 3]
        targets = [(x * sign, y * sign, sign) for (x, y), sign in zip(CORNERS, (1.0, -1.0, 1.0))]
        return tf.matmul(np.transpose(targets).astype(np.float32) / shares, inverse, transpose_b=True)


def projected(points: tf.Tensor, matrix: tf.Tensor) -> tf.Tensor:
    """Applies a projective map to points: float32 [H, w, 2], [3, 3] -> [H, w, 2]."""
    with tf.name_scope("projected"):
        x, y = tf.unstack(points, axis=2)
        return _points(*_projected(x, y, matrix))


def _projected(x, y, matrix, shift=None):
    """Applies a projective map to points.

    Args:
      x, y: float32, broadcast against each other to [H, w].
      matrix: float32 [3, 3].
      shift: float32 [H, w, 3], shift of the points before the map: (dx, dy) through the matrix's first two columns.

    Returns: x and y, float32 [H, w] both.
    """
    parts = [(a * x + c) + b * y for a, b, c in (tf.unstack(row) for row in tf.unstack(matrix))]
    if shift is not None:
        parts = [part + more for part, more in zip(parts, tf.unstack(shift, axis=2))]
    x, y, divisor = parts
    return x / divisor, y / divisor


def elastic_shift(width: tf.Tensor, most: float, seed: tf.Tensor, through: tf.Tensor | None = None) -> tf.Tensor:
    """Returns a smooth random shift of each pixel, drawn on a coarse grid with a fixed border (Simard et al., ICDAR
    2003, smooth with a Gaussian instead).

    Nodes are WAVE pixels apart and move less than a third of that, so nothing folds; the border is fixed (up to the
    cubic's overshoot, about a tenth of `most`), so nothing leaves the image.

    Args: width: int32 or float32 []; most: pixels; seed: int64 [2]; through: float32 [2, D], a linear map to apply to
      the shifts, or None.
    Returns: float32 [H, w, 2] in about [-1.2 most, 1.2 most], or [H, w, D] after the map; 0 if the image is narrower
      than three nodes.
    """
    with tf.name_scope("elastic_shift"):
        inner = tf.maximum(tf.cast(tf.cast(width, tf.float32) / WAVE, tf.int32) - 2, 0)
        nodes = _either_way(most, [round(IMAGE_HEIGHT / WAVE) - 2, inner, 2], seed)
        nodes = tf.pad(nodes, [[1, 1], [1, 1], [0, 0]])
        if through is not None:
            nodes = tf.matmul(nodes, through)
        size = [IMAGE_HEIGHT, tf.cast(width, tf.int32)]
        # Like tf.image.resize, without its checks.
        return tf.raw_ops.ResizeBicubic(images=nodes[tf.newaxis], size=size, half_pixel_centers=True)[0]  # [H, w, D]


def resampled(pixels: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
    """Samples the image at other positions, bilinearly; outside, the nearest edge: [H, w, C], [H, w, 2] -> [H, w, C].
    """
    with tf.name_scope("resampled"):
        height, width, _ = tf.unstack(tf.shape(pixels))
        x, y = (tf.clip_by_value(place, 0.0, tf.cast(count - 1, tf.float32))
                for place, count in zip(tf.unstack(places, axis=2), (width, height)))  # [H, w]
        left, top = tf.cast(x, tf.int32), tf.cast(y, tf.int32)  # rounded down
        x, y = ((place - tf.cast(near, tf.float32))[:, :, tf.newaxis] for place, near in ((x, left), (y, top)))
        # Each pixel and the next one form a complex number, which costs little more to gather than one pixel. The
        # neighbour of the last pixel of a row or column does not matter: its weight is 0.
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
    """Replaces level l by 255 - l if `chosen` (bool []): [H, w, C] -> [H, w, C]."""
    with tf.name_scope("inverted"):
        return tf.where(chosen, DARKEST + LIGHTEST - pixels, pixels)


def lit(pixels: tf.Tensor, contrast: tf.Tensor, brightness: tf.Tensor) -> tf.Tensor:
    """Scales differences from the mean by `contrast` and adds `brightness`, both float32 [].

    The shift is limited to keep one standard deviation about the mean in range: ink and background would merge
    otherwise. [H, w, C] -> [H, w, C], not clipped.
    """
    with tf.name_scope("lit"):
        mean = tf.reduce_mean(pixels)
        pixels -= mean
        spread = contrast * tf.sqrt(tf.reduce_mean(tf.square(pixels)))
        shift = tf.clip_by_value(brightness, tf.minimum(DARKEST - (mean - spread), 0.0),
                                 tf.maximum(LIGHTEST - (mean + spread), 0.0))
        return contrast * pixels + (mean + shift)


def blurred(pixels: tf.Tensor, sigma: tf.Tensor, most: float) -> tf.Tensor:
    """Convolves with a Gaussian, repeating the image's edges: [H, w, C] -> [H, w, C].

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
    """Adds Gaussian noise: [H, w, C] -> [H, w, C], not clipped.

    Its standard deviation is uniform in [0, most), but at most MOST_NOISE of the image's own: faint words would drown
    otherwise.
    """
    with tf.name_scope("noisy"):
        deviation_seed, noise_seed = _split(seed, 2)
        deviation = tf.minimum(most * _uniform([], deviation_seed), MOST_NOISE * tf.math.reduce_std(pixels))
        noise = tf.reshape(_normal(tf.size(pixels), noise_seed), tf.shape(pixels))  # an even count, as H is
        return pixels + deviation * noise


def compressed(pixels: tf.Tensor, quality: tf.Tensor) -> tf.Tensor:
    """Encodes as JPEG and decodes again: [H, w, C] in [-1, 1) -> [H, w, C]. quality: int32 [], at most 100."""
    with tf.name_scope("compressed"):
        levels = tf.cast(tf.round((pixels - DARKEST) * LEVELS), tf.uint8)
        encoded = tf.raw_ops.EncodeJpegVariableQuality(images=levels, quality=quality)
        return tf.cast(tf.io.decode_jpeg(encoded, channels=pixels.shape[2]), tf.float32) / LEVELS + DARKEST
