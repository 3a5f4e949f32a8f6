"""Exports a model as SavedModel or frozen graph."""

import os
import posixpath
import re
import tempfile
from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow.compat.v1 as tf

from aocr.aside import aside, swap_in
from aocr.config import AUTO_VERSION, ExportConfig
from aocr.data.records import files_of
from aocr.errors import UserError, usage_error
from aocr.exports import DESCRIPTIONS, FROZEN_GRAPH, SAVED_MODEL, WARM_UP, description_of
from aocr.files import cause, exists, is_remote, names_in, read_bytes
from aocr.inputs import INPUT_NAME
from aocr.model import Model
from aocr.outputs import check_outputs
from aocr.tasks import samples, server_files, versions
from aocr.tasks.freezing import serving_graph
from aocr.tasks.signatures import Signature, nodes_of, signatures_of, to_proto
from aocr.tasks.verification import verify
from aocr.tasks.warm_up import write_warm_up

DESCRIPTION_TENSOR = "description"  # node of a frozen graph with the content of its description file


def target_of(directory: str, config: ExportConfig) -> str:
    """Returns the directory to write to. UserError if not empty; with config.force, if not an earlier export."""
    _check_format(config)
    if config.verify:
        files_of(config.verify)
    target = directory if is_remote(directory) else os.path.abspath(directory)
    target = target.rstrip("/") or target
    check_outputs(server_files.outputs_of(config), [])
    if config.model_version:
        number = versions.next_version(target) if config.model_version == AUTO_VERSION else config.model_version
        target = posixpath.join(target, str(number))
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


def _check_format(config):
    """Raises UserError for an option that the format has no use for."""
    for flag, value, able in (("--model-version", config.model_version, "versioned"),
                              ("--batching-config", config.batching_config, "versioned"),
                              ("--verify", config.verify, "verified")):
        if value and not getattr(FORMATS[config.format], able):
            formats = " or ".join(name for name, kind in FORMATS.items() if getattr(kind, able))
            raise usage_error(f"{flag} {value} needs --format {formats}, not {config.format}")


def _other_file(target):
    """Returns a file in a local directory that is not of an exported model; None if there is none."""
    for place, _, names in os.walk(target):
        for name in names:
            path = os.path.join(place, name)
            inside = os.path.relpath(path, target)
            if not (_is_model(path) if inside in MAIN_NAMES else PARTS.fullmatch(inside)):
                return inside
    return None


def _is_export(directory):
    """Returns whether a directory is an export of ours, and holds nothing else."""
    if not is_remote(directory) and (os.path.islink(directory) or not os.path.isdir(directory)):
        return False
    held = set(names_in(directory))
    return bool(MAIN_NAMES & held) and held <= EXPORTED_NAMES and (is_remote(directory) or not _other_file(directory))


def _is_model(path):
    """Returns whether a file is a graph with the input of our models; an empty one counts."""
    if not os.path.isfile(path):
        return False
    content = read_bytes(path)
    return not content or INPUT_NAME.encode() in content


def export(model: Model, target: str, config: ExportConfig) -> dict[str, str]:
    """Writes a model; an incomplete one, or one that answers differently, never passes for an export.

    Args: target: from `target_of`.
    Returns: what was written, path by name.
    Raises: UserError if it cannot be written, or does not answer as the model does.
    """
    kind = FORMATS[config.format]
    automatic = config.model_version == AUTO_VERSION
    directory, name = posixpath.split(target)

    def write(directory):
        _write_whole(model, directory, kind, config)

    try:
        if is_remote(target):
            _upload(write, target)
        else:
            target = _put(write, target, numbered=automatic)
        written = dict(exported=target)
        if config.models_config or config.batching_config:
            base = directory if config.model_version else target
            written.update(server_files.write_server_files(base, config))
        if config.keep_versions:
            versions.prune(directory, posixpath.basename(target), config.keep_versions, _is_export, _remove)
    except (tf.errors.OpError, OSError) as error:
        raise UserError(f"{target}: cannot be written: {cause(error)}") from None
    return written


