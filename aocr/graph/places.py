"""Finds the edges of characters in an image, from about where each one is and from the ink between them."""

import tensorflow.compat.v1 as tf

from aocr.graph.preprocess import PreparedImages

LEAST_INK = 0.1  # of `relative_ink`; a column with less is empty
MIDDLE = 0.5  # added to the relative ink of a column, times its distance from the middle in distances of the centres
# How far the first and the last character reach outwards at most: in mean distances between neighbouring characters, or
# in distances to their own inner cut. Beyond it may be other print.
OUTWARDS = 1.0, 1.5
FAR = 1e9  # beyond all columns


def attention_centres(attention: tf.Tensor) -> tf.Tensor:
    """Returns the median of each step's attention: float32 [N, T, S] -> [N, T], in encoder steps from the left."""
    with tf.name_scope("attention_centres"):
        before = tf.cumsum(attention, axis=2, exclusive=True)
        left = tf.cast(before < 0.5, tf.float32)  # the steps up to the median's own
        step = tf.reduce_sum(left, 2) - 1.0
        own = tf.reduce_sum(attention * tf.one_hot(tf.cast(step, tf.int32), tf.shape(attention)[2]), 2)
        passed = tf.reduce_sum(before * tf.one_hot(tf.cast(step, tf.int32), tf.shape(attention)[2]), 2)
        return step + tf.clip_by_value((0.5 - passed) / tf.maximum(own, 1e-9), 0.0, 1.0)


def find_edges(centres: tf.Tensor, counts: tf.Tensor, images: PreparedImages, right_to_left: bool) -> tf.Tensor:
    """Returns the left and right edge of each character: cuts between neighbours where there is least ink, then leaves
    out the empty columns at both sides.

    Args:
      centres: float32 [N, T], about where each character is, in pixels from the left; T >= 1.
      counts: int32 [N], characters of each image, <= T.
      images: with the pixels that show ink; columns without any contrast are cut in the middle.
      right_to_left: whether the first character is the rightmost one.

    Returns: float32 [N, T, 2], fractions of the image's width, 0 <= left <= right <= 1, in the order of the text; 0
      after the end.
    """
    with tf.name_scope("find_edges"):
        widths = tf.cast(images.widths, tf.float32)[:, tf.newaxis]  # [N, 1]
        ink = relative_ink(images)  # [N, W]
        centres = tf.clip_by_value(centres, 0.0, widths)
        if right_to_left:  # as in a mirror
            centres, ink = widths - centres, tf.reverse_sequence(ink, images.widths, seq_axis=1, batch_axis=0)
        real = tf.sequence_mask(counts, tf.shape(centres)[1])
        centres = tf.sort(tf.where(real, centres, tf.fill(tf.shape(centres), FAR)), axis=1)
        cuts = _cuts(centres, ink, images.widths)  # [N, T - 1]
        lefts, rights = _trimmed(centres, cuts, counts, ink, images.widths)  # [N, T]
        if right_to_left:
            lefts, rights = widths - rights, widths - lefts
        edges = tf.clip_by_value(tf.stack([lefts, rights], 2) / widths[:, :, tf.newaxis], 0.0, 1.0)
        return edges * tf.cast(real, tf.float32)[:, :, tf.newaxis]


def relative_ink(images: PreparedImages) -> tf.Tensor:
    """Returns the contrast within each column of pixels, from 0 in the image's emptiest column to 1 in its fullest:
    float32 [N, W]; without meaning in the padding, 0 where all columns are alike.
    """
    grey = tf.reduce_mean(images.pixels, 3)  # [N, H, W]
    contrast = tf.reduce_max(grey, 1) - tf.reduce_min(grey, 1)  # [N, W]
    inside = tf.sequence_mask(images.widths, tf.shape(contrast)[1])
    least = tf.reduce_min(tf.where(inside, contrast, tf.fill(tf.shape(contrast), FAR)), 1, keepdims=True)
    most = tf.reduce_max(tf.where(inside, contrast, tf.zeros_like(contrast)), 1, keepdims=True)
    return (contrast - least) / tf.maximum(most - least, 1e-6)


def _cuts(centres, ink, widths):
    """Returns where to cut between neighbouring centres: float32 [N, T] (ascending) -> [N, T - 1].

    Where the ink is least; columns far from the middle count as fuller, so that it decides where there is no gap.
    """
    before, after = centres[:, :-1], centres[:, 1:]
    middles = (before + after) / 2.0  # [N, T - 1]
    gaps = _places(centres, ink, widths) - 1  # [N, W]: columns from centre k on are in gap k
    gaps = tf.where(gaps < tf.shape(middles)[1], gaps, -tf.ones_like(gaps))
    columns = _columns(ink)
    distances = tf.abs(columns - _of_columns(middles, gaps)) / _of_columns(tf.maximum(after - before, 1.0), gaps)
    costs = ink + MIDDLE * distances  # [N, W]
    chosen = costs <= _of_columns(_least(costs, gaps, middles), gaps)
    cuts = _least(tf.where(chosen, columns, tf.fill(tf.shape(ink), FAR)), gaps, middles)
    return tf.where(cuts < FAR, tf.clip_by_value(cuts, before, after), middles)  # no column between the two centres


