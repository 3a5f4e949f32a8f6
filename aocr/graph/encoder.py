"""The encoder: a bidirectional recurrent layer over the features, and the bridge to the decoder."""

from typing import NamedTuple

import tensorflow.compat.v1 as tf

from aocr.graph.layers import GLOROT, GRUCell, GRUState, Initializers, Linear, LSTMCell, LSTMState, run_gru, run_lstm


class EncoderOutput(NamedTuple):
    """The memory that the decoder attends to, and the final states that it starts from."""

    memory: tf.Tensor  # [N, S, 2U] float32, 0 in the padding
    lengths: tf.Tensor  # [N] int32
    forward: LSTMState | GRUState  # [N, U] each, after the image's last step
    backward: LSTMState | GRUState | None  # [N, U] each, after the image's first step


def bidirectional_encoder(features: tf.Tensor, lengths: tf.Tensor, *, units: int, use_gru: bool,
                          initializers: Initializers = GLOROT) -> EncoderOutput:
    """Reads the features in both directions (Schuster and Paliwal 1997), each image over its own length only.

    Args:
      features: float32 [N, S, F]. lengths: int32 [N], 1 <= length <= S.
      units: U, of each direction.
      use_gru: GRU instead of LSTM.
      initializers: of new weights.
    """
    with tf.variable_scope("encoder"):
        size = features.shape[2]
        states = {}
        for direction in ("forward", "backward"):
            reverse = direction == "backward"
            x = _reverse(features, lengths) if reverse else features
            x = tf.transpose(x, [1, 0, 2])  # [S, N, F]
            steps: LSTMState | GRUState
            if use_gru:
                steps = run_gru(GRUCell(direction, size, units), x)
            else:
                steps = run_lstm(LSTMCell(direction, size, units, initializers), x)
            states[direction] = type(steps)(*(tf.transpose(part, [1, 0, 2]) for part in steps))  # [N, S, U]
        last = {direction: _at_last_step(state, lengths) for direction, state in states.items()}
        backward = _reverse(states["backward"].hidden, lengths)
        memory = tf.concat([states["forward"].hidden, backward], 2)  # [N, S, 2U]
        memory *= tf.sequence_mask(lengths, tf.shape(features)[1], tf.float32)[:, :, tf.newaxis]
        return EncoderOutput(tf.identity(memory, "memory"), lengths, last["forward"], last["backward"])


def bridge(encoded: EncoderOutput, *, layers: int, units: int) -> list[LSTMState | GRUState]:
    """Computes the decoder's initial state from the final states of both directions.

    A learned projection of [forward, backward], one for the hidden states and one for the cells, split into layers.

    Args: layers, units: of the decoder.
    Returns: `layers` states of [N, units], LSTMState or GRUState like the encoder's.
    Raises: ValueError if the two directions' states differ in kind or size.
    """
    forward, backward = encoded.forward, encoded.backward
    if type(forward) is not type(backward):
        raise ValueError(f"the encoder's directions end in {type(forward).__name__} and {type(backward).__name__}; "
                         "they must be of one kind")
    parts = {}
    with tf.variable_scope("hand_over"):  # its name in checkpoints
        for name in forward._fields:
            ends = getattr(forward, name), getattr(backward, name)
            sizes = [end.shape[1] for end in ends]
            if sizes[0] is None or sizes[0] != sizes[1]:
                raise ValueError(f"the encoder's final {name} states have sizes {sizes}; they must be known and equal")
            projected = Linear(name, sum(sizes), layers * units)(tf.concat(ends, 1))  # [N, layers * units]
            if name == "hidden":
                projected = tf.tanh(projected)  # the range of a hidden state
            parts[name] = tf.split(projected, layers, axis=1)
    kind = LSTMState if "cell" in parts else GRUState
    return [kind(**{name: values[k] for name, values in parts.items()}) for k in range(layers)]


def _reverse(x, lengths):
    """Reverses each image's own steps and leaves its padding in place: [N, S, F] -> [N, S, F]."""
    return tf.reverse_sequence(x, lengths, seq_axis=1, batch_axis=0)


def _at_last_step(state, lengths):
    """Returns each image's state after its own last step: parts [N, S, U] -> [N, U]."""
    return type(state)(*(tf.gather(part, lengths - 1, axis=1, batch_dims=1) for part in state))
