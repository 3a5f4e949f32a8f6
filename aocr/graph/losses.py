"""The loss, and how likely a reading is."""

import tensorflow.compat.v1 as tf

from aocr.charset import EOS_ID


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


def until_eos(ids):
    """1 up to and including the first EOS, then 0: int32 [N, T] -> float32 [N, T]."""
    is_eos = tf.cast(tf.equal(ids, EOS_ID), tf.int32)
    return tf.cast(tf.equal(tf.cumsum(is_eos, axis=1, exclusive=True), 0), tf.float32)


def sequence_probability(logits, ids):
    """How sure the model is of a whole reading: the product of the steps' largest probabilities, EOS the last.

    Args: logits: float32 [N, T, V]; ids: int32 [N, T], their argmax.
    Returns: float64 [N] in [0, 1]; steps after EOS do not count.
    """
    with tf.name_scope("sequence_probability"):
        best = tf.reduce_max(tf.nn.log_softmax(tf.cast(logits, tf.float64)), axis=2)  # [N, T]
        return tf.exp(tf.reduce_sum(best * tf.cast(until_eos(ids), tf.float64), axis=1))
