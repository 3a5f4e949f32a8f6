"""Writes a model as a TFLite file: a prepared image in, CTC's log probabilities out."""

import os

import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from aocr.checkpoint import Description
from aocr.exporting import parity
from aocr.exporting.tflite_network import reader
from aocr.exporting.weights import Weights
from aocr.model import Model

MAIN_NAME, DESCRIPTION_NAME = "model.tflite", "description.json"
FLOAT16 = "float16"


def tflite_model(description: Description, weights: Weights, quantize: str | None) -> bytes:
    """Returns a TFLite file with the signature of `tflite_network.reader`. `quantize`: as in ExportConfig."""
    module = reader(description.config, weights)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([module.read.get_concrete_function()], module)
    if quantize:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantize == FLOAT16:
        converter.target_spec.supported_types = [tf.float16]
    return converter.convert()


def write(model: Model, description: Description, directory: str, quantize: str | None, verification: bool) -> None:
    """Writes a model, and its description, to a new directory.

    Raises: with `verification`, UserError if the file does not read as the model does; quantized, only if its output is
      not finite.
    """
    content = tflite_model(description, model.values(), quantize)
    os.makedirs(directory)
    for name, part in ((MAIN_NAME, content), (DESCRIPTION_NAME, description.to_json().encode())):
        with open(os.path.join(directory, name), "wb") as file:
            file.write(part)
    if not verification:
        return
    read = Interpreter(os.path.join(directory, MAIN_NAME)).get_signature_runner()

    def run(pixels, widths):
        outputs = [read(pixels=pixels[k:k + 1], widths=widths[k:k + 1]) for k in range(len(widths))]
        return parity.read_by_ctc(model, *(np.concatenate([output[name] for output in outputs])
                                           for name in ("log_probabilities", "lengths")))

    parity.verify(model, run, None if quantize else parity.TOLERANCE)
