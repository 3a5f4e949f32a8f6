"""Writes the formats of TensorFlow: SavedModel and frozen graph."""

import os

import tensorflow.compat.v1 as tf

from aocr.config import ExportConfig
from aocr.exporting.freezing import serving_graph
from aocr.exporting.signatures import Signature, nodes_of, signatures_of, to_proto
from aocr.exports import DESCRIPTIONS, FROZEN_GRAPH, SAVED_MODEL, description_of
from aocr.model import Model

DESCRIPTION_TENSOR = "description"  # node of a frozen graph with the content of its description file


def write_saved_model(model: Model, directory: str, _: ExportConfig) -> None:
    """Writes a SavedModel with the signatures of `signatures_of`, and its description beside it."""
    signatures = signatures_of(model)
    with tf.Graph().as_default() as graph, tf.Session() as session:
        tf.import_graph_def(serving_graph(model, nodes_of(signatures)), name="")
        served = {name: to_proto(_moved(signature, graph)) for name, signature in signatures.items()}
        builder = tf.saved_model.Builder(directory)
        builder.add_meta_graph_and_variables(session, [tf.saved_model.SERVING], signature_def_map=served,
                                             clear_devices=True, strip_default_attrs=True)
        builder.save()
    _write(directory, DESCRIPTIONS[SAVED_MODEL], description_of(model).to_json().encode())


def _moved(signature, graph):
    """Returns a signature by the tensors of the same names in another graph."""
    return Signature(*({name: graph.get_tensor_by_name(tensor.name) for name, tensor in tensors.items()}
                       for tensors in signature))


def write_frozen_graph(model: Model, directory: str, _: ExportConfig) -> None:
    """Writes a frozen graph, its description in it and beside it."""
    description = description_of(model).to_json()
    with model.graph.as_default():
        told = tf.constant(description, name=DESCRIPTION_TENSOR)
    kept = nodes_of(signatures_of(model))
    _write(directory, FROZEN_GRAPH, serving_graph(model, [*kept, told.op.name]).SerializeToString())
    _write(directory, DESCRIPTIONS[FROZEN_GRAPH], description.encode())


def _write(directory, name, content):
    path = os.path.join(directory, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(content)
