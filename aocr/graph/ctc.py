"""The CTC branch (Graves et al. 2006): a linear layer on the memory, its loss, and its best texts.

Class k is the charset's character k (id FIRST_ID + k); the last class is blank. K is the number of classes.
"""

from typing import NamedTuple

import tensorflow.compat.v1 as tf

from aocr.charset import FIRST_ID, PAD_ID
from aocr.graph.encoder import EncoderOutput
from aocr.graph.layers import Linear

IMPOSSIBLE = -1e9  # log probability of a text that does not fit into the steps


class Texts(NamedTuple):
    """The most likely texts of each image, best first."""

    ids: tf.Tensor  # [N, B, T] int32, PAD_ID after the end
    log_probabilities: tf.Tensor  # [N, B] float32


def ctc_logits(encoded: EncoderOutput, characters: int, right_to_left: bool = False) -> tf.Tensor:
    """Returns the class logits of each encoder step.

    Args:
      characters: number of characters in the charset.
      right_to_left: labels begin at the right end of their images, so steps are counted from there.

    Returns: float32 [N, S, K].
    """
    with tf.variable_scope("ctc"):
        depth = encoded.memory.shape[2]
        logits = Linear("output", depth, characters + 1)(tf.reshape(encoded.memory, [-1, depth]))
        shape = tf.shape(encoded.memory)
        logits = tf.reshape(logits, [shape[0], shape[1], characters + 1])
        if right_to_left:
            logits = tf.reverse_sequence(logits, encoded.lengths, seq_axis=1, batch_axis=0)
        return tf.identity(logits, "logits")


def fits(ids: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
    """Returns whether a text fits into its steps: it needs one per character, and one more between equal neighbours.

    Args: ids: int32 [N, T], PAD_ID after the end. lengths: int32 [N], steps.
    Returns: bool [N].
    """
    real = tf.not_equal(ids, PAD_ID)
    repeats = tf.logical_and(tf.equal(ids[:, 1:], ids[:, :-1]), real[:, 1:])
    needed = tf.reduce_sum(tf.cast(real, tf.int32), 1) + tf.reduce_sum(tf.cast(repeats, tf.int32), 1)
    return needed <= lengths


def log_probability(logits: tf.Tensor, lengths: tf.Tensor, ids: tf.Tensor) -> tf.Tensor:
    """Returns the log of each text's probability, summed over all its alignments.

    Args:
      logits: float32 [N, S, K]. lengths: int32 [N], steps of each image.
      ids: int32 [N, T], characters, PAD_ID after the end (and nowhere else). A text may be empty.

    Returns: float32 [N] <= 0; IMPOSSIBLE, without a gradient, for a text that does not fit.
    """
    with tf.name_scope("ctc_log_probability"):
        fitting, empty = fits(ids, lengths), tf.equal(tf.shape(ids)[1], 0)
        ids = tf.cond(empty, lambda: tf.zeros([tf.shape(ids)[0], 1], tf.int32), lambda: ids)  # at least one column
        real = tf.logical_and(tf.not_equal(ids, PAD_ID), fitting[:, tf.newaxis])
        written = tf.reduce_any(real, 1)
        # The op requires at least one character per row; its result for an empty row is not used.
        dummy = FIRST_ID * tf.one_hot(tf.zeros_like(lengths), tf.shape(ids)[1], dtype=tf.int32)
        ids = tf.compat.v2.where(written[:, tf.newaxis], ids * tf.cast(real, tf.int32), dummy)
        places = tf.where(tf.not_equal(ids, PAD_ID))  # [characters, 2]
        labels = tf.SparseTensor(places, tf.gather_nd(ids, places) - FIRST_ID, tf.shape(ids, out_type=tf.int64))
        loss = tf.nn.ctc_loss(labels, tf.transpose(logits, [1, 0, 2]), lengths, preprocess_collapse_repeated=False,
                              ctc_merge_repeated=True)
        return tf.where(written, -loss, tf.where(fitting, _blank_log_probability(logits, lengths),
                                                 tf.fill(tf.shape(loss), IMPOSSIBLE)))


def _blank_log_probability(logits, lengths):
    """Returns the log probability of the empty text: float32 [N, S, K], int32 [N] -> float32 [N]."""
    blank = logits[:, :, -1] - tf.reduce_logsumexp(logits, 2)  # [N, S]
    return tf.reduce_sum(blank * tf.sequence_mask(lengths, tf.shape(logits)[1], tf.float32), 1)


def best_texts(logits: tf.Tensor, lengths: tf.Tensor, *, beam: int, count: int) -> Texts:
    """Finds the most likely texts by beam search over prefixes.

    Args: logits: float32 [N, S, K]. lengths: int32 [N]. beam: number of prefixes kept. count: B <= beam.
    Returns: texts; each probability covers the alignments that stayed in the beam.
    """
    with tf.name_scope("ctc_best_texts"):
        paths, scores = tf.nn.ctc_beam_search_decoder_v2(tf.transpose(logits, [1, 0, 2]), lengths, beam, count)
        longest = tf.reduce_max([path.dense_shape[1] for path in paths])
        rows = tf.shape(logits, out_type=tf.int64)[0]
        dense = [tf.sparse_to_dense(path.indices, tf.stack([rows, longest]), path.values + FIRST_ID, PAD_ID)
                 for path in paths]  # [N, T]
        return Texts(tf.cast(tf.stack(dense, 1), tf.int32), scores)
