"""What reads encoded images: a trained model, or an export of one."""

import functools
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow.compat.v1 as tf

from aocr.checkpoint import Trained, find_model, read_description
from aocr.colors import WHITE
from aocr.config import MOST_PIXELS
from aocr.errors import UserError
from aocr.files import cause, names_in
from aocr.image_files import BadImage, Limits
from aocr.images import problem_of
from aocr.inputs import INPUT_NAME
from aocr.model import PREDICTION_NAME, PROBABILITY_NAME
from aocr.prediction import Reading
from aocr.reading.engine import Engine

SAVED_NAME, FROZEN_NAME = "saved_model.pb", "frozen_graph.pb"
DESCRIBED_IN = ("", "assets.extra", "assets")  # where an export may hold the description of its model


def one_by_one(read: Callable[[Sequence[bytes]], Sequence[Reading]],
               encoded: Sequence[bytes]) -> Sequence[Reading | BadImage]:
    """Reads a batch; if that fails, each image alone, to find out which one is to blame."""
    try:
        return read(encoded)
    except tf.errors.InvalidArgumentError as error:
        problem = BadImage("unreadable image", problem_of(error))
    except tf.errors.ResourceExhaustedError:
        problem = BadImage("not enough memory for this image; reduce its size")
    return [problem] if len(encoded) == 1 else [found for image in encoded for found in one_by_one(read, [image])]


class ModelEngine:
    """A trained model."""

    def __init__(self, trained: Trained, session_config: tf.ConfigProto | None = None, details: bool = False):
        """`details`: build what they need. Raises: UserError if the weights do not fit."""
        self.model = trained.open(session_config=session_config, details=details)
        self.limits, self.decoding = trained.config, trained.decoding.method

    def read_images(self, encoded: Sequence[bytes], *, details: bool = False) -> Sequence[Reading | BadImage]:
        """As of Engine."""
        return one_by_one(functools.partial(self.model.read_images, details=details), encoded)

    def close(self) -> None:
        """As of Engine."""
        self.model.session.close()


class _Standard(NamedTuple):
    """The limits of an export without a description."""

    background: str = WHITE
    max_pixels: int = MOST_PIXELS


class ExportEngine:
    """An exported model: a SavedModel or a frozen graph. It gives texts and confidences."""

    def __init__(self, path: str, session_config: tf.ConfigProto | None = None):
        """`path`: from `export_at`. Raises: UserError if it cannot be loaded."""
        description = next(filter(None, (read_description(os.path.join(path, place)) for place in DESCRIBED_IN)), None)
        self.limits: Limits = description.config if description else _Standard()
        self.decoding = description.decoding.method if description else None
        graph = tf.Graph()
        self._session = tf.Session(graph=graph, config=session_config)
        try:
            with graph.as_default():
                saved = tf.io.gfile.exists(os.path.join(path, SAVED_NAME))
                self._input, self._outputs = (_load_saved if saved else _load_frozen)(self._session, path)
        except (tf.errors.OpError, OSError, ValueError, KeyError) as error:
            self._session.close()
            raise UserError(f"{path}: cannot be loaded: {cause(error)}; export the model again") from None

    def read_images(self, encoded: Sequence[bytes], *, details: bool = False) -> Sequence[Reading | BadImage]:
        """As of Engine; without details."""
        return one_by_one(self._read, encoded)

    def _read(self, encoded):
        texts, probabilities = self._session.run(self._outputs, {self._input: list(encoded)})
        return [Reading(text.decode(), float(probability)) for text, probability in zip(texts, probabilities)]

    def close(self) -> None:
        """As of Engine."""
        self._session.close()


def open_engine(path: str, *, checkpoint: str | None = None, decoding: str | None = None,
                details: bool = False, session_config: tf.ConfigProto | None = None) -> Engine:
    """Returns what reads with the export or the trained model at a path.

    Args: checkpoint, decoding: of a model directory, as for `find_model`. details: as of ModelEngine.
    Raises: UserError if there is none, or if these are given for an export, which has its own.
    """
    exported = export_at(path)
    if not exported:
        return ModelEngine(find_model(path, {}, which=checkpoint, decoding=decoding), session_config, details)
    for name, value in (("checkpoint", checkpoint), ("decoding", decoding)):
        if value:
            raise UserError(f"{path}: {name} is {value}, but an export has its own; load the model directory instead")
    return ExportEngine(exported, session_config)


def export_at(path: str) -> str | None:
    """Returns the directory of the export at a path: the path itself, or of the versions in it the newest; None if
    there is none."""
    if any(tf.io.gfile.exists(os.path.join(path, name)) for name in (SAVED_NAME, FROZEN_NAME)):
        return path
    versions = [name for name in names_in(path) if name.isdecimal()] if tf.io.gfile.isdir(path) else []
    found = (os.path.join(path, name) for name in sorted(versions, key=int, reverse=True))
    return next((place for place in found if tf.io.gfile.exists(os.path.join(place, SAVED_NAME))), None)


def _load_saved(session, path):
    """Returns (input, [texts, probabilities]) of a SavedModel, as names of tensors."""
    loaded: Any = tf.saved_model.load(session, [tf.saved_model.SERVING], path)
    signature = loaded.signature_def[tf.saved_model.signature_constants.DEFAULT_SERVING_SIGNATURE_DEF_KEY]
    return signature.inputs["input"].name, [signature.outputs[name].name for name in ("output", "probability")]


def _load_frozen(session, path):
    definition = tf.GraphDef()
    with tf.io.gfile.GFile(os.path.join(path, FROZEN_NAME), "rb") as file:
        definition.ParseFromString(file.read())
    tf.import_graph_def(definition, name="")
    names = [f"{name}:0" for name in (INPUT_NAME, PREDICTION_NAME, PROBABILITY_NAME)]
    for name in names:
        session.graph.get_tensor_by_name(name)  # raises KeyError
    return names[0], names[1:]
