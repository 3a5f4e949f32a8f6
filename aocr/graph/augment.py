"""Variants of a prepared image for training, each following from a seed alone.

Shape letters as in aocr/model.py. Points are (x, y). In the frame's own units the image's edges are at -1 and 1.
"""

import math

import tensorflow.compat.v1 as tf

from aocr.config import IMAGE_HEIGHT

DARKEST, LIGHTEST = -1.0, 127.0 / 128.0  # levels 0 and 255
LEVELS = 128.0  # in a unit of pixel value
MOST_SHIFT = 0.15  # of the height or the width, that rotation and shear move a corner
MOST_NOISE = 0.5  # of the image's own standard deviation
WAVE = 6.4  # pixels between two nodes of the elastic grid, at the least; IMAGE_HEIGHT holds five
CORNERS = ((-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0))


def variant_seed(run_seed, epoch, number):
    """The seed of a record's variant: ints or int64 [] tensors -> int64 [2]."""
    fold_in = tf.random.experimental.stateless_fold_in
    seed = tf.stack([tf.cast(run_seed, tf.int64), tf.constant(0, tf.int64)])
    return fold_in(fold_in(seed, tf.cast(epoch, tf.int64)), tf.cast(number, tf.int64))


def augment(pixels, recipe, seed):
    """A variant of an image.

    Args:
      pixels: float32 [H, w, C] in [-1, 1), as `prepare_image` gives it; H = 32, w >= 1.
      recipe: augmentation.Recipe. What it leaves out costs nothing.
      seed: int64 [2]; the same seed gives the same variant.

    Returns: the same shape, type and range.
    """
    with tf.name_scope("augment"):
        seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 6))
        shape = pixels.shape
        if recipe.invert:
            pixels = inverted(pixels, tf.random.stateless_uniform([], seeds[0]) < recipe.invert)
        if recipe.moves:
            pixels = resampled(pixels, moved_places(tf.shape(pixels)[1], recipe, seeds[1]))
        if recipe.contrast or recipe.brightness:
            contrast, brightness = tf.unstack(_either_way([recipe.contrast, recipe.brightness / LEVELS], seeds[2]))
            pixels = lit(pixels, 1.0 + contrast, brightness)
        if recipe.blur:
            pixels = blurred(pixels, tf.random.stateless_uniform([], seeds[3], 0.0, recipe.blur), recipe.blur)
        if recipe.noise:
            pixels = noisy(pixels, recipe.noise / LEVELS, seeds[4])
        pixels = tf.clip_by_value(pixels, DARKEST, LIGHTEST)
        if recipe.jpeg < 100:
            pixels = compressed(pixels, tf.random.stateless_uniform([], seeds[5], recipe.jpeg, 101, tf.int32))
        return tf.ensure_shape(pixels, shape)


def _either_way(most, seed):
    """Uniform in [-most, most): float32, in the shape of `most`."""
    most = tf.convert_to_tensor(most, tf.float32)
    return most * tf.random.stateless_uniform(tf.shape(most), seed, -1.0, 1.0)


# ---- places

def moved_places(width, recipe, seed):
    """Where each pixel of a variant comes from: the map of the moved corners after the elastic one.

    Args: width: int32 []; recipe: augmentation.Recipe; seed: int64 [2].
    Returns: float32 [H, w, 2], pixel coordinates in the image, also outside of it.
    """
    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 3))
    size = tf.stack([tf.cast(width, tf.float32), IMAGE_HEIGHT])  # [2]
    steepest = 2.0 * MOST_SHIFT * tf.stack([size[1] / size[0], size[0] / size[1]])  # of the ends, of the sides
    angle, slant = tf.unstack(_either_way([
        tf.minimum(math.radians(recipe.rotation), tf.asin(tf.minimum(tf.reduce_min(steepest), 1.0))),
        tf.minimum(math.radians(recipe.shear), tf.atan(steepest[1]))], seeds[0]))
    # Of the frame's own units, 2 are a side.
    jitter = _either_way(tf.broadcast_to(2.0 * recipe.perspective * tf.minimum(IMAGE_HEIGHT / size, 1.0), [4, 2]),
                         seeds[1])
    corners = fitted(turned_corners(size, angle, slant) + jitter)
    places = frame_places(width)  # [H, w, 2]
    if recipe.elastic:
        places += 2.0 * elastic_shift(width, recipe.elastic, seeds[2]) / size
    return (projected(places, corner_map(corners)) + 1.0) * size / 2.0 - 0.5


def frame_places(width):
    """The pixels' centres in the frame's own units: float32 [H, w, 2]."""
    with tf.name_scope("frame_places"):
        x, y = ((2.0 * tf.cast(tf.range(count), tf.float32) + 1.0) / tf.cast(count, tf.float32) - 1.0
                for count in (width, IMAGE_HEIGHT))
        return tf.stack(tf.meshgrid(x, y), axis=2)


def turned_corners(size, angle, slant):
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


def fitted(corners):
    """Corners shrunk and shifted, along each axis, so that they lie in the frame: float32 [4, 2] -> [4, 2]."""
    with tf.name_scope("fitted"):
        low, high = tf.reduce_min(corners, 0), tf.reduce_max(corners, 0)  # [2]
        scale = tf.minimum(2.0 / (high - low), 1.0)
        low, high = low * scale, high * scale
        return corners * scale + tf.maximum(-1.0 - low, 0.0) - tf.maximum(high - 1.0, 0.0)