def _write_whole(model, directory, kind, config):
    """Writes an export into a new local directory, and proves that it answers as the model does."""
    kind.write(model, directory, config)
    warms_up, verifies = config.warm_up and kind.warms_up, config.verification and kind.verified
    images: Sequence[bytes] = ()
    if warms_up or verifies and not config.verify:
        images = samples.readable(model, samples.drawn_images(model.config, model.charset.characters), "drawn images")
    if warms_up:
        write_warm_up(model, signatures_of(model), directory, images, config.model_name)
    if verifies:
        if config.verify:
            images = samples.readable(model, samples.images_in(config.verify), f"--verify {config.verify}")
        verify(model, signatures_of(model), directory, images, named=not kind.unsigned)


def _put(write, target, numbered=False):
    """Writes under a temporary name, which TensorFlow Serving ignores, then swaps the directories. A link stays.

    `numbered`: the name is a version; if another process has taken it meanwhile, the next one is used.
    Returns: the directory.
    """
    place = os.path.realpath(target)
    parent, name = os.path.split(place)
    os.makedirs(parent, exist_ok=True)
    with aside(parent) as directory:
        part = os.path.join(directory, name)
        write(part)
        while numbered and not _renamed(part, place):
            place = os.path.join(parent, str(versions.next_version(parent)))
            target = place
        if not numbered:
            swap_in(part, place)
    return target


def _renamed(part, place):
    """Renames a directory. Returns whether the new name was free."""
    try:
        os.rename(part, place)
        return True
    except OSError:
        if not os.path.lexists(place):
            raise
        return False


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
    signatures = signatures_of(model)
    with tf.Graph().as_default() as graph, tf.Session() as session:
        tf.import_graph_def(serving_graph(model, nodes_of(signatures)), name="")
        served = {name: to_proto(_moved(signature, graph)) for name, signature in signatures.items()}
        builder = tf.saved_model.Builder(directory)
        builder.add_meta_graph_and_variables(session, [tf.saved_model.SERVING], signature_def_map=served,
                                             clear_devices=True, strip_default_attrs=True)
        builder.save()
    _write(directory, DESCRIPTIONS[SAVED_MODEL], description_of(model).to_json().encode())


def _moved(signature, graph):
    """Returns a signature by the tensors of the same names in another graph."""
    return Signature(*({name: graph.get_tensor_by_name(tensor.name) for name, tensor in tensors.items()}
                       for tensors in signature))


def _freeze(model, directory, _):
    description = description_of(model).to_json()
    with model.graph.as_default():
        told = tf.constant(description, name=DESCRIPTION_TENSOR)
    kept = nodes_of(signatures_of(model))
    _write(directory, FROZEN_GRAPH, serving_graph(model, [*kept, told.op.name]).SerializeToString())
    _write(directory, DESCRIPTIONS[FROZEN_GRAPH], description.encode())


def _write(directory, name, content):
    path = os.path.join(directory, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(content)


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
    unsigned: bool = False  # whether its tensors have the names of the model's, not those of signatures
    verified: bool = False  # whether `replay` can run it
    warms_up: bool = False  # whether a server answers requests in it when it loads it


FORMATS = {
    "savedmodel": Format(_save, SAVED_MODEL, ("variables", "assets", "assets.extra", "fingerprint.pb"),
                         versioned=True, verified=True, warms_up=True),
    "frozengraph": Format(_freeze, FROZEN_GRAPH, (DESCRIPTIONS[FROZEN_GRAPH],), unsigned=True, verified=True),
}
MAIN_NAMES = {kind.main_name for kind in FORMATS.values()}
EXPORTED_NAMES = MAIN_NAMES.union(*(kind.other_names for kind in FORMATS.values()))
# Files of our exports besides; earlier ones had variables.
PARTS = re.compile(r"fingerprint\.pb|variables/variables\.(index|data-\d{5}-of-\d{5})|" + "|".join(
    map(re.escape, (WARM_UP, *DESCRIPTIONS.values()))))