def _trimmed(centres, cuts, counts, ink, widths):
    """Returns the edges of the ink between the cuts: (lefts, rights), float32 [N, T]; without ink, the cuts."""
    lefts, rights, first, last = _bounds(centres, cuts, counts, widths)
    owners = _places(lefts, ink, widths) - 1  # [N, W]
    owners = tf.minimum(owners, counts[:, tf.newaxis] - 1)  # -1 without characters
    end = tf.reduce_max(tf.where(last, rights, tf.zeros_like(rights)), 1, keepdims=True)
    dark = tf.logical_and(ink > LEAST_INK, _columns(ink) < end)
    owners = tf.where(dark, owners, -tf.ones_like(owners))
    inked_left = _least(_columns(ink) - 0.5, owners, centres)
    inked_right = -_least(-_columns(ink) - 0.5, owners, centres)
    # Without ink, the first and the last character end as far outside as they do inside.
    outer_left = tf.where(first, tf.maximum(2.0 * centres - rights, lefts), lefts)
    outer_right = tf.where(last, tf.minimum(2.0 * centres - lefts, rights), rights)
    found = inked_left < FAR
    return (tf.where(found, tf.clip_by_value(inked_left, lefts, rights), outer_left),
            tf.where(found, tf.clip_by_value(inked_right, lefts, rights), outer_right))


def _bounds(centres, cuts, counts, widths):
    """Returns how far the characters reach, from cut to cut: (lefts, rights), float32 [N, T]; and which is the first
    and the last one of each text, bool [N, T] each.
    """
    count, steps = tf.unstack(tf.shape(centres))
    first = tf.one_hot(tf.zeros_like(counts), steps, on_value=True, off_value=False, dtype=tf.bool)
    last = tf.one_hot(counts - 1, steps, on_value=True, off_value=False, dtype=tf.bool)
    ends = tf.gather(centres, tf.maximum(counts - 1, 0), batch_dims=1)  # [N], of the last characters
    mean = (ends - centres[:, 0]) / tf.cast(tf.maximum(counts - 1, 1), tf.float32)
    mean = tf.where(counts > 1, OUTWARDS[0] * mean, tf.fill(tf.shape(mean), FAR))[:, tf.newaxis]  # [N, 1]
    lefts, rights = tf.pad(cuts, [[0, 0], [1, 0]]), tf.pad(cuts, [[0, 0], [0, 1]], constant_values=FAR)
    outer_left = centres - tf.maximum(mean, OUTWARDS[1] * (rights - centres))
    outer_right = centres + tf.maximum(mean, OUTWARDS[1] * (centres - lefts))
    wide = tf.broadcast_to(tf.cast(widths, tf.float32)[:, tf.newaxis], [count, steps])
    lefts = tf.where(first, tf.maximum(outer_left, 0.0), lefts)
    return lefts, tf.where(last, tf.minimum(outer_right, wide), rights), first, last


def _columns(ink):
    """Returns the middle of each column: float32 [N, W], 0.5, 1.5 ..."""
    return tf.broadcast_to(tf.range(tf.cast(tf.shape(ink)[1], tf.float32)) + 0.5, tf.shape(ink))


def _places(points, ink, widths):
    """Counts the points (float32 [N, P]) at or left of each column: int32 [N, W]; -1 beyond the width."""
    count, columns = tf.unstack(tf.shape(ink))
    at = tf.cast(tf.minimum(points, tf.cast(columns, tf.float32)), tf.int32)  # those beyond: at the end
    at += (columns + 1) * tf.range(count)[:, tf.newaxis]
    marks = tf.math.unsorted_segment_sum(tf.ones_like(at), at, count * (columns + 1))
    passed = tf.cumsum(tf.reshape(marks, [count, columns + 1])[:, :-1], axis=1)
    return tf.where(tf.sequence_mask(widths, columns), passed, tf.zeros_like(passed))


def _least(values, places, like):
    """Returns the least value in each place, FAR or more in empty ones.

    Args: values: float32 [N, W]. places: int32 [N, W], negative in none. like: has the shape of the result, [N, P].
    """
    count, size = tf.unstack(tf.shape(like))
    flat = tf.where(places >= 0, places + size * tf.range(count)[:, tf.newaxis], -tf.ones_like(places))
    return tf.reshape(tf.math.unsorted_segment_min(values, flat, count * size), [count, size])


def _of_columns(values, places):
    """Returns the value of each column's place: float32 [N, P], int32 [N, W] -> [N, W]; any value in no place."""
    padded = tf.pad(values, [[0, 0], [0, 1]])  # so that there is one, whatever P
    return tf.gather(padded, tf.maximum(places, 0), batch_dims=1)
