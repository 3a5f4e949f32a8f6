"""The texts that may be read, in the graph: how each of them goes on.

Constants only, so that an exported graph keeps them. R is the number of texts of an image, E the number of edges: the
characters by which a text may be continued.
"""

from typing import NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from aocr.charset import FIRST_ID, PAD_ID
from aocr.graph.ctc import IMPOSSIBLE
from aocr.search.automaton import Automaton


class Edges(NamedTuple):
    """How texts go on."""

    labels: tf.Tensor  # [N, R, E] int32 classes
    targets: tf.Tensor  # [N, R, E] int32 states
    scores: tf.Tensor  # [N, R, E] float32; IMPOSSIBLE where a text has fewer edges


class Anything:
    """No constraint: one state."""

    start = dead = 0

    def edges(self, states: tf.Tensor, scores: tf.Tensor, most: int) -> Edges:
        """Returns the edges from some states.

        Args:
          states: int32 [N, R]. scores: float32 [N, R, K], of each class; [N, 1, K] if those of all texts are equal.
          most: edges that are needed of each text; there may be more of them.
        """
        scores, labels = tf.math.top_k(scores, min(most, scores.shape[2]))  # [N, R or 1, E]
        shape = tf.concat([tf.shape(states), tf.shape(labels)[2:]], 0)
        return Edges(tf.broadcast_to(labels, shape), tf.zeros(shape, tf.int32), tf.broadcast_to(scores, shape))

    def distance(self, states: tf.Tensor) -> tf.Tensor:
        """Returns how many characters the shortest continuation has: int32 [...] -> int32 [...]."""
        return tf.zeros_like(states)


class Constraint:
    """The texts of an automaton; it has the methods of Anything."""

    start = 0

    def __init__(self, automaton: Automaton):
        """Adds the automaton's constants to the graph."""
        self.dead = automaton.dead
        self._nowhere = len(automaton.labels)  # an edge to the dead state, for texts that have fewer
        with tf.name_scope("constraint"):
            self._first = tf.constant(np.append(automaton.first, self._nowhere))
            self._labels = tf.constant(np.append(automaton.labels, np.int32(0)))
            self._targets = tf.constant(np.append(automaton.targets, np.int32(self.dead)))
            self._distance = tf.constant(automaton.distance)

    def edges(self, states: tf.Tensor, scores: tf.Tensor, most: int) -> Edges:
        """As of Anything; all edges."""
        edges, inside = self._edges(states)  # [N, R, E]
        labels = tf.gather(self._labels, edges)
        if scores.shape[1] == 1:
            flat = tf.reshape(labels, [tf.shape(labels)[0], -1])
            found = tf.reshape(tf.gather(scores[:, 0], flat, batch_dims=1), tf.shape(labels))
        else:
            found = tf.gather(scores, labels, batch_dims=2)
        return Edges(labels, tf.gather(self._targets, edges), tf.compat.v2.where(inside, found, IMPOSSIBLE))

    def _edges(self, states):
        """Returns the numbers of the edges from states: int32 [...] -> int32 [..., E], and which of them exist."""
        first = tf.gather(self._first, states)
        counts = tf.gather(self._first, states + 1) - first
        place = tf.range(tf.maximum(tf.reduce_max(counts), 1))  # [E]
        inside = place < counts[..., tf.newaxis]
        return tf.compat.v2.where(inside, first[..., tf.newaxis] + place, self._nowhere), inside

    def distance(self, states: tf.Tensor) -> tf.Tensor:
        """As of Anything."""
        return tf.gather(self._distance, states)

    def accepts(self, ids: tf.Tensor) -> tf.Tensor:
        """Returns which texts the automaton accepts: int32 [N, T], PAD_ID after the end -> bool [N]."""
        def step(t, states):
            edges, inside = self._edges(states)  # [N, E]
            fitting = inside & tf.equal(tf.gather(self._labels, edges), ids[:, t, tf.newaxis] - FIRST_ID)
            targets = tf.reduce_min(tf.compat.v2.where(fitting, tf.gather(self._targets, edges), self.dead), 1)
            return t + 1, tf.where(tf.equal(ids[:, t], PAD_ID), states, targets)

        states = tf.zeros(tf.shape(ids)[:1], tf.int32)
        _, states = tf.while_loop(lambda t, _: t < tf.shape(ids)[1], step, (0, states))
        return tf.equal(self.distance(states), 0)
