"""What is known of each character of a text that was read: its confidence, alternatives and place."""

from typing import NamedTuple

import tensorflow.compat.v1 as tf

from aocr.charset import FIRST_ID, PAD_ID, Charset
from aocr.config import ATTENTION, CTC, Decoding
from aocr.graph import ctc
from aocr.graph.alignment import Spans, align, class_log_posteriors
from aocr.graph.decoder import AttentionDecoder, TeacherForcing
from aocr.graph.decoding import characters_of, taught_with
from aocr.graph.places import attention_centres, find_edges
from aocr.graph.preprocess import PreparedImages

ALTERNATIVES = 5  # for each character; fewer if the charset has fewer


class Details(NamedTuple):
    """The characters of each text, of at most T characters, with A alternatives each."""

    characters: tf.Tensor  # [N, T] string (UTF-8), "" after the end
    confidences: tf.Tensor  # [N, T] float32 in [0, 1], 0 after the end
    edges: tf.Tensor  # [N, T, 2] float32: left, right; fractions of the image's width; 0 after the end
    alternatives: tf.Tensor  # [N, T, A] string, most probable first; "" after the end
    alternative_probabilities: tf.Tensor  # [N, T, A] float32 in [0, 1]


class Evidence(NamedTuple):
    """What both branches say of the texts; T >= 1."""

    ids: tf.Tensor  # [N, T] int32, characters, PAD_ID after the end
    by_attention: tf.Tensor  # [N, T, K - 1] float32, log probabilities of the charset's characters in each place
    attention: tf.Tensor  # [N, T, S] float32
    by_ctc: tf.Tensor | None  # as by_attention; None without CTC
    spans: Spans | None
    fits: tf.Tensor | None  # [N] bool: whether CTC can align the text


def describe(ids: tf.Tensor, decoder: AttentionDecoder, logits: tf.Tensor | None, lengths: tf.Tensor,
             images: PreparedImages, *, decoding: Decoding, charset: Charset, stride: int, right_to_left: bool,
             temperature: float) -> Details:
    """Describes the characters of texts that were read, by whatever search.

    Args:
      ids: int32 [N, T], as of decoding.Transcription.
      logits: float32 [N, S, K] of `ctc.ctc_logits`, None for a model without CTC. lengths: int32 [N].
      images: the images as they are drawn; see `places.find_edges`.
      stride: pixel columns per encoder step.
      temperature: as in calibration.calibrated.
    """
    with tf.name_scope("describe"):
        found = gather_evidence(ids, decoder, logits, lengths)
        scores = character_scores(found, decoding) / temperature  # [N, T, K - 1]
        counts = tf.reduce_sum(tf.cast(tf.not_equal(found.ids, PAD_ID), tf.int32), 1)
        centres = stride * character_centres(found, lengths, decoding, right_to_left)
        edges = find_edges(centres, counts, images, right_to_left)
        return _details(found.ids, scores, edges, charset)


def gather_evidence(ids: tf.Tensor, decoder: AttentionDecoder, logits: tf.Tensor | None,
                    lengths: tf.Tensor) -> Evidence:
    """Collects what both branches say of texts. Args: as for `describe`."""
    ids = characters_of(ids)
    ids = tf.pad(ids, [[0, 0], [0, 1 - tf.minimum(tf.shape(ids)[1], 1)]], constant_values=PAD_ID)  # [N, T], T >= 1
    inputs, _ = taught_with(ids)
    forced = decoder.decode(tf.shape(inputs)[1], TeacherForcing(inputs))
    by_attention = tf.nn.log_softmax(forced.logits)[:, :-1, FIRST_ID:]
    attention = forced.attention[:, :-1]
    if logits is None:
        return Evidence(ids, by_attention, attention, None, None, None)
    log_probabilities = tf.nn.log_softmax(logits)
    spans = align(log_probabilities, lengths, ids)
    by_ctc = class_log_posteriors(log_probabilities, lengths, ids, spans)
    return Evidence(ids, by_attention, attention, by_ctc, spans, ctc.fits(ids, lengths))


def character_scores(found: Evidence, decoding: Decoding) -> tf.Tensor:
    """Returns the log probability of each character in each place: float32 [N, T, K - 1] <= 0.

    By the method of the decoding; jointly, both log probabilities are weighted as in the score of the whole text. A
    text that CTC cannot align is judged by attention alone.
    """
    if found.by_ctc is None or decoding.method == ATTENTION:
        return found.by_attention
    share = 1.0 if decoding.method == CTC else decoding.ctc_share
    mixed = (1.0 - share) * found.by_attention + share * found.by_ctc
    return _where_rows(found.fits, mixed, found.by_attention)


def character_centres(found: Evidence, lengths: tf.Tensor, decoding: Decoding, right_to_left: bool) -> tf.Tensor:
    """Returns about where each character is, in encoder steps from the left: float32 [N, T].

    Attention places as well as CTC's alignment where both read well, and better at the start of a text, where CTC may
    write the first character too early. If CTC alone was found to read best, attention may not know where to look.
    """
    by_attention = attention_centres(found.attention)
    if found.spans is None or decoding.method != CTC:
        return by_attention
    by_ctc = tf.cast(found.spans.starts + found.spans.ends, tf.float32) / 2.0
    if right_to_left:  # CTC counts its steps from the right
        by_ctc = tf.cast(lengths, tf.float32)[:, tf.newaxis] - by_ctc
    return _where_rows(found.fits, by_ctc, by_attention)


def _details(ids, scores, edges, charset):
    """Returns the Details of texts (int32 [N, T]) with log probabilities [N, T, K - 1] and edges [N, T, 2]."""
    table = tf.constant([b""] * FIRST_ID + [character.encode() for character in charset.characters])
    real = tf.not_equal(ids, PAD_ID)
    own = tf.gather(scores, tf.maximum(ids - FIRST_ID, 0), batch_dims=2)  # [N, T]
    best, places = tf.nn.top_k(scores, min(ALTERNATIVES, len(charset.characters)))  # [N, T, A]
    alternatives = tf.where(tf.broadcast_to(real[:, :, tf.newaxis], tf.shape(places)), places + FIRST_ID,
                            tf.fill(tf.shape(places), PAD_ID))
    mask = tf.cast(real, tf.float32)
    return Details(tf.gather(table, ids), tf.exp(own) * mask, edges, tf.gather(table, alternatives),
                   tf.exp(best) * mask[:, :, tf.newaxis])


def _where_rows(chosen, a, b):
    """Takes the rows of `a` where `chosen` (bool [N]) is true, else those of `b`."""
    shape = tf.concat([tf.shape(chosen), tf.ones([tf.rank(a) - 1], tf.int32)], 0)
    return tf.compat.v2.where(tf.reshape(chosen, shape), a, b)
