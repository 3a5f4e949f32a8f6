"""The network in standard ONNX operators, one function a stage, in the order of `aocr/graph/`.

Shape letters as in `aocr/network.py`; D is the depth of the memory, 2 * encoder units. Convolutions have the channels
first, as ONNX wants them.
"""

from typing import NamedTuple

import numpy as np

from aocr.charset import EOS_ID, GO_ID, PAD_ID
from aocr.config import ModelConfig
from aocr.exporting.onnx_builder import Builder, tensor
from aocr.exporting.weights import Weights, folded, linear, reordered
from aocr.graph.decoder import MASKED_SCORE
from aocr.networks import Network

FLOAT, INT32, INT64, BOOL = 1, 6, 7, 9  # ONNX's numbers of types, for Cast


class Encoded(NamedTuple):
    """Output of the encoder."""

    memory: str  # [N, S, D] float32
    inside: str  # [N, S] bool, steps that are not padding
    ends: dict[str, str]  # "hidden" and, of LSTMs, "cell": [N, D] float32, final states of both directions


def integers(*values: int) -> np.ndarray:
    """Returns an int64 array [n], as ONNX wants axes and shapes."""
    return np.array(values, np.int64)


def cnn(graph: Builder, weights: Weights, network: Network, pixels: str, widths: str) -> tuple[str, str]:
    """Adds the CNN: float32 [N, 32, W, C], int64 [N] -> features [S, N, F] and lengths, int64 [N].

    Relu precedes mask and pooling, which it commutes with, since runtimes join it to the convolution.
    """
    width = graph.op("Slice", graph.op("Shape", pixels), integers(2), integers(3))  # [1]
    x = graph.op("Transpose", pixels, perm=[0, 3, 1, 2])  # [N, C, H, W]
    keep = None
    for number, layer in enumerate(network.layers, 1):
        convolution = folded(weights, number, layer)
        x = graph.op("Conv", x, convolution.kernel.transpose(3, 2, 0, 1), convolution.bias, strides=layer.stride,
                     pads=convolution.before + convolution.after)
        x = graph.op("Relu", x)  # [N, filters, H / stride, W / stride]
        if not keep or layer.stride[1] > 1:
            widths, width = (_shrunk(graph, sizes, layer.stride[1]) for sizes in (widths, width))
            keep = _mask(graph, widths, width)
        x = graph.op("Mul", x, keep)
        if layer.pool != (1, 1):
            x = graph.op("MaxPool", x, kernel_shape=layer.pool, strides=layer.pool, auto_pad="SAME_UPPER")
        if layer.pool[1] > 1:
            widths, width = (_shrunk(graph, sizes, layer.pool[1]) for sizes in (widths, width))
            keep = _mask(graph, widths, width)
    return graph.op("Transpose", graph.op("Squeeze", x, integers(2)), perm=[2, 0, 1]), widths


def _shrunk(graph, sizes, stride):
    """Divides int64 sizes by a stride, rounding up."""
    return sizes if stride == 1 else graph.op("Div", graph.op("Add", sizes, integers(stride - 1)), integers(stride))


def _inside(graph, lengths, size):
    """Compares positions with lengths: int64 [N], [1] -> bool [N, size]."""
    positions = graph.op("Range", np.int64(0), graph.op("Squeeze", size), np.int64(1))
    return graph.op("Less", positions, graph.op("Unsqueeze", lengths, integers(1)))


def _mask(graph, widths, width):
    """Returns 1 inside an image and 0 in its padding: float32 [N, 1, 1, W]."""
    inside = graph.op("Unsqueeze", _inside(graph, widths, width), integers(1, 2))
    return graph.op("Cast", inside, to=FLOAT)


