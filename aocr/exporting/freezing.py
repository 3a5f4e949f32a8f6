"""Makes the graph that is served from a model's: weights as constants, batch norm in the kernels, nothing idle."""

from collections import defaultdict
from collections.abc import Iterable

import numpy as np
import tensorflow.compat.v1 as tf
from tensorflow.python.grappler import tf_optimizer

from aocr.errors import UserError
from aocr.model import Model

MOST_BYTES = 1 << 31  # of a graph: protobuf's limit
# Of TensorFlow's passes those whose result is the same on every machine, and consists of public operations.
PASSES = ("pruning", "constfold", "arithmetic", "dependency", "common_subgraph_elimination")


def serving_graph(model: Model, kept: Iterable[str]) -> tf.GraphDef:
    """Returns a graph of the nodes with these names (inputs and outputs), and of what they need, on no fixed device.

    Raises: UserError if its weights are too large for one graph.
    """
    size = sum(4 * int(np.prod(variable.shape.as_list())) for variable in model.variables.values())
    if size >= MOST_BYTES:
        raise UserError(f"the weights take {size:,} bytes; an exported graph must stay below {MOST_BYTES:,}")
    names = list(kept)
    graph_def = model.graph.as_graph_def()
    for node in graph_def.node:
        node.device = ""
    graph_def = tf.graph_util.convert_variables_to_constants(model.session, graph_def, names)
    graph_def = _optimized(graph_def, names)
    fold_batch_norm(graph_def)
    return tf.graph_util.extract_sub_graph(graph_def, names)


def _optimized(graph_def, names):
    """Returns the graph with constants folded, and without what has no effect on these nodes."""
    meta_graph = tf.MetaGraphDef(graph_def=graph_def)
    meta_graph.collection_def["train_op"].node_list.value.extend(names)  # where the optimizer looks for what to keep
    config = tf.ConfigProto()
    config.graph_options.rewrite_options.optimizers[:] = PASSES
    config.graph_options.rewrite_options.min_graph_nodes = -1  # small graphs, too
    return tf_optimizer.OptimizeGraph(config, meta_graph)


def fold_batch_norm(graph_def: tf.GraphDef) -> int:
    """Folds each constant factor and offset per channel that follow a convolution into its kernel and a bias.

    Returns: the number of convolutions folded. The nodes that have become idle stay in the graph.
    """
    nodes = {node.name: node for node in graph_def.node}
    readers = defaultdict(list)
    for node in graph_def.node:
        for name in node.input:
            readers[name].append(node)
    found = [affine for node in graph_def.node if node.op == "Conv2D" and (affine := _affine(node, nodes, readers))]
    for conv, factor, total, offset in found:
        kernel = nodes[conv.input[1]].attr["value"].tensor
        values = tf.make_ndarray(kernel) * tf.make_ndarray(factor.attr["value"].tensor).reshape(-1)
        kernel.CopyFrom(tf.make_tensor_proto(values))
        bias = tf.make_ndarray(offset.attr["value"].tensor).reshape(-1)
        offset.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(bias))
        total.op = "BiasAdd"
        total.input[:] = [conv.name, offset.name]
        for reader in readers[conv.name]:
            if reader.op == "Shape":  # a convolution with one reader can be fused with its bias
                reader.input[0] = total.name
    return len(found)


def _affine(conv, nodes, readers):
    """Returns (convolution, factor, sum, offset) if constants per channel are multiplied and added; else None."""
    others = [reader for reader in readers[conv.name] if reader.op != "Shape"]
    kernel = nodes[conv.input[1]]
    if len(others) != 1 or others[0].op != "Mul" or kernel.op != "Const" or len(readers[kernel.name]) != 1:
        return None
    product = others[0]
    if len(readers[product.name]) != 1 or readers[product.name][0].op != "AddV2":
        return None
    total = readers[product.name][0]
    channels = tf.make_ndarray(kernel.attr["value"].tensor).shape[-1]
    factor, offset = (_vector(node, of, nodes, channels) for node, of in ((product, conv), (total, product)))
    if factor is None or offset is None or len(readers[offset.name]) != 1:
        return None
    return conv, factor, total, offset


def _vector(node, of, nodes, channels):
    """Returns the constant, one value per channel, that an operation combines with `of`; None if it is none."""
    other = nodes.get(next((name for name in node.input if name != of.name), ""))
    if other is None or other.op != "Const" or len(node.input) != 2:
        return None
    shape = tf.make_ndarray(other.attr["value"].tensor).shape
    return other if shape[-1:] == (channels,) and np.prod(shape) == channels else None
