"""Prefix beam search over CTC's steps (Graves and Jaitly 2014; Hannun et al., arXiv 1408.2873), with a constraint.

TensorFlow's own op takes no constraint, and needs at least as many texts as are asked for.
"""

from typing import NamedTuple

import tensorflow.compat.v1 as tf

from aocr.charset import FIRST_ID, PAD_ID
from aocr.graph.constraint import Anything, Constraint
from aocr.graph.ctc import IMPOSSIBLE, Texts

MULTIPLIER, INCREMENT = 6364136223846793005, 1442695040888963407  # of the hashes; a linear congruential generator's


class Prefixes(NamedTuple):
    """The prefixes of a beam, B of each image; log probabilities are summed over the alignments in the beam."""

    ids: tf.Tensor  # [N, B, T] int32, PAD_ID after the end
    lengths: tf.Tensor  # [N, B] int32
    last: tf.Tensor  # [N, B] int32, the last class; -1 for an empty prefix, and where there are fewer prefixes
    hashes: tf.Tensor  # [N, B] int64, of the classes
    states: tf.Tensor  # [N, B] int32, of the constraint
    blank: tf.Tensor  # [N, B] float32, log probability of the alignments that end in a blank
    other: tf.Tensor  # [N, B] float32, of those that end in the last class

    @property
    def scores(self) -> tf.Tensor:
        """Log probabilities: [N, B] float32."""
        return _sum(self.blank, self.other)


def best_prefixes(logits: tf.Tensor, lengths: tf.Tensor, constraint: Anything | Constraint, *, beam: int,
                  longest: int) -> Texts:
    """Finds the most likely texts that the constraint allows.

    Prefixes that cannot become such a text within the rest of the steps are dropped.

    Args: logits: float32 [N, S, K]. lengths: int32 [N]. beam: B. longest: characters of a text.
    Returns: B texts; a score is IMPOSSIBLE where there are fewer.
    """
    with tf.name_scope("best_prefixes"):
        scores = tf.transpose(tf.nn.log_softmax(logits), [1, 0, 2])  # [S, N, K]
        size = tf.minimum(longest, tf.shape(scores)[0])

        def step(t, prefixes):
            after = _extended(prefixes, scores[t], lengths - t - 1, size, constraint, beam)
            going = t < lengths  # [N]
            return t + 1, tf.nest.map_structure(lambda new, old: tf.where(going, new, old), after, prefixes)

        _, found = tf.while_loop(lambda t, _: t < tf.shape(scores)[0], step,
                                 (0, _empty(tf.shape(lengths)[0], size, constraint, beam)))
        allowed = tf.equal(constraint.distance(found.states), 0)
        best, order = tf.math.top_k(tf.compat.v2.where(allowed, found.scores, IMPOSSIBLE), beam)
        return Texts(tf.gather(found.ids, order, batch_dims=1), best)


def _empty(count, size, constraint, beam):
    """Returns the empty prefix of each image, and room for others."""
    first = tf.equal(tf.range(beam), 0) & tf.fill([count, beam], True)  # [N, B]
    return Prefixes(tf.fill([count, beam, size], PAD_ID), tf.zeros([count, beam], tf.int32),
                    tf.fill([count, beam], -1), tf.zeros([count, beam], tf.int64),
                    tf.compat.v2.where(first, constraint.start, constraint.dead),
                    tf.compat.v2.where(first, 0.0, IMPOSSIBLE), tf.fill([count, beam], IMPOSSIBLE))


