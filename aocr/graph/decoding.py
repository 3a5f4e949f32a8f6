"""Decodes the network's outputs to text: by attention, by CTC, or by both jointly."""

from typing import NamedTuple

import tensorflow.compat.v1 as tf

from aocr.charset import EOS_ID, FIRST_ID, GO_ID, PAD_ID
from aocr.config import ATTENTION, CTC, JOINT, Decoding
from aocr.graph import ctc, losses
from aocr.graph.decoder import AttentionDecoder, TeacherForcing

BEAM = 8  # prefixes that the CTC beam search keeps
RESCORED = 4  # its best texts, which the attention decoder rescores


class Candidates(NamedTuple):
    """Texts for each image with the scores of both branches; B texts of at most T characters."""

    ids: tf.Tensor  # [N, B, T] int32, characters, PAD_ID after the end
    by_attention: tf.Tensor  # [N, B] float32, log probability
    by_ctc: tf.Tensor  # [N, B] float32, log probability
    attention: tf.Tensor  # [N, B, T + 1, S] float32


class Hypotheses(NamedTuple):
    """The best texts of each image, best first; B texts of at most T characters."""

    ids: tf.Tensor  # [N, B, T] int32, characters, PAD_ID after the end
    probabilities: tf.Tensor  # [N, B] float64 in [0, 1]; 0 where there are fewer texts


class Transcription(NamedTuple):
    """The text read in each image."""

    ids: tf.Tensor  # [N, T] int32: characters and EOS
    probability: tf.Tensor  # [N] float64 in [0, 1]
    attention: tf.Tensor  # [N, T, S] float32
    candidates: Candidates | None = None  # of joint decoding
    hypotheses: Hypotheses | None = None  # of a search for the n best texts


def transcribe(decoding: Decoding, decoder: AttentionDecoder, logits: tf.Tensor | None, lengths: tf.Tensor,
               steps: int) -> Transcription:
    """Reads each image by the given method.

    Args:
      logits: float32 [N, S, K] of `ctc.ctc_logits`, None for a model without CTC. lengths: int32 [N].
      steps: maximum number of characters, EOS included.
    """
    with tf.name_scope("transcribe"):
        return METHODS[decoding.method](decoding, decoder, logits, lengths, steps)


def _by_attention(_, decoder, logits, lengths, steps):
    """Returns the attention decoder's greedy text."""
    read = decoder.decode(steps)
    return Transcription(read.ids, losses.sequence_probability(read.logits, read.ids), read.attention)


def _by_ctc(_, decoder, logits, lengths, steps):
    """Returns CTC's most likely text with its probability; the attention is the decoder's, teacher forced with it."""
    texts = ctc.best_texts(logits, lengths, beam=BEAM, count=1)
    ids = texts.ids[:, 0, :steps - 1]  # [N, T]
    inputs, targets = taught_with(ids)
    attention = decoder.decode(tf.shape(inputs)[1], TeacherForcing(inputs)).attention
    return Transcription(targets, probability_of(texts.log_probabilities[:, 0]), attention)


def _jointly(decoding, decoder, logits, lengths, steps):
    """Returns the best of CTC's top texts and the attention decoder's greedy one, by both scores (U2, arXiv 2012.05481,
    plus the greedy one).
    """
    found = candidates(decoder, logits, lengths, steps)
    share = decoding.ctc_share
    scores = (1.0 - share) * found.by_attention + share * found.by_ctc  # [N, B]
    best = tf.argmax(scores, 1, output_type=tf.int32)

    def chosen(parts):
        return tf.gather(parts, best, batch_dims=1)

    _, targets = taught_with(chosen(found.ids))
    return Transcription(targets, probability_of(chosen(scores)), chosen(found.attention), found)


def candidates(decoder: AttentionDecoder, logits: tf.Tensor, lengths: tf.Tensor, steps: int) -> Candidates:
    """Returns CTC's RESCORED best texts and the attention decoder's greedy one, with both scores.

    Args: as for `transcribe`.
    """
    own = characters_of(decoder.decode(steps).ids)[:, tf.newaxis]  # [N, 1, T]
    likeliest = ctc.best_texts(logits, lengths, beam=BEAM, count=RESCORED).ids[:, :, :steps - 1]  # [N, RESCORED, T]
    longest = tf.maximum(tf.shape(own)[2], tf.shape(likeliest)[2])
    ids = tf.concat([tf.pad(part, [[0, 0], [0, 0], [0, longest - tf.shape(part)[2]]], constant_values=PAD_ID)
                     for part in (likeliest, own)], 1)  # [N, B, T]
    count = RESCORED + 1
    rows = tf.reshape(ids, [-1, longest])  # [N * B, T]
    inputs, targets = taught_with(rows)
    forced = decoder.decode(longest + 1, TeacherForcing(inputs), copies=count)
    by_attention = losses.sequence_log_probability(forced.logits, targets)
    by_ctc = ctc.log_probability(tf.repeat(logits, count, axis=0), tf.repeat(lengths, count), rows)
    attention = tf.reshape(forced.attention, [-1, count, longest + 1, tf.shape(logits)[1]])
    return Candidates(ids, tf.reshape(by_attention, [-1, count]), tf.reshape(by_ctc, [-1, count]), attention)


def characters_of(ids: tf.Tensor) -> tf.Tensor:
    """Keeps the characters before the first EOS, dropping padding and GO between them: int32 [N, T] -> [N, T']."""
    inside = tf.logical_and(losses.until_eos(ids) > 0, ids >= FIRST_ID)
    return tf.ragged.boolean_mask(ids, inside).to_tensor(PAD_ID)


def taught_with(ids: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns teacher-forcing sequences of texts: int32 [N, T], PAD_ID after the end -> (inputs, targets), [N, T + 1].

    inputs: GO and the text; targets: the text and EOS.
    """
    inputs = tf.pad(ids, [[0, 0], [1, 0]], constant_values=GO_ID)
    targets = tf.pad(ids, [[0, 0], [0, 1]], constant_values=PAD_ID)
    lengths = tf.reduce_sum(tf.cast(tf.not_equal(ids, PAD_ID), tf.int32), 1)  # [N]
    return inputs, targets + EOS_ID * tf.one_hot(lengths, tf.shape(targets)[1], dtype=tf.int32)


def probability_of(logarithm: tf.Tensor) -> tf.Tensor:
    """Exponentiates log probabilities, which rounding may have raised above 0: float32 [...] -> float64 [...] <= 1."""
    return tf.exp(tf.minimum(tf.cast(logarithm, tf.float64), 0.0))


METHODS = {ATTENTION: _by_attention, CTC: _by_ctc, JOINT: _jointly}  # functions of the arguments of `transcribe`
