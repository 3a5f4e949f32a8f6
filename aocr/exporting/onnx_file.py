"""Writes a model as an ONNX file: prepared images in, readings out."""

import os

import numpy as np
import onnx
import onnxruntime

from aocr.checkpoint import Description
from aocr.config import CTC, IMAGE_HEIGHT
from aocr.exporting import onnx_network as stages
from aocr.exporting import parity
from aocr.exporting.onnx_builder import Builder, tensor
from aocr.exporting.weights import Weights
from aocr.model import Model

MAIN_NAME = "model.onnx"
DESCRIPTION_KEY = "aocr"  # of the metadata: the content of model.json


def onnx_model(description: Description, weights: Weights) -> onnx.ModelProto:
    """Returns a model for ONNX runtimes, decoding by the method of its description, CTC or attention.

    Inputs: `pixels` float32 [N, 32, W, C] in [-1, 1), 0 beyond each image's width; `widths` int32 [N], >= 1.
    Outputs by CTC: `log_probabilities` float32 [N, S, K], K - 1 is blank, and `lengths` int32 [N], its steps of each
    image. By attention: `ids` int32 [N, T], PAD_ID after the end, and `probabilities` float32 [N, T], 1 after the end.
    The metadata hold the description.
    """
    config, graph = description.config, Builder()
    inputs = [tensor("pixels", np.float32, ["N", IMAGE_HEIGHT, "W", config.channels]),
              tensor("widths", np.int32, ["N"])]
    widths = graph.op("Cast", "widths", to=stages.INT64)
    features, lengths = stages.cnn(graph, weights, config.network, "pixels", widths)
    encoded = stages.encoder(graph, weights, config, features, lengths)
    if description.decoding.method == CTC:
        graph.name(stages.ctc(graph, weights, config.right_to_left, encoded.memory, lengths), "log_probabilities")
        graph.name(graph.op("Cast", lengths, to=stages.INT32), "lengths")
        classes = len(description.charset.characters) + 1
        outputs = [tensor("log_probabilities", np.float32, ["N", "S", classes]), tensor("lengths", np.int32, ["N"])]
    else:
        ids, probabilities = stages.attention(graph, weights, config, encoded)
        graph.name(graph.op("Cast", ids, to=stages.INT32), "ids")
        graph.name(probabilities, "probabilities")
        outputs = [tensor("ids", np.int32, ["N", "T"]), tensor("probabilities", np.float32, ["N", "T"])]
    return graph.model("aocr", inputs, outputs, **{DESCRIPTION_KEY: description.to_json()})


def write(model: Model, description: Description, directory: str, verification: bool) -> None:
    """Writes a model to a new directory; with `verification`, UserError if the file does not read as the model does."""
    content = onnx_model(description, model.values()).SerializeToString()
    os.makedirs(directory)
    path = os.path.join(directory, MAIN_NAME)
    with open(path, "wb") as file:
        file.write(content)
    if not verification:
        return
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    read = parity.read_by_ctc if description.decoding.method == CTC else parity.read_by_attention
    parity.verify(model, lambda pixels, widths: read(model, *session.run(None, {"pixels": pixels, "widths": widths})))
