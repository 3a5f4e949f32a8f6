"""Initializes a new model with the weights of another."""

import dataclasses
import logging
from typing import Any

import numpy as np

from aocr import original
from aocr.charset import FIRST_ID, Charset, charset_for
from aocr.checkpoint import Trained
from aocr.config import ModelConfig
from aocr.data.scanning import DatasetStatistics
from aocr.errors import UserError
from aocr.training.graph import TrainingGraph

log = logging.getLogger(__name__)

# Options that may differ from the source's: no weights depend on them, or only those of a branch.
FREE = ("max_width", "max_height", "max_prediction", "background", "max_pixels", "ctc", "right_to_left")
# Variables with a row or column per character: (axis, numbers of other rows before and after the characters).
IDS, CLASSES = (FIRST_ID, 0), (0, 1)  # padding, GO and EOS before; the blank after
BY_CHARACTER = {"decoder/embedding": (0, IDS), "decoder/output/kernel": (1, IDS), "decoder/output/bias": (0, IDS),
                "ctc/output/kernel": (1, CLASSES), "ctc/output/bias": (0, CLASSES)}
LISTED = 5  # maximum number of names in a log line


def network_of(config: ModelConfig) -> dict[str, Any]:
    """Returns the options that the weights of a model depend on."""
    return {name: value for name, value in dataclasses.asdict(config).items() if name not in FREE}


def of_source(given: dict[str, Any]) -> dict[str, Any]:
    """Returns those of the user's options that the source must share."""
    return {name: value for name, value in given.items() if name not in FREE}


def charset_of(source: Trained, scan: DatasetStatistics, change: str) -> Charset:
    """Returns the charset of the new model, with the source's characters first unless `change` is `new`.

    Args: scan: of the data. change: `union`, `new` or `fail`.
    Raises: UserError for `fail` if the data contain other characters.
    """
    if change == "new":
        return charset_for(scan.characters, scan.graphemes)
    added = sorted(character for character in scan.characters if character not in source.charset)
    if added and change == "fail":
        raise UserError(f"{scan.path}: contains {len(added)} characters that the model of --init-from lacks "
                        f"({source.charset.listed(added)}); add them with --charset-change union")
    return Charset((*source.charset.characters, *added), source.charset.graphemes)


def start_from(training: TrainingGraph, source: Trained) -> None:
    """Copies the weights of another model, where they fit, to an initialized one.

    Rows of characters are matched by character; those that the source lacks keep their initial values. Variables that
    do not fit are logged.
    """
    model = training.model
    stored = _stored_weights(source, model.config.attn_num_layers)
    fresh = training.weights()
    taken, unmatched = {}, []
    for name, start in fresh.items():
        value = stored.get(name)
        if value is not None and name in BY_CHARACTER:
            value = _by_character(start, value, *BY_CHARACTER[name], source.charset, model.charset)
        if value is None or np.squeeze(value).shape != np.squeeze(start).shape:
            unmatched.append(name)
        else:
            taken[name] = value.reshape(start.shape)
    model.load(taken)
    training.restart_average()
    known = sum(character in source.charset for character in model.charset.characters)
    log.info("%s: took %d of %d variables and %d of %d characters", source.checkpoint, len(taken), len(fresh), known,
             len(model.charset.characters))
    if unmatched:
        log.info("initialized from scratch: %s%s", ", ".join(unmatched[:LISTED]),
                 f" and {len(unmatched) - LISTED} more" if len(unmatched) > LISTED else "")


def _stored_weights(source, decoder_layers):
    """Returns {name in our graph: array} of a Trained."""
    if source.is_original:
        return {ours: source.weights[name] for ours, name in original.our_names(source.weights, decoder_layers).items()}
    return source.weights


def _by_character(start, value, axis, kept, source, target):
    """Returns `start` with the rows of shared characters taken from `value`; None if the other axes do not fit.

    Args: start, value: arrays of target and source, with a row per character along `axis`. kept: (first, last), numbers
      of rows before and after the characters, always taken from `value`. source, target: Charset.
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
