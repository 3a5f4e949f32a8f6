"""The loss, and how likely a reading is."""

import tensorflow.compat.v1 as tf

from aocr.charset import EOS_ID

GUIDANCE_WIDTH = 0.15  # of the diagonal that attention is guided to, as a share of the image's width


def sequence_loss(logits, targets, weights, smoothing=0.0):
    """Each sample's mean cross-entropy over the steps that count.

    Args:
      logits: float32 [N, T, V]. targets: int32 [N, T]. weights: float32 [N, T], 1 for the label's characters and its
        EOS, 0 after it.
      smoothing: float in [0, 1), the share of a target's probability that is spread evenly over all ids (Szegedy et
        al., arXiv 1512.00567, section 7).

    Returns: float32 [N], nats a step. A batch's loss is its mean (short words count as much as long ones).
    """
    with tf.name_scope("sequence_loss"):
        entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=targets, logits=logits)  # [N, T]
        if smoothing:
            evenly = -tf.reduce_mean(tf.nn.log_softmax(logits), 2)  # [N, T]
            entropy = (1.0 - smoothing) * entropy + smoothing * evenly
        return tf.reduce_sum(entropy * weights, 1) / tf.maximum(tf.reduce_sum(weights, 1), 1.0)


def guidance(attention, weights, lengths, right_to_left=False):
    """How far each sample's attention strays from the diagonal: guided attention (Tachibana et al., arXiv 1710.08969).

    Args:
      attention: float32 [N, T, S]. weights: float32 [N, T], 1 for the steps that count. lengths: int32 [N], 1 to S.
      right_to_left: bool; the diagonal is the other one.

    Returns: float32 [N] in [0, 1), the mean over the steps of attention times its distance, which is 0 on the diagonal
      and 1 far from it.
    """
    with tf.name_scope("guidance"):
        steps = tf.reduce_sum(weights, 1)[:, tf.newaxis]  # [N, 1]; EOS among them
        written = (tf.cast(tf.range(tf.shape(weights)[1]), tf.float32) + 0.5) / steps  # [N, T]
        columns = tf.cast(tf.range(tf.shape(attention)[2]), tf.float32) + 0.5
        looked_at = columns / tf.cast(lengths, tf.float32)[:, tf.newaxis]  # [N, S]
        if right_to_left:
            looked_at = 1.0 - looked_at
        far = written[:, :, tf.newaxis] - looked_at[:, tf.newaxis, :]  # [N, T, S]
        penalty = 1.0 - tf.exp(-0.5 * tf.square(far / GUIDANCE_WIDTH))
        strayed = tf.reduce_sum(attention * penalty, 2)  # [N, T]
        return tf.reduce_sum(strayed * weights, 1) / steps[:, 0]


def until_eos(ids):
    """1 up to and including the first EOS, then 0: int32 [N, T] -> float32 [N, T]."""
    is_eos = tf.cast(tf.equal(ids, EOS_ID), tf.int32)
    return tf.cast(tf.equal(tf.cumsum(is_eos, axis=1, exclusive=True), 0), tf.float32)


def sequence_log_probability(logits, targets):
    """How likely texts are: float32 [N, T, V], int32 [N, T] (characters and EOS) -> float32 [N] <= 0."""
    with tf.name_scope("sequence_log_probability"):
        entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=targets, logits=logits)  # [N, T]
        return -tf.reduce_sum(entropy * until_eos(targets), 1)


def sequence_probability(logits, ids):
    """How sure the model is of a whole reading: the product of the steps' largest probabilities, EOS the last.

    Args: logits: float32 [N, T, V]; ids: int32 [N, T], their argmax.
    Returns: float64 [N] in [0, 1]; steps after EOS do not count.
    """
    with tf.name_scope("sequence_probability"):
        best = tf.reduce_max(tf.nn.log_softmax(tf.cast(logits, tf.float64)), axis=2)  # [N, T]
        return tf.exp(tf.reduce_sum(best * tf.cast(until_eos(ids), tf.float64), axis=1))
