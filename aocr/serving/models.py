"""Opens what can be served: a SavedModel, a frozen graph, a checkpoint. All of them run in the same way."""

import io
import posixpath
import weakref
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf
from google.protobuf import json_format
from PIL import Image

from aocr.checkpoint import Trained
from aocr.config import ModelConfig
from aocr.errors import UserError
from aocr.exporting.freezing import serving_graph
from aocr.exporting.signatures import DEFAULT, Signature, nodes_of, signatures_of, to_proto
from aocr.exports import FROZEN_GRAPH, read_export_description
from aocr.files import cause
from aocr.inputs import INPUT_NAME
from aocr.model import PREDICTION_NAME, PROBABILITY_NAME
from aocr.serving import contract

WARM_UP_WIDTHS = (32, 160)  # pixels, of images that are read before a version takes requests


class ImageLimits(NamedTuple):
    """How image files are prepared: image_files.Limits."""

    background: str | None
    max_pixels: int


class Servable:
    """A model in memory. Its session is closed when nobody refers to it any more."""

    def __init__(self, version: int, session: tf.Session, signature_defs: Mapping[str, Any], limits: ImageLimits):
        """`signature_defs`: name -> SignatureDef of the session's graph."""
        self.version, self.limits = version, limits
        self._session = session
        self._tensors = {name: ({key: info.name for key, info in definition.inputs.items()},
                                {key: info.name for key, info in definition.outputs.items()})
                         for name, definition in signature_defs.items()}
        self.metadata: dict[str, Any] = {name: json_format.MessageToDict(
            definition, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
            for name, definition in signature_defs.items()}
        self.signatures = {name: _signature(definition, self.metadata[name])
                           for name, definition in signature_defs.items()}
        weakref.finalize(self, session.close)

    def reads_images(self, signature: str) -> bool:
        """Returns whether a signature takes encoded images and nothing else, so that requests can be joined."""
        return list(self.signatures[signature].inputs.values()) == ["DT_STRING"]

    def run(self, signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs a signature; returns its outputs by name. Raises: tf.errors.OpError."""
        feeds, fetches = self._tensors[signature]
        try:
            return self._session.run(fetches, {feeds[name]: value for name, value in inputs.items()})
        except ValueError as error:  # a shape that does not fit
            raise tf.errors.InvalidArgumentError(None, None, str(error)) from None

    def read(self, signature: str, images: Sequence[bytes]) -> dict[str, np.ndarray]:
        """Reads encoded images; returns outputs with a row for each. Raises: tf.errors.OpError."""
        name, = self.signatures[signature].inputs
        encoded = np.empty([len(images)], object)
        encoded[:] = images
        return {key: value[:len(images)] for key, value in self.run(signature, {name: encoded}).items()}

    def warm_up(self) -> None:
        """Reads a few blank images, so that the first request does not wait. Raises: tf.errors.OpError."""
        for signature in filter(self.reads_images, self.signatures):
            for width in WARM_UP_WIDTHS:
                file = io.BytesIO()
                Image.new("L", (width, 32), 255).save(file, "PNG")
                self.read(signature, [file.getvalue()])


def _signature(definition, metadata):
    types = {name: info["dtype"] for name, info in metadata["inputs"].items()}
    return contract.Signature(types, tuple(definition.outputs), str(definition))


def open_saved_model(directory: str, version: int, max_pixels: int | None, config: tf.ConfigProto | None) -> Servable:
    """Opens a SavedModel with all its signatures. UserError if it cannot be read."""
    session = tf.Session(graph=tf.Graph(), config=config)
    try:
        with session.graph.as_default():
            loaded = tf.saved_model.load(session, [tf.saved_model.SERVING], directory)
        signatures = {name: definition for name, definition in loaded.signature_def.items()
                      if definition.outputs and not name.startswith("__")}
        return Servable(version, session, signatures, _limits(directory, max_pixels))
    except (tf.errors.OpError, OSError, ValueError, RuntimeError, KeyError) as error:
        session.close()
        raise UserError(f"{directory}: cannot be loaded: {cause(error)}; export it again") from None


def open_frozen(directory: str, version: int, max_pixels: int | None, config: tf.ConfigProto | None) -> Servable:
    """Opens a frozen graph with the signature `serving_default`. UserError if it cannot be read."""
    path = posixpath.join(directory, FROZEN_GRAPH)
    try:
        definition = tf.GraphDef()
        with tf.io.gfile.GFile(path, "rb") as file:
            definition.ParseFromString(file.read())
        with tf.Graph().as_default() as graph:
            tf.import_graph_def(definition, name="")
            encoded, output, probability = (graph.get_tensor_by_name(f"{name}:0")
                                            for name in (INPUT_NAME, PREDICTION_NAME, PROBABILITY_NAME))
            signature = to_proto(Signature(dict(input=encoded), dict(output=output, probability=probability)))
    except Exception as error:  # the parsers of damaged files raise what they like
        raise UserError(f"{path}: cannot be loaded: {cause(error)}; export it again") from None
    return Servable(version, tf.Session(graph=graph, config=config), {DEFAULT: signature},
                    _limits(directory, max_pixels))


def open_trained(trained: Trained, version: int, config: tf.ConfigProto | None) -> Servable:
    """Opens a checkpoint as it would be exported. UserError if it cannot be restored."""
    with trained.open(details=True, session_config=config) as model:
        signatures = signatures_of(model)
        definition = serving_graph(model, nodes_of(signatures))
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(definition, name="")
        definitions = {name: to_proto(signature) for name, signature in signatures.items()}
    limits = ImageLimits(trained.config.background, trained.config.max_pixels)
    return Servable(version, tf.Session(graph=graph, config=config), definitions, limits)


def _limits(directory, max_pixels):
    """Returns the limits by the description of an export, if it has one; `max_pixels` lowers its own."""
    description = read_export_description(directory)
    known = description.config if description else ModelConfig()
    return ImageLimits(known.background, min(known.max_pixels, max_pixels or known.max_pixels))
