"""Requests that TensorFlow Serving answers for itself when it loads a model, so that the first client does not wait.

They are a TFRecord file of serialized `PredictionLog` messages (tensorflow_serving/apis/prediction_log.proto), which
are written here field by field, since the package with these messages installs a second TensorFlow.
"""

import os
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow.compat.v1 as tf

from aocr.exporting.signatures import PIXELS, Signature, prepared
from aocr.exports import WARM_UP
from aocr.model import Model

# Numbers of fields: PredictionLog.predict_log, PredictLog.request, PredictRequest.model_spec and .inputs,
# ModelSpec.name and .signature_name, key and value of a map.
PREDICT_LOG, REQUEST, SPEC, INPUTS, NAME, SIGNATURE, KEY, VALUE = 6, 1, 1, 2, 1, 3, 1, 2
LENGTH_DELIMITED = 2  # wire type


def write_warm_up(model: Model, signatures: Mapping[str, Signature], directory: str, images: Sequence[bytes],
                  name: str) -> None:
    """Writes the requests into a local SavedModel's directory: every signature with one image, and with two.

    `images`: files that the model reads. `name`: of the model in the server.
    """
    path = os.path.join(directory, WARM_UP)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with tf.io.TFRecordWriter(path) as writer:
        for signature, tensors in signatures.items():
            for few in (images[:1], images[:2]):
                if signature == PIXELS:
                    inputs = prepared(model, few)
                else:
                    inputs = dict.fromkeys(tensors.inputs, np.array(few, object))
                writer.write(prediction_log(name, signature, inputs))


def prediction_log(name: str, signature: str, inputs: Mapping[str, np.ndarray]) -> bytes:
    """Returns a serialized PredictionLog of a request to a model by name."""
    spec = _field(NAME, name.encode()) + _field(SIGNATURE, signature.encode())
    request = _field(SPEC, spec) + b"".join(
        _field(INPUTS, _field(KEY, key.encode()) + _field(VALUE, tf.make_tensor_proto(value).SerializeToString()))
        for key, value in sorted(inputs.items()))
    return _field(PREDICT_LOG, _field(REQUEST, request))


def _field(number, content):
    """Returns a field of bytes, text or a message in protobuf's wire format."""
    return bytes([number << 3 | LENGTH_DELIMITED]) + _varint(len(content)) + content


def _varint(number):
    """Returns an integer in groups of 7 bits, the lowest first; the highest bit tells that another one follows."""
    parts = bytearray()
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    return bytes([*parts, number])
