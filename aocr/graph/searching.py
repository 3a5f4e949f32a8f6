"""Reads by search: a beam over the texts that may be read, in each branch that decodes."""

from typing import NamedTuple

import tensorflow.compat.v1 as tf

from aocr.charset import PAD_ID
from aocr.config import ATTENTION, CTC, Decoding
from aocr.graph import ctc, losses
from aocr.graph.beam import Beam
from aocr.graph.constraint import Anything, Constraint
from aocr.graph.ctc import IMPOSSIBLE
from aocr.graph.decoder import AttentionDecoder, TeacherForcing
from aocr.graph.decoding import BEAM, Hypotheses, Transcription, probability_of, taught_with
from aocr.graph.prefix_beam import MULTIPLIER, best_prefixes
from aocr.search.search import Search

# Prefixes of CTC for each text that a constrained beam keeps: the right word may begin unlike the image, and prefixes
# cost little beside the scores of the attention decoder.
PREFIXES = 4


class Found(NamedTuple):
    """Texts of each image."""

    ids: tf.Tensor  # [N, C, T] int32, PAD_ID after the end
    scores: tf.Tensor  # [N, C] float32, log probabilities
    possible: tf.Tensor  # [N, C] bool; the others are empty, and do not count


def transcribe_by_search(search: Search, decoding: Decoding, decoder: AttentionDecoder, logits: tf.Tensor | None,
                         lengths: tf.Tensor, steps: int) -> Transcription:
    """Reads each image by search: as for `decoding.transcribe`, with the n best texts if they are asked for.

    A text is empty and its probability 0 where no text may be read.
    """
    with tf.name_scope("search"):
        allowed = Constraint(search.required) if search.required else Anything()
        preferred = Constraint(search.preferred) if search.preferred else None
        constraints = [constraint for constraint in (preferred, allowed) if constraint]
        texts = []
        if decoding.method != CTC:
            texts += [decoder.search(steps, Beam(search.beam, search.beam, steps, constraint))
                      for constraint in constraints]
        by_attention = len(texts) * search.beam  # the first candidates
        if decoding.method != ATTENTION:
            texts += [_by_ctc(search, logits, lengths, constraint, steps) for constraint in constraints]
        found = _distinct(texts)
        found = found._replace(scores=_scores(decoding, decoder, logits, lengths, found, by_attention))
        ranks = found.scores
        if preferred:
            liked = tf.reshape(preferred.accepts(_rows(found.ids)), tf.shape(ranks))
            ranks += search.bonus * tf.cast(liked, tf.float32)
        _, order = tf.math.top_k(tf.compat.v2.where(found.possible, ranks, 2 * IMPOSSIBLE), search.n_best or 1)
        return _transcription(decoder, Found(*(tf.gather(part, order, batch_dims=1) for part in found)),
                              bool(search.n_best))


def _by_ctc(search, logits, lengths, constraint, steps):
    """Returns the best texts of CTC, as many as the beam is wide, at least BEAM."""
    kept = max(BEAM, search.beam)
    wide = kept * PREFIXES if search.required else kept
    found = best_prefixes(logits, lengths, constraint, beam=wide, longest=steps - 1)
    return ctc.Texts(found.ids[:, :kept], found.log_probabilities[:, :kept])


def _distinct(texts):
    """Joins Texts to Found; of equal ones, the first is possible."""
    longest = tf.reduce_max([tf.shape(part.ids)[2] for part in texts])
    ids = tf.concat([tf.pad(part.ids, [[0, 0], [0, 0], [0, longest - tf.shape(part.ids)[2]]],
                            constant_values=PAD_ID) for part in texts], 1)  # [N, C, T]
    scores = tf.concat([part.log_probabilities for part in texts], 1)
    possible = scores > IMPOSSIBLE / 2
    if len(texts) > 1:
        powers = tf.math.cumprod(tf.fill([longest], tf.constant(MULTIPLIER, tf.int64)))
        hashes = tf.reduce_sum(tf.cast(ids, tf.int64) * powers, 2)
        equal = tf.equal(hashes[:, :, tf.newaxis], hashes[:, tf.newaxis]) & possible[:, tf.newaxis]  # [N, C, C]
        earlier = tf.range(tf.shape(ids)[1])[:, tf.newaxis] > tf.range(tf.shape(ids)[1])
        possible &= ~tf.reduce_any(equal & earlier, 2)
    return Found(tf.compat.v2.where(possible[:, :, tf.newaxis], ids, PAD_ID), scores, possible)


def _scores(decoding, decoder, logits, lengths, found, by_attention):
    """Returns the log probabilities of texts, exactly: float32 [N, C].

    A beam's own are exact under attention only; under CTC they cover the alignments that stayed in it.
    `by_attention`: number of the first texts, which the attention decoder's beam found.
    """
    if decoding.method == ATTENTION:
        return found.scores
    rows, count = _rows(found.ids), found.scores.shape[1]
    by_ctc = ctc.log_probability(tf.repeat(logits, count, axis=0), tf.repeat(lengths, count), rows)
    by_ctc = tf.reshape(by_ctc, tf.shape(found.scores))
    if decoding.method == CTC:
        return by_ctc
    inputs, targets = taught_with(_rows(found.ids[:, by_attention:]))
    forced = decoder.decode(tf.shape(inputs)[1], TeacherForcing(inputs), copies=count - by_attention)
    others = tf.reshape(losses.sequence_log_probability(forced.logits, targets), [-1, count - by_attention])
    scores = tf.concat([found.scores[:, :by_attention], others], 1)
    return (1.0 - decoding.ctc_share) * scores + decoding.ctc_share * by_ctc


def _rows(ids):
    """Returns texts as rows: [N, C, T] -> [N * C, T]."""
    return tf.reshape(ids, [-1, tf.shape(ids)[2]])


def _transcription(decoder, found, several):
    """Returns the best of some texts, best first, as Transcription; with all of them if there are several."""
    probabilities = tf.compat.v2.where(found.possible, probability_of(found.scores), 0.0)  # [N, H]
    inputs, targets = taught_with(found.ids[:, 0])
    attention = decoder.decode(tf.shape(inputs)[1], TeacherForcing(inputs)).attention
    return Transcription(targets, probabilities[:, 0], attention,
                         hypotheses=Hypotheses(found.ids, probabilities) if several else None)
