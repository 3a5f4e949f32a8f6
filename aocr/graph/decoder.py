"""The attention decoder: one loop, and the strategies that choose the input of its next step."""

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow.compat.v1 as tf

from aocr.charset import EOS_ID, GO_ID
from aocr.graph.beam import Beam
from aocr.graph.ctc import Texts
from aocr.graph.encoder import EncoderOutput, bridge
from aocr.graph.layers import GLOROT, GRUCell, Initializers, Linear, LSTMCell, variable

MASKED_SCORE = -1e9  # a score whose softmax is exactly 0


class DecoderOutput(NamedTuple):
    """Output of the decoder, step by step."""

    logits: tf.Tensor  # [N, T, V] float32
    attention: tf.Tensor  # [N, T, S] float32, sums to 1 at each step
    ids: tf.Tensor  # [N, T] int32, the most likely character of each step


class Greedy:
    """Feeds each step the most likely character of the previous one; ends when every image has written EOS."""

    needs_logits = True  # in each step; otherwise they are computed in one matrix product after the loop
    records = True  # logits and attention of each step

    def initialise(self, count: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """Returns the strategy's state before the first step: (previous ids [N] int32, ended [N] bool)."""
        return tf.fill([count], GO_ID), tf.zeros([count], tf.bool)

    def inputs(self, t: tf.Tensor, state: tuple[tf.Tensor, ...]) -> tf.Tensor:
        """Returns the characters that step `t` reads: [N] int32."""
        return state[0]

    def step(self, t: tf.Tensor, state: tuple[tf.Tensor, ...], logits: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """Returns the state after step `t`, from its logits [N, V]."""
        ids = tf.argmax(logits, axis=1, output_type=tf.int32)
        return ids, tf.logical_or(state[1], tf.equal(ids, EOS_ID))

    def origins(self, state: tuple[tf.Tensor, ...]) -> tf.Tensor | None:
        """Returns which row of the last step each row goes on from: [N] int32; None: from itself."""
        return None

    def finished(self, state: tuple[tf.Tensor, ...]) -> tf.Tensor | bool:
        """Returns whether no image needs a further step: [] bool."""
        return tf.reduce_all(state[1])


class TeacherForcing:
    """Feeds each step the given character: the methods of Greedy, which have nothing to remember here."""

    needs_logits, records = False, True

    def __init__(self, inputs: tf.Tensor):
        """`inputs`: int32 [N, T], GO first."""
        self._inputs = inputs

    def initialise(self, count: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return ()

    def inputs(self, t: tf.Tensor, state: tuple[tf.Tensor, ...]) -> tf.Tensor:
        return self._inputs[:, t]

    def finished(self, state: tuple[tf.Tensor, ...]) -> tf.Tensor | bool:
        return False


class AttentionDecoder:
    """Stacked recurrent layers with additive attention over the memory (Bahdanau et al. 2015, arXiv 1409.0473).

    A step reads the previous character and the previous context, updates the layers, queries the memory with the states
    of all layers, and computes logits from the top layer and the new context. The variables are created once, by the
    constructor; `decode` can be called several times.
    """

    def __init__(self, encoded: EncoderOutput, *, vocabulary: int, layers: int, units: int, attention_units: int,
                 embedding_size: int, use_gru: bool, initializers: Initializers = GLOROT):
        """`vocabulary`: V, ids of the charset; `initializers`: of new weights; the rest as in ModelConfig."""
        self._memory = encoded.memory
        depth = encoded.memory.shape[2]
        with tf.variable_scope("decoder"):
            self._initial = bridge(encoded, layers=layers, units=units)
            self._embedding = variable("embedding", [vocabulary, embedding_size])
            self._input = Linear("input", embedding_size + depth, units)
            self._cells: Sequence[GRUCell | LSTMCell]
            if use_gru:
                self._cells = [GRUCell(f"layer{k}", units, units) for k in range(layers)]
            else:
                self._cells = [LSTMCell(f"layer{k}", units, units, initializers) for k in range(layers)]
            states_size = layers * units * len(self._cells[0].state._fields)
            with tf.variable_scope("attention"):
                size = attention_units or depth  # A
                self._query = Linear("query", states_size, size)
                self._v = variable("v", [size, 1])
                memory_kernel = variable("memory", [depth, size])
                self._keys = tf.einsum("nsd,da->nsa", encoded.memory, memory_kernel)  # [N, S, A]
                inside = tf.sequence_mask(encoded.lengths, tf.shape(encoded.memory)[1], tf.float32)
                self._floor = (1.0 - inside) * MASKED_SCORE  # [N, S]
            self._output = Linear("output", units + depth, vocabulary)

    def decode(self, steps: tf.Tensor | int, strategy: Greedy | TeacherForcing | None = None,
               copies: int = 1) -> DecoderOutput:
        """Runs the decoder.

        Args:
          steps: int32 [], the maximum number of steps, T.
          strategy: chooses the input of each step; None: Greedy().
          copies: texts per image under teacher forcing: N is then images * copies, those of an image adjacent.

        Returns: T is `steps`, or less if the strategy finished early.
        """
        _, outputs, attention = self._run(steps, strategy := strategy or Greedy(), copies)
        with tf.name_scope("decode"):
            logits = outputs
            if not strategy.needs_logits:  # no step depends on logits, so one matrix product computes them all
                size, vocabulary = self._output.kernel.shape
                logits = self._output(tf.reshape(outputs, [-1, size]))
                logits = tf.reshape(logits, [tf.shape(outputs)[0], -1, vocabulary])  # [N, T, V]
            return DecoderOutput(logits, attention, tf.argmax(logits, axis=2, output_type=tf.int32))

    def search(self, steps: tf.Tensor | int, beam: Beam) -> Texts:
        """Returns the best texts of each image that a beam finds within some steps, EOS included."""
        progress, *_ = self._run(steps, beam, beam.width)
        return beam.texts(progress)

    def _run(self, steps, strategy, copies):
        """Runs the loop: as for `decode`.

        Returns: the strategy's last state; outputs [N, T, V], or [N, T, U + depth] unless the strategy needs logits;
          attention [N, T, S]. The latter two are None unless the strategy records them.
        """
        memory, keys, floor, initial = (_repeated(part, copies) for part in (
            self._memory, self._keys, self._floor, self._initial))
        count, depth = tf.shape(memory)[0], memory.shape[2]
        in_loop, found = strategy.needs_logits, {}
        if not in_loop:
            memory, late = _with_late_gradient(memory, steps, lambda: found["attention"])

        def unfinished(t, progress, *_):
            return tf.logical_and(t < steps, tf.logical_not(strategy.finished(progress)))

        def step(t, progress, context, states, records):
            states, top, query = self._recur(strategy.inputs(t, progress), context, states)
            weights = self._attend(query, keys, floor)  # [N, S]
            context = tf.einsum("ns,nsd->nd", weights, memory)
            if not in_loop:
                context += late.read(t)
            output = tf.concat([top, context], 1)  # [N, U + depth]
            if in_loop:
                output = self._output(output)  # [N, V]
                progress = strategy.step(t, progress, output)
                if (origins := strategy.origins(progress)) is not None:
                    context, states = tf.nest.map_structure(lambda part: tf.gather(part, origins), (context, states))
            return t + 1, progress, context, states, tuple(
                record.write(t, value) for record, value in zip(records, (output, weights)))

        def empty(size):
            return tf.TensorArray(tf.float32, size=0, dynamic_size=True, element_shape=[None, size],
                                  clear_after_read=False)

        with tf.name_scope("decode"):
            size, vocabulary = self._output.kernel.shape
            records = (empty(vocabulary if in_loop else size), empty(None)) if strategy.records else ()
            start = (0, strategy.initialise(count), tf.zeros([count, depth]), initial, records)
            _, progress, _, _, records = tf.while_loop(unfinished, step, start)
            if not records:
                return progress, None, None
            outputs, found["attention"] = (tf.transpose(record.stack(), [1, 0, 2]) for record in records)
            return progress, outputs, found["attention"]

    def _recur(self, previous, context, states):
        """Updates the layers: [N] ids, [N, depth], states -> new states, top layer's output [N, U], query [N, Q]."""
        x = self._input(tf.concat([tf.gather(self._embedding, previous), context], 1))  # [N, U]
        new_states = []
        for cell, state in zip(self._cells, states):
            state = cell(x, state)
            new_states.append(state)
            x = state.hidden
        return new_states, x, tf.concat([part for state in new_states for part in state], 1)

    def _attend(self, query, keys, floor):
        """Returns softmax over S of v . tanh(keys + W query), 0 in the padding: [N, Q], [N, S, A], [N, S] -> [N, S]."""
        mixed = tf.tanh(keys + self._query(query)[:, tf.newaxis, :])  # [N, S, A]
        scores = tf.squeeze(tf.einsum("nsa,ak->nsk", mixed, self._v), 2)  # [N, S]
        return tf.nn.softmax(scores + floor)


def _with_late_gradient(memory, steps, attention):
    """Returns the memory without a gradient, and zero contexts that carry the gradient instead.

    Added to each step's context, they turn the memory's gradient into one matrix product after the loop; the loop
    itself would accumulate a tensor of the memory's size in every step.

    Args: memory: float32 [N, S, depth]. steps: int32 []. attention: function that returns it, [N, T, S], later on.
    Returns: memory [N, S, depth], tf.TensorArray of T zeros [N, depth].
    """
    @tf.custom_gradient
    def contexts(memory):
        zeros = tf.zeros([steps, tf.shape(memory)[0], memory.shape[2]])
        return zeros, lambda by_contexts: tf.einsum("nts,tnd->nsd", attention(), by_contexts)

    late = tf.TensorArray(tf.float32, steps, element_shape=[None, memory.shape[2]]).unstack(contexts(memory))
    return tf.stop_gradient(memory), late


def _repeated(part, copies):
    """Repeats each row `copies` times, in a tensor or in all tensors of a structure."""
    if copies == 1:
        return part
    return tf.nest.map_structure(lambda tensor: tf.repeat(tensor, copies, axis=0), part)