def encoder(graph: Builder, weights: Weights, config: ModelConfig, features: str, lengths: str) -> Encoded:
    """Adds the encoder: float32 [S, N, F], int64 [N]."""
    parts = [_recurrent(weights, f"encoder/{direction}", config.encoder_units, config.use_gru)
             for direction in ("forward", "backward")]
    constants = [np.stack(arrays) for arrays in zip(*parts)]
    kind, names = ("GRU", ["hidden"]) if config.use_gru else ("LSTM", ["hidden", "cell"])
    steps, *last = graph.ops(kind, [features, *constants, graph.op("Cast", lengths, to=INT32)], 1 + len(names),
                             direction="bidirectional", hidden_size=config.encoder_units)  # [S, 2, N, U], [2, N, U]
    memory = graph.op("Reshape", graph.op("Transpose", steps, perm=[2, 0, 1, 3]),
                      integers(0, 0, 2 * config.encoder_units))
    ends = {name: graph.op("Reshape", graph.op("Transpose", state, perm=[1, 0, 2]),
                           integers(0, 2 * config.encoder_units)) for name, state in zip(names, last)}
    size = graph.op("Slice", graph.op("Shape", features), integers(0), integers(1))
    return Encoded(memory, _inside(graph, lengths, size), ends)


def _recurrent(weights, scope, units, use_gru):
    """Returns ONNX's W [gates * U, F], R [gates * U, U] and B [2 * gates * U] of one direction."""
    if use_gru:
        both = [np.concatenate(pair, -1) for pair in zip(linear(weights, f"{scope}/gates"),
                                                         linear(weights, f"{scope}/candidate"))]
        kernel, bias = (reordered(part, "ruc", "urc") for part in both)
    else:
        kernel, bias = (reordered(part, "ijfo", "iofj") for part in linear(weights, scope))
    return kernel[:-units].T, kernel[-units:].T, np.concatenate([bias, np.zeros_like(bias)])


def ctc(graph: Builder, weights: Weights, right_to_left: bool, memory: str, lengths: str) -> str:
    """Adds the CTC branch: [N, S, D], int64 [N] -> log probabilities of the classes, float32 [N, S, K]."""
    kernel, bias = linear(weights, "ctc/output")
    logits = graph.op("Add", graph.op("MatMul", memory, kernel), bias)
    if right_to_left:
        logits = graph.op("ReverseSequence", logits, lengths, batch_axis=0, time_axis=1)
    return graph.op("LogSoftmax", logits, axis=2)


def attention(graph: Builder, weights: Weights, config: ModelConfig, encoded: Encoded) -> tuple[str, str]:
    """Adds the attention decoder's greedy loop: ids int64 [N, T], PAD_ID after EOS, and probabilities float32 [N, T],
    1 after EOS.
    """
    query_bias = weights["decoder/attention/query/bias"]
    keys = graph.op("Add", graph.op("MatMul", encoded.memory, weights["decoder/attention/memory"]), query_bias)
    outside = graph.op("Cast", graph.op("Not", encoded.inside), to=FLOAT)
    floor = graph.op("Mul", outside, np.float32(MASKED_SCORE))  # [N, S]
    states = _bridge(graph, weights, config, encoded.ends)
    count = graph.op("Slice", graph.op("Shape", encoded.memory), integers(0), integers(1))
    depth = 2 * config.encoder_units
    context = graph.op("Expand", np.float32(0), graph.op("Concat", count, integers(depth), axis=0))
    previous, ended = graph.op("Expand", np.int64(GO_ID), count), graph.op("Expand", np.array(False), count)

    body = Builder(graph)
    shapes: dict[str, tuple[type, list[int | str]]] = {
        "previous": (np.int64, ["N"]), "ended": (bool, ["N"]), "context": (np.float32, ["N", depth]),
        **{f"state{k}": (np.float32, ["N", config.attn_num_hidden]) for k in range(len(states))}}
    after, ids, probabilities = _step(body, weights, config, encoded.memory, keys, floor,
                                      [f"state{k}" for k in range(len(states))])
    more = body.op("Not", body.op("Cast", body.op("ReduceMin", body.op("Cast", after[1], to=INT32), keepdims=0),
                                  to=BOOL))
    loop = body.body("step", [tensor("t", np.int64, []), tensor("unfinished", bool, []),
                              *(tensor(name, *shape) for name, shape in shapes.items())],
                     [tensor(more, bool, []),
                      *(tensor(name, *shape) for name, shape in zip(after, shapes.values())),
                      tensor(ids, np.int64, ["N"]), tensor(probabilities, np.float32, ["N"])])
    outputs = graph.ops("Loop", [np.array(config.max_prediction + 1), np.array(True), previous, ended, context,
                                 *states], len(shapes) + 2, body=loop)
    by_step = [graph.op("Transpose", value, perm=[1, 0]) for value in outputs[-2:]]  # [T, N] -> [N, T]
    return by_step[0], by_step[1]


