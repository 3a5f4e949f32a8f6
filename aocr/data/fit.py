"""Fits unset model options to the data; options that the user sets are limits."""

import unicodedata
from typing import TYPE_CHECKING, Any

from aocr.charset import Charset, charset_for, named
from aocr.config import IMAGE_HEIGHT, LONGEST_LABEL, WIDEST_CANVAS, ModelConfig
from aocr.errors import UserError
from aocr.networks import FINE

if TYPE_CHECKING:
    from aocr.data.scanning import DatasetStatistics

NARROW = 11.0  # pixels per character at height 32 (2.75 encoder steps of four), below which resolution is doubled
SHOWN_LABEL = 80  # characters of a label in messages
LISTED = 10  # maximum number of violations in an error message


def fit_config(scan: "DatasetStatistics", given: dict[str, Any]) -> tuple[ModelConfig, list[str]]:
    """Returns the options of a new model, and messages on what was widened and why.

    `given`: the ModelConfig fields set by the user.
    """
    config = ModelConfig(**given)
    fitted, notes = dict(given), []
    wanted = min(scan.widest_image, WIDEST_CANVAS)
    if "max_width" not in given and wanted > config.canvas_width:
        fitted["max_width"] = (wanted - 1) * config.max_height // IMAGE_HEIGHT + 1
        notes.append(f"--max-width {fitted['max_width']} instead of {config.max_width} "
                     f"(the widest image is {scan.widest_image} pixels at height {IMAGE_HEIGHT})")
    if "max_prediction" not in given and scan.longest_label > config.max_prediction:
        fitted["max_prediction"] = min(scan.longest_label, LONGEST_LABEL)  # `check_labels` tells of longer ones
        notes.append(f"--max-prediction {fitted['max_prediction']} instead of {config.max_prediction} (the longest "
                     "label)")
    spacing = pixels_per_character(scan)
    if "cnn" not in given and spacing is not None and spacing < NARROW:
        fitted["cnn"] = FINE
        notes.append(f"--cnn {FINE} instead of {config.cnn} ({spacing:.1f} pixels per character at height "
                     f"{IMAGE_HEIGHT})")
    return ModelConfig(**fitted), notes


def pixels_per_character(scan: "DatasetStatistics") -> float | None:
    """Returns the mean width of a character at height 32; None without characters."""
    characters = sum(length * seen.count for length, seen in scan.lengths.items())
    return sum(width * count for width, count in scan.widths.items()) / characters if characters else None


def fit_charset(scan: "DatasetStatistics", given: Charset | None = None) -> tuple[Charset, list[str]]:
    """Returns the charset of a new model (`given`, if set), and messages on what was widened and why."""
    if given:
        return given, []
    charset = charset_for(scan.characters, scan.graphemes)
    default = charset_for(())
    if charset == default:
        return charset, []
    added = [c for c in charset.characters if c not in default]
    return charset, [f"{len(added)} characters beyond 0-9 and A-Z ({charset.listed(added)})"]


def is_right_to_left(scan: "DatasetStatistics") -> bool:
    """Returns whether most letters of the labels belong to right-to-left scripts."""
    votes = {"L": 0, "R": 0, "AL": 0}
    for character, seen in scan.characters.items():
        direction = unicodedata.bidirectional(character[0])
        if direction in votes:
            votes[direction] += seen.count
    return votes["R"] + votes["AL"] > votes["L"]


def check_labels(scan: "DatasetStatistics", config: ModelConfig, charset: Charset, remedy: str) -> None:
    """Raises UserError, listing labels and records, if a label does not fit this charset or maximum length.

    `remedy`: sentence that ends the message, without full stop.
    """
    breaches = []
    for character in sorted(c for c in scan.characters if c not in charset):
        seen = scan.characters[character]
        breaches.append(f"character {named(character)} is not in the charset of {len(charset.characters)} "
                        f"characters: {seen.count} labels, the first is {seen.label!r} (record {seen.record})")
    for length in sorted(n for n in scan.lengths if n > config.max_prediction):
        seen = scan.lengths[length]
        breaches.append(f"{length} characters exceed --max-prediction {config.max_prediction}: {seen.count} "
                        f"labels, the first is {seen.label[:SHOWN_LABEL]!r} (record {seen.record})")
    if breaches:
        more = f"; and {len(breaches) - LISTED} more" if len(breaches) > LISTED else ""
        raise UserError(f"{scan.path}: {'; '.join(breaches[:LISTED])}{more}. {remedy}")
