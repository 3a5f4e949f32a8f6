"""Exports a model: SavedModel, frozen graph, ONNX, TFLite."""

import os
import posixpath
from collections.abc import Sequence

import tensorflow.compat.v1 as tf

from aocr.config import AUTO_VERSION, ExportConfig
from aocr.data.records import files_of
from aocr.errors import UserError, usage_error
from aocr.exporting import placing, samples, server_files, versions
from aocr.exporting.formats import EXPORTED_NAMES, FORMATS, is_export, other_file
from aocr.exporting.signatures import signatures_of
from aocr.exporting.verification import verify
from aocr.exporting.warm_up import write_warm_up
from aocr.files import cause, exists, is_remote, names_in
from aocr.model import Model
from aocr.outputs import check_outputs


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
    if held and not is_remote(target) and (other := other_file(target)):
        raise UserError(f"{target}: --force replaces an earlier export only, and {other} is none of its files; name "
                        "another directory")
    return target


def _check_format(config):
    """Raises UserError for an option that the format has no use for."""
    for flag, value, able in (("--model-version", config.model_version, "versioned"),
                              ("--batching-config", config.batching_config, "versioned"),
                              ("--verify", config.verify, "verified"), ("--quantize", config.quantize, "quantized"),
                              ("--lexicon", config.lexicon, "searches"), ("--pattern", config.pattern, "searches"),
                              ("--allow", config.allow, "searches"), ("--n-best", config.n_best, "searches"),
                              ("--beam", config.width if config.width > 1 else None, "searches")):
        if value and not getattr(FORMATS[config.format], able):
            formats = " or ".join(name for name, kind in FORMATS.items() if getattr(kind, able))
            raise usage_error(f"{flag} {value} needs --format {formats}, not {config.format}")


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
            placing.upload(write, target)
        else:
            target = placing.put(write, target, numbered=automatic)
        written = dict(exported=target)
        if config.models_config or config.batching_config:
            base = directory if config.model_version else target
            written.update(server_files.write_server_files(base, config))
        if config.keep_versions:
            versions.prune(directory, posixpath.basename(target), config.keep_versions, is_export, placing.remove)
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
