"""The signatures of an exported model: named inputs and outputs of its graph."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from aocr.exports import DEFAULT, DETAIL, N_BEST, PIXELS
from aocr.inputs import EncodedImages
from aocr.model import Model


class Signature(NamedTuple):
    """Tensors by the names that clients use."""

    inputs: dict[str, tf.Tensor]
    outputs: dict[str, tf.Tensor]


def signatures_of(model: Model) -> dict[str, Signature]:
    """Returns the signatures of a model that reads encoded images, by name; DETAIL if it is built with details."""
    inputs = model.inputs
    assert isinstance(inputs, EncodedImages)
    encoded = {"input": inputs.encoded}
    read = {"output": model.prediction, "probability": model.probability}
    prepared = {"images": inputs.prepared.pixels, "widths": inputs.prepared.widths}
    found = {
        DEFAULT: Signature(encoded, read),
        PIXELS: Signature(prepared, {"output": model.texts, "probability": model.probabilities}),
    }
    if model.details:
        best = dict(zip(N_BEST, model.hypotheses)) if model.hypotheses else {}
        found[DETAIL] = Signature(encoded, {**read, **model.details._asdict(), **best})
    return found


def prepared(model: Model, images: Sequence[bytes]) -> dict[str, np.ndarray]:
    """Returns image files as inputs of the signature PIXELS."""
    tensors = signatures_of(model)[PIXELS].inputs
    return model.session.run(tensors, {model.inputs.encoded: list(images)})


def to_proto(signature: Signature) -> Any:
    """Returns a signature as a SavedModel stores it."""
    return tf.saved_model.signature_def_utils.build_signature_def(
        inputs={name: tf.saved_model.build_tensor_info(tensor) for name, tensor in signature.inputs.items()},
        outputs={name: tf.saved_model.build_tensor_info(tensor) for name, tensor in signature.outputs.items()},
        method_name=tf.saved_model.signature_constants.PREDICT_METHOD_NAME)


def nodes_of(signatures: dict[str, Signature]) -> list[str]:
    """Returns the names of the nodes that signatures name, sorted."""
    return sorted({tensor.op.name for signature in signatures.values()
                   for tensor in (*signature.inputs.values(), *signature.outputs.values())})
