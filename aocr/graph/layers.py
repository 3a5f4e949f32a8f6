"""Building blocks: convolution, batch norm, linear layers, recurrent cells. Variables come from `get_variable`."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow.compat.v1 as tf

BATCH_NORM_EPSILON = 1e-3


class Initializers(NamedTuple):
    """Initial weights of a new network, where they differ from Glorot's (2010) uniform distribution or 0."""

    he: bool = False  # He et al., arXiv 1502.01852, in the convolutions that relu follows without batch norm
    forget_bias: float = 0.0  # of LSTMs


GLOROT = Initializers()


def variable(name: str, shape: Sequence[int], initializer: Callable | None = None) -> tf.Tensor:
    """Returns the value of a trainable float32 variable, initially Glorot-uniform unless an initializer is given.

    It is read here, outside any loop: freezing a graph fails on a variable that a loop gathers from.
    """
    initializer = initializer or tf.glorot_uniform_initializer()
    return tf.get_variable(name, shape, tf.float32, initializer, use_resource=True).read_value()


class Linear:
    """y = x W + b; the constructor creates the weights, so that it can be called inside a loop."""

    def __init__(self, name: str, inputs: int, outputs: int):
        with tf.variable_scope(name):
            self.kernel = variable("kernel", [inputs, outputs])
            self.bias = variable("bias", [outputs], tf.zeros_initializer())

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        """[N, inputs] -> [N, outputs]."""
        return tf.matmul(x, self.kernel) + self.bias


