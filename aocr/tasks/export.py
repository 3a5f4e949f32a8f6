"""Exports a model: SavedModel, frozen graph, ONNX, TFLite."""

import os
import posixpath
import re
import tempfile
from collections.abc import Callable
from typing import NamedTuple

import tensorflow.compat.v1 as tf

from aocr.aside import aside, swap_in
from aocr.config import ExportConfig
from aocr.errors import UserError, usage_error
from aocr.exporting.formats import write_onnx, write_tflite
from aocr.files import cause, exists, is_remote, names_in, read_bytes
from aocr.inputs import INPUT_NAME
from aocr.model import PREDICTION_NAME, PROBABILITY_NAME, Model

FROZEN_NAME = "frozen_graph.pb"


def target_of(directory: str, config: ExportConfig) -> str:
    """Returns the directory to write to. UserError if not empty; with config.force, if not an earlier export."""
    if config.model_version and not FORMATS[config.format].versioned:
        versioned = " or ".join(name for name, kind in FORMATS.items() if kind.versioned)
        raise usage_error(f"--model-version {config.model_version} needs --format {versioned}, not {config.format}")
    if config.quantize and not FORMATS[config.format].quantized:
        quantized = " or ".join(name for name, kind in FORMATS.items() if kind.quantized)
        raise usage_error(f"--quantize {config.quantize} needs --format {quantized}, not {config.format}")
    target = directory if is_remote(directory) else os.path.abspath(directory)
    target = target.rstrip("/") or target
    if config.model_version:
        target = posixpath.join(target, str(config.model_version))
    if exists(target) and not tf.io.gfile.isdir(target):
        raise UserError(f"{target}: is a file; name a directory")
    if not is_remote(target) and os.path.islink(target) and not exists(target):
        raise UserError(f"{target}: is a link to {os.readlink(target)}, which does not exist; remove it or name "
                        "another directory")
    held = names_in(target) if tf.io.gfile.isdir(target) else []
    if held and not config.force:
        raise UserError(f"{target}: not empty; name another directory, or replace an earlier export with --force")
    if not EXPORTED_NAMES.issuperset(held):
        raise UserError(f"{target}: --force replaces an earlier export only, and other files are there "
                        f"({', '.join(sorted(set(held) - EXPORTED_NAMES)[:5])}); name another directory")
    if held and not is_remote(target) and (other := _other_file(target)):
        raise UserError(f"{target}: --force replaces an earlier export only, and {other} is none of its files; name "
                        "another directory")
    return target


def _other_file(target):
    """Returns a file in a local directory that is not of an exported model; None if there is none."""
    for place, _, names in os.walk(target):
        for name in names:
            path = os.path.join(place, name)
            inside = os.path.relpath(path, target)
            if not (_is_model(path) if inside in MAIN_NAMES else PARTS.fullmatch(inside)):
                return inside
    return None


def _is_model(path):
    """Returns whether a file is a graph of one of our models, as its name says; an empty one counts."""
    if not os.path.isfile(path):
        return False
    content, name = read_bytes(path), os.path.basename(path)
    return not content or any(kind.mark in content for kind in FORMATS.values() if kind.main_name == name)


def export(model: Model, target: str, config: ExportConfig) -> None:
    """Writes a model; an incomplete one never passes for an export.

    `target`: from `target_of`. Raises: UserError if it cannot be written.
    """
    def write(directory):
        FORMATS[config.format].write(model, directory, config)

    try:
        if is_remote(target):
            _upload(write, target)
        else:
            _put(write, target)
    except (tf.errors.OpError, OSError) as error:
        raise UserError(f"{target}: cannot be written: {cause(error)}") from None


def _put(write, target):
    """Writes under a temporary name, which TensorFlow Serving ignores, then swaps the directories. A link stays."""
    place = os.path.realpath(target)
    parent, name = os.path.split(place)
    os.makedirs(parent, exist_ok=True)
    with aside(parent) as directory:
        part = os.path.join(directory, name)
        write(part)
        swap_in(part, place)


def _upload(write, target):
    """Copies file by file, since remote storage cannot rename directories; the file that makes it an export is last."""
    with tempfile.TemporaryDirectory() as directory:
        part = os.path.join(directory, "part")
        write(part)
        names = [os.path.relpath(os.path.join(place, name), part) for place, _, names in os.walk(part)
                 for name in names]
        _remove(target)
        for name in sorted(names, key=lambda name: (name in MAIN_NAMES, name)):
            to = posixpath.join(target, *name.split(os.sep))
            tf.io.gfile.copy(os.path.join(part, name), to, overwrite=True)


def _save(model, directory, _):
    with model.graph.as_default():
        builder = tf.saved_model.Builder(directory)
        signature = tf.saved_model.predict_signature_def(
            inputs={"input": model.inputs.encoded},
            outputs={"output": model.prediction, "probability": model.probability})
        builder.add_meta_graph_and_variables(
            model.session, [tf.saved_model.SERVING],
            signature_def_map={tf.saved_model.signature_constants.DEFAULT_SERVING_SIGNATURE_DEF_KEY: signature},
            clear_devices=True, strip_default_attrs=True)
        builder.save()


def _freeze(model, directory, _):
    graph_def = model.graph.as_graph_def()
    for node in graph_def.node:
        node.device = ""
    frozen = tf.graph_util.convert_variables_to_constants(
        model.session, graph_def, [INPUT_NAME, PREDICTION_NAME, PROBABILITY_NAME])
    tf.io.gfile.makedirs(directory)
    with tf.io.gfile.GFile(posixpath.join(directory, FROZEN_NAME), "wb") as file:
        file.write(frozen.SerializeToString())


def _remove(path):
    """Removes a directory, the files that make it an export first, so that no partial export remains."""
    if tf.io.gfile.isdir(path):
        for name in sorted(MAIN_NAMES):
            if tf.io.gfile.exists(posixpath.join(path, name)):
                tf.io.gfile.remove(posixpath.join(path, name))
        tf.io.gfile.rmtree(path)


class Format(NamedTuple):
    """An export format."""

    write: Callable[[Model, str, ExportConfig], None]  # writes a model to a new local directory
    main_name: str  # the file that makes a directory an export; it is uploaded last and removed first
    other_names: tuple[str, ...] = ()  # of files and directories beside it
    versioned: bool = False  # whether --model-version may name its directory
    quantized: bool = False  # whether --quantize may store its weights in fewer bits
    mark: bytes = INPUT_NAME.encode()  # what the main file contains, by which it is told from files of others


FORMATS = {
    "savedmodel": Format(_save, "saved_model.pb", ("variables", "assets", "assets.extra", "fingerprint.pb"),
                         versioned=True),
    "frozengraph": Format(_freeze, FROZEN_NAME),
    "onnx": Format(write_onnx, "model.onnx", mark=b'"aocr_version"'),
    "tflite": Format(write_tflite, "model.tflite", ("description.json",), quantized=True, mark=b"log_probabilities"),
}
# Our other files.
PARTS = re.compile(r"description\.json|fingerprint\.pb|variables/variables\.(index|data-\d{5}-of-\d{5})")
MAIN_NAMES = {kind.main_name for kind in FORMATS.values()}
EXPORTED_NAMES = MAIN_NAMES.union(*(kind.other_names for kind in FORMATS.values()))
