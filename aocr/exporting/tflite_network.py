"""The network from plain TensorFlow operations that TFLite has, with constant weights, one function a stage.

TFLite has no BlockLSTM, so the cells of `graph/layers.py` run in a while loop here. There is one image at a time: N is
1 in all shapes, and left out within the encoder. The other shape letters are as in `aocr/network.py`.
"""

from collections.abc import Callable

import tensorflow as tf

from aocr.config import IMAGE_HEIGHT, ModelConfig
from aocr.exporting.weights import Weights, folded, linear, reordered
from aocr.graph.cnn import shrunk, width_mask
from aocr.networks import Network


def reader(config: ModelConfig, weights: Weights) -> tf.Module:
    """Returns a module whose `read` computes CTC's log probabilities of an image.

    Inputs: `pixels` float32 [1, 32, W, C] in [-1, 1), 0 beyond the image; `widths` int32 [1], the image's width >= 1.
    Outputs: `log_probabilities` float32 [1, S, K], K - 1 is blank; `lengths` int32 [1], the image's steps.
    """
    @tf.function(input_signature=[tf.TensorSpec([1, IMAGE_HEIGHT, None, config.channels], tf.float32, "pixels"),
                                  tf.TensorSpec([1], tf.int32, "widths")])
    def read(pixels, widths):
        features, lengths = _cnn(weights, config.network, pixels, widths)
        memory = _encoder(weights, config, features, lengths)
        return {"log_probabilities": _ctc(weights, config.right_to_left, memory, lengths), "lengths": lengths}

    module = tf.Module()
    module.read = read
    return module


def _cnn(weights, network: Network, pixels, widths):
    """[1, 32, W, C], [1] -> features [S, F], lengths [1]."""
    x, width = pixels, tf.shape(pixels)[2]
    for number, layer in enumerate(network.layers, 1):
        kernel, bias, *margins = folded(weights, number, layer)
        x = tf.pad(x, [[0, 0], *map(list, zip(*margins)), [0, 0]])
        x = tf.nn.relu(tf.nn.conv2d(x, kernel, layer.stride, "VALID") + bias)
        widths, width = (shrunk(sizes, layer.stride[1]) for sizes in (widths, width))
        x *= width_mask(widths, width)
        if layer.pool != (1, 1):
            x = tf.nn.max_pool2d(x, layer.pool, layer.pool, "SAME")
        widths, width = (shrunk(sizes, layer.pool[1]) for sizes in (widths, width))
    return tf.reshape(x, [-1, network.features]), widths


def _encoder(weights, config, features, lengths):
    """[S, F], [1] -> memory [S, 2U]."""
    inside = tf.cast(tf.range(tf.shape(features)[0]) < lengths, tf.float32)[:, tf.newaxis]  # [S, 1]
    cell_of = _gru if config.use_gru else _lstm
    return tf.concat([_run(*cell_of(weights, f"encoder/{direction}", config.encoder_units, features), inside,
                           backwards=direction == "backward") for direction in ("forward", "backward")], 1)


def _run(cell: Callable, inputs: tf.Tensor, states: int, units: int, inside: tf.Tensor, backwards: bool) -> tf.Tensor:
    """Runs a cell over a sequence; backwards, it keeps the zero state in the padding, which comes first.

    Args: cell: function of a step's projected inputs, [1, gates * U], and the state, [1, U] each, that returns the new
      state, hidden last. inputs: [S, gates * U]. states: their number. units: U. inside: [S, 1].
    Returns: hidden states [S, U].
    """
    size = tf.shape(inputs)[0]

    def step(t, outputs, *state):
        place = size - 1 - t if backwards else t
        # A shape that is known: TFLite fixes the sizes of states in a loop.
        state = cell(tf.reshape(inputs[place], [1, inputs.shape[1]]), *state)
        state = [part * inside[place] for part in state]
        return t + 1, outputs.write(place, state[-1]), *state

    outputs = tf.TensorArray(tf.float32, size, element_shape=[1, units])
    _, outputs, *_ = tf.while_loop(lambda t, *_: t < size, step, (0, outputs, *[tf.zeros([1, units])] * states))
    return tf.reshape(outputs.stack(), [-1, units])


def _lstm(weights, scope, units, x):
    """Returns an LSTM cell for `_run`, its inputs projected at once from [S, inputs], number of states and units."""
    kernel, bias = (reordered(part, "ijfo", "ifoj") for part in linear(weights, scope))

    def cell(projected, cell, hidden):
        gates = projected + tf.matmul(hidden, kernel[-units:])
        i, f, o = tf.split(tf.sigmoid(gates[:, :3 * units]), 3, axis=1)
        cell = f * cell + i * tf.tanh(gates[:, 3 * units:])
        return cell, o * tf.tanh(cell)

    return cell, tf.matmul(x, kernel[:-units]) + bias, 2, units


def _gru(weights, scope, units, x):
    """Returns the same of a GRU cell."""
    (gates, gates_bias), (kernel, bias) = linear(weights, f"{scope}/gates"), linear(weights, f"{scope}/candidate")

    def cell(projected, hidden):
        opened = tf.sigmoid(projected[:, :2 * units] + tf.matmul(hidden, gates[-units:]))
        reset, update = tf.split(opened, 2, axis=1)
        candidate = tf.tanh(projected[:, 2 * units:] + tf.matmul(reset * hidden, kernel[-units:]))
        return (update * hidden + (1.0 - update) * candidate,)

    projected = tf.concat([tf.matmul(x, gates[:-units]) + gates_bias, tf.matmul(x, kernel[:-units]) + bias], 1)
    return cell, projected, 1, units


def _ctc(weights, right_to_left, memory, lengths):
    """[S, 2U], [1] -> log probabilities [1, S, K]."""
    kernel, bias = linear(weights, "ctc/output")
    logits = (tf.matmul(memory, kernel) + bias)[tf.newaxis]
    if right_to_left:
        logits = tf.reverse_sequence(logits, lengths, seq_axis=1, batch_axis=0)
    return tf.nn.log_softmax(logits)