def corner_map(corners):
    """The projective map that takes four points back to the frame's corners: float32 [4, 2] -> [3, 3].

    The eight equations of a projective map by four pairs of points (Hartley and Zisserman, Multiple View Geometry,
    with the last entry 1).
    """
    with tf.name_scope("corner_map"):
        x, y = corners[:, 0], corners[:, 1]  # [4]
        one, zero = tf.ones_like(x), tf.zeros_like(x)
        to_x, to_y = tf.unstack(tf.constant(CORNERS), axis=1)
        rows = tf.concat([tf.stack([x, y, one, zero, zero, zero, -x * to_x, -y * to_x], axis=1),
                          tf.stack([zero, zero, zero, x, y, one, -x * to_y, -y * to_y], axis=1)], 0)  # [8, 8]
        entries = tf.linalg.solve(rows, tf.concat([to_x, to_y], 0)[:, tf.newaxis])[:, 0]  # [8]
        return tf.reshape(tf.concat([entries, [1.0]], 0), [3, 3])


def projected(points, matrix):
    """Points through a projective map: float32 [H, w, 2], [3, 3] -> [H, w, 2]."""
    with tf.name_scope("projected"):
        points = tf.tensordot(tf.pad(points, [[0, 0], [0, 0], [0, 1]], constant_values=1.0), matrix, [[2], [1]])
        return points[:, :, :2] / points[:, :, 2:]  # [H, w, 2]


def elastic_shift(width, most, seed):
    """A smooth random shift of each pixel, on a coarse grid whose border stays (Simard et al., ICDAR 2003, smooth
    theirs with a Gaussian).

    Since nodes are WAVE pixels apart and move less than a third of that, nothing folds; since the border stays (but for
    the cubic's overshoot, some tenth of `most`), nothing leaves.

    Args: width: int32 []; most: float, pixels; seed: int64 [2].
    Returns: float32 [H, w, 2] in [-1.2 most, 1.2 most], about; 0 where the image is narrower than three nodes.
    """
    with tf.name_scope("elastic_shift"):
        inner = tf.maximum(tf.cast(tf.cast(width, tf.float32) / WAVE, tf.int32) - 2, 0)
        nodes = tf.random.stateless_uniform([round(IMAGE_HEIGHT / WAVE) - 2, inner, 2], seed, -most, most)
        nodes = tf.pad(nodes, [[1, 1], [1, 1], [0, 0]])
        return tf.compat.v2.image.resize(nodes, [IMAGE_HEIGHT, width], method="bicubic")  # [H, w, 2]


def resampled(pixels, places):
    """The image at other places, bilinearly; outside, its nearest edge: [H, w, C], [H, w, 2] -> [H, w, C]."""
    with tf.name_scope("resampled"):
        last = tf.reverse(tf.shape(pixels)[:2], [0]) - 1  # [2]
        places = tf.clip_by_value(places, 0.0, tf.cast(last, tf.float32))
        near = tf.cast(places, tf.int32)  # [H, w, 2], rounded down
        far = tf.minimum(near + 1, last)
        x, y = tf.split(places - tf.cast(near, tf.float32), 2, axis=2)  # [H, w, 1]

        def row(of):
            left, right = (tf.gather_nd(pixels, tf.stack([of[:, :, 1], side[:, :, 0]], 2)) for side in (near, far))
            return left + (right - left) * x

        upper, lower = row(near), row(far)  # [H, w, C]
        return upper + (lower - upper) * y


# ---- levels

def inverted(pixels, chosen):
    """Level l becomes 255 - l if `chosen` (bool []): [H, w, C] -> [H, w, C]."""
    with tf.name_scope("inverted"):
        return tf.where(chosen, DARKEST + LIGHTEST - pixels, pixels)


def lit(pixels, contrast, brightness):
    """Another light: differences from the mean times `contrast`, and a shift by `brightness`, both float32 [].

    The shift goes no further than to where one standard deviation about the mean is still in range: ink and ground
    would become one otherwise. [H, w, C] -> [H, w, C], not clipped.
    """
    with tf.name_scope("lit"):
        mean = tf.reduce_mean(pixels)
        spread = contrast * tf.math.reduce_std(pixels)
        shift = tf.clip_by_value(brightness, tf.minimum(DARKEST - (mean - spread), 0.0),
                                 tf.maximum(LIGHTEST - (mean + spread), 0.0))
        return mean + contrast * (pixels - mean) + shift


def blurred(pixels, sigma, most):
    """Convolution with a Gaussian, its edges repeated: [H, w, C] -> [H, w, C].

    Args: sigma: float32 [], pixels, at most `most`, a float.
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


def noisy(pixels, most, seed):
    """Gaussian noise: [H, w, C] -> [H, w, C], not clipped.

    Its standard deviation is uniform in [0, most), but MOST_NOISE of the image's own at the most: faint words would
    drown otherwise.
    """
    with tf.name_scope("noisy"):
        deviation_seed, noise_seed = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
        deviation = tf.random.stateless_uniform([], deviation_seed, 0.0, most)
        deviation = tf.minimum(deviation, MOST_NOISE * tf.math.reduce_std(pixels))
        return pixels + deviation * tf.random.stateless_normal(tf.shape(pixels), noise_seed)


def compressed(pixels, quality):
    """Through JPEG and back: [H, w, C] in [-1, 1) -> [H, w, C]. quality: int32 [], of 100."""
    with tf.name_scope("compressed"):
        levels = tf.cast(tf.round((pixels - DARKEST) * LEVELS), tf.uint8)
        encoded = tf.raw_ops.EncodeJpegVariableQuality(images=levels, quality=quality)
        return tf.cast(tf.io.decode_jpeg(encoded, channels=pixels.shape[2]), tf.float32) / LEVELS + DARKEST
