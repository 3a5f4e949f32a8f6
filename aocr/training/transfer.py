"""Weights of another model as the start of a new one."""

import dataclasses
import logging
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf

from aocr import original
from aocr.charset import FIRST_ID, Charset, charset_for
from aocr.checkpoint import Trained
from aocr.config import WEIGHT_SCOPES, ModelConfig
from aocr.data.scanning import DatasetStatistics
from aocr.errors import UserError
from aocr.model import averaged_name
from aocr.training.graph import TrainingGraph

log = logging.getLogger(__name__)

# Options that no weight depends on, or that a new branch may be added by.
FREE = ("max_width", "max_height", "max_prediction", "ctc", "right_to_left")
# Variables with a row or column for each character: which axis that is, and how many others lie before and after them.
IDS, CLASSES = (FIRST_ID, 0), (0, 1)  # padding, GO and EOS; the blank
BY_CHARACTER = {"decoder/embedding": (0, IDS), "decoder/output/kernel": (1, IDS), "decoder/output/bias": (0, IDS),
                "ctc/output/kernel": (1, CLASSES), "ctc/output/bias": (0, CLASSES)}
LISTED = 5  # names in a line of the log


def network_of(config: ModelConfig) -> dict[str, Any]:
    """The options of a model that its weights depend on."""
    return {name: value for name, value in dataclasses.asdict(config).items() if name not in FREE}


def of_source(given: dict[str, Any]) -> dict[str, Any]:
    """Of the options that the user set, those that must be the source's too."""
    return {name: value for name, value in given.items() if name not in FREE}


def charset_of(source: Trained, scan: DatasetStatistics, change: str) -> Charset:
    """The alphabet of the new model.

    Args: scan: of the data. change: `union`, `new` or `fail`.
    Returns: the source's characters first. UserError for `fail` if the data hold others.
    """
    if change == "new":
        return charset_for(scan.characters, scan.graphemes)
    added = sorted(character for character in scan.characters if character not in source.charset)
    if added and change == "fail":
        raise UserError(f"{scan.path}: holds {len(added)} characters that the model of --init-from lacks "
                        f"({source.charset.listed(added)}); allow them by --charset-change union")
    return Charset((*source.charset.characters, *added), source.charset.graphemes)


def start_from(training: TrainingGraph, source: Trained) -> None:
    """Gives a fresh model, initialised, the weights of another one, as far as they fit.

    Rows of ids go by their characters; what the source lacks stays as it was initialised. What did not fit is logged.
    """
    model = training.model
    stored = _stored_weights(source, model.config.attn_num_layers)
    fresh = training.weights()
    taken, left = {}, []
    for name, start in fresh.items():
        value = stored.get(name)
        if value is not None and name in BY_CHARACTER:
            value = _by_character(start, value, *BY_CHARACTER[name], source.charset, model.charset)
        if value is None or np.squeeze(value).shape != np.squeeze(start).shape:
            left.append(name)
        else:
            taken[name] = value.reshape(start.shape)
    model.load(taken)
    training.restart_average()
    known = sum(character in source.charset for character in model.charset.characters)
    log.info("%s: %d of %d variables taken, and %d of %d characters", source.checkpoint, len(taken), len(fresh), known,
             len(model.charset.characters))
    if left:
        log.info("these start afresh: %s%s", ", ".join(left[:LISTED]),
                 f" and {len(left) - LISTED} more" if len(left) > LISTED else "")


def read_weights(path: str) -> dict[str, np.ndarray]:
    """The network's weights in a checkpoint of ours, by name, averages where it has them. Raises tf.errors.OpError."""
    reader = tf.train.load_checkpoint(path)
    names = reader.get_variable_to_shape_map()
    return {name: reader.get_tensor(averaged_name(name) if averaged_name(name) in names else name)
            for name in names if name.split("/")[0] in WEIGHT_SCOPES}


def _stored_weights(source, decoder_layers):
    """{name in our graph: array} of a checkpoint, averages where it has them."""
    if source.is_original:
        reader = tf.train.load_checkpoint(source.checkpoint)
        names = reader.get_variable_to_shape_map()
        return {ours: reader.get_tensor(its) for ours, its in original.our_names(names, decoder_layers).items()}
    return read_weights(source.checkpoint)


def _by_character(start, value, axis, kept, source, target):
    """`start` with the source's rows of the characters that both charsets have; those of the others stay.

    Args: start, value: arrays with a row for each character along `axis`. kept: (first, last), rows before and after
      those of the characters, which are the source's in any case. source, target: Charset.
    """
    value, result = np.moveaxis(value, axis, 0), np.moveaxis(start.copy(), axis, 0)
    if value.shape[1:] != result.shape[1:]:
        return None
    first, last = kept
    result[:first] = value[:first]
    if last:
        result[-last:] = value[-last:]
    places = {character: first + k for k, character in enumerate(source.characters)}
    for k, character in enumerate(target.characters):
        if character in places:
            result[first + k] = value[places[character]]
    return np.moveaxis(result, 0, axis)