def conv(x: tf.Tensor, filters: int, size: tuple[int, int], stride: tuple[int, int] = (1, 1), name: str = "kernel",
         initializer: Callable | None = None) -> tf.Tensor:
    """Convolves in 2-D without bias: [N, H, W, C] -> [N, ceil(H / stride), ceil(W / stride), filters].

    Args: size, stride: (height, width). With a stride of 1 the padding is SAME; with a longer one, the padding on the
      left is the same for every W, whereas with SAME it would depend on W.
    """
    kernel = tf.cast(variable(name, [*size, x.shape[3], filters], initializer), x.dtype)
    if stride == (1, 1):
        return tf.nn.conv2d(x, kernel, strides=1, padding="SAME")
    margins = [[(extent - 1) // 2, extent // 2] if extent > step else [0, 0] for extent, step in zip(size, stride)]
    return tf.nn.conv2d(tf.pad(x, [[0, 0], *margins, [0, 0]]), kernel, strides=stride, padding="VALID")


class Moments(NamedTuple):
    """Moments of a batch in one batch norm layer, and the layer's population statistics."""

    mean: tf.Tensor  # [C]
    variance: tf.Tensor  # [C]
    population_mean: tf.Variable  # [C]
    population_variance: tf.Variable  # [C]


def batch_norm(x: tf.Tensor, mask: tf.Tensor, is_training: bool) -> tuple[tf.Tensor, Moments]:
    """Applies batch norm (Ioffe and Szegedy, arXiv 1502.03167) over the positions that `mask` keeps.

    Args:
      x: float32 [N, H, W, C].
      mask: float32 [N, 1, W, 1], 1 inside an image, 0 in its padding.
      is_training: normalise with the moments of this batch, else with the population statistics.

    Returns: (float32 [N, H, W, C], Moments of this batch).
    """
    channels = x.shape[3]
    scale = variable("gamma", [channels], tf.ones_initializer())
    offset = variable("beta", [channels], tf.zeros_initializer())
    population_mean = tf.get_variable("population_mean", [channels], initializer=tf.zeros_initializer(),
                                      trainable=False, use_resource=True)
    population_variance = tf.get_variable("population_variance", [channels], initializer=tf.ones_initializer(),
                                          trainable=False, use_resource=True)
    mean, variance = population_mean, population_variance
    if is_training:
        count = tf.reduce_sum(mask) * tf.cast(tf.shape(x)[1], tf.float32)
        mean = tf.reduce_sum(x * mask, [0, 1, 2]) / count
        variance = tf.reduce_sum(tf.square(x - mean) * mask, [0, 1, 2]) / count
    factor = scale * tf.rsqrt(variance + BATCH_NORM_EPSILON)
    return x * factor + (offset - mean * factor), Moments(mean, variance, population_mean, population_variance)


class LSTMState(NamedTuple):
    """State of one LSTM layer."""

    cell: tf.Tensor  # [N, U]
    hidden: tf.Tensor  # [N, U]


class GRUState(NamedTuple):
    """State of one GRU layer."""

    hidden: tf.Tensor  # [N, U]


class LSTMCell:
    """One LSTM layer (Hochreiter and Schmidhuber 1997): gates i, candidate j, f, o in one kernel, in this order.

    The forget gate's bias starts at `initializers.forget_bias`; nothing is added to it later.
    """

    state: type[LSTMState] = LSTMState

    def __init__(self, name: str, inputs: int, units: int, initializers: Initializers = GLOROT):
        bias = tf.constant_initializer([0.0] * 2 * units + [initializers.forget_bias] * units + [0.0] * units)
        with tf.variable_scope(name):
            self.units = units
            self.kernel = variable("kernel", [inputs + units, 4 * units])
            self.bias = variable("bias", [4 * units], bias)

    def __call__(self, x: tf.Tensor, state: LSTMState) -> LSTMState:
        """One step; x: float32 [N, inputs]."""
        gates = tf.matmul(tf.concat([x, state.hidden], 1), self.kernel) + self.bias  # [N, 4U]
        i, j, f, o = tf.split(gates, 4, axis=1)
        cell = tf.sigmoid(f) * state.cell + tf.sigmoid(i) * tf.tanh(j)
        return LSTMState(cell, tf.sigmoid(o) * tf.tanh(cell))


class GRUCell:
    """One GRU layer (Cho et al., arXiv 1406.1078): gates reset and update in one kernel, the candidate in another."""

    state: type[GRUState] = GRUState

    def __init__(self, name: str, inputs: int, units: int):
        with tf.variable_scope(name):
            self.units = units
            self.gates = Linear("gates", inputs + units, 2 * units)
            self.candidate = Linear("candidate", inputs + units, units)

    def __call__(self, x: tf.Tensor, state: GRUState) -> GRUState:
        """One step; x: float32 [N, inputs]."""
        reset, update = tf.split(tf.sigmoid(self.gates(tf.concat([x, state.hidden], 1))), 2, axis=1)
        candidate = tf.tanh(self.candidate(tf.concat([x, reset * state.hidden], 1)))
        return GRUState(update * state.hidden + (1.0 - update) * candidate)


def run_lstm(cell: LSTMCell, x: tf.Tensor) -> LSTMState:
    """Runs an LSTM cell over a whole sequence, from a zero state, in one fused op.

    Args: x: float32 [S, N, inputs], time-major.
    Returns: the state after each step, [S, N, U].
    """
    zeros = tf.zeros([tf.shape(x)[1], cell.units])
    peephole = tf.zeros([cell.units])

    @tf.custom_gradient
    def run(x, kernel, bias):
        steps = tf.raw_ops.BlockLSTM(
            seq_len_max=tf.cast(tf.shape(x)[0], tf.int64), x=x, cs_prev=zeros, h_prev=zeros, w=kernel, b=bias,
            wci=peephole, wcf=peephole, wco=peephole, forget_bias=0.0, cell_clip=-1.0, use_peephole=False)
        return (steps.cs, steps.h), lambda *by_outputs: _lstm_gradient(x, kernel, steps, *by_outputs)

    return LSTMState(*run(x, cell.kernel, cell.bias))


def _lstm_gradient(x, kernel, steps, by_cell, by_hidden):
    """Backpropagates through `run_lstm`; the fused op's own gradient takes several times as long.

    Only the part that depends on the next step is in the loop; the weight gradients are one matrix product over all
    steps.

    Args:
      x: float32 [S, N, inputs]. kernel: float32 [inputs + U, 4U]. steps: outputs of BlockLSTM, [S, N, U] each.
      by_cell, by_hidden: float32 [S, N, U], gradients of the states.

    Returns: gradients of x, kernel and bias.
    """
    length, inputs = tf.shape(x)[0], x.shape[2]
    i, j, f, o, tanh_cell = steps.i, steps.ci, steps.f, steps.o, steps.co
    before = tf.pad(steps.cs[:-1], [[1, 0], [0, 0], [0, 0]])  # the cell before each step
    # Factors of the gradients of the cell (for i, j, f) and of the hidden state (for o).
    slopes = tf.concat([j * i * (1.0 - i), i * (1.0 - tf.square(j)), before * f * (1.0 - f),
                        tanh_cell * o * (1.0 - o)], 2)  # [S, N, 4U]
    hidden_to_cell = o * (1.0 - tf.square(tanh_cell))

    def back(t, next_cell, next_hidden, by_gates):
        hidden = by_hidden[t] + next_hidden
        cell = by_cell[t] + next_cell + hidden * hidden_to_cell[t]
        gates = tf.concat([cell, cell, cell, hidden], 1) * slopes[t]  # [N, 4U]
        return (t - 1, cell * f[t], tf.matmul(gates, kernel[inputs:], transpose_b=True), by_gates.write(t, gates))

    zeros = tf.zeros_like(by_cell[0])
    by_gates = tf.TensorArray(tf.float32, size=length, element_shape=[None, kernel.shape[1]])
    *_, by_gates = tf.while_loop(lambda t, *_: t >= 0, back, (length - 1, zeros, zeros, by_gates))
    by_gates = tf.reshape(by_gates.stack(), [-1, kernel.shape[1]])  # [S * N, 4U]
    read = tf.concat([x, tf.pad(steps.h[:-1], [[1, 0], [0, 0], [0, 0]])], 2)  # [S, N, inputs + U]
    by_kernel = tf.matmul(tf.reshape(read, [-1, kernel.shape[0]]), by_gates, transpose_a=True)
    by_x = tf.reshape(tf.matmul(by_gates, kernel[:inputs], transpose_b=True), tf.shape(x))
    return by_x, by_kernel, tf.reduce_sum(by_gates, 0)


def run_gru(cell: GRUCell, x: tf.Tensor) -> GRUState:
    """Runs a GRU cell over a whole sequence, from a zero state: float32 [S, N, inputs] -> [S, N, U]."""
    length = tf.shape(x)[0]
    zeros = tf.zeros([tf.shape(x)[1], cell.units])

    def step(t, hidden, outputs):
        hidden = cell(x[t], GRUState(hidden)).hidden
        return t + 1, hidden, outputs.write(t, hidden)

    outputs = tf.TensorArray(tf.float32, size=length, element_shape=[None, cell.units])
    _, _, outputs = tf.while_loop(lambda t, *_: t < length, step, (0, zeros, outputs))
    return GRUState(outputs.stack())
