"""Answers requests by an exported model, in a process that knows nothing of the model's code but its graph.

    python -m aocr.exporting.replay DIRECTORY REQUESTS ANSWERS

REQUESTS and ANSWERS are files of lines, one JSON object per request: tensors by name, as base64 of TensorProto. An
object of REQUESTS has `signature` (null for a frozen graph, whose tensors have their own names), `inputs`, and `fetch`,
a list of names.
"""

import base64
import json
import os
import sys

import numpy as np
import tensorflow.compat.v1 as tf
from tensorflow.core.framework.tensor_pb2 import TensorProto

FROZEN_GRAPH = "frozen_graph.pb"
SESSION_CONFIG = "AOCR_REPLAY_SESSION"  # environment variable: a tf.ConfigProto in base64


def encode(value: np.ndarray) -> str:
    """Returns an array as text."""
    return base64.b64encode(tf.make_tensor_proto(value).SerializeToString()).decode()


def decode(text: str) -> np.ndarray:
    """Returns the array of a text that `encode` made."""
    return tf.make_ndarray(TensorProto.FromString(base64.b64decode(text)))


def main() -> None:
    """Runs the program."""
    directory, requests, answers = sys.argv[1:]
    config = tf.ConfigProto.FromString(base64.b64decode(os.environ.get(SESSION_CONFIG, "")))
    tf.config.experimental.enable_tensor_float_32_execution(False)
    with tf.Graph().as_default() as graph, tf.Session(config=config) as session:
        signatures = _load(session, directory)
        with open(requests, encoding="ascii") as questions, open(answers, "w", encoding="ascii") as file:
            for line in questions:
                request = json.loads(line)
                signature = signatures[request["signature"]] if request["signature"] else None

                def tensor(name, of, signature=signature):
                    return graph.get_tensor_by_name(getattr(signature, of)[name].name if signature else name)

                feeds = {tensor(name, "inputs"): decode(text) for name, text in request["inputs"].items()}
                got = session.run({name: tensor(name, "outputs") for name in request["fetch"]}, feeds)
                file.write(json.dumps({name: encode(value) for name, value in got.items()}) + "\n")


def _load(session, directory):
    """Loads the graph into the session's. Returns its signatures, none for a frozen graph."""
    frozen = os.path.join(directory, FROZEN_GRAPH)
    if not os.path.exists(frozen):
        return tf.saved_model.load(session, [tf.saved_model.SERVING], directory).signature_def
    with open(frozen, "rb") as file:
        tf.import_graph_def(tf.GraphDef.FromString(file.read()), name="")
    return {}


if __name__ == "__main__":
    main()