def _extended(prefixes, scores, rest, size, constraint, beam):
    """Returns the best prefixes after a step.

    Args: scores: float32 [N, K], log probabilities of the classes. rest: int32 [N], steps that follow. size: T.
    """
    blank, scores = scores[:, -1:], scores[:, tf.newaxis, :-1]  # [N, 1], [N, 1, K - 1]
    count, fan = tf.shape(blank)[0], 2 * beam  # the beam holds at most `beam` continuations of a prefix already
    total = prefixes.scores
    last = tf.gather(scores[:, 0], tf.maximum(prefixes.last, 0), batch_dims=1)
    last = tf.compat.v2.where(prefixes.last >= 0, last, IMPOSSIBLE)  # [N, B]
    parents = _parents(prefixes)  # [N, B, B]

    # Prefixes that stay: by a blank, by their last character again, or by that character after a prefix in the beam.
    again = tf.equal(prefixes.last[:, :, tf.newaxis], prefixes.last[:, tf.newaxis, :])
    arriving = tf.compat.v2.where(again, prefixes.blank[:, tf.newaxis, :], total[:, tf.newaxis, :])  # [N, B, B]
    arriving = tf.reduce_max(tf.compat.v2.where(parents, arriving, IMPOSSIBLE), 2)  # at most one
    staying = total + blank, _sum(prefixes.other, arriving) + last
    distant = constraint.distance(prefixes.states) > rest[:, tf.newaxis]
    stay = tf.compat.v2.where(distant, IMPOSSIBLE, _sum(*staying))

    # Prefixes that are new.
    edges = constraint.edges(prefixes.states, scores, fan)  # [N, B, E]
    distance = 1 + constraint.distance(edges.targets)
    fitting = (distance <= rest[:, tf.newaxis, tf.newaxis] + 1) & (
        distance <= size - prefixes.lengths[:, :, tf.newaxis]) & ~_in_beam(
            prefixes, parents, edges.labels, scores.shape[2])
    again = tf.equal(edges.labels, prefixes.last[:, :, tf.newaxis])
    source = tf.compat.v2.where(again, prefixes.blank[:, :, tf.newaxis], total[:, :, tf.newaxis])
    new = tf.compat.v2.where(fitting, source + edges.scores, IMPOSSIBLE)

    best, places = tf.math.top_k(tf.concat([stay, tf.reshape(new, [count, -1])], 1), beam)
    place = tf.maximum(places - beam, 0)  # in `new`
    stays, fan = places < beam, tf.shape(new)[2]
    parent = tf.compat.v2.where(stays, places, place // fan)

    def chosen(old, extended):
        """Returns those of `old` [N, B] that stay, and the extended ones, [N, B], of the others."""
        return tf.compat.v2.where(stays, tf.gather(old, parent, batch_dims=1), extended)

    def of_edge(values):  # [N, B, E] -> [N, B]
        return tf.gather(tf.reshape(values, [count, -1]), place, batch_dims=1)

    label, possible = of_edge(edges.labels), best > IMPOSSIBLE / 2
    before, hashes = (tf.gather(part, parent, batch_dims=1) for part in (prefixes.lengths, prefixes.hashes))
    here = tf.equal(tf.range(size), before[:, :, tf.newaxis]) & ~stays[:, :, tf.newaxis]  # [N, B, T]
    return Prefixes(
        tf.compat.v2.where(here, FIRST_ID + label[:, :, tf.newaxis], tf.gather(prefixes.ids, parent, batch_dims=1)),
        tf.compat.v2.where(stays, before, before + 1),
        tf.compat.v2.where(possible, chosen(prefixes.last, label), -1),
        tf.compat.v2.where(stays, hashes, hashes * MULTIPLIER + tf.cast(label + 1, tf.int64) * INCREMENT),
        tf.compat.v2.where(possible, chosen(prefixes.states, of_edge(edges.targets)), constraint.dead),
        tf.compat.v2.where(possible, chosen(staying[0], IMPOSSIBLE), IMPOSSIBLE),
        tf.compat.v2.where(possible, chosen(staying[1], best), IMPOSSIBLE))


def _parents(prefixes):
    """Returns which prefix of the beam each one continues by its last character: bool [N, B, B]."""
    after = prefixes.hashes[:, tf.newaxis, :] * MULTIPLIER + tf.cast(
        prefixes.last[:, :, tf.newaxis] + 1, tf.int64) * INCREMENT  # [N, B, B]
    longer = tf.equal(prefixes.lengths[:, :, tf.newaxis], prefixes.lengths[:, tf.newaxis, :] + 1)
    possible = (prefixes.scores > IMPOSSIBLE / 2)[:, tf.newaxis, :] & (prefixes.last >= 0)[:, :, tf.newaxis]
    return tf.equal(prefixes.hashes[:, :, tf.newaxis], after) & longer & possible


def _in_beam(prefixes, parents, labels, classes):
    """Returns which continuations of prefixes are in the beam already: int32 [N, B, E], below `classes` -> bool."""
    last = tf.one_hot(prefixes.last, classes)  # [N, B, K - 1]
    counts = tf.matmul(tf.cast(parents, tf.float32), last, transpose_a=True)  # of each prefix and class
    return tf.gather(counts, labels, batch_dims=2) > 0.5


def _sum(a, b):
    """Returns log(e^a + e^b), at least IMPOSSIBLE."""
    return tf.maximum(tf.maximum(a, b) + tf.math.log1p(tf.exp(-tf.abs(a - b))), IMPOSSIBLE)
