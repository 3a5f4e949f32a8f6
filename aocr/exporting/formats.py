"""The formats of exports, and how their files are told from others."""

import os
import re
from collections.abc import Callable
from typing import NamedTuple

from aocr.config import ExportConfig
from aocr.exporting.other_runtimes import write_onnx, write_tflite
from aocr.exporting.tensorflow_files import write_frozen_graph, write_saved_model
from aocr.exports import DESCRIPTIONS, FROZEN_GRAPH, SAVED_MODEL, WARM_UP
from aocr.files import is_remote, names_in, read_bytes
from aocr.inputs import INPUT_NAME
from aocr.model import Model


class Format(NamedTuple):
    """An export format."""

    write: Callable[[Model, str, ExportConfig], None]  # writes a model to a new local directory
    main_name: str  # the file that makes a directory an export; it is uploaded last and removed first
    other_names: tuple[str, ...] = ()  # of files and directories beside it
    versioned: bool = False  # whether --model-version may name its directory
    quantized: bool = False  # whether --quantize may store its weights in fewer bits
    mark: bytes = INPUT_NAME.encode()  # what the main file contains, by which it is told from files of others
    unsigned: bool = False  # whether its tensors have the names of the model's, not those of signatures
    verified: bool = False  # whether `replay` can run it
    searches: bool = False  # whether it holds a beam search
    warms_up: bool = False  # whether a server answers requests in it when it loads it


FORMATS = {
    "savedmodel": Format(write_saved_model, SAVED_MODEL, ("variables", "assets", "assets.extra", "fingerprint.pb"),
                         versioned=True, verified=True, searches=True, warms_up=True),
    "frozengraph": Format(write_frozen_graph, FROZEN_GRAPH, (DESCRIPTIONS[FROZEN_GRAPH],), unsigned=True, verified=True,
                          searches=True),
    "onnx": Format(write_onnx, "model.onnx", mark=b'"aocr_version"'),
    "tflite": Format(write_tflite, "model.tflite", ("description.json",), quantized=True, mark=b"log_probabilities"),
}
MAIN_NAMES = {kind.main_name for kind in FORMATS.values()}
EXPORTED_NAMES = MAIN_NAMES.union(*(kind.other_names for kind in FORMATS.values()))
# Files of our exports besides; earlier ones had variables.
PARTS = re.compile(r"description\.json|fingerprint\.pb|variables/variables\.(index|data-\d{5}-of-\d{5})|" + "|".join(
    map(re.escape, (WARM_UP, *DESCRIPTIONS.values()))))


def other_file(target: str) -> str | None:
    """Returns a file in a local directory that is not of an exported model; None if there is none."""
    for place, _, names in os.walk(target):
        for name in names:
            path = os.path.join(place, name)
            inside = os.path.relpath(path, target)
            if not (_is_model(path) if inside in MAIN_NAMES else PARTS.fullmatch(inside)):
                return inside
    return None


def is_export(directory: str) -> bool:
    """Returns whether a directory is an export of ours, and holds nothing else."""
    if not is_remote(directory) and (os.path.islink(directory) or not os.path.isdir(directory)):
        return False
    held = set(names_in(directory))
    return bool(MAIN_NAMES & held) and held <= EXPORTED_NAMES and (is_remote(directory) or not other_file(directory))


def _is_model(path):
    """Returns whether a file is a graph of one of our models, as its name says; an empty one counts."""
    if not os.path.isfile(path):
        return False
    content, name = read_bytes(path), os.path.basename(path)
    return not content or any(kind.mark in content for kind in FORMATS.values() if kind.main_name == name)
