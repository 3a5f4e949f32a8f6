"""The signatures of an exported model: named inputs and outputs of its graph."""

from typing import NamedTuple

import tensorflow.compat.v1 as tf

from aocr.model import Model

DEFAULT, DETAIL, PIXELS = "serving_default", "serving_detail", "serving_pixels"


class Signature(NamedTuple):
    """Tensors by the names that clients use."""

    inputs: dict[str, tf.Tensor]
    outputs: dict[str, tf.Tensor]


def signatures_of(model: Model) -> dict[str, Signature]:
    """Returns the signatures of a model that reads encoded images, by name."""
    encoded = {"input": model.inputs.encoded}
    read = {"output": model.prediction, "probability": model.probability}
    prepared = {"images": model.inputs.prepared.pixels, "widths": model.inputs.prepared.widths}
    found = {
        DEFAULT: Signature(encoded, read),
        PIXELS: Signature(prepared, {"output": model.texts, "probability": model.probabilities}),
    }
    return found


def to_proto(signature: Signature) -> "tf.SignatureDef":
    """Returns a signature as a SavedModel stores it."""
    return tf.saved_model.signature_def_utils.build_signature_def(
        inputs={name: tf.saved_model.build_tensor_info(tensor) for name, tensor in signature.inputs.items()},
        outputs={name: tf.saved_model.build_tensor_info(tensor) for name, tensor in signature.outputs.items()},
        method_name=tf.saved_model.signature_constants.PREDICT_METHOD_NAME)


def nodes_of(signatures: dict[str, Signature]) -> list[str]:
    """Returns the names of the nodes that signatures name, sorted."""
    return sorted({tensor.op.name for signature in signatures.values()
                   for tensor in (*signature.inputs.values(), *signature.outputs.values())})
