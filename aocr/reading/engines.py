"""What reads encoded images: a trained model, or an export of one."""

import dataclasses
import functools
import posixpath
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow.compat.v1 as tf
from google.protobuf.message import DecodeError

from aocr.checkpoint import Trained, find_model
from aocr.colors import WHITE
from aocr.config import MOST_PIXELS, SearchConfig
from aocr.errors import UserError
from aocr.exports import DEFAULT, DETAIL, FROZEN_GRAPH, N_BEST, SAVED_MODEL, read_export_description, version_of
from aocr.files import cause, names_in
from aocr.graph.details import Details
from aocr.image_files import BadImage, Limits
from aocr.images import problem_of
from aocr.inputs import INPUT_NAME
from aocr.model import PREDICTION_NAME, PROBABILITY_NAME, Hypotheses, characters_of, hypotheses_of
from aocr.prediction import Reading
from aocr.reading.engine import Engine


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

    def __init__(self, trained: Trained, search: SearchConfig, session_config: tf.ConfigProto | None = None,
                 details: bool = False):
        """`details`: build what they need. Raises: UserError if the weights or the search do not fit."""
        self.model = trained.open(session_config=session_config, details=details, search=trained.search(search))
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
    """An exported model: a SavedModel or a frozen graph. It gives the details that it was exported with."""

    def __init__(self, path: str, session_config: tf.ConfigProto | None = None):
        """`path`: from `export_at`. Raises: UserError if it cannot be loaded."""
        description = read_export_description(path)
        self.limits: Limits = description.config if description else _Standard()
        self.decoding = description.decoding.method if description else None
        graph = tf.Graph()
        self._session = tf.Session(graph=graph, config=session_config)
        try:
            with graph.as_default():
                saved = tf.io.gfile.exists(posixpath.join(path, SAVED_MODEL))
                self._input, self._fetches = (_load_saved if saved else _load_frozen)(self._session, path)
        except (tf.errors.OpError, OSError, ValueError, KeyError, DecodeError) as error:
            self._session.close()
            raise UserError(f"{path}: cannot be loaded: {cause(error)}; export the model again") from None

    def read_images(self, encoded: Sequence[bytes], *, details: bool = False) -> Sequence[Reading | BadImage]:
        """As of Engine."""
        return one_by_one(functools.partial(self._read_all, details=details), encoded)

    def _read_all(self, encoded, details):
        fetches = {name: fetch for name, fetch in self._fetches.items() if details or name != "details"}
        got = self._session.run(fetches, {self._input: list(encoded)})
        return [Reading(text.decode(), float(probability),
                        characters_of(got["details"], k) if "details" in got else (),
                        hypotheses_of(got["hypotheses"], k) if "hypotheses" in got else ())
                for k, (text, probability) in enumerate(zip(*got["read"]))]

    def close(self) -> None:
        """As of Engine."""
        self._session.close()


def open_engine(path: str, search: SearchConfig, *, checkpoint: str | None = None, decoding: str | None = None,
                details: bool = False, session_config: tf.ConfigProto | None = None) -> Engine:
    """Returns what reads with the export or the trained model at a path.

    Args: checkpoint, decoding: of a model directory, as for `find_model`. search, details: as of ModelEngine.
    Raises: UserError if there is none, or if these are given for an export, which has its own.
    """
    exported = export_at(path)
    if not exported:
        trained = find_model(path, {}, which=checkpoint, decoding=decoding)
        return ModelEngine(trained, search, session_config, details)
    for name, value in dict(checkpoint=checkpoint, decoding=decoding, **dataclasses.asdict(search)).items():
        if value is not None:
            raise UserError(f"{path}: {name} is {value}, but an export has its own; load the model directory instead")
    return ExportEngine(exported, session_config)


def export_at(path: str) -> str | None:
    """Returns the directory of the export at a path: the path itself, or of the versions in it the newest; None if
    there is none."""
    if any(tf.io.gfile.exists(posixpath.join(path, name)) for name in (SAVED_MODEL, FROZEN_GRAPH)):
        return path
    versions = [name for name in names_in(path) if version_of(name) is not None] if tf.io.gfile.isdir(path) else []
    found = (posixpath.join(path, name) for name in sorted(versions, key=int, reverse=True))
    return next((place for place in found if tf.io.gfile.exists(posixpath.join(place, SAVED_MODEL))), None)


def _load_saved(session, path):
    """Returns the names of tensors of a SavedModel: the input; `read` (texts, probabilities), and what else it was
    exported with of `details` (Details) and `hypotheses` (Hypotheses)."""
    loaded: Any = tf.saved_model.load(session, [tf.saved_model.SERVING], path)
    names = loaded.signature_def[DEFAULT]
    outputs = loaded.signature_def[DETAIL].outputs if DETAIL in loaded.signature_def else {}
    fetches: dict[str, Any] = dict(read=[names.outputs[name].name for name in ("output", "probability")])
    for name, kind, parts in (("details", Details, Details._fields), ("hypotheses", Hypotheses, N_BEST)):
        if set(parts) <= set(outputs):
            fetches[name] = kind(*(outputs[part].name for part in parts))
    return names.inputs["input"].name, fetches


def _load_frozen(session, path):
    """As `_load_saved`, of a frozen graph, which gives texts and probabilities."""
    definition = tf.GraphDef()
    with tf.io.gfile.GFile(posixpath.join(path, FROZEN_GRAPH), "rb") as file:
        definition.ParseFromString(file.read())
    tf.import_graph_def(definition, name="")
    names = [f"{name}:0" for name in (INPUT_NAME, PREDICTION_NAME, PROBABILITY_NAME)]
    for name in names:
        session.graph.get_tensor_by_name(name)  # raises KeyError
    return names[0], dict(read=names[1:])
