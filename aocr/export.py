"""What leaves the house: SavedModel and frozen graph."""

import os
import posixpath

import tensorflow.compat.v1 as tf

from aocr.errors import UserError, usage_error
from aocr.model import INPUT_NAME, PREDICTION_NAME, PROBABILITY_NAME

FROZEN_NAME = "frozen_graph.pb"
EXPORTED_NAMES = {FROZEN_NAME, "saved_model.pb", "variables", "assets", "assets.extra", "fingerprint.pb"}


def target_of(directory, config):
    """The directory to write to. UserError if it holds something; with config.force, if that is no earlier export.

    Args: directory: path; config: ExportConfig.
    """
    if config.model_version and config.format != "savedmodel":
        raise usage_error(f"--model-version {config.model_version} goes with --format savedmodel, not {config.format}")
    target = directory if "://" in directory else os.path.abspath(directory)
    target = target.rstrip("/") or target
    if config.model_version:
        target = posixpath.join(target, str(config.model_version))
    if tf.io.gfile.exists(target) and not tf.io.gfile.isdir(target):
        raise UserError(f"{target}: a file; name a directory")
    held = sorted(name.rstrip("/") for name in tf.io.gfile.listdir(target)) if tf.io.gfile.isdir(target) else []
    if held and not config.force:
        raise UserError(f"{target}: not empty; name another directory, or replace an earlier export with --force")
    if not EXPORTED_NAMES.issuperset(held):
        raise UserError(f"{target}: --force replaces an earlier export, but there is more in it "
                        f"({', '.join(sorted(set(held) - EXPORTED_NAMES)[:5])}); name another directory")
    return target


def export(model, target, config):
    """Writes a model, complete at once: aside first, under a name that TensorFlow Serving passes over, then renamed.

    Args: model: Model; target: path from `target_of`; config: ExportConfig.
    Raises: UserError if it cannot be written.
    """
    parent, name = posixpath.split(target)
    part = posixpath.join(parent, f"{name}.part")
    try:
        if parent:
            tf.io.gfile.makedirs(parent)
        _remove(part)
        if config.format == "savedmodel":
            _save(model, part)
        else:
            _freeze(model, part)
        _remove(target)
        tf.io.gfile.rename(part, target)
    except (tf.errors.OpError, OSError) as error:
        _remove(part)
        raise UserError(f"{target}: cannot be written: {getattr(error, 'message', error)}") from None


def _save(model, directory):
    with model.graph.as_default():
        builder = tf.saved_model.Builder(directory)
        signature = tf.saved_model.predict_signature_def(
            inputs={"input": model.encoded},
            outputs={"output": model.prediction, "probability": model.probability})
        builder.add_meta_graph_and_variables(
            model.session, [tf.saved_model.SERVING],
            signature_def_map={tf.saved_model.signature_constants.DEFAULT_SERVING_SIGNATURE_DEF_KEY: signature},
            clear_devices=True, strip_default_attrs=True)
        builder.save()


def _freeze(model, directory):
    graph_def = model.graph.as_graph_def()
    for node in graph_def.node:
        node.device = ""
    frozen = tf.graph_util.convert_variables_to_constants(
        model.session, graph_def, [INPUT_NAME, PREDICTION_NAME, PROBABILITY_NAME])
    tf.io.gfile.makedirs(directory)
    with tf.io.gfile.GFile(posixpath.join(directory, FROZEN_NAME), "wb") as file:
        file.write(frozen.SerializeToString())


def _remove(path):
    if tf.io.gfile.isdir(path):
        tf.io.gfile.rmtree(path)
