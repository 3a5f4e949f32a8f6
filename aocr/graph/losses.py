"""The losses, and the probability of a reading."""

import tensorflow.compat.v1 as tf

from aocr.charset import EOS_ID


def sequence_loss(logits: tf.Tensor, targets: tf.Tensor, weights: tf.Tensor, smoothing: float = 0.0) -> tf.Tensor:
    """Returns each sample's mean cross-entropy over the steps that count.

    Args:
      logits: float32 [N, T, V]. targets: int32 [N, T]. weights: float32 [N, T], 1 for the label's characters and its
        EOS, 0 after it.
      smoothing: in [0, 1), the share of a target's probability that is spread evenly over all ids (Szegedy et al.,
        arXiv 1512.00567, section 7).

    Returns: float32 [N], nats per step. A batch's loss is its mean (short words count as much as long ones).
    """
    with tf.name_scope("sequence_loss"):
        entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=targets, logits=logits)  # [N, T]
        if smoothing:
            evenly = -tf.reduce_mean(tf.nn.log_softmax(logits), 2)  # [N, T]
            entropy = (1.0 - smoothing) * entropy + smoothing * evenly
        return tf.reduce_sum(entropy * weights, 1) / tf.maximum(tf.reduce_sum(weights, 1), 1.0)


def until_eos(ids: tf.Tensor) -> tf.Tensor:
    """Returns 1 up to and including the first EOS, then 0: int32 [N, T] -> float32 [N, T]."""
    is_eos = tf.cast(tf.equal(ids, EOS_ID), tf.int32)
    return tf.cast(tf.equal(tf.cumsum(is_eos, axis=1, exclusive=True), 0), tf.float32)


def sequence_log_probability(logits: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """Returns texts' log probabilities: float32 [N, T, V], int32 [N, T] (characters and EOS) -> float32 [N] <= 0."""
    with tf.name_scope("sequence_log_probability"):
        entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=targets, logits=logits)  # [N, T]
        return -tf.reduce_sum(entropy * until_eos(targets), 1)


def sequence_probability(logits: tf.Tensor, ids: tf.Tensor) -> tf.Tensor:
    """Returns the probability of a whole reading: the product of the steps' largest probabilities, EOS included.

    Args: logits: float32 [N, T, V]; ids: int32 [N, T], their argmax.
    Returns: float64 [N] in [0, 1]; steps after EOS do not count.
    """
    with tf.name_scope("sequence_probability"):
        best = tf.reduce_max(tf.nn.log_softmax(tf.cast(logits, tf.float64)), axis=2)  # [N, T]
        return tf.exp(tf.reduce_sum(best * tf.cast(until_eos(ids), tf.float64), axis=1))
