"""Beam search with the attention decoder, over the texts that may be read."""

from typing import NamedTuple

import tensorflow.compat.v1 as tf

from aocr.charset import EOS_ID, FIRST_ID, GO_ID, PAD_ID
from aocr.graph.constraint import Anything, Constraint
from aocr.graph.ctc import IMPOSSIBLE, Texts


class Progress(NamedTuple):
    """The texts of a beam, B of each image, best first."""

    ids: tf.Tensor  # [N * B] int32, each text's last character
    texts: tf.Tensor  # [N, B, T] int32, PAD_ID after the end
    scores: tf.Tensor  # [N, B] float32, log probability; IMPOSSIBLE where there are fewer texts
    states: tf.Tensor  # [N, B] int32, of the constraint
    ended: tf.Tensor  # [N, B] bool
    origins: tf.Tensor  # [N * B] int32, the row that each text had before the last step


class Beam:
    """Follows the most likely texts of each image, as a strategy of the decoder: see decoder.Greedy.

    A text that has ended keeps its place until better ones displace it, since scores only fall. Texts never hold
    padding or GO, and always end within the steps: characters are left out after which they could not.
    """

    needs_logits, records = True, False

    def __init__(self, width: int, count: int, steps: int, constraint: Anything | Constraint):
        """`width`: B; `count`: texts to find, at most B; `steps`: maximum number of steps, EOS included."""
        self.width, self._count, self._steps, self._constraint = width, count, steps, constraint

    def initialise(self, count: tf.Tensor) -> Progress:
        """Returns one empty text of each image: count is N * B."""
        shape = [count // self.width, self.width]
        first = tf.equal(tf.range(self.width), 0) & tf.fill(shape, True)  # [N, B]
        constraint = self._constraint
        return Progress(
            tf.fill([count], GO_ID), tf.fill([*shape, self._steps - 1], PAD_ID),
            tf.compat.v2.where(first, 0.0, IMPOSSIBLE), tf.compat.v2.where(first, constraint.start, constraint.dead),
            ~first, tf.range(count))

    def inputs(self, t: tf.Tensor, state: Progress) -> tf.Tensor:
        """Returns the characters that step `t` reads: [N * B] int32."""
        return state.ids

    def step(self, t: tf.Tensor, state: Progress, logits: tf.Tensor) -> Progress:
        """Returns the best texts after step `t`: the same that have ended, and continuations of the others."""
        shape = tf.shape(state.scores)
        scores = tf.reshape(tf.nn.log_softmax(logits), [*tf.unstack(shape), logits.shape[1]])  # [N, B, V]
        edges = self._constraint.edges(state.states, scores[:, :, FIRST_ID:], self.width)  # [N, B, E]
        fitting = self._constraint.distance(edges.targets) < self._steps - t - 1  # the rest of the text, and EOS
        goes_on = tf.compat.v2.where(fitting & ~state.ended[:, :, tf.newaxis], edges.scores, IMPOSSIBLE)
        may_end = tf.equal(self._constraint.distance(state.states), 0)
        ends = tf.compat.v2.where(may_end, scores[:, :, EOS_ID], IMPOSSIBLE)
        ends = tf.compat.v2.where(state.ended, 0.0, ends)  # [N, B]
        every = state.scores[:, :, tf.newaxis] + tf.concat([ends[:, :, tf.newaxis], goes_on], 2)  # [N, B, 1 + E]
        fan = tf.shape(every)[2]
        best, places = tf.math.top_k(tf.reshape(every, [shape[0], -1]), self.width)  # [N, B]
        possible, parents, choices = best > IMPOSSIBLE / 2, places // fan, places % fan

        def chosen(parts):  # [N, B, E] -> [N, B]
            flat = tf.reshape(parts, [shape[0], -1])
            return tf.gather(flat, parents * (fan - 1) + tf.maximum(choices - 1, 0), batch_dims=1)

        continued = possible & (choices > 0)
        before = tf.gather(state.states, parents, batch_dims=1)
        states = tf.compat.v2.where(continued, chosen(edges.targets), before)
        ids = tf.compat.v2.where(continued, FIRST_ID + chosen(edges.labels), EOS_ID)
        here = tf.equal(tf.range(self._steps - 1), t) & continued[:, :, tf.newaxis]  # [N, B, T]
        texts = tf.compat.v2.where(here, ids[:, :, tf.newaxis], tf.gather(state.texts, parents, batch_dims=1))
        origins = tf.range(shape[0])[:, tf.newaxis] * self.width + parents
        return Progress(
            tf.reshape(ids, [-1]), texts, tf.compat.v2.where(possible, best, IMPOSSIBLE),
            tf.compat.v2.where(possible, states, self._constraint.dead), ~continued, tf.reshape(origins, [-1]))

    def origins(self, state: Progress) -> tf.Tensor:
        """Returns which row of the last step each row goes on from: [N * B] int32."""
        return state.origins

    def finished(self, state: Progress) -> tf.Tensor:
        """Returns whether the best texts of all images have ended: [] bool."""
        return tf.reduce_all(state.ended[:, :self._count])

    def texts(self, state: Progress) -> Texts:
        """Returns the best texts, `count` of each image."""
        texts, scores = state.texts[:, :self._count], state.scores[:, :self._count]
        longest = tf.reduce_max(tf.reduce_sum(tf.cast(tf.not_equal(texts, PAD_ID), tf.int32), 2))
        return Texts(texts[:, :, :longest], scores)