def _bridge(graph, weights, config, ends):
    """Returns the decoder's initial states [N, units], layer by layer, the cell of an LSTM before its hidden state."""
    layers = {}
    for name, state in ends.items():
        x = graph.op("Gemm", state, *linear(weights, f"decoder/hand_over/{name}"))  # [N, layers * units]
        x = graph.op("Tanh", x) if name == "hidden" else x
        layers[name] = graph.ops("Split", [x], config.attn_num_layers, axis=1)
    names = [name for name in ("cell", "hidden") if name in layers]
    return [layers[name][k] for k in range(config.attn_num_layers) for name in names]


def _step(body, weights, config, memory, keys, floor, states):
    """Adds a step of the decoder to the body of its loop; returns (values after the step, its ids, probabilities)."""
    kernel, bias = linear(weights, "decoder/input")
    embedding = weights["decoder/embedding"]
    size = embedding.shape[1]
    embedded = body.op("Gather", embedding @ kernel[:size] + bias, "previous")  # [N, U]
    x = body.op("Gemm", "context", kernel[size:], embedded)
    after, per_layer = [], 1 if config.use_gru else 2
    for k in range(config.attn_num_layers):
        own, scope = states[per_layer * k:per_layer * (k + 1)], f"decoder/layer{k}"
        after += _gru(body, weights, scope, x, *own) if config.use_gru else _lstm(body, weights, scope, x, *own)
        x = after[-1]
    query = body.op("MatMul", body.op("Concat", *after, axis=1), weights["decoder/attention/query/kernel"])
    mixed = body.op("Tanh", body.op("Add", keys, body.op("Unsqueeze", query, integers(1))))  # [N, S, A]
    scores = body.op("Squeeze", body.op("MatMul", mixed, weights["decoder/attention/v"]), integers(2))  # [N, S]
    shares = body.op("Unsqueeze", body.op("Softmax", body.op("Add", scores, floor), axis=1), integers(1))
    context = body.op("Squeeze", body.op("MatMul", shares, memory), integers(1))  # [N, D]
    logits = body.op("Gemm", body.op("Concat", x, context, axis=1), *linear(weights, "decoder/output"))  # [N, V]
    ids = body.op("ArgMax", logits, axis=1, keepdims=0)
    probability = body.op("ReduceMax", body.op("Softmax", logits, axis=1), axes=[1], keepdims=0)
    ended = body.op("Or", "ended", body.op("Equal", ids, np.int64(EOS_ID)))
    return ([ids, ended, context, *after], body.op("Where", "ended", np.int64(PAD_ID), ids),
            body.op("Where", "ended", np.float32(1), probability))


def _lstm(body, weights, scope, x, cell, hidden):
    """Adds a step of an LSTM layer: [N, inputs], [N, U], [N, U] -> cell, hidden [N, U]."""
    kernel, bias = (reordered(part, "ijfo", "ifoj") for part in linear(weights, scope))
    units = len(bias) // 4
    gates = body.op("Gemm", body.op("Concat", x, hidden, axis=1), kernel, bias)  # [N, 4U]
    opening, candidate = body.ops("Split", [gates, integers(3 * units, units)], 2, axis=1)
    i, f, o = body.ops("Split", [body.op("Sigmoid", opening)], 3, axis=1)
    cell = body.op("Add", body.op("Mul", f, cell), body.op("Mul", i, body.op("Tanh", candidate)))
    return [cell, body.op("Mul", o, body.op("Tanh", cell))]


def _gru(body, weights, scope, x, hidden):
    """Adds a step of a GRU layer: [N, inputs], [N, U] -> hidden [N, U]."""
    both = body.op("Concat", x, hidden, axis=1)
    gates = body.op("Sigmoid", body.op("Gemm", both, *linear(weights, f"{scope}/gates")))  # [N, 2U]
    reset, update = body.ops("Split", [gates], 2, axis=1)
    both = body.op("Concat", x, body.op("Mul", reset, hidden), axis=1)
    candidate = body.op("Tanh", body.op("Gemm", both, *linear(weights, f"{scope}/candidate")))
    kept = body.op("Mul", update, hidden)
    return [body.op("Add", kept, body.op("Mul", body.op("Sub", np.float32(1), update), candidate))]
